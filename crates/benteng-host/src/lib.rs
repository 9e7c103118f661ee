//! What a node asks of its machine: time, randomness, files, an ordered key-value
//! store, sockets, tasks, and a way to die. Floor 0; everything above reaches the
//! machine through here, so that the simulator can stand behind the same seams.
//!
//! The seams are traits, one handle each ([`Host`] bundles them): an `Arc<dyn …>`
//! costs nothing beside the I/O that it stands for. [`real`] holds the machine's own
//! implementations; `benteng-sim` holds the simulated ones; `conformance` (feature of that
//! name) holds both to the same behaviour.
//!
//! Not here: sealing of values (`benteng-keys`), records and group commit
//! (`benteng-journal`), TLS and framing (`benteng-rpc`).

#[cfg(debug_assertions)]
pub mod conformance; // behaviour that every Disk and Kv must show
mod disk; // files by name, positional I/O, explicit durability
mod error; // a failed request to the machine: what, on which object, errno
mod fate; // the end of the process, as a seam
#[cfg(debug_assertions)]
pub mod golden; // golden files of every crate; none in a release build
mod kv; // ordered key-value store without a write-ahead log
mod net; // byte streams between nodes
pub mod planted; // bugs that the simulator plants to test its checkers; none in a release build
mod probe; // marks of rare branches and facts to be judged, seen by the simulator
mod random; // entropy
pub mod real; // the machine itself
mod seats; // bounded connections of a door
mod tasks; // owned tasks and blocking computation
mod time; // monotonic and wall clocks

use std::sync::Arc;

pub use disk::{Disk, File, Open, Space, WriteSyncError};
pub use error::{Error, Result};
pub use fate::Fate;
pub use kv::{Batch, Kv, KvView, Op, Verified, Visit, prefix_end};
pub use net::{Listener, Net, Stream};
pub use probe::{probe, witness, witnessed};
pub use random::{Random, random_array, random_u64};
pub use seats::{Busy, Seat, Seats};
pub use tasks::{Task, TaskFailed, Tasks, compute};
pub use time::{Clock, Elapsed, Mono, Wall, sleep, timeout};

/// A boxed future that owns what it needs; the shape of everything that may block.
pub type Fut<T> = futures::future::BoxFuture<'static, T>;

/// The machine of one node: one handle per seam, cheap to clone.
#[derive(Clone)]
pub struct Host {
    /// Monotonic and wall time, sleeping.
    pub clock: Arc<dyn Clock>,
    /// Entropy for ids, salts and jitter.
    pub random: Arc<dyn Random>,
    /// Files below the node's data directory.
    pub disk: Arc<dyn Disk>,
    /// Node-to-node sockets.
    pub net: Arc<dyn Net>,
    /// Tasks and blocking computation.
    pub tasks: Arc<dyn Tasks>,
    /// The end of the process.
    pub fate: Arc<dyn Fate>,
}
