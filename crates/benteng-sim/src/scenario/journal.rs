//! Rules J: what a journal may forget, and what it must never take for forgotten.

use std::path::{Path, PathBuf};
use std::time::Duration;

use benteng_host::planted::Bug;

use super::Scenario;
use crate::plan::Plan;
use crate::stage::{Played, Stage, broken};
use crate::{DiskCall, Ending};

pub(super) const ALL: &[Scenario] = &[
    Scenario::new(
        "j1_power_fails_right_after_an_answer",
        &[Bug::FsyncSkipped, Bug::LateJoinersAcknowledged, Bug::AppendUnsynced, Bug::FsyncSkippedOneInTen],
        power_fails_right_after_an_answer,
    )
    .with(slow_syncs),
    Scenario::new("j2_a_torn_batch_is_cut", &[Bug::TornTailIsDamage], a_torn_batch_is_cut),
    Scenario::new("j2_damage_is_not_cut", &[Bug::DamageCut], damage_is_not_cut),
    Scenario::new("j3_a_flip_in_an_idle_journal", &[Bug::ClaimOmitted], a_flip_in_an_idle_journal),
    Scenario::new(
        "j4_a_failed_fsync_then_a_power_cut",
        &[Bug::TailTrustedInPlace],
        a_failed_fsync_then_a_power_cut,
    ),
    Scenario::new(
        "j5_recycling_keeps_vote_and_purge",
        &[Bug::VoteNotCarried, Bug::PurgeForgotten],
        recycling_keeps_vote_and_purge,
    )
    .with(small_log),
    Scenario::new(
        "j5_a_cleaned_segment_and_a_crash",
        &[Bug::ReleasedBeforeFlush],
        a_cleaned_segment_and_a_crash,
    )
    .with(small_chunk_segments),
    Scenario::new(
        "j6_a_failed_fsync_ends_the_process",
        &[Bug::FailedSyncRetried],
        a_failed_fsync_ends_the_process,
    ),
    Scenario::new("j6_a_full_disk_makes_the_log_wait", &[Bug::FullIsFatal], a_full_disk_makes_the_log_wait),
    Scenario::new("j7_a_log_that_lost_its_end", &[Bug::WatermarkIgnored], a_log_that_lost_its_end),
];

const RAFT: &str = "/data/raft";

fn slow_syncs() -> Plan {
    let sync = Duration::from_millis(2)..=Duration::from_millis(10);
    Plan { disk_sync: sync, ..Plan::calm() }
}

pub(super) fn small_log() -> Plan {
    Plan { log_keep: 60, log_segment: 128 << 10, ..Plan::calm() }
}

/// Nine rounds of writes, each ended by the power of the whole site.
fn power_fails_right_after_an_answer(stage: &mut Stage) -> Played {
    for round in 0..9 {
        let value = 100 + round;
        stage.put(1 + round % 3, "kunci", value, 3000)?;
        stage.cut_all_power()?;
        stage.reads(1 + (round + 1) % 3, "kunci", value)?;
    }
    stage.converges()
}

/// The newest segment of a node's log, and where what was written to it ends.
fn newest(stage: &Stage, node: u64) -> Result<(PathBuf, u64), String> {
    let segments = stage.machine(node)?.disk.written(Path::new(RAFT));
    let mut segments =
        segments.into_iter().filter(|(path, _)| path.extension().is_some_and(|end| end == "seg"));
    segments.next_back().ok_or_else(|| "the log has no segment".to_owned())
}

/// A power cut while a batch is on its way to the disk; nobody was told of it.
fn a_torn_batch_is_cut(stage: &mut Stage) -> Played {
    for round in 0..8 {
        let (leader, one, _) = stage.followers()?;
        let disk = stage.machine(one)?.disk.clone();
        disk.set_latency(Duration::ZERO..=Duration::ZERO, Duration::from_secs(1)..=Duration::from_secs(1));
        for n in 0..4 {
            stage.put(leader, "kunci", 100 + 10 * round + n, 7000)?;
        }
        stage.cut_power(one);
        disk.set_latency(Duration::ZERO..=Duration::ZERO, Duration::ZERO..=Duration::ZERO);
        stage.boot(one)?;
        stage.until("the node serves again", 30, |stage| stage.site.node(one).is_some())?;
    }
    stage.converges()
}

/// One flipped bit in front of records that claim: acknowledged entries would go with a cut.
fn damage_is_not_cut(stage: &mut Stage) -> Played {
    let (leader, one, _) = stage.followers()?;
    stage.put(leader, "kunci", 100, 4000)?;
    stage.ms(500)?;
    let (path, end) = newest(stage, one)?;
    for n in 0..8 {
        stage.put(leader, "kunci", 110 + n, 4000)?;
    }
    stage.ms(500)?;
    // A bit in each sixteen bytes of a record's length: one of them is in a header.
    let disk = stage.machine(one)?.disk.clone();
    for back in (500..5500).step_by(16) {
        disk.flip(&path, end - back, 1);
    }
    stage.restart(one)?;
    stage.refuses(one)?;
    replaced(stage, one)
}

/// The node that refused is replaced by a fresh one, and the site is whole again (S3).
pub(super) fn replaced(stage: &mut Stage, node: u64) -> Played {
    let fresh = stage.replace(node)?;
    stage.until("the fresh node serves", 60, |stage| stage.site.node(fresh).is_some())?;
    stage.converges()
}

/// The last batch before the journal went idle: nothing stands behind it but its claim.
fn a_flip_in_an_idle_journal(stage: &mut Stage) -> Played {
    let (leader, one, _) = stage.followers()?;
    stage.put(leader, "kunci", 100, 6000)?;
    let mut last = newest(stage, one)?;
    // Idle: nothing was written for a second.
    for _ in 0..60 {
        stage.ms(1000)?;
        let now = newest(stage, one)?;
        if now == last {
            break;
        }
        last = now;
    }
    let (path, end) = last;
    // The claim is a header of 64 bytes; before it ends the body of the last record that anybody was told of.
    let at = end.next_multiple_of(16) - 64 - 24;
    stage.machine(one)?.disk.flip(&path, at, 4);
    stage.restart(one)?;
    stage.refuses(one)?;
    replaced(stage, one)
}

/// The page cache shows what the disk has not: a boot that trusts it loses it at the next power cut.
fn a_failed_fsync_then_a_power_cut(stage: &mut Stage) -> Played {
    for round in 0..6 {
        let (leader, one, _) = stage.followers()?;
        stage.machine(one)?.disk.fail(DiskCall::SyncData, 1);
        stage.put(leader, "kunci", 100 + round, 5000)?;
        match stage.ends(one, 10)? {
            Ending::Stopped(why) if why.contains("J6") => {}
            other => broken!("J6: a failed fsync, and then {other:?}"),
        }
        stage.watch.expected.remove(&one);
        stage.restart(one)?;
        stage.until("the node serves again", 30, |stage| stage.site.node(one).is_some())?;
        stage.cut_power(one);
        stage.boot(one)?;
        stage.until("the node serves after the power cut", 30, |stage| stage.site.node(one).is_some())?;
    }
    stage.converges()
}

/// Enough entries that every segment of the first minutes is recycled; then all must start again.
fn recycling_keeps_vote_and_purge(stage: &mut Stage) -> Played {
    for n in 0..120 {
        stage.put(1 + n % 3, &format!("kunci-{}", n % 7), 100 + n, 8000)?;
    }
    stage.ms(3000)?;
    for _ in 0..2 {
        stage.cut_all_power()?;
        stage.until("all nodes serve again", 60, |stage| stage.site.running().len() == 3)?;
        stage.ms(500)?;
    }
    stage.converges()
}

fn small_chunk_segments() -> Plan {
    Plan { chunk_segment: 9 << 20, ..Plan::calm() }
}

/// Chunks and their tombstones go with one segment; an older index must not show the chunks again.
fn a_cleaned_segment_and_a_crash(stage: &mut Stage) -> Played {
    let cleaned = |stage: &Stage| stage.probes.counts().get("chunk_segment_copied_out").copied().unwrap_or(0);
    for round in 0..3 {
        stage.put(1, "besar", 700 + 10 * round, 4 << 20)?;
        for node in 1..=3 {
            let kv = stage.machine(node)?.kv.open();
            stage.run(async move { kv.flush().await.map_err(|e| e.to_string()) })??;
        }
        // Its tombstone lies in the same segment, which then is filled and cleaned.
        stage.put(2, "besar", 701 + 10 * round, 500)?;
        stage.ms(6000)?;
        let before = cleaned(stage);
        stage.put(3, "lain", 702 + 10 * round, 4 << 20)?;
        stage.put(1, "lain", 703 + 10 * round, 4 << 20)?;
        stage.until("segments are cleaned", 60, |stage| cleaned(stage) >= before + 3)?;
        stage.ms(500)?;
        for node in 1..=3 {
            stage.restart(node)?;
            stage.until("it serves again", 30, |stage| stage.site.node(node).is_some())?;
        }
    }
    stage.converges()
}

fn a_failed_fsync_ends_the_process(stage: &mut Stage) -> Played {
    let (leader, one, _) = stage.followers()?;
    stage.machine(one)?.disk.fail(DiskCall::SyncData, 1);
    stage.put(leader, "kunci", 100, 3000)?;
    match stage.ends(one, 10)? {
        Ending::Stopped(why) if why.contains("J6") => {}
        other => broken!("J6: a failed fsync, and then {other:?}"),
    }
    stage.watch.expected.remove(&one);
    stage.cut_power(one);
    stage.boot(one)?;
    stage.converges()
}

fn a_full_disk_makes_the_log_wait(stage: &mut Stage) -> Played {
    let (leader, one, _) = stage.followers()?;
    stage.machine(one)?.disk.set_capacity(Some(0));
    // More than the spare segments hold, so that the log must wait for room.
    for n in 0..200 {
        stage.put(leader, "kunci", 100 + n, 8000)?;
    }
    stage.ms(2000)?;
    stage.machine(one)?.disk.set_capacity(None);
    stage.converges()?;
    stage.reads(one, "kunci", 299)
}

/// The newest segment is lost: what is left is a valid, older log.
fn a_log_that_lost_its_end(stage: &mut Stage) -> Played {
    let (leader, one, _) = stage.followers()?;
    stage.put(leader, "kunci", 100, 3000)?;
    stage.restart(one)?;
    stage.until("the node serves again", 30, |stage| stage.site.node(one).is_some())?;
    for n in 0..5 {
        stage.put(leader, "kunci", 110 + n, 3000)?;
    }
    stage.kill(one);
    let (path, _) = newest(stage, one)?;
    if !stage.machine(one)?.disk.lose_file(&path) {
        broken!("{} is not there", path.display());
    }
    stage.boot(one)?;
    stage.refuses(one)?;
    replaced(stage, one)
}
