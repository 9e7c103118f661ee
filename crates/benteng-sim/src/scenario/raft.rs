//! Rules S1, S2, S3, S6, S7, S8: votes, leases, what a start looks at, and damage to the state.

use std::path::Path;
use std::time::Duration;

use benteng_host::planted::Bug;
use benteng_meta::ids::NodeId;
use benteng_meta::{Command, key, query};

use super::Scenario;
use super::journal::replaced;
use crate::Ending;
use crate::door::{Ask, Say};
use crate::plan::Plan;
use crate::stage::{Played, Stage, broken};

pub(super) const ALL: &[Scenario] = &[
    Scenario::new(
        "s1_a_voter_loses_its_power_after_its_vote",
        &[Bug::VoteUnsynced, Bug::VoteDropped],
        a_voter_loses_its_power_after_its_vote,
    )
    .with(slow_syncs),
    Scenario::new(
        "s1_an_old_leader_whose_clock_is_slow",
        &[Bug::LeaseRead, Bug::LocalRead],
        an_old_leader_whose_clock_is_slow,
    ),
    Scenario::new("s1_a_leader_restarts", &[Bug::LeaderRestored], a_leader_restarts).with(slow_syncs),
    Scenario::new("s2_apply_ahead_of_the_journal", &[Bug::AppliedAheadOfLog], apply_ahead_of_the_journal),
    Scenario::new("s3_a_log_that_is_gone", &[Bug::StartUnchecked], a_log_that_is_gone),
    Scenario::new("s6_a_damaged_state_is_rebuilt", &[], a_damaged_state_is_rebuilt),
    Scenario::new(
        "s6_a_leader_whose_state_is_damaged",
        &[Bug::BrokenStateRejects],
        a_leader_whose_state_is_damaged,
    ),
    Scenario::new("s6_a_row_that_only_readers_touch", &[Bug::DamagedRowStays], a_row_that_only_readers_touch),
    Scenario::new(
        "s6_nobody_reads_a_state_that_is_being_dropped",
        &[Bug::DamagedStateServes],
        nobody_reads_a_state_that_is_being_dropped,
    )
    .with(slow_flushes),
    Scenario::new("s7_another_recovery_epoch", &[Bug::EpochIgnored], another_recovery_epoch),
    Scenario::new("s8_three_votes_stay_three", &[Bug::VotersFall], three_votes_stay_three),
];

fn slow_syncs() -> Plan {
    let sync = Duration::from_millis(20)..=Duration::from_millis(60);
    Plan { disk_sync: sync, ..Plan::calm() }
}

/// Two may stand in one term; whoever voted for the first must not forget it and vote for the second.
fn a_voter_loses_its_power_after_its_vote(stage: &mut Stage) -> Played {
    for round in 0..6 {
        let (leader, one, _) = stage.followers()?;
        let before = stage.probes.facts(|facts| facts.votes().clone());
        stage.kill(leader);
        let voters: Vec<(u64, u128)> =
            stage.site.running().iter().map(|node| (node.me().0, node.store().id().0.as_u128())).collect();
        let voted = |stage: &Stage| {
            let now = stage.probes.facts(|facts| facts.votes().clone());
            voters.iter().find(|(_, store)| now.get(store) != before.get(store)).map(|(node, _)| *node)
        };
        stage.until("somebody votes", 30, |stage| voted(stage).is_some())?;
        let voter = voted(stage).unwrap_or(one);
        stage.cut_power(voter);
        stage.boot(voter)?;
        stage.boot(leader)?;
        stage.until("all nodes serve again", 60, |stage| stage.site.running().len() == 3)?;
        stage.put(one, "kunci", 100 + round, 500)?;
    }
    stage.converges()
}

/// The old leader's lease lasts as long as its slow clock says; the others have elected another meanwhile.
fn an_old_leader_whose_clock_is_slow(stage: &mut Stage) -> Played {
    let (leader, one, _) = stage.followers()?;
    stage.put(leader, "kunci", 100, 500)?;
    stage.ms(1000)?;
    stage.machine(leader)?.clock.set_rate(50_000);
    stage.isolate(leader);
    stage.until("the others elect another", 30, |stage| {
        stage.node(one).is_ok_and(|node| node.group().leader().is_some_and(|now| now.0 != leader))
    })?;
    stage.put(one, "kunci", 101, 500)?;
    let read = stage.start(leader, Ask::Get { key: "kunci".into(), pause: 0 })?;
    stage.ms(3000)?;
    if let Some(Some(Say::Got(got))) = read.take()
        && got.as_ref().is_none_or(|(value, _)| *value != 101)
    {
        broken!("I2: an old leader answered {got:?} after 101 was written");
    }
    stage.machine(leader)?.clock.set_rate(1_000_000);
    stage.rejoin(leader);
    stage.converges()
}

/// A leader that comes back knows less than it had sent: it must stand again.
fn a_leader_restarts(stage: &mut Stage) -> Played {
    for round in 0..10 {
        let leader = stage.leader()?;
        let term = stage.node(leader)?.group().status().term;
        let put = Ask::Put {
            key: "kunci".into(),
            value: 100 + round,
            len: 3000,
            create: false,
            tag: None,
            pause: 0,
        };
        let under_way = stage.start(leader, put)?;
        stage.ms(15)?;
        stage.cut_power(leader);
        stage.boot(leader)?;
        drop(under_way);
        stage.until("it serves again", 60, |stage| {
            stage.node(leader).is_ok_and(|node| node.group().leader().is_some())
        })?;
        let node = stage.node(leader)?;
        let now = node.group().status();
        if now.leader == Some(NodeId(leader)) && now.term == term {
            broken!("S1: node {leader} resumed in its old term {term}");
        }
        stage.put(leader, "kunci", 200 + round, 500)?;
    }
    stage.converges()
}

/// The others commit; the own disk is slow; then the power fails, and the store had flushed in the background.
fn apply_ahead_of_the_journal(stage: &mut Stage) -> Played {
    for round in 0..6 {
        let (leader, one, _) = stage.followers()?;
        let disk = stage.machine(one)?.disk.clone();
        disk.set_latency(Duration::ZERO..=Duration::ZERO, Duration::from_secs(3)..=Duration::from_secs(3));
        for n in 0..6 {
            stage.put(leader, "kunci", 100 + 10 * round + n, 500)?;
        }
        stage.ms(300)?;
        stage.cut_power(one);
        disk.set_latency(Duration::ZERO..=Duration::ZERO, Duration::ZERO..=Duration::ZERO);
        stage.boot(one)?;
        stage.until("the node serves again", 30, |stage| stage.site.node(one).is_some())?;
    }
    stage.converges()
}

/// The log's files are gone, the state is there: a start would vote and acknowledge on nothing.
fn a_log_that_is_gone(stage: &mut Stage) -> Played {
    let (leader, one, _) = stage.followers()?;
    stage.put(leader, "kunci", 100, 3000)?;
    stage.ms(500)?;
    stage.node(one)?.store();
    stage.kill(one);
    let machine = stage.machine(one)?;
    for (path, _) in machine.disk.written(Path::new("/data/raft")) {
        machine.disk.lose_file(&path);
    }
    stage.boot(one)?;
    // The store flushes only now and then: without a state there is nothing to hold the log against.
    stage.refuses(one)?;
    replaced(stage, one)
}

/// Bits of one node's rows flip: it must drop its state and build it anew, never answer by it.
fn a_damaged_state_is_rebuilt(stage: &mut Stage) -> Played {
    let (leader, one, _) = stage.followers()?;
    stage.put(leader, "kunci", 100, 3000)?;
    stage.ms(500)?;
    let machine = stage.machine(one)?;
    let clock = key::clock();
    let rows = |key: &[u8]| key.first() == Some(&b's') && !key.ends_with(&clock[..]);
    for _ in 0..4000 {
        machine.kv.flip(&mut stage.rng, rows);
    }
    for n in 0..5 {
        stage.put(leader, "kunci", 110 + n, 500)?;
    }
    match stage.ends(one, 10)? {
        Ending::Stopped(why) if why.contains("S6") => {}
        other => broken!("S6: a state that cannot be read, and then {other:?}"),
    }
    stage.restart(one)?;
    let machine = stage.machine(one)?;
    stage.until("it starts or refuses", 30, |stage| {
        stage.site.node(one).is_some() || machine.ending().is_some()
    })?;
    match machine.ending() {
        Some(_) => replaced(stage, one),
        None => stage.converges(),
    }
}

/// The leader cannot read its state: it must not say of a command that the others applied that it was refused.
fn a_leader_whose_state_is_damaged(stage: &mut Stage) -> Played {
    let (leader, one, other) = stage.followers()?;
    stage.put(one, "kunci", 100, 500)?;
    stage.converges()?;
    let machine = stage.machine(leader)?;
    stage.watch.expected.insert(leader);
    // What the command reads and nobody keeps in memory: the row that it replaces.
    let objects = key::table(key::Table::Object);
    let rows =
        |key: &[u8]| key.first() == Some(&b's') && key.get(9..).is_some_and(|row| row.starts_with(&objects));
    machine.kv.flip(&mut stage.rng, rows);
    let put = Ask::Put { key: "kunci".into(), value: 101, len: 500, create: false, tag: None, pause: 0 };
    let said = stage.ask(one, put)?;
    stage.ms(3000)?;
    let holds = stage.ask(other, Ask::Get { key: "kunci".into(), pause: 0 })?;
    let there = matches!(&holds, Some(Say::Got(Some((101, _)))));
    if there && matches!(said, Some(Say::Failed(_) | Say::Refused)) {
        broken!("S6: a write that was done was answered {said:?}");
    }
    match machine.ending() {
        Some(Ending::Stopped(why)) if why.contains("S6") => {}
        other => broken!("S6: a state that cannot be read, and then {other:?}"),
    }
    stage.restart(leader)?;
    stage.until("it starts or refuses", 30, |stage| {
        stage.site.node(leader).is_some() || machine.ending().is_some()
    })?;
    match machine.ending() {
        Some(_) => replaced(stage, leader),
        None => stage.converges(),
    }
}

/// Nothing applies to the damaged rows: a read must not fail for ever.
fn a_row_that_only_readers_touch(stage: &mut Stage) -> Played {
    stage.put(1, "kunci", 100, 3000)?;
    stage.converges()?;
    let (_, one, _) = stage.followers()?;
    let machine = stage.machine(one)?;
    // Key rows and blob rows: what is nobody's business but a reader's.
    let tables = [key::table(key::Table::Object), key::table(key::Table::Blob)];
    let rows = |key: &[u8]| {
        key.first() == Some(&b's')
            && tables.iter().any(|table| key.get(9..).is_some_and(|row| row.starts_with(table)))
    };
    for _ in 0..50 {
        machine.kv.flip(&mut stage.rng, rows);
    }
    stage.ask(one, Ask::Get { key: "kunci".into(), pause: 0 })?;
    match stage.ends(one, 10)? {
        // Because of what the reader met: the scrub, which comes later, would find it on its own.
        Ending::Stopped(why) if why.contains("a row that was read does not authenticate") => {}
        other => broken!("S6: a row that cannot be read, and then {other:?}"),
    }
    stage.restart(one)?;
    let machine = stage.machine(one)?;
    stage.until("it starts or refuses", 30, |stage| {
        stage.site.node(one).is_some() || machine.ending().is_some()
    })?;
    match machine.ending() {
        Some(_) => replaced(stage, one),
        None => stage.reads(one, "kunci", 100),
    }
}

fn slow_flushes() -> Plan {
    let flush = Duration::from_millis(800)..=Duration::from_millis(1200);
    Plan { kv_flush: flush, ..Plan::calm() }
}

/// Seed 2 of 2026-12-01: while the rows of a damaged state went, its node said that keys were not there.
fn nobody_reads_a_state_that_is_being_dropped(stage: &mut Stage) -> Played {
    stage.put(1, "kunci", 100, 500)?;
    stage.converges()?;
    let (_, one, _) = stage.followers()?;
    let machine = stage.machine(one)?;
    stage.watch.expected.insert(one);
    let blobs = key::table(key::Table::Blob);
    let rows =
        |key: &[u8]| key.first() == Some(&b's') && key.get(9..).is_some_and(|row| row.starts_with(&blobs));
    for _ in 0..50 {
        machine.kv.flip(&mut stage.rng, rows);
    }
    // The first meets the damage, the others ask while the state goes.
    for _ in 0..60 {
        let asked = stage.start(one, Ask::Get { key: "kunci".into(), pause: 0 })?;
        stage.ms(60)?;
        // No answer at all, once it has ended.
        let nothing = matches!(asked.take(), Some(Some(Say::Got(None))));
        let empty = stage.view(one).is_ok_and(|view| matches!(query::site(&*view), Ok(None)));
        if (nothing || empty) && machine.ending().is_none() {
            broken!("I2: a node whose state is being dropped says that nothing is there");
        }
        if machine.ending().is_some() {
            break;
        }
    }
    stage.until("the node ends", 10, |_| machine.ending().is_some())?;
    stage.restart(one)?;
    stage.until("it starts or refuses", 30, |stage| {
        stage.site.node(one).is_some() || machine.ending().is_some()
    })?;
    match machine.ending() {
        Some(_) => replaced(stage, one),
        None => stage.reads(one, "kunci", 100),
    }
}

/// A node of another recovery epoch: nothing of it counts, and it is told nothing.
fn another_recovery_epoch(stage: &mut Stage) -> Played {
    let (leader, one, other) = stage.followers()?;
    stage.kill(one);
    stage.site.set_epoch(one, 1);
    stage.boot(one)?;
    for n in 0..5 {
        stage.put(other, "kunci", 100 + n, 500)?;
    }
    stage.ms(8000)?;
    let applied =
        |stage: &Stage, node| stage.node(node).map(|node| node.group().status().last_applied).unwrap_or(0);
    let (here, there) = (applied(stage, leader), applied(stage, one));
    if there >= here {
        broken!("S7: a node of another recovery epoch has applied {there} entries of {here}");
    }
    stage.kill(one);
    stage.site.set_epoch(one, 0);
    stage.boot(one)?;
    stage.converges()
}

/// A node is removed and nobody takes its seat: three votes do not become one by themselves.
fn three_votes_stay_three(stage: &mut Stage) -> Played {
    let (leader, _, other) = stage.followers()?;
    let group = stage.node(leader)?.group().clone();
    let remove = Command::RemoveNode { node: NodeId(other), lost: true, accept_one_voter: false };
    let removed = stage.run(async move { group.propose(remove, None).await.map_err(|e| e.to_string()) })?;
    if let Err(why) = removed {
        // As it should be, without an operator's word.
        stage.probes.note(&why);
    }
    stage.ms(8000)?;
    let voters = stage.node(leader)?.group().status().voters;
    if voters.len() < 3 {
        broken!("S8: three votes became {} by themselves", voters.len());
    }
    Ok(())
}
