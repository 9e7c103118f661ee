//! From stored chunks to a committed row: propose; where `apply` counts too few copies now,
//! copy those chunks again and propose again (O2).

use std::collections::BTreeMap;
use std::sync::Arc;

use benteng_host::{probe, witness};
use benteng_meta::ids::*;
use benteng_meta::{Answer, Checksum, Command, Copies, NewPart};

use crate::copy::Chunk;
use crate::core::Core;
use crate::fanout::{Durable, fan_out};
use crate::write::StoredChunks;
use crate::{Error, Result};

/// How often chunks of one attempt are copied again.
const ROUNDS: usize = 5;

/// What the command says of a part beside its chunks.
pub(crate) struct PartFacts {
    pub(crate) blob: BlobId,
    pub(crate) part: PartNumber,
    pub(crate) size: u64,
    pub(crate) md5: [u8; 16],
    pub(crate) checksum: Option<Checksum>,
}

fn copies(durable: &[Durable]) -> Copies {
    let mut stores: BTreeMap<(NodeId, StoreId), usize> = BTreeMap::new();
    for (node, store) in durable.iter().flatten() {
        let next = stores.len();
        stores.entry((*node, *store)).or_insert(next);
    }
    // Sixteen stores fit the mask; a chunk beyond them counts as lacking there and is repaired.
    let bit =
        |place: usize| u32::try_from(place).ok().and_then(|place| 1_u16.checked_shl(place)).unwrap_or(0);
    let mask = |of: &Durable| {
        of.iter().filter_map(|(node, store)| stores.get(&(*node, *store))).fold(0, |mask, at| mask | bit(*at))
    };
    let chunks = durable.iter().map(mask).collect();
    let mut named: Vec<((NodeId, StoreId), usize)> = stores.iter().map(|(store, at)| (*store, *at)).collect();
    named.sort_unstable_by_key(|(_, at)| *at);
    Copies { stores: named.into_iter().map(|(store, _)| store).take(16).collect(), chunks }
}

/// Commits the chunks under the command that `make` builds.
///
/// Errors: as the state decides; `Unknown` if that is not known.
pub(crate) async fn commit_chunks(
    core: &Arc<Core>,
    facts: &PartFacts,
    mut stored: Box<StoredChunks>,
    make: impl Fn(NewPart) -> Command,
) -> Result<SiteTime> {
    stored.attempting.proposing();
    let gateway = Some((stored.origin.node, stored.origin.incarnation));
    for _ in 0..ROUNDS {
        let part = NewPart {
            attempt: stored.attempt,
            salt: stored.salt,
            size: facts.size,
            md5: facts.md5,
            checksum: facts.checksum.clone(),
            copies: copies(&stored.durable),
        };
        match core.group.propose(make(part), gateway).await {
            Ok(Answer::Committed(at)) => {
                state_acknowledged(facts, &stored);
                return Ok(at);
            }
            Ok(Answer::Replace(list)) => {
                probe("copies_replaced");
                metrics::counter!("benteng_objects_replaced_commits_total").increment(1);
                copy_again(core, facts, &mut stored, &list).await?;
            }
            Ok(other) => return Err(Error::Unknown { why: format!("the commit answered {other:?}") }),
            Err(
                e @ (benteng_consensus::Error::Unavailable { .. }
                | benteng_consensus::Error::Rejected(benteng_meta::Rejection::Full)),
            ) => {
                // Surely not applied, now or later: a site without a quorum must not fill its disks
                // with the chunks of writes that it refuses.
                stored.attempting.never_proposed();
                return Err(e.into());
            }
            Err(e) => return Err(e.into()),
        }
    }
    Err(Error::Unavailable { why: "the placement moved faster than the chunks".to_owned() })
}

/// States which chunks are about to be acknowledged: enough copies of each must be durable (I1).
fn state_acknowledged(facts: &PartFacts, stored: &StoredChunks) {
    let PartFacts { blob, part, .. } = *facts;
    for sequence in (0..).take(stored.durable.len()) {
        let chunk = ChunkId { blob, part, attempt: stored.attempt, sequence };
        witness("chunk_acknowledged", 0, || chunk.folded());
    }
}

/// Copies the listed chunks to where they are wanted now.
async fn copy_again(
    core: &Arc<Core>,
    facts: &PartFacts,
    stored: &mut StoredChunks,
    list: &[u32],
) -> Result<()> {
    // The state that asked for it may be newer than this replica.
    drop(core.group.read().await?);
    for sequence in list {
        let id = ChunkId { blob: facts.blob, part: facts.part, attempt: stored.attempt, sequence: *sequence };
        let at = usize::try_from(*sequence).unwrap_or(usize::MAX);
        let Some(durable) = stored.durable.get(at).cloned() else {
            return Err(Error::Unknown {
                why: format!("chunk {id} is to be copied again, but there is none"),
            });
        };
        let chunk = match stored.kept.as_ref().filter(|(chunk, _)| chunk.id == id) {
            Some((chunk, _)) => chunk.clone(),
            None => fetch(core, id, &durable).await?,
        };
        // Copies on disks that are no longer the node's do not count: they are written again.
        let layout = crate::layout::Layout::of(&*core.group.local()?)?;
        let counts =
            |node: &NodeId, store: &StoreId| layout.nodes.get(node).is_some_and(|row| row.store == *store);
        let live = durable.into_iter().filter(|(node, store)| counts(node, store)).collect();
        let again = fan_out(core, &chunk, live).await?;
        if let Some(place) = stored.durable.get_mut(at) {
            *place = again;
        }
    }
    Ok(())
}

/// A chunk of this attempt from whoever has it.
async fn fetch(core: &Arc<Core>, id: ChunkId, holders: &Durable) -> Result<Chunk> {
    let mut why = "nobody holds it".to_owned();
    for node in holders.keys() {
        match core.copies.fetch(*node, id, core.limits.read_deadline).await {
            Ok(chunk) => return Ok(chunk),
            Err(e) => why = format!("node {node}: {e}"),
        }
    }
    Err(Error::Unavailable { why: format!("chunk {id} cannot be copied again: {why}") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_chunk_names_the_stores_that_hold_it_and_no_other() {
        let store = |n: u128| StoreId(uuid::Uuid::from_u128(n));
        let on =
            |nodes: &[u64]| nodes.iter().map(|n| (NodeId(*n), store(u128::from(*n)))).collect::<Durable>();
        let made = copies(&[on(&[1, 2]), on(&[3]), on(&[1, 3])]);
        let holds = |chunk: usize| -> Vec<u64> {
            let named = made.stores.iter().enumerate().filter(|(i, _)| made.chunks[chunk] & (1 << i) != 0);
            named.map(|(_, (node, _))| node.0).collect()
        };
        assert_eq!((holds(0), holds(1), holds(2)), (vec![1, 2], vec![3], vec![1, 3]));
        let many: Vec<Durable> = (1..=20).map(|n| on(&[n])).collect();
        let made = copies(&many);
        assert_eq!(made.stores.len(), 16, "O2: more do not fit a command");
        assert_eq!(made.chunks[19], 0, "what is not named does not count");
    }
}
