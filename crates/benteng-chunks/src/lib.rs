//! Chunk store of one node: opaque ciphertext on a journal of its own (I1, I4; rules O1, O5, O6).
//!
//! Down: [`Store::append`] -> frame checksums -> `pipeline` (journal, group commit) -> `index`.
//! Back: [`Store::read`] -> `index` -> journal -> frame checksums -> bytes.
//! Space: [`Store::remove`] (tombstones) -> [`Store::clean`] (copy, verify, switch, release).
//! Boot: [`Store::open`] -> index as of its watermark -> tags of the journal from there.
//!
//! Not here: placement and repair (`benteng-objects`), encryption (`benteng-keys`), sockets
//! (`benteng-rpc`), and who may remove what (commands decide: I8).

mod chunk; // what a chunk is, and the tag that stands before it
mod clean; // moves live chunks out of a segment, then releases it
mod error; // what can go wrong, and what to do about it
#[cfg(debug_assertions)]
pub mod fuzz; // what decoders must bear; none in a release build
mod identity; // the store's own id, drawn once
mod index; // chunk -> place, rebuilt from the journal at will
mod open; // boot: the index catches up with the journal
mod pipeline; // one order for journal and index
mod scrub; // reads every byte again
mod space; // the reserve, with hysteresis (O6)
mod store; // the public handle
mod tomb; // what is kept of chunks that are gone
mod usage; // live bytes by segment

pub use chunk::{ChunkHeader, ChunkInfo, NewChunk};
pub use clean::Cleaned;
pub use error::Error;
pub use scrub::{Scrubbed, SegmentScrubbed};
pub use store::{Store, StoreOptions};
pub use usage::Usage;

#[cfg(test)]
mod tests;
