//! A failed request to the machine: what was tried, on which object, and why not.

use std::io;

/// Result of a request to the machine.
pub type Result<T> = std::result::Result<T, Error>;

/// A request to the machine failed. The source keeps its errno, simulated ones too.
#[derive(Debug, thiserror::Error)]
#[error("{op} {object}: {source}")]
pub struct Error {
    /// What was tried: `write`, `fsync`, `connect`, …
    pub op: &'static str,
    /// On which file, address or key range.
    pub object: String,
    /// The machine's answer.
    pub source: io::Error,
}

impl Error {
    /// Names the operation and the object of a raw I/O error.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "callers hand over what they have: `&str`, `Display` of a path"
    )]
    pub fn new(op: &'static str, object: impl ToString, source: io::Error) -> Error {
        Error { op, object: object.to_string(), source }
    }

    /// Whether the device has no room left (ENOSPC or EDQUOT): waiting may help, nothing is broken.
    pub fn is_full(&self) -> bool {
        matches!(self.source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
    }

    /// Whether the named object does not exist.
    pub fn is_not_found(&self) -> bool {
        self.source.kind() == io::ErrorKind::NotFound
    }
}
