//! ReadIndex rounds (I2, S1). All who wait when a round begins share it; whoever comes later
//! joins the next one, never one in flight.

use std::sync::{Arc, Weak};
use std::time::Duration;

use benteng_host::planted::{Bug, planted};
use benteng_host::timeout;
use benteng_meta::codec;
use benteng_meta::ids::NodeId;
use benteng_rpc::{Lane, Request};
use futures::FutureExt;
use futures::stream::{FuturesUnordered, StreamExt};
use openraft::ReadPolicy;
use openraft::errors::{LinearizableReadError, RaftError};
use tokio::sync::{mpsc, oneshot};

use crate::group::Inner;
use crate::methods;
use crate::wire::WireReadIndex;
use crate::{Error, Result};

/// Readers that may wait for a round; beyond it they wait for a place.
pub(crate) const QUEUE: usize = 4096;
/// Rounds under way at once. Whoever comes while they are under way shares the next: more rounds at a time
/// are fewer readers for each.
const ROUNDS: usize = 1;
/// How long a read may take to find a quorum (design §2).
const BOUND: Duration = Duration::from_secs(4);
/// How long one question to the leader may take.
const ASK: Duration = Duration::from_millis(1500);
/// Wait before the next try, while there is no leader.
const RETRY: Duration = Duration::from_millis(50);

/// Someone who waits for a round.
pub(crate) struct Reader(oneshot::Sender<std::result::Result<u64, String>>);

/// Waits until this replica holds everything that was answered before the call.
pub(crate) async fn read(inner: &Arc<Inner>) -> Result<()> {
    if planted(Bug::LocalRead) {
        return Ok(());
    }
    let started = inner.host.clock.now();
    let mut progress = inner.machine.progress();
    let attempt = async {
        let (tx, rx) = oneshot::channel();
        let stopped = || "this node stops".to_owned();
        inner.readers.send(Reader(tx)).await.map_err(|_| stopped())?;
        let next = rx.await.map_err(|_| stopped())??;
        progress.wait_for(|p| p.next >= next).await.map_err(|_| stopped())?;
        Ok::<(), String>(())
    };
    let bound = BOUND + Duration::from_millis(500);
    let outcome = timeout(&*inner.host.clock, bound, attempt).await;
    let waited_ms = u64::try_from(inner.host.clock.now().since(started).as_millis()).unwrap_or(u64::MAX);
    match outcome {
        Ok(Ok(())) => Ok(()),
        Ok(Err(why)) => Err(Error::Unavailable { waited_ms, why }),
        Err(_) => Err(Error::Unavailable { waited_ms, why: "this replica is behind".to_owned() }),
    }
}

/// Gathers readers into rounds.
pub(crate) async fn run(inner: Weak<Inner>, mut readers: mpsc::Receiver<Reader>) {
    let mut rounds = FuturesUnordered::new();
    loop {
        let next = if rounds.len() >= ROUNDS {
            let _: Option<()> = rounds.next().await;
            continue;
        } else if rounds.is_empty() {
            readers.recv().await
        } else {
            futures::select_biased! {
                reader = readers.recv().fuse() => reader,
                _ = rounds.next() => continue,
            }
        };
        let Some(first) = next else { return };
        let mut waiting = vec![first];
        while let Ok(more) = readers.try_recv() {
            waiting.push(more);
        }
        let Some(inner) = inner.upgrade() else { return };
        rounds.push(async move {
            let index = round(&inner).await;
            metrics::histogram!("benteng_read_index_readers").record(waiting.len() as f64);
            for Reader(tx) in waiting {
                // A reader that gave up is gone.
                let _ = tx.send(index.clone());
            }
        });
    }
}

/// One round, with tries while there is no leader. Returns the log position to be applied.
async fn round(inner: &Inner) -> std::result::Result<u64, String> {
    let deadline = inner.host.clock.now() + BOUND;
    let mut why = "no leader is known".to_owned();
    let mut hint: Option<NodeId> = None;
    while inner.host.clock.now() < deadline {
        let leader = hint.take().or_else(|| inner.leader());
        let answer = match leader {
            Some(leader) if leader == inner.me => Ok(ask_raft(inner).await),
            Some(leader) => ask_leader(inner, leader).await,
            None => Ok(WireReadIndex::NotLeader(None)),
        };
        match answer {
            Ok(WireReadIndex::Index { index, now }) => {
                inner.clock.sample(&*inner.host.clock, now);
                return Ok(index);
            }
            Ok(WireReadIndex::NotLeader(to)) => hint = to.filter(|to| Some(*to) != leader),
            Ok(WireReadIndex::NoQuorum) => why = "the leader reaches no quorum".to_owned(),
            Err(e) => why = e,
        }
        benteng_host::sleep(&*inner.host.clock, RETRY).await;
    }
    Err(why)
}

async fn ask_leader(inner: &Inner, leader: NodeId) -> std::result::Result<WireReadIndex, String> {
    let request =
        Request { method: methods::READ_INDEX, group: inner.group, epoch: inner.epoch, parts: vec![] };
    let reply = inner.rpc.call(leader, Lane::Unary, request, ASK).await.map_err(|e| e.to_string())?;
    let body = reply.parts.first().map(|part| &part[..]).unwrap_or_default();
    codec::decode(body).map_err(|e| e.to_string())
}

/// The leader's side of a round: confirms its leadership with a quorum.
pub(crate) async fn ask_raft(inner: &Inner) -> WireReadIndex {
    if !inner.clock.is_sampled() {
        // A leader that has just booted knows no more than the last stamp of an earlier life: whoever
        // took that for site time would refuse the step to the right one (C4). A moment later it knows.
        return WireReadIndex::NoQuorum;
    }
    let policy = if planted(Bug::LeaseRead) { ReadPolicy::LeaseRead } else { ReadPolicy::ReadIndex };
    match timeout(&*inner.host.clock, ASK, inner.raft.get_read_linearizer(policy)).await {
        Ok(Ok(linearizer)) => WireReadIndex::Index {
            index: linearizer.read_log_id().index() + 1,
            now: inner.clock.now(&*inner.host.clock),
        },
        Ok(Err(RaftError::APIError(LinearizableReadError::ForwardToLeader(f)))) => {
            WireReadIndex::NotLeader(f.leader_id)
        }
        Ok(Err(_)) | Err(_) => WireReadIndex::NoQuorum,
    }
}
