//! Nodes come, are drained, replaced and removed (S8, O3).

use std::collections::BTreeSet;

use benteng_host::planted::{Bug, planted};

use super::topology::{node, placement, put_repair};
use super::{Now, Step};
use crate::ids::*;
use crate::row::*;
use crate::{Answer, Rejection, Result, Tx, key};

pub(super) fn add_node(tx: &mut Tx<'_>, node: &NodeRow, token: &[u8; 32], now: Now) -> Step<Answer> {
    let token_key = key::join_token(token);
    let row: JoinTokenRow = tx.get(&token_key)?.ok_or(Rejection::InvalidToken)?;
    if row.used_by.is_some() || row.expires <= now.at {
        return Err(Rejection::InvalidToken.into());
    }
    for (id, other) in nodes(tx)? {
        let replaced = row.replaces == Some(id);
        if other.state != NodeState::Removed && !replaced && other.name == node.name {
            return Err(Rejection::NodeNameTaken(node.name.clone()).into());
        }
    }
    let mut site: SiteRow = tx.get(&key::site())?.ok_or(Rejection::Site { formed: false })?;
    let id = site.next_node;
    site.next_node = NodeId(id.0 + 1);
    tx.put(key::site(), &site);
    tx.put(key::node(id), &NodeRow { joined: now.at, state: NodeState::Active, ..node.clone() });
    tx.put(token_key, &JoinTokenRow { used_by: Some(id), ..row });
    if let Some(old) = row.replaces {
        replace_node(tx, old, id, now)?;
    }
    // Three nodes can vote again: from now on three votes do not become one by themselves (S8).
    if live(tx)?.len() >= 3 {
        let site: SiteRow = tx.get(&key::site())?.ok_or(Rejection::Site { formed: false })?;
        tx.put(key::site(), &SiteRow { one_voter: false, ..site });
    }
    Ok(Answer::Node(id))
}

/// The newcomer takes the place of `old` in every target; `old` never counts again.
fn replace_node(tx: &mut Tx<'_>, old: NodeId, new: NodeId, now: Now) -> Step<()> {
    let row = node(tx, old)?;
    tx.put(key::node(old), &NodeRow { state: NodeState::Removed, ..row });
    for group in (0..PlacementGroup::COUNT).map(PlacementGroup) {
        let mut row = placement(tx, group)?;
        let wanted = row.target.as_ref().unwrap_or(&row.current);
        if !wanted.contains(&old) {
            continue;
        }
        let target = wanted.iter().map(|node| if *node == old { new } else { *node }).collect();
        row.target = Some(target);
        row.filled.clear();
        row.since = now.seq;
        tx.put(key::placement(group), &row);
    }
    Ok(())
}

pub(super) fn create_join_token(
    tx: &mut Tx<'_>,
    hash: &[u8; 32],
    valid: i64,
    replaces: Option<NodeId>,
    now: Now,
) -> Step<Answer> {
    if let Some(old) = replaces {
        node(tx, old)?;
    }
    let expires = SiteTime(now.at.0.saturating_add(valid.max(0)));
    tx.put(key::join_token(hash), &JoinTokenRow { expires, used_by: None, replaces });
    Ok(Answer::Done)
}

pub(super) fn update_node(tx: &mut Tx<'_>, id: NodeId, doors: &Doors, store: StoreId) -> Step<Answer> {
    let row = node(tx, id)?;
    if row.state == NodeState::Removed {
        return Err(Rejection::NoSuchNode(id).into());
    }
    if row.store != store && row.store != StoreId::default() {
        // Other disks under an old id would count copies that are not there (S3: join --replace).
        let why = format!(
            "node {id} has other disks than the site knows; replace it: `benteng join --replace {id}`"
        );
        return Err(Rejection::Invalid(why).into());
    }
    tx.put(key::node(id), &NodeRow { doors: doors.clone(), store, ..row });
    Ok(Answer::Done)
}

/// Drains a node, or calls it back. A removed one stays so, and [`remove_node`] alone removes.
pub(super) fn set_node_state(tx: &mut Tx<'_>, id: NodeId, state: NodeState) -> Step<Answer> {
    let row = node(tx, id)?;
    if row.state == NodeState::Removed {
        return Err(Rejection::Invalid(format!("node {id} was removed; ids are never used again")).into());
    }
    match state {
        NodeState::Active => {}
        NodeState::Draining => {
            let others =
                nodes(tx)?.into_iter().filter(|(other, row)| *other != id && row.state == NodeState::Active);
            if others.count() == 0 {
                let why = format!("node {id} is the only one that holds chunks; add another one first");
                return Err(Rejection::Invalid(why).into());
            }
        }
        NodeState::Removed => {
            let why = format!("node {id} is removed by a command of its own");
            return Err(Rejection::Invalid(why).into());
        }
    }
    tx.put(key::node(id), &NodeRow { state, ..row });
    Ok(Answer::Done)
}

/// Removes a node for good. Refused while it holds what others lack; a removal that leaves fewer than
/// three nodes lowers copies, minimum and votes, and only if that is accepted (S8).
///
/// `lost`: nobody reaches it, so what it holds counts for nothing, and one good copy elsewhere must do.
pub(super) fn remove_node(
    tx: &mut Tx<'_>,
    id: NodeId,
    lost: bool,
    accept_one_voter: bool,
    now: Now,
) -> Step<Answer> {
    let row = node(tx, id)?;
    if row.state == NodeState::Removed {
        return Ok(Answer::Done);
    }
    let site: SiteRow = tx.get(&key::site())?.ok_or(Rejection::Site { formed: false })?;
    let mut left = live(tx)?;
    left.remove(&id);
    let refuse = |why: String| Err(Rejection::Invalid(why).into());
    if left.is_empty() {
        return refuse(format!("node {id} is the last one of the site"));
    }
    if left.len() < 3 && !accept_one_voter && !planted(Bug::VotersFall) {
        return refuse(format!(
            "without node {id} there are {} nodes, one vote and no survival of a further loss; replace it \
             (`benteng node add --replace {id}`), or accept that: --accept-one-voter",
            left.len()
        ));
    }
    let copies = site.copies.min(u8::try_from(left.len()).unwrap_or(u8::MAX));
    let copies_min = site.copies_min.min(copies);
    let held = held(tx, id, &left)?;
    let wanted = if lost { 1 } else { usize::from(copies) };
    let groups = held.iter().filter(|(_, others)| others.len() < wanted).count();
    match (groups, lost) {
        (0, _) => {}
        (_, true) => {
            return refuse(format!(
                "node {id} does not answer and alone holds {groups} placement groups; start it again"
            ));
        }
        (_, false) => {
            return refuse(format!(
                "node {id} still holds {groups} placement groups; `benteng node drain {id}` moves them, \
                 and `benteng node list` says when it is drained"
            ));
        }
    }
    let wanted = if lost { 1 } else { usize::from(copies_min) };
    let chunks = needed(tx, &held, &left, wanted)?;
    if chunks > 0 {
        return refuse(format!(
            "node {id} may hold the only good copy of {chunks} chunks that wait for repair; remove it \
             when `benteng site status` counts none"
        ));
    }
    for (group, _) in held {
        leave_group(tx, group, id, now)?;
    }
    tx.put(key::node(id), &NodeRow { state: NodeState::Removed, ..row });
    let one_voter = site.one_voter || left.len() < 3;
    tx.put(key::site(), &SiteRow { copies, copies_min, one_voter, ..site });
    Ok(Answer::Done)
}

/// One node goes on alone (S7): the others are removed, what they alone held is said to be missing when
/// this node looks, and the recovery epoch grows, so that whoever comes back from before is refused.
pub(super) fn recover(tx: &mut Tx<'_>, survivor: NodeId, now: Now) -> Step<Answer> {
    if node(tx, survivor)?.state == NodeState::Removed {
        return Err(Rejection::NoSuchNode(survivor).into());
    }
    for (id, row) in nodes(tx)? {
        if id == survivor {
            tx.put(key::node(id), &NodeRow { state: NodeState::Active, ..row });
        } else if row.state != NodeState::Removed {
            tx.put(key::node(id), &NodeRow { state: NodeState::Removed, ..row });
        }
    }
    for group in (0..PlacementGroup::COUNT).map(PlacementGroup) {
        let row = PlacementRow { current: vec![survivor], since: now.seq, ..PlacementRow::default() };
        tx.put(key::placement(group), &row);
    }
    let prefix = key::table(key::Table::Repair);
    for (row_key, mut repair) in
        tx.range::<RepairRow>(&prefix, &benteng_host::prefix_end(&prefix), usize::MAX)?
    {
        repair.missing.retain(|node| *node == survivor);
        put_repair(tx, row_key, &repair)?;
    }
    let site: SiteRow = tx.get(&key::site())?.ok_or(Rejection::Site { formed: false })?;
    let recovery_epoch = site.recovery_epoch + 1;
    tx.put(key::site(), &SiteRow { copies: 1, copies_min: 1, one_voter: true, recovery_epoch, ..site });
    Ok(Answer::Done)
}

type Held = Vec<(PlacementGroup, Vec<NodeId>)>;

/// Groups that `id` holds or is to hold, with the other nodes of `left` that hold them now.
fn held(tx: &Tx<'_>, id: NodeId, left: &BTreeSet<NodeId>) -> Result<Held> {
    let mut held = Vec::new();
    for group in (0..PlacementGroup::COUNT).map(PlacementGroup) {
        let row = placement(tx, group)?;
        if row.writable().contains(&id) {
            held.push((group, row.current.into_iter().filter(|node| left.contains(node)).collect()));
        }
    }
    Ok(held)
}

/// Chunks of the repair queue of which fewer than `wanted` good copies would be left; of groups that the
/// node has left, those without any: it may still have one.
fn needed(tx: &Tx<'_>, held: &Held, left: &BTreeSet<NodeId>, wanted: usize) -> Result<u64> {
    let prefix = key::table(key::Table::Repair);
    let mut needed = 0;
    for (row_key, repair) in tx.range::<RepairRow>(&prefix, &benteng_host::prefix_end(&prefix), usize::MAX)? {
        let Some(group) = key::split_repair(&row_key).map(|chunk| chunk.placement_group()) else { continue };
        let good = |node: &&NodeId| left.contains(node) && !repair.missing.contains(node);
        let enough = match held.iter().find(|(own, _)| *own == group) {
            Some((_, others)) => others.iter().filter(good).count() >= wanted,
            None => placement(tx, group)?.current.iter().filter(good).count() > 0,
        };
        needed += u64::from(!enough);
    }
    Ok(needed)
}

/// Takes a removed node out of a group; a move that needed it is planned anew.
fn leave_group(tx: &mut Tx<'_>, group: PlacementGroup, id: NodeId, now: Now) -> Result<()> {
    let mut row = placement(tx, group)?;
    row.current.retain(|node| *node != id);
    if row.target.as_ref().is_some_and(|target| target.contains(&id)) {
        row.target = None;
        row.filled.clear();
        row.since = now.seq;
    }
    tx.put(key::placement(group), &row);
    let prefix = key::repairs(group);
    for (row_key, mut repair) in
        tx.range::<RepairRow>(&prefix, &benteng_host::prefix_end(&prefix), usize::MAX)?
    {
        if repair.missing.contains(&id) {
            repair.missing.retain(|node| *node != id);
            put_repair(tx, row_key, &repair)?;
        }
    }
    super::topology::switch_if_ready(tx, group)
}

/// Nodes that are not removed.
fn live(tx: &Tx<'_>) -> Result<BTreeSet<NodeId>> {
    let rows = nodes(tx)?.into_iter();
    Ok(rows.filter(|(_, row)| row.state != NodeState::Removed).map(|(id, _)| id).collect())
}

fn nodes(tx: &Tx<'_>) -> Result<Vec<(NodeId, NodeRow)>> {
    let prefix = key::table(key::Table::Node);
    let rows = tx.range::<NodeRow>(&prefix, &benteng_host::prefix_end(&prefix), usize::MAX)?;
    let id = |key: &[u8]| key.last_chunk::<8>().map(|n| NodeId(u64::from_be_bytes(*n)));
    Ok(rows.into_iter().filter_map(|(key, row)| Some((id(&key)?, row))).collect())
}
