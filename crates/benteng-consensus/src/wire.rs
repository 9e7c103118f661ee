//! Our own encoding of what openraft stores and sends: its serde forms are no stable format.
//! Every message is versioned by `benteng_meta::codec`; frames and records around it are checksummed.

use std::collections::{BTreeMap, BTreeSet};

use benteng_meta::codec::Versioned;
use benteng_meta::ids::*;
use benteng_meta::{Outcome, codec};
use bytes::Bytes;
use openraft::impls::leader_id_std;
use openraft::raft::{
    AppendEntriesRequest, StreamAppendError, StreamAppendResult, TransferLeaderRequest, VoteRequest,
    VoteResponse,
};
use openraft::vote::RaftLeaderId;
use serde::{Deserialize, Serialize};

use crate::types::*;

macro_rules! versioned {
    ($($name:ident => $what:literal),* $(,)?) => {
        $(impl Versioned for $name { const WHAT: &'static str = $what; })*
    };
}

/// A vote: the term, who it is for, and whether a quorum granted it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct WireVote {
    term: u64,
    node: NodeId,
    committed: bool,
}

impl From<&Vote> for WireVote {
    fn from(vote: &Vote) -> WireVote {
        WireVote { term: vote.leader_id.term, node: vote.leader_id.voted_for, committed: vote.committed }
    }
}

impl From<WireVote> for Vote {
    fn from(wire: WireVote) -> Vote {
        let leader_id = leader_id_std::LeaderId { term: wire.term, voted_for: wire.node };
        Vote { leader_id, committed: wire.committed }
    }
}

/// A log id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct WireLogId {
    pub(crate) term: u64,
    pub(crate) index: u64,
}

impl From<&LogId> for WireLogId {
    fn from(id: &LogId) -> WireLogId {
        WireLogId { term: *id.leader_id, index: id.index }
    }
}

impl From<WireLogId> for LogId {
    fn from(wire: WireLogId) -> LogId {
        // The committed form of a standard leader id is its term; the node is not part of it.
        let leader = leader_id_std::LeaderId { term: wire.term, voted_for: NodeId(0) };
        LogId { leader_id: leader.to_committed(), index: wire.index }
    }
}

/// A membership: joint configurations and where each member is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct WireMembership {
    configs: Vec<BTreeSet<NodeId>>,
    nodes: BTreeMap<NodeId, String>,
}

impl From<&Membership> for WireMembership {
    fn from(membership: &Membership) -> WireMembership {
        WireMembership {
            configs: membership.get_joint_config().clone(),
            nodes: membership.nodes().map(|(id, node)| (*id, node.0.clone())).collect(),
        }
    }
}

impl TryFrom<WireMembership> for Membership {
    type Error = String;
    fn try_from(wire: WireMembership) -> Result<Membership, String> {
        let nodes: BTreeMap<NodeId, Address> =
            wire.nodes.into_iter().map(|(id, a)| (id, Address(a))).collect();
        Membership::new(wire.configs, nodes).map_err(|e| e.to_string())
    }
}

/// A membership with the log id that set it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct WireStoredMembership {
    log_id: Option<WireLogId>,
    membership: WireMembership,
}

impl From<&StoredMembership> for WireStoredMembership {
    fn from(stored: &StoredMembership) -> WireStoredMembership {
        WireStoredMembership {
            log_id: stored.log_id().as_ref().map(WireLogId::from),
            membership: stored.membership().into(),
        }
    }
}

impl TryFrom<WireStoredMembership> for StoredMembership {
    type Error = String;
    fn try_from(wire: WireStoredMembership) -> Result<StoredMembership, String> {
        Ok(StoredMembership::new(wire.log_id.map(LogId::from), wire.membership.try_into()?))
    }
}

/// What an entry holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum WirePayload {
    Blank,
    Normal { stamp: SiteTime, envelope: Bytes },
    Membership(WireMembership),
}

impl From<&EntryPayload> for WirePayload {
    fn from(payload: &EntryPayload) -> WirePayload {
        match payload {
            EntryPayload::Blank => WirePayload::Blank,
            EntryPayload::Normal(p) => WirePayload::Normal { stamp: p.stamp, envelope: p.envelope.clone() },
            EntryPayload::Membership(m) => WirePayload::Membership(m.into()),
        }
    }
}

impl TryFrom<WirePayload> for EntryPayload {
    type Error = String;
    fn try_from(wire: WirePayload) -> Result<EntryPayload, String> {
        Ok(match wire {
            WirePayload::Blank => EntryPayload::Blank,
            WirePayload::Normal { stamp, envelope } => EntryPayload::Normal(Proposal { stamp, envelope }),
            WirePayload::Membership(m) => EntryPayload::Membership(m.try_into()?),
        })
    }
}

/// An entry with its log id.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct WireEntry {
    log_id: WireLogId,
    payload: WirePayload,
}

impl From<&Entry> for WireEntry {
    fn from(entry: &Entry) -> WireEntry {
        WireEntry { log_id: (&entry.log_id).into(), payload: (&entry.payload).into() }
    }
}

impl WireEntry {
    fn into_entry(self) -> Result<Entry, String> {
        Ok(Entry { log_id: self.log_id.into(), payload: self.payload.try_into()? })
    }
}

/// AppendEntries.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct WireAppend {
    vote: WireVote,
    prev: Option<WireLogId>,
    commit: Option<WireLogId>,
    entries: Vec<WireEntry>,
}

impl From<&AppendEntriesRequest<Types>> for WireAppend {
    fn from(rpc: &AppendEntriesRequest<Types>) -> WireAppend {
        WireAppend {
            vote: (&rpc.vote).into(),
            prev: rpc.prev_log_id.as_ref().map(WireLogId::from),
            commit: rpc.leader_commit.as_ref().map(WireLogId::from),
            entries: rpc.entries.iter().map(WireEntry::from).collect(),
        }
    }
}

impl TryFrom<WireAppend> for AppendEntriesRequest<Types> {
    type Error = String;
    fn try_from(wire: WireAppend) -> Result<AppendEntriesRequest<Types>, String> {
        Ok(AppendEntriesRequest {
            vote: wire.vote.into(),
            prev_log_id: wire.prev.map(LogId::from),
            entries: wire.entries.into_iter().map(WireEntry::into_entry).collect::<Result<_, _>>()?,
            leader_commit: wire.commit.map(LogId::from),
        })
    }
}

/// The answer to one AppendEntries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum WireAppended {
    Matched(Option<WireLogId>),
    Conflict(WireLogId),
    HigherVote(WireVote),
}

impl From<&StreamAppendResult<Types>> for WireAppended {
    fn from(result: &StreamAppendResult<Types>) -> WireAppended {
        match result {
            Ok(matched) => WireAppended::Matched(matched.as_ref().map(WireLogId::from)),
            Err(StreamAppendError::Conflict(id)) => WireAppended::Conflict(id.into()),
            Err(StreamAppendError::HigherVote(vote)) => WireAppended::HigherVote(vote.into()),
        }
    }
}

impl From<WireAppended> for StreamAppendResult<Types> {
    fn from(wire: WireAppended) -> StreamAppendResult<Types> {
        match wire {
            WireAppended::Matched(id) => Ok(id.map(LogId::from)),
            WireAppended::Conflict(id) => Err(StreamAppendError::Conflict(id.into())),
            WireAppended::HigherVote(vote) => Err(StreamAppendError::HigherVote(vote.into())),
        }
    }
}

/// RequestVote and PreVote.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct WireVoteRequest {
    vote: WireVote,
    last: Option<WireLogId>,
    transfer: bool,
}

impl From<&VoteRequest<Types>> for WireVoteRequest {
    fn from(rpc: &VoteRequest<Types>) -> WireVoteRequest {
        WireVoteRequest {
            vote: (&rpc.vote).into(),
            last: rpc.last_log_id.as_ref().map(WireLogId::from),
            transfer: rpc.leadership_transfer,
        }
    }
}

impl From<WireVoteRequest> for VoteRequest<Types> {
    fn from(wire: WireVoteRequest) -> VoteRequest<Types> {
        VoteRequest {
            vote: wire.vote.into(),
            last_log_id: wire.last.map(LogId::from),
            leadership_transfer: wire.transfer,
        }
    }
}

/// The answer to a vote request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct WireVoteResponse {
    vote: WireVote,
    granted: bool,
    last: Option<WireLogId>,
}

impl From<&VoteResponse<Types>> for WireVoteResponse {
    fn from(response: &VoteResponse<Types>) -> WireVoteResponse {
        WireVoteResponse {
            vote: (&response.vote).into(),
            granted: response.vote_granted,
            last: response.last_log_id.as_ref().map(WireLogId::from),
        }
    }
}

impl From<WireVoteResponse> for VoteResponse<Types> {
    fn from(wire: WireVoteResponse) -> VoteResponse<Types> {
        let vote: Vote = wire.vote.into();
        VoteResponse { vote, vote_granted: wire.granted, last_log_id: wire.last.map(LogId::from) }
    }
}

/// A leader hands its office over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct WireTransfer {
    from: WireVote,
    to: NodeId,
    last: Option<WireLogId>,
}

impl From<&TransferLeaderRequest<Types>> for WireTransfer {
    fn from(rpc: &TransferLeaderRequest<Types>) -> WireTransfer {
        WireTransfer {
            from: rpc.from_leader().into(),
            to: *rpc.to_node_id(),
            last: rpc.last_log_id().map(WireLogId::from),
        }
    }
}

impl From<WireTransfer> for TransferLeaderRequest<Types> {
    fn from(wire: WireTransfer) -> TransferLeaderRequest<Types> {
        TransferLeaderRequest::new(wire.from.into(), wire.to, wire.last.map(LogId::from))
    }
}

/// What a snapshot covers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct WireSnapshotMeta {
    pub(crate) last: Option<WireLogId>,
    pub(crate) membership: WireStoredMembership,
}

impl From<&SnapshotMeta> for WireSnapshotMeta {
    fn from(meta: &SnapshotMeta) -> WireSnapshotMeta {
        WireSnapshotMeta {
            last: meta.last_log_id.as_ref().map(WireLogId::from),
            membership: (&meta.last_membership).into(),
        }
    }
}

impl TryFrom<WireSnapshotMeta> for SnapshotMeta {
    type Error = String;
    fn try_from(wire: WireSnapshotMeta) -> Result<SnapshotMeta, String> {
        Ok(SnapshotMeta {
            last_log_id: wire.last.map(LogId::from),
            last_membership: wire.membership.try_into()?,
        })
    }
}

/// A snapshot is ready at its sender: fetch it page by page under `session`, then install it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct WireInstall {
    pub(crate) vote: WireVote,
    pub(crate) meta: WireSnapshotMeta,
    pub(crate) session: u64,
}

/// Asks for a page of a snapshot, or (with no session) for a new session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct WirePull {
    pub(crate) session: Option<u64>,
    pub(crate) after: Option<Bytes>,
}

/// A page of a snapshot: rows in order, plain inside the encrypted connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct WirePage {
    pub(crate) session: u64,
    pub(crate) meta: WireSnapshotMeta,
    pub(crate) rows: Vec<(Bytes, Bytes)>,
    pub(crate) more: bool,
}

/// A follower forwards commands to the leader.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct WirePropose {
    /// Encoded envelopes.
    pub(crate) envelopes: Vec<Bytes>,
}

/// The leader's answers, one per command in order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct WireProposed {
    pub(crate) answers: Vec<WireAnswer>,
}

/// What became of a forwarded command.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum WireAnswer {
    /// Applied; at this log index.
    Applied { index: u64, outcome: Outcome },
    /// Not the leader: nothing was done; try this one.
    NotLeader(Option<NodeId>),
    /// It may or may not be applied (C3).
    Unknown(String),
}

/// The leader's read index and its site time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum WireReadIndex {
    Index { index: u64, now: SiteTime },
    NotLeader(Option<NodeId>),
    NoQuorum,
}

/// A member's clock, for the median that site time slews to (C4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct WireClock {
    /// Wall clock of the answering node, microseconds.
    pub(crate) wall: i64,
}

/// What a majority's clocks agreed on when the leader last looked (C4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct WireAgreed {
    /// Wall-clock time, microseconds.
    pub(crate) wall: i64,
}

versioned! {
    WireVote => "vote",
    WireLogId => "log id",
    WirePayload => "log entry",
    WireAppend => "append request",
    WireAppended => "append answer",
    WireVoteRequest => "vote request",
    WireVoteResponse => "vote answer",
    WireTransfer => "leader transfer",
    WireSnapshotMeta => "snapshot description",
    WireInstall => "snapshot offer",
    WirePull => "snapshot pull",
    WirePage => "snapshot page",
    WirePropose => "forwarded commands",
    WireProposed => "forwarded answers",
    WireReadIndex => "read index",
    WireClock => "clock report",
    WireAgreed => "agreed time",
}

/// Encodes an entry's payload for the log.
pub(crate) fn encode_payload(payload: &EntryPayload) -> Bytes {
    codec::encode(&WirePayload::from(payload))
}

/// Decodes [`encode_payload`].
pub(crate) fn decode_payload(bytes: &[u8]) -> Result<EntryPayload, String> {
    codec::decode::<WirePayload>(bytes).map_err(|e| e.to_string())?.try_into()
}

#[cfg(debug_assertions)]
pub(crate) mod samples; // one of each
