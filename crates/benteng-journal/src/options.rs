//! How a journal behaves: sizes, replay, what each checkpoint carries.

use std::time::Duration;

use crate::record::{MAX_RECORD_BYTES, SegmentNo};
use crate::segment::HEADER_BYTES;

/// Settings of one journal. They may change from boot to boot.
#[derive(Clone, Debug)]
pub struct Options {
    /// Size to which segments are preallocated, in bytes; at least 16 KiB. One record
    /// larger than a segment gets a segment of its own size.
    pub segment_bytes: u64,
    /// Zeroed segments kept ready: room that a full device cannot take away (O6).
    pub spares: usize,
    /// Bound of what is submitted and not yet durable, in bytes; beyond it `submit` waits.
    pub queue_bytes: u64,
    /// Bound of one batch (one fsync), in bytes; a larger record is a batch of its own.
    pub batch_bytes: u64,
    /// How long after a lone batch the record follows that claims it (J3).
    pub claim_after: Duration,
    /// What `open` hands to the visitor.
    pub replay: Replay,
    /// Sealed segments below this one are not replayed: the caller has their contents elsewhere.
    pub replay_from: SegmentNo,
    /// Kinds whose newest record is carried into the checkpoint at each segment's start.
    pub sticky: Vec<Sticky>,
    /// Which segments may be released.
    pub release: ReleaseOrder,
    /// What `open` does about damaged records.
    pub on_damage: OnDamage,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            segment_bytes: 64 << 20,
            spares: 1,
            queue_bytes: 16 << 20,
            batch_bytes: 4 << 20,
            claim_after: Duration::from_millis(10),
            replay: Replay::Bodies,
            replay_from: SegmentNo(0),
            sticky: Vec::new(),
            release: ReleaseOrder::OldestFirst,
            on_damage: OnDamage::Fail,
        }
    }
}

impl Options {
    /// Room at the end of a segment that only claims and releases may use, so that they
    /// never need a new segment: a full device would otherwise block its own cure (J6).
    pub(crate) const CONTROL_BYTES: u64 = 4096;

    /// Smallest useful segment.
    pub(crate) const SEGMENT_BYTES_MIN: u64 = 4 * HEADER_BYTES;

    pub(crate) fn checked(mut self) -> Options {
        self.segment_bytes = self.segment_bytes.max(Options::SEGMENT_BYTES_MIN);
        // The queue is counted in semaphore permits, of which one request takes at most u32::MAX.
        self.queue_bytes = self.queue_bytes.clamp(64 << 10, 2 << 30);
        self.batch_bytes = self.batch_bytes.clamp(4 << 10, MAX_RECORD_BYTES);
        self
    }
}

/// What `open` hands to the visitor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replay {
    /// Tags and opened bodies; every checksum is verified.
    Bodies,
    /// Tags only; bodies are neither read nor verified.
    TagsOnly,
}

/// A kind whose newest record outlives its segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sticky {
    /// The kind, 1 to 127.
    pub kind: u8,
    /// How much of the record is carried.
    pub what: Carry,
}

/// How much of a sticky record a checkpoint carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carry {
    /// Tag and body.
    Whole,
    /// The tag alone.
    TagOnly,
}

/// Which segments may be released.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReleaseOrder {
    /// Only a prefix of the journal (J5: a log).
    OldestFirst,
    /// Any sealed segment (a store that cleans).
    Any,
}

/// What `open` does about damaged records (never about a foreign or headless journal).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnDamage {
    /// `open` fails with `Error::Damaged`.
    Fail,
    /// The damage is listed in `Opened.damaged`, and replay goes on behind it: for a store
    /// whose records stand alone and are repaired from peers.
    List,
}
