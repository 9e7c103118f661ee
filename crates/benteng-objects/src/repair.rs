//! Repair: this node walks the queue's rows that name it, makes its copies good and says so.

use std::sync::atomic::Ordering;
use std::sync::{Mutex, PoisonError};

use benteng_host::{KvView, Visit, prefix_end};
use benteng_meta::apply::REPAIR_CHUNKS_MAX;
use benteng_meta::ids::*;
use benteng_meta::{Command, RepairRow, codec, key, query};
use bytes::Bytes;
use futures::StreamExt;

use crate::Result;
use crate::core::Core;
use crate::heal::{Healed, Suspicion, heal};

/// Rows worked on per round.
const PAGE: usize = 64;
/// Rows looked at per round: those of other nodes are passed over.
const LOOK_MAX: usize = 20_000;

/// Where this node is in the queue.
#[derive(Default)]
pub(crate) struct Repair {
    cursor: Mutex<Option<Bytes>>,
}

impl Repair {
    /// One round. Returns whether there is more to do at once.
    ///
    /// Errors: the disk's, or what proposing gives: the rows stay and are worked on again.
    pub(crate) async fn round(&self, core: &Core) -> Result<bool> {
        let view = core.group.local()?;
        if query::clock(&*view)?.chunks_short == 0 {
            core.progress.repair_stuck.store(0, Ordering::Relaxed);
            return Ok(false);
        }
        let after = self.cursor.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let (chunks, next) = page(&*view, core.me, after.as_deref())?;
        drop(view);
        if after.is_none() {
            core.progress.repair_stuck.store(0, Ordering::Relaxed);
        }
        let more = next.is_some();
        *self.cursor.lock().unwrap_or_else(PoisonError::into_inner) = next;
        if chunks.is_empty() {
            return Ok(more);
        }

        let healed: Vec<(ChunkId, Healed)> = {
            let work = futures::stream::iter(chunks).map(|chunk| async move {
                let healed = heal(core, chunk, Suspicion::Wrong).await.unwrap_or_else(|e| {
                    tracing::warn!(%chunk, error = %e, "a copy cannot be repaired now");
                    Healed::Stuck
                });
                (chunk, healed)
            });
            work.buffer_unordered(core.limits.repair_parallel).collect().await
        };
        let mut done: Vec<ChunkId> = Vec::new();
        for (chunk, healed) in healed {
            match healed {
                Healed::Stuck => {
                    core.progress.repair_stuck.fetch_add(1, Ordering::Relaxed);
                }
                Healed::Unwanted => {}
                Healed::Good | Healed::Copied | Healed::Mended => done.push(chunk),
            }
            if matches!(healed, Healed::Copied | Healed::Mended) {
                core.progress.repaired.fetch_add(1, Ordering::Relaxed);
                core.progress.copied(core.host.clock.now());
                metrics::counter!("benteng_objects_chunks_repaired_total").increment(1);
            }
        }
        // Whole chunks in order: what a command names does not depend on which copy ended first.
        done.sort_unstable();
        for chunks in done.chunks(REPAIR_CHUNKS_MAX) {
            let store = core.copies.disk().id();
            tracing::info!(chunks = chunks.len(), "copies repaired");
            let command = Command::Repaired { node: core.me, store, chunks: chunks.to_vec() };
            core.group.propose(command, None).await?;
        }
        Ok(more && !done.is_empty())
    }
}

/// A page of chunks that `me` lacks, behind `after`; and where the next page begins, if there is one.
fn page(view: &dyn KvView, me: NodeId, after: Option<&[u8]>) -> Result<(Vec<ChunkId>, Option<Bytes>)> {
    let table = key::table(key::Table::Repair);
    let from = after.map_or_else(|| table.to_vec(), |after| [after, &[0]].concat());
    let (mut chunks, mut next, mut failed, mut seen) = (Vec::new(), None, None, 0);
    view.scan(&from, &prefix_end(&table), &mut |row_key, value| {
        seen += 1;
        match (key::split_repair(row_key), codec::decode::<RepairRow>(value)) {
            (Some(chunk), Ok(row)) if row.missing.contains(&me) => chunks.push(chunk),
            (_, Ok(_)) => {}
            (_, Err(e)) => failed = Some(e),
        }
        if chunks.len() >= PAGE || seen >= LOOK_MAX {
            next = Some(Bytes::copy_from_slice(row_key));
        }
        if next.is_some() || failed.is_some() { Visit::Break(()) } else { Visit::Continue(()) }
    })
    .map_err(benteng_meta::Error::from)?;
    failed.map_or(Ok((chunks, next)), |e| Err(e.into()))
}
