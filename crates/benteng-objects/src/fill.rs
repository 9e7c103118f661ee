//! Filling: this node stands in the target of placement groups that it does not hold yet. It
//! copies every chunk that rows name in them, then says so; the switch is the state's (O3).

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use benteng_host::KvView;
use benteng_meta::Command;
use benteng_meta::ids::*;
use futures::StreamExt;

use crate::Result;
use crate::core::Core;
use crate::heal::{Healed, Suspicion, heal};
use crate::rows::{self, Cursor};

/// Rows per look at the state.
const PAGE: usize = 256;
/// Chunks per batch.
const BATCH: usize = 32;
/// Chunks that may be stuck before a round is given up.
const STUCK_MAX: u64 = 100;

/// Groups that this node is to fill, with the sequence at which their move began.
fn to_fill(core: &Core, view: &dyn KvView) -> Result<BTreeMap<PlacementGroup, StateSeq>> {
    let me = core.me;
    let wants = |row: &benteng_meta::PlacementRow| {
        row.target.as_ref().is_some_and(|target| target.contains(&me))
            && !row.current.contains(&me)
            && !row.filled.contains(&me)
    };
    let rows = core.places.of(view)?;
    Ok(rows.iter().filter(|(_, row)| wants(row)).map(|(group, row)| (*group, row.since)).collect())
}

/// One round: all groups that wait for this node. Returns whether any did.
///
/// Errors: as reading and proposing; what was copied stays, so the next round is short.
pub(crate) async fn round(core: &Core) -> Result<bool> {
    let groups = to_fill(core, &*core.group.local()?)?;
    core.progress.filling.store(u64::try_from(groups.len()).unwrap_or(u64::MAX), Ordering::Relaxed);
    if groups.is_empty() {
        return Ok(false);
    }
    let to_fill = lacking(core, &groups)?;
    core.progress.to_fill.store(to_fill, Ordering::Relaxed);
    tracing::info!(groups = groups.len(), chunks = to_fill, "filling placement groups");
    let mut cursor = Cursor::START;
    let mut sum = Sum::default();
    while cursor != Cursor::End {
        // Every row that was committed before the moves began is in each of these views, unless it
        // died since; what is committed later counts its copies against the target by itself (O2).
        let (named, next) = rows::page(&*core.group.local()?, &cursor, PAGE)?;
        cursor = next;
        let mut chunks = named
            .into_iter()
            .flat_map(rows::Named::chunks)
            .filter(|chunk| groups.contains_key(&chunk.placement_group()))
            .peekable();
        while chunks.peek().is_some() {
            let batch: Vec<ChunkId> = chunks.by_ref().take(BATCH).collect();
            let done = fill_batch(core, batch).await;
            sum.copied += done.copied;
            sum.stuck += done.stuck;
            if sum.stuck > STUCK_MAX && sum.stuck > sum.copied {
                // The peers are away, most likely: later.
                tracing::warn!(chunks = sum.stuck, "filling waits: no peer has these chunks now");
                return Ok(false);
            }
        }
        // What no peer could give must stand in the repair queue before the switch is possible (O3).
        crate::findings::report(core).await?;
    }
    let groups: Vec<(PlacementGroup, StateSeq)> = groups.into_iter().collect();
    tracing::info!(groups = groups.len(), chunks = sum.copied, "placement groups are filled");
    core.group.propose(Command::Filled { node: core.me, groups }, None).await?;
    core.progress.filling.store(0, Ordering::Relaxed);
    core.progress.to_fill.store(0, Ordering::Relaxed);
    Ok(true)
}

/// Chunks of these groups that this node's store has not: what a round is to copy, for the estimate.
fn lacking(core: &Core, groups: &BTreeMap<PlacementGroup, StateSeq>) -> Result<u64> {
    let mut cursor = Cursor::START;
    let mut lacking = 0;
    while cursor != Cursor::End {
        let (named, next) = rows::page(&*core.group.local()?, &cursor, PAGE)?;
        cursor = next;
        let chunks = named.into_iter().flat_map(rows::Named::chunks);
        for chunk in chunks.filter(|chunk| groups.contains_key(&chunk.placement_group())) {
            let here = core
                .copies
                .disk()
                .stat(chunk)
                .map_err(|e| crate::Error::Unavailable { why: e.to_string() })?;
            lacking += u64::from(here.is_none());
        }
    }
    Ok(lacking)
}

/// Chunks that were copied, and that no peer could give.
#[derive(Clone, Copy, Default)]
struct Sum {
    copied: u64,
    stuck: u64,
}

async fn fill_batch(core: &Core, batch: Vec<ChunkId>) -> Sum {
    let work = futures::stream::iter(batch).map(|chunk| async move {
        match heal(core, chunk, Suspicion::None).await {
            Ok(Healed::Copied | Healed::Mended) => {
                core.progress.filled.fetch_add(1, Ordering::Relaxed);
                core.progress.copied(core.host.clock.now());
                let _ = core
                    .progress
                    .to_fill
                    .try_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
                metrics::counter!("benteng_objects_chunks_filled_total").increment(1);
                Sum { copied: 1, stuck: 0 }
            }
            Ok(Healed::Good | Healed::Unwanted) => Sum::default(),
            Ok(Healed::Stuck) => {
                core.findings.require(core.me, chunk);
                Sum { copied: 0, stuck: 1 }
            }
            Err(e) => {
                tracing::warn!(%chunk, error = %e, "a chunk cannot be filled now");
                core.findings.require(core.me, chunk);
                Sum { copied: 0, stuck: 1 }
            }
        }
    });
    let add = |sum: Sum, one: Sum| async move {
        Sum { copied: sum.copied + one.copied, stuck: sum.stuck + one.stuck }
    };
    work.buffer_unordered(core.limits.repair_parallel).fold(Sum::default(), add).await
}
