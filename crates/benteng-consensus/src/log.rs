//! The Raft log on the journal (rules J, S2, S7): entries, vote, truncations, purges.
//!
//! Down: openraft appends -> [`LogStore`] remembers the entries and submits their records ->
//! the journal's group commit -> `completions` tells openraft and whoever waits in [`LogStore::durable`].
//! Back: openraft reads -> the cache of recent entries, or the journal.

mod cipher; // record keys of `benteng_keys` behind the journal's trait
#[cfg(debug_assertions)]
pub(crate) mod fuzz; // records in any order
mod index; // which entries there are, where, and which are in memory
mod records; // what the journal's records mean here
mod scrub; // the log's bytes, read again and mended
mod store; // openraft's storage traits

pub(crate) use cipher::LogCipher;
pub use scrub::LogScrubbed;
pub(crate) use store::{LogOpened, LogOptions, LogStore};
