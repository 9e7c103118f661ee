//! Lanes, requests and replies, and the service that answers them.

use std::fmt;

use benteng_host::Fut;
use benteng_meta::ids::{GroupId, NodeId};
use bytes::Bytes;

use crate::error::Refusal;
use crate::stream::{Inbound, Outbound};

/// Which of the three connections between two nodes a message takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Lane {
    /// Small requests and heartbeats.
    Unary,
    /// Log replication: streams.
    Log,
    /// Chunks and other bulk.
    Chunks,
}

impl Lane {
    /// All lanes.
    pub const ALL: [Lane; 3] = [Lane::Unary, Lane::Log, Lane::Chunks];

    pub(crate) fn to_byte(self) -> u8 {
        match self {
            Lane::Unary => 1,
            Lane::Log => 2,
            Lane::Chunks => 3,
        }
    }

    pub(crate) fn from_byte(byte: u8) -> Option<Lane> {
        Lane::ALL.into_iter().find(|lane| lane.to_byte() == byte)
    }

    /// Its name in logs and counters.
    pub fn name(self) -> &'static str {
        match self {
            Lane::Unary => "unary",
            Lane::Log => "log",
            Lane::Chunks => "chunks",
        }
    }
}

impl fmt::Display for Lane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What a node asks of another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Which question; the number belongs to the caller's crate.
    pub method: u16,
    /// The Raft group it concerns.
    pub group: GroupId,
    /// The recovery epoch of the sender (S7): the service refuses another than its own.
    pub epoch: u64,
    /// The body. Parts arrive as they were sent, and are neither copied nor joined on the way.
    pub parts: Vec<Bytes>,
}

/// How a service answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// Done.
    Ok,
    /// Not done, with a code of the service; the parts say more.
    Refused(u16),
}

/// The answer to a [`Request`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// Done or not.
    pub status: Status,
    /// The body.
    pub parts: Vec<Bytes>,
}

impl Reply {
    /// Done, with this body.
    pub fn ok(parts: Vec<Bytes>) -> Reply {
        Reply { status: Status::Ok, parts }
    }
}

/// What answers requests of other nodes. One for the whole node; it looks at the method.
///
/// The identity `from` is authenticated by [`crate::Secure`]. Parts share the memory of the
/// read buffer: whoever keeps a small part for long copies it.
pub trait Service: Send + Sync {
    /// Answers one request. An `Err` reaches the caller as [`crate::Error::Refused`]; a panic too.
    ///
    /// Cancellation: the future is dropped when the connection ends; the caller then reckons
    /// the outcome unknown.
    fn call(&self, from: NodeId, lane: Lane, request: Request) -> Fut<Result<Reply, Refusal>>;

    /// Serves one stream. It ends when the future does; whoever wants a clean end calls
    /// [`Outbound::finish`] before. `request.parts` is the opening message.
    fn stream(&self, from: NodeId, request: Request, inbound: Inbound, outbound: Outbound) -> Fut<()>;
}
