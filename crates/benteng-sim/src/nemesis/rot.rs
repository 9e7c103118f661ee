//! Bits that flip on the disks of one node: in its chunks, in rows of its state, and in segments of its log that are no longer
//! written to (the fault model leaves out what was written within the last 10 ms, J3).

use std::path::{Path, PathBuf};

use rand::RngExt;

use crate::SimRng;
use crate::probes::Probes;
use crate::site::Site;

/// Bits that flip in one run at most: each may cost a repair or a replacement.
const FLIPS_MAX: u32 = 6;
/// Flips in the log at most: the first that is met ends the node for good.
const LOG_FLIPS_MAX: u32 = 1;

/// Flips in rows of the state at most: each makes the node build it anew.
const ROW_FLIPS_MAX: u32 = 1;

/// The rot of one node.
pub(super) struct Rot {
    node: u64,
    flips: u32,
    log_flips: u32,
    row_flips: u32,
}

impl Rot {
    pub(super) fn of(node: u64) -> Rot {
        Rot { node, flips: 0, log_flips: 0, row_flips: 0 }
    }

    /// Flips a bit, if it is time for one; says where.
    pub(super) fn strike(&mut self, site: &Site, probes: &Probes, rng: &mut SimRng) -> Option<String> {
        let (node, machine) = (site.node(self.node)?, site.machine(self.node)?);
        if self.flips >= FLIPS_MAX || rng.random_bool(0.5) {
            return None;
        }
        if self.row_flips < ROW_FLIPS_MAX && rng.random_bool(0.15) {
            // A row of the state, wherever it lies: it cannot be opened any more (S6).
            let key = machine.kv.flip(rng, |key| key.first() == Some(&b's'))?;
            self.row_flips += 1;
            return Some(format!("{} row {key:02x?}", machine.name()));
        }
        let in_log = self.log_flips < LOG_FLIPS_MAX && rng.random_bool(0.3);
        let dir = Path::new(if in_log { "/data/raft" } else { "/data/chunks" });
        let mut segments = machine.disk.written(dir);
        segments.retain(|(path, _)| path.extension().is_some_and(|end| end == "seg"));
        if in_log {
            // The newest is still written to.
            segments.pop();
        }
        // Bytes rot, not files; headers of segments are a page each.
        let places: Vec<(PathBuf, u64)> = segments.into_iter().filter(|(_, end)| *end > 4096).collect();
        if !in_log && rng.random_bool(0.25) && !places.is_empty() {
            // The first record's header: chunks are most of the bytes, and what stands around them must be found, too.
            let (path, _) = &places[rng.random_range(0..places.len())];
            let at = 4096 + rng.random_range(0..64);
            probes.facts(|facts| facts.damaged(node.store().id().0.as_u128()));
            self.flips += 1;
            machine.disk.flip(path, at, 1 << rng.random_range(0..8));
            return Some(format!("{} byte {at}", path.display()));
        }
        let total: u64 = places.iter().map(|(_, end)| end - 4096).sum();
        let mut at = rng.random_range(0..total.max(1));
        for (path, end) in places {
            let len = end - 4096;
            if at < len {
                if in_log {
                    self.log_flips += 1;
                } else {
                    probes.facts(|facts| facts.damaged(node.store().id().0.as_u128()));
                }
                self.flips += 1;
                machine.disk.flip(&path, 4096 + at, 1 << rng.random_range(0..8));
                return Some(format!("{} byte {}", path.display(), 4096 + at));
            }
            at -= len;
        }
        None
    }
}
