//! What the leader does for the site: Raft membership, placement, counts of copies, floors of
//! readers that vanished, and the forgetting of the dead. Every step is a command or one
//! membership change, decided from committed rows, so that a new leader goes on where the old one was.

use std::collections::{BTreeMap, BTreeSet};

use benteng_consensus::GroupStatus;
use benteng_host::planted::{Bug, planted};
use benteng_host::{KvView, probe};
use benteng_meta::ids::*;
use benteng_meta::placement::Candidate;
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
    keep_members(core, &site, &nodes).await?;
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

/// What decides who votes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Electorate {
    active: BTreeSet<NodeId>,
    draining: BTreeSet<NodeId>,
    /// An operator accepted one voter (S8).
    one_voter: bool,
    /// The leader.
    me: NodeId,
}

/// The membership that the node rows ask for, one step from the present one.
///
/// Who votes goes on voting; free seats go to active learners that have caught up, lowest id first. A
/// voter that is removed or drained leaves when its seat can be taken, and three votes become one only
/// if an operator accepted that (S8).
fn members_wanted(of: &Electorate, now: &GroupStatus) -> Members {
    let floor = if now.voters.len() >= 3 && !of.one_voter { 3 } else { 1 };
    let seats = voters_wanted(of.active.len()).max(floor);
    let caught_up = |node: &&NodeId| {
        now.learners.contains(node) && now.lag.get(node).is_some_and(|behind| *behind <= LAG_MAX)
    };
    let mut staying: Vec<NodeId> = now.voters.intersection(&of.active).copied().collect();
    // Where there are more than seats, the leader stays.
    staying.sort_by_key(|node| (*node != of.me, *node));
    let ready = of.active.iter().filter(caught_up).copied();
    // A draining one still answers, a removed one does not.
    let drained = now.voters.intersection(&of.draining).copied();
    let gone = now.voters.iter().copied().filter(|n| !of.active.contains(n) && !of.draining.contains(n));
    let mut voters: BTreeSet<NodeId> =
        staying.into_iter().chain(ready).chain(drained).chain(gone).take(seats).collect();
    if voters.len().is_multiple_of(2) {
        // An even number of votes bears no more losses than the odd one below it: not all seats can be
        // taken yet, so those who vote now go on alone.
        voters = now.voters.clone();
    }
    let learners = of.active.union(&of.draining).filter(|node| !voters.contains(node)).copied().collect();
    Members { voters, learners }
}

async fn keep_members(core: &Core, site: &SiteRow, nodes: &BTreeMap<NodeId, NodeRow>) -> Result<()> {
    let now = core.group.status();
    let in_state =
        |state| nodes.iter().filter(move |(_, row)| row.state == state).map(|(node, _)| *node).collect();
    let electorate = Electorate {
        active: in_state(NodeState::Active),
        draining: in_state(NodeState::Draining),
        one_voter: site.one_voter,
        me: core.me,
    };
    let wanted = members_wanted(&electorate, &now);
    let mut addresses: BTreeMap<NodeId, String> =
        nodes.iter().map(|(node, row)| (*node, row.doors.rpc.clone())).collect();
    if wanted.voters == now.voters && wanted.learners == now.learners {
        return Ok(());
    }
    if !wanted.voters.contains(&core.me)
        && let Some(next) = wanted.voters.intersection(&now.voters).find(|node| core.copies.up(**node))
    {
        // Who is to lose its vote leads no more: the next leader takes it away.
        probe("leadership_handed_over");
        tracing::info!(to = next.0, "this node is to lose its vote; it hands leadership over");
        return Ok(core.group.hand_over(*next).await?);
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
///
/// Draining ones go on holding as long as there are fewer others than `copies`.
fn candidates(
    view: &dyn KvView,
    nodes: &BTreeMap<NodeId, NodeRow>,
    rows: &[(PlacementGroup, PlacementRow)],
    copies: usize,
) -> Result<Vec<Candidate>> {
    let named: BTreeSet<NodeId> = rows.iter().flat_map(|(_, row)| heading(row)).copied().collect();
    let (mut out, mut leaving) = (Vec::new(), Vec::new());
    for (node, row) in nodes {
        let began = query::get::<GatewayRow>(view, &key::gateway(*node))?.is_some();
        let ready = row.store != StoreId::default() && began;
        let candidate = Candidate { node: *node, zone: row.zone.clone() };
        match row.state {
            NodeState::Active if ready || named.contains(node) => out.push(candidate),
            NodeState::Draining if named.contains(node) => leaving.push(candidate),
            NodeState::Active | NodeState::Draining | NodeState::Removed => {}
        }
    }
    let lacking = copies.saturating_sub(out.len());
    out.extend(leaving.into_iter().take(lacking));
    Ok(out)
}

/// Where a group is, or is on its way to.
fn heading(row: &PlacementRow) -> &[NodeId] {
    row.target.as_ref().unwrap_or(&row.current)
}

/// Keeps placement and the counts of copies in step with the nodes.
async fn keep_placement(
    core: &Core,
    view: &dyn KvView,
    site: &SiteRow,
    nodes: &BTreeMap<NodeId, NodeRow>,
) -> Result<()> {
    let rows = core.places.of(view)?;
    let candidates = candidates(view, nodes, &rows, usize::from(site.copies))?;
    if candidates.is_empty() || candidates.len() < usize::from(site.copies) {
        // Fewer holders are never planned for (S8): the groups wait for a node.
        return Ok(());
    }
    // Never fewer than before: counts go down by an operator's command only (S8).
    let wanted = u8::try_from(candidates.len().min(3)).unwrap_or(3).max(site.copies);
    let moves = core.places.moves(view, candidates, usize::from(wanted))?;
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
    let possible = || rows.iter().all(|(_, row)| live(row) >= usize::from(minimum));
    if (site.copies < wanted || site.copies_min < minimum) && possible() {
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

    fn wanted(of: &Electorate, voters: &[u64], learners: &[(u64, u64)]) -> Members {
        let now = GroupStatus {
            voters: ids(voters),
            learners: learners.iter().map(|(n, _)| NodeId(*n)).collect(),
            lag: learners.iter().map(|(n, lag)| (NodeId(*n), *lag)).collect(),
            ..GroupStatus::default()
        };
        members_wanted(of, &now)
    }

    fn check(nodes: &[u64], voters: &[u64], learners: &[(u64, u64)], expected: (&[u64], &[u64])) {
        let of = Electorate { active: ids(nodes), me: NodeId(1), ..Electorate::default() };
        let expected = Members { voters: ids(expected.0), learners: ids(expected.1) };
        assert_eq!(wanted(&of, voters, learners), expected, "{nodes:?}, now {voters:?} and {learners:?}");
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

    #[test]
    fn s8_a_drained_voter_leaves_when_a_learner_takes_its_seat() {
        let of = |active: &[u64], draining: &[u64]| Electorate {
            active: ids(active),
            draining: ids(draining),
            me: NodeId(1),
            ..Electorate::default()
        };
        let check = |of: &Electorate, voters: &[u64], learners: &[(u64, u64)], expected: (&[u64], &[u64])| {
            let expected = Members { voters: ids(expected.0), learners: ids(expected.1) };
            assert_eq!(wanted(of, voters, learners), expected, "{of:?}");
        };
        check(&of(&[1, 2], &[3]), &[1, 2, 3], &[], (&[1, 2, 3], &[]));
        check(&of(&[1, 2, 4], &[3]), &[1, 2, 3], &[(4, 90_000)], (&[1, 2, 3], &[4]));
        check(&of(&[1, 2, 4], &[3]), &[1, 2, 3], &[(4, 0)], (&[1, 2, 4], &[3]));
        // The leader itself is drained: who hands over is decided by who is wanted.
        check(&of(&[2, 3, 4], &[1]), &[1, 2, 3], &[(4, 0)], (&[2, 3, 4], &[1]));
        // One lost and one draining: the one that answers keeps its seat.
        check(&of(&[1, 2], &[4]), &[1, 3, 4], &[(2, 0)], (&[1, 2, 4], &[]));
    }

    #[test]
    fn s8_three_votes_become_one_only_where_that_was_accepted() {
        let check = |one_voter: bool, voters: &[u64], expected: (&[u64], &[u64])| {
            let of = Electorate { active: ids(&[1, 2]), one_voter, me: NodeId(2), ..Electorate::default() };
            let expected = Members { voters: ids(expected.0), learners: ids(expected.1) };
            assert_eq!(wanted(&of, voters, &[]), expected);
        };
        check(false, &[1, 2, 3], (&[1, 2, 3], &[]));
        check(true, &[1, 2, 3], (&[2], &[1]));
    }
}
