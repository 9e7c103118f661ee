//! Node-to-node transport: mutual TLS, framing, standing connections, streams.
//!
//! Between two nodes stand three connections, one per [`Lane`], so that a 4 MiB chunk never
//! stands before a heartbeat. Down: [`Rpc::call`] / [`Rpc::open_stream`] -> `peers` (dial,
//! back-off) -> `link` (queue, one writer) -> `wire` (frames) -> [`Secure`] -> Net seam.
//! Back: `server` (accept, allow list) -> `link` (one reader) -> [`Service`].
//!
//! A lost segment can stall a TCP stream for ever: every call has a deadline, every link
//! proves by pings that it moves, and one that does not is dropped, never waited for.
//!
//! Not here: what the methods mean (numbers belong to their callers: consensus 1-99,
//! objects 100-199, identity and administration 200-299), who is a member, retries.
//! The bytes on the wire stand in `docs/formats-rpc.md`.

mod counters; // what the transport counts
mod error; // what can go wrong, and whether the peer may have acted
#[cfg(debug_assertions)]
pub mod fuzz; // what parsers must bear; none in a release build
mod limits; // every bound and time-out in one place
mod link; // one connection: queue, pending calls, streams; its reader and writer
mod message; // lanes, requests, replies, the service behind them
mod peers; // who may talk, where they are, the connection of each lane
mod rpc; // the front: call, open_stream, listen
mod secure; // who is at the other end; the plain hello of the simulator
mod server; // accepting: handshake, allow list, running the service
mod stream; // message streams with a window
mod tls; // mutual TLS under the site's CA
mod wire; // frames: header, checksum, bodies

pub use error::{Error, Refusal, Result, refused};
pub use limits::Limits;
pub use message::{Lane, Reply, Request, Service, Status};
pub use rpc::Rpc;
pub use secure::{PlainHello, Secure};
pub use server::Server;
pub use stream::{Inbound, Outbound};
pub use tls::{MutualTls, TlsIdentity};
pub use wire::{FRAME_MAX, PARTS_MAX};

#[cfg(test)]
mod tests;
