//! The machine itself. The only code of floors 0 to 4 that may call the real clock,
//! entropy, file system, sockets, threads and RocksDB.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

mod clock;
mod disk;
mod fate;
mod net;
mod pool;
mod random;
mod rocks;
mod tasks;

use std::sync::Arc;

pub use clock::SystemClock;
pub use disk::RealDisk;
pub use fate::ProcessAbort;
pub use net::Tcp;
pub use random::SystemEntropy;
pub use rocks::{RocksKv, RocksOptions};
pub use tasks::TokioTasks;

use crate::Host;

/// The real machine, on the calling tokio runtime.
pub fn host() -> Host {
    Host {
        clock: Arc::new(SystemClock::new()),
        random: Arc::new(SystemEntropy::new()),
        disk: Arc::new(RealDisk::new()),
        net: Arc::new(Tcp),
        tasks: Arc::new(TokioTasks::current()),
        fate: Arc::new(ProcessAbort),
    }
}
