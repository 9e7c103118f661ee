//! What can go wrong in the chunk store, on which object, and what to do about it.

use std::path::PathBuf;

use benteng_journal::SegmentNo;
use benteng_meta::ids::ChunkId;

/// A request to the chunk store failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The device is under its reserve (O6); nothing was written.
    #[error(
        "the chunk store is read-only with {free} of {total} bytes free; add a disk or delete objects, it resumes by itself"
    )]
    Full {
        /// Bytes free on the device.
        free: u64,
        /// Size of the device.
        total: u64,
    },
    /// The chunk has been removed; its id is never used again.
    #[error("chunk {chunk} has been removed; look the object's row up again")]
    Removed {
        /// The chunk.
        chunk: ChunkId,
    },
    /// This store has no such chunk.
    #[error("chunk {chunk} is not in this store; ask another replica")]
    NotFound {
        /// The chunk.
        chunk: ChunkId,
    },
    /// Stored bytes are not what was appended; the chunk is quarantined, never served (I4).
    #[error(
        "chunk {chunk} is corrupt in segment {segment} at byte {offset}; \
         a peer's copy replaces it, follow `benteng scrub status`"
    )]
    Corrupt {
        /// The chunk.
        chunk: ChunkId,
        /// Where it lies.
        segment: SegmentNo,
        /// Byte of its record within the segment.
        offset: u64,
    },
    /// The id is taken by other bytes.
    #[error(
        "chunk {chunk} exists with other bytes; ids are never used twice, this is a mistake of the sender"
    )]
    Conflict {
        /// The chunk.
        chunk: ChunkId,
    },
    /// A frame does not match the checksum that its sender gave (I4); nothing was written.
    #[error("frame {frame} of chunk {chunk} was changed on its way; send it again")]
    BadFrame {
        /// The chunk.
        chunk: ChunkId,
        /// The frame.
        frame: u32,
    },
    /// The chunk's shape breaks the rules.
    #[error("chunk {chunk} is refused: {why}")]
    Malformed {
        /// The chunk.
        chunk: ChunkId,
        /// What is wrong.
        why: &'static str,
    },
    /// The frames asked for do not exist.
    #[error("chunk {chunk} has {frames} frames; {start}..{end} was asked for")]
    Range {
        /// The chunk.
        chunk: ChunkId,
        /// How many frames it has.
        frames: u32,
        /// First frame asked for.
        start: u32,
        /// Behind the last frame asked for.
        end: u32,
    },
    /// The store's identity is missing or unreadable while its journal is there.
    #[error("{} {why}; replace the node's store with `join --replace`", path.display())]
    Identity {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The store was closed, or its process is going down.
    #[error("the chunk store has stopped; restart the node")]
    Stopped,
    /// The journal below failed.
    #[error(transparent)]
    Journal(#[from] benteng_journal::Error),
    /// The machine failed.
    #[error("the chunk store cannot use its machine: {0}")]
    Io(#[from] benteng_host::Error),
}

impl Error {
    /// Whether the same request may succeed later, unchanged.
    pub fn is_retryable(&self) -> bool {
        match self {
            Error::Full { .. } => true,
            Error::Journal(source) => source.is_retryable(),
            Error::Io(source) => source.is_full(),
            _ => false,
        }
    }
}
