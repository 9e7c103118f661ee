//! Records: what callers submit, where it lies, and the header v1 that stands before it.

use std::fmt;

use bytes::{BufMut, Bytes, BytesMut};
use crc_fast::{CrcAlgorithm, Digest};

/// Length of a record header in bytes.
pub(crate) const HEADER: usize = 64;
/// Records start at multiples of this, so that a scan behind damage finds them.
pub(crate) const ALIGN: u64 = 16;
/// Longest tag in bytes.
pub(crate) const MAX_TAG_BYTES: usize = 1024;
/// Longest record (header, tag, body, padding) in bytes.
pub(crate) const MAX_RECORD_BYTES: u64 = 64 << 20;

/// `BJR1`: the last byte is the version.
const MAGIC: [u8; 4] = *b"BJR1";

/// Kinds of the journal's own records; users have 1 to 127.
pub(crate) mod own {
    /// First record of each segment: the live segments.
    pub(crate) const BASE: u8 = 0x81;
    /// An empty record that claims what is durable before it (J3).
    pub(crate) const CLAIM: u8 = 0x82;
    /// Names segments that are released.
    pub(crate) const RELEASE: u8 = 0x83;
}

/// Number of a segment: from 1, ascending, never used twice in one journal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SegmentNo(pub u64);

impl fmt::Display for SegmentNo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What a record carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// Plaintext; the journal seals it.
    Seal(Bytes),
    /// Ciphertext already: stored as it is, slice after slice, without a copy.
    Raw(Vec<Bytes>),
}

impl Body {
    pub(crate) fn len(&self) -> u64 {
        match self {
            Body::Seal(plain) => plain.len() as u64,
            Body::Raw(parts) => parts.iter().map(|part| part.len() as u64).sum(),
        }
    }
}

/// One record to append.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// What it is to the caller: 1 to 127.
    pub kind: u8,
    /// Plain bytes beside the body, at most 1 KiB; covered by the header's checksum and,
    /// for sealed bodies, by the seal.
    pub tag: Bytes,
    /// The body, at most 64 MiB less the header.
    pub body: Body,
}

/// Where a record lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// The segment.
    pub segment: SegmentNo,
    /// Byte of the record's header within the segment's file.
    pub offset: u64,
    /// Length of the tag in bytes.
    pub tag_len: u16,
    /// Length of the body as stored (sealed bodies are longer than their plaintext).
    pub body_len: u32,
}

impl Place {
    /// Bytes that the record takes on disk, padding included.
    pub fn stored_len(&self) -> u64 {
        stored_len(usize::from(self.tag_len), u64::from(self.body_len))
    }

    /// First byte behind the record.
    pub fn end(&self) -> u64 {
        self.offset + self.stored_len()
    }
}

/// Bytes that a record takes on disk.
pub(crate) fn stored_len(tag_len: usize, body_len: u64) -> u64 {
    (HEADER as u64 + tag_len as u64 + body_len).next_multiple_of(ALIGN)
}

/// A position in the journal up to which something holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Position {
    pub(crate) segment: SegmentNo,
    pub(crate) offset: u64,
}

/// Which life of which segment a record belongs to (J5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Life {
    /// Low 64 bits of the segment's uuid.
    pub(crate) segment: u64,
    /// How often the file has been put to use.
    pub(crate) generation: u32,
}

/// Bits of [`Header::flags`].
pub(crate) mod flag {
    /// The body is sealed.
    pub(crate) const SEALED: u8 = 1;
    /// A copy of a sticky record in a checkpoint: state, not history.
    pub(crate) const STICKY_COPY: u8 = 2;
    /// Copied from the tail of the previous boot's segment (J4).
    pub(crate) const TAIL_COPY: u8 = 4;
    /// Every bit of version 1.
    pub(crate) const ALL: u8 = SEALED | STICKY_COPY | TAIL_COPY;
}

/// Record header v1 without its tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) tag_len: u16,
    pub(crate) body_len: u32,
    pub(crate) boot: u32,
    pub(crate) life: Life,
    pub(crate) body_crc: u32,
    /// Position within the segment, from 0; also the nonce (K1).
    pub(crate) number: u64,
    /// Everything before this was durable when the record was written (J1).
    pub(crate) claim: Position,
}

impl Header {
    /// The 64 bytes of the header, its checksum over them and `tag` included.
    pub(crate) fn encode(&self, tag: &[u8]) -> [u8; HEADER] {
        debug_assert_eq!(usize::from(self.tag_len), tag.len());
        let mut out = BytesMut::with_capacity(HEADER);
        out.put_slice(&MAGIC);
        out.put_u8(self.kind);
        out.put_u8(self.flags);
        out.put_u16_le(self.tag_len);
        out.put_u32_le(self.body_len);
        out.put_u32_le(self.boot);
        out.put_u64_le(self.life.segment);
        out.put_u32_le(self.life.generation);
        out.put_u32_le(self.body_crc);
        out.put_u64_le(self.number);
        out.put_u64_le(self.claim.segment.0);
        out.put_u64_le(self.claim.offset);
        out.put_u32_le(0);
        let crc = crc32c([&out[..], tag]);
        out.put_u32_le(crc);
        let mut bytes = [0; HEADER];
        bytes.copy_from_slice(&out);
        bytes
    }

    /// Reads the fixed part, without its checksum (the tag may not be there yet).
    /// `None`: these bytes cannot be a header of version 1.
    pub(crate) fn peek(bytes: &[u8; HEADER]) -> Option<Header> {
        if bytes[..4] != MAGIC || bytes[56..60] != [0; 4] {
            return None;
        }
        let header = Header {
            kind: bytes[4],
            flags: bytes[5],
            tag_len: u16::from_le_bytes(array(&bytes[6..8])),
            body_len: u32::from_le_bytes(array(&bytes[8..12])),
            boot: u32::from_le_bytes(array(&bytes[12..16])),
            life: Life {
                segment: u64::from_le_bytes(array(&bytes[16..24])),
                generation: u32::from_le_bytes(array(&bytes[24..28])),
            },
            body_crc: u32::from_le_bytes(array(&bytes[28..32])),
            number: u64::from_le_bytes(array(&bytes[32..40])),
            claim: Position {
                segment: SegmentNo(u64::from_le_bytes(array(&bytes[40..48]))),
                offset: u64::from_le_bytes(array(&bytes[48..56])),
            },
        };
        let plausible = usize::from(header.tag_len) <= MAX_TAG_BYTES
            && header.stored_len() <= MAX_RECORD_BYTES
            && header.flags & !flag::ALL == 0;
        plausible.then_some(header)
    }

    /// Reads a header and its tag from the start of `bytes`; `None` unless all of it is
    /// there and the checksum holds.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Header> {
        let fixed: &[u8; HEADER] = bytes.first_chunk()?;
        let header = Header::peek(fixed)?;
        let tag = bytes.get(HEADER..header.body_at())?;
        let crc = u32::from_le_bytes(array(&fixed[60..]));
        (crc == crc32c([&fixed[..60], tag])).then_some(header)
    }

    /// Where the body begins, counted from the header.
    pub(crate) fn body_at(&self) -> usize {
        HEADER + usize::from(self.tag_len)
    }

    /// Bytes on disk, padding included.
    pub(crate) fn stored_len(&self) -> u64 {
        stored_len(usize::from(self.tag_len), u64::from(self.body_len))
    }

    pub(crate) fn is_sealed(&self) -> bool {
        self.flags & flag::SEALED != 0
    }

    /// Whether it is a record of a caller, rather than one of ours or a carried copy.
    pub(crate) fn is_history(&self) -> bool {
        self.kind & 0x80 == 0 && self.flags & flag::STICKY_COPY == 0
    }

    pub(crate) fn place(&self, segment: SegmentNo, offset: u64) -> Place {
        Place { segment, offset, tag_len: self.tag_len, body_len: self.body_len }
    }
}

/// What a seal covers beside the body: kind, flags, length and bytes of the tag. Segment
/// and number are in key and nonce.
pub(crate) fn aad(kind: u8, flags: u8, tag: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(4 + tag.len());
    out.extend([kind, flags]);
    out.put_u16_le(u16::try_from(tag.len()).unwrap_or(u16::MAX));
    out.extend(tag);
    out
}

/// CRC32C over `parts`, one after another.
pub(crate) fn crc32c<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> u32 {
    let mut digest = Digest::new(CrcAlgorithm::Crc32Iscsi);
    for part in parts {
        digest.update(part);
    }
    u32::try_from(digest.finalize()).expect("a 32-bit checksum fits 32 bits")
}

/// A slice of known length as an array.
pub(crate) fn array<const N: usize>(bytes: &[u8]) -> [u8; N] {
    let mut out = [0; N];
    out.copy_from_slice(bytes);
    out
}
