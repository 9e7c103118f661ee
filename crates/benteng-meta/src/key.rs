//! Keys of the ordered store. One byte names the table; the rest sorts as the table is read.
//! Only keys are plain on disk (I5): bucket and object names and ids, nothing else.

use bytes::{BufMut, Bytes, BytesMut};

use crate::ids::*;

/// Names every table by its first byte. Never reuse one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Table {
    /// `()` -> the site.
    Site = 0x01,
    /// `()` -> the group's clock and counters.
    Clock = 0x02,
    /// node -> node.
    Node = 0x03,
    /// placement group -> placement.
    Placement = 0x04,
    /// node -> gateway incarnation.
    Gateway = 0x05,
    /// node -> published floor.
    Floor = 0x06,
    /// token hash -> join token.
    JoinToken = 0x07,
    /// key version -> wrapped key.
    Kek = 0x08,
    /// `()` -> when a placement changed last.
    PlacementsChanged = 0x09,
    /// bucket name -> bucket.
    Bucket = 0x10,
    /// bucket id -> counters.
    Usage = 0x11,
    /// bucket id, object key -> current version.
    Object = 0x12,
    /// blob -> blob.
    Blob = 0x13,
    /// blob, part -> part of an upload or of a completed upload.
    Part = 0x14,
    /// bucket id, object key, 0, upload -> upload under way.
    Upload = 0x15,
    /// upload -> what its completion answered.
    Completed = 0x16,
    /// sequence, upload -> `()`: when to forget a completion.
    CompletedOrder = 0x17,
    /// sequence, blob -> blob row that nothing names any more.
    DeadBlob = 0x18,
    /// sequence, blob, part, attempt -> chunks that nothing names any more.
    DeadPart = 0x19,
    /// placement group, chunk -> copies that are missing.
    Repair = 0x1a,
    /// user name -> user.
    User = 0x20,
    /// access key id -> access key.
    AccessKey = 0x21,
    /// user name, 0, access key id -> `()`.
    UserKey = 0x22,
    /// command id -> stored answer.
    Answer = 0x30,
    /// sequence, command id -> `()`: order in which answers are forgotten.
    AnswerOrder = 0x31,
}

/// Builds a key piece by piece.
struct Build(BytesMut);

impl Build {
    fn table(table: Table) -> Build {
        let mut out = BytesMut::with_capacity(64);
        out.put_u8(table as u8);
        Build(out)
    }
    fn raw(mut self, bytes: &[u8]) -> Build {
        self.0.put_slice(bytes);
        self
    }
    fn seq(self, seq: StateSeq) -> Build {
        self.raw(&seq.0.to_be_bytes())
    }
    fn end(self) -> Bytes {
        self.0.freeze()
    }
}

/// The prefix of all keys of a table.
pub fn table(table: Table) -> Bytes {
    Build::table(table).end()
}

/// The only row of [`Table::Site`].
pub fn site() -> Bytes {
    table(Table::Site)
}

/// The only row of [`Table::Clock`].
pub fn clock() -> Bytes {
    table(Table::Clock)
}

/// A node.
pub fn node(node: NodeId) -> Bytes {
    Build::table(Table::Node).raw(&node.0.to_be_bytes()).end()
}

/// A placement group.
pub fn placement(group: PlacementGroup) -> Bytes {
    Build::table(Table::Placement).raw(&group.0.to_be_bytes()).end()
}

/// The only row of [`Table::PlacementsChanged`].
pub fn placements_changed() -> Bytes {
    table(Table::PlacementsChanged)
}

/// The gateway of a node.
pub fn gateway(node: NodeId) -> Bytes {
    Build::table(Table::Gateway).raw(&node.0.to_be_bytes()).end()
}

/// The floor of a node.
pub fn floor(node: NodeId) -> Bytes {
    Build::table(Table::Floor).raw(&node.0.to_be_bytes()).end()
}

/// A join token, by its SHA-256.
pub fn join_token(hash: &[u8; 32]) -> Bytes {
    Build::table(Table::JoinToken).raw(hash).end()
}

/// A key-encryption key.
pub fn kek(version: KekVersion) -> Bytes {
    Build::table(Table::Kek).raw(&version.0.to_be_bytes()).end()
}

/// A bucket by name.
pub fn bucket(name: &str) -> Bytes {
    Build::table(Table::Bucket).raw(name.as_bytes()).end()
}

/// Counters of a bucket.
pub fn usage(bucket: BucketId) -> Bytes {
    Build::table(Table::Usage).raw(bucket.0.as_bytes()).end()
}

/// The current version of an object; keys of one bucket sort as S3 lists them (by bytes).
pub fn object(bucket: BucketId, key: &[u8]) -> Bytes {
    Build::table(Table::Object).raw(bucket.0.as_bytes()).raw(key).end()
}

/// Length of what stands before the object's key in [`object`].
pub const OBJECT_PREFIX: usize = 17;

/// A blob.
pub fn blob(blob: BlobId) -> Bytes {
    Build::table(Table::Blob).raw(blob.0.as_bytes()).end()
}

/// A part; without a number: the prefix of all parts of the blob.
pub fn part(blob: BlobId, number: Option<PartNumber>) -> Bytes {
    let key = Build::table(Table::Part).raw(blob.0.as_bytes());
    match number {
        Some(number) => key.raw(&number.0.to_be_bytes()).end(),
        None => key.end(),
    }
}

/// An upload under way. Object keys hold no NUL followed by sixteen bytes of ours that
/// could mix up: the upload id has fixed width, so the key is what stands between.
pub fn upload(bucket: BucketId, key: &[u8], upload: BlobId) -> Bytes {
    upload_prefix(bucket).raw(key).raw(&[0]).raw(upload.0.as_bytes()).end()
}

fn upload_prefix(bucket: BucketId) -> Build {
    Build::table(Table::Upload).raw(bucket.0.as_bytes())
}

/// The prefix of all uploads of a bucket whose object key starts with `key`.
pub fn uploads(bucket: BucketId, key: &[u8]) -> Bytes {
    upload_prefix(bucket).raw(key).end()
}

/// Splits a key of [`upload`] into object key and upload id.
pub fn split_upload(row_key: &[u8]) -> Option<(&[u8], BlobId)> {
    let rest = row_key.get(17..)?;
    let (rest, id) = rest.split_last_chunk::<16>()?;
    let (zero, key) = rest.split_last()?;
    (*zero == 0).then(|| (key, BlobId(uuid::Uuid::from_bytes(*id))))
}

/// What a completed upload answered.
pub fn completed(upload: BlobId) -> Bytes {
    Build::table(Table::Completed).raw(upload.0.as_bytes()).end()
}

/// Order of completions.
pub fn completed_order(seq: StateSeq, upload: BlobId) -> Bytes {
    Build::table(Table::CompletedOrder).seq(seq).raw(upload.0.as_bytes()).end()
}

/// A dead blob.
pub fn dead_blob(seq: StateSeq, blob: BlobId) -> Bytes {
    Build::table(Table::DeadBlob).seq(seq).raw(blob.0.as_bytes()).end()
}

/// A dead attempt at a part.
pub fn dead_part(seq: StateSeq, blob: BlobId, part: PartNumber, attempt: Attempt) -> Bytes {
    let key = Build::table(Table::DeadPart).seq(seq).raw(blob.0.as_bytes());
    key.raw(&part.0.to_be_bytes()).raw(&attempt.0.to_be_bytes()).end()
}

/// The end (exclusive) of all rows of a sequence-ordered table up to and including `seq`.
pub fn after_seq(table: Table, seq: StateSeq) -> Bytes {
    match seq.0.checked_add(1) {
        Some(next) => Build::table(table).seq(StateSeq(next)).end(),
        None => Bytes::from(vec![table as u8 + 1]),
    }
}

/// Where rows of `seq` begin in a table that is ordered by sequence.
pub fn from_seq(table: Table, seq: StateSeq) -> Bytes {
    Build::table(table).seq(seq).end()
}

/// The sequence in a key of a sequence-ordered table, and the id of sixteen bytes behind it.
pub fn split_seq(row_key: &[u8]) -> Option<(StateSeq, [u8; 16])> {
    let (seq, rest) = row_key.get(1..)?.split_first_chunk::<8>()?;
    Some((StateSeq(u64::from_be_bytes(*seq)), *rest.first_chunk::<16>()?))
}

/// The missing copies of a chunk.
pub fn repair(chunk: ChunkId) -> Bytes {
    repair_prefix(chunk.placement_group()).raw(&chunk.to_bytes()).end()
}

/// The prefix of all missing copies of a placement group.
pub fn repairs(group: PlacementGroup) -> Bytes {
    repair_prefix(group).end()
}

fn repair_prefix(group: PlacementGroup) -> Build {
    Build::table(Table::Repair).raw(&group.0.to_be_bytes())
}

/// The chunk in a key of [`repair`].
pub fn split_repair(row_key: &[u8]) -> Option<ChunkId> {
    ChunkId::from_bytes(row_key.get(3..)?)
}

/// A user.
pub fn user(name: &str) -> Bytes {
    Build::table(Table::User).raw(name.as_bytes()).end()
}

/// An access key.
pub fn access_key(id: &str) -> Bytes {
    Build::table(Table::AccessKey).raw(id.as_bytes()).end()
}

/// An access key under its user; with an empty id: the prefix of all keys of the user.
pub fn user_key(user: &str, id: &str) -> Bytes {
    Build::table(Table::UserKey).raw(user.as_bytes()).raw(&[0]).raw(id.as_bytes()).end()
}

/// A stored answer.
pub fn answer(id: CommandId) -> Bytes {
    Build::table(Table::Answer).raw(id.0.as_bytes()).end()
}

/// Order of stored answers.
pub fn answer_order(seq: StateSeq, id: CommandId) -> Bytes {
    Build::table(Table::AnswerOrder).seq(seq).raw(id.0.as_bytes()).end()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;

    proptest! {
        #[test]
        fn upload_keys_split_into_what_they_were_made_of(key in proptest::collection::vec(any::<u8>(), 0..64), id: u128) {
            let id = BlobId(Uuid::from_u128(id));
            let row = upload(BucketId(Uuid::from_u128(1)), &key, id);
            prop_assert_eq!(split_upload(&row), Some((&key[..], id)));
        }

        #[test]
        fn object_rows_sort_as_their_keys(a in proptest::collection::vec(any::<u8>(), 0..16), b in proptest::collection::vec(any::<u8>(), 0..16)) {
            let bucket = BucketId(Uuid::from_u128(1));
            prop_assert_eq!(object(bucket, &a).cmp(&object(bucket, &b)), a.cmp(&b));
        }
    }

    #[test]
    fn rows_after_a_sequence_exclude_it() {
        let id = BlobId(Uuid::from_u128(u128::MAX));
        assert!(dead_blob(StateSeq(7), id) < after_seq(Table::DeadBlob, StateSeq(7)));
        assert!(dead_blob(StateSeq(8), BlobId(Uuid::nil())) >= after_seq(Table::DeadBlob, StateSeq(7)));
        assert!(dead_blob(StateSeq(u64::MAX), id) < after_seq(Table::DeadBlob, StateSeq(u64::MAX)));
    }
}
