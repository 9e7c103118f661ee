//! Where the replicas of a site stand: what must hold once every fault is over (I1, I4, I6).

use std::collections::BTreeSet;
use std::sync::Arc;

use benteng_consensus::LogScrubbed;
use benteng_meta::ids::NodeId;
use benteng_meta::{PlacementRow, query};
use benteng_objects::Node;
use futures::FutureExt;

use crate::site::name;

/// Whether every durable byte of a node's log is sound.
pub(crate) fn is_sound(node: &Node) -> bool {
    let mut after = 0;
    // Reads take no time here, once every fault is over; one that does is looked at again.
    while let Some(Ok(done)) = node.group().scrub_log(after).now_or_never() {
        match done {
            LogScrubbed { damaged: true, .. } => return false,
            LogScrubbed { segment: Some(segment), .. } => after = segment,
            LogScrubbed { segment: None, .. } => return node.group().status().log_damaged == 0,
        }
    }
    false
}

/// Reads all of every replica. Returns what breaks a promise; `Err`: one cannot be read.
pub(crate) fn audit(running: &[Arc<Node>]) -> Result<Vec<String>, String> {
    let mut violations = Vec::new();
    let mut hashes = BTreeSet::new();
    for node in running {
        let unread = |e: &dyn std::fmt::Display| format!("{} cannot be audited: {e}", name(node.me().0));
        let view = node.group().local().map_err(|e| unread(&e))?;
        hashes.insert(query::state_hash(&*view).map_err(|e| unread(&e))?);
        let missing = node.missing().map_err(|e| unread(&e))?;
        if !missing.is_empty() {
            violations.push(format!(
                "I1: {} lacks {} chunks that rows name in its groups, and nobody counts them: {:?}",
                name(node.me().0),
                missing.len(),
                &missing[..missing.len().min(3)]
            ));
        }
    }
    if hashes.len() != 1 {
        violations.push(format!("I6: replicas at one sequence hold {} states", hashes.len()));
    }
    Ok(violations)
}

/// Where one replica stands after healing.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Standing {
    seq: u64,
    chunks_short: u64,
    groups_moving: usize,
    first_moving: Option<PlacementRow>,
    leader: Option<NodeId>,
}

impl Standing {
    pub(crate) fn of(node: &Node) -> Option<Standing> {
        let view = node.group().local().ok()?;
        let clock = query::clock(&*view).ok()?;
        let placements = query::placements(&*view).ok()?;
        let copies = usize::from(query::site(&*view).ok()??.copies);
        // On their way, or with too few holders and not on their way to more: neither is in its place.
        let unsettled = |row: &PlacementRow| row.target.is_some() || row.current.len() < copies;
        let mut moving = placements.into_iter().map(|(_, row)| row).filter(unsettled);
        let first_moving = moving.next();
        let groups_moving = moving.count() + usize::from(first_moving.is_some());
        let (seq, chunks_short, leader) = (clock.seq.0, clock.chunks_short, node.group().leader());
        Some(Standing { seq, chunks_short, groups_moving, first_moving, leader })
    }

    /// Whether all of `members` run, stand at one place, and none lacks anything.
    pub(crate) fn is_one(running: &[Arc<Node>], members: usize) -> bool {
        let brief = |node: &Arc<Node>| {
            let view = node.group().local().ok()?;
            let clock = query::clock(&*view).ok()?;
            Some((clock.seq, clock.chunks_short, node.group().leader()))
        };
        // Two rows before a thousand: most looks end here.
        let first = running.first().and_then(brief);
        let together = running.len() == members && running.iter().all(|node| brief(node) == first);
        let lacking = first.is_none_or(|(_, short, leader)| short > 0 || leader.is_none());
        if !together || lacking {
            return false;
        }
        let all: Option<Vec<Standing>> = running.iter().map(|node| Standing::of(node)).collect();
        all.is_some_and(|all| all.iter().all(|one| one.is_whole() && *one == all[0]))
    }

    fn is_whole(&self) -> bool {
        self.leader.is_some() && self.chunks_short == 0 && self.groups_moving == 0
    }
}
