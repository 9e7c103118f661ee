//! What the requests and loops of one node's object layer share.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use benteng_consensus::Group;
use benteng_host::Host;
use benteng_meta::ids::*;

use crate::budget::Budget;
use crate::copy::Copies;
use crate::findings::Findings;
use crate::floors::{Floor, Floors};
use crate::gateway::Gateway;
use crate::heal;
use crate::keyring::Keys;
use crate::leftovers::Leftovers;
use crate::limits::Limits;
use crate::places::Places;
use crate::progress::Progress;
use crate::scrub::Scrubbing;
use crate::strays::Strays;
use crate::wire::{Report, Vitals};

/// The object layer of one node.
pub(crate) struct Core {
    pub(crate) me: NodeId,
    pub(crate) host: Host,
    pub(crate) group: Group,
    pub(crate) copies: Copies,
    pub(crate) keys: Keys,
    pub(crate) gateway: Gateway,
    pub(crate) floors: Arc<Floors>,
    pub(crate) writes: Budget,
    pub(crate) reads: Budget,
    pub(crate) limits: Limits,
    pub(crate) findings: Findings,
    pub(crate) leftovers: Leftovers,
    pub(crate) progress: Progress,
    pub(crate) scrubbing: Scrubbing,
    pub(crate) strays: Strays,
    pub(crate) places: Places,
    /// As [`NodeOptions::certificates_end`](crate::NodeOptions::certificates_end).
    pub(crate) certificates_end: Arc<AtomicI64>,
}

impl Core {
    /// Registers a read (O5): before anything is looked up.
    pub(crate) fn hold_floor(&self) -> Floor {
        self.floors.hold(|| self.group.applied())
    }

    /// How this node's clock and certificates are.
    pub(crate) fn vitals(&self) -> Vitals {
        let end = self.certificates_end.load(Ordering::Relaxed);
        Vitals { clock_off: self.group.clock_off(), certificates_end: (end != i64::MAX).then_some(end) }
    }

    /// How this node's store and loops are.
    pub(crate) fn report(&self) -> Report {
        let disk = self.copies.disk();
        let fill = disk.fill();
        let count = |n: &AtomicU64| n.load(Ordering::Relaxed);
        let as_u64 = |n: usize| u64::try_from(n).unwrap_or(u64::MAX);
        Report {
            disk_total: fill.total,
            disk_free: fill.free,
            under_reserve: fill.under_reserve,
            chunks: fill.chunks,
            chunk_bytes: fill.bytes,
            quarantined: as_u64(heal::to_mend(self).len()),
            repaired: count(&self.progress.repaired),
            repair_stuck: count(&self.progress.repair_stuck),
            filled: count(&self.progress.filled),
            filling: count(&self.progress.filling),
            to_fill: count(&self.progress.to_fill),
            copied_per_minute: self.progress.per_minute(self.host.clock.now()),
            strays: count(&self.progress.strays),
            evicted: count(&self.progress.evicted),
            compared_missing: count(&self.progress.compared_missing),
            scrub: self.scrubbing.report(fill.bytes, &self.group.status()),
            readers: as_u64(self.floors.readers()),
            applied: self.group.applied(),
        }
    }
}
