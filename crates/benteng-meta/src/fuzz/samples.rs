//! One sample of each row, command and answer, every field with a value of its own: what golden files hold
//! for ever and the fuzzer begins with. A match without `_` counts the variants, so that a new one is not
//! forgotten here.

mod outcomes; // answers and rejections

use benteng_host::golden::Sample;
use bytes::Bytes;
use uuid::Uuid;

use crate::codec::{self, Versioned};
use crate::ids::*;
use crate::row::*;
use crate::*;

pub use outcomes::{OUTCOMES, answers, outcomes};

const SECOND: i64 = 1_000_000;
const BUCKET: BucketId = BucketId(Uuid::from_u128(0xb0));
const BLOB: BlobId = BlobId(Uuid::from_u128(0xb1));
const UPLOAD: BlobId = BlobId(Uuid::from_u128(0xb2));

fn bytes(text: &'static str) -> Bytes {
    Bytes::from_static(text.as_bytes())
}

fn store(node: u64) -> StoreId {
    StoreId(Uuid::from_u128(0x500 + u128::from(node)))
}

fn doors() -> Doors {
    Doors {
        rpc: "10.0.0.1:7400".into(),
        s3: "10.0.0.1:7480".into(),
        http: "10.0.0.1:7401".into(),
        sql: "10.0.0.1:5432".into(),
        flight: "10.0.0.1:7402".into(),
    }
}

fn etag() -> ETag {
    ETag { md5: [0xe7; 16], parts: Some(3) }
}

fn checksum() -> Checksum {
    Checksum { kind: ChecksumKind::Crc64Nvme, value: bytes("checksum"), composite: Some(3) }
}

fn described() -> Described {
    let text = |text: &str| Some(text.to_owned());
    Described {
        system: SystemHeaders {
            content_type: text("text/plain"),
            content_encoding: text("gzip"),
            content_language: text("id"),
            content_disposition: text("inline"),
            cache_control: text("no-store"),
            expires: text("never"),
            website_redirect: text("/elsewhere"),
        },
        user: vec![("opd".into(), "dinkes".into())],
        tags: vec![("kelas".into(), "terbatas".into())],
    }
}

/// The site.
pub fn site() -> SiteRow {
    SiteRow {
        id: SiteId(Uuid::from_u128(0x517e)),
        name: "kota".into(),
        created: SiteTime(SECOND),
        copies: 3,
        copies_min: 2,
        next_node: NodeId(4),
        removal_delay: 300 * SECOND,
        recovery_epoch: 1,
        ca: bytes("certificate authority"),
        root_check: bytes("root check"),
        one_voter: true,
    }
}

/// A node.
pub fn node(id: u64) -> NodeRow {
    NodeRow {
        name: format!("node-{id}"),
        zone: format!("zone-{id}"),
        doors: doors(),
        store: store(id),
        state: NodeState::Active,
        joined: SiteTime(2 * SECOND),
    }
}

fn part() -> PartRow {
    PartRow {
        attempt: Attempt(0xa77e),
        salt: [0x5a; 32],
        size: 5 << 20,
        md5: [0x3d; 16],
        checksum: Some(checksum()),
        modified: SiteTime(3 * SECOND),
    }
}

fn blob() -> BlobRow {
    BlobRow {
        bucket: BUCKET,
        key: "a/b".into(),
        size: 5 << 20,
        dek: bytes("data key"),
        checksum: Some(checksum()),
        described: described(),
        body: Body::Single(part()),
    }
}

fn upload() -> UploadRow {
    UploadRow {
        owner: "dinkes".into(),
        created: SiteTime(4 * SECOND),
        dek: bytes("data key"),
        described: described(),
        checksum: Some(UploadChecksum { kind: ChecksumKind::Crc32c, composite: true }),
    }
}

/// A user.
pub fn user() -> UserRow {
    let scram = Scram { salt: bytes("sixteen of salt!"), iterations: 4096, salted_password: bytes("salted") };
    UserRow {
        roles: Role::ALL.to_vec(),
        opd: Some("dinkes".into()),
        scram: Some(scram),
        disabled: true,
        created: SiteTime(5 * SECOND),
    }
}

fn written<T: Versioned>(out: &mut Vec<Sample>, name: &str, row: &T) {
    out.push((name.to_owned(), codec::encode(row).to_vec()));
}

/// One row of each kind but the site's, which has another version.
pub fn rows() -> Vec<Sample> {
    let mut out = Vec::new();
    let at = SiteTime(6 * SECOND);
    let queues = Queues { answers: StateSeq(600), completions: StateSeq(500), dead: StateSeq(400) };
    let clock =
        ClockRow { seq: StateSeq(700), now: at, answers: 3, answers_crowded_out: 2, chunks_short: 1, queues };
    written(&mut out, "clock", &clock);
    written(&mut out, "node", &NodeRow { state: NodeState::Draining, ..node(1) });
    let placement = PlacementRow {
        current: vec![NodeId(1), NodeId(2)],
        target: Some(vec![NodeId(3)]),
        filled: vec![NodeId(3)],
        since: StateSeq(9),
    };
    written(&mut out, "placement", &placement);
    written(&mut out, "gateway", &GatewayRow { incarnation: Incarnation(4), began: StateSeq(8) });
    let floor =
        FloorRow { incarnation: Incarnation(4), floor: StateSeq(8), removed: StateSeq(7), at, void: true };
    written(&mut out, "floor", &floor);
    let token = JoinTokenRow { expires: at, used_by: Some(NodeId(2)), replaces: Some(NodeId(1)) };
    written(&mut out, "join_token", &token);
    written(&mut out, "kek", &KekRow { wrapped: Some(bytes("wrapped")), created: at });
    let bucket = BucketRow {
        id: BUCKET,
        owner: "dinkes".into(),
        created: at,
        key: bytes("bucket key"),
        kek: KekVersion(2),
    };
    written(&mut out, "bucket", &bucket);
    written(&mut out, "usage", &UsageRow { objects: 1, bytes: 2, uploads: 3 });
    let object = ObjectRow {
        blob: BLOB,
        size: 5 << 20,
        etag: etag(),
        modified: at,
        seq: StateSeq(700),
        checksum: Some((ChecksumKind::Sha256, true)),
    };
    written(&mut out, "object", &object);
    written(&mut out, "blob_single", &blob());
    written(&mut out, "blob_inline", &BlobRow { body: Body::Inline(bytes("sealed")), ..blob() });
    let listed = vec![(PartNumber(1), 5 << 20), (PartNumber(10_000), 1)];
    written(&mut out, "blob_multipart", &BlobRow { body: Body::Multipart(listed), ..blob() });
    written(&mut out, "part", &part());
    written(&mut out, "upload", &upload());
    let completed =
        CompletedRow { bucket: BUCKET, key: "a/b".into(), etag: etag(), checksum: Some(checksum()), at };
    written(&mut out, "completed", &completed);
    written(&mut out, "dead_blob", &DeadBlobRow { blob: blob(), at });
    written(&mut out, "dead_part", &DeadPartRow { part: Some(part()), chunks: 2, at });
    written(&mut out, "repair", &RepairRow { missing: vec![NodeId(2), NodeId(3)], since: at });
    written(&mut out, "user", &user());
    let key = AccessKeyRow { user: "dinkes".into(), secret: "secret".into(), created: at };
    written(&mut out, "access_key", &key);
    written(&mut out, "mark", &Mark);
    out
}

fn new_part() -> NewPart {
    let stores = (1..=3).map(|node| (NodeId(node), store(node))).collect();
    NewPart {
        attempt: Attempt(0xa77e),
        salt: [0x5a; 32],
        size: 5 << 20,
        md5: [0x3d; 16],
        checksum: Some(checksum()),
        copies: Copies { stores, chunks: vec![0b111, 0b011] },
    }
}

fn put(body: NewBody) -> PutObject {
    PutObject {
        bucket: BUCKET,
        key: "a/b".into(),
        blob: BLOB,
        condition: Condition { if_match: None, if_none_match: Some(Match::Tags(vec![etag()])) },
        dek: bytes("data key"),
        kek: KekVersion(1),
        etag: etag(),
        size: 5 << 20,
        checksum: Some(checksum()),
        described: described(),
        body,
    }
}

fn chunk(sequence: u32) -> ChunkId {
    ChunkId { blob: BLOB, part: PartNumber(1), attempt: Attempt(0xa77e), sequence }
}

/// The name of a command's sample.
fn name(command: &Command) -> &'static str {
    match command {
        Command::InitSite { .. } => "init_site",
        Command::AddNode { .. } => "add_node",
        Command::CreateJoinToken { .. } => "create_join_token",
        Command::UpdateNode { .. } => "update_node",
        Command::SetNodeState { .. } => "set_node_state",
        Command::SetCopies { .. } => "set_copies",
        Command::SetTargets(_) => "set_targets",
        Command::Filled { .. } => "filled",
        Command::StartGateway { .. } => "start_gateway",
        Command::PublishFloor { .. } => "publish_floor",
        Command::VoidFloor { .. } => "void_floor",
        Command::ForgetDead { .. } => "forget_dead",
        Command::Repaired { .. } => "repaired",
        Command::FoundMissing { .. } => "found_missing",
        Command::CreateBucket { .. } => "create_bucket",
        Command::DeleteBucket { .. } => "delete_bucket",
        Command::PutObject(put) => match put.body {
            NewBody::Inline(_) => "put_object_inline",
            NewBody::Chunks(_) => "put_object_chunks",
        },
        Command::DeleteObjects { .. } => "delete_objects",
        Command::CreateUpload { .. } => "create_upload",
        Command::PutPart { .. } => "put_part",
        Command::CompleteUpload(_) => "complete_upload",
        Command::AbortUpload { .. } => "abort_upload",
        Command::Settle { .. } => "settle",
        Command::CreateUser { .. } => "create_user",
        Command::UpdateUser { .. } => "update_user",
        Command::DeleteUser { .. } => "delete_user",
        Command::CreateAccessKey { .. } => "create_access_key",
        Command::DeleteAccessKey { .. } => "delete_access_key",
        Command::RemoveNode { .. } => "remove_node",
        Command::Recover { .. } => "recover",
    }
}

/// How many samples of commands there are: one a variant, and two of PUT.
pub const COMMANDS: usize = 31;

/// One of each command.
pub fn commands() -> Vec<Command> {
    let (key, name) = ("a/b".to_owned(), "arsip".to_owned());
    let group = PlacementGroup(1023);
    vec![
        Command::InitSite { site: site(), kek: bytes("wrapped"), node: node(1) },
        Command::AddNode { node: node(2), token: [7; 32] },
        Command::CreateJoinToken { hash: [7; 32], valid: 3600 * SECOND, replaces: Some(NodeId(1)) },
        Command::UpdateNode { node: NodeId(2), doors: doors(), store: store(2) },
        Command::SetNodeState { node: NodeId(2), state: NodeState::Draining },
        Command::SetCopies { copies: 3, copies_min: 2 },
        Command::SetTargets(vec![(group, vec![NodeId(1), NodeId(2), NodeId(3)])]),
        Command::Filled { node: NodeId(3), groups: vec![(group, StateSeq(9))] },
        Command::StartGateway { node: NodeId(1) },
        Command::PublishFloor {
            node: NodeId(1),
            incarnation: Incarnation(1),
            floor: StateSeq(8),
            removed: StateSeq(7),
        },
        Command::VoidFloor { node: NodeId(1), incarnation: Incarnation(1) },
        Command::ForgetDead { upto: StateSeq(7) },
        Command::Repaired { node: NodeId(2), store: store(2), chunks: vec![chunk(0), chunk(1)] },
        Command::FoundMissing { node: NodeId(2), chunks: vec![chunk(0)] },
        Command::CreateBucket {
            name: name.clone(),
            id: BUCKET,
            owner: "dinkes".into(),
            key: bytes("bucket key"),
            kek: KekVersion(1),
        },
        Command::DeleteBucket { name },
        Command::PutObject(Box::new(put(NewBody::Inline(bytes("sealed"))))),
        Command::PutObject(Box::new(put(NewBody::Chunks(new_part())))),
        Command::DeleteObjects {
            bucket: BUCKET,
            keys: vec![DeleteKey { key: key.clone(), if_match: Some(Match::Any) }],
        },
        Command::CreateUpload {
            bucket: BUCKET,
            key: key.clone(),
            upload: UPLOAD,
            row: Box::new(upload()),
            kek: KekVersion(1),
        },
        Command::PutPart {
            bucket: BUCKET,
            key: key.clone(),
            upload: UPLOAD,
            number: PartNumber(1),
            part: Box::new(new_part()),
        },
        Command::CompleteUpload(Box::new(CompleteUpload {
            bucket: BUCKET,
            key: key.clone(),
            upload: UPLOAD,
            parts: vec![(PartNumber(1), Attempt(0xa77e))],
            etag: etag(),
            checksum: Some(checksum()),
            condition: Condition { if_match: Some(Match::Any), if_none_match: None },
        })),
        Command::AbortUpload { bucket: BUCKET, key, upload: UPLOAD },
        Command::Settle { id: id(0x1d), chunks: vec![(BLOB, PartNumber(1), Attempt(0xa77e), 2)] },
        Command::CreateUser { name: "dinkes".into(), row: user() },
        Command::UpdateUser { name: "dinkes".into(), row: user() },
        Command::DeleteUser { name: "dinkes".into() },
        Command::CreateAccessKey { id: "BTKEY".into(), user: "dinkes".into(), secret: "secret".into() },
        Command::DeleteAccessKey { id: "BTKEY".into() },
        Command::RemoveNode { node: NodeId(3), lost: true, accept_one_voter: true },
        Command::Recover { node: NodeId(1) },
    ]
}

fn id(n: u128) -> CommandId {
    CommandId(Uuid::from_u128(n))
}

fn envelope(n: u128, stamp: i64, command: Command) -> Envelope {
    let (stamp, deadline) = (SiteTime(stamp), SiteTime(i64::MAX));
    Envelope { id: id(n), stamp, deadline, gateway: None, command }
}

/// One envelope of each command, as it stands in the log.
pub fn envelopes() -> Vec<Sample> {
    let mut out = Vec::new();
    for (n, command) in commands().into_iter().enumerate() {
        let name = name(&command);
        let gateway = Some((NodeId(1), Incarnation(1)));
        let envelope = Envelope { gateway, ..envelope(0x100 + n as u128, 10 * SECOND, command) };
        written(&mut out, name, &envelope);
    }
    out
}

/// Commands that form a site of three nodes with a bucket, a user and a key.
pub(super) fn history() -> Vec<Envelope> {
    let all: Vec<NodeId> = (1..=3).map(NodeId).collect();
    let groups = || (0..PlacementGroup::COUNT).map(PlacementGroup);
    let mut commands = vec![Command::InitSite { site: site(), kek: bytes("wrapped"), node: node(1) }];
    for n in 2..=3 {
        let hash = [u8::try_from(n).unwrap_or_default(); 32];
        commands.push(Command::CreateJoinToken { hash, valid: 3600 * SECOND, replaces: None });
        commands.push(Command::AddNode { node: node(n), token: hash });
    }
    commands.push(Command::SetCopies { copies: 3, copies_min: 2 });
    // The seventh command: its moves are known by that sequence.
    commands.push(Command::SetTargets(groups().map(|group| (group, all.clone())).collect()));
    for node in [NodeId(2), NodeId(3)] {
        commands.push(Command::Filled { node, groups: groups().map(|group| (group, StateSeq(7))).collect() });
    }
    commands.push(Command::CreateBucket {
        name: "arsip".into(),
        id: BUCKET,
        owner: "dinkes".into(),
        key: bytes("bucket key"),
        kek: KekVersion(1),
    });
    commands.push(Command::StartGateway { node: NodeId(1) });
    let row = UserRow { disabled: false, ..user() };
    commands.push(Command::CreateUser { name: "admin".into(), row });
    commands.into_iter().enumerate().map(|(n, command)| envelope(n as u128 + 1, SECOND, command)).collect()
}
