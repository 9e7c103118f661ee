//! What a chunk is: opaque bytes in frames, each with the checksum that the sealing
//! gateway made. The tag v1 stands before the bytes in the journal's record.

use std::ops::Range;

use benteng_meta::ids::{ChunkId, Incarnation, NodeId, Origin, StateSeq};
use bytes::{Buf, BufMut, Bytes};
use crc_fast::{CrcAlgorithm, Digest};

use crate::error::Error;

/// Longest chunk in bytes: 4 MiB and an authentication tag for each of 64 frames.
pub(crate) const CHUNK_BYTES_MAX: u64 = (4 << 20) + 64 * 16;
/// Frames of a chunk at most, so that their checksums fit the record's tag.
pub(crate) const FRAMES_MAX: usize = 128;

const VERSION: u8 = 1;
const FIXED: usize = 1 + ChunkId::BYTES + 24 + 4 + 4;

/// A chunk to append.
#[derive(Clone, Debug)]
pub struct NewChunk {
    /// Its id, never used for other bytes.
    pub id: ChunkId,
    /// The gateway process that wrote it (O1).
    pub origin: Origin,
    /// Ciphertext bytes of each frame but the last.
    pub frame_bytes: u32,
    /// CRC32C of each frame, made by the sealing gateway (I4).
    pub frame_crcs: Vec<u32>,
    /// Ciphertext, 1 B to 4 MiB + 1 KiB, in slices.
    pub bytes: Vec<Bytes>,
}

/// What a store knows of a chunk without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChunkInfo {
    /// Ciphertext bytes.
    pub len: u32,
    /// Ciphertext bytes of each frame but the last.
    pub frame_bytes: u32,
    /// Number of frames.
    pub frames: u32,
    /// The gateway process that wrote it (O1).
    pub origin: Origin,
    /// Found damaged here: a peer's copy must replace it.
    pub quarantined: bool,
}

/// All of a chunk but its bytes: with them a peer can append it verbatim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChunkHeader {
    /// Its id.
    pub id: ChunkId,
    /// The gateway process that wrote it.
    pub origin: Origin,
    /// Ciphertext bytes.
    pub len: u32,
    /// Ciphertext bytes of each frame but the last.
    pub frame_bytes: u32,
    /// CRC32C of each frame.
    pub frame_crcs: Vec<u32>,
}

impl ChunkHeader {
    /// Holds a new chunk against the rules and its checksums; returns its header.
    pub(crate) fn verified(chunk: &NewChunk) -> Result<ChunkHeader, Error> {
        let id = chunk.id;
        let refuse = |why| Error::Malformed { chunk: id, why };
        let len: u64 = chunk.bytes.iter().map(|part| part.len() as u64).sum();
        if len == 0 || len > CHUNK_BYTES_MAX {
            return Err(refuse("its length is not 1 B to 4 MiB + 1 KiB"));
        }
        let len = u32::try_from(len).map_err(|_| refuse("its length is not 1 B to 4 MiB + 1 KiB"))?;
        let header = ChunkHeader {
            id,
            origin: chunk.origin,
            len,
            frame_bytes: chunk.frame_bytes,
            frame_crcs: chunk.frame_crcs.clone(),
        };
        if !header.is_sound() {
            return Err(refuse("its frames do not add up to its length, or are too many"));
        }
        match header.bad_frame(0, &chunk.bytes) {
            Some(frame) => Err(Error::BadFrame { chunk: id, frame }),
            None => Ok(header),
        }
    }

    fn is_sound(&self) -> bool {
        let frames = self.frame_crcs.len();
        self.len > 0
            && self.frame_bytes > 0
            && frames <= FRAMES_MAX
            && frames as u64 == u64::from(self.len).div_ceil(u64::from(self.frame_bytes))
    }

    /// How many frames.
    pub fn frames(&self) -> u32 {
        u32::try_from(self.frame_crcs.len()).expect("at most 128 frames: checked where headers are made")
    }

    /// Where the bytes of some frames lie in the chunk: offset and length.
    pub(crate) fn extent(&self, frames: &Range<u32>) -> Result<(u32, u32), Error> {
        if frames.start >= frames.end || frames.end > self.frames() {
            let (start, end) = (frames.start, frames.end);
            return Err(Error::Range { chunk: self.id, frames: self.frames(), start, end });
        }
        let from = frames.start * self.frame_bytes;
        let to = (u64::from(frames.end) * u64::from(self.frame_bytes)).min(u64::from(self.len));
        Ok((from, u32::try_from(to).expect("within the chunk's length") - from))
    }

    /// The first frame, from `first` on, whose bytes in `parts` fail their checksum.
    pub(crate) fn bad_frame(&self, first: u32, parts: &[Bytes]) -> Option<u32> {
        let frame_bytes = usize::try_from(self.frame_bytes).unwrap_or(usize::MAX);
        let mut frame = first;
        let mut digest = Digest::new(CrcAlgorithm::Crc32Iscsi);
        let mut inside = 0;
        let matches = |frame: u32, digest: &Digest| {
            let index = usize::try_from(frame).unwrap_or(usize::MAX);
            self.frame_crcs.get(index).is_some_and(|crc| u64::from(*crc) == digest.finalize())
        };
        for part in parts {
            let mut rest = &part[..];
            while !rest.is_empty() {
                let n = rest.len().min(frame_bytes - inside);
                digest.update(&rest[..n]);
                inside += n;
                rest = &rest[n..];
                if inside == frame_bytes {
                    if !matches(frame, &digest) {
                        return Some(frame);
                    }
                    digest.reset();
                    (frame, inside) = (frame + 1, 0);
                }
            }
        }
        (inside > 0 && !matches(frame, &digest)).then_some(frame)
    }

    pub(crate) fn info(&self, quarantined: bool) -> ChunkInfo {
        ChunkInfo {
            len: self.len,
            frame_bytes: self.frame_bytes,
            frames: self.frames(),
            origin: self.origin,
            quarantined,
        }
    }

    /// The tag v1 of the chunk's record.
    pub(crate) fn encode(&self) -> Bytes {
        let mut out = Vec::with_capacity(FIXED + 4 * self.frame_crcs.len());
        out.put_u8(VERSION);
        out.put_slice(&self.id.to_bytes());
        out.put_u64_le(self.origin.node.0);
        out.put_u64_le(self.origin.incarnation.0);
        out.put_u64_le(self.origin.began.0);
        out.put_u32_le(self.len);
        out.put_u32_le(self.frame_bytes);
        self.frame_crcs.iter().for_each(|crc| out.put_u32_le(*crc));
        out.into()
    }

    /// Reads a tag; `None`: these bytes are none of version 1.
    pub(crate) fn decode(mut tag: &[u8]) -> Option<ChunkHeader> {
        if tag.len() < FIXED || !(tag.len() - FIXED).is_multiple_of(4) || tag.get_u8() != VERSION {
            return None;
        }
        let (id, mut rest) = tag.split_at(ChunkId::BYTES);
        let id = ChunkId::from_bytes(id)?;
        let origin = Origin {
            node: NodeId(rest.get_u64_le()),
            incarnation: Incarnation(rest.get_u64_le()),
            began: StateSeq(rest.get_u64_le()),
        };
        let (len, frame_bytes) = (rest.get_u32_le(), rest.get_u32_le());
        let (crcs, _) = rest.as_chunks::<4>();
        let frame_crcs = crcs.iter().map(|crc| u32::from_le_bytes(*crc)).collect();
        let header = ChunkHeader { id, origin, len, frame_bytes, frame_crcs };
        header.is_sound().then_some(header)
    }
}

/// Ids that fit one tombstone record's tag.
pub(crate) const IDS_PER_RECORD: usize = 32;

/// The tag of a tombstone record: a version byte, then ids.
pub(crate) fn encode_ids(ids: &[ChunkId]) -> Bytes {
    let mut out = Vec::with_capacity(1 + ids.len() * ChunkId::BYTES);
    out.put_u8(VERSION);
    ids.iter().for_each(|id| out.put_slice(&id.to_bytes()));
    out.into()
}

/// `None`: these bytes are no tombstone tag of version 1.
pub(crate) fn decode_ids(tag: &[u8]) -> Option<Vec<ChunkId>> {
    let (version, ids) = tag.split_first()?;
    let (ids, rest) = ids.as_chunks::<{ ChunkId::BYTES }>();
    (*version == VERSION && rest.is_empty())
        .then(|| ids.iter().filter_map(|id| ChunkId::from_bytes(id)).collect())
}
