//! Why a request to the object layer failed. Each door maps these to its protocol.

use benteng_meta::Rejection;
use benteng_meta::ids::*;

use crate::{BODY_RATE_MIN, ByteRange};

/// Result of a request.
pub type Result<T> = std::result::Result<T, Error>;

/// A request failed. Unless it says otherwise, nothing has changed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The metadata said no: missing bucket or key, precondition, part list, …
    #[error(transparent)]
    Rejected(#[from] Rejection),
    /// A read condition holds the body back: `If-None-Match` or `If-Modified-Since` (304).
    #[error("the object has not changed")]
    NotModified {
        /// Its tag.
        etag: benteng_meta::ETag,
        /// When it was committed.
        modified: SiteTime,
    },
    /// The range lies outside of the object, or the part does not exist (416).
    #[error("the range lies outside of the object's {size} bytes")]
    RangeUnsatisfiable {
        /// Length of the object.
        size: u64,
    },
    /// The client's body failed: it ended early, or its transfer coding or signature is broken.
    #[error("the request body failed: {0}")]
    Body(#[source] BodyError),
    /// The body is longer or shorter than declared.
    #[error("the body has {got} bytes, {declared} were declared")]
    Length {
        /// What was declared.
        declared: u64,
        /// What came.
        got: u64,
    },
    /// The body is not what its checksum says.
    #[error("the body does not match its {what}: sent {sent}, computed {computed}")]
    Digest {
        /// `Content-MD5`, `CRC32`, …
        what: &'static str,
        /// What the client sent, base64.
        sent: String,
        /// What the bytes give, base64.
        computed: String,
    },
    /// More than an object or a part may hold.
    #[error("the body exceeds {limit} bytes")]
    TooLarge {
        /// The limit.
        limit: u64,
    },
    /// The site has no room: deletes and reads go on (O6).
    #[error("the site is full; delete objects or add disks, then retry")]
    Full,
    /// Too many bytes in flight, or no quorum, or too few stores: retry (503).
    #[error("{why}; retry")]
    Unavailable {
        /// What stood in the way.
        why: String,
    },
    /// The command may or may not have been applied (503).
    #[error("the outcome is unknown ({why}); read the object before you write it again")]
    Unknown {
        /// What stood in the way.
        why: String,
    },
    /// No good copy of a chunk could be read now (I4): never wrong bytes instead.
    #[error("no good copy of chunk {chunk} can be read ({why}); see `benteng site doctor`")]
    Unreadable {
        /// The chunk.
        chunk: ChunkId,
        /// What each copy said.
        why: String,
    },
    /// Keys are sealed or do not open the object.
    #[error("the object's key does not open: {0}")]
    Key(#[from] benteng_keys::Error),
    /// The local state cannot be read.
    #[error(transparent)]
    State(#[from] benteng_meta::Error),
    /// The request contradicts itself.
    #[error("{0}")]
    Invalid(String),
}

/// Why a body broke off; made by the door.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// The connection ended early.
    #[error("it ended early")]
    Incomplete,
    /// A chunk signature or the payload hash is wrong.
    #[error("its signature or payload hash does not match")]
    Signature,
    /// The transfer coding is broken.
    #[error("its transfer coding is broken: {0}")]
    Coding(String),
    /// The client sent less than [`BODY_RATE_MIN`] for this many seconds.
    #[error("fewer than {BODY_RATE_MIN} bytes a second came for {0} s")]
    Slow(u64),
}

impl From<benteng_consensus::Error> for Error {
    fn from(e: benteng_consensus::Error) -> Error {
        use benteng_consensus::Error as E;
        match e {
            E::Rejected(Rejection::Full) => Error::Full,
            E::Rejected(r) => Error::Rejected(r),
            E::Unavailable { .. } | E::Stopped(_) => Error::Unavailable { why: e.to_string() },
            E::Unknown { why } => Error::Unknown { why },
            E::State(e) => Error::State(e),
        }
    }
}

/// Where a byte range of a body lies; used by [`crate::Got`].
impl std::fmt::Display for ByteRange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}-{}", self.start, self.end.saturating_sub(1))
    }
}
