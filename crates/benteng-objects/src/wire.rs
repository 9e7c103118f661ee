//! What stores ask each other: methods 100 to 199. Each message is versioned by
//! `benteng_meta::codec`; chunk bytes follow it as parts of their own, never copied.

use benteng_meta::codec::Versioned;
use benteng_meta::ids::*;
use serde::{Deserialize, Serialize};

use crate::compare::Digest;

/// Method numbers.
pub(crate) mod method {
    /// [`super::Put`] and the ciphertext -> [`super::PutAnswer`].
    pub(crate) const PUT: u16 = 100;
    /// [`super::Read`] -> ciphertext of the frames.
    pub(crate) const READ: u16 = 101;
    /// [`super::Fetch`] -> [`super::Put`] and the whole ciphertext.
    pub(crate) const FETCH: u16 = 102;
    /// [`super::Stat`] -> [`super::StatAnswer`].
    pub(crate) const STAT: u16 = 103;
    /// [`super::Forget`] -> nothing.
    pub(crate) const FORGET: u16 = 104;
    /// Nothing -> [`super::Report`], [`super::Vitals`].
    pub(crate) const REPORT: u16 = 105;
    /// Nothing -> [`super::ScrubBegun`].
    pub(crate) const SCRUB: u16 = 106;
    /// [`super::Digests`] -> [`super::DigestsAnswer`].
    pub(crate) const DIGESTS: u16 = 107;
    /// [`super::ListOf`] -> [`super::ListAnswer`].
    pub(crate) const LIST: u16 = 108;
}

/// Codes with which a store refuses.
pub(crate) mod refused {
    /// The chunk is not here.
    pub(crate) const MISSING: u16 = 1;
    /// The chunk is here and damaged; it is quarantined.
    pub(crate) const DAMAGED: u16 = 2;
    /// No room (O6).
    pub(crate) const FULL: u16 = 3;
    /// A newer incarnation of the gateway is committed (I9).
    pub(crate) const SUPERSEDED: u16 = 4;
    /// The reader's floor was voided (O5).
    pub(crate) const VOIDED: u16 = 5;
    /// The message makes no sense here.
    pub(crate) const BAD: u16 = 6;
    /// The store failed or is not ready; the message says why.
    pub(crate) const FAILED: u16 = 7;
    /// Another recovery epoch (S7).
    pub(crate) const EPOCH: u16 = 8;
}

/// A chunk to keep; its ciphertext follows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Put {
    /// The chunk.
    pub(crate) id: ChunkId,
    /// Who wrote it.
    pub(crate) origin: Origin,
    /// Ciphertext bytes of a full frame.
    pub(crate) frame_bytes: u32,
    /// CRC32C of each sealed frame.
    pub(crate) frame_crcs: Vec<u32>,
}

/// The chunk is durable on these disks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PutAnswer {
    /// The disks.
    pub(crate) store: StoreId,
}

/// Frames `start..end` of a chunk, for a reader of this incarnation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Read {
    /// The chunk.
    pub(crate) id: ChunkId,
    /// First frame.
    pub(crate) start: u32,
    /// One past the last frame.
    pub(crate) end: u32,
    /// The reader's incarnation.
    pub(crate) reader: Incarnation,
}

/// A whole chunk with its header, for a copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Fetch {
    /// The chunk.
    pub(crate) id: ChunkId,
}

/// Which of these chunks are here?
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Stat {
    /// At most [`IDS_MAX`].
    pub(crate) ids: Vec<ChunkId>,
}

/// One answer per chunk, in order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StatAnswer {
    /// Whether it is here.
    pub(crate) present: Vec<bool>,
}

/// Chunks of the caller's own incarnation that no command names or will ever name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Forget {
    /// The caller's incarnation.
    pub(crate) incarnation: Incarnation,
    /// At most [`IDS_MAX`].
    pub(crate) ids: Vec<ChunkId>,
}

/// Chunks in one message.
pub(crate) const IDS_MAX: usize = 1000;

/// How a node's store and loops are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Size of the disk, bytes.
    pub disk_total: u64,
    /// Free on it, bytes.
    pub disk_free: u64,
    /// Whether its disk is under its reserve: it takes no chunks (O6).
    pub under_reserve: bool,
    /// Chunks in the store.
    pub chunks: u64,
    /// Their ciphertext, bytes.
    pub chunk_bytes: u64,
    /// Chunks that are quarantined and to be made good.
    pub quarantined: u64,
    /// Chunks copied by repair since the process began.
    pub repaired: u64,
    /// Chunks that repair tried in vain in its last round.
    pub repair_stuck: u64,
    /// Chunks copied while filling placement groups since the process began.
    pub filled: u64,
    /// Placement groups that are being filled now.
    pub filling: u64,
    /// Chunks that the round of filling under way is still to copy.
    pub to_fill: u64,
    /// Chunks copied per minute of late, by repair and filling; 0: not known.
    pub copied_per_minute: u64,
    /// Chunks that other nodes hold by now.
    pub strays: u64,
    /// Chunks given up to other nodes since the process began.
    pub evicted: u64,
    /// Copies found missing by comparing what holders have, since the process began.
    pub compared_missing: u64,
    /// Reads in use.
    pub readers: u64,
    /// State sequence that is applied.
    pub applied: StateSeq,
    /// How its scrub stands.
    pub scrub: ScrubReport,
}

/// What else there is to know of a node: a second part beside its report, which older builds neither send nor read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vitals {
    /// By how much its wall clock is ahead of a majority's, microseconds; `None`: not known.
    pub clock_off: Option<i64>,
    /// Until when the first of its certificates is valid, wall-clock microseconds; `None`: it has none.
    pub certificates_end: Option<i64>,
}

/// How the scrub of a node stands: every stored byte is read again within its time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScrubReport {
    /// Full passes that have ended.
    pub ended: u64,
    /// When the pass under way began; `None`: between two passes.
    pub started: Option<SiteTime>,
    /// Bytes that it has read.
    pub bytes: u64,
    /// Bytes that a pass reads.
    pub total: u64,
    /// When the last full pass ended.
    pub last_ended: Option<SiteTime>,
    /// Chunks found damaged by any pass.
    pub found: u64,
    /// Damaged chunks whose place a good copy has taken.
    pub mended: u64,
    /// Whether somebody asked for the pass under way: it goes at the full rate.
    pub asked: bool,
    /// Segments of chunks found damaged around their chunks by any pass; they are cleaned.
    pub segments_found: u64,
    /// Segments of the Raft log found damaged by any pass.
    pub log_found: u64,
    /// Segments of the Raft log that are damaged and not purged yet.
    pub log_damaged: u64,
    /// Damaged segments of the Raft log that are mended, since the process began.
    pub log_mended: u64,
    /// How often the ordered store was given up for damage and built anew.
    pub store_given_up: u64,
}

/// A full pass has begun; it has ended when so many passes have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ScrubBegun {
    /// Passes.
    pub(crate) pass: u64,
}

/// What does the store have of these groups?
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Digests {
    /// At most all of them.
    pub(crate) groups: Vec<PlacementGroup>,
}

/// One digest per group, in order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct DigestsAnswer {
    /// The digests.
    pub(crate) digests: Vec<Digest>,
}

/// Which good chunks of these groups come after this one?
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ListOf {
    /// At most all of them.
    pub(crate) groups: Vec<PlacementGroup>,
    /// The last chunk of the page before.
    pub(crate) after: Option<ChunkId>,
}

/// A page of chunks in order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ListAnswer {
    /// At most [`IDS_MAX`].
    pub(crate) ids: Vec<ChunkId>,
    /// Where to go on; `None`: the end was reached.
    pub(crate) next: Option<ChunkId>,
}

impl Versioned for Report {
    const WHAT: &'static str = "store report";
    const VERSION: u8 = 3;
}

macro_rules! versioned {
    ($($name:ident => $what:literal),* $(,)?) => {
        $(impl Versioned for $name { const WHAT: &'static str = $what; })*
    };
}

versioned! {
    Put => "chunk header",
    PutAnswer => "put answer",
    Read => "read request",
    Fetch => "fetch request",
    Stat => "stat request",
    StatAnswer => "stat answer",
    Forget => "forget request",
    ScrubBegun => "scrub answer",
    Digests => "digests request",
    DigestsAnswer => "digests answer",
    ListOf => "list request",
    ListAnswer => "list answer",
    Vitals => "store vitals",
}

#[cfg(test)]
mod tests {
    use benteng_meta::codec;
    use proptest::prelude::*;

    use super::*;

    fn chunk() -> ChunkId {
        ChunkId {
            blob: BlobId(uuid::Uuid::from_u128(0x0123)),
            part: PartNumber(2),
            attempt: Attempt(300),
            sequence: 4,
        }
    }

    fn put() -> Put {
        let origin = Origin { node: NodeId(3), incarnation: Incarnation(5), began: StateSeq(130) };
        Put { id: chunk(), origin, frame_bytes: 65_552, frame_crcs: vec![1, u32::MAX] }
    }

    #[test]
    fn messages_of_version_1_read_as_ever() {
        let golden = "01100000000000000000000000000000012302ac0204030582019080040201ffffffff0f";
        assert_eq!(hex::encode(codec::encode(&put())), golden);
        let read = Read { id: chunk(), start: 1, end: 64, reader: Incarnation(5) };
        assert_eq!(hex::encode(codec::encode(&read)), "01100000000000000000000000000000012302ac0204014005");
        let vitals = Vitals { clock_off: Some(-1), certificates_end: None };
        assert_eq!(hex::encode(codec::encode(&vitals)), "01010100");
    }

    #[test]
    fn every_truncation_is_an_error() {
        let bytes = codec::encode(&put());
        for n in 0..bytes.len() {
            assert!(codec::decode::<Put>(&bytes[..n]).is_err(), "{n} of {} bytes", bytes.len());
        }
    }

    proptest! {
        #[test]
        fn messages_come_back(crcs: Vec<u32>, ids in 0_usize..20, present: Vec<bool>) {
            let message = Put { frame_crcs: crcs, ..put() };
            prop_assert_eq!(codec::decode::<Put>(&codec::encode(&message)).expect("its own bytes"), message);
            let stat = Stat { ids: vec![chunk(); ids] };
            prop_assert_eq!(codec::decode::<Stat>(&codec::encode(&stat)).expect("its own bytes"), stat);
            let answer = StatAnswer { present };
            prop_assert_eq!(codec::decode::<StatAnswer>(&codec::encode(&answer)).expect("its own bytes"), answer);
        }

        #[test]
        fn garbage_never_panics(bytes: Vec<u8>) {
            let _ = codec::decode::<Put>(&bytes);
            let _ = codec::decode::<Stat>(&bytes);
            let _ = codec::decode::<Forget>(&bytes);
            let _ = codec::decode::<Report>(&bytes);
            let _ = codec::decode::<Vitals>(&bytes);
            let _ = codec::decode::<Digests>(&bytes);
            let _ = codec::decode::<ListAnswer>(&bytes);
        }
    }
}
