//! Rules O: parts, fences, moves under uploads, readers against removal, and room.

use std::time::Duration;

use benteng_host::planted::Bug;
use benteng_meta::ids::{Incarnation, NodeId};
use benteng_meta::{GatewayRow, Rejection, key, query};

use super::Scenario;
use super::commands::{create_bucket, envelope, forward};
use crate::door::{Ask, Say};
use crate::plan::Plan;
use crate::stage::{Played, Stage, broken};

pub(super) const ALL: &[Scenario] = &[
    Scenario::new(
        "o1_a_part_is_committed_before_its_answer",
        &[Bug::PartRowLater],
        a_part_is_committed_before_its_answer,
    ),
    Scenario::new(
        "o1_chunks_of_a_slow_writer_are_no_orphans",
        &[Bug::LivingOrphans],
        chunks_of_a_slow_writer_are_no_orphans,
    ),
    Scenario::new(
        "o2_a_superseded_gateway_commits_nothing",
        &[Bug::SupersededCommits],
        a_superseded_gateway_commits_nothing,
    ),
    Scenario::new("o2_a_long_upload_across_a_move", &[Bug::ReplaceIsRefusal], a_long_upload_across_a_move),
    Scenario::new("o3_a_move_ends_filled", &[Bug::SwitchBeforeFilled], a_move_ends_filled),
    Scenario::new("o3_a_move_waits_for_the_queue", &[Bug::SwitchWhileLacking], a_move_waits_for_the_queue),
    Scenario::new("o4_a_reader_keeps_what_it_reads", &[Bug::FloorsIgnored], a_reader_keeps_what_it_reads),
    Scenario::new(
        "o5_a_vanished_reader_holds_nothing_for_ever",
        &[Bug::FloorNeverVoided],
        a_vanished_reader_holds_nothing_for_ever,
    )
    .with(impatient),
    Scenario::new("o5_a_voided_reader_is_refused", &[Bug::VoidedReaderServed], a_voided_reader_is_refused)
        .with(impatient),
    Scenario::new("o6_a_full_disk_keeps_room", &[Bug::ReserveIgnored], a_full_disk_keeps_room),
];

/// Floors are voided after ten seconds.
fn impatient() -> Plan {
    Plan { floor_void: Duration::from_secs(10), ..Plan::calm() }
}

const CHUNK: usize = 4 << 20;

fn put(key: &str, value: u64, len: usize, pause: u64) -> Ask {
    Ask::Put { key: key.to_owned(), value, len, create: false, tag: None, pause }
}

fn a_part_is_committed_before_its_answer(stage: &mut Stage) -> Played {
    let upload = Ask::Upload { key: "unggah".into(), value: 700, len: 90_000, cut: None };
    match stage.ask(2, upload)? {
        Some(Say::Put(_)) => stage.reads(3, "unggah", 700)?,
        other => broken!("O1: an upload was answered {other:?}"),
    }
    stage.converges()
}

/// The writer takes longer than two sweeps between its first chunk and its commit.
fn chunks_of_a_slow_writer_are_no_orphans(stage: &mut Stage) -> Played {
    // Slices have 40 kB: the first chunk is out for as long as the second and third take, half a minute.
    let slow = stage.start(1, put("lambat", 700, 2 * CHUNK + 100_000, 220))?;
    match stage.finish(&slow, 120)? {
        Some(Say::Put(_)) => {}
        other => broken!("O1: a slow writer was answered {other:?}"),
    }
    for node in 1..=3 {
        stage.reads(node, "lambat", 700)?;
    }
    stage.converges()
}

fn a_superseded_gateway_commits_nothing(stage: &mut Stage) -> Played {
    stage.restart(1)?;
    stage.until("it serves again", 30, |stage| stage.site.node(1).is_some())?;
    stage.put(1, "kunci", 100, 500)?;
    let leader = stage.leader()?;
    let row: Option<GatewayRow> =
        query::get(&*stage.view(leader)?, &key::gateway(NodeId(1))).map_err(|e| e.to_string())?;
    let now = row.ok_or("node 1 has no gateway")?.incarnation;
    let command = create_bucket(stage, "usang");
    let mut late = envelope(stage, command, 60)?;
    late.gateway = Some((NodeId(1), Incarnation(now.0 - 1)));
    match forward(stage, &late)? {
        Err(Rejection::GatewaySuperseded(_)) => stage.converges(),
        other => broken!("O2: a superseded gateway was answered {other:?}"),
    }
}

/// Two of the three holders that an upload began with do not count any more when it ends.
fn a_long_upload_across_a_move(stage: &mut Stage) -> Played {
    let (leader, one, other) = stage.followers()?;
    let slow = stage.start(leader, put("panjang", 700, 2 * CHUNK + 50_000, 60))?;
    // The first chunk goes out with one holder down; then another burns down.
    stage.kill(one);
    stage.ms(9000)?;
    stage.boot(one)?;
    stage.until("it serves again", 30, |stage| stage.site.node(one).is_some())?;
    let fresh = stage.replace(other)?;
    stage.until("the fresh node serves", 60, |stage| stage.site.node(fresh).is_some())?;
    match stage.finish(&slow, 120)? {
        Some(Say::Put(_)) => {}
        said => broken!("O2: an upload across a move was answered {said:?}"),
    }
    stage.reads(leader, "panjang", 700)?;
    stage.converges()
}

/// A fresh node takes a seat while there is much to fill.
fn a_move_ends_filled(stage: &mut Stage) -> Played {
    for n in 0..40 {
        stage.put(1 + n % 3, &format!("kunci-{n}"), 700 + n, 60_000)?;
    }
    let (_, one, _) = stage.followers()?;
    let fresh = stage.replace(one)?;
    stage.until("the fresh node serves", 60, |stage| stage.site.node(fresh).is_some())?;
    stage.converges()?;
    for n in 0..40 {
        stage.reads(fresh, &format!("kunci-{n}"), 700 + n)?;
    }
    Ok(())
}

/// Writes go on while the fresh node comes and goes: what it lacks stands in the queue, and the move waits for it.
fn a_move_waits_for_the_queue(stage: &mut Stage) -> Played {
    for n in 0..20 {
        stage.put(1 + n % 3, &format!("kunci-{n}"), 700 + n, 60_000)?;
    }
    let (leader, one, _) = stage.followers()?;
    let fresh = stage.replace(one)?;
    // Its disk is slow: writes are acknowledged without its copy while it fills.
    let slow = Duration::from_millis(300)..=Duration::from_millis(600);
    let disk = stage.machine(fresh)?.disk.clone();
    disk.set_latency(Duration::ZERO..=Duration::ZERO, slow);
    stage.until("the fresh node serves", 60, |stage| stage.site.node(fresh).is_some())?;
    for n in 0..40 {
        stage.put(leader, &format!("kunci-{}", 100 + n), 800 + n, 60_000)?;
    }
    disk.set_latency(Duration::ZERO..=Duration::ZERO, Duration::ZERO..=Duration::ZERO);
    stage.converges()
}

/// What a reader began to read is overwritten, and the delay of the removal passes under it.
fn a_reader_keeps_what_it_reads(stage: &mut Stage) -> Played {
    stage.put(1, "dibaca", 700, 3 * CHUNK)?;
    stage.converges()?;
    let reads = stage.start(2, Ask::Get { key: "dibaca".into(), pause: 2500 })?;
    stage.ms(1000)?;
    stage.put(1, "dibaca", 701, 500)?;
    match stage.finish(&reads, 120)? {
        Some(Say::Got(Some((700, _)))) => {}
        other => broken!("O4: a reader of what was overwritten meanwhile was answered {other:?}"),
    }
    stage.converges()
}

fn removed(stage: &Stage) -> usize {
    stage.probes.facts(|facts| facts.removed().len())
}

/// A node is away for longer than floors are kept: the others go on removing.
fn a_vanished_reader_holds_nothing_for_ever(stage: &mut Stage) -> Played {
    for n in 0..5 {
        stage.put(1, &format!("kunci-{n}"), 700 + n, 60_000)?;
    }
    stage.converges()?;
    let (leader, one, _) = stage.followers()?;
    stage.kill(one);
    stage.ms(3000)?;
    let before = removed(stage);
    for n in 0..5 {
        stage.ask(leader, Ask::Delete { key: format!("kunci-{n}") })?;
    }
    stage.until("the chunks of five objects are removed", 60, |stage| removed(stage) >= before + 5)?;
    stage.boot(one)?;
    stage.converges()
}

/// A reader behind a cut is voided meanwhile; when it comes back it must be told, not served what may be gone.
fn a_voided_reader_is_refused(stage: &mut Stage) -> Played {
    let (leader, one, _) = stage.followers()?;
    stage.put(leader, "dibaca", 700, 5 * CHUNK)?;
    stage.converges()?;
    let reads = stage.start(one, Ask::Get { key: "dibaca".into(), pause: 14_000 })?;
    stage.ms(500)?;
    stage.isolate(one);
    stage.put(leader, "dibaca", 701, 500)?;
    stage.ms(20_000)?;
    stage.rejoin(one);
    match stage.finish(&reads, 200)? {
        // Refused, or every byte of it came.
        Some(Say::Failed(_) | Say::Got(Some((700, _)))) => {}
        Some(Say::Wrong(what)) => broken!("O5: {what}"),
        other => broken!("O5: a voided reader was answered {other:?}"),
    }
    stage.converges()
}

/// Under its reserve the store takes no chunk, and there is still room for deletes and for the log.
fn a_full_disk_keeps_room(stage: &mut Stage) -> Played {
    for n in 0..3 {
        stage.put(1 + n, &format!("kunci-{n}"), 700 + n, 60_000)?;
    }
    stage.converges()?;
    for node in 1..=3 {
        let disk = stage.machine(node)?.disk.clone();
        let used: u64 = disk.sizes().into_iter().map(|(_, bytes)| bytes).sum();
        // Two of a hundred bytes are free.
        disk.set_capacity(Some(used * 100 / 98));
    }
    stage.ms(1000)?;
    for n in 0..3 {
        match stage.ask(1 + n, put("besar", 710 + n, 60_000, 0))? {
            Some(Say::Failed(why)) if why.contains("full") => {}
            other => broken!("O6: a chunk below the reserve was answered {other:?}"),
        }
        match stage.ask(1 + n, Ask::Delete { key: format!("kunci-{n}") })? {
            Some(Say::Deleted) => {}
            other => broken!("O6: a delete below the reserve was answered {other:?}"),
        }
    }
    for node in 1..=3 {
        stage.machine(node)?.disk.set_capacity(None);
    }
    stage.ms(1000)?;
    stage.put(1, "besar", 720, 60_000)?;
    stage.converges()
}
