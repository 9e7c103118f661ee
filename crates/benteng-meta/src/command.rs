//! What can be asked of the state.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::codec::Versioned;
use crate::ids::*;
use crate::row::*;

/// A command as it stands in the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Envelope {
    /// Idempotency id (C1).
    pub id: CommandId,
    /// Site time at the leader when it was proposed (C4).
    pub stamp: SiteTime,
    /// Refused if it is applied later than this, in site time.
    pub deadline: SiteTime,
    /// The gateway that proposes it; `None` for commands that no gateway life bounds.
    pub gateway: Option<(NodeId, Incarnation)>,
    /// What is asked.
    pub command: Command,
}
impl Versioned for Envelope {
    const WHAT: &'static str = "command";
}

/// A condition on the current version of an object, decided in `apply`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Condition {
    /// `If-Match`: one of these tags, or [`Match::Any`].
    pub if_match: Option<Match>,
    /// `If-None-Match`: none of these tags, or [`Match::Any`].
    pub if_none_match: Option<Match>,
}

/// The right side of `If-Match` and `If-None-Match`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Match {
    /// `*`
    Any,
    /// A list of tags.
    Tags(Vec<ETag>),
}

impl Match {
    /// Whether a version with this tag matches.
    pub fn matches(&self, etag: &ETag) -> bool {
        match self {
            Match::Any => true,
            Match::Tags(tags) => tags.contains(etag),
        }
    }
}

/// Durable copies of the chunks of one attempt, as its gateway saw them (O2).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Copies {
    /// The stores that hold any of the chunks, at most 16.
    pub stores: Vec<(NodeId, StoreId)>,
    /// For each chunk: bit `i` says that `stores[i]` holds a durable copy.
    pub chunks: Vec<u16>,
}

/// A part whose chunks are durable.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewPart {
    /// The attempt; chunk ids carry it.
    pub attempt: Attempt,
    /// Salt of its part key.
    pub salt: [u8; 32],
    /// Plain length in bytes.
    pub size: u64,
    /// MD5 of the plain bytes.
    pub md5: [u8; 16],
    /// The checksum that the client sent or the door computed.
    pub checksum: Option<Checksum>,
    /// Where the chunks are.
    pub copies: Copies,
}

/// Bytes of a new object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum NewBody {
    /// Small: sealed, in the command itself.
    Inline(Bytes),
    /// In chunks, as part 1.
    Chunks(NewPart),
}

/// PUT of an object (or the far end of a COPY).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PutObject {
    /// Bucket.
    pub bucket: BucketId,
    /// Key, 1 to 1024 bytes.
    pub key: String,
    /// The new blob.
    pub blob: BlobId,
    /// Condition on what is there now.
    pub condition: Condition,
    /// Wrapped data-encryption key.
    pub dek: Bytes,
    /// The key-encryption key that the bucket's key was under when `dek` was wrapped.
    pub kek: KekVersion,
    /// Entity tag.
    pub etag: ETag,
    /// Plain length in bytes.
    pub size: u64,
    /// Checksum of the whole.
    pub checksum: Option<Checksum>,
    /// Headers, user metadata, tags.
    pub described: Described,
    /// The bytes.
    pub body: NewBody,
}

/// Completion of an upload.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CompleteUpload {
    /// Bucket.
    pub bucket: BucketId,
    /// Key.
    pub key: String,
    /// The upload.
    pub upload: BlobId,
    /// Parts as listed by the client, ascending, with the attempt whose tag it named.
    pub parts: Vec<(PartNumber, Attempt)>,
    /// Tag of the whole, made from those attempts.
    pub etag: ETag,
    /// Checksum of the whole, made from those attempts.
    pub checksum: Option<Checksum>,
    /// Condition on what is there now.
    pub condition: Condition,
}

/// One key of a DELETE.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeleteKey {
    /// Key.
    pub key: String,
    /// Only if the current version has one of these tags.
    pub if_match: Option<Match>,
}

/// What can be asked of the state. New commands are added at the end: the position is the encoding.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Command {
    /// Forms the site; the first command of its history.
    InitSite {
        /// Constants of the site; `created` and `next_node` are set by `apply`.
        site: SiteRow,
        /// The first key-encryption key.
        kek: Bytes,
        /// The first node, which gets id 1.
        node: NodeRow,
    },
    /// Adds a node; answers its id.
    AddNode {
        /// The node; `joined` is set by `apply`.
        node: NodeRow,
        /// SHA-256 of the join token that lets it in.
        token: [u8; 32],
    },
    /// Makes a join token valid.
    CreateJoinToken {
        /// SHA-256 of the token.
        hash: [u8; 32],
        /// How long it is valid, microseconds.
        valid: i64,
        /// The node that the joiner replaces.
        replaces: Option<NodeId>,
    },
    /// Tells where a node is reached, which disks it has, and in which zone.
    UpdateNode {
        /// The node.
        node: NodeId,
        /// Its doors.
        doors: Doors,
        /// Its disks.
        store: StoreId,
    },
    /// Drains a node, or calls it back.
    SetNodeState {
        /// The node.
        node: NodeId,
        /// What it becomes: active or draining.
        state: NodeState,
    },
    /// Raises the number of copies; it falls with [`Command::RemoveNode`] alone (S8).
    SetCopies {
        /// Copies wanted, 1 to 3.
        copies: u8,
        /// Copies without which nothing is acknowledged.
        copies_min: u8,
    },
    /// Begins to move placement groups: `(group, nodes that are to hold it)`.
    SetTargets(Vec<(PlacementGroup, Vec<NodeId>)>),
    /// A node has copied all that was there when the moves began; switches the groups that are ready.
    Filled {
        /// The node.
        node: NodeId,
        /// The groups, with the sequence at which their move began.
        groups: Vec<(PlacementGroup, StateSeq)>,
    },
    /// A new life of the gateway process of a node; answers its incarnation (O1).
    StartGateway {
        /// The node.
        node: NodeId,
    },
    /// A node says what its oldest read uses and what it has removed (O4, O5).
    PublishFloor {
        /// The node.
        node: NodeId,
        /// The reader's incarnation.
        incarnation: Incarnation,
        /// Oldest state in use.
        floor: StateSeq,
        /// All chunks dead at or before this are gone from its store.
        removed: StateSeq,
    },
    /// Voids the floor of a reader that was not renewed (O5).
    VoidFloor {
        /// The node.
        node: NodeId,
        /// The reader's incarnation.
        incarnation: Incarnation,
    },
    /// Forgets dead rows up to a sequence that every store has removed.
    ForgetDead {
        /// Up to and including this.
        upto: StateSeq,
    },
    /// Copies that were missing are durable now, or were found missing.
    Repaired {
        /// The node that holds them now.
        node: NodeId,
        /// Its disks.
        store: StoreId,
        /// The chunks.
        chunks: Vec<ChunkId>,
    },
    /// Copies were found missing or damaged: queue them for repair.
    FoundMissing {
        /// The node that should hold them.
        node: NodeId,
        /// The chunks.
        chunks: Vec<ChunkId>,
    },
    /// Creates a bucket.
    CreateBucket {
        /// Name.
        name: String,
        /// Its id for ever.
        id: BucketId,
        /// User that owns it.
        owner: String,
        /// Wrapped bucket key.
        key: Bytes,
        /// The key-encryption key it is wrapped under.
        kek: KekVersion,
    },
    /// Deletes an empty bucket.
    DeleteBucket {
        /// Name.
        name: String,
    },
    /// Stores an object.
    PutObject(Box<PutObject>),
    /// Deletes objects of one bucket; answers one result per key.
    DeleteObjects {
        /// Bucket.
        bucket: BucketId,
        /// At most 1000 keys.
        keys: Vec<DeleteKey>,
    },
    /// Begins an upload.
    CreateUpload {
        /// Bucket.
        bucket: BucketId,
        /// Key.
        key: String,
        /// Id of the upload and of the future blob.
        upload: BlobId,
        /// The row; `created` is set by `apply`.
        row: Box<UploadRow>,
        /// The key-encryption key that the bucket's key was under.
        kek: KekVersion,
    },
    /// Commits a part of an upload.
    PutPart {
        /// Bucket.
        bucket: BucketId,
        /// Key.
        key: String,
        /// The upload.
        upload: BlobId,
        /// Part number.
        number: PartNumber,
        /// The part.
        part: Box<NewPart>,
    },
    /// Turns an upload into the object.
    CompleteUpload(Box<CompleteUpload>),
    /// Gives an upload up.
    AbortUpload {
        /// Bucket.
        bucket: BucketId,
        /// Key.
        key: String,
        /// The upload.
        upload: BlobId,
    },
    /// Finds out what became of a command, or refuses it for ever (C3).
    Settle {
        /// The command in question.
        id: CommandId,
        /// Chunks that it named, if it did: `(blob, part, attempt, chunks)`.
        chunks: Vec<(BlobId, PartNumber, Attempt, u32)>,
    },
    /// Creates a user.
    CreateUser {
        /// Name.
        name: String,
        /// The row; `created` is set by `apply`.
        row: UserRow,
    },
    /// Replaces a user's roles, password or state.
    UpdateUser {
        /// Name.
        name: String,
        /// The row; `created` is kept.
        row: UserRow,
    },
    /// Deletes a user and its access keys.
    DeleteUser {
        /// Name.
        name: String,
    },
    /// Creates an access key.
    CreateAccessKey {
        /// Public half.
        id: String,
        /// Whose it is.
        user: String,
        /// Secret half.
        secret: String,
    },
    /// Deletes an access key.
    DeleteAccessKey {
        /// Public half.
        id: String,
    },
    /// Removes a node for good.
    RemoveNode {
        /// The node.
        node: NodeId,
        /// Nobody reaches it: what it holds is not waited for.
        lost: bool,
        /// Fewer than three nodes may be left, with one vote and fewer copies (S8).
        accept_one_voter: bool,
    },
    /// One node goes on alone after the loss of a majority; every other one is removed (S7).
    Recover {
        /// The survivor.
        node: NodeId,
    },
}

impl Command {
    /// Whether it is carried out while a majority of the disks is under its reserve: deletes, and what the
    /// site does by itself (O6).
    pub fn needs_no_room(&self) -> bool {
        match self {
            Command::CreateBucket { .. }
            | Command::PutObject(_)
            | Command::CreateUpload { .. }
            | Command::PutPart { .. }
            | Command::CompleteUpload(_)
            | Command::CreateUser { .. }
            | Command::UpdateUser { .. }
            | Command::CreateAccessKey { .. } => false,
            Command::InitSite { .. }
            | Command::AddNode { .. }
            | Command::CreateJoinToken { .. }
            | Command::UpdateNode { .. }
            | Command::SetNodeState { .. }
            | Command::SetCopies { .. }
            | Command::SetTargets(_)
            | Command::Filled { .. }
            | Command::StartGateway { .. }
            | Command::PublishFloor { .. }
            | Command::VoidFloor { .. }
            | Command::ForgetDead { .. }
            | Command::Repaired { .. }
            | Command::FoundMissing { .. }
            | Command::DeleteBucket { .. }
            | Command::DeleteObjects { .. }
            | Command::AbortUpload { .. }
            | Command::Settle { .. }
            | Command::DeleteUser { .. }
            | Command::DeleteAccessKey { .. }
            | Command::RemoveNode { .. }
            | Command::Recover { .. } => true,
        }
    }
}
