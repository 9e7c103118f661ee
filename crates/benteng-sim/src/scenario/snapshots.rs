//! Rules S4, S5, S9: snapshots while commands go on, and under crash.

use std::time::Duration;

use benteng_host::planted::Bug;

use super::Scenario;
use crate::door::Ask;
use crate::plan::Plan;
use crate::stage::{Played, Stage, broken};

pub(super) const ALL: &[Scenario] = &[
    Scenario::new("s4_purge_waits_for_the_flush", &[Bug::PurgedBeforeFlush], purge_waits_for_the_flush)
        .with(short_log),
    Scenario::new(
        "s4_a_snapshot_is_of_one_moment",
        &[Bug::SnapshotOfLiveRows, Bug::SequenceNotCarried],
        a_snapshot_is_of_one_moment,
    )
    .with(short_log),
    Scenario::new(
        "s5_a_snapshot_is_cut_off_in_the_middle",
        &[Bug::InstalledOverLiveRows],
        a_snapshot_is_cut_off_in_the_middle,
    )
    .with(short_log),
    Scenario::new("s5_installed_then_crash", &[Bug::SwitchUnflushed], installed_then_crash).with(short_log),
];

fn short_log() -> Plan {
    let flush = Duration::from_millis(20)..=Duration::from_millis(60);
    Plan { log_keep: 60, log_segment: 256 << 10, kv_flush: flush, ..Plan::calm() }
}

/// Writes until the log has been purged a few times.
fn write(stage: &mut Stage, node: u64, keys: u64, from: u64, count: u64, len: usize) -> Played {
    for n in 0..count {
        stage.put(node, &format!("kunci-{}", n % keys), from + n, len)?;
    }
    Ok(())
}

/// The store returns to its last flush again and again: the log must still reach there.
fn purge_waits_for_the_flush(stage: &mut Stage) -> Played {
    for round in 0..4 {
        let (leader, one, other) = stage.followers()?;
        write(stage, leader, 5, 1000 * (round + 1), 120, 400)?;
        stage.ms(2500)?;
        stage.restart(one)?;
        stage.restart(other)?;
        stage.until("all nodes serve again", 60, |stage| stage.site.running().len() == 3)?;
    }
    nobody_lost_its_state(stage)?;
    stage.converges()
}

/// A state that its log does not reach is fetched from a peer (S5). In a site of one node it would be gone.
fn nobody_lost_its_state(stage: &Stage) -> Played {
    match count(stage, "state_restored_from_peer") {
        0 => Ok(()),
        n => broken!("S4: {n} times a node had purged what its state was lacking"),
    }
}

/// A node is away while the log that it needs is purged and keys are deleted, and comes back amid writes.
fn away(stage: &mut Stage, round: u64) -> Result<(u64, u64), String> {
    let (leader, one, _) = stage.followers()?;
    // More than one page of rows.
    write(stage, leader, 120, 1000 * (round + 1), 120, 8000)?;
    stage.cut_power(one);
    write(stage, leader, 40, 1000 * (round + 1) + 200, 60, 8000)?;
    for n in 60..90 {
        stage.ask(leader, Ask::Delete { key: format!("kunci-{n}") })?;
    }
    write(stage, leader, 40, 1000 * (round + 1) + 300, 80, 1000)?;
    stage.ms(2500)?;
    stage.sim.set_max_message_latency(Duration::from_millis(30));
    stage.boot(one)?;
    Ok((leader, one))
}

fn count(stage: &Stage, probe: &str) -> u64 {
    stage.probes.counts().get(probe).copied().unwrap_or(0)
}

fn a_snapshot_is_of_one_moment(stage: &mut Stage) -> Played {
    for round in 0..3 {
        let switched = count(stage, "snapshot_switched");
        let (leader, _) = away(stage, round)?;
        let mut n = 0;
        while count(stage, "snapshot_switched") == switched && n < 150 {
            stage.put(leader, &format!("kunci-{}", (n * 7) % 120), 1000 * (round + 1) + 500 + n, 3000)?;
            n += 1;
        }
        stage.sim.set_max_message_latency(Duration::from_millis(4));
        stage
            .until("a snapshot was switched to", 60, |stage| count(stage, "snapshot_switched") > switched)?;
        stage.converges()?;
    }
    Ok(())
}

/// The receiver loses its power between two pages; what it had received must not count.
fn a_snapshot_is_cut_off_in_the_middle(stage: &mut Stage) -> Played {
    let pages = count(stage, "snapshot_page_installed");
    let (_, one) = away(stage, 0)?;
    stage.until("a page came", 60, |stage| count(stage, "snapshot_page_installed") > pages)?;
    stage.cut_power(one);
    stage.ms(500)?;
    stage.boot(one)?;
    stage.sim.set_max_message_latency(Duration::from_millis(4));
    stage.converges()
}

/// The receiver dies soon after it has switched: Raft has purged what the snapshot covers.
fn installed_then_crash(stage: &mut Stage) -> Played {
    for round in 0..4 {
        let switched = count(stage, "snapshot_switched");
        let (_, one) = away(stage, round)?;
        stage
            .until("a snapshot was switched to", 60, |stage| count(stage, "snapshot_switched") > switched)?;
        stage.ms(40 * round)?;
        stage.cut_power(one);
        stage.boot(one)?;
        stage.sim.set_max_message_latency(Duration::from_millis(4));
        stage.until("it serves again", 60, |stage| stage.site.node(one).is_some())?;
        nobody_lost_its_state(stage)?;
        stage.converges()?;
    }
    Ok(())
}
