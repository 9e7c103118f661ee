//! The site, gateways, placement and the repair queue (rules O2, O3, S8).

use benteng_host::planted::{Bug, planted};
use benteng_host::witness;
use bytes::Bytes;

use super::{Now, Step, removal};
use crate::ids::*;
use crate::row::*;
use crate::{Answer, NewPart, Rejection, Result, Tx, key};

/// Chunks named by one repair command.
pub const REPAIR_CHUNKS_MAX: usize = 1000;

pub(super) fn init_site(
    tx: &mut Tx<'_>,
    site: &SiteRow,
    kek: &Bytes,
    node: &NodeRow,
    now: Now,
) -> Step<Answer> {
    let first = NodeId(1);
    tx.put(
        key::site(),
        &SiteRow { created: now.at, next_node: NodeId(2), copies: 1, copies_min: 1, ..site.clone() },
    );
    tx.put(key::kek(KekVersion(1)), &KekRow { wrapped: Some(kek.clone()), created: now.at });
    tx.put(key::node(first), &NodeRow { joined: now.at, state: NodeState::Active, ..node.clone() });
    for group in 0..PlacementGroup::COUNT {
        let row = PlacementRow { current: vec![first], ..PlacementRow::default() };
        tx.put(key::placement(PlacementGroup(group)), &row);
    }
    Ok(Answer::Node(first))
}

pub(super) fn set_copies(tx: &mut Tx<'_>, copies: u8, copies_min: u8) -> Step<Answer> {
    if !(1..=3).contains(&copies) || copies_min == 0 || copies_min > copies {
        let why = format!("{copies} copies with a minimum of {copies_min} make no sense");
        return Err(Rejection::Invalid(why).into());
    }
    let site: SiteRow = tx.get(&key::site())?.ok_or(Rejection::Site { formed: false })?;
    if copies < site.copies || copies_min < site.copies_min {
        // S8: else a planner that sees few nodes for a moment would give up what was promised.
        let why = format!(
            "{} copies with a minimum of {} go down only with the removal of a node",
            site.copies, site.copies_min
        );
        return Err(Rejection::Invalid(why).into());
    }
    tx.put(key::site(), &SiteRow { copies, copies_min, ..site });
    Ok(Answer::Done)
}

pub(super) fn set_targets(
    tx: &mut Tx<'_>,
    targets: &[(PlacementGroup, Vec<NodeId>)],
    now: Now,
) -> Step<Answer> {
    let site: SiteRow = tx.get(&key::site())?.ok_or(Rejection::Site { formed: false })?;
    for (group, target) in targets {
        let twice = (1..target.len()).any(|at| target[..at].contains(&target[at]));
        if group.0 >= PlacementGroup::COUNT || target.is_empty() || target.len() > 3 || twice {
            return Err(Rejection::Invalid(format!("no target for placement group {group}")).into());
        }
        if target.len() < usize::from(site.copies) {
            // S8: fewer holders than copies only after a command that lowers the copies.
            let why = format!("{} holders of group {group} for {} copies", target.len(), site.copies);
            return Err(Rejection::Invalid(why).into());
        }
        for id in target {
            if node(tx, *id)?.state == NodeState::Removed {
                return Err(Rejection::NoSuchNode(*id).into());
            }
        }
        let mut row = placement(tx, *group)?;
        row.target = (row.current != *target).then(|| target.clone());
        row.filled.clear();
        row.since = now.seq;
        tx.put(key::placement(*group), &row);
        // Where the present holders are all that is wanted, in another order or fewer, nobody has
        // anything to fill, and nobody would say so.
        switch_if_ready(tx, *group)?;
    }
    Ok(Answer::Done)
}

pub(super) fn filled(tx: &mut Tx<'_>, id: NodeId, groups: &[(PlacementGroup, StateSeq)]) -> Step<Answer> {
    for (group, since) in groups {
        if group.0 >= PlacementGroup::COUNT {
            return Err(Rejection::Invalid(format!("there is no placement group {group}")).into());
        }
        let mut row = placement(tx, *group)?;
        // Another move has begun since: what was filled was filled for nothing.
        if row.since != *since || row.target.is_none() {
            continue;
        }
        if !row.filled.contains(&id) {
            row.filled.push(id);
            tx.put(key::placement(*group), &row);
        }
        switch_if_ready(tx, *group)?;
    }
    Ok(Answer::Done)
}

/// Switches to the target once every node of it is filled and lacks nothing (O3).
pub(super) fn switch_if_ready(tx: &mut Tx<'_>, group: PlacementGroup) -> Result<()> {
    let PlacementRow { current, target: Some(target), filled, .. } = placement(tx, group)? else {
        return Ok(());
    };
    let all_filled = target.iter().all(|node| current.contains(node) || filled.contains(node));
    let prefix = key::repairs(group);
    let short = tx.range::<RepairRow>(&prefix, &benteng_host::prefix_end(&prefix), usize::MAX)?;
    let lacking = short.iter().any(|(_, row)| row.missing.iter().any(|node| target.contains(node)));
    let (filled, complete) = (planted(Bug::SwitchBeforeFilled), planted(Bug::SwitchWhileLacking));
    if (all_filled || filled) && (!lacking || complete) {
        // States that the move ended rightly, for the simulator (O3).
        witness("group_switched", group.0.into(), || u128::from(!all_filled || lacking));
        // Copies on nodes that leave the group are nobody's any more.
        for (row_key, mut repair) in short {
            repair.missing.retain(|node| target.contains(node));
            put_repair(tx, row_key, &repair)?;
        }
        // Readers of older states still look where the group was.
        let since = tx.get::<ClockRow>(&key::clock())?.unwrap_or_default().seq;
        let row = PlacementRow { current: target, target: None, filled: Vec::new(), since };
        tx.put(key::placement(group), &row);
    }
    Ok(())
}

pub(super) fn start_gateway(tx: &mut Tx<'_>, id: NodeId, now: Now) -> Step<Answer> {
    node(tx, id)?;
    let old: Option<GatewayRow> = tx.get(&key::gateway(id))?;
    let incarnation = Incarnation(old.map_or(1, |old| old.incarnation.0 + 1));
    tx.put(key::gateway(id), &GatewayRow { incarnation, began: now.seq });
    // Readers of the older life are gone with it: the new one starts its own floor here.
    let removed = tx.get::<FloorRow>(&key::floor(id))?.map_or(StateSeq(0), |old| old.removed);
    tx.put(key::floor(id), &FloorRow { incarnation, floor: now.seq, removed, at: now.at, void: false });
    Ok(Answer::Gateway(incarnation, now.seq))
}

/// Counts the named copies of each chunk that are on live stores of its placement *now* (O2).
/// Enough everywhere: missing ones are queued, `None`. Else the chunks that must be copied again.
pub(super) fn count_copies(
    tx: &mut Tx<'_>,
    blob: BlobId,
    number: PartNumber,
    part: &NewPart,
    now: Now,
) -> Step<Option<Vec<u32>>> {
    let site: SiteRow = tx.get(&key::site())?.ok_or(Rejection::Site { formed: false })?;
    let chunks = removal::chunks_of(part.size);
    if part.copies.chunks.len() != usize::try_from(chunks).unwrap_or(usize::MAX)
        || part.copies.stores.len() > 16
    {
        let why = format!("{} copy sets for {chunks} chunks", part.copies.chunks.len());
        return Err(Rejection::Invalid(why).into());
    }
    let mut live = Vec::with_capacity(part.copies.stores.len());
    for (id, store) in &part.copies.stores {
        let row: Option<NodeRow> = tx.get(&key::node(*id))?;
        let counts = row.is_some_and(|row| row.store == *store && row.state != NodeState::Removed);
        live.push((*id, counts));
    }
    let mut replace = Vec::new();
    let mut missing = Vec::new();
    for (sequence, mask) in (0..chunks).zip(&part.copies.chunks) {
        let chunk = ChunkId { blob, part: number, attempt: part.attempt, sequence };
        let wanted = placement(tx, chunk.placement_group())?.writable();
        let holds = |node: &NodeId| {
            live.iter().enumerate().any(|(i, (id, counts))| id == node && *counts && mask & (1 << i) != 0)
        };
        let lacking: Vec<NodeId> = wanted.iter().copied().filter(|node| !holds(node)).collect();
        let copies_min = if planted(Bug::OneCopyEnough) { 1 } else { usize::from(site.copies_min) };
        if wanted.len() - lacking.len() < copies_min {
            replace.push(sequence);
        } else if !lacking.is_empty() {
            missing.push((chunk, lacking));
        }
    }
    if !replace.is_empty() {
        return Ok(Some(replace));
    }
    for (chunk, lacking) in missing {
        queue_repair(tx, chunk, &lacking, now)?;
    }
    Ok(None)
}

pub(super) fn part_row(part: &NewPart, now: Now) -> PartRow {
    PartRow {
        attempt: part.attempt,
        salt: part.salt,
        size: part.size,
        md5: part.md5,
        checksum: part.checksum.clone(),
        modified: now.at,
    }
}

pub(super) fn repaired(tx: &mut Tx<'_>, id: NodeId, store: StoreId, chunks: &[ChunkId]) -> Step<Answer> {
    bounded(chunks)?;
    if node(tx, id)?.store != store {
        return Err(Rejection::Invalid(format!("node {id} has other disks by now")).into());
    }
    for chunk in chunks {
        let row_key = key::repair(*chunk);
        if let Some(mut row) = tx.get::<RepairRow>(&row_key)? {
            row.missing.retain(|node| *node != id);
            put_repair(tx, row_key, &row)?;
        }
    }
    let mut groups: Vec<PlacementGroup> = chunks.iter().map(|chunk| chunk.placement_group()).collect();
    groups.sort_unstable();
    groups.dedup();
    for group in groups {
        switch_if_ready(tx, group)?;
    }
    Ok(Answer::Done)
}

pub(super) fn found_missing(tx: &mut Tx<'_>, id: NodeId, chunks: &[ChunkId], now: Now) -> Step<Answer> {
    bounded(chunks)?;
    for chunk in chunks {
        let held = placement(tx, chunk.placement_group())?.writable().contains(&id);
        if held && removal::is_named(tx, chunk.blob, chunk.part, chunk.attempt)? {
            queue_repair(tx, *chunk, &[id], now)?;
        }
    }
    Ok(Answer::Done)
}

fn bounded(chunks: &[ChunkId]) -> Step<()> {
    if chunks.len() > REPAIR_CHUNKS_MAX {
        return Err(
            Rejection::Invalid(format!("{} chunks in one command, at most 1000", chunks.len())).into()
        );
    }
    Ok(())
}

fn queue_repair(tx: &mut Tx<'_>, chunk: ChunkId, lacking: &[NodeId], now: Now) -> Result<()> {
    let row_key = key::repair(chunk);
    let old: Option<RepairRow> = tx.get(&row_key)?;
    let fresh = old.is_none();
    let mut row = old.unwrap_or(RepairRow { missing: Vec::new(), since: now.at });
    for node in lacking {
        if !row.missing.contains(node) {
            row.missing.push(*node);
        }
    }
    if fresh {
        count_short(tx, 1)?;
    }
    tx.put(row_key, &row);
    Ok(())
}

/// Writes a repair row back, or removes it when nothing is missing any more.
pub(super) fn put_repair(tx: &mut Tx<'_>, row_key: Bytes, row: &RepairRow) -> Result<()> {
    if row.missing.is_empty() {
        tx.delete(row_key);
        count_short(tx, -1)
    } else {
        tx.put(row_key, row);
        Ok(())
    }
}

/// Drops the repair rows of an attempt that nobody needs any more.
pub(super) fn cancel_repair(
    tx: &mut Tx<'_>,
    blob: BlobId,
    part: PartNumber,
    attempt: Attempt,
    chunks: u32,
) -> Result<()> {
    let clock: ClockRow = tx.get(&key::clock())?.unwrap_or_default();
    if clock.chunks_short == 0 {
        return Ok(());
    }
    for sequence in 0..chunks {
        let chunk = ChunkId { blob, part, attempt, sequence };
        let row_key = key::repair(chunk);
        if tx.has(&row_key)? {
            tx.delete(row_key);
            count_short(tx, -1)?;
            // It may have been the last that a move waited for, and nobody else will look (O3).
            switch_if_ready(tx, chunk.placement_group())?;
        }
    }
    Ok(())
}

fn count_short(tx: &mut Tx<'_>, by: i64) -> Result<()> {
    let mut clock: ClockRow = tx.get(&key::clock())?.unwrap_or_default();
    clock.chunks_short = clock.chunks_short.saturating_add_signed(by);
    tx.put(key::clock(), &clock);
    Ok(())
}

pub(super) fn node(tx: &Tx<'_>, id: NodeId) -> Step<NodeRow> {
    Ok(tx.get(&key::node(id))?.ok_or(Rejection::NoSuchNode(id))?)
}

pub(super) fn placement(tx: &Tx<'_>, group: PlacementGroup) -> Result<PlacementRow> {
    Ok(tx.get(&key::placement(group))?.unwrap_or_default())
}
