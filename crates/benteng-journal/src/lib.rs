//! Append-only segments with group commit: the durable core of a node (I1, I4; rules J
//! of `docs/formats.md`). The Raft log and the chunk store both stand on it.
//!
//! Down: [`Journal::submit`] -> queue -> `writer` (batch, seal, write, one fsync) -> [`Pending`].
//! Back: [`Journal::read`] -> `table` (segment by number) -> checksum -> open -> bytes.
//! Boot: [`Journal::open`] -> `recover` (claims, cut or damage, tail copied) -> replay.
//! Space: [`Journal::release`] -> release record -> `spares` (recycled with a new generation).
//!
//! Not here: what a record means (the Raft log's and the chunk store's business), where
//! keys come from (the caller's [`SegmentCipher`]), which segment is worth cleaning.

mod base; // first record of a segment: which segments live, and where each one ends
mod begin; // a new segment: header, checkpoint, and only then its name
mod cipher; // sealing of bodies, as the caller brings it
mod encode; // records into the bytes of one write
mod error; // what can go wrong, and what to do about it
mod fatal; // failures after which the disk's contents are unknown (J6)
#[cfg(debug_assertions)]
pub mod fuzz; // what decoders must bear; none in a release build
mod journal; // the public handle
mod options; // sizes, replay, what a checkpoint carries
mod read; // one record by its place
mod record; // record header v1, places
mod recover; // boot: what is kept, cut, or damage
mod scan; // walks the records of one segment
mod segment; // segment header v1 and file names
mod spares; // segments ready for use, and recycling of released ones
mod stats; // counters and metrics
mod sticky; // newest records that every checkpoint carries
mod table; // live segments by number, with a bounded set of open files
mod watermark; // how far the log surely reached, kept outside it (J7)
mod writer; // the one task that writes (J1)

pub use cipher::{NoCipher, RecordCipher, SegmentCipher, Unauthentic};
pub use error::Error;
pub use journal::{Journal, Opened, Pending, RawBodies, Release, Replayed, SegmentInfo};
pub use options::{Carry, OnDamage, Options, ReleaseOrder, Replay, Sticky};
pub use record::{Body, Place, Record, SegmentNo};
pub use recover::Damage;
pub use stats::Counters;

#[cfg(test)]
mod tests;
