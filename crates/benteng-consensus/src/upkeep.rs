//! What goes on beside the commands: making the state durable so that the log can be purged
//! (S4), and the leader's clock (C4).

use std::sync::Weak;
use std::time::Duration;

use benteng_host::planted::{Bug, planted};
use benteng_host::{Wall, sleep};
use benteng_meta::codec;
use benteng_rpc::{Lane, Request};
use futures::stream::{FuturesUnordered, StreamExt};
use openraft::async_runtime::WatchReceiver;

use crate::agreed;
use crate::group::Inner;
use crate::methods;
use crate::wire::{WireAgreed, WireClock};

/// How often it is looked whether the log may be purged.
const TURN: Duration = Duration::from_secs(1);
/// What was applied since the state was flushed is replayed at the next start: beyond so many entries it is
/// flushed, but not more often than each so many turns. So a start replays a thousand entries, or as many
/// as a busy site applies in five seconds, and not all that the log keeps.
const FLUSH_ENTRIES: u64 = 1000;
const FLUSH_TURNS: u32 = 5;
/// Each boot begins a segment, however little it writes: beyond this many the older ones are
/// purged though they hold few entries, so that boots in a row take bounded room (I7).
const SEGMENTS_MAX: usize = 16;
/// What such a purge leaves, for followers that are behind.
const SEGMENTS_KEPT: usize = 8;
/// The leader reads the members' clocks as often as it sends heartbeats.
const CLOCK_TURN: Duration = Duration::from_millis(250);
/// A clock that stays wrong is said again after this.
const WARN_TURN: Duration = Duration::from_secs(60);
/// How long closing a damaged segment may take: a full device makes it wait, and what is purged meanwhile makes room.
const ROLL_DEADLINE: Duration = Duration::from_secs(5);
/// A clock report that took longer is too old.
const CLOCK_DEADLINE: Duration = Duration::from_millis(250);

/// Flushes, snapshots and purges whenever the log has grown by half of what is kept, lies in too many segments,
/// or is damaged somewhere.
pub(crate) async fn run(inner: Weak<Inner>) {
    let (mut flushed, mut turns, mut asked) = (None, 0, 0);
    loop {
        let Some(group) = inner.upgrade() else { return };
        let turn = sleep(&*group.host.clock, TURN);
        let applied = group.raft.metrics().borrow_watched().last_applied.map_or(0, |id| id.index);
        turns += 1;
        report(&group);
        // Apply notices by itself; a row that only readers touch would be an error for ever.
        if group.state.is_damaged() && !planted(Bug::DamagedRowStays) {
            let why = group.machine.rebuild(&"a row that was read does not authenticate").await;
            tracing::error!(error = %why, "the damaged state is rebuilt at the next start");
        }
        // What is there at the start was read from the disk.
        if applied.saturating_sub(*flushed.get_or_insert(applied)) >= FLUSH_ENTRIES && turns >= FLUSH_TURNS {
            match group.state.flush().await {
                Ok(()) => (flushed, turns) = (Some(applied), 0),
                Err(e) => tracing::warn!(error = %e, "the state was not flushed; it is tried again"),
            }
        }
        if let Err(e) = purge(&group, &mut asked).await {
            tracing::warn!(error = %e, "the raft log was not purged; it is tried again");
        }
        drop(group);
        turn.await;
    }
}

/// Shows where this node stands in the group.
fn report(group: &Inner) {
    let metrics = group.raft.metrics().borrow_watched().clone();
    let gauge = |name: &'static str, value: u64| metrics::gauge!(name).set(value as f64);
    let last = metrics.last_log_index.unwrap_or(0);
    let applied = metrics.last_applied.map_or(0, |id| id.index);
    gauge("benteng_raft_term", metrics.current_term);
    // One number: the term in which this node leads, 0 if it does not.
    let leads = metrics.current_leader == Some(group.me);
    gauge("benteng_raft_leads_in_term", if leads { metrics.current_term } else { 0 });
    gauge("benteng_raft_knows_leader", u64::from(metrics.current_leader.is_some()));
    gauge("benteng_raft_last_log_index", last);
    gauge("benteng_raft_applied_log_index", applied);
    gauge("benteng_raft_purged_log_index", metrics.purged.map_or(0, |id| id.index));
    let (damaged, mended) = group.log.damage();
    gauge("benteng_raft_log_segments_damaged", damaged);
    gauge("benteng_raft_log_segments_mended", mended);
    gauge("benteng_kv_given_up", group.state.given_up());
}

/// Purges what may go. `asked`: up to where Raft was asked to purge already; it does so by itself once
/// nobody is being sent those entries, and need not be asked each second, by a snapshot each time.
async fn purge(group: &Inner, asked: &mut u64) -> Result<(), String> {
    let metrics = group.raft.metrics().borrow_watched().clone();
    let applied = metrics.last_applied.map_or(0, |id| id.index);
    let purged = metrics.purged.map_or(0, |id| id.index).max(*asked);
    let too_long = applied.saturating_sub(purged) > group.log_keep + group.log_keep / 2;
    let crowded = group.log.segments() > SEGMENTS_MAX;
    // What is not applied yet stays: a purge that frees nothing is not tried each second.
    let older = if crowded { group.log.last_before_newest(SEGMENTS_KEPT) } else { 0 };
    let older = older.max(damaged(group).await?).min(applied);
    if !too_long && older <= purged {
        return Ok(());
    }
    // The builder captures the state and flushes it: what it covers is durable (S4).
    group.raft.trigger().snapshot().await.map_err(|e| e.to_string())?;
    let ready = group.raft.wait(Some(Duration::from_secs(30)));
    let covered = move |m: &openraft::RaftMetrics<crate::types::Types>| {
        m.snapshot.is_some_and(|id| id.index >= applied)
    };
    let metrics = ready.metrics(covered, "snapshot for a purge").await.map_err(|e| e.to_string())?;
    let snapshot = metrics.snapshot.map_or(0, |id| id.index);
    let by_length = if too_long { snapshot.saturating_sub(group.log_keep) } else { 0 };
    let upto = by_length.max(older.min(snapshot));
    group.raft.trigger().purge_log(upto).await.map_err(|e| e.to_string())?;
    *asked = upto;
    tracing::info!(log_index = upto, "raft log purged");
    Ok(())
}

/// The last entry of the damaged part of the log; 0: nothing is damaged.
async fn damaged(group: &Inner) -> Result<u64, String> {
    if group.log.newest_is_damaged() {
        let roll = Box::pin(group.log.roll());
        if let Ok(rolled) = benteng_host::timeout(&*group.host.clock, ROLL_DEADLINE, roll).await {
            rolled.map_err(|e| e.to_string())?;
        }
    }
    group.log.mend().await.map(|last| last.unwrap_or(0)).map_err(|e| e.to_string())
}

/// The leader slews site time towards the median of a majority of clocks.
pub(crate) async fn keep_time(inner: Weak<Inner>) {
    let mut warned = None;
    loop {
        let Some(group) = inner.upgrade() else { return };
        let turn = sleep(&*group.host.clock, CLOCK_TURN);
        let mut off = None;
        if group.leader() == Some(group.me) {
            let members = members(&group);
            let clocks = read_clocks(&group, &members).await;
            if let Some(agreed) = agreed::median(clocks.clone(), members.len()) {
                group.agreed.set(&*group.host.clock, agreed);
            }
            // Without a majority time runs on as it did.
            if clocks.len() * 2 > members.len() {
                off = group.clock.slew(&*group.host.clock, clocks);
            }
        }
        metrics::gauge!("benteng_site_time_off_seconds").set(off.map_or(0.0, |off| off.as_secs_f64()));
        if let Some(off) = group.agreed.off(&*group.host.clock) {
            metrics::gauge!("benteng_clock_off_seconds").set(off as f64 / 1e6);
        }
        let now = group.host.clock.now();
        if let Some(off) = off
            && warned.is_none_or(|at| now.since(at) >= WARN_TURN)
        {
            warned = Some(now);
            tracing::warn!(
                off_seconds = off.as_secs(),
                "site time differs from the members' clocks by more than a minute; set the clocks right"
            );
        }
        drop(group);
        turn.await;
    }
}

fn members(group: &Inner) -> Vec<benteng_meta::ids::NodeId> {
    let metrics = group.raft.metrics().borrow_watched().clone();
    metrics.membership_config.membership().voter_ids().collect()
}

async fn read_clocks(group: &Inner, members: &[benteng_meta::ids::NodeId]) -> Vec<Wall> {
    // Who is asked for its clock hears by the way what the clocks of a majority said last.
    let agreed = group.agreed.now(&*group.host.clock);
    let told = agreed.map(|agreed| codec::encode(&WireAgreed { wall: agreed.0 }));
    let mut asked = FuturesUnordered::new();
    for member in members {
        let request = Request {
            method: methods::CLOCK,
            group: group.group,
            epoch: group.epoch,
            parts: told.iter().cloned().collect(),
        };
        asked.push(async move {
            if *member == group.me {
                return Some(group.host.clock.wall());
            }
            let reply = group.rpc.call(*member, Lane::Unary, request, CLOCK_DEADLINE).await.ok()?;
            let report: WireClock = codec::decode(reply.parts.first()?).ok()?;
            Some(Wall(report.wall))
        });
    }
    let mut clocks = Vec::new();
    while let Some(clock) = asked.next().await {
        clocks.extend(clock);
    }
    clocks
}
