//! What whoever reads the state met (S6): from then on it answers nobody.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Damage of one state. Clones share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Damage {
    row: Arc<AtomicBool>,
    store: Arc<AtomicBool>,
}

impl Damage {
    /// A row does not open.
    pub(crate) fn meet_row(&self) {
        self.row.store(true, Ordering::Release);
    }

    /// The store beneath fails its own checksums: no row of it counts any more.
    pub(crate) fn meet_store(&self) {
        self.store.store(true, Ordering::Release);
    }

    /// The state was dropped, and is built anew by this very process.
    pub(crate) fn is_over(&self) {
        self.row.store(false, Ordering::Release);
    }

    /// Whether anything was met.
    pub(crate) fn is_met(&self) -> bool {
        self.row.load(Ordering::Acquire) || self.is_of_store()
    }

    /// Whether the store beneath is damaged.
    pub(crate) fn is_of_store(&self) -> bool {
        self.store.load(Ordering::Acquire)
    }

    /// Notes an error of the store that says that bytes are wrong.
    pub(crate) fn note(&self, e: benteng_host::Error) -> benteng_host::Error {
        if e.source.kind() == std::io::ErrorKind::InvalidData {
            self.meet_store();
        }
        e
    }
}
