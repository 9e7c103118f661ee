//! Checks of the site, each with what to do about what it found.

use benteng_http::api::{DoctorReport, Finding, Health, Level, NodeStatus, SiteStatus};

use crate::output::duration;

/// The reserve of a disk (O6), percent: below it writes are refused.
const RESERVE_PERCENT: u64 = 5;
/// Below this a person has time to act.
const LOW_PERCENT: u64 = 15;
/// A copy that is missing for longer is not on its way any more.
const SHORT_SECONDS_MAX: u64 = 3600;
/// A clock that is off by more is said.
const CLOCK_SECONDS_MAX: u64 = 60;
/// One that is off by more makes certificates that others refuse: the node is cut off once it is started anew.
const CLOCK_SECONDS_FAR: u64 = 24 * 3600;
/// Certificates that we issue never come so near to their end.
const CERTIFICATE_SECONDS_LOW: i64 = 14 * 24 * 3600;

/// One finding per check, the worst first.
pub(super) fn report(status: &SiteStatus) -> DoctorReport {
    let mut findings = vec![
        quorum(status),
        redundancy(status),
        reach(status),
        copies(status),
        damage(status),
        scrub(status),
        clocks(status),
        certificates(status),
    ];
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

/// The one line of truth: what is short of copies, and when it ends.
fn copies(status: &SiteStatus) -> Finding {
    if status.chunks_short == 0 && status.groups_moving == 0 && status.groups_short == 0 {
        let message = format!("no chunk is short of copies; {}", last_scrub(status));
        return finding(Level::Ok, "copies", message, "");
    }
    let age = status.oldest_short_seconds.unwrap_or(0);
    let mut parts = Vec::new();
    let two = status.chunks_short.saturating_sub(status.chunks_one_copy + status.chunks_no_copy);
    let counts = [
        (status.chunks_no_copy, "chunks have NO good copy on the nodes that should hold them"),
        (status.chunks_one_copy, "chunks have one copy"),
        (two, "chunks lack a copy"),
        (status.groups_short, "placement groups have too few holders"),
    ];
    parts.extend(counts.iter().filter(|(n, _)| *n > 0).map(|(n, what)| format!("{n} {what}")));
    if status.chunks_short > 0 {
        parts.push(format!("the oldest for {}", duration(age)));
    }
    if status.groups_moving > 0 {
        let (moving, filled, all) = (status.groups_moving, status.copies_filled, status.copies_to_fill);
        parts.push(format!("{moving} placement groups are moving ({filled} of {all} copies filled)"));
    }
    let mut message = parts.join(", ");
    if let Some(seconds) = status.repair_ends_seconds {
        message.push_str(&format!("; repair ends in {}", duration(seconds)));
    }
    if status.chunks_no_copy > 0 {
        return finding(
            Level::Problem,
            "copies",
            message,
            "start the nodes that are down: they may have copies; what no node has is lost but for a backup",
        );
    }
    if age > SHORT_SECONDS_MAX {
        return finding(
            Level::Problem,
            "copies",
            message,
            "see the other findings: a node or a disk stands in the way of repair",
        );
    }
    if status.groups_short > 0 && status.groups_moving == 0 {
        let advice = "a node is missing: start it, or add another one (`benteng node add`)";
        return finding(Level::Warning, "copies", message, advice);
    }
    finding(Level::Warning, "copies", message, "repair runs by itself; look again in a few minutes")
}

/// When the node that is furthest behind has read all its bytes.
fn last_scrub(status: &SiteStatus) -> String {
    let answering = || status.nodes.iter().filter_map(|node| node.scrub.as_ref());
    let ages: Option<Vec<u64>> = answering().map(|scrub| scrub.last_finished_seconds).collect();
    match ages.and_then(|ages| ages.into_iter().max()) {
        Some(ago) => format!("last scrub finished {} ago", duration(ago)),
        None => "no scrub has finished on every node yet".to_owned(),
    }
}

/// Whether every byte was read again within its time.
fn scrub(status: &SiteStatus) -> Finding {
    let period = status.scrub_period_seconds;
    let late = status.nodes.iter().filter(|node| {
        // A pass is a little longer than its slices say: half as much again is late.
        let since = node.scrub.as_ref().and_then(|scrub| scrub.last_finished_seconds);
        since.is_some_and(|ago| ago > period.saturating_add(period / 2))
    });
    let late: Vec<String> = late.map(|node| format!("{} (id {})", node.name, node.id)).collect();
    if late.is_empty() {
        return finding(
            Level::Ok,
            "scrub",
            format!("every byte is read again within {}", duration(period)),
            "",
        );
    }
    let message = format!("not every byte was read again within {} on {}", duration(period), late.join(", "));
    finding(
        Level::Warning,
        "scrub",
        message,
        "`benteng scrub run` reads all of it now; a slow disk may be failing",
    )
}

fn clocks(status: &SiteStatus) -> Finding {
    let off = status.nodes.iter().filter_map(|node| Some((node, node.clock_off_seconds?)));
    let off: Vec<_> = off.filter(|(_, off)| off.unsigned_abs() > CLOCK_SECONDS_MAX).collect();
    if off.is_empty() {
        return finding(Level::Ok, "clocks", "the clocks agree", "");
    }
    let words = off.iter().map(|(node, off)| {
        let direction = if *off > 0 { "ahead" } else { "behind" };
        format!("the clock of {} (id {}) is {} {direction}", node.name, node.id, duration(off.unsigned_abs()))
    });
    let message = words.collect::<Vec<_>>().join(", ");
    let far = off.iter().any(|(_, off)| off.unsigned_abs() > CLOCK_SECONDS_FAR);
    let advice = "set it right (`timedatectl`, `chronyc tracking`) before that node is started again";
    finding(if far { Level::Problem } else { Level::Warning }, "clocks", message, advice)
}

fn certificates(status: &SiteStatus) -> Finding {
    let ending = status.nodes.iter().filter_map(|node| Some((node, node.certificates_end_seconds?)));
    let ending: Vec<_> = ending.filter(|(_, left)| *left < CERTIFICATE_SECONDS_LOW).collect();
    if ending.is_empty() {
        return finding(Level::Ok, "certificates", "no certificate ends soon", "");
    }
    let words = ending.iter().map(|(node, left)| {
        let ago = duration(left.unsigned_abs());
        let when = if *left > 0 { format!("ends in {ago}") } else { format!("ended {ago} ago") };
        format!("a certificate of {} (id {}) {when}", node.name, node.id)
    });
    let message = words.collect::<Vec<_>>().join(", ");
    let level = if ending.iter().any(|(_, left)| *left <= 0) { Level::Problem } else { Level::Warning };
    let advice = "put a new one into tls.cert_file and tls.key_file, it is read within a minute; those that the site \
                  issues are renewed by themselves: see that node's log and clock";
    finding(level, "certificates", message, advice)
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
    use benteng_http::api::{DiskStatus, NodeScrub};

    use super::*;

    fn node(id: u64) -> NodeStatus {
        NodeStatus {
            id,
            name: format!("n{id}"),
            zone: "z".into(),
            state: "active".into(),
            groups: 1024,
            scrub: Some(NodeScrub { last_finished_seconds: Some(3 * 86_400), ..NodeScrub::default() }),
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
            clock_off_seconds: Some(0),
            certificates_end_seconds: Some(29 * 86_400),
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
            chunks_one_copy: 0,
            chunks_no_copy: 0,
            repair_ends_seconds: None,
            scrub_period_seconds: 14 * 86_400,
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
        check(|s| s.nodes[1].clock_off_seconds = Some(-3600), Some(("clocks", Level::Warning)));
        check(|s| s.nodes[1].clock_off_seconds = Some(370_000_000), Some(("clocks", Level::Problem)));
        check(|s| s.nodes[1].certificates_end_seconds = Some(86_400), Some(("certificates", Level::Warning)));
        check(|s| s.nodes[1].certificates_end_seconds = Some(-1), Some(("certificates", Level::Problem)));
        check(|s| s.nodes[1].clock_off_seconds = None, None);
        check(
            |s| s.nodes[0].disk.as_mut().expect("set above").quarantined = 1,
            Some(("damage", Level::Warning)),
        );
    }

    #[test]
    fn one_line_tells_what_is_short_and_when_that_ends() {
        let check = |change: fn(&mut SiteStatus), expected: &str, level: Level| {
            let mut status = site();
            change(&mut status);
            let found = copies(&status);
            assert_eq!((found.message.as_str(), found.level), (expected, level));
        };
        check(|_| {}, "no chunk is short of copies; last scrub finished 3 days ago", Level::Ok);
        check(
            |s| s.nodes[1].scrub = Some(NodeScrub::default()),
            "no chunk is short of copies; no scrub has finished on every node yet",
            Level::Ok,
        );
        check(
            |s| {
                (s.chunks_short, s.chunks_one_copy) = (2, 2);
                (s.oldest_short_seconds, s.repair_ends_seconds) = (Some(9), Some(40));
            },
            "2 chunks have one copy, the oldest for 9 s; repair ends in 40 s",
            Level::Warning,
        );
        check(
            |s| (s.chunks_short, s.chunks_no_copy, s.oldest_short_seconds) = (3, 1, Some(9)),
            "1 chunks have NO good copy on the nodes that should hold them, 2 chunks lack a copy, the oldest for 9 s",
            Level::Problem,
        );
        let late = |s: &mut SiteStatus| {
            s.nodes[0].scrub.as_mut().expect("set above").last_finished_seconds = Some(30 * 86_400);
        };
        let mut status = site();
        late(&mut status);
        assert_eq!(scrub(&status).level, Level::Warning);
    }
}
