//! Chunks of attempts that were given up before anything was proposed: their writer removes
//! them as soon as nothing of them can be under way any more. What this misses is an orphan and goes with the incarnation (O1).

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use benteng_host::Mono;
use benteng_meta::ids::*;

use crate::core::Core;
use crate::wire::IDS_MAX;

/// Attempts kept at most; more become orphans.
const KEPT_MAX: usize = 1000;

/// An attempt that was given up.
struct Leftover {
    origin: Origin,
    blob: BlobId,
    part: PartNumber,
    attempt: Attempt,
    chunks: u32,
    /// When it was given up: copies that were under way then may still land.
    since: Mono,
}

/// Attempts whose chunks nobody has removed yet.
#[derive(Default)]
pub(crate) struct Leftovers(Mutex<VecDeque<Leftover>>);

/// Watches over an attempt until it is proposed: dropped before that, its chunks are left over.
pub(crate) struct Attempting {
    core: Arc<Core>,
    origin: Origin,
    blob: BlobId,
    part: PartNumber,
    attempt: Attempt,
    /// Chunks that were sent to any store.
    chunks: u32,
    proposed: bool,
}

impl Attempting {
    /// Watches from now on.
    pub(crate) fn new(
        core: Arc<Core>,
        origin: Origin,
        blob: BlobId,
        part: PartNumber,
        attempt: Attempt,
    ) -> Attempting {
        Attempting { core, origin, blob, part, attempt, chunks: 0, proposed: false }
    }

    /// A chunk is about to be sent.
    pub(crate) fn sending(&mut self, sequence: u32) {
        self.chunks = self.chunks.max(sequence.saturating_add(1));
    }

    /// A command that names the attempt is about to be proposed: from now on only the state
    /// may say that its chunks are dead (C2, C3).
    pub(crate) fn proposing(&mut self) {
        self.proposed = true;
    }

    /// No command that names the attempt is in the log or ever will be.
    pub(crate) fn never_proposed(&mut self) {
        self.proposed = false;
    }
}

impl Drop for Attempting {
    fn drop(&mut self) {
        if self.proposed || self.chunks == 0 {
            return;
        }
        let since = self.core.host.clock.now();
        let mut kept = self.core.leftovers.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() >= KEPT_MAX {
            metrics::counter!("benteng_objects_leftovers_dropped_total").increment(1);
            return;
        }
        let Attempting { origin, blob, part, attempt, chunks, .. } = *self;
        kept.push_back(Leftover { origin, blob, part, attempt, chunks, since });
    }
}

/// Removes what is left over, best effort.
pub(crate) async fn remove(core: &Core) {
    let taken: Vec<Leftover> = {
        let now = core.host.clock.now();
        let mut kept = core.leftovers.0.lock().unwrap_or_else(PoisonError::into_inner);
        let settled =
            kept.iter().take_while(|left| now.since(left.since) > core.limits.copy_deadline).count();
        kept.drain(..settled).collect()
    };
    if taken.is_empty() {
        return;
    }
    let Ok(view) = core.group.local() else { return };
    let Ok(layout) = crate::layout::Layout::of(&*view) else { return };
    for Leftover { origin, blob, part, attempt, chunks, .. } in taken {
        let ids: Vec<ChunkId> =
            (0..chunks).map(|sequence| ChunkId { blob, part, attempt, sequence }).collect();
        for node in layout.nodes.keys().filter(|node| core.copies.up(**node)) {
            for ids in ids.chunks(IDS_MAX) {
                let asked =
                    core.copies.forget(*node, origin.incarnation, ids.to_vec(), Duration::from_secs(2));
                if let Err(e) = asked.await {
                    // An orphan then; the sweep of a later incarnation takes it.
                    tracing::debug!(node = node.0, error = %e, "left-over chunks stay for the sweep");
                    break;
                }
            }
        }
        metrics::counter!("benteng_objects_attempts_given_up_total").increment(1);
    }
}
