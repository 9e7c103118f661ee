//! What a command comes to: its answer, or why it was not carried out.

use std::cell::Cell;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};

use crate::codec::Versioned;
use crate::ids::*;
use crate::row::*;

/// What a command answers when it was carried out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer {
    /// Done; nothing more to say.
    Done,
    /// The new node's id.
    Node(NodeId),
    /// The gateway's incarnation and the sequence at which it began.
    Gateway(Incarnation, StateSeq),
    /// The object, part or bucket is committed at this site time.
    Committed(SiteTime),
    /// The upload is complete.
    Completed {
        /// Tag of the object.
        etag: ETag,
        /// Checksum of the object.
        checksum: Option<Checksum>,
        /// When, in site time.
        at: SiteTime,
    },
    /// One result per key of a DELETE, in order.
    Deleted(Vec<Result<(), Rejection>>),
    /// Too few of the named copies count now: copy these chunks again and propose again (O2). Not terminal.
    Replace(Vec<u32>),
    /// The command in question was applied and answered this (C3). At most [`SETTLED_DEPTH_MAX`] deep.
    Settled(#[serde(deserialize_with = "settled")] Box<Outcome>),
    /// The command in question was never applied and never will be (C3).
    NeverApplied,
}

/// How deep answers to a Settle may stand within each other. Nobody settles a settling of a settling; but a
/// decoder that goes as deep as its bytes say runs out of stack, and the process ends.
pub const SETTLED_DEPTH_MAX: usize = 16;

fn settled<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Box<Outcome>, D::Error> {
    thread_local! {
        static DEPTH: Cell<usize> = const { Cell::new(0) };
    }
    DEPTH.with(|depth| {
        if depth.get() >= SETTLED_DEPTH_MAX {
            return Err(D::Error::custom("answers stand too deep within each other"));
        }
        depth.set(depth.get() + 1);
        let outcome = Box::<Outcome>::deserialize(deserializer);
        depth.set(depth.get() - 1);
        outcome
    })
}

/// How many answers to a Settle stand within this one.
pub(crate) fn settled_depth(mut outcome: &Outcome) -> usize {
    let mut depth = 0;
    while let Ok(Answer::Settled(inner)) = outcome {
        (depth, outcome) = (depth + 1, inner);
    }
    depth
}

/// Why a command was not carried out. Nothing has changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Rejection {
    /// The site is not formed yet, or already is.
    #[error("the site is {}", if *.formed { "already formed" } else { "not formed yet" })]
    Site {
        /// Whether it is.
        formed: bool,
    },
    /// Applied after its deadline.
    #[error("the command reached the state after its deadline")]
    DeadlinePassed,
    /// A newer life of the gateway is committed (I9).
    #[error("gateway {0} was started again; this process may not write any more")]
    GatewaySuperseded(NodeId),
    /// Refused by an earlier Settle.
    #[error("the command was settled as never applied")]
    Refused,
    /// Not a bucket name.
    #[error("{0:?} is not a valid bucket name")]
    InvalidBucketName(String),
    /// No such bucket.
    #[error("the bucket does not exist")]
    NoSuchBucket,
    /// The name is taken by the same owner or another.
    #[error("the bucket name is taken")]
    BucketTaken {
        /// By whom.
        owner: String,
    },
    /// Objects or uploads are left.
    #[error("the bucket is not empty")]
    BucketNotEmpty,
    /// Not a key: 1 to 1024 bytes.
    #[error("an object key has 1 to 1024 bytes of UTF-8")]
    InvalidKey,
    /// No such object.
    #[error("the object does not exist")]
    NoSuchKey,
    /// A condition on the current version does not hold.
    #[error("a precondition does not hold")]
    PreconditionFailed,
    /// No such upload.
    #[error("the upload does not exist; it may have been completed or aborted")]
    NoSuchUpload,
    /// A listed part is missing, was replaced, or is out of order.
    #[error("part {0} is missing or was replaced")]
    InvalidPart(PartNumber),
    /// Parts are not ascending, or there are none.
    #[error("the list of parts is empty or not in ascending order")]
    InvalidPartOrder,
    /// A part other than the last is too small.
    #[error("part {number} has {size} bytes; all but the last need {minimum}")]
    PartTooSmall {
        /// The part.
        number: PartNumber,
        /// Its size.
        size: u64,
        /// What it must have.
        minimum: u64,
    },
    /// The key-encryption key was destroyed.
    #[error("key version {0} is destroyed")]
    KeyDestroyed(KekVersion),
    /// No such node.
    #[error("node {0} is not a member of the site")]
    NoSuchNode(NodeId),
    /// A node of that name is there.
    #[error("a node named {0:?} is already a member")]
    NodeNameTaken(String),
    /// Unknown, used or expired.
    #[error("the join token is unknown, used or expired; make a new one with `benteng node add`")]
    InvalidToken,
    /// No such user.
    #[error("user {0:?} does not exist")]
    NoSuchUser(String),
    /// The user exists.
    #[error("user {0:?} already exists")]
    UserExists(String),
    /// The last administrator must stay.
    #[error("{0:?} is the last enabled administrator")]
    LastAdmin(String),
    /// No such access key.
    #[error("access key {0:?} does not exist")]
    NoSuchAccessKey(String),
    /// The access key exists.
    #[error("access key {0:?} already exists")]
    AccessKeyExists(String),
    /// The command contradicts itself or the state's rules.
    #[error("{0}")]
    Invalid(String),
    /// A majority of the disks is under its reserve (O6). Never the answer of `apply`: the command was not taken.
    #[error(
        "the disks of the site are full: only deletes are taken; delete objects or add room, \
         writes return by themselves"
    )]
    Full,
}

/// The end of a command.
pub type Outcome = Result<Answer, Rejection>;

/// A remembered answer (C1).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AnswerRow {
    /// When it was given.
    pub at: SiteTime,
    /// The answer.
    pub outcome: Outcome,
}
impl Versioned for AnswerRow {
    const WHAT: &'static str = "answer";
}
