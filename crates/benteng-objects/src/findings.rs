//! Copies that readers found missing or damaged: reported so that repair makes them good.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use benteng_meta::Command;
use benteng_meta::apply::REPAIR_CHUNKS_MAX;
use benteng_meta::ids::*;

use crate::Result;
use crate::core::Core;

/// Findings kept at most; more are dropped and counted: the next read or sweep finds them again.
const KEPT_MAX: usize = 10_000;

/// Findings that are not reported yet.
#[derive(Default)]
pub(crate) struct Findings(Mutex<BTreeSet<(NodeId, ChunkId)>>);

impl Findings {
    /// Notes that `node` has no good copy of `chunk`.
    pub(crate) fn add(&self, node: NodeId, chunk: ChunkId) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() < KEPT_MAX {
            kept.insert((node, chunk));
        } else {
            metrics::counter!("benteng_objects_findings_dropped_total").increment(1);
        }
    }

    /// As [`Findings::add`], for callers that report before they go on and are few: never dropped.
    pub(crate) fn require(&self, node: NodeId, chunk: ChunkId) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert((node, chunk));
    }

    /// Takes findings of one node.
    fn take(&self) -> Option<(NodeId, Vec<ChunkId>)> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let node = kept.first()?.0;
        let of_node = kept.iter().take_while(|(n, _)| *n == node).take(REPAIR_CHUNKS_MAX);
        let chunks: Vec<ChunkId> = of_node.map(|(_, chunk)| *chunk).collect();
        chunks.iter().for_each(|chunk| {
            kept.remove(&(node, *chunk));
        });
        Some((node, chunks))
    }
}

/// Reports what was found. Errors: as proposing; what could not be reported is kept.
pub(crate) async fn report(core: &Core) -> Result<()> {
    while let Some((node, chunks)) = core.findings.take() {
        tracing::warn!(
            node = node.0,
            chunks = chunks.len(),
            "copies are missing or damaged; queued for repair"
        );
        let command = Command::FoundMissing { node, chunks: chunks.clone() };
        if let Err(e) = core.group.propose(command, None).await {
            chunks.into_iter().for_each(|chunk| core.findings.require(node, chunk));
            return Err(e.into());
        }
    }
    Ok(())
}
