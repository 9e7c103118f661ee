//! How the site is: from committed rows, and from what this node sees of the others.

use std::collections::BTreeMap;
use std::time::Duration;

use benteng_host::{KvView, Visit, prefix_end};
use benteng_meta::ids::*;
use benteng_meta::{BucketRow, NodeRow, NodeState, PlacementRow, RepairRow, UsageRow, codec, key, query};

use crate::Result;
use crate::core::Core;
use crate::wire::{Report, Vitals};

/// How long another node's store may take to say how it is.
const REPORT: Duration = Duration::from_secs(1);
/// Rows of the repair queue that are looked at for the oldest.
const LOOK_MAX: usize = 10_000;

/// The site as of now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SiteStatus {
    /// The site.
    pub site: SiteId,
    /// Its name.
    pub name: String,
    /// Whether every copy is there, every node answers and every disk takes chunks.
    pub healthy: bool,
    /// Why not, and what else a person should know; what harms first.
    pub reasons: Vec<String>,
    /// Copies that each chunk should have.
    pub copies: u8,
    /// Copies without which nothing is acknowledged.
    pub copies_min: u8,
    /// Nodes, removed ones too.
    pub nodes: Vec<NodeView>,
    /// Objects of all buckets.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Chunks that lack a copy.
    pub chunks_short: u64,
    /// Since when the oldest of them does.
    pub oldest_short: Option<SiteTime>,
    /// Of them: chunks with one good copy left.
    pub chunks_alone: u64,
    /// Of them: chunks without any good copy on their holders.
    pub chunks_lost: u64,
    /// In how many seconds repair and filling end at their present pace; `None`: there is nothing to
    /// copy, or a node that should copy does not answer.
    pub repair_seconds: Option<u64>,
    /// Within how many seconds every stored byte is read again.
    pub scrub_period: u64,
    /// Placement groups on their way to other nodes.
    pub groups_moving: u32,
    /// Placement groups that have fewer holders than [`SiteStatus::copies`], and are not on their way to more.
    pub groups_short: u32,
    /// Of the copies of groups that moves need: how many are filled, and how many there are.
    pub filling: (u32, u32),
    /// Site time of this answer.
    pub now: SiteTime,
    /// State sequence of this answer.
    pub seq: StateSeq,
    /// Whether a quorum confirmed it; if not, it is what this node knows.
    pub confirmed: bool,
}

/// A node in [`SiteStatus`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeView {
    /// Its id.
    pub node: NodeId,
    /// Its row.
    pub row: NodeRow,
    /// Whether it answers this node.
    pub up: bool,
    /// Whether it leads the group.
    pub leader: bool,
    /// Whether it votes.
    pub voter: bool,
    /// Placement groups that it holds or is to hold.
    pub groups: u32,
    /// On the leader: log entries by which it is behind.
    pub lag: Option<u64>,
    /// How its store and loops are; `None` if it does not answer.
    pub report: Option<Report>,
    /// Its clock and certificates; `None` if it does not answer, or is of an older build.
    pub vitals: Option<Vitals>,
}

/// What the rows of placement and repair say.
#[derive(Default)]
struct Moves {
    moving: u32,
    short: u32,
    filled: u32,
    to_fill: u32,
    /// Groups that each node holds or is to hold.
    held: BTreeMap<NodeId, u32>,
}

/// What the repair queue says.
#[derive(Debug, Default, PartialEq, Eq)]
struct Short {
    oldest: Option<SiteTime>,
    alone: u64,
    lost: u64,
    /// Chunks that each node lacks.
    missing: BTreeMap<NodeId, u64>,
}

/// Errors: the local replica cannot be read, or the site is not formed.
pub(crate) async fn status(core: &Core) -> Result<SiteStatus> {
    let (view, confirmed) = match core.group.read().await {
        Ok(view) => (view, true),
        Err(_) => (core.group.local()?, false),
    };
    let site = query::site(&*view)?.ok_or(benteng_meta::Rejection::Site { formed: false })?;
    let clock = query::clock(&*view)?;
    let (objects, bytes) = usage(&*view)?;
    let rows = query::nodes(&*view)?;
    let live = |node: &NodeId| rows.iter().any(|(id, row)| id == node && row.state != NodeState::Removed);
    let placements: BTreeMap<_, _> = query::placements(&*view)?.into_iter().collect();
    let moves = moves(&placements, site.copies, live);
    let short = short(&*view, &placements, clock.chunks_short, live)?;
    drop(view);

    let group = core.group.status();
    let reports = reports(core, &rows).await;
    let nodes = rows.into_iter().map(|(node, row)| {
        let (report, vitals) = reports.get(&node).cloned().flatten().unzip();
        NodeView {
            node,
            row,
            up: report.is_some(),
            leader: group.leader == Some(node),
            voter: group.voters.contains(&node),
            groups: moves.held.get(&node).copied().unwrap_or(0),
            lag: group.lag.get(&node).copied(),
            report,
            vitals: vitals.flatten(),
        }
    });
    let mut status = SiteStatus {
        site: site.id,
        name: site.name,
        healthy: false,
        reasons: Vec::new(),
        copies: site.copies,
        copies_min: site.copies_min,
        nodes: nodes.collect(),
        objects,
        bytes,
        chunks_short: clock.chunks_short,
        oldest_short: short.oldest,
        chunks_alone: short.alone,
        chunks_lost: short.lost,
        repair_seconds: None,
        scrub_period: core.limits.scrub.as_secs(),
        groups_moving: moves.moving,
        groups_short: moves.short,
        filling: (moves.filled, moves.to_fill),
        now: core.group.site_time(),
        seq: clock.seq,
        confirmed,
    };
    status.repair_seconds = repair_seconds(&status.nodes, &short.missing, core.limits.repair_rate);
    let found = findings(&status);
    status.healthy = found.harm.is_empty();
    status.reasons = [found.harm, found.notes].concat();
    Ok(status)
}

/// What there is to say about a site.
#[derive(Debug, Default, PartialEq, Eq)]
struct Said {
    /// It is not as it should be.
    harm: Vec<String>,
    /// It soon may not be.
    notes: Vec<String>,
}

fn findings(status: &SiteStatus) -> Said {
    let mut said = Said::default();
    if !status.confirmed {
        said.harm.push("no quorum answers: what follows is what this node knows".to_owned());
    }
    for node in status.nodes.iter().filter(|node| node.row.state != NodeState::Removed) {
        let Some(report) = &node.report else {
            said.harm.push(format!("node {} ({}) does not answer", node.node, node.row.name));
            continue;
        };
        if report.quarantined > 0 {
            said.harm.push(format!("node {} keeps {} damaged chunks apart", node.node, report.quarantined));
        }
        if report.scrub.log_damaged > 0 {
            said.harm.push(format!(
                "{} segments of the log of node {} are damaged; they are purged once they are applied",
                report.scrub.log_damaged, node.node
            ));
        }
        let free = report.disk_free.saturating_mul(100).checked_div(report.disk_total).unwrap_or(0);
        let used = 100 - free.min(100);
        match used {
            // The reserve (O6).
            _ if report.under_reserve => {
                said.harm
                    .push(format!("the disk of node {} is {used} % full: it takes no chunks", node.node));
            }
            90.. => said.notes.push(format!("the disk of node {} is {used} % full", node.node)),
            _ => {}
        }
    }
    if status.chunks_short > 0 {
        let since = status.oldest_short.map_or(0, |at| status.now.0.saturating_sub(at.0).max(0) / 1_000_000);
        said.harm.push(format!("{} chunks lack a copy, the oldest for {since} s", status.chunks_short));
    }
    if status.chunks_lost > 0 {
        let why = format!("{} chunks have no good copy on the nodes that hold them", status.chunks_lost);
        said.harm.push(why);
    }
    if let Some(seconds) = status.repair_seconds {
        said.notes.push(format!("repair ends in {seconds} s"));
    }
    said.notes.extend(status.nodes.iter().filter_map(|node| draining(status, node)));
    if status.groups_moving > 0 {
        let (filled, all) = status.filling;
        let moving = status.groups_moving;
        said.harm.push(format!("{moving} placement groups are moving; {filled} of {all} copies are filled"));
    }
    if status.groups_short > 0 {
        let (short, copies) = (status.groups_short, status.copies);
        said.harm.push(format!("{short} placement groups have fewer than {copies} holders"));
    }
    said
}

/// How far a node is drained.
fn draining(status: &SiteStatus, node: &NodeView) -> Option<String> {
    if node.row.state != NodeState::Draining {
        return None;
    }
    let (id, name) = (node.node, &node.row.name);
    let active = status.nodes.iter().filter(|node| node.row.state == NodeState::Active).count();
    Some(match node.groups {
        0 if node.voter => {
            format!("node {id} ({name}) holds no chunks any more; its vote waits for another node")
        }
        0 => format!("node {id} ({name}) is drained: `benteng node remove {id}`"),
        _ if active < usize::from(status.copies) => format!(
            "node {id} ({name}) cannot be drained: {} copies need as many other nodes; add one: `benteng node add`",
            status.copies
        ),
        groups => format!("node {id} ({name}) is draining: {groups} placement groups are left"),
    })
}

/// When the slowest node has copied what it lacks.
fn repair_seconds(nodes: &[NodeView], missing: &BTreeMap<NodeId, u64>, rate: u64) -> Option<u64> {
    let mut longest = None;
    for view in nodes.iter().filter(|view| view.row.state != NodeState::Removed) {
        let lacks = missing.get(&view.node).copied().unwrap_or(0);
        let Some(report) = &view.report else {
            if lacks > 0 {
                return None;
            }
            continue;
        };
        if lacks.saturating_add(report.to_fill) > 0 {
            longest = longest.max(Some(seconds_left(report, lacks, rate)));
        }
    }
    longest
}

/// When this node has copied what it lacks; 0: it lacks nothing.
pub(crate) fn own_repair_seconds(core: &Core) -> Result<u64> {
    let view = core.group.local()?;
    let all = query::clock(&*view)?.chunks_short;
    let missing = match all {
        0 => BTreeMap::new(),
        _ => short(&*view, &BTreeMap::new(), all, |_| true)?.missing,
    };
    let lacks = missing.get(&core.me).copied().unwrap_or(0);
    Ok(seconds_left(&core.report(), lacks, core.limits.repair_rate))
}

/// How long a node takes for what it lacks, at its pace of late, else at the rate that it may take.
fn seconds_left(report: &Report, lacks: u64, rate: u64) -> u64 {
    let left = lacks.saturating_add(report.to_fill);
    let chunk = report.chunk_bytes.checked_div(report.chunks).unwrap_or(4 << 20).max(1);
    let possible = (rate.saturating_mul(60) / chunk).max(1);
    let pace = if report.copied_per_minute > 0 { report.copied_per_minute } else { possible };
    left.saturating_mul(60).div_ceil(pace)
}

fn usage(view: &dyn KvView) -> Result<(u64, u64)> {
    let mut sum = (0_u64, 0_u64);
    for (_, BucketRow { id, .. }) in query::all::<BucketRow>(view, key::Table::Bucket)? {
        let row: UsageRow = query::get(view, &key::usage(id))?.unwrap_or_default();
        sum = (sum.0.saturating_add(row.objects), sum.1.saturating_add(row.bytes));
    }
    Ok(sum)
}

fn moves(
    placements: &BTreeMap<PlacementGroup, PlacementRow>,
    copies: u8,
    live: impl Fn(&NodeId) -> bool,
) -> Moves {
    let mut moves = Moves::default();
    let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    for row in placements.values() {
        row.writable().into_iter().for_each(|node| *moves.held.entry(node).or_default() += 1);
        let Some(target) = &row.target else {
            let holders = row.current.iter().filter(|node| live(node)).count();
            moves.short += u32::from(holders < usize::from(copies));
            continue;
        };
        moves.moving += 1;
        let new: Vec<&NodeId> = target.iter().filter(|node| !row.current.contains(node)).collect();
        moves.to_fill += count(new.len());
        moves.filled += count(new.iter().filter(|node| row.filled.contains(node)).count());
    }
    moves
}

fn short(
    view: &dyn KvView,
    placements: &BTreeMap<PlacementGroup, PlacementRow>,
    all: u64,
    live: impl Fn(&NodeId) -> bool,
) -> Result<Short> {
    let table = key::table(key::Table::Repair);
    let (mut short, mut failed, mut seen) = (Short::default(), None, 0);
    view.scan(&table, &prefix_end(&table), &mut |row_key, value| {
        seen += 1;
        match codec::decode::<RepairRow>(value) {
            Ok(row) => {
                short.oldest = Some(short.oldest.map_or(row.since, |at| at.min(row.since)));
                let group = key::split_repair(row_key).map(|chunk| chunk.placement_group());
                let holders =
                    group.and_then(|group| placements.get(&group)).into_iter().flat_map(|row| &row.current);
                match holders.filter(|node| live(node) && !row.missing.contains(node)).count() {
                    0 => short.lost += 1,
                    1 => short.alone += 1,
                    _ => {}
                }
                row.missing.into_iter().for_each(|node| *short.missing.entry(node).or_default() += 1);
            }
            Err(e) => failed = Some(e),
        }
        if failed.is_some() || seen >= LOOK_MAX { Visit::Break(()) } else { Visit::Continue(()) }
    })
    .map_err(benteng_meta::Error::from)?;
    if let Some(e) = failed {
        return Err(e.into());
    }
    if seen >= LOOK_MAX {
        // The rest of the queue is like its beginning, as far as anybody knows.
        short.missing.values_mut().for_each(|n| *n = n.saturating_mul(all) / LOOK_MAX as u64);
    }
    Ok(short)
}

/// What each node that is not removed says of itself, asked at once.
async fn reports(
    core: &Core,
    rows: &[(NodeId, NodeRow)],
) -> BTreeMap<NodeId, Option<(Report, Option<Vitals>)>> {
    let members = rows.iter().filter(|(_, row)| row.state != NodeState::Removed);
    let ask = members.map(|(node, _)| async move {
        if *node == core.me {
            return (*node, Some((core.report(), Some(core.vitals()))));
        }
        let report = core.copies.report(*node, REPORT).await;
        (*node, report.ok())
    });
    futures::future::join_all(ask).await.into_iter().collect()
}

#[cfg(test)]
mod tests;
