//! The first record of each segment: which segments live, and where each one ends.
//!
//! It closes the previous segment (J4: at the last claimed offset, for a segment of an
//! earlier boot). A segment gets its name only after its base is durable, so the base
//! counts as claimed without any later record.

use bytes::{BufMut, Bytes};

use crate::record::{SegmentNo, array};

/// One live sealed segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Closed {
    pub(crate) number: SegmentNo,
    /// First byte behind its last record.
    pub(crate) end: u64,
    /// Records below `end`, ours included.
    pub(crate) records: u64,
    /// Those of them that callers submitted.
    pub(crate) history: u64,
}

impl Closed {
    /// A segment of which nothing is known but its number.
    pub(crate) fn empty(number: SegmentNo) -> Closed {
        Closed { number, end: 0, records: 0, history: 0 }
    }
}

/// Body of the base record.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Base {
    /// Records of this segment that were durable before it got its name, this one included.
    pub(crate) records: u64,
    /// Live sealed segments, ascending.
    pub(crate) live: Vec<Closed>,
}

const ENTRY: usize = 32;

impl Base {
    pub(crate) fn encode(&self) -> Bytes {
        let mut out = Vec::with_capacity(8 + self.live.len() * ENTRY);
        out.put_u64_le(self.records);
        for closed in &self.live {
            out.put_u64_le(closed.number.0);
            out.put_u64_le(closed.end);
            out.put_u64_le(closed.records);
            out.put_u64_le(closed.history);
        }
        out.into()
    }

    /// `None`: these bytes are no base.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Base> {
        let (records, rest) = bytes.split_first_chunk::<8>()?;
        if rest.len() % ENTRY != 0 {
            return None;
        }
        let live: Vec<Closed> = rest
            .chunks_exact(ENTRY)
            .map(|entry| Closed {
                number: SegmentNo(u64::from_le_bytes(array(&entry[..8]))),
                end: u64::from_le_bytes(array(&entry[8..16])),
                records: u64::from_le_bytes(array(&entry[16..24])),
                history: u64::from_le_bytes(array(&entry[24..])),
            })
            .collect();
        let ascending = live.windows(2).all(|pair| pair[0].number < pair[1].number);
        ascending.then_some(Base { records: u64::from_le_bytes(*records), live })
    }
}

/// Body of a release record: the segments that are no longer needed.
pub(crate) fn encode_release(segments: &[SegmentNo]) -> Bytes {
    let mut out = Vec::with_capacity(segments.len() * 8);
    for segment in segments {
        out.put_u64_le(segment.0);
    }
    out.into()
}

/// `None`: these bytes are no release.
pub(crate) fn decode_release(bytes: &[u8]) -> Option<Vec<SegmentNo>> {
    let (numbers, rest) = bytes.as_chunks::<8>();
    rest.is_empty().then(|| numbers.iter().map(|n| SegmentNo(u64::from_le_bytes(*n))).collect())
}
