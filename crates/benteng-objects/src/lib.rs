//! The object layer (floor 4): buckets, objects, uploads; placement of bytes, repair, removal.
//!
//! Down: [`Objects::put`] -> `write` (cut, hash, seal, fan out) -> `benteng_rpc` ->
//! `benteng_chunks` on each replica -> back -> `benteng_consensus` -> `benteng_meta::apply`.
//! Back: [`Objects::get`] -> read index -> `benteng_meta::query` -> chunks -> `benteng_keys` -> stream.

mod api; // what a request says and what it gets
mod error; // why a request failed
mod objects; // the handle that doors use

pub use api::*;
pub use error::{Error, Result};
pub use objects::Objects;
