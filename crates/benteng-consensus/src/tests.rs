//! Three nodes in one process, over real sockets, disks and RocksDB; and openraft's own suite.
#![allow(clippy::disallowed_methods, reason = "tests drive the real machine")]

mod forms; // golden files of messages, records and rows
mod suite; // openraft's storage suite, also with a reopening between every two calls
mod trio; // three groups that can be stopped, wiped and started

use std::time::Duration;

use benteng_meta::ids::*;
use benteng_meta::{Answer, Command, Rejection, Role, UserRow, query};

use crate::Error;
use trio::{Trio, until};

fn create_user(name: &str) -> Command {
    let row =
        UserRow { roles: vec![Role::Sistem], opd: None, scram: None, disabled: false, created: SiteTime(0) };
    Command::CreateUser { name: name.into(), row }
}

fn has_user(view: &crate::View, name: &str) -> bool {
    let key = benteng_meta::key::user(name);
    query::get::<UserRow>(&**view, &key).expect("the state is readable").is_some()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i2_every_node_reads_what_any_node_wrote() {
    let trio = Trio::formed().await;
    for (i, writer) in [1, 2, 3].into_iter().enumerate() {
        let name = format!("user-{i}");
        assert_eq!(
            trio.group(writer).propose(create_user(&name), None).await.expect("committed"),
            Answer::Done
        );
        for reader in 1..=3 {
            let view = trio.group(reader).read().await.expect("a quorum is there");
            assert!(has_user(&view, &name), "I2: node {reader} does not see what node {writer} wrote");
        }
        let again = trio.group(4 - writer).propose(create_user(&name), None).await;
        assert!(matches!(again, Err(Error::Rejected(Rejection::UserExists(_)))), "{again:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c4_every_node_learns_what_the_clocks_agree_on() {
    let trio = Trio::formed().await;
    until("the leader has told the others", || async {
        (1..=3).all(|node| trio.group(node).clock_off().is_some())
    })
    .await;
    for node in 1..=3 {
        // One machine, one clock.
        let off = trio.group(node).clock_off().expect("told above");
        assert!(off.abs() < 30_000_000, "C4: node {node} takes its clock for {off} µs off");
        let wall = benteng_host::real::host().clock.wall();
        assert!((trio.group(node).wall().0 - wall.0).abs() < 30_000_000);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_site_without_quorum_refuses_within_the_bound_and_then_goes_on() {
    let mut trio = Trio::formed().await;
    trio.stop(2).await;
    trio.stop(3).await;
    let started = tokio::time::Instant::now();
    let refused = trio.group(1).propose(create_user("nobody"), None).await;
    assert!(matches!(refused, Err(Error::Unavailable { .. } | Error::Unknown { .. })), "{refused:?}");
    let unread = trio.group(1).read().await.err();
    assert!(matches!(unread, Some(Error::Unavailable { .. })), "{unread:?}");
    assert!(started.elapsed() < Duration::from_secs(10), "both within 5 s each");

    trio.start(2).await;
    until("a quorum is back", || async {
        trio.group(1).propose(create_user("somebody"), None).await.is_ok_and(|a| a == Answer::Done)
            || has_user(&trio.group(1).local().expect("readable"), "somebody")
    })
    .await;
    let view = trio.group(2).read().await.expect("a quorum is there");
    assert!(has_user(&view, "somebody"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i1_what_was_answered_survives_the_restart_of_all() {
    let mut trio = Trio::formed().await;
    for i in 0..50 {
        let name = format!("user-{i}");
        trio.group(1 + i % 3).propose(create_user(&name), None).await.expect("committed");
    }
    for node in 1..=3 {
        trio.kill(node);
    }
    for node in 1..=3 {
        trio.start(node).await;
        // Whoever has none forms a site anew.
        assert!(trio.had_history(node), "S3: node {node} says at its start that its log was never written");
    }
    let view = trio.read(2).await;
    for i in 0..50 {
        assert!(has_user(&view, &format!("user-{i}")), "I1: user-{i} was acknowledged and is gone");
    }
    let local = |node| query::state_hash(&*trio.group(node).local().expect("readable")).expect("readable");
    until("all replicas hold one state", || async { local(1) == local(2) && local(2) == local(3) }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s5_a_node_that_was_away_too_long_catches_up_by_snapshot() {
    let mut trio = Trio::with_log_keep(20).await;
    trio.stop(3).await;
    for i in 0..200 {
        trio.group(1).propose(create_user(&format!("user-{i}")), None).await.expect("committed");
    }
    until("the log is purged", || async {
        trio.group(1).status().purged > 100 || trio.group(2).status().purged > 100
    })
    .await;
    until("both are purged", || async {
        let leader = trio.group(1).leader().map_or(1, |n| n.0);
        trio.group(leader).status().purged > 100
    })
    .await;
    trio.start(3).await;
    until("node 3 has caught up", || async {
        trio.group(3).local().is_ok_and(|view| has_user(&view, "user-199"))
    })
    .await;
    until("node 3 says that it came by snapshot, not by log", || async { trio.group(3).status().purged > 0 })
        .await;
    // It survives its own restart on the new installation.
    trio.kill(3);
    trio.start(3).await;
    let view = trio.read(3).await;
    assert!(has_user(&view, "user-0") && has_user(&view, "user-199"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s3_a_node_that_lost_its_log_does_not_start() {
    let mut trio = Trio::formed().await;
    trio.group(1).propose(create_user("a"), None).await.expect("committed");
    trio.stop(3).await;
    trio.lose_log(3);
    let error = trio.try_start(3).await.err().map(|e| e.to_string()).unwrap_or_default();
    assert!(error.contains("S3") && error.contains("--replace"), "{error}");
}

/// A site whose log before the state is purged, on every node; node 3 is stopped.
async fn purged() -> Trio {
    let mut trio = Trio::with_log_keep(20).await;
    for i in 0..200 {
        trio.group(1).propose(create_user(&format!("user-{i}")), None).await.expect("committed");
    }
    until("the logs are purged", || async { (1..=3).all(|node| trio.group(node).status().purged > 0) }).await;
    until("node 3 is in step", || async {
        trio.group(3).local().is_ok_and(|view| has_user(&view, "user-199"))
    })
    .await;
    trio.stop(3).await;
    trio
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s5_a_lost_state_comes_from_a_peer_before_raft_starts() {
    let mut trio = purged().await;
    trio.lose_state(3);
    trio.start(3).await;
    assert!(has_user(trio.born(3), "user-0") && has_user(trio.born(3), "user-199"), "before it serves");
    trio.group(1).propose(create_user("after"), None).await.expect("committed");
    assert!(has_user(&trio.read(3).await, "after"));
    // On its own installation, and without any peer's help.
    trio.kill(3);
    trio.start(3).await;
    assert!(has_user(trio.born(3), "user-0"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s5_an_unreadable_state_comes_from_a_peer_too() {
    let mut trio = purged().await;
    trio.spoil_state(3).await;
    trio.start(3).await;
    assert!(has_user(trio.born(3), "user-0") && has_user(trio.born(3), "user-199"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s5_who_knows_no_peer_says_that_it_has_only_its_backup() {
    let mut trio = purged().await;
    trio.lose_state(3);
    let alone = trio.try_start_with(3, Vec::new()).await;
    let error = alone.err().map(|e| e.to_string()).unwrap_or_default();
    assert!(error.contains("S5") && error.contains("only its backup"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i7_boots_in_a_row_leave_a_bounded_log() {
    let mut trio = Trio::formed().await;
    for boot in 0..24 {
        trio.kill(1);
        trio.start(1).await;
        // The second claims the first (J1): what is not claimed is copied by the next boot, and leaves no segment.
        for name in [format!("user-{boot}"), format!("other-{boot}")] {
            let written = || async {
                let answer = trio.group(2).propose(create_user(&name), None).await;
                answer.is_ok() || has_user(&trio.read(2).await, &name)
            };
            until("a command is taken", written).await;
            let seen = || async { has_user(&trio.group(1).local().expect("readable"), &name) };
            until("node 1 has it as well", seen).await;
        }
    }
    // Twice the segments that are kept, a spare, the watermark, one that is being recycled.
    until("the log lies in few files", || async { trio.log_files(1) <= 16 + 3 }).await;
    trio.kill(1);
    trio.start(1).await;
    let view = trio.read(1).await;
    assert!((0..24).all(|boot| has_user(&view, &format!("user-{boot}"))), "I1: after a purge all is there");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_node_finds_most_of_its_state_flushed() {
    let mut trio = Trio::formed().await;
    let before = trio.state_files(1);
    for i in 0..1100 {
        trio.group(1).propose(create_user(&format!("user-{i}")), None).await.expect("committed");
    }
    until("the state is flushed", || async { trio.state_files(1) > before }).await;
    trio.kill(1);
    trio.start(1).await;
    let born = trio.born(1);
    assert!(has_user(born, "user-900"), "a start replays the last few entries, not the whole log");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn o6_a_full_site_takes_deletes_only_until_it_has_room() {
    let trio = Trio::formed().await;
    trio.group(1).propose(create_user("a"), None).await.expect("committed");
    let full = |full| (1..=3).for_each(|node| trio.group(node).set_full(full));
    full(true);
    for node in 1..=3 {
        let refused = trio.group(node).propose(create_user("b"), None).await;
        assert!(matches!(refused, Err(Error::Rejected(Rejection::Full))), "{refused:?}");
    }
    let delete = Command::DeleteUser { name: "a".into() };
    trio.group(2).propose(delete, None).await.expect("deletes are taken");
    let view = trio.read(3).await;
    assert!(!has_user(&view, "a") && !has_user(&view, "b"));
    full(false);
    trio.group(3).propose(create_user("b"), None).await.expect("writes return");
    // In one batch: each command by itself.
    full(true);
    let (created, deleted) = tokio::join!(
        trio.group(1).propose(create_user("c"), None),
        trio.group(1).propose(Command::DeleteUser { name: "b".into() }, None),
    );
    assert!(matches!(created, Err(Error::Rejected(Rejection::Full))) && deleted.is_ok());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s7_a_survivor_goes_on_alone_and_refuses_those_from_before() {
    let mut trio = Trio::formed().await;
    trio.group(1).propose(create_user("kept"), None).await.expect("committed");
    until("node 2 has it", || async { trio.group(2).local().is_ok_and(|view| has_user(&view, "kept")) })
        .await;
    for node in 1..=3 {
        trio.stop(node).await;
    }
    trio.start_alone(2).await;
    until("node 2 leads by its own vote", || async { trio.group(2).is_leader() }).await;
    assert_eq!(trio.group(2).status().voters.len(), 1);
    // Of the site's rows node 1 is the only node here; the command needs one that is known.
    trio.group(2).propose(Command::Recover { node: NodeId(1) }, None).await.expect("recovered");
    assert!(has_user(&trio.read(2).await, "kept"));
    trio.stop(2).await;
    for node in 1..=3 {
        trio.start(node).await;
    }
    assert_eq!((trio.group(2).epoch(), trio.group(1).epoch()), (1, 0));
    trio.group(2).propose(create_user("after"), None).await.expect("alone is a quorum");
    // Two from before are a majority of the old membership, and still do not get it back.
    until("node 2 leads itself", || async { trio.group(2).is_leader() }).await;
    assert!(!has_user(&trio.group(1).local().expect("readable"), "after"), "S7: they hear nothing of it");
    let status = trio.group(2).status();
    assert_eq!((status.voters.len(), status.learners.len()), (1, 0), "{status:?}");
}
