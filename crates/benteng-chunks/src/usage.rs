//! Live bytes by segment: what cleaning and the operator look at.

use std::collections::BTreeMap;

use benteng_journal::{Place, SegmentNo};

/// How full a store is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Bytes of records of chunks that can be read.
    pub live_bytes: u64,
    /// Bytes of segments that hold nothing live: removed chunks, tombstones, copies.
    pub dead_bytes: u64,
    /// Chunks, quarantined ones included.
    pub chunks: u64,
    /// Quarantined chunks.
    pub quarantined: u64,
    /// Segments.
    pub segments: u64,
    /// Bytes free on the device.
    pub device_free: u64,
    /// Size of the device.
    pub device_total: u64,
    /// Whether the store refuses chunks (O6).
    pub under_reserve: bool,
    /// Stretches of the journal found unreadable at boot: chunks there are unknown here.
    pub damaged: u64,
}

/// Live chunks by segment.
#[derive(Clone, Debug, Default)]
pub(crate) struct Uses {
    by_segment: BTreeMap<SegmentNo, Use>,
    pub(crate) chunks: u64,
    pub(crate) live_bytes: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Use {
    bytes: u64,
    chunks: u64,
}

impl Uses {
    pub(crate) fn add(&mut self, place: &Place) {
        let one = self.by_segment.entry(place.segment).or_default();
        one.bytes += place.stored_len();
        one.chunks += 1;
        self.chunks += 1;
        self.live_bytes += place.stored_len();
    }

    pub(crate) fn subtract(&mut self, place: &Place) {
        if let Some(one) = self.by_segment.get_mut(&place.segment) {
            one.bytes = one.bytes.saturating_sub(place.stored_len());
            one.chunks = one.chunks.saturating_sub(1);
            if one.chunks == 0 {
                self.by_segment.remove(&place.segment);
            }
        }
        self.chunks = self.chunks.saturating_sub(1);
        self.live_bytes = self.live_bytes.saturating_sub(place.stored_len());
    }

    /// Bytes of live chunks in a segment.
    pub(crate) fn bytes(&self, segment: SegmentNo) -> u64 {
        self.by_segment.get(&segment).map_or(0, |one| one.bytes)
    }

    /// Live chunks in a segment.
    pub(crate) fn chunks_in(&self, segment: SegmentNo) -> u64 {
        self.by_segment.get(&segment).map_or(0, |one| one.chunks)
    }
}
