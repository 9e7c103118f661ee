//! Why a proposal or a read failed.

use benteng_meta::Rejection;

/// Result of a proposal or a read.
pub type Result<T> = std::result::Result<T, Error>;

/// A proposal or a read failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The command was applied and answered no; nothing has changed.
    #[error(transparent)]
    Rejected(#[from] Rejection),
    /// No quorum answered within the bound; nothing was changed. Retry later, on any node.
    #[error("no quorum within {waited_ms} ms ({why}); retry, on any node")]
    Unavailable {
        /// How long was waited.
        waited_ms: u64,
        /// What stood in the way.
        why: String,
    },
    /// No quorum answered and the command could not be settled: it may be applied later, once.
    #[error("the outcome is unknown ({why}); read the object before you write it again")]
    Unknown {
        /// What stood in the way.
        why: String,
    },
    /// The local state cannot be read.
    #[error(transparent)]
    State(#[from] benteng_meta::Error),
    /// This node stops or is damaged; its message says what to do.
    #[error("this node does not serve: {0}")]
    Stopped(String),
}

impl Error {
    /// Whether the same request may succeed later, unchanged.
    pub fn is_retryable(&self) -> bool {
        matches!(self, Error::Unavailable { .. } | Error::Stopped(_))
    }
}
