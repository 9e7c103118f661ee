//! What the leader does for the site: Raft membership, placement, counts of copies, floors of
//! readers that vanished, and the forgetting of the dead. Every step is a command or one
//! membership change, decided from committed rows, so that a new leader goes on where the old one was.

use std::collections::{BTreeMap, BTreeSet};

use benteng_consensus::GroupStatus;
use benteng_host::planted::{Bug, planted};
use benteng_host::{KvView, probe};
use benteng_meta::ids::*;
use benteng_meta::placement::{Candidate, plan};
use benteng_meta::{Command, FloorRow, GatewayRow, NodeRow, NodeState, PlacementRow, SiteRow, key, query};

use crate::core::Core;
use crate::{Result, removal};

/// A learner may vote once it is behind by at most so many entries.
const LAG_MAX: u64 = 1000;
/// Commands of [`Command::ForgetDead`] per round: each drops a thousand rows at most.
const FORGET_ROUNDS: usize = 10;

/// One round of the leader's work. Nothing to do for anybody else.
///
/// Errors: what proposing gives; the next round, or the next leader, goes on.
pub(crate) async fn round(core: &Core) -> Result<()> {
    if !core.group.is_leader() {
        return Ok(());
    }
    // Not the local state: one that leads again after a restart may still be replaying its log, and
    // would call back nodes that were removed long ago.
    let view = core.group.read().await?;
    let Some(site) = query::site(&*view)? else { return Ok(()) };
    let nodes: BTreeMap<NodeId, NodeRow> =
        query::nodes(&*view)?.into_iter().filter(|(_, row)| row.state != NodeState::Removed).collect();
    keep_members(core, &nodes).await?;
    keep_placement(core, &*view, &site, &nodes).await?;
    void_floors(core, &*view, &nodes).await?;
    drop(view);
    forget_dead(core).await
}

/// Voters and learners of the next step.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Members {
    voters: BTreeSet<NodeId>,
    learners: BTreeSet<NodeId>,
}

/// How many of `nodes` vote: 1, 3 or 5. A second node stays a learner until a third arrives.
fn voters_wanted(nodes: usize) -> usize {
    match nodes {
        0..=2 => 1,
        3 | 4 => 3,
        _ => 5,
    }
}

/// The membership that the node rows ask for, one step from the present one.
///
/// Who votes goes on voting; free seats go to learners that have caught up, lowest id first. A
/// removed voter leaves when its seat can be taken, and three votes never become one by
/// themselves (S8).
fn members_wanted(nodes: &BTreeSet<NodeId>, now: &GroupStatus) -> Members {
    let seats = voters_wanted(nodes.len()).max(if now.voters.len() >= 3 { 3 } else { 1 });
    let mut voters: BTreeSet<NodeId> = now.voters.intersection(nodes).copied().collect();
    let leaving: Vec<NodeId> = now.voters.difference(nodes).copied().collect();
    let caught_up = |node: &&NodeId| {
        now.learners.contains(node) && now.lag.get(node).is_some_and(|behind| *behind <= LAG_MAX)
    };
    let ready: Vec<NodeId> =
        nodes.iter().filter(|node| !voters.contains(node)).filter(caught_up).copied().collect();
    let free = seats.saturating_sub(voters.len());
    let seated = ready.into_iter().take(free);
    voters.extend(seated);
    // An even number of votes bears no more losses than the odd one below it.
    if voters.len() < seats {
        let stay = leaving.into_iter().take(seats - voters.len()).collect::<Vec<_>>();
        voters.extend(stay);
    }
    if voters.len().is_multiple_of(2) {
        // Not all seats can be taken yet: those who vote now go on alone.
        voters = now.voters.clone();
    }
    if planted(Bug::VotersFall) && nodes.len() < 3 {
        voters.retain(|voter| Some(*voter) == now.leader);
    }
    let learners = nodes.difference(&voters).copied().collect();
    Members { voters, learners }
}

async fn keep_members(core: &Core, nodes: &BTreeMap<NodeId, NodeRow>) -> Result<()> {
    let now = core.group.status();
    let ids: BTreeSet<NodeId> = nodes.keys().copied().collect();
    let wanted = members_wanted(&ids, &now);
    let mut addresses: BTreeMap<NodeId, String> =
        nodes.iter().map(|(node, row)| (*node, row.doors.rpc.clone())).collect();
    if wanted.voters == now.voters && wanted.learners == now.learners {
        return Ok(());
    }
    // A removed voter that still holds a seat is not called any more; its address does not matter.
    for node in &wanted.voters {
        addresses.entry(*node).or_default();
    }
    tracing::info!(voters = ?wanted.voters, learners = ?wanted.learners, "raft membership follows the nodes");
    core.group.set_members(wanted.voters, wanted.learners, &addresses).await?;
    Ok(())
}

/// Nodes that may hold chunks: active ones that run, or ran, with known disks; and those that groups
/// are on their way to. So a replacement that is let in, but has not started yet, keeps its place:
/// the groups would shrink to the nodes that are left, and the site would call itself whole.
fn candidates(
    view: &dyn KvView,
    nodes: &BTreeMap<NodeId, NodeRow>,
    heading: &[(PlacementGroup, Vec<NodeId>)],
) -> Result<Vec<Candidate>> {
    let named: BTreeSet<NodeId> = heading.iter().flat_map(|(_, holders)| holders).copied().collect();
    let mut out = Vec::new();
    for (node, row) in nodes {
        let began = query::get::<GatewayRow>(view, &key::gateway(*node))?.is_some();
        let ready = row.store != StoreId::default() && began;
        if row.state == NodeState::Active && (ready || named.contains(node)) {
            out.push(Candidate { node: *node, zone: row.zone.clone() });
        }
    }
    Ok(out)
}

/// Where each group is, or is on its way to.
fn heading(rows: &[(PlacementGroup, PlacementRow)]) -> Vec<(PlacementGroup, Vec<NodeId>)> {
    let wanted = |row: &PlacementRow| row.target.clone().unwrap_or_else(|| row.current.clone());
    rows.iter().map(|(group, row)| (*group, wanted(row))).collect()
}

/// Keeps placement and the counts of copies in step with the nodes.
async fn keep_placement(
    core: &Core,
    view: &dyn KvView,
    site: &SiteRow,
    nodes: &BTreeMap<NodeId, NodeRow>,
) -> Result<()> {
    let rows = query::placements(view)?;
    let heading = heading(&rows);
    let candidates = candidates(view, nodes, &heading)?;
    if candidates.is_empty() {
        return Ok(());
    }
    // Never fewer than before: counts go down by an operator's command only (S8).
    let wanted = u8::try_from(candidates.len().min(3)).unwrap_or(3).max(site.copies);
    let moves = plan(&candidates, usize::from(wanted), &heading);
    if !moves.is_empty() {
        probe("placement_moved");
        tracing::info!(groups = moves.len(), copies = wanted, "placement groups begin to move");
        core.group.propose(Command::SetTargets(moves), None).await?;
        return Ok(());
    }
    // Writes go to current and target alike, so the minimum can be met as soon as the moves have
    // begun; before that it would stop every write.
    let minimum = wanted.min(2);
    let live = |row: &PlacementRow| row.writable().iter().filter(|node| nodes.contains_key(node)).count();
    let possible = rows.iter().all(|(_, row)| live(row) >= usize::from(minimum));
    if possible && (site.copies < wanted || site.copies_min < minimum) {
        let (copies, copies_min) = (wanted, minimum.max(site.copies_min));
        tracing::info!(copies, copies_min, "the site keeps more copies from now on");
        core.group.propose(Command::SetCopies { copies, copies_min }, None).await?;
    }
    Ok(())
}

/// Voids floors that block removal and were not renewed for too long (O5).
async fn void_floors(core: &Core, view: &dyn KvView, nodes: &BTreeMap<NodeId, NodeRow>) -> Result<()> {
    let now = core.group.site_time();
    let patience = i64::try_from(core.limits.floor_void.as_micros()).unwrap_or(i64::MAX);
    for node in nodes.keys() {
        let row: Option<FloorRow> = query::get(view, &key::floor(*node))?;
        let Some(row) = row.filter(|row| !row.void && row.at.0.saturating_add(patience) < now.0) else {
            continue;
        };
        if !planted(Bug::FloorNeverVoided) && removal::any_dead(view, row.floor, query::clock(view)?.seq)? {
            probe("floor_voided");
            tracing::warn!(
                node = node.0,
                "the read floor of a node was not renewed; it holds removal no longer"
            );
            let command = Command::VoidFloor { node: *node, incarnation: row.incarnation };
            core.group.propose(command, None).await?;
        }
    }
    Ok(())
}

/// Forgets dead rows that every store has removed.
async fn forget_dead(core: &Core) -> Result<()> {
    for _ in 0..FORGET_ROUNDS {
        let view = core.group.local()?;
        let (floor, removed) = query::floors(&*view)?;
        let upto = floor.min(removed);
        if !removal::any_dead(&*view, StateSeq(0), upto)? {
            break;
        }
        drop(view);
        core.group.propose(Command::ForgetDead { upto }, None).await?;
        // The next look must see what was forgotten.
        drop(core.group.read().await?);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(nodes: &[u64]) -> BTreeSet<NodeId> {
        nodes.iter().map(|n| NodeId(*n)).collect()
    }

    fn check(nodes: &[u64], voters: &[u64], learners: &[(u64, u64)], expected: (&[u64], &[u64])) {
        let now = GroupStatus {
            voters: ids(voters),
            learners: learners.iter().map(|(n, _)| NodeId(*n)).collect(),
            lag: learners.iter().map(|(n, lag)| (NodeId(*n), *lag)).collect(),
            ..GroupStatus::default()
        };
        let wanted = members_wanted(&ids(nodes), &now);
        let expected = Members { voters: ids(expected.0), learners: ids(expected.1) };
        assert_eq!(wanted, expected, "{nodes:?}, now {voters:?} and {learners:?}");
    }

    #[test]
    fn one_three_or_five_vote_and_newcomers_catch_up_first() {
        check(&[1], &[1], &[], (&[1], &[]));
        check(&[1, 2], &[1], &[], (&[1], &[2]));
        check(&[1, 2], &[1], &[(2, 0)], (&[1], &[2]));
        check(&[1, 2, 3], &[1], &[(2, 0)], (&[1], &[2, 3]));
        check(&[1, 2, 3], &[1], &[(2, 0), (3, 50_000)], (&[1], &[2, 3]));
        check(&[1, 2, 3], &[1], &[(2, 0), (3, 10)], (&[1, 2, 3], &[]));
        check(&[1, 2, 3, 4], &[1, 2, 3], &[(4, 0)], (&[1, 2, 3], &[4]));
        check(&[1, 2, 3, 4, 5], &[1, 2, 3], &[(4, 0), (5, 0)], (&[1, 2, 3, 4, 5], &[]));
    }

    #[test]
    fn s8_a_lost_voter_keeps_its_seat_until_another_can_take_it() {
        check(&[1, 2], &[1, 2, 3], &[], (&[1, 2, 3], &[]));
        check(&[1, 2, 4], &[1, 2, 3], &[], (&[1, 2, 3], &[4]));
        check(&[1, 2, 4], &[1, 2, 3], &[(4, 90_000)], (&[1, 2, 3], &[4]));
        check(&[1, 2, 4], &[1, 2, 3], &[(4, 3)], (&[1, 2, 4], &[]));
    }
}
