//! Arithmetic of parts, chunks and frames. A part is cut into chunks of 64 frames of 64 KiB;
//! only its last chunk and last frame may be shorter. Every frame grows by its tag.

use std::ops::Range;

/// Plaintext bytes of a full frame.
pub const FRAME_PLAIN: usize = 64 * 1024;
/// Bytes of a frame's authentication tag.
pub const TAG: usize = 16;
/// Ciphertext bytes of a full frame.
pub const FRAME_CIPHER: usize = FRAME_PLAIN + TAG;
/// Frames of a full chunk.
pub const CHUNK_FRAMES: usize = 64;
/// Plaintext bytes of a full chunk: 4 MiB.
pub const CHUNK_PLAIN: usize = CHUNK_FRAMES * FRAME_PLAIN;
/// Ciphertext bytes of a full chunk: 4 MiB + 1 KiB.
pub const CHUNK_CIPHER_MAX: usize = CHUNK_FRAMES * FRAME_CIPHER;

const FRAME_PLAIN_64: u64 = FRAME_PLAIN as u64;
const CHUNK_PLAIN_64: u64 = CHUNK_PLAIN as u64;

/// How a part of a given plaintext length lies in chunks and frames. An empty part has no
/// chunk: its length is authenticated by the metadata.
///
/// Lengths beyond [`PartLayout::PLAIN_MAX`] have no layout and are treated as that long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartLayout {
    plain_len: u64,
}

/// The bytes to fetch and open for a range within one chunk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Sequence of the chunk in the part.
    pub sequence: u32,
    /// Frames of the chunk that hold the bytes.
    pub frames: Range<u32>,
    /// Where those frames lie in the chunk's ciphertext, in bytes.
    pub cipher: Range<usize>,
    /// Plaintext bytes of the first frame that stand before the range.
    pub skip: usize,
    /// Plaintext bytes to take after `skip`.
    pub take: usize,
}

impl PartLayout {
    /// The longest part that the 32-bit frame counter can count: 256 TiB.
    pub const PLAIN_MAX: u64 = (1 << 32) * FRAME_PLAIN_64;

    /// Layout of a part of `plain_len` bytes.
    pub fn new(plain_len: u64) -> PartLayout {
        PartLayout { plain_len: plain_len.min(Self::PLAIN_MAX) }
    }

    /// Plaintext bytes of the part.
    pub fn plain_len(&self) -> u64 {
        self.plain_len
    }

    /// Number of chunks of the part; 0 if it is empty.
    pub fn chunks(&self) -> u32 {
        u32::try_from(self.plain_len.div_ceil(CHUNK_PLAIN_64)).expect("PLAIN_MAX has 2^26 chunks")
    }

    /// Number of frames of the part.
    pub fn frames(&self) -> u64 {
        self.plain_len.div_ceil(FRAME_PLAIN_64)
    }

    /// Plaintext bytes of chunk `sequence`; 0 if there is no such chunk.
    pub fn chunk_plain(&self, sequence: u32) -> usize {
        let left = self.plain_len.saturating_sub(u64::from(sequence) * CHUNK_PLAIN_64);
        usize::try_from(left.min(CHUNK_PLAIN_64)).expect("at most 4 MiB")
    }

    /// Frames of chunk `sequence`; 0 if there is no such chunk.
    pub fn chunk_frames(&self, sequence: u32) -> u32 {
        u32::try_from(self.chunk_plain(sequence).div_ceil(FRAME_PLAIN)).expect("at most 64")
    }

    /// Ciphertext bytes of chunk `sequence`; 0 if there is no such chunk.
    pub fn chunk_cipher(&self, sequence: u32) -> usize {
        let plain = self.chunk_plain(sequence);
        plain + plain.div_ceil(FRAME_PLAIN) * TAG
    }

    /// Ciphertext bytes of the whole part.
    pub fn cipher_len(&self) -> u64 {
        self.plain_len + self.frames() * TAG as u64
    }

    /// Plaintext bytes of frame `frame` of chunk `sequence`; 0 if there is no such frame.
    pub fn frame_plain(&self, sequence: u32, frame: u32) -> usize {
        let before = usize::try_from(frame).unwrap_or(usize::MAX).saturating_mul(FRAME_PLAIN);
        self.chunk_plain(sequence).saturating_sub(before).min(FRAME_PLAIN)
    }

    /// Where `frames` of chunk `sequence` lie in its ciphertext, in bytes; cut to the chunk.
    pub fn cipher_range(&self, sequence: u32, frames: Range<u32>) -> Range<usize> {
        let len = self.chunk_cipher(sequence);
        let at =
            |frame: u32| usize::try_from(frame).unwrap_or(usize::MAX).saturating_mul(FRAME_CIPHER).min(len);
        at(frames.start)..at(frames.end).max(at(frames.start))
    }

    /// What to fetch for `range` of the plaintext (cut to the part), in order, a piece per chunk.
    pub fn pieces(&self, range: Range<u64>) -> impl Iterator<Item = Piece> + use<> {
        let layout = *self;
        let end = range.end.min(layout.plain_len);
        let mut at = range.start;
        std::iter::from_fn(move || {
            if at >= end {
                return None;
            }
            let sequence = u32::try_from(at / CHUNK_PLAIN_64).expect("PLAIN_MAX has 2^26 chunks");
            let chunk_start = u64::from(sequence) * CHUNK_PLAIN_64;
            let piece_end = end.min(chunk_start + CHUNK_PLAIN_64);
            let within = |offset: u64| usize::try_from(offset - chunk_start).expect("at most 4 MiB");
            let (from, to) = (within(at), within(piece_end));
            let frame = |n: usize| u32::try_from(n).expect("at most 64");
            let frames = frame(from / FRAME_PLAIN)..frame(to.div_ceil(FRAME_PLAIN));
            at = piece_end;
            Some(Piece {
                sequence,
                cipher: layout.cipher_range(sequence, frames.clone()),
                frames,
                skip: from % FRAME_PLAIN,
                take: to - from,
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(plain_len: u64, chunks: u32, frames: u64, last_cipher: usize) {
        let layout = PartLayout::new(plain_len);
        assert_eq!(layout.chunks(), chunks, "chunks of {plain_len}");
        assert_eq!(layout.frames(), frames, "frames of {plain_len}");
        assert_eq!(layout.chunk_cipher(chunks.saturating_sub(1)), last_cipher, "last chunk of {plain_len}");
        let sum: u64 = (0..chunks).map(|s| layout.chunk_cipher(s) as u64).sum();
        assert_eq!(sum, layout.cipher_len(), "ciphertext of {plain_len}");
        assert_eq!(layout.chunk_cipher(chunks), 0, "no chunk behind the last of {plain_len}");
    }

    #[test]
    fn parts_are_cut_at_whole_frames_and_chunks() {
        let (f, c) = (FRAME_PLAIN_64, CHUNK_PLAIN_64);
        check(0, 0, 0, 0);
        check(1, 1, 1, 17);
        check(f, 1, 1, FRAME_CIPHER);
        check(f + 1, 1, 2, FRAME_CIPHER + 17);
        check(c - 1, 1, 64, CHUNK_CIPHER_MAX - 1);
        check(c, 1, 64, CHUNK_CIPHER_MAX);
        check(c + 1, 2, 65, 17);
        check(3 * c + 2 * f + 5, 4, 195, 2 * FRAME_CIPHER + 21);
    }

    #[test]
    fn lengths_beyond_the_counter_are_cut_and_do_not_panic() {
        let layout = PartLayout::new(u64::MAX);
        assert_eq!(layout.frames(), 1 << 32);
        assert_eq!(layout.chunks(), 1 << 26);
        assert_eq!(layout.chunk_plain(u32::MAX), 0);
        assert_eq!(layout.frame_plain(0, u32::MAX), 0);
        assert_eq!(layout.pieces(u64::MAX - 1..u64::MAX).count(), 0);
    }

    #[test]
    fn pieces_touch_only_the_frames_of_the_range() {
        let c = CHUNK_PLAIN_64;
        let layout = PartLayout::new(2 * c + 10);
        let got: Vec<_> = layout.pieces(c - 1..2 * c + 100).collect();
        let full = CHUNK_CIPHER_MAX;
        let want = vec![
            Piece {
                sequence: 0,
                frames: 63..64,
                cipher: full - FRAME_CIPHER..full,
                skip: FRAME_PLAIN - 1,
                take: 1,
            },
            Piece { sequence: 1, frames: 0..64, cipher: 0..full, skip: 0, take: CHUNK_PLAIN },
            Piece { sequence: 2, frames: 0..1, cipher: 0..26, skip: 0, take: 10 },
        ];
        assert_eq!(got, want);
        assert_eq!(layout.pieces(5..5).count(), 0);
    }
}
