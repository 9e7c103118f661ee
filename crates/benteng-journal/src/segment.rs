//! Segment files: their names and the header v1 at their start.
//!
//! A name tells the state: `<number>.seg` holds a durable header and base (it got this
//! name only afterwards), `<id>.spare` is ready for use, `<id>.new` was still being made
//! when the process ended and is removed at boot.

use bytes::{BufMut, Bytes, BytesMut};
use uuid::Uuid;

use crate::record::{Life, SegmentNo, array, crc32c};

/// Bytes before the first record: a block of its own, so that no record write touches it.
pub(crate) const HEADER_BYTES: u64 = 4096;
/// Bytes of the header that mean something.
const USED: usize = 120;
const MAGIC: [u8; 8] = *b"BENTJSEG";
const VERSION: u32 = 1;

/// Segment header v1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SegmentHeader {
    /// The store that wrote it.
    pub(crate) store: Uuid,
    /// Drawn anew each time the file is put to use (J5).
    pub(crate) uuid: Uuid,
    pub(crate) number: SegmentNo,
    /// How often the file has been put to use.
    pub(crate) generation: u32,
    /// The boot that began it; no other boot appends to it (J4).
    pub(crate) boot: u32,
    /// Salt of the segment's key (K1).
    pub(crate) salt: [u8; 32],
}

impl SegmentHeader {
    pub(crate) fn life(&self) -> Life {
        Life { segment: self.uuid.as_u64_pair().1, generation: self.generation }
    }

    /// The header as the file's first block.
    pub(crate) fn encode(&self) -> Bytes {
        let mut out = BytesMut::zeroed(0);
        out.reserve(usize::try_from(HEADER_BYTES).expect("4096 fits"));
        out.put_slice(&MAGIC);
        out.put_u32_le(VERSION);
        out.put_u32_le(self.generation);
        out.put_slice(self.store.as_bytes());
        out.put_slice(self.uuid.as_bytes());
        out.put_u64_le(self.number.0);
        out.put_u32_le(self.boot);
        out.put_u32_le(0);
        out.put_slice(&self.salt);
        out.put_bytes(0, USED - 4 - out.len());
        let crc = crc32c([&out[..]]);
        out.put_u32_le(crc);
        out.put_bytes(0, usize::try_from(HEADER_BYTES).expect("4096 fits") - USED);
        out.freeze()
    }

    /// Reads a header; the error says what is wrong with it.
    pub(crate) fn decode(bytes: &[u8]) -> Result<SegmentHeader, String> {
        let used = bytes.get(..USED).ok_or("the file is shorter than a segment header")?;
        if used[..8] != MAGIC {
            return Err("no segment header (wrong magic)".into());
        }
        if u32::from_le_bytes(array(&used[USED - 4..])) != crc32c([&used[..USED - 4]]) {
            return Err("the segment header fails its checksum".into());
        }
        let version = u32::from_le_bytes(array(&used[8..12]));
        if version != VERSION {
            return Err(format!("segment format {version} is not known to this release"));
        }
        Ok(SegmentHeader {
            generation: u32::from_le_bytes(array(&used[12..16])),
            store: Uuid::from_bytes(array(&used[16..32])),
            uuid: Uuid::from_bytes(array(&used[32..48])),
            number: SegmentNo(u64::from_le_bytes(array(&used[48..56]))),
            boot: u32::from_le_bytes(array(&used[56..60])),
            salt: array(&used[64..96]),
        })
    }
}

/// What a name in the journal's directory says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Name {
    /// A segment in use.
    Segment(SegmentNo),
    /// A file ready for use.
    Spare,
    /// A file that was never finished.
    Unfinished,
    /// Not ours.
    Other,
}

impl Name {
    pub(crate) fn parse(name: &str) -> Name {
        match name.rsplit_once('.') {
            Some((stem, "seg")) => segment_number(stem).map_or(Name::Other, Name::Segment),
            Some((_, "spare")) => Name::Spare,
            Some((_, "new")) => Name::Unfinished,
            _ => Name::Other,
        }
    }
}

fn segment_number(stem: &str) -> Option<SegmentNo> {
    let digits = stem.len() == 16 && stem.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    digits.then(|| u64::from_str_radix(stem, 16).ok()).flatten().map(SegmentNo)
}

/// Name of the file of a segment in use.
pub(crate) fn segment_name(number: SegmentNo) -> String {
    format!("{:016x}.seg", number.0)
}

/// Name of a spare file with this id.
pub(crate) fn spare_name(id: u64) -> String {
    format!("{id:016x}.spare")
}

/// Name of a file being made with this id.
pub(crate) fn unfinished_name(id: u64) -> String {
    format!("{id:016x}.new")
}
