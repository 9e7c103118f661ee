//! S3 protocol over the object layer (floor 8): translates requests, and errors back.
//!
//! Down: [`S3Door`] (sockets, hyper) -> `front` (signature, names, body) -> `s3s` (routing, parsing) ->
//! `service` -> `ops` (`benteng_identity::authorize`, then `benteng_objects`).
//! Back: `ops` -> `s3s` (serialising) -> `front` -> `answer` (request id, log, metrics, streaming).
//!
//! s3s routes, parses and prints; signatures and bodies never pass through it, because it holds
//! a whole aws-chunked chunk in memory, answers a broken body with 500, and does not refuse
//! SigV2 headers or unsigned `x-amz-*` headers.
//!
//! Not here: who may do what (`benteng-identity`), where bytes go (`benteng-objects`), the
//! decision on conditions (`benteng_meta::apply`).

mod answer; // what goes back: bytes, log line, metrics
mod body; // request bodies: transfer coding, payload hash, idle time
mod call; // one request: who asks, what was learned before s3s saw it
mod checksum; // x-amz-checksum-* in and out
mod condition; // If-Match and its relatives
mod described; // headers that are stored with an object
mod door; // sockets, connections, start and stop
mod fault; // every error -> S3 code
mod front; // what happens to a request before and after s3s
#[cfg(debug_assertions)]
pub mod fuzz; // what parsers must bear; none in a release build
mod names; // hosts, paths, queries
mod ops; // the operations
mod service; // the operations as s3s wants them
mod sign; // who signed the request
mod socket; // a client that stops reading is let go
mod token; // continuation tokens
mod xml; // what XML can carry

pub use door::{Error, S3Door, S3Options};
