//! Promises that no single rule holds: enough copies, conditions, honest reads, nonces.

use std::path::Path;
use std::time::Duration;

use benteng_host::planted::Bug;

use super::Scenario;
use crate::door::{Ask, Say};
use crate::plan::Plan;
use crate::stage::{Played, Stage, broken};

pub(super) const ALL: &[Scenario] = &[
    Scenario::new("i1_two_full_disks", &[Bug::OneCopyEnough], two_full_disks),
    Scenario::new("i2_a_condition_decides", &[Bug::PreconditionForgotten], a_condition_decides),
    Scenario::new("i4_a_damaged_copy_is_not_the_last", &[Bug::DamageIsFinal], a_damaged_copy_is_not_the_last),
    Scenario::new("i4_the_scrub_finds_and_repairs", &[Bug::ScrubBlind], the_scrub_finds_and_repairs)
        .with(scrubbing),
    Scenario::new(
        "k1_no_nonce_comes_twice",
        &[Bug::ValueSaltReused, Bug::SegmentSaltReused],
        no_nonce_comes_twice,
    ),
    Scenario::new("k2_frames_of_a_long_part", &[Bug::FrameCounterRestarts], frames_of_a_long_part),
];

fn scrubbing() -> Plan {
    Plan { scrub: Duration::from_secs(20), ..Plan::calm() }
}

/// Two of three disks take no chunk: one durable copy is not enough, however long the client waits.
fn two_full_disks(stage: &mut Stage) -> Played {
    let (leader, one, other) = stage.followers()?;
    stage.put(leader, "kunci", 699, 60_000)?;
    stage.converges()?;
    for node in [one, other] {
        let disk = stage.machine(node)?.disk.clone();
        let used: u64 = disk.sizes().into_iter().map(|(_, bytes)| bytes).sum();
        disk.set_capacity(Some(used * 100 / 98));
    }
    stage.ms(1000)?;
    let ask = Ask::Put { key: "kunci".into(), value: 700, len: 60_000, create: false, tag: None, pause: 0 };
    match stage.ask(leader, ask)? {
        Some(Say::Failed(_)) => {}
        other => broken!("I1: a write that two of three disks refused was answered {other:?}"),
    }
    for node in [one, other] {
        stage.machine(node)?.disk.set_capacity(None);
    }
    stage.ms(1000)?;
    stage.put(leader, "kunci", 701, 60_000)?;
    stage.converges()
}

fn a_condition_decides(stage: &mut Stage) -> Played {
    for n in 0..2 {
        let create =
            Ask::Put { key: "baru".into(), value: 700 + n, len: 500, create: true, tag: None, pause: 0 };
        match (n, stage.ask(1 + n, create)?) {
            (0, Some(Say::Put(_))) | (1, Some(Say::Refused)) => {}
            (_, said) => broken!("I2: creation number {n} of one key was answered {said:?}"),
        }
    }
    stage.converges()
}

/// Flips a bit in each of the last written bytes of a node's chunk segments; says how many.
fn flip_chunks(stage: &mut Stage, node: u64) -> Result<(), String> {
    let store = stage.node(node)?.store().id().0.as_u128();
    stage.probes.facts(|facts| facts.damaged(store));
    let disk = stage.machine(node)?.disk.clone();
    let files = disk.written(Path::new("/data/chunks"));
    let (path, end) = files
        .into_iter()
        .filter(|(path, _)| path.extension().is_some_and(|end| end == "seg"))
        .max_by_key(|(_, end)| *end)
        .ok_or("the store has no segment")?;
    disk.flip(&path, end - 40_000, 8);
    Ok(())
}

fn a_damaged_copy_is_not_the_last(stage: &mut Stage) -> Played {
    stage.put(1, "rusak", 700, 200_000)?;
    stage.converges()?;
    flip_chunks(stage, 2)?;
    match stage.ask(2, Ask::Get { key: "rusak".into(), pause: 0 })? {
        Some(Say::Got(Some((700, _)))) => {}
        other => broken!("I4: two good copies and a damaged one were answered {other:?}"),
    }
    stage.until("the damaged copy is made good", 60, |stage| {
        stage.node(2).is_ok_and(|node| node.store().quarantined().is_empty())
    })?;
    stage.converges()
}

/// Nobody reads the damaged copy: the scrub must.
fn the_scrub_finds_and_repairs(stage: &mut Stage) -> Played {
    stage.put(1, "rusak", 700, 200_000)?;
    stage.converges()?;
    let before = stage.probes.counts().get("scrub_found_damage").copied().unwrap_or(0);
    flip_chunks(stage, 2)?;
    stage.until("the scrub finds the damage", 90, |stage| {
        stage.probes.counts().get("scrub_found_damage").copied().unwrap_or(0) > before
    })?;
    stage.until("the damaged copy is made good", 60, |stage| {
        stage.node(2).is_ok_and(|node| node.store().quarantined().is_empty())
    })?;
    stage.reads(2, "rusak", 700)?;
    stage.converges()
}

/// Starts, rolls, recycled segments, received snapshots: each must bring a salt of its own.
fn no_nonce_comes_twice(stage: &mut Stage) -> Played {
    for round in 0..3 {
        for node in 1..=3 {
            stage.put(node, "kunci", 100 * (round + 1) + node, 7000)?;
            stage.restart(node)?;
            stage.until("it serves again", 30, |stage| stage.site.node(node).is_some())?;
        }
    }
    stage.converges()
}

fn frames_of_a_long_part(stage: &mut Stage) -> Played {
    stage.put(1, "panjang", 700, (4 << 20) + 70_000)?;
    stage.reads(2, "panjang", 700)?;
    stage.converges()
}
