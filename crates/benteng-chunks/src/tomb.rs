//! What the index keeps of chunks that are not here any more.

use benteng_journal::SegmentNo;
use bytes::{Buf, BufMut, Bytes};

const REMOVED: u8 = 1;
const EVICTED: u8 = 2;

/// What became of a chunk that is not here any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Grave {
    /// Its id is refused for ever.
    Removed,
    /// Others hold it; it may come back.
    Evicted,
}

/// A chunk that is not here any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Tomb {
    pub(crate) grave: Grave,
    /// Where its newest tombstone lies.
    pub(crate) at: SegmentNo,
    /// Segments that hold records of it: while one lives, the tombstone must, or a rebuilt
    /// index would show the chunk again.
    pub(crate) dead_in: Vec<SegmentNo>,
}

impl Tomb {
    pub(crate) fn encode(&self) -> Bytes {
        let mut out = vec![match self.grave {
            Grave::Removed => REMOVED,
            Grave::Evicted => EVICTED,
        }];
        out.put_u64_le(self.at.0);
        put_segments(&mut out, &self.dead_in);
        out.into()
    }

    pub(crate) fn decode(mut bytes: &[u8]) -> Option<Tomb> {
        if bytes.len() < 9 {
            return None;
        }
        let grave = match bytes.get_u8() {
            REMOVED => Grave::Removed,
            EVICTED => Grave::Evicted,
            _ => return None,
        };
        let (at, dead_in) = (SegmentNo(bytes.get_u64_le()), take_segments(&mut bytes)?);
        bytes.is_empty().then_some(Tomb { grave, at, dead_in })
    }
}

pub(crate) fn put_segments(out: &mut Vec<u8>, segments: &[SegmentNo]) {
    out.put_u16_le(u16::try_from(segments.len()).unwrap_or(u16::MAX));
    segments.iter().take(usize::from(u16::MAX)).for_each(|segment| out.put_u64_le(segment.0));
}

pub(crate) fn take_segments(bytes: &mut &[u8]) -> Option<Vec<SegmentNo>> {
    let n = usize::from(bytes.try_get_u16_le().ok()?);
    (0..n).map(|_| bytes.try_get_u64_le().ok().map(SegmentNo)).collect()
}
