//! Holds store and rows against each other: copies that rows name and the store lacks are
//! reported; chunks that no row can name any more are removed.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;
use std::sync::{Mutex, PoisonError};

use benteng_host::planted::{Bug, planted};
use benteng_host::{KvView, Mono, probe, sleep};
use benteng_meta::ids::*;
use benteng_meta::{GatewayRow, NodeState, key, query};
use bytes::Bytes;

use crate::core::Core;
use crate::layout::Layout;
use crate::rows::{self, Cursor};
use crate::{Result, compare, removal};

/// Chunks or rows per look at the state.
const PAGE: usize = 256;
/// Orphans removed per sweep; the rest waits for the next.
const ORPHANS_MAX: usize = 10_000;

/// Looks for missing copies and orphans every now and then, and for orphans as soon as a gateway process has a
/// successor: what it had begun and never committed need not stay for long (O1).
#[derive(Default)]
pub(crate) struct Sweep {
    last: Mutex<Last>,
}

#[derive(Clone, Default)]
struct Last {
    ended: Option<Mono>,
    /// The gateways' rows at the last search for orphans.
    gateways: Vec<(Bytes, GatewayRow)>,
}

impl Sweep {
    /// One look whether there is something to do, and that.
    pub(crate) async fn round(&self, core: &Core) -> Result<()> {
        let last = || self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let Last { ended, gateways: known } = last().clone();
        let due = ended.is_none_or(|at| core.host.clock.now().since(at) >= core.limits.sweep);
        let gateways = query::all::<GatewayRow>(&*core.group.local()?, key::Table::Gateway)?;
        if due {
            // A holder that does not answer keeps nobody from looking at its own rows.
            compare::round(core).await?;
            find_missing(core).await?;
        }
        if due || gateways != known {
            sweep(core).await?;
        }
        let ended = if due { Some(core.host.clock.now()) } else { ended };
        *last() = Last { ended, gateways };
        Ok(())
    }
}

/// Chunks of one page of rows that this node holds by its groups and the store has not.
pub(crate) fn missing(core: &Core, view: &dyn KvView, cursor: &mut Cursor) -> Result<Vec<ChunkId>> {
    let (named, next) = rows::page(view, cursor, PAGE)?;
    *cursor = next;
    let mut missing = Vec::new();
    for chunk in named.into_iter().flat_map(rows::Named::chunks) {
        let row = query::placement(view, chunk.placement_group())?;
        // What a target is still to be filled with is filling's business.
        let held = row.current.contains(&core.me) || row.filled.contains(&core.me);
        if held && core.copies.disk().stat(chunk).map_err(failed)?.is_none() {
            missing.push(chunk);
        }
    }
    Ok(missing)
}

/// Reports every chunk that a row names in this node's groups and the store has not. Returns how many.
pub(crate) async fn find_missing(core: &Core) -> Result<u64> {
    let mut cursor = Cursor::START;
    let mut found = 0;
    while cursor != Cursor::End {
        let view = core.group.local()?;
        for chunk in missing(core, &*view, &mut cursor)? {
            found += 1;
            core.findings.require(core.me, chunk);
        }
        drop(view);
        crate::findings::report(core).await?;
        sleep(&*core.host.clock, core.limits.idle / 10).await;
    }
    Ok(found)
}

/// Removes orphans (O1) and counts strays, which `strays` gives up. Returns how many were removed.
pub(crate) async fn sweep(core: &Core) -> Result<u64> {
    let mut after = None;
    let mut strays = 0_u64;
    let mut orphans: BTreeSet<ChunkId> = BTreeSet::new();
    loop {
        let page = core.copies.disk().list(after, PAGE).map_err(failed)?;
        let Some((last, _)) = page.last() else { break };
        after = Some(*last);
        // A read index: what no row names must not be judged by an old state.
        let view = core.group.read().await?;
        let layout = Layout::of(&*view)?;
        for (chunk, origin) in page {
            match judge(core, &*view, &layout, chunk, origin)? {
                Judged::Orphan if orphans.len() < ORPHANS_MAX => {
                    orphans.insert(chunk);
                }
                Judged::Stray => {
                    strays += 1;
                    core.strays.found(chunk.placement_group());
                }
                Judged::Kept | Judged::Orphan => {}
            }
        }
        drop(view);
        sleep(&*core.host.clock, core.limits.idle / 10).await;
    }
    core.progress.strays.store(strays, Ordering::Relaxed);
    remove_orphans(core, orphans).await
}

enum Judged {
    Kept,
    /// Named, but this node is not to hold it.
    Stray,
    /// Named by no live row, and its writer can name nothing any more.
    Orphan,
}

fn judge(core: &Core, view: &dyn KvView, layout: &Layout, chunk: ChunkId, origin: Origin) -> Result<Judged> {
    if query::names_attempt(view, chunk.blob, chunk.part, chunk.attempt)? {
        let held = layout.writable(view, chunk)?.contains(&core.me);
        return Ok(if held { Judged::Kept } else { Judged::Stray });
    }
    Ok(if is_over(view, origin)? { Judged::Orphan } else { Judged::Kept })
}

/// Whether the writer can commit nothing any more, and this state knows all that it did (O1).
fn is_over(view: &dyn KvView, origin: Origin) -> Result<bool> {
    if query::clock(view)?.seq < origin.began {
        return Ok(false);
    }
    let gateway: Option<GatewayRow> = query::get(view, &key::gateway(origin.node))?;
    if planted(Bug::LivingOrphans) || gateway.is_some_and(|row| row.incarnation > origin.incarnation) {
        return Ok(true);
    }
    let node: Option<benteng_meta::NodeRow> = query::get(view, &key::node(origin.node))?;
    Ok(node.is_some_and(|row| row.state == NodeState::Removed))
}

/// Removes those that do not wait in a dead row: a reader of an older state may still need them (O4).
async fn remove_orphans(core: &Core, mut orphans: BTreeSet<ChunkId>) -> Result<u64> {
    if orphans.is_empty() {
        return Ok(0);
    }
    // Newer than the look that found them: what died in between stands in a row now.
    let view = core.group.local()?;
    removal::waiting(&*view, &mut |blob, part, attempt| {
        let at = |sequence| ChunkId { blob, part, attempt, sequence };
        let dead: Vec<ChunkId> = orphans.range(at(0)..=at(u32::MAX)).copied().collect();
        dead.iter().for_each(|chunk| {
            orphans.remove(chunk);
        });
    })?;
    let mut doomed = Vec::new();
    for chunk in orphans {
        if !query::names_attempt(&*view, chunk.blob, chunk.part, chunk.attempt)? {
            doomed.push(chunk);
        }
    }
    drop(view);
    remove(core, &doomed).await?;
    if !doomed.is_empty() {
        probe("orphans_removed");
        tracing::info!(chunks = doomed.len(), "orphans of earlier gateway processes are removed");
    }
    Ok(u64::try_from(doomed.len()).unwrap_or(u64::MAX))
}

#[expect(clippy::needless_pass_by_value, reason = "shaped for map_err")]
fn failed(e: crate::copy::CopyError) -> crate::Error {
    crate::Error::Unavailable { why: e.to_string() }
}

async fn remove(core: &Core, chunks: &[ChunkId]) -> Result<()> {
    for chunks in chunks.chunks(PAGE) {
        core.copies.disk().remove(chunks.to_vec()).await.map_err(failed)?;
        metrics::counter!("benteng_objects_chunks_swept_total").increment(chunks.len() as u64);
    }
    Ok(())
}
