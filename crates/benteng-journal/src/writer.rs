//! The one task that writes (J1): batch, write, one fsync, completions in order. Records
//! that come while a batch is on its way to the disk form the next one.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use benteng_host::planted::{Bug, planted, planted_one_in};
use benteng_host::{Mono, WriteSyncError, probe, sleep};
use bytes::Bytes;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use crate::base::{Closed, encode_release};
use crate::begin::{Active, Ground, Plan};
use crate::encode::Stored;
use crate::error::Error;
use crate::fatal::must;
use crate::options::{Carry, Options, ReleaseOrder};
use crate::record::{Body, Place, Position, Record, SegmentNo, own};
use crate::stats::Stats;
use crate::sticky::{Stickies, joined};
use crate::table::{Segment, Table};
use crate::watermark::{self, Watermark};

/// How often a writer without room asks again.
const STALL_MIN: Duration = Duration::from_millis(10);
const STALL_MAX: Duration = Duration::from_secs(1);
/// Segments that one release record names at most: it must fit the control room.
const RELEASED_PER_RECORD: usize = 64;

/// What the writer is asked.
pub(crate) enum Request {
    Append(Append),
    Release(SegmentsToRelease, oneshot::Sender<Result<(), Error>>),
    Roll(oneshot::Sender<SegmentNo>),
    Close(oneshot::Sender<()>),
}

/// Which segments a caller no longer needs.
pub(crate) enum SegmentsToRelease {
    Before(SegmentNo),
    One(SegmentNo),
}

/// Submitted records.
pub(crate) struct Append {
    pub(crate) records: Vec<Checked>,
    /// Whether they complete only once claimed (J3), not already once durable.
    pub(crate) claimed: bool,
    pub(crate) done: oneshot::Sender<Result<Vec<Place>, Error>>,
    /// Their room in the queue, held until they are durable.
    pub(crate) _room: OwnedSemaphorePermit,
}

/// A record whose limits hold, with the checksum of its raw body.
pub(crate) struct Checked {
    pub(crate) record: Record,
    pub(crate) raw_crc: u32,
}

impl Checked {
    fn stored(&self) -> Stored<'_> {
        match &self.record.body {
            Body::Seal(plain) => Stored::Seal(plain),
            Body::Raw(parts) => Stored::Raw(parts, self.raw_crc),
        }
    }
}

struct InFlight {
    append: Append,
    places: Vec<Place>,
    /// Behind its last record, once all are encoded.
    end: Position,
}

impl InFlight {
    fn finish(self) {
        // The caller may have gone: the records stay.
        let _ = self.append.done.send(Ok(self.places));
    }
}

pub(crate) struct Writer {
    pub(crate) ground: Ground,
    pub(crate) table: Arc<Table>,
    pub(crate) stats: Arc<Stats>,
    pub(crate) requests: UnboundedReceiver<Request>,
    pub(crate) active: Active,
    pub(crate) segment: Arc<Segment>,
    pub(crate) sticky: Stickies,
    pub(crate) work: Work,
}

/// What waits.
#[derive(Default)]
pub(crate) struct Work {
    backlog: VecDeque<InFlight>,
    releases: Vec<(SegmentsToRelease, oneshot::Sender<Result<(), Error>>)>,
    /// Durable, and completed by the claim that comes next.
    unclaimed: VecDeque<InFlight>,
    /// Whether durable records are not claimed yet, and when they must be.
    claim_due: Option<Mono>,
    rolls: Vec<oneshot::Sender<SegmentNo>>,
    closing: Vec<oneshot::Sender<()>>,
    /// All handles are gone.
    abandoned: bool,
}

enum Wake {
    Request,
    ClaimDue,
}

impl Writer {
    /// Runs until closed.
    pub(crate) async fn run(mut self) {
        loop {
            self.take_requests();
            if !self.work.releases.is_empty() {
                self.release().await;
            } else if !self.work.backlog.is_empty() {
                self.append().await;
            } else if !self.work.rolls.is_empty() {
                self.roll(0).await;
                let number = self.active.number;
                for done in self.work.rolls.drain(..) {
                    let _ = done.send(number);
                }
            } else if !self.work.unclaimed.is_empty() {
                // Somebody waits for the claim (a vote): it follows at once.
                self.claim().await;
            } else if !self.work.closing.is_empty() || self.work.abandoned {
                return self.close().await;
            } else if let Wake::ClaimDue = self.wait().await {
                probe("journal_idle_claim");
                self.claim().await;
            }
        }
    }

    fn take(&mut self, request: Request) {
        match request {
            Request::Append(append) => {
                let end = self.active.position();
                self.work.backlog.push_back(InFlight { append, places: Vec::new(), end });
            }
            Request::Release(what, done) => self.work.releases.push((what, done)),
            Request::Roll(done) => self.work.rolls.push(done),
            Request::Close(done) => self.work.closing.push(done),
        }
    }

    fn take_requests(&mut self) {
        while let Ok(request) = self.requests.try_recv() {
            self.take(request);
        }
    }

    async fn wait(&mut self) -> Wake {
        let requests = &mut self.requests;
        let clock = &self.ground.host.clock;
        let mut alarm = self.work.claim_due.map(|at| clock.sleep_until(at));
        let woken = poll_fn(|cx| {
            if let Poll::Ready(request) = requests.poll_recv(cx) {
                return Poll::Ready(Some(request));
            }
            match alarm.as_mut().map(|alarm| alarm.as_mut().poll(cx)) {
                Some(Poll::Ready(())) => Poll::Ready(None),
                _ => Poll::Pending,
            }
        })
        .await;
        match woken {
            Some(Some(request)) => self.take(request),
            Some(None) => self.work.abandoned = true,
            None => return Wake::ClaimDue,
        }
        Wake::Request
    }

    /// Writes one batch from the backlog, or begins a new segment if nothing fits.
    async fn append(&mut self) {
        let claim = self.active.position();
        let mut encoder = self.active.encoder(claim);
        let start = encoder.offset;
        let (mut records, mut whole) = (0_u64, 0_usize);
        let (mut noted, mut too_large) = (Vec::new(), None);
        'batch: for flying in &mut self.work.backlog {
            while let Some(next) = flying.append.records.get(flying.places.len()) {
                let (record, body) = (&next.record, next.stored());
                let bytes = encoder.measure(&record.tag, &body);
                if encoder.offset + bytes + Options::CONTROL_BYTES > self.active.limit {
                    too_large = Some(bytes);
                    break 'batch;
                }
                if records > 0 && encoder.offset - start + bytes > self.ground.options.batch_bytes {
                    break 'batch;
                }
                flying.places.push(encoder.push(record.kind, 0, &record.tag, &body));
                if let Some(what) = self.sticky.carry(record.kind) {
                    noted.push((record.kind, record.tag.clone(), carried(what, &record.body)));
                }
                records += 1;
            }
            flying.end = Position { segment: self.active.number, offset: encoder.offset };
            whole += 1;
        }
        let (parts, next) = encoder.finish();
        if records > 0 {
            self.active.history += records;
            self.write(parts, next).await;
            self.stats.wrote(next.0 - start, records);
            noted.into_iter().for_each(|(kind, tag, body)| self.sticky.note(kind, tag, body));
            self.complete_claimed(claim);
        } else if let (0, Some(bytes)) = (whole, too_large) {
            self.roll(bytes).await;
        }
        for flying in self.work.backlog.drain(..whole) {
            if flying.append.claimed && !planted(Bug::ClaimOmitted) {
                self.work.unclaimed.push_back(flying);
            } else {
                flying.finish();
            }
        }
    }

    /// Completes what waited for a claim up to `claim`.
    fn complete_claimed(&mut self, claim: Position) {
        while self.work.unclaimed.front().is_some_and(|flying| flying.end <= claim)
            && let Some(flying) = self.work.unclaimed.pop_front()
        {
            flying.finish();
        }
    }

    /// Writes behind the last record and syncs; `next` is where the records end.
    async fn write(&mut self, parts: Vec<Bytes>, next: (u64, u64)) {
        let mut wait = STALL_MIN;
        // The very same bytes at the same place until there is room: another batch under
        // the same record numbers would put two plaintexts under one nonce (K1).
        let mut began = self.ground.host.clock.now();
        loop {
            match self.write_and_sync(parts.clone()).await {
                Ok(()) => break,
                Err(WriteSyncError::Write(e)) if e.is_full() => self.stall(&mut wait).await,
                Err(WriteSyncError::Write(e) | WriteSyncError::Sync(e)) => {
                    must::<()>(&self.ground.host, Err(e)).await;
                }
            }
            began = self.ground.host.clock.now();
        }
        self.stats.set_stalled(false);
        self.stats.synced(self.ground.host.clock.now().since(began));
        self.active.next = next;
        self.segment.set_extent(self.active.closed(), false);
        let due = self.ground.host.clock.now() + self.ground.options.claim_after;
        self.work.claim_due = (!planted(Bug::ClaimOmitted)).then_some(due);
    }

    /// One batch to the disk.
    async fn write_and_sync(&self, parts: Vec<Bytes>) -> Result<(), WriteSyncError> {
        let (file, at) = (&self.active.file, self.active.next.0);
        let early = planted(Bug::LateJoinersAcknowledged) && file.sync_data().await.is_ok();
        if early || planted(Bug::FsyncSkipped) || planted_one_in(Bug::FsyncSkippedOneInTen, 10) {
            return file.write_at(at, parts).await.map_err(WriteSyncError::Write);
        }
        match file.write_sync(at, parts).await {
            Err(WriteSyncError::Sync(_)) if planted(Bug::FailedSyncRetried) => {
                file.sync_data().await.map_err(WriteSyncError::Sync)
            }
            done => done,
        }
    }

    /// Waits for room (J6), a little longer each time.
    async fn stall(&self, wait: &mut Duration) {
        self.stats.set_stalled(true);
        probe("journal_waits_for_room");
        sleep(&*self.ground.host.clock, *wait).await;
        *wait = (*wait * 2).min(STALL_MAX);
    }

    /// Claims everything durable by an empty record (J3).
    async fn claim(&mut self) {
        let encoder = self.active.encoder(self.active.position());
        if encoder.offset + encoder.measure(&[], &Stored::Empty) > self.active.limit {
            // No room even for that: the next segment's base claims as well.
            return self.roll(0).await;
        }
        self.write_claim().await;
    }

    async fn write_claim(&mut self) {
        let claim = self.active.position();
        let mut encoder = self.active.encoder(claim);
        encoder.push(own::CLAIM, 0, &[], &Stored::Empty);
        let (parts, next) = encoder.finish();
        self.write(parts, next).await;
        self.stats.wrote(next.0 - claim.offset, 0);
        self.stats.claimed();
        // The claim itself needs none: losing it loses nothing.
        self.work.claim_due = None;
        self.complete_claimed(claim);
    }

    /// Begins the next segment, with room for a record of `need` bytes. Waits for room;
    /// meanwhile segments can be released, which makes room.
    async fn roll(&mut self, need: u64) {
        let (mut wait, closed) = (STALL_MIN, self.active.closed());
        loop {
            let live: Vec<Closed> = self
                .table
                .all()
                .iter()
                .map(|segment| segment.extent().0)
                .map(|extent| if extent.number == closed.number { self.active.closed() } else { extent })
                // A segment without records of callers is needed by nobody.
                .filter(|extent| extent.history > 0)
                .collect();
            let sticky = self.sticky.list();
            let plan = Plan {
                number: SegmentNo(self.active.number.0 + 1),
                boot: self.active.boot,
                claim: self.active.position(),
                live,
                sticky: &sticky,
                tail: &[],
                need,
            };
            match self.ground.begin(plan).await {
                Ok((active, _)) => {
                    self.stats.set_stalled(false);
                    break self.switch(active);
                }
                Err(full) if planted(Bug::FullIsFatal) => must(&self.ground.host, Err(full)).await,
                Err(_full) => self.stall(&mut wait).await,
            }
            self.take_requests();
            if !self.work.releases.is_empty() {
                probe("journal_released_while_stalled");
                self.release().await;
            }
        }
        self.stats.rolled();
        self.write_watermark().await;
        // The new base claims the whole of the old segment.
        self.complete_claimed(self.active.position());
        self.work.claim_due = None;
    }

    fn switch(&mut self, active: Active) {
        let old = std::mem::replace(&mut self.active, active);
        self.segment.set_extent(old.closed(), true);
        if old.history == 0 {
            self.table.release(old.number, &self.ground.spares.errands);
        }
        self.segment = self.table.insert(self.active.closed(), false, Some(self.active.reader()));
    }

    /// Notes outside the log how far it surely reached (J7).
    pub(crate) async fn write_watermark(&self) {
        let ground = &self.ground;
        let salt = benteng_host::random_array(&*ground.host.random);
        let watermark = Watermark { reached: self.active.position(), sticky: self.sticky.list() };
        let bytes = watermark.encode(ground.store, salt, &*ground.cipher);
        match watermark::store(&*ground.host.disk, &ground.dir, bytes).await {
            // The older one still says something true; waiting here would hold up a log that has room.
            Err(e) if e.is_full() => probe("journal_watermark_finds_no_room"),
            result => must(&ground.host, result).await,
        }
    }

    /// Releases segments: a record first, and its claim; only then their files go (J5).
    async fn release(&mut self) {
        let wanted = std::mem::take(&mut self.work.releases);
        let mut released: Vec<SegmentNo> = Vec::new();
        let mut answers = Vec::new();
        for (what, done) in wanted {
            let answer = self.releasable(&what).map(|numbers| released.extend(numbers));
            answers.push((answer, done));
        }
        released.sort_unstable();
        released.dedup();
        for numbers in released.chunks(RELEASED_PER_RECORD) {
            if !self.write_release(numbers).await {
                let busy = || Error::Io(no_room(&self.ground));
                answers.iter_mut().for_each(|(answer, _)| *answer = Err(busy()));
                break;
            }
            numbers.iter().for_each(|number| self.table.release(*number, &self.ground.spares.errands));
        }
        for (answer, done) in answers {
            let _ = done.send(answer);
        }
    }

    fn releasable(&self, what: &SegmentsToRelease) -> Result<Vec<SegmentNo>, Error> {
        let active = self.active.number;
        match (*what).number() {
            number if number > active => {
                Err(Error::refused(format!("to release up to segment {number}: the newest is {active}")))
            }
            number => match (what, self.ground.options.release) {
                (SegmentsToRelease::Before(_), _) => {
                    Ok(self.table.all().iter().map(|s| s.number).filter(|n| *n < number).collect())
                }
                (SegmentsToRelease::One(_), ReleaseOrder::OldestFirst) => Err(Error::refused(format!(
                    "to release segment {number} alone: the oldest go first (J5)"
                ))),
                (SegmentsToRelease::One(_), ReleaseOrder::Any) if number == active => {
                    Err(Error::refused(format!("to release segment {number}: it is still written to")))
                }
                // One that is gone already was released before.
                (SegmentsToRelease::One(_), ReleaseOrder::Any) => {
                    Ok(self.table.get(number).map(|s| s.number).into_iter().collect())
                }
            },
        }
    }

    /// Whether the release is durable and claimed; `false`: no room for its record.
    async fn write_release(&mut self, numbers: &[SegmentNo]) -> bool {
        let body = encode_release(numbers);
        let claim = self.active.position();
        let mut encoder = self.active.encoder(claim);
        let room = encoder.measure(&[], &Stored::Seal(&body)) + encoder.measure(&[], &Stored::Empty);
        if encoder.offset + room > self.active.limit {
            return false;
        }
        encoder.push(own::RELEASE, 0, &[], &Stored::Seal(&body));
        let (parts, next) = encoder.finish();
        self.write(parts, next).await;
        self.stats.wrote(next.0 - claim.offset, 0);
        self.complete_claimed(claim);
        self.write_claim().await;
        true
    }

    /// A clean stop: claim, watermark, answer.
    async fn close(mut self) {
        if self.work.claim_due.is_some() {
            self.claim().await;
        }
        self.write_watermark().await;
        for done in self.work.closing {
            let _ = done.send(());
        }
    }
}

impl SegmentsToRelease {
    fn number(&self) -> SegmentNo {
        match self {
            SegmentsToRelease::Before(number) | SegmentsToRelease::One(number) => *number,
        }
    }
}

/// What a checkpoint carries of a body.
fn carried(what: Carry, body: &Body) -> Option<Bytes> {
    match (what, body) {
        (Carry::TagOnly, _) => None,
        (Carry::Whole, Body::Seal(plain)) => Some(plain.clone()),
        (Carry::Whole, Body::Raw(parts)) => Some(joined(parts)),
    }
}

fn no_room(ground: &Ground) -> benteng_host::Error {
    let full = std::io::Error::from(std::io::ErrorKind::StorageFull);
    benteng_host::Error::new("release", ground.dir.display(), full)
}
