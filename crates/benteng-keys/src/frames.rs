//! Bodies: one attempt at one part becomes sealed chunks of frames, and back.
//!
//! Each frame of 64 KiB is AES-256-GCM (the STREAM construction of Hoang, Reyhanitabar,
//! Rogaway and Vizár, CRYPTO 2015). Nonce = 7-byte prefix | 32-bit frame counter | last flag.
//! The counter runs through the whole part and never restarts at a chunk (K2); the flag
//! stands on the part's last frame, so a cut part does not open. AAD = format version, blob,
//! part, attempt, chunk sequence: a frame opens nowhere but at its own place.

use benteng_host::planted::{Bug, planted};
use benteng_meta::ids::{Attempt, BlobId, ChunkId, PartNumber};
use bytes::{Bytes, BytesMut};
use crc_fast::{CrcAlgorithm, checksum};

use crate::aead::{Cipher, NONCE};
use crate::error::{Error, Result};
use crate::layout::{CHUNK_FRAMES, CHUNK_PLAIN, FRAME_CIPHER, FRAME_PLAIN, PartLayout, TAG};
use crate::wrap::PartKey;

const FRAME_VERSION: u8 = 1;

/// Ciphertext of one chunk. Only [`Sealer::seal_chunk`] makes one and the replica fan-out
/// takes nothing else, so plaintext reaches no disk or wire (I5).
///
/// ```compile_fail,E0451
/// fn leak(chunk: benteng_meta::ids::ChunkId, plain: bytes::Bytes) -> benteng_keys::Sealed {
///     benteng_keys::Sealed { chunk, frame_crcs: vec![], bytes: plain }
/// }
/// ```
#[derive(Clone, Debug)]
pub struct Sealed {
    /// The chunk.
    pub chunk: ChunkId,
    /// CRC32C of each sealed frame, in order: what replicas verify before their fsync (I4).
    pub frame_crcs: Vec<u32>,
    bytes: Bytes,
}

impl Sealed {
    /// The ciphertext: frames with their tags, one after another. Cheap to clone.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The ciphertext, by value.
    pub fn into_bytes(self) -> Bytes {
        self.bytes
    }
}

/// Whether a chunk ends its part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Last {
    /// More chunks follow.
    No,
    /// The part ends with this chunk.
    Yes,
}

/// What the frames of one attempt have in common.
struct Frames {
    cipher: Cipher,
    prefix: [u8; 7],
    blob: BlobId,
    part: PartNumber,
    attempt: Attempt,
}

impl Frames {
    fn new(key: PartKey, blob: BlobId, part: PartNumber, attempt: Attempt) -> Frames {
        // Taken apart, so that our copy of the key is wiped here.
        let PartKey { key, prefix } = key;
        Frames { cipher: Cipher::new(&key), prefix, blob, part, attempt }
    }

    fn chunk(&self, sequence: u32) -> ChunkId {
        ChunkId { blob: self.blob, part: self.part, attempt: self.attempt, sequence }
    }

    fn nonce(&self, counter: u32, last: bool) -> [u8; NONCE] {
        let mut nonce = [0; NONCE];
        nonce[..7].copy_from_slice(&self.prefix);
        nonce[7..11].copy_from_slice(&counter.to_be_bytes());
        nonce[11] = u8::from(last);
        nonce
    }

    /// version | chunk id (blob, part, attempt, sequence): 31 bytes.
    fn aad(&self, sequence: u32) -> [u8; 1 + ChunkId::BYTES] {
        let mut aad = [FRAME_VERSION; 1 + ChunkId::BYTES];
        aad[1..].copy_from_slice(&self.chunk(sequence).to_bytes());
        aad
    }
}

/// Counts frames through the whole part (K2): the 32-bit counter of frame `frame` of chunk
/// `sequence`, `None` beyond 2^32 frames.
fn counter(sequence: u32, frame: u32) -> Option<u32> {
    let per_chunk = u32::try_from(CHUNK_FRAMES).ok()?;
    if planted(Bug::FrameCounterRestarts) {
        return Some(frame);
    }
    sequence.checked_mul(per_chunk)?.checked_add(frame)
}

/// Seals one attempt at one part, chunk after chunk. Not `Clone`: two of them under one key
/// would use nonces twice.
pub struct Sealer {
    frames: Frames,
    sequence: u32,
    ended: bool,
}

impl Sealer {
    /// Seals under `part_key`, which must have been drawn (by its salt) for this attempt alone.
    pub fn new(part_key: PartKey, blob: BlobId, part: PartNumber, attempt: Attempt) -> Sealer {
        Sealer { frames: Frames::new(part_key, blob, part, attempt), sequence: 0, ended: false }
    }

    /// The sequence that the next chunk will have.
    pub fn next_sequence(&self) -> u32 {
        self.sequence
    }

    /// Seals the next chunk in one pass: each frame is copied once, encrypted in place and
    /// checksummed while it is in the CPU's cache (~1 ms per 4 MiB: yield between chunks).
    ///
    /// `plain`: pieces of the body in order, 1 B to 4 MiB together; less than 4 MiB only with
    /// `Last::Yes`. An empty part has no chunk at all.
    /// Panics (K2) on a chunk after the last, and on lengths that no chunk has.
    pub fn seal_chunk(&mut self, plain: impl IntoIterator<Item = Bytes>, last: Last) -> Sealed {
        assert!(!self.ended, "K2: chunk {} follows the last one", self.frames.chunk(self.sequence));
        let sequence = self.sequence;
        let aad = self.frames.aad(sequence);
        let pieces: Vec<Bytes> = plain.into_iter().collect();
        let len: usize = pieces.iter().map(Bytes::len).sum();
        let right = if last == Last::Yes { (1..=CHUNK_PLAIN).contains(&len) } else { len == CHUNK_PLAIN };
        assert!(right, "K2: chunk {} has {len} plaintext bytes, {last:?}", self.frames.chunk(sequence));

        let count = len.div_ceil(FRAME_PLAIN);
        let mut out = BytesMut::with_capacity(len + count * TAG);
        let mut frame_crcs = Vec::with_capacity(count);
        let mut source = Source { pieces: pieces.into_iter(), rest: Bytes::new() };
        for frame in 0..count {
            let start = out.len();
            let take = FRAME_PLAIN.min(len - frame * FRAME_PLAIN);
            source.copy_to(&mut out, take);
            let number = u32::try_from(frame).ok().and_then(|frame| counter(sequence, frame));
            let number = number.expect("K2: a part has at most 2^32 frames, 256 TiB");
            let is_last = last == Last::Yes && frame + 1 == count;
            let tag = self.frames.cipher.seal(self.frames.nonce(number, is_last), &aad, &mut out[start..]);
            out.extend_from_slice(&tag);
            frame_crcs.push(crc32c(&out[start..]));
        }
        self.sequence += 1;
        self.ended = last == Last::Yes;
        Sealed { chunk: self.frames.chunk(sequence), frame_crcs, bytes: out.freeze() }
    }
}

/// Pieces of a body, read as one run of bytes.
struct Source {
    pieces: std::vec::IntoIter<Bytes>,
    rest: Bytes,
}

impl Source {
    /// Moves the next `n` bytes behind `out`; the caller knows that there are so many.
    fn copy_to(&mut self, out: &mut BytesMut, mut n: usize) {
        while n > 0 {
            while self.rest.is_empty() {
                self.rest = self.pieces.next().expect("the pieces were counted before");
            }
            let piece = self.rest.split_to(n.min(self.rest.len()));
            out.extend_from_slice(&piece);
            n -= piece.len();
        }
    }
}

/// CRC32C of a sealed frame.
fn crc32c(bytes: &[u8]) -> u32 {
    u32::try_from(checksum(CrcAlgorithm::Crc32Iscsi, bytes)).expect("a 32-bit checksum fits")
}

/// Opens frames of one attempt at one part, in any order, as readers fetch them.
pub struct Opener {
    frames: Frames,
    layout: PartLayout,
}

impl Opener {
    /// Opens under `part_key`; `part_plain_len` is what the metadata says of the part, and
    /// tells which frame must carry the last flag.
    pub fn new(
        part_key: PartKey,
        blob: BlobId,
        part: PartNumber,
        attempt: Attempt,
        part_plain_len: u64,
    ) -> Opener {
        Opener { frames: Frames::new(part_key, blob, part, attempt), layout: PartLayout::new(part_plain_len) }
    }

    /// How the part lies in chunks and frames.
    pub fn layout(&self) -> PartLayout {
        self.layout
    }

    /// Opens whole consecutive frames of chunk `sequence`, from `first_frame` on.
    ///
    /// In place if `ciphertext` is the only handle of its buffer, else in one copy.
    /// Errors: `FrameBounds` if the bytes are not whole frames of that chunk; `Frame` if one
    /// does not authenticate: flipped, reordered, cut, or of another place (I4). Nothing of
    /// the plaintext is returned then.
    pub fn open_frames(&self, sequence: u32, first_frame: u32, ciphertext: Bytes) -> Result<Bytes> {
        let blob = self.frames.blob;
        let bounds = Error::FrameBounds { blob, sequence, first_frame, len: ciphertext.len() };
        let mut buffer = ciphertext.try_into_mut().unwrap_or_else(|shared| BytesMut::from(&shared[..]));
        let aad = self.frames.aad(sequence);
        let frames_of_part = self.layout.frames();
        let (mut read, mut written, mut frame) = (0, 0, first_frame);
        if buffer.is_empty() {
            return Err(bounds);
        }
        while read < buffer.len() {
            let plain = self.layout.frame_plain(sequence, frame);
            let end = read + plain + TAG;
            let number = counter(sequence, frame);
            let (Some(number), true, true) = (number, plain > 0, end <= buffer.len()) else {
                return Err(bounds);
            };
            let is_last = u64::from(number) + 1 == frames_of_part;
            let nonce = self.frames.nonce(number, is_last);
            // The gap left by the tags before it closes as each frame is opened towards the front.
            self.frames
                .cipher
                .open_within(nonce, &aad, &mut buffer[written..end], read - written)
                .map_err(|_| Error::Frame { blob, sequence, frame })?;
            read = end;
            written += plain;
            frame += 1;
        }
        buffer.truncate(written);
        Ok(buffer.freeze())
    }
}

/// Whether `crcs` are the CRC32C of the frames in `ciphertext`, one each: what a replica
/// verifies before its fsync, without any key (I4).
pub fn frame_crcs_match(ciphertext: &[u8], crcs: &[u32]) -> bool {
    let frames = ciphertext.chunks(FRAME_CIPHER);
    frames.len() == crcs.len() && frames.zip(crcs).all(|(frame, &crc)| crc32c(frame) == crc)
}

#[cfg(test)]
mod tests;
