//! Records into the bytes of one write. Bodies that come as ciphertext are passed on
//! slice by slice, never copied.

use bytes::{BufMut, Bytes, BytesMut};

use crate::cipher::RecordCipher;
use crate::record::{ALIGN, Header, Life, Place, Position, SegmentNo, aad, crc32c, flag, stored_len};

/// Sealed bodies below this are copied into the batch's buffer: fewer slices to write.
const COPY_MAX: usize = 16 << 10;

/// A body on its way to the disk.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Stored<'a> {
    /// To be sealed.
    Seal(&'a [u8]),
    /// Ciphertext and its CRC32C.
    Raw(&'a [Bytes], u32),
    /// No body, and no seal (claims).
    Empty,
}

impl Stored<'_> {
    /// Length on disk.
    pub(crate) fn len(&self, cipher: &dyn RecordCipher) -> u64 {
        match self {
            Stored::Seal(plain) => (plain.len() + cipher.overhead()) as u64,
            Stored::Raw(parts, _) => parts.iter().map(|part| part.len() as u64).sum(),
            Stored::Empty => 0,
        }
    }
}

/// Collects records for one write into one segment.
pub(crate) struct Encoder<'a> {
    pub(crate) segment: SegmentNo,
    pub(crate) life: Life,
    pub(crate) boot: u32,
    pub(crate) cipher: &'a dyn RecordCipher,
    pub(crate) claim: Position,
    /// Where the next record goes.
    pub(crate) offset: u64,
    /// Its number.
    pub(crate) number: u64,
    parts: Vec<Bytes>,
    buffer: BytesMut,
}

impl<'a> Encoder<'a> {
    pub(crate) fn new(
        segment: SegmentNo,
        life: Life,
        boot: u32,
        cipher: &'a dyn RecordCipher,
        claim: Position,
        (offset, number): (u64, u64),
    ) -> Encoder<'a> {
        Encoder {
            segment,
            life,
            boot,
            cipher,
            claim,
            offset,
            number,
            parts: Vec::new(),
            buffer: BytesMut::new(),
        }
    }

    /// Bytes that a record would take.
    pub(crate) fn measure(&self, tag: &[u8], body: &Stored<'_>) -> u64 {
        stored_len(tag.len(), body.len(self.cipher))
    }

    /// Adds a record; returns its place.
    pub(crate) fn push(&mut self, kind: u8, flags: u8, tag: &[u8], body: &Stored<'_>) -> Place {
        let flags = if matches!(body, Stored::Seal(_)) { flags | flag::SEALED } else { flags };
        let sealed = match body {
            Stored::Seal(plain) => self.cipher.seal(self.number, &aad(kind, flags, tag), plain),
            Stored::Raw(..) | Stored::Empty => Bytes::new(),
        };
        let (parts, body_crc) = match body {
            Stored::Seal(_) => (std::slice::from_ref(&sealed), crc32c([&sealed[..]])),
            Stored::Raw(parts, crc) => (*parts, *crc),
            Stored::Empty => (&[][..], crc32c([])),
        };
        let body_len: usize = parts.iter().map(Bytes::len).sum();
        let header = Header {
            kind,
            flags,
            tag_len: u16::try_from(tag.len()).expect("tags are at most 1 KiB: checked by submit"),
            body_len: u32::try_from(body_len).expect("records are at most 64 MiB: checked by submit"),
            boot: self.boot,
            life: self.life,
            body_crc,
            number: self.number,
            claim: self.claim,
        };
        self.buffer.put_slice(&header.encode(tag));
        self.buffer.put_slice(tag);
        for part in parts {
            if header.is_sealed() && part.len() < COPY_MAX {
                self.buffer.put_slice(part);
            } else if !part.is_empty() {
                self.flush();
                self.parts.push(part.clone());
            }
        }
        let unpadded = (header.body_at() + body_len) as u64;
        let padding = unpadded.next_multiple_of(ALIGN) - unpadded;
        self.buffer.put_bytes(0, usize::try_from(padding).expect("less than 16"));
        let place = header.place(self.segment, self.offset);
        self.offset = place.end();
        self.number += 1;
        place
    }

    fn flush(&mut self) {
        if !self.buffer.is_empty() {
            self.parts.push(self.buffer.split().freeze());
        }
    }

    /// The slices to write, and where the records end: offset and number of the next one.
    pub(crate) fn finish(mut self) -> (Vec<Bytes>, (u64, u64)) {
        self.flush();
        (self.parts, (self.offset, self.number))
    }
}
