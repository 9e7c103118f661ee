//! One order for journal and index. Two tasks in a row: the first submits requests to the
//! journal, the second waits for their durability in that order and indexes them, many in
//! one batch. So the index is always a prefix of the journal, and says which.

use std::sync::Arc;

use benteng_host::{Host, Task};
use benteng_journal::{Body, Journal, Pending, Place, Record, SegmentNo};
use benteng_meta::ids::ChunkId;
use bytes::Bytes;
use futures::FutureExt;
use tokio::sync::{mpsc, oneshot};

use crate::chunk::{ChunkHeader, IDS_PER_RECORD, encode_ids};
use crate::error::Error;
use crate::index::{Change, Index, Outcome};

/// Kinds of the store's records.
pub(crate) mod kind {
    /// A chunk: its header as tag, its bytes as body.
    pub(crate) const CHUNK: u8 = 1;
    /// A chunk again, at another place; the latest counts.
    pub(crate) const COPY: u8 = 2;
    /// Ids of removed chunks as tag, no body.
    pub(crate) const BURY: u8 = 3;
    /// Ids of evicted chunks as tag, no body: others hold them, and they may come back.
    pub(crate) const EVICT: u8 = 4;
}

/// Requests that wait for the first task; beyond it `append` waits. Their bytes are
/// bounded by the callers, those behind it by the journal's queue.
const REQUESTS: usize = 64;
/// Requests indexed in one batch.
const BATCH: usize = 256;

/// A request.
pub(crate) enum Work {
    Chunk(ChunkHeader, Vec<Bytes>),
    /// `from`: where it must still lie when the copy is switched to.
    Copy(ChunkHeader, Vec<Bytes>, Place),
    Bury(Vec<ChunkId>),
    Evict(Vec<ChunkId>),
}

struct Request {
    work: Work,
    done: oneshot::Sender<Result<Outcome, Error>>,
}

/// A request on its way to the disk.
struct Submitted {
    pending: Pending,
    what: What,
    done: oneshot::Sender<Result<Outcome, Error>>,
}

enum What {
    Chunk(ChunkHeader),
    Copy(ChunkHeader, Place),
    Bury(Vec<ChunkId>),
    Evict(Vec<ChunkId>),
}

/// The way into journal and index.
pub(crate) struct Pipeline {
    requests: mpsc::Sender<Request>,
    _submitter: Task,
    _indexer: Task,
}

impl Pipeline {
    pub(crate) fn start(host: &Host, journal: Arc<Journal>, index: Arc<Index>) -> Pipeline {
        let (requests, receiver) = mpsc::channel(REQUESTS);
        // Bounded by the journal's queue: what is submitted holds room there until durable.
        let (submitted_tx, submitted) = mpsc::unbounded_channel();
        let submitter = submit(journal.clone(), receiver, submitted_tx);
        let indexer = index_all(host.clone(), journal, index, submitted);
        Pipeline {
            requests,
            _submitter: host.tasks.spawn("chunk submitter", Box::pin(submitter)),
            _indexer: host.tasks.spawn("chunk indexer", Box::pin(indexer)),
        }
    }

    /// Runs a request to its end: durable, and indexed.
    /// Cancellation: once accepted it goes on.
    pub(crate) async fn run(&self, work: Work) -> Result<Outcome, Error> {
        self.enqueue(work).await?.await.map_err(|_| Error::Stopped)?
    }

    /// Enqueues a request; the answer follows.
    pub(crate) async fn enqueue(
        &self,
        work: Work,
    ) -> Result<oneshot::Receiver<Result<Outcome, Error>>, Error> {
        let (done, answer) = oneshot::channel();
        self.requests.send(Request { work, done }).await.map_err(|_| Error::Stopped)?;
        Ok(answer)
    }
}

async fn submit(
    journal: Arc<Journal>,
    mut requests: mpsc::Receiver<Request>,
    submitted: mpsc::UnboundedSender<Submitted>,
) {
    while let Some(Request { work, done }) = requests.recv().await {
        let (records, what) = records(work);
        match journal.submit(records).await {
            Ok(pending) => {
                if submitted.send(Submitted { pending, what, done }).is_err() {
                    return;
                }
            }
            Err(e) => {
                // The sender may have gone.
                let _ = done.send(Err(e.into()));
            }
        }
    }
}

fn records(work: Work) -> (Vec<Record>, What) {
    match work {
        Work::Chunk(header, bytes) => {
            let record = Record { kind: kind::CHUNK, tag: header.encode(), body: Body::Raw(bytes) };
            (vec![record], What::Chunk(header))
        }
        Work::Copy(header, bytes, from) => {
            let record = Record { kind: kind::COPY, tag: header.encode(), body: Body::Raw(bytes) };
            (vec![record], What::Copy(header, from))
        }
        Work::Bury(ids) => (tombstones(kind::BURY, &ids), What::Bury(ids)),
        Work::Evict(ids) => (tombstones(kind::EVICT, &ids), What::Evict(ids)),
    }
}

fn tombstones(kind: u8, ids: &[ChunkId]) -> Vec<Record> {
    let record = |ids| Record { kind, tag: encode_ids(ids), body: Body::Raw(Vec::new()) };
    ids.chunks(IDS_PER_RECORD).map(record).collect()
}

async fn index_all(
    host: Host,
    journal: Arc<Journal>,
    index: Arc<Index>,
    mut submitted: mpsc::UnboundedReceiver<Submitted>,
) {
    let mut held = None;
    loop {
        let first = match held.take() {
            Some(first) => first,
            None => match submitted.recv().await {
                Some(first) => first,
                None => return,
            },
        };
        let Submitted { pending, what, done } = first;
        let mut batch = Gathered::default();
        batch.add(&journal, pending.await, what, done).await;
        // Whatever is durable by now rides along.
        while batch.done.len() < BATCH
            && let Ok(mut next) = submitted.try_recv()
        {
            match (&mut next.pending).now_or_never() {
                Some(places) => batch.add(&journal, places, next.what, next.done).await,
                None => {
                    held = Some(next);
                    break;
                }
            }
        }
        let Gathered { changes, done, newest } = batch;
        let reaches = newest.unwrap_or(index.reaches()).max(index.reaches());
        match index.apply(changes, reaches, None).await {
            Ok(outcomes) => answer(done, &outcomes),
            Err(error) => {
                // The journal has it, the index has not: only a restart brings them together.
                let why =
                    format!("J6: the chunk index cannot be written: {error}; the next start replays it");
                match host.fate.abort(&why).await {}
            }
        }
    }
}

/// Who waits, and for how many changes.
type Waiting = (usize, oneshot::Sender<Result<Outcome, Error>>);

#[derive(Default)]
struct Gathered {
    changes: Vec<Change>,
    done: Vec<Waiting>,
    newest: Option<SegmentNo>,
}

impl Gathered {
    async fn add(
        &mut self,
        journal: &Journal,
        places: Result<Vec<Place>, benteng_journal::Error>,
        what: What,
        done: oneshot::Sender<Result<Outcome, Error>>,
    ) {
        let places = match places {
            Ok(places) => places,
            Err(e) => return drop(done.send(Err(e.into()))),
        };
        let before = self.changes.len();
        let segments = places.iter().map(|place| place.segment);
        self.newest = self.newest.into_iter().chain(segments).max();
        match (what, places.first()) {
            (What::Chunk(header), Some(place)) => self.changes.push(Change::Chunk(*place, header)),
            (What::Copy(header, from), Some(place)) => {
                // Read back before the index turns to it: the original goes next.
                match journal.read(*place).await {
                    Ok((_, body)) if header.bad_frame(0, std::slice::from_ref(&body)).is_none() => {
                        self.changes.push(Change::Copy(*place, header, Some(from)));
                    }
                    Ok(_) => {
                        let (chunk, segment, offset) = (header.id, place.segment, place.offset);
                        return drop(done.send(Err(Error::Corrupt { chunk, segment, offset })));
                    }
                    Err(e) => return drop(done.send(Err(e.into()))),
                }
            }
            (What::Bury(ids), _) => self.changes.extend(each(&ids, &places, Change::Bury)),
            (What::Evict(ids), _) => self.changes.extend(each(&ids, &places, Change::Evict)),
            (What::Chunk(_) | What::Copy(..), None) => {}
        }
        self.done.push((self.changes.len() - before, done));
    }
}

/// One change for each id of tombstone records that lie at `places`.
fn each(ids: &[ChunkId], places: &[Place], change: fn(SegmentNo, ChunkId) -> Change) -> Vec<Change> {
    let records = ids.chunks(IDS_PER_RECORD).zip(places);
    records.flat_map(|(ids, place)| ids.iter().map(|id| change(place.segment, *id))).collect()
}

fn answer(done: Vec<Waiting>, mut outcomes: &[Outcome]) {
    for (n, done) in done {
        let (own, rest) = outcomes.split_at(n);
        outcomes = rest;
        // Whoever asked may have gone; what was done stays done.
        let _ = done.send(Ok(own.iter().copied().find(|one| *one != Outcome::Done).unwrap_or(Outcome::Done)));
    }
}
