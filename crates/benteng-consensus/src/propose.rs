//! Commands on their way to the log: gathered into batches, forwarded to the leader by
//! followers, and settled when their outcome is unknown (C1, C3).

use std::sync::{Arc, Weak};
use std::time::Duration;

use benteng_host::planted::{Bug, planted};
use benteng_host::{Mono, timeout};
use benteng_meta::apply::chunks_of;
use benteng_meta::ids::*;
use benteng_meta::{Answer, Command, Envelope, NewBody, Outcome, Rejection, codec};
use benteng_rpc::{Lane, Request};
use bytes::Bytes;
use futures::FutureExt;
use futures::stream::{FuturesUnordered, StreamExt};
use tokio::sync::{mpsc, oneshot};

use crate::group::Inner;
use crate::types::{Applied, Proposal};
use crate::wire::{WireAnswer, WirePropose, WireProposed};
use crate::{Error, Result, methods, second};

/// Commands that may wait to be gathered; beyond it proposers wait.
pub(crate) const QUEUE: usize = 4096;
/// How long a command may take to be applied before it is settled.
const BOUND: Duration = Duration::from_millis(3000);
/// How long settling may take (5 s in all, design §2).
const SETTLE: Duration = Duration::from_millis(1800);
/// How long after its proposal a command may still be applied, in site time.
const DEADLINE: i64 = 3_000_000;
/// Batches under way at once.
const BATCHES: usize = 8;
/// Bytes of one batch.
const BATCH_BYTES: usize = 1 << 20;
/// Wait before the next try, while there is no leader.
const RETRY: Duration = Duration::from_millis(30);

/// A command that waits for its answer.
pub(crate) struct Waiting {
    envelope: Bytes,
    answer: oneshot::Sender<WireAnswer>,
}

/// The far end of one try.
enum Tried {
    Done(Outcome),
    /// Surely not in the log.
    NotDone(String),
    Unknown(String),
}

pub(crate) async fn propose(
    inner: &Arc<Inner>,
    command: Command,
    gateway: Option<(NodeId, Incarnation)>,
) -> Result<Answer> {
    let started = inner.host.clock.now();
    if !inner.clock.is_sampled() {
        // The estimate is as old as this node's last life: a deadline reckoned from it may be past.
        crate::read::read(inner).await?;
    }
    let id = CommandId::from_random(benteng_host::random_array(&*inner.host.random));
    let chunks = named_chunks(&command);
    let outcome = drive(inner, id, command, gateway, started).await;
    match outcome {
        Tried::Done(outcome) => Ok(outcome?),
        Tried::NotDone(why) => Err(unavailable(inner, started, why)),
        Tried::Unknown(why) if planted(Bug::TimeoutIsFailure) => Err(unavailable(inner, started, why)),
        Tried::Unknown(why) => {
            benteng_host::probe("proposal_settled");
            settle(inner, id, chunks, started, why).await
        }
    }
}

fn unavailable(inner: &Inner, started: Mono, why: String) -> Error {
    let waited = inner.host.clock.now().since(started);
    Error::Unavailable { waited_ms: u64::try_from(waited.as_millis()).unwrap_or(u64::MAX), why }
}

/// Chunks that die with the command if it never comes (C3).
fn named_chunks(command: &Command) -> Vec<(BlobId, PartNumber, Attempt, u32)> {
    match command {
        Command::PutObject(put) => match &put.body {
            NewBody::Chunks(part) => {
                vec![(put.blob, PartNumber(1), part.attempt, chunks_of(part.size))]
            }
            NewBody::Inline(_) => Vec::new(),
        },
        Command::PutPart { upload, number, part, .. } => {
            vec![(*upload, *number, part.attempt, chunks_of(part.size))]
        }
        _ => Vec::new(),
    }
}

/// Tries until the command is answered, its outcome is unknown, or the time is up.
async fn drive(
    inner: &Arc<Inner>,
    id: CommandId,
    command: Command,
    gateway: Option<(NodeId, Incarnation)>,
    started: Mono,
) -> Tried {
    let now = inner.clock.now(&*inner.host.clock);
    let deadline = SiteTime(now.0.saturating_add(DEADLINE));
    let envelope = codec::encode(&Envelope { id, stamp: SiteTime(0), deadline, gateway, command });
    let until = started + BOUND;
    let mut why = "no leader is known".to_owned();
    loop {
        let left = until.since(inner.host.clock.now());
        if left.is_zero() {
            return Tried::NotDone(why);
        }
        let (tx, rx) = oneshot::channel();
        let waiting = Waiting { envelope: envelope.clone(), answer: tx };
        if inner.proposals.send(waiting).await.is_err() {
            return Tried::NotDone("this node stops".to_owned());
        }
        match timeout(&*inner.host.clock, left, rx).await {
            Ok(Ok(WireAnswer::Applied { outcome, .. })) => return Tried::Done(outcome),
            Ok(Ok(WireAnswer::NotLeader(_))) => why = "no leader takes commands".to_owned(),
            Ok(Ok(WireAnswer::Unknown(why))) => return Tried::Unknown(why),
            Ok(Err(_)) => return Tried::Unknown("this node stops".to_owned()),
            Err(_) => return Tried::Unknown("no quorum answered in time".to_owned()),
        }
        benteng_host::sleep(&*inner.host.clock, RETRY).await;
    }
}

/// Finds out what became of a command, or makes sure that it never happens (C3).
async fn settle(
    inner: &Arc<Inner>,
    id: CommandId,
    chunks: Vec<(BlobId, PartNumber, Attempt, u32)>,
    started: Mono,
    why: String,
) -> Result<Answer> {
    let until = inner.host.clock.now() + SETTLE;
    // Settling is itself a command; each try has an id of its own and may be repeated at will.
    while inner.host.clock.now() < until {
        let own = CommandId::from_random(benteng_host::random_array(&*inner.host.random));
        let command = Command::Settle { id, chunks: chunks.clone() };
        let begun = inner.host.clock.now();
        let try_until = until.since(begun);
        let attempt = drive(inner, own, command, None, begun);
        match timeout(&*inner.host.clock, try_until, Box::pin(attempt)).await {
            Ok(Tried::Done(Ok(Answer::Settled(outcome)))) => return Ok((*outcome)?),
            Ok(Tried::Done(Ok(Answer::NeverApplied))) => return Err(unavailable(inner, started, why)),
            Ok(Tried::Done(Err(Rejection::DeadlinePassed))) | Ok(Tried::Unknown(_) | Tried::NotDone(_)) => {}
            Ok(Tried::Done(other)) => {
                return Err(Error::Unknown { why: format!("settling answered {other:?}") });
            }
            Err(_) => break,
        }
        // A node that stops, or an unreachable leader, answers at once.
        benteng_host::sleep(&*inner.host.clock, RETRY).await;
    }
    Err(Error::Unknown { why })
}

/// Gathers waiting commands into batches and sends each batch on its way.
pub(crate) async fn run(inner: Weak<Inner>, mut queue: mpsc::Receiver<Waiting>) {
    let mut batches = FuturesUnordered::new();
    loop {
        if batches.len() >= BATCHES {
            let _: Option<()> = batches.next().await;
            continue;
        }
        let next = if batches.is_empty() {
            queue.recv().await
        } else {
            futures::select_biased! {
                waiting = queue.recv().fuse() => waiting,
                _ = batches.next() => continue,
            }
        };
        let Some(first) = next else { return };
        let batch = gather(first, &mut queue).await;
        let Some(inner) = inner.upgrade() else { return };
        batches.push(async move { send(&inner, batch).await });
    }
}

/// Drains the queue, lets other tasks add to it three times, and drains again: larger batches
/// cost fewer syncs, and nobody waits for a timer.
async fn gather(first: Waiting, queue: &mut mpsc::Receiver<Waiting>) -> Vec<Waiting> {
    let mut bytes = first.envelope.len();
    let mut batch = vec![first];
    for _ in 0..3 {
        while bytes < BATCH_BYTES {
            let Ok(more) = queue.try_recv() else { break };
            bytes += more.envelope.len();
            batch.push(more);
        }
        tokio::task::yield_now().await;
    }
    while bytes < BATCH_BYTES {
        let Ok(more) = queue.try_recv() else { break };
        bytes += more.envelope.len();
        batch.push(more);
    }
    batch
}

async fn send(inner: &Arc<Inner>, batch: Vec<Waiting>) {
    metrics::histogram!("benteng_proposal_batch_commands").record(batch.len() as f64);
    let envelopes: Vec<Bytes> = batch.iter().map(|waiting| waiting.envelope.clone()).collect();
    let answers = match inner.leader() {
        Some(leader) if leader == inner.me => submit(inner, envelopes).await,
        Some(leader) => forward(inner, leader, envelopes).await,
        None => vec![WireAnswer::NotLeader(None); envelopes.len()],
    };
    for (waiting, answer) in batch.into_iter().zip(answers) {
        // A proposer that gave up settles by itself.
        let _ = waiting.answer.send(answer);
    }
}

async fn forward(inner: &Inner, leader: NodeId, envelopes: Vec<Bytes>) -> Vec<WireAnswer> {
    let count = envelopes.len();
    let body = codec::encode(&WirePropose { envelopes });
    let request =
        Request { method: methods::PROPOSE, group: inner.group, epoch: inner.epoch, parts: vec![body] };
    let all = |answer: WireAnswer| vec![answer; count];
    match inner.rpc.call(leader, Lane::Unary, request, BOUND).await {
        Ok(reply) => {
            let body = reply.parts.first().map(|part| &part[..]).unwrap_or_default();
            match codec::decode::<WireProposed>(body) {
                Ok(proposed) if proposed.answers.len() == count => proposed.answers,
                Ok(_) | Err(_) => all(WireAnswer::Unknown("the leader's answer is malformed".to_owned())),
            }
        }
        Err(e) if e.is_unknown() => all(WireAnswer::Unknown(e.to_string())),
        Err(_) => all(WireAnswer::NotLeader(None)),
    }
}

/// The leader's side: stamps the commands and hands them to Raft as one batch.
pub(crate) async fn submit(inner: &Inner, envelopes: Vec<Bytes>) -> Vec<WireAnswer> {
    let count = envelopes.len();
    if inner.full.load(std::sync::atomic::Ordering::Relaxed) {
        return submit_what_needs_no_room(inner, envelopes).await;
    }
    submit_all(inner, envelopes, count).await
}

/// Refuses what needs room (O6): surely not in the log. The rest is submitted.
async fn submit_what_needs_no_room(inner: &Inner, envelopes: Vec<Bytes>) -> Vec<WireAnswer> {
    let needs_none = |envelope: &Bytes| {
        codec::decode::<Envelope>(envelope).is_ok_and(|envelope| envelope.command.needs_no_room())
    };
    let taken: Vec<bool> = envelopes.iter().map(needs_none).collect();
    let admitted: Vec<Bytes> = envelopes
        .into_iter()
        .zip(&taken)
        .filter(|(_, taken)| **taken)
        .map(|(envelope, _)| envelope)
        .collect();
    let count = admitted.len();
    let mut answers = match count {
        0 => Vec::new(),
        _ => submit_all(inner, admitted, count).await,
    }
    .into_iter();
    let refused = || WireAnswer::Applied { index: 0, outcome: Err(Rejection::Full) };
    let stops = || WireAnswer::Unknown("raft stops".to_owned());
    taken
        .into_iter()
        .map(|taken| if taken { answers.next().unwrap_or_else(stops) } else { refused() })
        .collect()
}

async fn submit_all(inner: &Inner, envelopes: Vec<Bytes>, count: usize) -> Vec<WireAnswer> {
    let mut stamp = inner.clock.now(&*inner.host.clock);
    if planted(Bug::StampByWallClock) {
        stamp = SiteTime(inner.host.clock.wall().0);
    }
    let proposals = envelopes.iter().map(|envelope| Proposal { stamp, envelope: envelope.clone() });
    let proposals: Vec<Proposal> = proposals.collect();
    let mut results = match inner.raft.client_write_many(proposals).await {
        Ok(results) => results,
        Err(e) => return vec![WireAnswer::Unknown(e.to_string()); count],
    };
    let mut answers = Vec::with_capacity(count);
    while let Some(result) = results.next().await {
        answers.push(match result {
            Ok(Ok(written)) => match written.response {
                Applied::Outcome(outcome) => {
                    WireAnswer::Applied { index: written.log_id.index, outcome: *outcome }
                }
                Applied::Nothing => WireAnswer::Unknown("the entry held no command".to_owned()),
            },
            // Rejected before it was appended: nothing was done.
            Ok(Err(openraft::errors::ClientWriteError::ForwardToLeader(f))) => {
                WireAnswer::NotLeader(f.leader_id)
            }
            Ok(Err(e)) => WireAnswer::Unknown(e.to_string()),
            Err(e) => WireAnswer::Unknown(e.to_string()),
        });
    }
    // A stream that ends early says nothing about the rest.
    answers.resize(count, WireAnswer::Unknown("raft stops".to_owned()));
    second::confirm(inner, &envelopes, &mut answers).await;
    answers
}
