//! One sample of each message and record body, for golden files and as what the fuzzer begins with.

use benteng_host::golden::Sample;

use super::*;

fn vote() -> WireVote {
    WireVote { term: 300, node: NodeId(2), committed: true }
}

fn id(index: u64) -> WireLogId {
    WireLogId { term: 299, index }
}

fn membership() -> WireMembership {
    let nodes = [(NodeId(1), "10.0.0.1:7400".to_owned()), (NodeId(2), "10.0.0.2:7400".to_owned())];
    WireMembership {
        configs: vec![BTreeSet::from([NodeId(1)]), BTreeSet::from([NodeId(1), NodeId(2)])],
        nodes: BTreeMap::from(nodes),
    }
}

pub(crate) fn stored_membership() -> WireStoredMembership {
    WireStoredMembership { log_id: Some(id(7)), membership: membership() }
}

fn normal() -> WirePayload {
    WirePayload::Normal { stamp: SiteTime(1_000_000), envelope: Bytes::from_static(b"envelope") }
}

fn meta() -> WireSnapshotMeta {
    WireSnapshotMeta { last: Some(id(900)), membership: stored_membership() }
}

fn append() -> WireAppend {
    let payloads = [WirePayload::Blank, normal(), WirePayload::Membership(membership())];
    let entries =
        (8..).zip(payloads).map(|(index, payload)| WireEntry { log_id: id(index), payload }).collect();
    WireAppend { vote: vote(), prev: Some(id(7)), commit: Some(id(6)), entries }
}

/// One of each message; a variant of an enum is one of its own.
pub(crate) fn messages() -> Vec<Sample> {
    let mut out: Vec<Sample> = Vec::new();
    fn add<T: Versioned>(out: &mut Vec<Sample>, name: &str, message: &T) {
        out.push((name.to_owned(), codec::encode(message).to_vec()));
    }
    add(&mut out, "vote", &vote());
    add(&mut out, "log_id", &id(900));
    add(&mut out, "payload_blank", &WirePayload::Blank);
    add(&mut out, "payload_normal", &normal());
    add(&mut out, "payload_membership", &WirePayload::Membership(membership()));
    add(&mut out, "append", &append());
    add(&mut out, "appended_matched", &WireAppended::Matched(Some(id(10))));
    add(&mut out, "appended_conflict", &WireAppended::Conflict(id(7)));
    add(&mut out, "appended_higher_vote", &WireAppended::HigherVote(vote()));
    add(&mut out, "vote_request", &WireVoteRequest { vote: vote(), last: Some(id(10)), transfer: true });
    add(&mut out, "vote_response", &WireVoteResponse { vote: vote(), granted: true, last: Some(id(10)) });
    add(&mut out, "transfer", &WireTransfer { from: vote(), to: NodeId(3), last: Some(id(10)) });
    add(&mut out, "snapshot_meta", &meta());
    add(&mut out, "install", &WireInstall { vote: vote(), meta: meta(), session: 5 });
    add(&mut out, "pull", &WirePull { session: Some(5), after: Some(Bytes::from_static(b"key")) });
    let row = |key: &'static str| (Bytes::from_static(key.as_bytes()), Bytes::from_static(b"row"));
    let page = WirePage { session: 5, meta: meta(), rows: vec![row("key"), row("later")], more: true };
    add(&mut out, "page", &page);
    let envelopes = vec![Bytes::from_static(b"envelope"), Bytes::new()];
    add(&mut out, "propose", &WirePropose { envelopes });
    let answers = vec![
        WireAnswer::Applied { index: 900, outcome: Ok(benteng_meta::Answer::Done) },
        WireAnswer::NotLeader(Some(NodeId(2))),
        WireAnswer::Unknown("why".into()),
    ];
    add(&mut out, "proposed", &WireProposed { answers });
    add(&mut out, "read_index", &WireReadIndex::Index { index: 900, now: SiteTime(1_000_000) });
    add(&mut out, "read_index_not_leader", &WireReadIndex::NotLeader(None));
    add(&mut out, "read_index_no_quorum", &WireReadIndex::NoQuorum);
    add(&mut out, "clock", &WireClock { wall: -1 });
    out
}

/// Decodes the message of this name, takes it to openraft's form and back, and writes it again.
pub(crate) fn again(name: &str, bytes: &[u8]) -> Result<Vec<u8>, String> {
    fn plain<T: Versioned>(bytes: &[u8]) -> Result<Vec<u8>, String> {
        codec::decode::<T>(bytes).map(|message| codec::encode(&message).to_vec()).map_err(|e| e.to_string())
    }
    /// Through openraft's own type: what it holds is all that the message says.
    fn through<W, T>(bytes: &[u8]) -> Result<Vec<u8>, String>
    where
        W: Versioned + for<'a> From<&'a T>,
        T: TryFrom<W>,
        T::Error: std::fmt::Display,
    {
        let wire = codec::decode::<W>(bytes).map_err(|e| e.to_string())?;
        let theirs = T::try_from(wire).map_err(|e| e.to_string())?;
        Ok(codec::encode(&W::from(&theirs)).to_vec())
    }
    match name.split_once('_').map_or(name, |(first, _)| first) {
        "payload" => through::<WirePayload, EntryPayload>(bytes),
        "append" => through::<WireAppend, AppendEntriesRequest<Types>>(bytes),
        "appended" => through::<WireAppended, StreamAppendResult<Types>>(bytes),
        "transfer" => through::<WireTransfer, TransferLeaderRequest<Types>>(bytes),
        "snapshot" => through::<WireSnapshotMeta, SnapshotMeta>(bytes),
        "install" => plain::<WireInstall>(bytes),
        "pull" => plain::<WirePull>(bytes),
        "page" => plain::<WirePage>(bytes),
        "propose" => plain::<WirePropose>(bytes),
        "proposed" => plain::<WireProposed>(bytes),
        "read" => plain::<WireReadIndex>(bytes),
        "clock" => plain::<WireClock>(bytes),
        "log" => through::<WireLogId, LogId>(bytes),
        "vote" if name == "vote_request" => through::<WireVoteRequest, VoteRequest<Types>>(bytes),
        "vote" if name == "vote_response" => through::<WireVoteResponse, VoteResponse<Types>>(bytes),
        "vote" => through::<WireVote, Vote>(bytes),
        other => Err(format!("nobody reads {other}")),
    }
}
