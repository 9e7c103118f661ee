//! The forms of what is stored and sent, held to golden files.

use benteng_host::golden::hold;

use crate::codec::{self, Versioned};
use crate::fuzz::samples;
use crate::ids::*;
use crate::*;

fn again<T: Versioned>(bytes: &[u8]) -> std::result::Result<Vec<u8>, String> {
    codec::decode::<T>(bytes).map(|value| codec::encode(&value).to_vec()).map_err(|e| e.to_string())
}

#[test]
fn commands_are_written_as_ever_and_every_kept_one_is_read() {
    let samples = samples::envelopes();
    assert_eq!(samples.len(), samples::COMMANDS, "a command without a sample");
    hold("command", Envelope::VERSION, &samples, &|_, bytes| again::<Envelope>(bytes));
}

#[test]
fn answers_are_written_as_ever_and_every_kept_one_is_read() {
    let samples = samples::answers();
    assert_eq!(samples.len(), samples::OUTCOMES, "an outcome without a sample");
    hold("answer", AnswerRow::VERSION, &samples, &|_, bytes| again::<AnswerRow>(bytes));
}

#[test]
fn rows_are_written_as_ever_and_every_kept_one_is_read() {
    hold("site", SiteRow::VERSION, &[("site".into(), codec::encode(&samples::site()).to_vec())], &|_, b| {
        again::<SiteRow>(b)
    });
    hold("row", 1, &samples::rows(), &|name, bytes| match name {
        "clock" => again::<ClockRow>(bytes),
        "node" => again::<NodeRow>(bytes),
        "placement" => again::<PlacementRow>(bytes),
        "gateway" => again::<GatewayRow>(bytes),
        "floor" => again::<FloorRow>(bytes),
        "join_token" => again::<JoinTokenRow>(bytes),
        "kek" => again::<KekRow>(bytes),
        "bucket" => again::<BucketRow>(bytes),
        "usage" => again::<UsageRow>(bytes),
        "object" => again::<ObjectRow>(bytes),
        "blob_single" | "blob_inline" | "blob_multipart" => again::<BlobRow>(bytes),
        "part" => again::<PartRow>(bytes),
        "upload" => again::<UploadRow>(bytes),
        "completed" => again::<CompletedRow>(bytes),
        "dead_blob" => again::<DeadBlobRow>(bytes),
        "dead_part" => again::<DeadPartRow>(bytes),
        "repair" => again::<RepairRow>(bytes),
        "user" => again::<UserRow>(bytes),
        "access_key" => again::<AccessKeyRow>(bytes),
        "mark" => again::<Mark>(bytes),
        other => Err(format!("nobody reads {other}")),
    });
}

#[test]
fn keys_of_every_table_are_written_as_ever() {
    let id = |n: u128| BlobId(uuid::Uuid::from_u128(n));
    let bucket = BucketId(uuid::Uuid::from_u128(0xb0));
    let command = CommandId(uuid::Uuid::from_u128(0xc0));
    let chunk = ChunkId { blob: id(0xb1), part: PartNumber(2), attempt: Attempt(3), sequence: 4 };
    let (node, seq) = (NodeId(0x0102), StateSeq(0x0304));
    let samples = [
        ("site", key::site()),
        ("clock", key::clock()),
        ("node", key::node(node)),
        ("placement", key::placement(PlacementGroup(0x0203))),
        ("gateway", key::gateway(node)),
        ("floor", key::floor(node)),
        ("join_token", key::join_token(&[7; 32])),
        ("kek", key::kek(KekVersion(5))),
        ("bucket", key::bucket("arsip")),
        ("usage", key::usage(bucket)),
        ("object", key::object(bucket, "a/ü".as_bytes())),
        ("blob", key::blob(id(0xb1))),
        ("part", key::part(id(0xb1), Some(PartNumber(10_000)))),
        ("upload", key::upload(bucket, b"a/b", id(0xb2))),
        ("completed", key::completed(id(0xb2))),
        ("completed_order", key::completed_order(seq, id(0xb2))),
        ("dead_blob", key::dead_blob(seq, id(0xb1))),
        ("dead_part", key::dead_part(seq, id(0xb1), PartNumber(2), Attempt(3))),
        ("repair", key::repair(chunk)),
        ("user", key::user("dinkes")),
        ("access_key", key::access_key("BTKEY")),
        ("user_key", key::user_key("dinkes", "BTKEY")),
        ("answer", key::answer(command)),
        ("answer_order", key::answer_order(seq, command)),
    ];
    let samples: Vec<_> = samples.into_iter().map(|(name, key)| (name.to_owned(), key.to_vec())).collect();
    // Keys are made, and taken apart only where a listing needs it: what is read is what was made.
    hold("key", 1, &samples, &|_, bytes| Ok(bytes.to_vec()));
}
