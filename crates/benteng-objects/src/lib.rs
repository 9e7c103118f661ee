//! The object layer (floor 4): buckets, objects, uploads; placement of bytes, repair, removal.
//!
//! Down: [`Objects::put`] -> `put` -> `write` (cut, hash, seal) -> `fanout` -> `copy` ->
//! `benteng_rpc` -> `service` -> `disk` -> `benteng_chunks` on each replica -> back -> `commit` ->
//! `benteng_consensus` -> `benteng_meta::apply`.
//! Back: [`Objects::get`] -> `floors` -> read index -> `get` -> `read` -> `copy` -> `benteng_keys` -> stream.
//! Beside them, `loops`: `tend` (peers, the gateway's life), `lead` (membership, placement),
//! `repair`, `fill`, `sweep`, `strays`, `removal`, `scrub`.
//!
//! Not here: who may do what (`benteng-identity`), protocols of the doors, the rules of the
//! state (`benteng-meta`), sealing (`benteng-keys`).

mod api; // what a request says and what it gets
mod authentic; // whether a copy is what its writer sealed
mod body; // cuts a request body into chunks
mod bucket; // buckets, listings, deletes
mod budget; // admission by bytes
mod commit; // from stored chunks to a committed row
mod compare; // holders of a group compare what they have
mod copy; // one copy of a chunk, here or elsewhere
mod core; // what requests and loops share
mod digest; // MD5 and checksums, of bodies and of parts
mod disk; // this node's own store
mod elsewhere; // another process that is this node
mod error; // why a request failed
mod fanout; // one chunk to all its holders
mod fence; // what a store refuses because the state says so
mod fill; // placement groups that are on their way here
mod findings; // copies that readers found missing or damaged
mod floors; // the oldest state that a read uses
#[cfg(debug_assertions)]
pub mod fuzz; // what parsers must bear; none in a release build
mod gateway; // the life of this process
mod gauges; // figures for dashboards
mod get; // GET and HEAD
mod heal; // makes one copy good
mod keyring; // keys of buckets and blobs
mod layout; // who holds a chunk
mod lead; // the leader's work
mod leftovers; // chunks of attempts that were given up
mod limits; // every bound in one place
mod loops; // the loops of a node
mod node; // one node, put together
mod objects; // the handle that doors use
mod pace; // how slowly a client may send
mod peers; // addresses of the other nodes
mod places; // who holds which group, read once
mod progress; // what loops did, and how fast
mod put; // PUT and COPY
mod range; // ranges and read conditions
mod read; // frames from the nearest good copy
mod recover; // one node goes on alone
mod removal; // the dead
mod repair; // the queue of missing copies
mod room; // disks under their reserve
mod router; // requests of other nodes, by method
mod rows; // every chunk that live rows name
mod scrub; // every byte again
mod service; // what this store answers to other nodes
mod status; // how the site is
mod strays; // chunks of groups that moved away
mod sweep; // orphans, strays, missing copies
mod tend; // in step with the site
mod upload; // multipart uploads
mod wire; // what stores ask each other
mod write; // the write path

pub use api::*;
pub use error::{BodyError, Error, Result};
pub use limits::Limits;
pub use node::{GroupSizes, NewSite, Node, NodeOptions};
pub use objects::Objects;
pub use pace::{BODY_RATE_MIN, Pace};
pub use recover::recover;
pub use status::{NodeView, SiteStatus};
pub use wire::{Report, ScrubReport, Vitals};
