//! The state cannot be read. Never an answer to a client: the replica stops and is rebuilt (S6).

/// Result of reading the state.
pub type Result<T> = std::result::Result<T, Error>;

/// A row could not be read or understood.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The store below failed.
    #[error("the state cannot be read: {0}")]
    Store(#[from] benteng_host::Error),
    /// A row's bytes are not what this version writes or reads.
    #[error("a {what} row cannot be decoded ({why}); the state is damaged or written by a newer version")]
    Decode {
        /// Which kind of row.
        what: &'static str,
        /// The decoder's words.
        why: String,
    },
}
