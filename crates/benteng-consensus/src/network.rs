//! openraft's network on our transport: heartbeats and votes as unary calls, replication as
//! one stream, snapshots pulled by the receiver.

use std::collections::VecDeque;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use benteng_host::{Host, Task};
use benteng_meta::codec::{self, Versioned};
use benteng_meta::ids::{GroupId, NodeId};
use benteng_rpc::{Inbound, Lane, Request, Rpc};
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{FutureExt, Stream, StreamExt};
use openraft::errors::{NetworkError, RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::{RPCOption, RaftNetworkFactory, RaftNetworkV2};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, StreamAppendResult, TransferLeaderRequest,
    TransferLeaderResponse, VoteRequest, VoteResponse,
};
use openraft::type_config::alias::SnapshotOf;

use crate::machine::SnapshotData;
use crate::methods;
use crate::snapshot::Sessions;
use crate::types::{Address, Types, Vote};
use crate::wire::*;

/// How long a receiver may take to pull and install a snapshot.
const INSTALL_DEADLINE: Duration = Duration::from_secs(3600);

/// Makes a client for each member.
#[derive(Clone)]
pub(crate) struct Network {
    pub(crate) host: Host,
    pub(crate) rpc: Arc<Rpc>,
    pub(crate) group: GroupId,
    pub(crate) epoch: u64,
    pub(crate) sessions: Arc<Sessions>,
}

/// Speaks to one member.
pub(crate) struct Member {
    network: Network,
    target: NodeId,
}

impl RaftNetworkFactory<Types> for Network {
    type Network = Member;

    async fn new_client(&mut self, target: NodeId, node: &Address) -> Member {
        self.rpc.set_peer(target, node.0.clone());
        Member { network: self.clone(), target }
    }
}

fn rpc_error(e: &benteng_rpc::Error) -> RPCError<Types> {
    match e {
        benteng_rpc::Error::Unreachable { .. } => RPCError::Unreachable(Unreachable::new(e)),
        _ => RPCError::Network(NetworkError::new(e)),
    }
}

fn malformed(why: String) -> RPCError<Types> {
    RPCError::Network(NetworkError::new(&std::io::Error::new(std::io::ErrorKind::InvalidData, why)))
}

impl Member {
    fn request(&self, method: u16, body: bytes::Bytes) -> Request {
        Request { method, group: self.network.group, epoch: self.network.epoch, parts: vec![body] }
    }

    async fn ask<A: Versioned, B: Versioned>(
        &self,
        method: u16,
        question: &A,
        deadline: Duration,
    ) -> Result<B, RPCError<Types>> {
        let request = self.request(method, codec::encode(question));
        let reply = self.network.rpc.call(self.target, Lane::Unary, request, deadline).await;
        let reply = reply.map_err(|e| rpc_error(&e))?;
        let body = reply.parts.first().map(|part| &part[..]).unwrap_or_default();
        codec::decode(body).map_err(|e| malformed(e.to_string()))
    }

    async fn append_one(
        &self,
        rpc: &AppendEntriesRequest<Types>,
        deadline: Duration,
    ) -> Result<StreamAppendResult<Types>, RPCError<Types>> {
        let answer: WireAppended = self.ask(methods::APPEND, &WireAppend::from(rpc), deadline).await?;
        Ok(answer.into())
    }
}

/// A replication session: heartbeats as unary calls until the first entry comes, then one stream.
struct Session<'s, S> {
    member: &'s Member,
    input: Option<S>,
    first: VecDeque<AppendEntriesRequest<Types>>,
    stream: Option<(Inbound, Task)>,
    deadline: Duration,
}

impl<S> Session<'_, S>
where
    S: Stream<Item = AppendEntriesRequest<Types>> + Send + Unpin + 'static,
{
    async fn next(&mut self) -> Option<Result<StreamAppendResult<Types>, RPCError<Types>>> {
        if self.stream.is_none() {
            let request = match self.first.pop_front() {
                Some(request) => request,
                None => self.input.as_mut()?.next().await?,
            };
            if request.entries.is_empty() {
                // Dialling a stream for each heartbeat would cost every ReadIndex round a dial.
                return Some(self.member.append_one(&request, self.deadline).await);
            }
            match self.open(request).await {
                Ok(stream) => self.stream = Some(stream),
                Err(e) => return Some(Err(rpc_error(&e))),
            }
        }
        let (inbound, _) = self.stream.as_mut()?;
        let answer = match inbound.next().await? {
            Ok(bytes) => codec::decode::<WireAppended>(&bytes).map_err(|e| malformed(e.to_string())),
            Err(e) => Err(rpc_error(&e)),
        };
        Some(answer.map(StreamAppendResult::<Types>::from))
    }

    /// Opens the stream with its first request and pumps the rest from a task of its own, so
    /// that requests go out while answers are awaited.
    async fn open(
        &mut self,
        first: AppendEntriesRequest<Types>,
    ) -> Result<(Inbound, Task), benteng_rpc::Error> {
        let network = &self.member.network;
        let opening = self.member.request(methods::APPEND_STREAM, bytes::Bytes::new());
        let (outbound, inbound) = network.rpc.open_stream(self.member.target, opening, self.deadline).await?;
        outbound.send(vec![codec::encode(&WireAppend::from(&first))]).await?;
        let input = self.input.take();
        let pump = async move {
            if let Some(mut input) = input {
                while let Some(request) = input.next().await {
                    if outbound.send(vec![codec::encode(&WireAppend::from(&request))]).await.is_err() {
                        // The reading side of the stream tells why.
                        return;
                    }
                }
            }
            // Replies must end when the input has ended; a broken stream has told so already.
            let _ = outbound.finish();
        };
        Ok((inbound, network.host.tasks.spawn("raft replication", Box::pin(pump))))
    }
}

impl RaftNetworkV2<Types> for Member {
    type SnapshotData = SnapshotData;

    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<Types>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<Types>, RPCError<Types>> {
        let result = self.append_one(&rpc, option.soft_ttl()).await?;
        Ok(match result {
            Ok(matched) => AppendEntriesResponse::PartialSuccess(matched),
            Err(openraft::raft::StreamAppendError::Conflict(_)) => AppendEntriesResponse::Conflict,
            Err(openraft::raft::StreamAppendError::HigherVote(vote)) => {
                AppendEntriesResponse::HigherVote(vote)
            }
        })
    }

    fn stream_append<'s, S>(
        &'s mut self,
        input: S,
        option: RPCOption,
    ) -> BoxFuture<
        's,
        Result<BoxStream<'s, Result<StreamAppendResult<Types>, RPCError<Types>>>, RPCError<Types>>,
    >
    where
        S: Stream<Item = AppendEntriesRequest<Types>> + Send + Unpin + 'static,
    {
        let member: &'s Member = self;
        let deadline = option.soft_ttl();
        let session = Session { member, input: Some(input), first: VecDeque::new(), stream: None, deadline };
        let answers = futures::stream::unfold(Some(session), |session| async move {
            let mut session = session?;
            let answer = session.next().await?;
            // An error, ours or the follower's, ends the session.
            let go_on = matches!(answer, Ok(Ok(_))).then_some(session);
            Some((answer, go_on))
        });
        async move { Ok(answers.boxed()) }.boxed()
    }

    async fn vote(
        &mut self,
        rpc: VoteRequest<Types>,
        option: RPCOption,
    ) -> Result<VoteResponse<Types>, RPCError<Types>> {
        let wire = WireVoteRequest::from(&rpc);
        let answer: WireVoteResponse = self.ask(methods::VOTE, &wire, option.soft_ttl()).await?;
        Ok(answer.into())
    }

    async fn pre_vote(
        &mut self,
        rpc: VoteRequest<Types>,
        option: RPCOption,
    ) -> Result<VoteResponse<Types>, RPCError<Types>> {
        let wire = WireVoteRequest::from(&rpc);
        let answer: WireVoteResponse = self.ask(methods::PRE_VOTE, &wire, option.soft_ttl()).await?;
        Ok(answer.into())
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: SnapshotOf<Types, SnapshotData>,
        cancel: impl Future<Output = ReplicationClosed> + Send + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<Types>, StreamingError<Types>> {
        let SnapshotData::Own(rows) = snapshot.snapshot else {
            let e = std::io::Error::other("a received snapshot is not ours to send");
            return Err(StreamingError::Network(NetworkError::new(&e)));
        };
        let meta = WireSnapshotMeta::from(&snapshot.meta);
        let session = self.network.sessions.open(rows, meta.clone());
        let offer = WireInstall { vote: (&vote).into(), meta, session: session.number() };
        let ask = self.ask::<WireInstall, WireVote>(methods::INSTALL_SNAPSHOT, &offer, INSTALL_DEADLINE);
        futures::pin_mut!(ask, cancel);
        match futures::future::select(ask, cancel).await {
            futures::future::Either::Left((answer, _)) => {
                answer.map(|vote| SnapshotResponse::new(vote.into())).map_err(StreamingError::from)
            }
            futures::future::Either::Right((closed, _)) => Err(StreamingError::Closed(closed)),
        }
    }

    async fn transfer_leader(
        &mut self,
        rpc: TransferLeaderRequest<Types>,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse<Types>, RPCError<Types>> {
        let wire = WireTransfer::from(&rpc);
        let _: WireVote = self.ask(methods::TRANSFER_LEADER, &wire, option.soft_ttl()).await?;
        Ok(Ok(()))
    }
}
