//! openraft's storage traits over the index and the journal.

use std::fmt::Debug;
use std::io;
use std::ops::{Bound, RangeBounds};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use benteng_host::planted::{Bug, planted};
use benteng_host::{Host, Task, witness};
use benteng_journal::{Journal, Opened, Options, Pending, Release, Replay, SegmentCipher};
use openraft::storage::{IOFlushed, LogState, RaftLogReader, RaftLogStorage};
use tokio::sync::{mpsc, watch};
use uuid::Uuid;

use super::index::Index;
use super::records::{self, Logged};
use super::scrub::Rot;
use crate::types::{Entry, LogId, Types, Vote};

/// Bytes of entries that one read hands to openraft at least, if there are any.
const READ_BYTES: usize = 1 << 20;
/// Submits whose completion is waited for; beyond it appends wait.
const COMPLETIONS: usize = 4096;

/// How the log is kept.
#[derive(Clone, Debug)]
pub(crate) struct LogOptions {
    /// Size of a journal segment in bytes.
    pub(crate) segment_bytes: u64,
    /// Recent entries kept in memory, in bytes.
    pub(crate) cache_bytes: usize,
}

/// What a log was found to be (S3).
#[derive(Debug, Default)]
pub(crate) struct LogOpened {
    /// Nothing was there.
    pub(crate) fresh: bool,
    /// The vote and last log id of the watermark outside of the journal (J7).
    pub(crate) watermark: Option<(Option<Vote>, Option<LogId>)>,
}

/// The Raft log of one group. Clones share it.
#[derive(Clone)]
pub(crate) struct LogStore {
    pub(super) shared: Arc<Shared>,
}

pub(super) struct Shared {
    store: Uuid,
    pub(super) journal: Journal,
    index: Mutex<Index>,
    /// Segments that were found damaged and are still there.
    pub(super) rot: Mutex<Rot>,
    /// The newest submit that is durable.
    durable: watch::Sender<u64>,
    completions: mpsc::Sender<Completion>,
    cache_bytes: usize,
    /// Set once; ends with the last clone.
    task: Mutex<Option<Task>>,
}

struct Completion {
    pending: Pending,
    ticket: u64,
    first: u64,
    /// `None`: it was told already.
    flushed: Option<IOFlushed<Types>>,
}

pub(super) fn failed(e: impl std::fmt::Display) -> io::Error {
    io::Error::other(e.to_string())
}

impl LogStore {
    /// Opens the log in `dir` and replays it.
    pub(crate) async fn open(
        host: &Host,
        dir: PathBuf,
        store: Uuid,
        options: &LogOptions,
        cipher: Arc<dyn SegmentCipher>,
    ) -> Result<(LogStore, LogOpened), benteng_journal::Error> {
        let journal_options = Options {
            segment_bytes: options.segment_bytes,
            replay: Replay::Bodies,
            // Room that a full device cannot take away: for votes, deletes and maintenance (O6).
            spares: 2,
            sticky: records::sticky(),
            ..Options::default()
        };
        let mut index = Index::default();
        let visit = &mut |replayed: benteng_journal::Replayed| {
            let bad = |why: String| benteng_journal::Error::Visitor(why.into());
            let logged = records::read(replayed.kind, &replayed.tag, replayed.body.as_ref());
            match logged.ok_or_else(|| bad(format!("record of kind {} is no log record", replayed.kind)))? {
                Logged::Entry(id) => index.replay(id, replayed.place).map_err(bad)?,
                Logged::Vote(vote) => index.vote = Some(vote),
                Logged::Truncate(kept) => index.truncate(kept),
                Logged::Purge(upto) => index.purge(upto),
            }
            Ok(())
        };
        let (journal, opened) =
            Journal::open(host.clone(), dir, store, journal_options, cipher, visit).await?;
        let found = absorb_checkpoint(&mut index, &opened);
        index.whole().map_err(|why| benteng_journal::Error::Visitor(why.into()))?;
        let (completions, receiver) = mpsc::channel(COMPLETIONS);
        let shared = Arc::new(Shared {
            store,
            journal,
            index: Mutex::new(index),
            rot: Mutex::default(),
            durable: watch::Sender::new(0),
            completions,
            cache_bytes: options.cache_bytes,
            task: Mutex::new(None),
        });
        let task =
            host.tasks.spawn("raft log completions", Box::pin(complete(Arc::downgrade(&shared), receiver)));
        *shared.task.lock().unwrap_or_else(PoisonError::into_inner) = Some(task);
        Ok((LogStore { shared }, found))
    }

    pub(super) fn index(&self) -> MutexGuard<'_, Index> {
        self.shared.index.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until the entry at `index`, and every truncation before it, is durable here (S2).
    ///
    /// Errors: the entry is not in the log, or the journal has stopped.
    pub(crate) async fn durable(&self, index: u64) -> io::Result<()> {
        let ticket = {
            let log = self.index();
            match log.slot(index) {
                Some(slot) => slot.ticket,
                // Purged entries were durable long ago.
                None if log.purged.is_some_and(|purged| index <= purged.index) => return Ok(()),
                None => return Err(io::Error::other(format!("entry {index} is not in the log"))),
            }
        };
        let mut durable = self.shared.durable.subscribe();
        durable.wait_for(|done| *done >= ticket).await.map(drop).map_err(failed)
    }

    /// Whether nothing was ever written to it.
    pub(crate) fn is_empty(&self) -> bool {
        self.index().last().is_none()
    }

    /// How many segments the log takes.
    pub(crate) fn segments(&self) -> usize {
        self.shared.journal.segments().len()
    }

    /// The last entry that must go so that at most `keep` segments are left; 0: none need go.
    pub(crate) fn last_before_newest(&self, keep: usize) -> u64 {
        let segments = self.shared.journal.segments();
        let Some(first_kept) = segments.len().checked_sub(keep).and_then(|at| segments.get(at)) else {
            return 0;
        };
        self.index().last_before(first_kept.number)
    }

    /// Counters of the journal below: syncs, records, bytes.
    pub(crate) fn counters(&self) -> benteng_journal::Counters {
        self.shared.journal.counters()
    }

    /// Whether the journal waits for room on the device (J6).
    pub(crate) fn stalled(&self) -> bool {
        self.shared.journal.stalled()
    }

    /// Claims what is written and ends the journal (J7).
    pub(crate) async fn close(&self) -> Result<(), benteng_journal::Error> {
        self.shared.journal.stop().await
    }

    /// States with what Raft starts (entries are counted from 1): all that was answered for (I1, S3).
    pub(crate) fn state_found(&self) {
        let (store, index) = (self.shared.store.as_u128(), self.index());
        witness("vote_found", store, || index.vote.as_ref().map_or(0, vote_fact));
        witness("log_found", store, || index.last().map_or(0, |last| u128::from(last.index) + 1));
    }

    /// States that a vote is answered for.
    fn state_kept(&self, vote: &Vote) {
        witness("vote_kept", self.shared.store.as_u128(), || vote_fact(vote));
    }

    /// Releases the segments before the one in which the first entry lies.
    pub(super) async fn release_unneeded(&self) -> io::Result<()> {
        let first_needed = {
            let index = self.index();
            index.first().and_then(|first| index.slot(first)).map(|slot| slot.place.map(|p| p.segment))
        };
        let segment = match first_needed {
            Some(Some(segment)) => segment,
            // The first entry is not durable yet: the next purge frees what this one could.
            Some(None) => return Ok(()),
            // Nothing durable left: every segment but the newest may go.
            None => self.shared.journal.newest(),
        };
        self.shared.journal.release(Release::Before(segment)).await.map_err(failed)
    }

    async fn read_entry(&self, index: u64) -> io::Result<Option<Entry>> {
        let (id, place) = {
            let log = self.index();
            let Some(slot) = log.slot(index) else { return Ok(None) };
            if let Some(entry) = &slot.entry {
                return Ok(Some(entry.clone()));
            }
            let Some(place) = slot.place else {
                return Err(io::Error::other(format!("entry {index} is neither in memory nor on disk")));
            };
            (slot.id, place)
        };
        let (_, body) = self.shared.journal.read(place).await.map_err(failed)?;
        records::read_entry(id, &body).map(Some).map_err(io::Error::other)
    }
}

/// A vote as a fact of the checkers': term, whom for, whether a quorum has granted it.
fn vote_fact(vote: &Vote) -> u128 {
    let id = &vote.leader_id;
    u128::from(id.term) << 64 | u128::from(id.voted_for.0) << 1 | u128::from(vote.committed)
}

/// Takes the vote and the purge that only a checkpoint still holds, and reads the watermark.
fn absorb_checkpoint(index: &mut Index, opened: &Opened) -> LogOpened {
    for (kind, tag, body) in &opened.checkpoint {
        match records::read(*kind, tag, body.as_ref()) {
            Some(Logged::Vote(vote)) => index.vote = Some(vote),
            Some(Logged::Purge(upto)) => index.purge(upto),
            Some(Logged::Entry(_) | Logged::Truncate(_)) | None => {}
        }
    }
    let watermark = opened.watermark.as_ref().map(|sticky| {
        let (mut vote, mut last) = (None, None);
        for (kind, tag, body) in sticky {
            match records::read(*kind, tag, body.as_ref()) {
                Some(Logged::Vote(v)) => vote = Some(v),
                Some(Logged::Entry(id) | Logged::Purge(id)) => last = last.max(Some(id)),
                Some(Logged::Truncate(_)) | None => {}
            }
        }
        (vote, last)
    });
    LogOpened { fresh: opened.fresh, watermark }
}

/// Answers for the entries up to `last`, if they still stand in the log, and states that (I1).
fn answer(store: Uuid, last: Option<u64>, flushed: IOFlushed<Types>) {
    if let Some(last) = last {
        witness("log_kept", store.as_u128(), || u128::from(last) + 1);
    }
    flushed.io_completed(Ok(()));
}

/// Tells openraft and the waiting what has become durable, in order (J1).
async fn complete(shared: std::sync::Weak<Shared>, mut receiver: mpsc::Receiver<Completion>) {
    while let Some(Completion { pending, ticket, first, flushed }) = receiver.recv().await {
        let result = pending.await;
        let Some(shared) = shared.upgrade() else { return };
        match result {
            Ok(places) => {
                let mut index = shared.index.lock().unwrap_or_else(PoisonError::into_inner);
                index.settle(first, ticket, &places, shared.cache_bytes);
                let last = first + (places.len() as u64).saturating_sub(1);
                let stands = index.slot(last).is_some_and(|slot| slot.ticket == ticket);
                drop(index);
                shared.durable.send_modify(|durable| *durable = ticket.max(*durable));
                benteng_host::probe("raft_append_durable");
                if let Some(flushed) = flushed {
                    answer(shared.store, stands.then_some(last), flushed);
                }
            }
            // The journal has stopped; it aborts by itself on what it cannot survive (J6).
            Err(e) => flushed.into_iter().for_each(|flushed| flushed.io_completed(Err(failed(&e)))),
        }
    }
}

impl RaftLogReader<Types> for LogStore {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + Send>(
        &mut self,
        range: RB,
    ) -> Result<Vec<Entry>, io::Error> {
        let start = match range.start_bound() {
            Bound::Included(n) => *n,
            Bound::Excluded(n) => n + 1,
            Bound::Unbounded => self.index().first().unwrap_or(0),
        };
        let last = self.index().last().map_or(0, |last| last.index + 1);
        let end = match range.end_bound() {
            Bound::Included(n) => n + 1,
            Bound::Excluded(n) => *n,
            Bound::Unbounded => u64::MAX,
        };
        let mut entries = Vec::new();
        // What lies before the first entry was purged, or never was: openraft asks for it at times.
        let first = self.index().first().unwrap_or(last);
        for index in start.max(first)..end.min(last) {
            let Some(entry) = self.read_entry(index).await? else { break };
            entries.push(entry);
        }
        Ok(entries)
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, io::Error> {
        Ok(self.index().vote)
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> Result<Vec<Entry>, io::Error> {
        let mut entries = Vec::new();
        let mut bytes = 0;
        for index in start..end {
            let Some(entry) = self.read_entry(index).await? else { break };
            if let openraft::EntryPayload::Normal(p) = &entry.payload {
                bytes += p.envelope.len();
            }
            entries.push(entry);
            if bytes >= READ_BYTES {
                break;
            }
        }
        Ok(entries)
    }
}

impl RaftLogStorage<Types> for LogStore {
    type LogReader = LogStore;

    async fn get_log_state(&mut self) -> Result<LogState<Types>, io::Error> {
        let index = self.index();
        Ok(LogState { last_purged_log_id: index.purged, last_log_id: index.last() })
    }

    async fn get_log_reader(&mut self) -> LogStore {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), io::Error> {
        // Answered only when a later record claims it (J3): else one flipped bit forgets a vote.
        if planted(Bug::VoteDropped) {
            self.index().vote = Some(*vote);
            self.state_kept(vote);
            return Ok(());
        }
        let pending = self.shared.journal.submit_claimed(vec![records::vote(vote)]).await.map_err(failed)?;
        self.index().vote = Some(*vote);
        if planted(Bug::VoteUnsynced) {
            self.state_kept(vote);
            return Ok(());
        }
        pending.await.map_err(failed)?;
        self.state_kept(vote);
        benteng_host::probe("raft_vote_durable");
        Ok(())
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<Types>) -> Result<(), io::Error>
    where
        I: IntoIterator<Item = Entry> + Send,
        I::IntoIter: Send,
    {
        let entries: Vec<Entry> = entries.into_iter().collect();
        let Some(first) = entries.first().map(|entry| entry.log_id.index) else {
            callback.io_completed(Ok(()));
            return Ok(());
        };
        let records = entries.iter().map(records::entry).collect();
        let pending = self.shared.journal.submit(records).await.map_err(failed)?;
        let ticket = {
            let mut index = self.index();
            index.ticket += 1;
            let ticket = index.ticket;
            for entry in entries {
                index.push(entry, ticket).map_err(io::Error::other)?;
            }
            ticket
        };
        let mut flushed = Some(callback);
        let early = if planted(Bug::AppendUnsynced) { flushed.take() } else { None };
        let completion = Completion { pending, ticket, first, flushed };
        let sent = self.shared.completions.send(completion).await;
        let last = self.index().last().map(|last| last.index);
        early.into_iter().for_each(|early| answer(self.shared.store, last, early));
        sent.map_err(|_| io::Error::other("the log has stopped"))
    }

    async fn truncate_after(&mut self, last_log_id: Option<LogId>) -> Result<(), io::Error> {
        let kept = last_log_id.map(|id| id.index);
        let pending = self.shared.journal.submit(vec![records::truncate(kept)]).await.map_err(failed)?;
        self.index().truncate(kept);
        witness("log_cut", self.shared.store.as_u128(), || kept.map_or(0, |kept| u128::from(kept) + 1));
        pending.await.map(drop).map_err(failed)
    }

    async fn purge(&mut self, log_id: LogId) -> Result<(), io::Error> {
        if !planted(Bug::PurgeForgotten) {
            let pending = self.shared.journal.submit(vec![records::purge(&log_id)]).await.map_err(failed)?;
            pending.await.map_err(failed)?;
        }
        self.index().purge(log_id);
        self.release_unneeded().await
    }
}
