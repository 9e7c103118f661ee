//! How the site is: from committed rows, and from what this node sees of the others.

use std::collections::BTreeMap;
use std::time::Duration;

use benteng_host::{KvView, Visit, prefix_end};
use benteng_meta::ids::*;
use benteng_meta::{BucketRow, NodeRow, NodeState, RepairRow, UsageRow, codec, key, query};

use crate::Result;
use crate::core::Core;
use crate::wire::Report;

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
    /// On the leader: log entries by which it is behind.
    pub lag: Option<u64>,
    /// How its store and loops are; `None` if it does not answer.
    pub report: Option<Report>,
}

/// What the rows of placement and repair say.
#[derive(Default)]
struct Moves {
    moving: u32,
    short: u32,
    filled: u32,
    to_fill: u32,
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
    let moves = moves(&*view, site.copies)?;
    let oldest_short = oldest_short(&*view)?;
    let rows = query::nodes(&*view)?;
    drop(view);

    let group = core.group.status();
    let reports = reports(core, &rows).await;
    let nodes = rows.into_iter().map(|(node, row)| {
        let report = reports.get(&node).cloned().flatten();
        NodeView {
            node,
            row,
            up: report.is_some(),
            leader: group.leader == Some(node),
            voter: group.voters.contains(&node),
            lag: group.lag.get(&node).copied(),
            report,
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
        oldest_short,
        groups_moving: moves.moving,
        groups_short: moves.short,
        filling: (moves.filled, moves.to_fill),
        now: core.group.site_time(),
        seq: clock.seq,
        confirmed,
    };
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
        let free = report.disk_free.saturating_mul(100).checked_div(report.disk_total).unwrap_or(0);
        let used = 100 - free.min(100);
        match used {
            // The reserve (O6).
            95.. => {
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

fn usage(view: &dyn KvView) -> Result<(u64, u64)> {
    let mut sum = (0_u64, 0_u64);
    for (_, BucketRow { id, .. }) in query::all::<BucketRow>(view, key::Table::Bucket)? {
        let row: UsageRow = query::get(view, &key::usage(id))?.unwrap_or_default();
        sum = (sum.0.saturating_add(row.objects), sum.1.saturating_add(row.bytes));
    }
    Ok(sum)
}

fn moves(view: &dyn KvView, copies: u8) -> Result<Moves> {
    let mut moves = Moves::default();
    let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    for (_, row) in query::placements(view)? {
        let Some(target) = &row.target else {
            moves.short += u32::from(row.current.len() < usize::from(copies));
            continue;
        };
        moves.moving += 1;
        let new: Vec<&NodeId> = target.iter().filter(|node| !row.current.contains(node)).collect();
        moves.to_fill += count(new.len());
        moves.filled += count(new.iter().filter(|node| row.filled.contains(node)).count());
    }
    Ok(moves)
}

fn oldest_short(view: &dyn KvView) -> Result<Option<SiteTime>> {
    let table = key::table(key::Table::Repair);
    let (mut oldest, mut failed, mut seen): (Option<SiteTime>, _, _) = (None, None, 0);
    view.scan(&table, &prefix_end(&table), &mut |_, value| {
        seen += 1;
        match codec::decode::<RepairRow>(value) {
            Ok(row) => oldest = Some(oldest.map_or(row.since, |at| at.min(row.since))),
            Err(e) => failed = Some(e),
        }
        if failed.is_some() || seen >= LOOK_MAX { Visit::Break(()) } else { Visit::Continue(()) }
    })
    .map_err(benteng_meta::Error::from)?;
    failed.map_or(Ok(oldest), |e| Err(e.into()))
}

/// What each node that is not removed says of itself, asked at once.
async fn reports(core: &Core, rows: &[(NodeId, NodeRow)]) -> BTreeMap<NodeId, Option<Report>> {
    let members = rows.iter().filter(|(_, row)| row.state != NodeState::Removed);
    let ask = members.map(|(node, _)| async move {
        if *node == core.me {
            return (*node, Some(core.report()));
        }
        let report = core.copies.report(*node, REPORT).await;
        (*node, report.ok())
    });
    futures::future::join_all(ask).await.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use benteng_meta::Doors;

    use super::*;

    fn node(node: u64, up: bool) -> NodeView {
        let row = NodeRow {
            name: format!("n{node}"),
            zone: String::new(),
            doors: Doors::default(),
            store: StoreId::default(),
            state: NodeState::Active,
            joined: SiteTime(0),
        };
        let report = up.then(|| Report { disk_total: 100, disk_free: 50, ..Report::default() });
        NodeView { node: NodeId(node), row, up, leader: false, voter: true, lag: None, report }
    }

    #[test]
    fn a_site_is_healthy_only_if_nothing_is_missing() {
        let site = |nodes: Vec<NodeView>| SiteStatus {
            site: SiteId::default(),
            name: "kota".to_owned(),
            healthy: true,
            reasons: vec![],
            copies: 3,
            copies_min: 2,
            nodes,
            objects: 0,
            bytes: 0,
            chunks_short: 0,
            oldest_short: None,
            groups_moving: 0,
            groups_short: 0,
            filling: (0, 0),
            now: SiteTime(9_000_000),
            seq: StateSeq(1),
            confirmed: true,
        };
        let harm = |site: &SiteStatus| findings(site).harm;
        assert_eq!(findings(&site(vec![node(1, true), node(2, true)])), Said::default());
        assert_eq!(harm(&site(vec![node(1, true), node(2, false)])), ["node 2 (n2) does not answer"]);
        let short = SiteStatus { chunks_short: 2, oldest_short: Some(SiteTime(4_000_000)), ..site(vec![]) };
        assert_eq!(harm(&short), ["2 chunks lack a copy, the oldest for 5 s"]);
        let moving = SiteStatus { groups_moving: 4, filling: (3, 8), ..site(vec![]) };
        assert_eq!(harm(&moving), ["4 placement groups are moving; 3 of 8 copies are filled"]);
        let thin = SiteStatus { groups_short: 5, ..site(vec![]) };
        assert_eq!(harm(&thin), ["5 placement groups have fewer than 3 holders"]);
        let lost = SiteStatus { confirmed: false, ..site(vec![]) };
        assert_eq!(harm(&lost).len(), 1);
        let on_disk = |free| {
            let mut full = node(1, true);
            full.report =
                Some(Report { disk_total: 100, disk_free: free, quarantined: 1, ..Report::default() });
            let said = findings(&site(vec![full]));
            (said.harm.len(), said.notes.len())
        };
        assert_eq!((on_disk(11), on_disk(10), on_disk(5)), ((1, 0), (1, 1), (2, 0)));
    }
}
