//! The lake (floor 5): SQL over files in buckets and over the site's own tables.
//!
//! Down: [`LakeSession::execute`] -> `files` (which objects, which columns) ->
//! DataFusion -> `store` -> `benteng_identity::authorize` -> `benteng_objects`.
//! Back: objects' bytes -> DataFusion, on a runtime of its own and within its memory
//! ([`QueryRuntime`], `memory`, `spill`) -> [`Rows`], one batch at a time (I7).
//!
//! Not here: the wire protocol and the catalogues shown to clients (`benteng-sql`);
//! Iceberg tables, which later stand in the catalogue beside `system`.

mod compact; // sorted rows without the buffers of their neighbours
mod error; // what can go wrong, and what to do about it
mod files; // read_parquet, read_csv, read_json: calls in a statement become tables
mod format; // how the bytes of a file become columns, and what its first bytes say
mod glob; // which keys a pattern names
mod guard; // plans that end when they are told to
mod lake; // what all sessions of a node share
mod memory; // how much a query and the node may hold
mod runtime; // threads of their own for queries
mod session; // one connection's view of the lake
mod spill; // what does not fit, sealed, on disk
mod store; // buckets as object stores
mod system; // system.nodes, system.buckets, system.objects

pub use error::{Error, Result, find_cause};
pub use lake::{CATALOG, Lake, LakeOptions};
pub use runtime::{QueryRuntime, Running};
pub use session::{LakeSession, Rows, Shape};
pub use store::{ObjectLayer, ObjectLayerStore, StoreSource, Viewer};
pub use system::{GroupSource, SystemSnapshot, SystemSource};
