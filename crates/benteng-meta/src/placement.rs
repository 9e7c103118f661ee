//! Who should hold a placement group: copies spread over zones, groups balanced over nodes,
//! and as few moves as that allows. Pure; the result is proposed as targets, never applied as is.

use std::collections::{BTreeMap, BTreeSet};

use crate::ids::*;

/// A node that may hold chunks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// The node.
    pub node: NodeId,
    /// Its failure domain.
    pub zone: String,
}

/// Plans the holders of every group: `wanted` copies each (fewer if there are fewer candidates).
///
/// Takes for each group who holds it now. Returns only the groups whose holders change.
/// Keeps a holder unless it is no candidate, stands in a zone that holds the group already
/// while another zone is free, or carries more than its share.
pub fn plan(
    candidates: &[Candidate],
    wanted: usize,
    current: &[(PlacementGroup, Vec<NodeId>)],
) -> Vec<(PlacementGroup, Vec<NodeId>)> {
    let copies = wanted.min(candidates.len());
    let mut plan = Plan {
        zones: candidates.iter().map(|c| (c.node, c.zone.as_str())).collect(),
        zones_count: candidates.iter().map(|c| c.zone.as_str()).collect::<BTreeSet<_>>().len(),
        load: candidates.iter().map(|c| (c.node, 0)).collect(),
    };
    let mut groups: Vec<Vec<NodeId>> =
        current.iter().map(|(_, holders)| plan.keep(holders, copies)).collect();
    for group in &mut groups {
        plan.fill(group, copies);
    }
    // Each move lowers the sum of squared loads, so this ends.
    loop {
        let moved = groups.iter_mut().filter_map(|group| plan.level(group).then_some(())).count();
        if moved == 0 {
            break;
        }
    }
    let changed = |((group, old), new): (&(PlacementGroup, Vec<NodeId>), Vec<NodeId>)| {
        let mut before = old.clone();
        let mut after = new.clone();
        before.sort_unstable();
        after.sort_unstable();
        (before != after).then_some((*group, new))
    };
    current.iter().zip(groups).filter_map(changed).collect()
}

struct Plan<'a> {
    zones: BTreeMap<NodeId, &'a str>,
    zones_count: usize,
    load: BTreeMap<NodeId, usize>,
}

impl Plan<'_> {
    fn load(&self, node: NodeId) -> usize {
        self.load.get(&node).copied().unwrap_or(0)
    }

    fn take(&mut self, node: NodeId) {
        *self.load.entry(node).or_default() += 1;
    }

    /// Whether another holder of the group stands in the zone of `node`.
    fn crowded(&self, group: &[NodeId], node: NodeId) -> bool {
        group.iter().any(|other| *other != node && self.zones.get(other) == self.zones.get(&node))
    }

    fn keep(&mut self, holders: &[NodeId], copies: usize) -> Vec<NodeId> {
        let mut kept = Vec::new();
        for node in holders.iter().filter(|node| self.zones.contains_key(node)) {
            let another_zone_is_free = self.zones_count > kept.len();
            let in_the_way = self.crowded(&kept, *node) && another_zone_is_free;
            if kept.len() < copies && !kept.contains(node) && !in_the_way {
                kept.push(*node);
            }
        }
        kept.iter().for_each(|node| self.take(*node));
        kept
    }

    /// Adds holders: a free zone first, then the least loaded; the id breaks ties, so that every planner agrees.
    fn fill(&mut self, group: &mut Vec<NodeId>, copies: usize) {
        while group.len() < copies {
            let free = self.zones.keys().copied().filter(|node| !group.contains(node));
            let best = free.min_by_key(|node| (self.crowded(group, *node), self.load(*node), *node));
            let Some(best) = best else { return };
            group.push(best);
            self.take(best);
        }
    }

    /// Moves one copy from the most to the least loaded node, if that levels the load and crowds no zone.
    fn level(&mut self, group: &mut [NodeId]) -> bool {
        let Some(at) = (0..group.len()).max_by_key(|at| self.load(group[*at])) else { return false };
        let (from, mut rest) = (group[at], group.to_vec());
        rest.swap_remove(at);
        let was_crowded = self.crowded(&rest, from);
        let fits = |node: &NodeId| !group.contains(node) && (was_crowded || !self.crowded(&rest, *node));
        let to = self.zones.keys().copied().filter(fits).min_by_key(|node| (self.load(*node), *node));
        let Some(to) = to.filter(|to| self.load(*to) + 2 <= self.load(from)) else { return false };
        *self.load.entry(from).or_default() -= 1;
        self.take(to);
        group[at] = to;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidates(zones: &[&str]) -> Vec<Candidate> {
        let node =
            |(i, zone): (usize, &&str)| Candidate { node: NodeId(1 + i as u64), zone: (*zone).to_owned() };
        zones.iter().enumerate().map(node).collect()
    }

    fn apply(current: &mut [(PlacementGroup, Vec<NodeId>)], plan: Vec<(PlacementGroup, Vec<NodeId>)>) {
        for (group, holders) in plan {
            current[usize::from(group.0)].1 = holders;
        }
    }

    fn load(current: &[(PlacementGroup, Vec<NodeId>)]) -> BTreeMap<NodeId, usize> {
        let mut load = BTreeMap::new();
        for node in current.iter().flat_map(|(_, holders)| holders) {
            *load.entry(*node).or_default() += 1;
        }
        load
    }

    fn all_on_one() -> Vec<(PlacementGroup, Vec<NodeId>)> {
        (0..PlacementGroup::COUNT).map(|g| (PlacementGroup(g), vec![NodeId(1)])).collect()
    }

    #[test]
    fn growth_balances_and_a_second_plan_moves_nothing() {
        let mut current = all_on_one();
        for zones in [&["a", "b"][..], &["a", "b", "c"], &["a", "b", "c", "d", "e"]] {
            let nodes = candidates(zones);
            let moves = plan(&nodes, 3, &current);
            apply(&mut current, moves);
            let load = load(&current);
            let (min, max) = (load.values().min().copied(), load.values().max().copied());
            assert!(max.unwrap_or(0) - min.unwrap_or(0) <= 2, "unbalanced over {zones:?}: {load:?}");
            assert_eq!(plan(&nodes, 3, &current), vec![], "a plan that is carried out is stable");
        }
    }

    #[test]
    fn copies_stand_in_different_zones_while_there_are_zones() {
        let mut current = all_on_one();
        let nodes = candidates(&["a", "a", "b", "b", "c", "c"]);
        let moves = plan(&nodes, 3, &current);
        apply(&mut current, moves);
        for (group, holders) in &current {
            let mut zones: Vec<_> = holders.iter().map(|n| &nodes[n.0 as usize - 1].zone).collect();
            zones.sort_unstable();
            zones.dedup();
            assert_eq!(zones.len(), 3, "group {group} on {holders:?}");
        }
    }

    #[test]
    fn a_lost_node_moves_only_what_it_held() {
        let mut current = all_on_one();
        let mut nodes = candidates(&["a", "b", "c", "d"]);
        let moves = plan(&nodes, 3, &current);
        apply(&mut current, moves);
        let held = load(&current)[&NodeId(4)];
        nodes.pop();
        let moves = plan(&nodes, 3, &current);
        assert_eq!(moves.len(), held);
        assert!(moves.iter().all(|(_, holders)| holders.len() == 3 && !holders.contains(&NodeId(4))));
    }
}
