//! Anti-entropy: the holders of a placement group compare digests of the chunks that they have of it. Where
//! two differ, their lists are merged; what a row names and one of them lacks is queued for repair. The rows
//! say what should be there (`sweep`); this needs no trust in one node's own look at its rows and its index.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::atomic::Ordering;
use std::time::Duration;

use benteng_host::{probe, sleep};
use benteng_meta::ids::*;
use benteng_meta::{NodeState, query};
use serde::{Deserialize, Serialize};

use crate::copy::CopyError;
use crate::core::Core;
use crate::{Error, Result};

/// Chunks per look at the store's index.
const PAGE: usize = 256;
/// Chunks of other groups that are passed over for one page of a list.
const LOOK_MAX: usize = 20_000;
/// Chunks of one page of a list.
pub(crate) const LIST_MAX: usize = 1000;
/// How long another node may take to go through its index.
const DIGEST: Duration = Duration::from_secs(60);
const ASK: Duration = Duration::from_secs(5);

/// The chunks that a store has of a group: how many, and the sum (exclusive or) of their hashes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Digest {
    pub(crate) chunks: u64,
    pub(crate) sum: u128,
}

impl Digest {
    fn add(&mut self, chunk: ChunkId) {
        let hash = ring::digest::digest(&ring::digest::SHA256, &chunk.to_bytes());
        let half = hash.as_ref().first_chunk::<16>().copied().unwrap_or_default();
        self.chunks += 1;
        self.sum ^= u128::from_be_bytes(half);
    }
}

#[expect(clippy::needless_pass_by_value, reason = "shaped for map_err")]
fn failed(e: CopyError) -> Error {
    Error::Unavailable { why: e.to_string() }
}

/// Digests of groups over the good chunks of this node's store, in the order of `groups`.
pub(crate) async fn digests(
    core: &Core,
    groups: &[PlacementGroup],
) -> std::result::Result<Vec<Digest>, CopyError> {
    let mut sums: BTreeMap<PlacementGroup, Digest> =
        groups.iter().map(|group| (*group, Digest::default())).collect();
    let mut after = None;
    loop {
        let (chunks, last) = core.copies.disk().good(after, PAGE)?;
        for chunk in chunks {
            if let Some(sum) = sums.get_mut(&chunk.placement_group()) {
                sum.add(chunk);
            }
        }
        let Some(last) = last else { break };
        after = Some(last);
        tokio::task::yield_now().await;
    }
    Ok(groups.iter().map(|group| sums.get(group).copied().unwrap_or_default()).collect())
}

/// A page of the good chunks of these groups behind `after`, in order, and where to go on; `None`: at the end.
pub(crate) fn list(
    core: &Core,
    groups: &BTreeSet<PlacementGroup>,
    mut after: Option<ChunkId>,
) -> std::result::Result<(Vec<ChunkId>, Option<ChunkId>), CopyError> {
    let mut found = Vec::new();
    let mut looked = 0;
    loop {
        let (chunks, last) = core.copies.disk().good(after, PAGE)?;
        found.extend(chunks.into_iter().filter(|chunk| groups.contains(&chunk.placement_group())));
        looked += PAGE;
        after = last;
        if after.is_none() || found.len() + PAGE > LIST_MAX || looked >= LOOK_MAX {
            return Ok((found, after));
        }
    }
}

/// One round: every group of which this node is the first holder, against each of its other holders.
/// Returns how many copies were found missing.
///
/// Errors: the disk's, or no quorum. A holder that does not answer is left out.
pub(crate) async fn round(core: &Core) -> Result<u64> {
    let shared = shared(core)?;
    let mut found = 0;
    for (peer, groups) in shared {
        if !core.copies.up(peer) {
            continue;
        }
        let theirs = match core.copies.digests(peer, groups.clone(), DIGEST).await {
            Ok(theirs) => theirs,
            Err(e) => {
                tracing::debug!(node = peer.0, error = %e, "digests are not compared");
                continue;
            }
        };
        let own = digests(core, &groups).await.map_err(failed)?;
        let pairs = groups.iter().zip(own.iter().zip(&theirs));
        let differ: BTreeSet<PlacementGroup> =
            pairs.filter(|(_, (own, theirs))| own != theirs).map(|(group, _)| *group).collect();
        metrics::counter!("benteng_objects_groups_compared_total").increment(groups.len() as u64);
        if !differ.is_empty() {
            // Often it is only what is being written now; the rows tell.
            metrics::counter!("benteng_objects_groups_differing_total").increment(differ.len() as u64);
            found += merge(core, peer, &differ).await?;
        }
        sleep(&*core.host.clock, core.limits.idle / 10).await;
    }
    Ok(found)
}

/// Groups that are in their place and of which this node is the first holder, by their other holders.
fn shared(core: &Core) -> Result<BTreeMap<NodeId, Vec<PlacementGroup>>> {
    let view = core.group.local()?;
    let removed = query::nodes(&*view)?.into_iter().filter(|(_, row)| row.state == NodeState::Removed);
    let removed: BTreeSet<NodeId> = removed.map(|(node, _)| node).collect();
    let mut shared: BTreeMap<NodeId, Vec<PlacementGroup>> = BTreeMap::new();
    for (group, row) in core.places.of(&*view)?.iter() {
        if row.target.is_some() || row.current.iter().min() != Some(&core.me) {
            continue;
        }
        for node in row.current.iter().filter(|node| **node != core.me && !removed.contains(node)) {
            shared.entry(*node).or_default().push(*group);
        }
    }
    Ok(shared)
}

/// Merges the lists of both, which are in one order, and reports what is named and lacking.
async fn merge(core: &Core, peer: NodeId, groups: &BTreeSet<PlacementGroup>) -> Result<u64> {
    let (mut own, mut theirs) = (List::default(), List::default());
    let mut found = 0;
    let mut lacking: BTreeMap<NodeId, Vec<ChunkId>> = BTreeMap::new();
    loop {
        match Step::of(&mut own, &mut theirs) {
            Step::OwnPage => own.add(list(core, groups, own.after).map_err(failed)?),
            Step::TheirPage => {
                let wanted = groups.iter().copied().collect();
                match core.copies.list_of(peer, wanted, theirs.after, ASK).await {
                    Ok(page) => theirs.add(page),
                    Err(e) => {
                        tracing::debug!(node = peer.0, error = %e, "lists are not merged to their end");
                        break;
                    }
                }
                sleep(&*core.host.clock, core.limits.idle / 10).await;
            }
            Step::PeerLacks(chunk) => lacking.entry(peer).or_default().push(chunk),
            Step::OwnLacks(chunk) => lacking.entry(core.me).or_default().push(chunk),
            Step::Both => {}
            Step::End => break,
        }
        if lacking.values().any(|chunks| chunks.len() >= PAGE) {
            found += report(core, std::mem::take(&mut lacking)).await?;
        }
    }
    Ok(found + report(core, lacking).await?)
}

/// What a merge of two ordered lists meets next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    OwnPage,
    TheirPage,
    PeerLacks(ChunkId),
    OwnLacks(ChunkId),
    Both,
    End,
}

impl Step {
    fn of(own: &mut List, theirs: &mut List) -> Step {
        if own.wants_more() {
            return Step::OwnPage;
        }
        if theirs.wants_more() {
            return Step::TheirPage;
        }
        match (own.chunks.front().copied(), theirs.chunks.front().copied()) {
            (None, None) => Step::End,
            (Some(a), Some(b)) if a == b => {
                own.chunks.pop_front();
                theirs.chunks.pop_front();
                Step::Both
            }
            (Some(a), Some(b)) if b < a => {
                theirs.chunks.pop_front();
                Step::OwnLacks(b)
            }
            (None, Some(b)) => {
                theirs.chunks.pop_front();
                Step::OwnLacks(b)
            }
            (Some(a), _) => {
                own.chunks.pop_front();
                Step::PeerLacks(a)
            }
        }
    }
}

/// One side of a merge.
#[derive(Default)]
struct List {
    chunks: VecDeque<ChunkId>,
    after: Option<ChunkId>,
    ended: bool,
}

impl List {
    fn wants_more(&self) -> bool {
        self.chunks.is_empty() && !self.ended
    }

    fn add(&mut self, (chunks, next): (Vec<ChunkId>, Option<ChunkId>)) {
        self.chunks.extend(chunks);
        self.ended = next.is_none();
        self.after = next;
    }
}

/// Queues what a row names, its holder should have, and still has not. Returns how many.
async fn report(core: &Core, lacking: BTreeMap<NodeId, Vec<ChunkId>>) -> Result<u64> {
    let mut found = 0;
    for (node, chunks) in lacking {
        // A read index: what was just written is named by now, or is nobody's business yet.
        let view = core.group.read().await?;
        let mut wanted = Vec::new();
        for chunk in chunks {
            let row = query::placement(&*view, chunk.placement_group())?;
            let held = row.target.is_none() && row.current.contains(&node);
            if held && query::names_attempt(&*view, chunk.blob, chunk.part, chunk.attempt)? {
                wanted.push(chunk);
            }
        }
        drop(view);
        if wanted.is_empty() {
            continue;
        }
        // It may have come between the two lists.
        let there = if node == core.me {
            let here = |chunk: &ChunkId| Ok(core.copies.disk().stat(*chunk)?.is_some());
            wanted.iter().map(here).collect::<std::result::Result<_, CopyError>>().map_err(failed)?
        } else {
            match core.copies.stat(node, wanted.clone(), ASK).await {
                Ok(there) => there,
                Err(_) => continue,
            }
        };
        for (chunk, _) in wanted.into_iter().zip(there).filter(|(_, there)| !there) {
            probe("anti_entropy_found_missing");
            found += 1;
            core.progress.compared_missing.fetch_add(1, Ordering::Relaxed);
            core.findings.require(node, chunk);
        }
    }
    if found > 0 {
        tracing::warn!(chunks = found, "holders of placement groups differ: copies are missing");
        crate::findings::report(core).await?;
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_differ_by_any_chunk_and_not_by_order() {
        let chunk = |sequence| ChunkId {
            blob: BlobId::default(),
            part: PartNumber(1),
            attempt: Attempt(1),
            sequence,
        };
        let sum = |of: &[u32]| {
            let mut sum = Digest::default();
            of.iter().for_each(|n| sum.add(chunk(*n)));
            sum
        };
        assert_eq!(sum(&[1, 2, 3]), sum(&[3, 1, 2]));
        assert_ne!(sum(&[1, 2, 3]), sum(&[1, 2]));
        assert_ne!(sum(&[1, 2, 3]), sum(&[1, 2, 4]));
        assert_ne!(sum(&[1, 1]), sum(&[]), "two equal ones cancel out, their count does not");
    }

    fn chunks(of: &BTreeSet<u32>) -> Vec<ChunkId> {
        let chunk = |sequence| ChunkId {
            blob: BlobId::default(),
            part: PartNumber(1),
            attempt: Attempt(1),
            sequence,
        };
        of.iter().copied().map(chunk).collect()
    }

    proptest::proptest! {
        #[test]
        fn a_merge_finds_every_difference_whatever_the_pages(
            own in proptest::collection::btree_set(0_u32..40, 0..30),
            theirs in proptest::collection::btree_set(0_u32..40, 0..30),
            page in 1_usize..7,
        ) {
            let next = |of: &BTreeSet<u32>, after: Option<ChunkId>| {
                let rest: Vec<ChunkId> = chunks(of).into_iter().filter(|id| after.is_none_or(|after| *id > after)).collect();
                let next = (rest.len() > page).then(|| rest[page - 1]);
                (rest.into_iter().take(page).collect::<Vec<_>>(), next)
            };
            let (mut a, mut b) = (List::default(), List::default());
            let (mut peer_lacks, mut own_lacks) = (Vec::new(), Vec::new());
            loop {
                match Step::of(&mut a, &mut b) {
                    Step::OwnPage => a.add(next(&own, a.after)),
                    Step::TheirPage => b.add(next(&theirs, b.after)),
                    Step::PeerLacks(chunk) => peer_lacks.push(chunk),
                    Step::OwnLacks(chunk) => own_lacks.push(chunk),
                    Step::Both => {}
                    Step::End => break,
                }
            }
            proptest::prop_assert_eq!(peer_lacks, chunks(&own.difference(&theirs).copied().collect()));
            proptest::prop_assert_eq!(own_lacks, chunks(&theirs.difference(&own).copied().collect()));
        }
    }
}
