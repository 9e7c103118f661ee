//! The object layer's view of the site, as the API shows it.

use benteng_consensus::Group;
use benteng_host::Wall;
use benteng_http::api::{DiskStatus, Health, NodeScrub, NodeStatus, SiteStatus, rfc3339};
use benteng_meta::NodeState;
use benteng_meta::ids::{NodeId, PlacementGroup, SiteTime};
use benteng_objects::NodeView;

/// The site's status for an answer by node `me`.
pub(super) fn site(me: NodeId, group: &Group, status: benteng_objects::SiteStatus) -> SiteStatus {
    let members = status.nodes.iter().filter(|view| view.row.state != NodeState::Removed);
    let nodes: Vec<NodeStatus> = members.map(|view| node(view, status.now, group.wall())).collect();
    // A removed one that still holds a seat answers nobody.
    let votes = |view: &&NodeView| view.voter && view.row.state != NodeState::Removed;
    let voters = status.nodes.iter().filter(votes).count();
    let survives = survives_one_loss(voters, status.copies_min);
    let mut notes = status.reasons;
    if !survives {
        let why = match nodes.len() {
            0..=2 => {
                "fewer than three nodes: the loss of one is not survived; add nodes with `benteng node add`"
            }
            _ => "fewer than three voters or two durable copies: the loss of one node is not survived yet",
        };
        notes.push(why.to_owned());
    }
    if group.status().stalled {
        notes
            .push("the answering node's disk has no room for its log; delete objects or add room".to_owned());
    }
    let health = match (status.confirmed, status.healthy) {
        (false, _) => Health::Unavailable,
        (true, false) => Health::Degraded,
        (true, true) => Health::Healthy,
    };
    SiteStatus {
        site: status.site.to_string(),
        name: status.name,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        node: me.0,
        health,
        survives_one_loss: survives,
        copies: status.copies,
        copies_min: status.copies_min,
        leader: status.nodes.iter().find(|view| view.leader).map(|view| view.node.0),
        sequence: status.seq.0,
        site_time: rfc3339(status.now),
        objects: status.objects,
        bytes: status.bytes,
        chunks_short: status.chunks_short,
        oldest_short_seconds: status.oldest_short.map(|since| age(since, status.now)),
        chunks_one_copy: status.chunks_alone,
        chunks_no_copy: status.chunks_lost,
        repair_ends_seconds: status.repair_seconds,
        scrub_period_seconds: status.scrub_period,
        groups_moving: u64::from(status.groups_moving),
        groups_short: u64::from(status.groups_short),
        groups: u64::from(PlacementGroup::COUNT),
        copies_filled: u64::from(status.filling.0),
        copies_to_fill: u64::from(status.filling.1),
        nodes,
        notes,
    }
}

/// I1 holds against the loss of any one node: a majority is left, and a copy of every acknowledged byte.
fn survives_one_loss(voters: usize, copies_min: u8) -> bool {
    voters >= 3 && copies_min >= 2
}

/// Seconds that have passed since.
fn age(since: SiteTime, now: SiteTime) -> u64 {
    u64::try_from(now.0.saturating_sub(since.0) / 1_000_000).unwrap_or(0)
}

/// How the scrub of a node stands at site time `now`; `None` if it does not answer.
pub(super) fn scrub(view: &NodeView, now: SiteTime) -> Option<NodeScrub> {
    let report = view.report.as_ref()?;
    let scrub = &report.scrub;
    Some(NodeScrub {
        passes: scrub.ended,
        started: scrub.started.map(rfc3339),
        scrubbed_bytes: scrub.bytes,
        total_bytes: scrub.total,
        last_finished: scrub.last_ended.map(rfc3339),
        last_finished_seconds: scrub.last_ended.map(|at| age(at, now)),
        damaged_found: scrub.found,
        repaired: scrub.mended,
        quarantined: report.quarantined,
        segments_damaged_found: scrub.segments_found,
        log_damaged_found: scrub.log_found,
        log_damaged: scrub.log_damaged,
        store_rebuilt: scrub.store_given_up,
        asked: scrub.asked,
    })
}

/// One node, at site time `now`; `wall` is the time by which certificates are judged.
pub(super) fn node(view: &NodeView, now: SiteTime, wall: Wall) -> NodeStatus {
    let role = match (view.leader, view.voter) {
        (true, _) => "leader",
        (false, true) => "voter",
        (false, false) => "learner",
    };
    let state = match view.row.state {
        NodeState::Active => "active",
        NodeState::Draining => "draining",
        NodeState::Removed => "removed",
    };
    let member = view.row.state != NodeState::Removed;
    let row = &view.row;
    NodeStatus {
        id: view.node.0,
        name: row.name.clone(),
        zone: row.zone.clone(),
        state: state.to_owned(),
        groups: u64::from(view.groups),
        scrub: scrub(view, now),
        role: member.then(|| role.to_owned()),
        reachable: member.then_some(view.up),
        disk: view.report.as_ref().map(|report| DiskStatus {
            total_bytes: report.disk_total,
            free_bytes: report.disk_free,
            chunks: report.chunks,
            chunk_bytes: report.chunk_bytes,
            quarantined: report.quarantined,
        }),
        lag: view.lag,
        clock_off_seconds: view.vitals.and_then(|vitals| vitals.clock_off).map(|off| off / 1_000_000),
        certificates_end_seconds: view
            .vitals
            .and_then(|vitals| vitals.certificates_end)
            .map(|end| end.saturating_sub(wall.0) / 1_000_000),
        rpc: row.doors.rpc.clone(),
        s3: row.doors.s3.clone(),
        http: row.doors.http.clone(),
        sql: row.doors.sql.clone(),
        joined: rfc3339(row.joined),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn i1_one_loss_is_survived_only_with_a_majority_and_a_copy_left() {
        let check = |voters: usize, copies_min: u8, survives: bool| {
            assert_eq!(
                survives_one_loss(voters, copies_min),
                survives,
                "{voters} voters, minimum {copies_min}"
            );
        };
        check(1, 1, false);
        check(2, 2, false);
        check(3, 1, false);
        check(3, 2, true);
        check(5, 2, true);
    }
}
