//! Who holds a chunk, as a view of the state says.

use std::collections::BTreeMap;

use benteng_host::KvView;
use benteng_host::planted::{Bug, planted};
use benteng_meta::ids::*;
use benteng_meta::{NodeRow, NodeState, Rejection, query};

use crate::Result;

/// The nodes of the site and the counts of copies.
pub(crate) struct Layout {
    /// Nodes that are not removed.
    pub(crate) nodes: BTreeMap<NodeId, NodeRow>,
    /// Copies without which no write is acknowledged.
    pub(crate) copies_min: usize,
}

impl Layout {
    /// As `view` says. Errors: `Rejected(Site)` before the site is formed.
    pub(crate) fn of(view: &dyn KvView) -> Result<Layout> {
        let site = query::site(view)?.ok_or(Rejection::Site { formed: false })?;
        let nodes = query::nodes(view)?.into_iter().filter(|(_, row)| row.state != NodeState::Removed);
        let copies_min = if planted(Bug::OneCopyEnough) { 1 } else { usize::from(site.copies_min) };
        Ok(Layout { nodes: nodes.collect(), copies_min })
    }

    /// Nodes that a new chunk is written to: current and target, but for removed ones.
    pub(crate) fn writable(&self, view: &dyn KvView, chunk: ChunkId) -> Result<Vec<NodeId>> {
        let row = query::placement(view, chunk.placement_group())?;
        Ok(row.writable().into_iter().filter(|node| self.nodes.contains_key(node)).collect())
    }
}

/// Nodes to ask for a chunk, best first: this one, then those that are up; among equals the
/// chunk's number decides, so that readers of a large object spread over its holders.
pub(crate) fn order_for_reading(
    mut holders: Vec<NodeId>,
    chunk: ChunkId,
    me: NodeId,
    up: impl Fn(NodeId) -> bool,
) -> Vec<NodeId> {
    let spread = usize::try_from(chunk.sequence).unwrap_or(0) % holders.len().max(1);
    holders.rotate_left(spread);
    holders.sort_by_key(|node| (*node != me, !up(*node)));
    holders
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readers_ask_themselves_first_then_those_that_are_up() {
        let chunk = |sequence| ChunkId {
            blob: BlobId::default(),
            part: PartNumber(1),
            attempt: Attempt(1),
            sequence,
        };
        let holders = vec![NodeId(1), NodeId(2), NodeId(3)];
        let order = |sequence, me, down| {
            order_for_reading(holders.clone(), chunk(sequence), NodeId(me), |node| node != NodeId(down))
                .iter()
                .map(|node| node.0)
                .collect::<Vec<_>>()
        };
        assert_eq!(order(0, 3, 9), [3, 1, 2]);
        assert_eq!(order(1, 3, 9), [3, 2, 1]);
        assert_eq!(order(0, 9, 1), [2, 3, 1]);
        assert_eq!(order_for_reading(vec![], chunk(7), NodeId(1), |_| true), vec![]);
    }
}
