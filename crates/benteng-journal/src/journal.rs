//! The public handle: open, submit, read, release, close.

use std::collections::BTreeSet;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use benteng_host::planted::{Bug, planted};
use benteng_host::{Host, Task};
use bytes::Bytes;
use futures::FutureExt;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio::sync::{Semaphore, oneshot};
use uuid::Uuid;

use crate::begin::{Active, Ground, Plan, remove_unfinished};
use crate::cipher::SegmentCipher;
use crate::error::Error;
use crate::options::{OnDamage, Options};
use crate::record::{
    Body, HEADER, MAX_RECORD_BYTES, MAX_TAG_BYTES, Place, Position, Record, SegmentNo, crc32c, stored_len,
};
use crate::recover::{Damage, Recovered, Recovery};
use crate::scan::{Step, Walk};
use crate::segment::{HEADER_BYTES, Name};
use crate::spares::Spares;
use crate::stats::{Counters, Stats};
use crate::sticky::Stickies;
use crate::table::Table;
use crate::watermark::Watermark;
use crate::writer::{Append, Checked, Request, SegmentsToRelease, Work, Writer};

/// Sealing may lengthen a body by this much at most.
const OVERHEAD_MAX: u64 = 256;

/// A record met during replay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replayed {
    /// Where it lies.
    pub place: Place,
    /// Its kind.
    pub kind: u8,
    /// Its tag.
    pub tag: Bytes,
    /// Its plain body; `None` for raw bodies and with `Replay::TagsOnly`.
    pub body: Option<Bytes>,
}

/// What `open` found.
#[derive(Clone, Debug, Default)]
pub struct Opened {
    /// Newest sticky records as of the end of the log: kind, tag, plain body.
    pub checkpoint: Vec<(u8, Bytes, Option<Bytes>)>,
    /// The same as of the watermark, from the file outside the log (J7): the caller holds
    /// the log against it.
    pub watermark: Option<Vec<(u8, Bytes, Option<Bytes>)>>,
    /// Bytes of records that were written but never acknowledged, and are gone (J2).
    pub torn_bytes_cut: u64,
    /// The journal did not exist before.
    pub fresh: bool,
    /// What is lost, with `OnDamage::List`.
    pub damaged: Vec<Damage>,
}

/// What [`Journal::verify`] makes of raw bodies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RawBodies {
    /// They are read as well.
    Read,
    /// Their reader verifies them by himself.
    PassOver,
}

/// What to release.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Release {
    /// All sealed segments before this one.
    Before(SegmentNo),
    /// One sealed segment (`ReleaseOrder::Any` only).
    Segment(SegmentNo),
}

/// One live segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentInfo {
    /// Its number.
    pub number: SegmentNo,
    /// Whether it takes no more records.
    pub sealed: bool,
    /// Bytes in use, its header included.
    pub bytes: u64,
    /// Offset of the first record.
    pub first: u64,
    /// First byte behind the last record.
    pub end: u64,
    /// Records of callers in it.
    pub records: u64,
}

/// An append-only journal in one directory. Dropping it ends it like a crash would;
/// [`Journal::close`] ends it cleanly.
pub struct Journal {
    dir: PathBuf,
    table: Arc<Table>,
    stats: Arc<Stats>,
    requests: UnboundedSender<Request>,
    room: Arc<Semaphore>,
    room_bytes: u64,
    on_damage: OnDamage,
    _writer: Task,
    _keeper: Task,
}

/// The durability of one submit: resolves to the records' places. The write goes on if
/// this is dropped.
#[must_use = "a record is durable only once this resolves"]
pub struct Pending {
    done: oneshot::Receiver<Result<Vec<Place>, Error>>,
    dir: PathBuf,
}

impl Future for Pending {
    type Output = Result<Vec<Place>, Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.done
            .poll_unpin(cx)
            .map(|done| done.unwrap_or_else(|_| Err(Error::Stopped { dir: self.dir.clone() })))
    }
}

impl Journal {
    /// Opens or creates the journal in `dir`; calls `visit` for every valid record of
    /// callers, oldest first; records copied from a torn segment (J4) appear once.
    ///
    /// Errors: `Damaged` if acknowledged bytes are missing or changed, or belong to another
    /// store: nothing was changed, the caller decides; `Visitor` as the visitor returned it;
    /// `Io` (retryable if the device is full). A failed write or fsync aborts (J6).
    /// Cancellation: like a crash; opening again is right.
    pub async fn open(
        host: Host,
        dir: PathBuf,
        store: Uuid,
        options: Options,
        cipher: Arc<dyn SegmentCipher>,
        visit: &mut (dyn FnMut(Replayed) -> Result<(), Error> + Send),
    ) -> Result<(Journal, Opened), Error> {
        let options = options.checked();
        host.disk.create_dir_all(&dir).await?;
        let found = Directory::list(&host, &dir).await?;
        remove_unfinished(&host, &dir, &found.unfinished).await?;
        let watermark = Watermark::load(&*host.disk, &dir, store, &*cipher).await?;
        let watermark = watermark.filter(|_| !planted(Bug::WatermarkIgnored));

        let (errands_tx, errands) = unbounded_channel();
        let spares = Spares::new(host.clone(), &dir, options.segment_bytes, options.spares, errands_tx);
        let spares = Arc::new(spares);
        spares.adopt(&found.spares).await?;
        let table = Arc::new(Table::new(host.disk.clone(), &dir, store, cipher.clone()));
        let ground =
            Ground { host: host.clone(), dir: dir.clone(), store, cipher, options, spares: spares.clone() };

        let reached = watermark.as_ref().map(|watermark| watermark.reached);
        let recovered = match found.segments.last() {
            Some(newest) => {
                let recovery = Recovery::new(&ground, &table, visit, found.segments.clone());
                recovery.run(*newest, reached).await?
            }
            None if watermark.is_some() => {
                return Err(Error::damaged(SegmentNo(0), 0, "a watermark is there, but no segment (J7)"));
            }
            None => Recovered::fresh(first_segment(&ground).await?, &ground.options),
        };
        let Recovered { active, sticky, torn_bytes_cut, damaged } = recovered;
        let segment = table.insert(active.closed(), false, Some(active.reader()));
        for number in &found.segments {
            if table.get(*number).is_none() {
                // No base names it: released before the last process ended, or idle all its life.
                table.insert(crate::base::Closed::empty(*number), true, None);
                table.release(*number, &spares.errands);
            }
        }

        let opened = Opened {
            checkpoint: sticky.list(),
            watermark: watermark.map(|watermark| watermark.sticky),
            torn_bytes_cut,
            fresh: found.segments.is_empty(),
            damaged,
        };
        let stats = Arc::new(Stats::new(&dir));
        let (room_bytes, on_damage) = (ground.options.queue_bytes, ground.options.on_damage);
        let (requests, receiver) = unbounded_channel();
        let writer = Writer {
            ground,
            table: table.clone(),
            stats: stats.clone(),
            requests: receiver,
            active,
            segment,
            sticky,
            work: Work::default(),
        };
        // A roll as any other: the watermark follows it (J7).
        writer.write_watermark().await;
        let keeper = guarded(&host, "journal keeper", spares.keep(errands));
        let writer = guarded(&host, "journal writer", writer.run());
        let room = Arc::new(Semaphore::new(usize::try_from(room_bytes).unwrap_or(usize::MAX >> 4)));
        let journal = Journal {
            dir,
            table,
            stats,
            requests,
            room,
            room_bytes,
            on_damage,
            _writer: writer,
            _keeper: keeper,
        };
        Ok((journal, opened))
    }

    /// Waits for room in the queue, then enqueues `records`: the order of submits is the
    /// order on disk. The result resolves once they are durable; in order.
    ///
    /// Errors: `Refused` (kind or tag), `TooLarge`: nothing is enqueued; `Stopped`.
    /// Cancellation: while it waits for room nothing is enqueued; afterwards all is.
    pub async fn submit(&self, records: Vec<Record>) -> Result<Pending, Error> {
        self.enqueue(records, false).await
    }

    /// As [`Journal::submit`], but the result resolves only once a later durable record has
    /// claimed these (J3): then no single flipped bit can make them look torn.
    pub async fn submit_claimed(&self, records: Vec<Record>) -> Result<Pending, Error> {
        self.enqueue(records, true).await
    }

    async fn enqueue(&self, records: Vec<Record>, claimed: bool) -> Result<Pending, Error> {
        let mut bytes = 0;
        let mut checked = Vec::with_capacity(records.len());
        for record in records {
            bytes += check(&record)?;
            let raw_crc = match &record.body {
                Body::Seal(_) => 0,
                Body::Raw(parts) => crc32c(parts.iter().map(|part| &part[..])),
            };
            checked.push(Checked { record, raw_crc });
        }
        // More than the queue holds passes alone.
        let permits = u32::try_from(bytes.min(self.room_bytes)).unwrap_or(u32::MAX);
        let room = self.room.clone().acquire_many_owned(permits).await.map_err(|_| self.stopped())?;
        let (tx, done) = oneshot::channel();
        let append = Append { records: checked, claimed, done: tx, _room: room };
        self.requests.send(Request::Append(append)).map_err(|_| self.stopped())?;
        Ok(Pending { done, dir: self.dir.clone() })
    }

    /// Tag and whole body of the record at `place`: checksum verified, opened if sealed.
    ///
    /// Errors: `Released`: look the place up again; `Damaged`; `Io`.
    pub async fn read(&self, place: Place) -> Result<(Bytes, Bytes), Error> {
        self.table.read(place).await
    }

    /// `len` bytes at `offset` of the stored body at `place`, **unverified**: for raw bodies
    /// whose reader has checksums of its own.
    pub async fn read_range(&self, place: Place, offset: u32, len: u32) -> Result<Bytes, Error> {
        self.table.read_range(place, offset, len).await
    }

    /// Visits the tags of one live segment, oldest first; bodies are `None`.
    ///
    /// Returns what is damaged there: with `OnDamage::Fail` the first bad record is an
    /// error instead. Records that are not durable yet are not visited.
    pub async fn scan(
        &self,
        number: SegmentNo,
        visit: &mut (dyn FnMut(Replayed) -> Result<(), Error> + Send),
    ) -> Result<Vec<Damage>, Error> {
        let segment = self.table.get(number).ok_or(Error::Released { segment: number })?;
        let reader = self.table.reader(&segment).await?;
        let end = segment.extent().0.end;
        let mut walk = Walk::new(reader.file.clone(), reader.life, HEADER_BYTES, 0, end);
        let mut damaged = Vec::new();
        loop {
            match walk.next().await? {
                Step::End => return Ok(damaged),
                Step::Bad(why) if self.on_damage == OnDamage::Fail => {
                    return Err(Error::damaged(number, walk.at(), why));
                }
                Step::Bad(why) => {
                    let len = walk.skip_bad().await?;
                    let offset = walk.at() - len;
                    damaged.push(Damage { segment: number, offset, len, why: why.into() });
                }
                Step::Record(found) if found.header.is_history() => {
                    let place = found.header.place(number, found.offset);
                    visit(Replayed { place, kind: found.header.kind, tag: found.tag, body: None })?;
                }
                Step::Record(_) => {}
            }
        }
    }

    /// Reads a live segment again, its header and every record that is durable, and holds it against its checksums
    /// (I4). Raw bodies are left out if their reader has checksums of its own. Returns how many bytes were read.
    ///
    /// Errors: `Damaged` at the first byte that is wrong; `Released`; `Io`.
    pub async fn verify(&self, number: SegmentNo, raw: RawBodies) -> Result<u64, Error> {
        // Held to the end: its file is not recycled under this read.
        let segment = self.table.get(number).ok_or(Error::Released { segment: number })?;
        self.table.verify(number, segment.extent().0.end, raw).await
    }

    /// Reads the watermark again (J7). One that is damaged is mended by the next [`Journal::roll`].
    ///
    /// Errors: `Damaged`, `Io`.
    pub async fn verify_watermark(&self) -> Result<(), Error> {
        self.table.verify_watermark().await
    }

    /// Number of the segment that is written to.
    pub fn newest(&self) -> SegmentNo {
        self.table.newest()
    }

    /// Frees whole segments: durably noted first, their files recycled once unread. The
    /// caller promises that what he needs of them is durable elsewhere (J5).
    ///
    /// Errors: `Refused` (order, or the newest segment); `Io` (full), nothing is released.
    /// Cancellation: goes on if dropped.
    pub async fn release(&self, what: Release) -> Result<(), Error> {
        let what = match what {
            Release::Before(number) => SegmentsToRelease::Before(number),
            Release::Segment(number) => SegmentsToRelease::One(number),
        };
        let (tx, done) = oneshot::channel();
        self.requests.send(Request::Release(what, tx)).map_err(|_| self.stopped())?;
        done.await.map_err(|_| self.stopped())?
    }

    /// Seals the segment being written and begins the next: for a store that wants to clean
    /// what it has just written. Returns the number of the new one.
    pub async fn roll(&self) -> Result<SegmentNo, Error> {
        let (tx, done) = oneshot::channel();
        self.requests.send(Request::Roll(tx)).map_err(|_| self.stopped())?;
        done.await.map_err(|_| self.stopped())
    }

    /// The live segments, ascending.
    pub fn segments(&self) -> Vec<SegmentInfo> {
        let infos = self.table.all().into_iter().map(|segment| {
            let (extent, sealed) = segment.extent();
            SegmentInfo {
                number: extent.number,
                sealed,
                bytes: extent.end,
                first: HEADER_BYTES,
                end: extent.end,
                records: extent.history,
            }
        });
        infos.collect()
    }

    /// Whether the writer waits for room on the device (J6).
    pub fn stalled(&self) -> bool {
        self.stats.stalled()
    }

    /// What has been done since `open`.
    pub fn counters(&self) -> Counters {
        self.stats.counters()
    }

    /// Writes what is enqueued, its claim and the watermark (J7), and ends the journal.
    pub async fn close(self) -> Result<(), Error> {
        self.stop().await
    }

    /// As [`Journal::close`], for a shared handle; later calls answer `Stopped`.
    pub async fn stop(&self) -> Result<(), Error> {
        self.room.close();
        let (tx, done) = oneshot::channel();
        self.requests.send(Request::Close(tx)).map_err(|_| self.stopped())?;
        done.await.map_err(|_| self.stopped())
    }

    fn stopped(&self) -> Error {
        Error::Stopped { dir: self.dir.clone() }
    }
}

/// Holds a record against the interface's limits; returns the bytes it takes at most.
fn check(record: &Record) -> Result<u64, Error> {
    if !(1..=127).contains(&record.kind) {
        return Err(Error::refused(format!("a record of kind {}: callers have 1 to 127", record.kind)));
    }
    if record.tag.len() > MAX_TAG_BYTES {
        return Err(Error::refused(format!(
            "a tag of {} bytes: the limit is {MAX_TAG_BYTES}",
            record.tag.len()
        )));
    }
    let bytes = stored_len(record.tag.len(), record.body.len() + OVERHEAD_MAX);
    if bytes > MAX_RECORD_BYTES {
        let limit = MAX_RECORD_BYTES - OVERHEAD_MAX - HEADER as u64;
        return Err(Error::TooLarge { bytes: record.tag.len() as u64 + record.body.len(), limit });
    }
    Ok(bytes)
}

/// Runs a task whose panic ends the process: nobody would write any more.
fn guarded(host: &Host, name: &'static str, task: impl Future<Output = ()> + Send + 'static) -> Task {
    let fate = host.fate.clone();
    let watched = async move {
        if AssertUnwindSafe(task).catch_unwind().await.is_err() {
            match fate.abort(&format!("I1: the {name} panicked; its log line says why")).await {}
        }
    };
    host.tasks.spawn(name, Box::pin(watched))
}

async fn first_segment(ground: &Ground) -> Result<Active, Error> {
    let claim = Position::default();
    let plan =
        Plan { number: SegmentNo(1), boot: 1, claim, live: Vec::new(), sticky: &[], tail: &[], need: 0 };
    Ok(ground.begin(plan).await?.0)
}

impl Recovered {
    fn fresh(active: Active, options: &Options) -> Recovered {
        Recovered { active, sticky: Stickies::new(&options.sticky), torn_bytes_cut: 0, damaged: Vec::new() }
    }
}

/// What lies in a journal's directory.
struct Directory {
    segments: BTreeSet<SegmentNo>,
    spares: Vec<String>,
    unfinished: Vec<String>,
}

impl Directory {
    async fn list(host: &Host, dir: &Path) -> Result<Directory, Error> {
        let mut found = Directory { segments: BTreeSet::new(), spares: Vec::new(), unfinished: Vec::new() };
        for name in host.disk.list(dir).await? {
            match Name::parse(&name) {
                Name::Segment(number) => drop(found.segments.insert(number)),
                Name::Spare => found.spares.push(name),
                Name::Unfinished => found.unfinished.push(name),
                Name::Other => {}
            }
        }
        Ok(found)
    }
}
