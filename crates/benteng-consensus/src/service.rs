//! What other nodes ask of this group.

use std::sync::{Arc, Weak};

use benteng_host::planted::{Bug, planted};
use benteng_host::{Fut, Wall};
use benteng_meta::codec::{self, Versioned};
use benteng_meta::ids::NodeId;
use benteng_rpc::{Inbound, Lane, Outbound, Refusal, Reply, Request, Service};
use bytes::Bytes;
use futures::StreamExt;
use openraft::raft::{AppendEntriesRequest, StreamAppendResult};

use crate::group::Inner;
use crate::machine::SnapshotData;
use crate::methods::{self, code};
use crate::types::{SnapshotMeta, Types, Vote};
use crate::wire::*;
use crate::{propose, read, snapshot};

type Answered = Result<Bytes, Refusal>;

/// Answers methods 1 to 99 for one group.
pub(crate) struct GroupService {
    inner: Weak<Inner>,
}

impl GroupService {
    pub(crate) fn new(inner: &Arc<Inner>) -> GroupService {
        GroupService { inner: Arc::downgrade(inner) }
    }

    fn inner(&self, request: &Request) -> Result<Arc<Inner>, Refusal> {
        let inner = self.inner.upgrade().filter(|inner| inner.group == request.group);
        let inner = inner.ok_or_else(|| Refusal::new(code::STOPPED, "the group does not run here"))?;
        if request.epoch != inner.epoch && !planted(Bug::EpochIgnored) {
            let why = format!("recovery epoch {} here, {} there (S7)", inner.epoch, request.epoch);
            return Err(Refusal::new(code::WRONG_EPOCH, why));
        }
        Ok(inner)
    }
}

fn body<T: Versioned>(request: &Request) -> Result<T, Refusal> {
    let bytes = request.parts.first().map(|part| &part[..]).unwrap_or_default();
    codec::decode(bytes).map_err(|e| Refusal::new(code::MALFORMED, e.to_string()))
}

fn malformed(why: String) -> Refusal {
    Refusal::new(code::MALFORMED, why)
}

fn stopped(e: &dyn std::fmt::Display) -> Refusal {
    Refusal::new(code::STOPPED, e.to_string())
}

impl Service for GroupService {
    fn call(&self, from: NodeId, _lane: Lane, request: Request) -> Fut<Result<Reply, Refusal>> {
        let inner = self.inner(&request);
        Box::pin(async move {
            let answer = dispatch(&inner?, from, &request).await?;
            Ok(Reply::ok(vec![answer]))
        })
    }

    fn stream(&self, _from: NodeId, request: Request, inbound: Inbound, outbound: Outbound) -> Fut<()> {
        let inner = self.inner(&request);
        Box::pin(async move {
            // A refused stream is dropped, which resets it.
            if let Ok(inner) = inner
                && request.method == methods::APPEND_STREAM
            {
                replicate(&inner, inbound, outbound).await;
            }
        })
    }
}

async fn dispatch(inner: &Arc<Inner>, from: NodeId, request: &Request) -> Answered {
    match request.method {
        methods::APPEND => append(inner, body(request)?).await,
        methods::VOTE => {
            let rpc = body::<WireVoteRequest>(request)?.into();
            let answer = inner.raft.vote(rpc).await.map_err(|e| stopped(&e))?;
            Ok(codec::encode(&WireVoteResponse::from(&answer)))
        }
        methods::PRE_VOTE => {
            let rpc = body::<WireVoteRequest>(request)?.into();
            let answer = inner.raft.pre_vote(rpc).await.map_err(|e| stopped(&e))?;
            Ok(codec::encode(&WireVoteResponse::from(&answer)))
        }
        methods::TRANSFER_LEADER => {
            let wire: WireTransfer = body(request)?;
            // Whether it takes the office shows in its next vote.
            let _ = inner.raft.handle_transfer_leader(wire.into()).await.map_err(|e| stopped(&e))?;
            let vote = openraft::async_runtime::WatchReceiver::borrow_watched(&inner.raft.metrics()).vote;
            Ok(codec::encode(&WireVote::from(&vote)))
        }
        methods::INSTALL_SNAPSHOT => install(inner, from, body(request)?).await,
        methods::PULL_SNAPSHOT => {
            let page = inner.sessions.pull(&inner.state, &body(request)?).map_err(|e| stopped(&e))?;
            let page = page.ok_or_else(|| Refusal::new(code::NO_SESSION, "the snapshot session is gone"))?;
            Ok(codec::encode(&page))
        }
        methods::PROPOSE => {
            let wire: WirePropose = body(request)?;
            // What does not decode here would stop every replica in apply (C5).
            for envelope in &wire.envelopes {
                codec::decode::<benteng_meta::Envelope>(envelope).map_err(|e| malformed(e.to_string()))?;
            }
            let answers = propose::submit(inner, wire.envelopes).await;
            Ok(codec::encode(&WireProposed { answers }))
        }
        methods::READ_INDEX => Ok(codec::encode(&read::ask_raft(inner).await)),
        methods::CLOCK => {
            // A leader that has not looked yet, or is of an older build, says nothing of it.
            if let Some(told) = request.parts.first() {
                let told: WireAgreed = codec::decode(told).map_err(|e| malformed(e.to_string()))?;
                inner.agreed.set(&*inner.host.clock, Wall(told.wall));
            }
            Ok(codec::encode(&WireClock { wall: inner.host.clock.wall().0 }))
        }
        other => Err(Refusal::new(code::UNKNOWN_METHOD, format!("method {other} is unknown here"))),
    }
}

async fn append(inner: &Inner, wire: WireAppend) -> Answered {
    let rpc: AppendEntriesRequest<Types> = wire.try_into().map_err(malformed)?;
    let prev = rpc.prev_log_id;
    let last = rpc.entries.last().map(|entry| entry.log_id).or(prev);
    let answer = inner.raft.append_entries(rpc).await.map_err(|e| stopped(&e))?;
    let result: StreamAppendResult<Types> = match answer {
        // Nothing before nothing cannot conflict.
        openraft::raft::AppendEntriesResponse::Conflict if prev.is_none() => {
            return Err(malformed("a conflict without a previous entry".to_owned()));
        }
        answer => answer.into_stream_result(prev, last),
    };
    Ok(codec::encode(&WireAppended::from(&result)))
}

/// One replication stream: requests in, answers out, in order.
async fn replicate(inner: &Inner, inbound: Inbound, outbound: Outbound) {
    let requests = futures::stream::unfold(inbound, |mut inbound| async move {
        let bytes = inbound.next().await?.ok()?;
        let wire: WireAppend = codec::decode(&bytes).ok()?;
        let rpc: AppendEntriesRequest<Types> = wire.try_into().ok()?;
        Some((rpc, inbound))
    });
    let mut answers = Box::pin(inner.raft.stream_append(requests.boxed()));
    while let Some(answer) = answers.next().await {
        let Ok(result) = answer else { return };
        if outbound.send(vec![codec::encode(&WireAppended::from(&result))]).await.is_err() {
            return;
        }
    }
    // The peer that reset the stream knows that it ended.
    let _ = outbound.finish();
}

/// Pulls the offered snapshot and hands it to Raft, one at a time.
async fn install(inner: &Arc<Inner>, from: NodeId, offer: WireInstall) -> Answered {
    let _turn = inner.installing.lock().await;
    let place = (inner.group, inner.epoch);
    let (fresh, meta) = snapshot::fetch(&inner.rpc, &inner.state, from, place, Some(offer.session))
        .await
        .map_err(|why| Refusal::new(code::NO_SESSION, why))?;
    if meta != offer.meta {
        return Err(malformed("the snapshot is not the one that was offered".to_owned()));
    }
    let meta: SnapshotMeta = meta.try_into().map_err(malformed)?;
    let vote: Vote = offer.vote.into();
    // From here on a cancelled call leaves the snapshot to Raft.
    inner.state.keep_install(fresh);
    let snapshot = openraft::type_config::alias::SnapshotOf::<Types, SnapshotData> {
        meta,
        snapshot: SnapshotData::Received(fresh),
    };
    let answer = inner.raft.install_full_snapshot(vote, snapshot).await.map_err(|e| stopped(&e))?;
    inner.state.release_install(fresh);
    Ok(codec::encode(&WireVote::from(&answer.vote)))
}
