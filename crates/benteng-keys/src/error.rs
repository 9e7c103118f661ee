//! What can go wrong with keys and sealed bytes, and what to do about it.

use benteng_meta::ids::{BlobId, KekVersion};

/// Result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// A key or sealed bytes were refused. No variant carries secret bytes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// AEAD failed on the sealed root key: another passphrase, or the sealed key is damaged.
    #[error(
        "the passphrase does not open the sealed root key; try again, or restore the sealed key from backup"
    )]
    WrongPassphrase,
    /// The key file is not what [`crate::RootKey::to_file_text`] writes.
    #[error("the root key file is not readable: {reason}; restore it from where it was kept")]
    KeyFile {
        /// What is wrong with it (never its contents).
        reason: &'static str,
    },
    /// The text or bytes of a sealed root key do not parse.
    #[error("the sealed root key is not readable: {reason}; restore it from backup")]
    SealedRoot {
        /// What is wrong with it.
        reason: &'static str,
    },
    /// Stored bytes have a format version that this build does not know.
    #[error("{what} has format version {version}, this build reads {known}; upgrade this node")]
    Version {
        /// The kind of bytes.
        what: &'static str,
        /// The version found.
        version: u8,
        /// The newest version that this build reads.
        known: u8,
    },
    /// A wrapped key does not open under the key that should have wrapped it.
    #[error("the wrapped {what} does not authenticate; the row is damaged or belongs to another owner")]
    Unwrap {
        /// `key-encryption key`, `bucket key`, `data key` or `CA key`.
        what: &'static str,
    },
    /// The key opened, but is not the one whose check value stands beside it.
    #[error("the {what} fails its key-check value; it is not the key that was stored")]
    Check {
        /// The kind of key.
        what: &'static str,
    },
    /// A key-encryption key of this version is not loaded (or was destroyed).
    #[error(
        "key-encryption key version {version} is not loaded; unseal the node, or the version was destroyed"
    )]
    UnknownKek {
        /// The version asked for.
        version: KekVersion,
    },
    /// A different key is already loaded under this version.
    #[error(
        "key-encryption key version {version} is loaded with another key; the state is damaged, stop and restore"
    )]
    KekConflict {
        /// The version.
        version: KekVersion,
    },
    /// Body ciphertext does not authenticate (I4): damage, or it belongs elsewhere.
    #[error("frame {frame} of chunk {sequence} of blob {blob} does not authenticate; read another copy")]
    Frame {
        /// The blob being read.
        blob: BlobId,
        /// Sequence of the chunk in the attempt.
        sequence: u32,
        /// Frame within the chunk.
        frame: u32,
    },
    /// Body ciphertext has a length that no frames of this chunk have.
    #[error(
        "{len} bytes from frame {first_frame} of chunk {sequence} of blob {blob} are not whole frames of it; \
             read another copy"
    )]
    FrameBounds {
        /// The blob being read.
        blob: BlobId,
        /// Sequence of the chunk in the attempt.
        sequence: u32,
        /// First frame asked for.
        first_frame: u32,
        /// Bytes given.
        len: usize,
    },
    /// An inline body does not authenticate (I4).
    #[error("the inline body of blob {blob} does not authenticate; rebuild this node's state from a peer")]
    Inline {
        /// The blob being read.
        blob: BlobId,
    },
    /// A sealed value of the ordered store does not authenticate (S6: never a rejection).
    #[error(
        "a stored value of {len} bytes does not authenticate; rebuild this node's state from log and peers"
    )]
    Value {
        /// Length of the sealed value in bytes.
        len: usize,
    },
    /// A sealed value names a salt that was never loaded.
    #[error("a stored value names salt {number}, which is not loaded; its salt record is missing")]
    UnknownSalt {
        /// The number of the salt.
        number: u32,
    },
    /// A journal record does not authenticate.
    #[error("journal record {record} does not authenticate; the segment is damaged")]
    Record {
        /// Number of the record in its segment.
        record: u64,
    },
    /// Certificates could not be made or read.
    #[error("certificate of {subject}: {reason}")]
    Certificate {
        /// Whose certificate.
        subject: String,
        /// What the library says.
        reason: String,
    },
    /// Argon2 refused its parameters or had no memory.
    #[error(
        "Argon2id with {memory_kib} KiB, {passes} passes, {lanes} lanes is refused; use the default cost"
    )]
    Cost {
        /// Memory in KiB.
        memory_kib: u32,
        /// Passes over the memory.
        passes: u32,
        /// Lanes.
        lanes: u32,
    },
}
