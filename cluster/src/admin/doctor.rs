//! Checks of the site, each with what to do about what it found.

use benteng_http::api::{DoctorReport, Finding, Health, Level, NodeStatus, SiteStatus};

/// The reserve of a disk (O6), percent: below it writes are refused.
const RESERVE_PERCENT: u64 = 5;
/// Below this a person has time to act.
const LOW_PERCENT: u64 = 15;
/// A copy that is missing for longer is not on its way any more.
const SHORT_SECONDS_MAX: u64 = 3600;

/// One finding per check, the worst first.
pub(super) fn report(status: &SiteStatus) -> DoctorReport {
    let mut findings =
        vec![quorum(status), redundancy(status), reach(status), copies(status), damage(status)];
    findings.extend(status.nodes.iter().filter_map(disk));
    findings.sort_by_key(|finding| std::cmp::Reverse(finding.level));
    let well = findings.iter().all(|finding| finding.level != Level::Problem);
    DoctorReport { well, findings }
}

#[expect(clippy::needless_pass_by_value, reason = "texts are given away, made or not")]
fn finding(level: Level, check: &str, message: impl ToString, advice: &str) -> Finding {
    Finding { level, check: check.into(), message: message.to_string(), advice: advice.into() }
}

fn quorum(status: &SiteStatus) -> Finding {
    if status.health != Health::Unavailable {
        return finding(Level::Ok, "quorum", "a majority of the voters answers", "");
    }
    let advice = "start the nodes that are down; a node lost for good is replaced once a majority is back";
    finding(
        Level::Problem,
        "quorum",
        "no majority of the voters answers: writes and current reads are refused",
        advice,
    )
}

fn redundancy(status: &SiteStatus) -> Finding {
    if status.survives_one_loss {
        return finding(Level::Ok, "redundancy", "the loss of any one node is survived", "");
    }
    let advice = "add nodes until there are three: `benteng node add`";
    finding(Level::Warning, "redundancy", "the loss of one node is not survived", advice)
}

fn reach(status: &SiteStatus) -> Finding {
    let silent = status.nodes.iter().filter(|node| node.reachable == Some(false));
    let silent: Vec<String> = silent.map(|node| format!("{} (id {})", node.name, node.id)).collect();
    if silent.is_empty() {
        return finding(Level::Ok, "nodes", format!("all {} nodes answer", status.nodes.len()), "");
    }
    let advice =
        "start them; if a machine is lost for good: `benteng node add --replace ID`, then join a new one";
    finding(Level::Problem, "nodes", format!("no answer from {}", silent.join(", ")), advice)
}

fn copies(status: &SiteStatus) -> Finding {
    if status.chunks_short == 0 && status.groups_moving == 0 && status.groups_short == 0 {
        return finding(Level::Ok, "copies", "no copy is missing", "");
    }
    let age = status.oldest_short_seconds.unwrap_or(0);
    let message = format!(
        "{} chunks are short of copies (the oldest for {age} s), {} placement groups are being filled ({} of {} copies), \
         {} have too few holders",
        status.chunks_short,
        status.groups_moving,
        status.copies_filled,
        status.copies_to_fill,
        status.groups_short
    );
    if age > SHORT_SECONDS_MAX {
        return finding(
            Level::Problem,
            "copies",
            message,
            "see the other findings: a node or a disk stands in the way of repair",
        );
    }
    finding(Level::Warning, "copies", message, "repair runs by itself; look again in a few minutes")
}

fn damage(status: &SiteStatus) -> Finding {
    let kept = status.nodes.iter().filter_map(|node| Some((node, node.disk?.quarantined)));
    let damaged: Vec<String> = kept
        .filter(|(_, n)| *n > 0)
        .map(|(node, n)| format!("{n} on {} (id {})", node.name, node.id))
        .collect();
    if damaged.is_empty() {
        return finding(Level::Ok, "damage", "no damaged chunk is kept apart", "");
    }
    let advice = "good copies have been made elsewhere; check the disk of that node (smartctl, dmesg) and replace it if it goes on";
    finding(Level::Warning, "damage", format!("damaged chunks: {}", damaged.join(", ")), advice)
}

/// The disk of a node that answers.
fn disk(node: &NodeStatus) -> Option<Finding> {
    let disk = node.disk?;
    let check = format!("disk of {}", node.name);
    let percent = u128::from(disk.free_bytes) * 100 / u128::from(disk.total_bytes.max(1));
    let message = format!("{percent} % is free");
    Some(if percent < u128::from(RESERVE_PERCENT) {
        finding(
            Level::Problem,
            &check,
            message,
            "writes are refused there: delete objects, or give the node more room",
        )
    } else if percent < u128::from(LOW_PERCENT) {
        finding(Level::Warning, &check, message, "plan for more room")
    } else {
        finding(Level::Ok, &check, message, "")
    })
}

#[cfg(test)]
mod tests {
    use benteng_http::api::DiskStatus;

    use super::*;

    fn node(id: u64) -> NodeStatus {
        NodeStatus {
            id,
            name: format!("n{id}"),
            zone: "z".into(),
            state: "active".into(),
            role: Some("voter".into()),
            reachable: Some(true),
            disk: Some(DiskStatus {
                total_bytes: 100,
                free_bytes: 50,
                chunks: 0,
                chunk_bytes: 0,
                quarantined: 0,
            }),
            lag: None,
            rpc: String::new(),
            s3: String::new(),
            http: String::new(),
            sql: String::new(),
            joined: String::new(),
        }
    }

    fn site() -> SiteStatus {
        SiteStatus {
            site: "s".into(),
            name: "s".into(),
            version: "0".into(),
            node: 1,
            health: Health::Healthy,
            survives_one_loss: true,
            copies: 3,
            copies_min: 2,
            leader: Some(1),
            sequence: 1,
            site_time: String::new(),
            objects: 0,
            bytes: 0,
            chunks_short: 0,
            oldest_short_seconds: None,
            groups_moving: 0,
            groups_short: 0,
            groups: 1024,
            copies_filled: 0,
            copies_to_fill: 0,
            nodes: (1..=3).map(node).collect(),
            notes: Vec::new(),
        }
    }

    #[test]
    fn each_trouble_is_found_and_comes_first() {
        let check = |change: fn(&mut SiteStatus), expected: Option<(&str, Level)>| {
            let mut status = site();
            change(&mut status);
            let report = report(&status);
            let worst = report.findings.first().expect("some check always runs");
            match expected {
                None => assert_eq!(worst.level, Level::Ok, "{report:?}"),
                Some((what, level)) => {
                    assert_eq!((worst.check.as_str(), worst.level), (what, level));
                    assert!(!worst.advice.is_empty(), "a finding says what to do: {worst:?}");
                }
            }
            assert_eq!(report.well, worst.level != Level::Problem);
        };
        check(|_| {}, None);
        check(|s| s.health = Health::Unavailable, Some(("quorum", Level::Problem)));
        check(|s| s.survives_one_loss = false, Some(("redundancy", Level::Warning)));
        check(|s| s.nodes[1].reachable = Some(false), Some(("nodes", Level::Problem)));
        check(|s| s.chunks_short = 5, Some(("copies", Level::Warning)));
        check(|s| s.groups_short = 5, Some(("copies", Level::Warning)));
        check(
            |s| (s.chunks_short, s.oldest_short_seconds) = (5, Some(SHORT_SECONDS_MAX + 1)),
            Some(("copies", Level::Problem)),
        );
        check(
            |s| s.nodes[2].disk.as_mut().expect("set above").free_bytes = 4,
            Some(("disk of n3", Level::Problem)),
        );
        check(
            |s| s.nodes[2].disk.as_mut().expect("set above").free_bytes = 10,
            Some(("disk of n3", Level::Warning)),
        );
        check(
            |s| s.nodes[0].disk.as_mut().expect("set above").quarantined = 1,
            Some(("damage", Level::Warning)),
        );
    }
}
