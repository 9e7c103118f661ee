//! openraft's state machine: applies entries in batches, builds and installs snapshots.

use std::io;
use std::sync::Arc;

use benteng_host::Host;
use benteng_host::planted::{Bug, planted};
use benteng_meta::ids::StateSeq;
use benteng_meta::{Envelope, Tx, codec, query};
use futures::{FutureExt, Stream, StreamExt};
use openraft::storage::{EntryResponder, RaftSnapshotBuilder, RaftStateMachine};
use openraft::type_config::alias::SnapshotOf;
use tokio::sync::{Mutex, watch};

use crate::log::LogStore;
use crate::state::{Rows, Standing, State};
use crate::types::{Applied, Entry, EntryPayload, LogId, Proposal, SnapshotMeta, StoredMembership, Types};

/// Entries applied as one batch at most: one batch is one write to the store.
const BATCH_ENTRIES: usize = 512;
/// Bytes of entries applied as one batch: a larger write would hold readers up.
const BATCH_BYTES: usize = 2 << 20;

/// How far the state has come; what readers wait for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Progress {
    /// Entries applied: the next log index.
    pub(crate) next: u64,
    /// Commands applied (S9).
    pub(crate) seq: StateSeq,
}

/// A snapshot on its way between openraft and us.
pub(crate) enum SnapshotData {
    /// Of this node's state.
    Own(Arc<Rows>),
    /// Received and verified under this installation.
    Received(u32),
}

impl std::fmt::Debug for SnapshotData {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            SnapshotData::Own(_) => f.write_str("Own"),
            SnapshotData::Received(fresh) => write!(f, "Received({fresh})"),
        }
    }
}

/// The state machine of one group on this node.
#[derive(Clone)]
pub(crate) struct Machine {
    host: Host,
    state: Arc<State>,
    /// The log whose durability applying waits for (S2); openraft's own suite applies without one.
    log: Option<LogStore>,
    progress: Arc<watch::Sender<Progress>>,
    /// Held while the state is changed: who drops a damaged one must not do so under a batch, which would
    /// leave its own rows, and how far it came, in an empty state (S6).
    turn: Arc<Mutex<()>>,
}

impl Machine {
    pub(crate) fn new(host: Host, state: Arc<State>, log: Option<LogStore>) -> crate::Result<Machine> {
        let next = state.standing().last.map_or(0, |last| last.index + 1);
        let seq = query::clock(&state.live())?.seq;
        let progress = Arc::new(watch::Sender::new(Progress { next, seq }));
        Ok(Machine { host, state, log, progress, turn: Arc::default() })
    }

    /// How far the state has come.
    pub(crate) fn progress(&self) -> watch::Receiver<Progress> {
        self.progress.subscribe()
    }

    /// As [`Machine::broken`], for whoever meets damage outside of apply. Does not return.
    pub(crate) async fn rebuild(&self, why: &(dyn std::fmt::Display + Sync)) -> io::Error {
        let _turn = self.turn.lock().await;
        self.broken(why).await
    }

    /// The state cannot be read: no replica may answer from it. Forget it and stop; the next
    /// start rebuilds it from log and peers (S6).
    async fn broken(&self, e: &(dyn std::fmt::Display + Sync)) -> io::Error {
        let why = format!("S6: the state cannot be read: {e}; it is dropped and rebuilt at the next start");
        if let Err(e) = self.state.forget().await {
            tracing::error!(error = %e, "the damaged state could not be dropped");
        }
        match self.host.fate.abort(&why).await {}
    }

    async fn write_failed(&self, e: benteng_host::Error) -> io::Error {
        match self.host.fate.abort(&format!("J6: the state cannot be written: {e}")).await {}
    }

    async fn apply_batch(&mut self, batch: Vec<EntryResponder<Types>>) -> Result<(), io::Error> {
        let Some(last) = batch.last().map(|(entry, _)| entry.log_id) else { return Ok(()) };
        for (entry, _) in &batch {
            benteng_host::witness("applied", u128::from(entry.log_id.index), || digest(entry));
        }
        // Nothing is applied that this node could still forget (S2).
        if let Some(log) = self.log.as_ref().filter(|_| !planted(Bug::AppliedAheadOfLog)) {
            log.durable(last.index).await?;
        }
        let _turn = self.turn.lock().await;
        if self.state.is_damaged() && !planted(Bug::BrokenStateRejects) && !planted(Bug::DamagedRowStays) {
            return Err(self.broken(&"a row that was read does not authenticate").await);
        }
        let mut standing = self.state.standing();
        standing.switched = false;
        let live = self.state.live();
        let (changes, answers, seq) = match apply_all(&live, &batch, &mut standing) {
            Ok(done) => done,
            Err(e) => return Err(self.broken(&e).await),
        };
        assert_eq!(standing.last, Some(last), "I6: the last entry of a batch is the last applied");
        if let Err(e) = self.state.commit(changes, standing).await {
            return Err(self.write_failed(e).await);
        }
        metrics::histogram!("benteng_raft_apply_batch_entries").record(batch.len() as f64);
        self.progress.send_replace(Progress { next: last.index + 1, seq });
        for ((_, responder), answer) in batch.into_iter().zip(answers) {
            if let Some(responder) = responder {
                responder.send(answer);
            }
        }
        Ok(())
    }

    fn own_snapshot(&self) -> Result<SnapshotOf<Types, SnapshotData>, io::Error> {
        let (mut rows, standing) = self.state.snapshot().map_err(io::Error::other)?;
        if planted(Bug::SnapshotOfLiveRows) {
            rows = self.state.live();
        }
        let meta = SnapshotMeta { last_log_id: standing.last, last_membership: standing.membership };
        Ok(SnapshotOf::<Types, SnapshotData> { meta, snapshot: SnapshotData::Own(Arc::new(rows)) })
    }
}

/// What tells an entry from any other at its index: its term and a checksum of its payload.
fn digest(entry: &Entry) -> u128 {
    let payload = crate::wire::encode_payload(&entry.payload);
    let sum = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc64Nvme, &payload);
    u128::from(*entry.log_id.leader_id) << 64 | u128::from(sum)
}

type AppliedAll = (benteng_host::Batch, Vec<Applied>, StateSeq);

/// Applies entries to one transaction over the live rows.
fn apply_all(
    live: &Rows,
    batch: &[EntryResponder<Types>],
    standing: &mut Standing,
) -> benteng_meta::Result<AppliedAll> {
    let mut tx = Tx::new(live);
    let mut answers = Vec::with_capacity(batch.len());
    for (entry, _) in batch {
        match &entry.payload {
            EntryPayload::Blank => answers.push(Applied::Nothing),
            EntryPayload::Membership(membership) => {
                standing.membership = StoredMembership::new(Some(entry.log_id), membership.clone());
                answers.push(Applied::Nothing);
            }
            EntryPayload::Normal(proposal) => answers.push(apply_one(&mut tx, proposal)?),
        }
        standing.last = Some(entry.log_id);
    }
    let seq = query::clock(&tx)?.seq;
    Ok((tx.into_batch(), answers, seq))
}

fn apply_one(tx: &mut Tx<'_>, proposal: &Proposal) -> benteng_meta::Result<Applied> {
    // Gateways decode what they are about to propose, so this fails on damage or a newer version only.
    let mut envelope: Envelope = codec::decode(&proposal.envelope)?;
    envelope.stamp = proposal.stamp;
    let outcome = match benteng_meta::apply::apply(tx, &envelope) {
        Err(e) if planted(Bug::BrokenStateRejects) => Err(benteng_meta::Rejection::Invalid(e.to_string())),
        outcome => outcome?,
    };
    Ok(Applied::Outcome(Box::new(outcome)))
}

impl RaftStateMachine<Types> for Machine {
    type SnapshotData = SnapshotData;
    type SnapshotBuilder = Machine;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), io::Error> {
        let standing = self.state.standing();
        Ok((standing.last, standing.membership))
    }

    async fn apply<Strm>(&mut self, mut entries: Strm) -> Result<(), io::Error>
    where
        Strm: Stream<Item = Result<EntryResponder<Types>, io::Error>> + Unpin + Send,
    {
        while let Some(first) = entries.next().await {
            let mut batch = vec![first?];
            let mut bytes = 0;
            // Whatever is ready goes into the same write.
            while batch.len() < BATCH_ENTRIES && bytes < BATCH_BYTES {
                let Some(Some(next)) = entries.next().now_or_never() else { break };
                let next = next?;
                if let EntryPayload::Normal(p) = &next.0.payload {
                    bytes += p.envelope.len();
                }
                batch.push(next);
            }
            self.apply_batch(batch).await?;
        }
        Ok(())
    }

    async fn try_create_snapshot_builder(&mut self, _force: bool) -> Option<Machine> {
        Some(self.clone())
    }

    async fn get_snapshot_builder(&mut self) -> Machine {
        self.clone()
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta,
        snapshot: SnapshotData,
    ) -> Result<(), io::Error> {
        let fresh = match snapshot {
            SnapshotData::Received(fresh) => fresh,
            // openraft installs a node's own snapshot where the state behind it was lost.
            SnapshotData::Own(_) if self.state.standing().last == meta.last_log_id => return Ok(()),
            SnapshotData::Own(rows) => match self.state.copy(&rows).await {
                Ok(fresh) => fresh,
                Err(e) => return Err(self.write_failed(e).await),
            },
        };
        let _turn = self.turn.lock().await;
        let standing =
            Standing { last: meta.last_log_id, membership: meta.last_membership.clone(), switched: true };
        if let Err(e) = self.state.switch(fresh, standing).await {
            return Err(self.write_failed(e).await);
        }
        let seq = query::clock(&self.state.live()).map_err(io::Error::other)?.seq;
        self.progress.send_replace(Progress { next: meta.last_log_id.map_or(0, |last| last.index + 1), seq });
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<SnapshotOf<Types, SnapshotData>>, io::Error> {
        // The state itself is durable; a snapshot of it is made whenever one is asked for (S4).
        if self.state.standing().last.is_none() {
            return Ok(None);
        }
        self.state.flush().await.map_err(io::Error::other)?;
        self.own_snapshot().map(Some)
    }
}

impl RaftSnapshotBuilder<Types> for Machine {
    type SnapshotData = SnapshotData;

    async fn build_snapshot(&mut self) -> Result<SnapshotOf<Types, SnapshotData>, io::Error> {
        // Capture first, read A from the capture, then flush: flushed >= A (S4).
        let snapshot = self.own_snapshot()?;
        if !planted(Bug::PurgedBeforeFlush) {
            self.state.flush().await.map_err(io::Error::other)?;
        }
        Ok(snapshot)
    }
}
