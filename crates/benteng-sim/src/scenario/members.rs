//! Nodes that come and go: small sites that grow, drains and removals, a gateway that another process supersedes.

use std::time::Duration;

use benteng_meta::ids::NodeId;
use benteng_meta::{Command, NodeState, query};

use super::Scenario;
use super::journal::small_log;
use crate::door::{Ask, Say};
use crate::plan::Plan;
use crate::stage::{Played, Stage, broken};

pub(super) const ALL: &[Scenario] = &[
    Scenario::new("s8_one_node_grows_to_three", &[], one_node_grows_to_three).with(alone),
    Scenario::new("s8_two_nodes_answer_when_both_have_it", &[], two_nodes_answer_when_both_have_it).with(two),
    Scenario::new("s8_the_leader_is_drained_and_removed", &[], the_leader_is_drained_and_removed)
        .with(small_log),
    Scenario::new(
        "o2_a_superseded_gateway_is_refused_by_every_store",
        &[],
        a_superseded_gateway_is_refused_by_every_store,
    ),
    Scenario::new("s3_a_wiped_node_is_replaced_while_others_work", &[], a_wiped_node_is_replaced),
];

fn alone() -> Plan {
    Plan { founders: 1, ..Plan::calm() }
}

fn two() -> Plan {
    Plan { founders: 2, ..Plan::calm() }
}

fn put(key: &str, value: u64, len: usize, pause: u64) -> Ask {
    Ask::Put { key: key.to_owned(), value, len, create: false, tag: None, pause }
}

/// What was written to one node is held by three in the end, and survives the loss of the first.
fn one_node_grows_to_three(stage: &mut Stage) -> Played {
    for n in 0..6 {
        stage.put(1, &format!("kunci-{n}"), 700 + n, 20_000)?;
    }
    stage.cut_all_power()?;
    stage.until("it serves again", 30, |stage| stage.site.node(1).is_some())?;
    let second = stage.grow()?;
    stage.put(second, "kunci-6", 706, 20_000)?;
    let third = stage.grow()?;
    stage.put(third, "kunci-7", 707, 20_000)?;
    stage.probes.facts(|facts| facts.expect_copies(2));
    stage.converges()?;
    stage.kill(1);
    for n in 0..8 {
        stage.reads(third, &format!("kunci-{n}"), 700 + n)?;
    }
    stage.put(second, "kunci-0", 800, 20_000)?;
    stage.boot(1)?;
    stage.converges()
}

/// One vote decides, two disks were promised: without the second node nothing is acknowledged, and nothing is lost.
fn two_nodes_answer_when_both_have_it(stage: &mut Stage) -> Played {
    stage.put(1, "kunci", 700, 500)?;
    stage.put(2, "kunci", 701, 20_000)?;
    let before = stage.count("second_node_not_durable");
    stage.kill(2);
    match stage.ask(1, put("kunci", 702, 500, 0))? {
        Some(Say::Unknown(_) | Say::Failed(_)) | None => {}
        other => broken!("S8: a write that only one of two nodes has was answered {other:?}"),
    }
    if stage.count("second_node_not_durable") == before {
        broken!("S8: nobody waited for the second node");
    }
    stage.boot(2)?;
    stage.until("the second node serves again", 60, |stage| stage.site.node(2).is_some())?;
    stage.put(1, "kunci", 703, 500)?;
    stage.reads(2, "kunci", 703)?;
    stage.grow()?;
    stage.converges()
}

/// Where a node stands in the site's books: groups that name it, and whether it votes.
fn share(stage: &Stage, by: u64, node: u64) -> Option<(usize, bool)> {
    let view = stage.view(by).ok()?;
    let rows = query::placements(&*view).ok()?;
    let held = rows.iter().filter(|(_, row)| row.writable().contains(&NodeId(node))).count();
    let votes = stage.node(by).ok()?.group().status().voters.contains(&NodeId(node));
    Some((held, votes))
}

/// A fourth node joins and the leader is drained: it hands its groups, its vote and the leadership over, gives up
/// the chunks that others hold by then, and goes.
fn the_leader_is_drained_and_removed(stage: &mut Stage) -> Played {
    for n in 0..30 {
        stage.put(1 + n % 3, &format!("kunci-{n}"), 700 + n, 60_000)?;
    }
    stage.grow()?;
    let leader = stage.leader()?;
    let by = stage.site.members().into_iter().find(|node| *node != leader).ok_or("one node")?;
    let drain = Command::SetNodeState { node: NodeId(leader), state: NodeState::Draining };
    stage.propose(by, drain)??;
    let slow = stage.start(by, put("lambat", 790, 200_000, 300))?;
    stage.until("it holds no group and no vote any more", 120, |stage| {
        stage.sim.elapsed().as_millis() % 200 == 0 && share(stage, by, leader) == Some((0, false))
    })?;
    if stage.count("leadership_handed_over") == 0 {
        broken!("S8: a drained leader did not hand over");
    }
    // Every reader knows by then that the groups have moved (O5).
    stage.until("it has given up what others hold", 90, |stage| stage.count("strays_evicted") > 0)?;
    match stage.finish(&slow, 60)? {
        Some(Say::Put(_)) => {}
        other => broken!("O2: a write during a drain was answered {other:?}"),
    }
    stage.remove(by, leader)?;
    stage.put(by, "kunci-0", 800, 60_000)?;
    for n in 1..30 {
        stage.reads(by, &format!("kunci-{n}"), 700 + n)?;
    }
    stage.converges()
}

/// A second process runs as node `one`: whatever the first one still writes is refused, and it notices.
fn a_superseded_gateway_is_refused_by_every_store(stage: &mut Stage) -> Played {
    let (leader, one, _) = stage.followers()?;
    // The second chunk goes out when the first process is no longer the one that counts.
    let slow = stage.start(one, put("panjang", 700, (4 << 20) + 3_000_000, 30))?;
    stage.ms(3300)?;
    stage.machine(one)?.gate.pause();
    stage.propose(leader, Command::StartGateway { node: NodeId(one) })??;
    stage.ms(2000)?;
    stage.machine(one)?.gate.resume();
    match stage.finish(&slow, 60)? {
        Some(Say::Failed(_)) => {}
        other => broken!("O2: a superseded gateway answered its client {other:?}"),
    }
    if stage.count("store_refused_superseded") == 0 || stage.count("gateway_superseded") == 0 {
        broken!("I9: nobody noticed that the gateway is superseded");
    }
    match stage.ask(one, put("kunci", 701, 20_000, 0))? {
        Some(Say::Failed(_)) | None => {}
        other => broken!("I9: a superseded process took a write: {other:?}"),
    }
    match stage.ask(leader, Ask::Get { key: "panjang".into(), pause: 0 })? {
        Some(Say::Got(None)) => {}
        other => broken!("O2: what a superseded gateway wrote is {other:?}"),
    }
    stage.restart(one)?;
    stage.until("it serves again", 30, |stage| stage.site.node(one).is_some())?;
    stage.put(one, "kunci", 702, 20_000)?;
    stage.converges()
}

/// All disks of a node are emptied under load; a fresh one takes its place, also in the eyes of who was cut off.
fn a_wiped_node_is_replaced(stage: &mut Stage) -> Played {
    for n in 0..12 {
        stage.put(1 + n % 3, &format!("kunci-{n}"), 700 + n, 60_000)?;
    }
    let (leader, one, other) = stage.followers()?;
    stage.isolate(other);
    let fresh = stage.replace(one)?;
    stage.ms(1500)?;
    stage.rejoin(other);
    stage.until("the fresh node serves", 90, |stage| stage.site.node(fresh).is_some())?;
    stage.put(leader, "kunci-0", 800, 60_000)?;
    stage.converges()?;
    // Until the fresh node has the lost one's vote, the leader is needed.
    stage.until("the fresh node votes", 60, |stage| {
        stage.site.running().iter().all(|node| node.group().status().voters.contains(&NodeId(fresh)))
    })?;
    stage.ms(2000)?;
    stage.kill(leader);
    stage.pass(Duration::from_secs(3))?;
    for n in 1..12 {
        stage.reads(fresh, &format!("kunci-{n}"), 700 + n)?;
    }
    stage.boot(leader)?;
    stage.converges()
}
