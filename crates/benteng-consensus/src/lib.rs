//! Everything openraft (floor 3): the log store on the journal, the state machine on the
//! ordered store, snapshots, membership, [`Group::propose`] and [`Group::read`].
//! The only crate that names openraft.
//!
//! Down: [`Group::propose`] -> `propose` (batch, forward to the leader, settle) -> openraft ->
//! `log` -> `benteng_journal` on a majority -> `machine` -> `benteng_meta::apply` -> `state`.
//! Back: [`Group::read`] -> `read` (one ReadIndex round for all who wait) -> `state` -> rows.
//!
//! Not here: what commands mean (`benteng-meta`), which nodes should be members
//! (`benteng-objects` decides and calls [`Group::set_members`]).

mod agreed; // what time it is, as far as a majority of the clocks agrees
mod alone; // the survivor of a lost majority goes on (S7)
mod check; // what must hold before Raft may start (S3)
mod clock; // site time
mod damage; // what readers of the state met
mod error; // why a proposal or a read failed
#[cfg(debug_assertions)]
pub mod fuzz; // what parsers must bear; none in a release build
mod group; // the handle that the floors above use
mod log; // the Raft log on the journal
mod machine; // apply, snapshots
mod members; // membership changes, never interleaved
mod methods; // numbers of the RPC methods
mod network; // openraft's network on our transport
mod propose; // commands on their way to the log
mod read; // ReadIndex rounds
mod restore; // a lost state comes from a peer before Raft starts (S5)
mod runtime; // openraft's runtime on the host's seams
mod scrub; // what is stored, read again
mod second; // two nodes: an answer needs both disks (S8)
mod service; // what other nodes ask of this group
mod snapshot; // snapshots between nodes
mod state; // rows, prefixed and sealed
mod types; // what openraft is instantiated with
mod upkeep; // flush, snapshot and purge; the leader's clock
mod wire; // our encoding of what is stored and sent

pub use error::{Error, Result};
pub use group::{Group, GroupOptions, GroupStatus, View};
pub use log::LogScrubbed;

#[cfg(test)]
mod tests;
