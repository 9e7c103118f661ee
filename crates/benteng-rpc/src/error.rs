//! What can go wrong between two nodes, and whether the other one may have acted.

use std::time::Duration;

use benteng_meta::ids::NodeId;

use crate::Lane;

/// Result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// Codes that the transport itself refuses with. Services use codes below `0xff00`.
pub mod refused {
    /// The service panicked; the panic was counted and its cause is in the peer's log.
    pub const PANICKED: u16 = 0xffff;
    /// The caller is not a member of the site, or may call joiners' methods only.
    pub const NOT_A_PEER: u16 = 0xfffe;
    /// The peer has too many requests of this caller under way; try again later.
    pub const OVERLOADED: u16 = 0xfffd;
    /// The service's reply does not fit in a frame.
    pub const TOO_LARGE: u16 = 0xfffc;
}

/// A service's "no": a code of its own and a text for people.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("refused with code {code}: {message}")]
pub struct Refusal {
    /// What the caller's program acts on.
    pub code: u16,
    /// What a person reads; no secrets, no object names. At most 1 KiB is sent.
    pub message: String,
}

impl Refusal {
    /// A refusal.
    pub fn new(code: u16, message: impl Into<String>) -> Refusal {
        Refusal { code, message: message.into() }
    }
}

/// A call or a stream failed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// There is no connection: nothing of the request was sent, the peer has not acted.
    #[error("node {node} is unreachable on the {lane} lane: {why}; it is tried again by itself")]
    Unreachable {
        /// The peer.
        node: NodeId,
        /// The lane.
        lane: Lane,
        /// What the last attempt failed of.
        why: String,
    },
    /// No answer came in time: the peer may or may not have acted, or may yet act.
    #[error("node {node} did not answer method {method} within {deadline:?}; its outcome is unknown")]
    DeadlinePassed {
        /// The peer.
        node: NodeId,
        /// The method called.
        method: u16,
        /// How long was waited.
        deadline: Duration,
    },
    /// The peer's service answered no.
    #[error("node {node} refused with code {code}: {message}")]
    Refused {
        /// The peer.
        node: NodeId,
        /// The service's code, or one of [`refused`].
        code: u16,
        /// The service's words.
        message: String,
    },
    /// The connection or stream ended before the answer: the outcome is unknown.
    #[error("the connection to node {node} closed ({why}); the outcome of what was under way is unknown")]
    Closed {
        /// The peer.
        node: NodeId,
        /// Why it closed.
        why: String,
    },
    /// The request or message does not fit in a frame; nothing was sent.
    #[error("a message of {bytes} bytes in {parts} parts is beyond the frame's limit; send it in pieces")]
    TooLarge {
        /// Bytes of all parts.
        bytes: usize,
        /// Number of parts.
        parts: usize,
    },
    /// The peer at the other end is not who it should be, or does not speak our protocol.
    #[error("handshake with {peer}: {why}")]
    Handshake {
        /// Its node id or address.
        peer: String,
        /// What was wrong.
        why: String,
    },
    /// Our own certificate, key or CA is unusable.
    #[error("TLS identity: {why}; issue the node's certificate again")]
    Identity {
        /// What was wrong.
        why: String,
    },
    /// The machine refused a socket.
    #[error("{why}")]
    Machine {
        /// Operation, object and errno.
        why: String,
    },
}

impl Error {
    /// Whether the peer may have acted on what failed (C3): then only the peer's state tells.
    pub fn is_unknown(&self) -> bool {
        match self {
            Error::DeadlinePassed { .. } | Error::Closed { .. } => true,
            Error::Refused { code, .. } => matches!(*code, refused::PANICKED | refused::TOO_LARGE),
            Error::Unreachable { .. }
            | Error::TooLarge { .. }
            | Error::Handshake { .. }
            | Error::Identity { .. }
            | Error::Machine { .. } => false,
        }
    }
}

impl From<benteng_host::Error> for Error {
    fn from(e: benteng_host::Error) -> Error {
        Error::Machine { why: e.to_string() }
    }
}
