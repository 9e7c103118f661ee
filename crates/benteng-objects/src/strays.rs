//! Gives up what other nodes hold by now: chunks of placement groups that moved away. A copy goes only
//! when its group's move is over, every reader's floor has passed that, no copy of the chunk is missing,
//! and every present holder says that it has its own (I8: never on absence, never on time alone).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use benteng_host::{KvView, probe};
use benteng_meta::ids::*;
use benteng_meta::{PlacementRow, RepairRow, key, query};
use tokio::sync::{RwLock, RwLockReadGuard};

use crate::copy::CopyError;
use crate::core::Core;
use crate::layout::Layout;
use crate::{Error, Result};

/// Chunks per look at the state and per question to a holder.
const PAGE: usize = 256;
/// How long a holder may take to say what it has.
const ASK: Duration = Duration::from_secs(5);

/// Groups that this node has left.
#[derive(Default)]
pub(crate) struct Strays {
    /// Groups of which nothing is left here.
    cleared: Mutex<BTreeSet<PlacementGroup>>,
    /// Held by who counts a copy as being here; alone by who gives copies up.
    staying: RwLock<()>,
}

impl Strays {
    /// While this is held no copy is given up.
    pub(crate) async fn hold(&self) -> RwLockReadGuard<'_, ()> {
        self.staying.read().await
    }

    /// A copy of a group that was thought to be cleared was found.
    pub(crate) fn found(&self, group: PlacementGroup) {
        self.cleared.lock().unwrap_or_else(PoisonError::into_inner).remove(&group);
    }

    /// Groups that every reader knows to be elsewhere, and that may still have chunks here.
    fn ripe(
        &self,
        me: NodeId,
        rows: &[(PlacementGroup, PlacementRow)],
        floor: StateSeq,
    ) -> BTreeSet<PlacementGroup> {
        let mut cleared = self.cleared.lock().unwrap_or_else(PoisonError::into_inner);
        let mut ripe = BTreeSet::new();
        for (group, row) in rows {
            if row.target.is_some() || row.current.contains(&me) {
                cleared.remove(group);
            } else if floor > row.since && !cleared.contains(group) {
                ripe.insert(*group);
            }
        }
        ripe
    }
}

/// Whether a move has ended that the published floor of a node does not know: old holders wait for it.
pub(crate) fn any_waits(core: &Core, view: &dyn KvView, published: StateSeq) -> Result<bool> {
    let rows = core.places.of(view)?;
    Ok(rows.iter().any(|(_, row)| row.target.is_none() && row.since >= published))
}

/// One round. Returns whether anything was given up.
///
/// Errors: the disk's, or no quorum; what is left is tried again.
pub(crate) async fn round(core: &Core) -> Result<bool> {
    core.gateway.origin()?;
    let ripe = {
        let view = core.group.local()?;
        let rows = core.places.of(&*view)?;
        let (floor, _) = query::floors(&*view)?;
        core.strays.ripe(core.me, &rows, floor)
    };
    if ripe.is_empty() {
        return Ok(false);
    }
    let (mut after, mut evicted, mut kept) = (None, 0_u64, BTreeSet::new());
    loop {
        let page = core.copies.disk().list(after, PAGE).map_err(failed)?;
        let Some((last, _)) = page.last() else { break };
        after = Some(*last);
        let of_ripe = page.into_iter().map(|(chunk, _)| chunk);
        let chunks: Vec<ChunkId> = of_ripe.filter(|chunk| ripe.contains(&chunk.placement_group())).collect();
        if chunks.is_empty() {
            continue;
        }
        let gone = give_up(core, &chunks).await?;
        evicted += u64::try_from(gone.len()).unwrap_or(u64::MAX);
        kept.extend(chunks.iter().filter(|chunk| !gone.contains(chunk)).map(|chunk| chunk.placement_group()));
    }
    let mut cleared = core.strays.cleared.lock().unwrap_or_else(PoisonError::into_inner);
    cleared.extend(ripe.difference(&kept));
    drop(cleared);
    if evicted > 0 {
        probe("strays_evicted");
        tracing::info!(chunks = evicted, "chunks of groups that moved away are given up");
        core.progress.evicted.fetch_add(evicted, Ordering::Relaxed);
        metrics::counter!("benteng_objects_chunks_evicted_total").increment(evicted);
    }
    Ok(evicted > 0)
}

/// Gives up those of `chunks` that others surely hold. Returns which.
async fn give_up(core: &Core, chunks: &[ChunkId]) -> Result<BTreeSet<ChunkId>> {
    // A read index: an old state would not know that a group has come back.
    let view = core.group.read().await?;
    let layout = Layout::of(&*view)?;
    let mut by_holder: BTreeMap<NodeId, Vec<ChunkId>> = BTreeMap::new();
    let mut candidates = BTreeSet::new();
    for chunk in chunks {
        let Some(holders) = elsewhere(&*view, &layout, core.me, *chunk)? else { continue };
        candidates.insert(*chunk);
        holders.into_iter().for_each(|node| by_holder.entry(node).or_default().push(*chunk));
    }
    drop(view);
    for (node, chunks) in by_holder {
        let present = match core.copies.stat(node, chunks.clone(), ASK).await {
            Ok(present) => present,
            Err(e) => {
                tracing::debug!(node = node.0, error = %e, "chunks stay: a holder does not say whether it has them");
                vec![false; chunks.len()]
            }
        };
        for (chunk, present) in chunks.iter().zip(present) {
            if !present {
                candidates.remove(chunk);
            }
        }
    }
    // From here on no loop of this node counts a copy as being here, and the state is looked at once
    // more: a group that came back keeps what it has.
    let _alone = core.strays.staying.write().await;
    let view = core.group.local()?;
    for chunk in candidates.clone() {
        if elsewhere(&*view, &layout, core.me, chunk)?.is_none() {
            candidates.remove(&chunk);
        }
    }
    drop(view);
    core.copies.disk().evict(candidates.iter().copied().collect()).await.map_err(failed)?;
    Ok(candidates)
}

/// Who holds a chunk that this node is not to hold; `None`: it stays here.
fn elsewhere(view: &dyn KvView, layout: &Layout, me: NodeId, chunk: ChunkId) -> Result<Option<Vec<NodeId>>> {
    let row = query::placement(view, chunk.placement_group())?;
    // What no row names is not this loop's business: it is dead, or will be named, or is an orphan.
    let named = query::names_attempt(view, chunk.blob, chunk.part, chunk.attempt)?;
    let whole = row.current.iter().all(|node| layout.nodes.contains_key(node)) && !row.current.is_empty();
    let lacking: Option<RepairRow> = query::get(view, &key::repair(chunk))?;
    let stays = !named || row.target.is_some() || row.current.contains(&me) || !whole || lacking.is_some();
    Ok((!stays).then_some(row.current))
}

#[expect(clippy::needless_pass_by_value, reason = "shaped for map_err")]
fn failed(e: CopyError) -> Error {
    Error::Unavailable { why: e.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn o5_groups_are_ripe_when_every_reader_knows_that_they_left() {
        let strays = Strays::default();
        let (me, other) = (NodeId(1), NodeId(2));
        let row = |current: NodeId, target: Option<NodeId>, since| {
            let (target, since) = (target.map(|node| vec![node]), StateSeq(since));
            vec![(PlacementGroup(5), PlacementRow { current: vec![current], target, filled: vec![], since })]
        };
        let ripe = |rows: &[(PlacementGroup, PlacementRow)], floor| {
            !strays.ripe(me, rows, StateSeq(floor)).is_empty()
        };
        assert!(!ripe(&row(me, None, 0), 9), "it is here");
        assert!(!ripe(&row(me, Some(other), 20), 30), "it is leaving");
        assert!(!ripe(&row(other, None, 30), 30), "it has left, and a reader may not know");
        assert!(ripe(&row(other, None, 30), 31), "every floor has passed");
        assert!(!ripe(&row(other, Some(me), 42), 50), "it comes back");
        assert!(ripe(&row(other, None, 50), 51));
        strays.cleared.lock().expect("no panic before").insert(PlacementGroup(5));
        assert!(!ripe(&row(other, None, 50), 60), "nothing is left of it");
        strays.found(PlacementGroup(5));
        assert!(ripe(&row(other, None, 50), 61));
    }
}
