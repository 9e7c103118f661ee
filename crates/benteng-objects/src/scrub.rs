//! Reads every stored byte again within its time, or now if somebody asks for it (I4): the chunks, the Raft log, the
//! ordered store. Chunks that fail their checksums are queued for repair; log and store are mended by the group
//! (`benteng_consensus`). Where a pass stands outlives the process.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use benteng_consensus::GroupStatus;
use benteng_host::{probe, sleep};
use benteng_meta::codec::{self, Versioned};
use benteng_meta::ids::*;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

use crate::copy::CopyError;
use crate::core::Core;
use crate::heal;
use crate::loops::alive;
use crate::wire::ScrubReport;

/// Between two slices, unless somebody asked for a pass now.
const PAUSE: Duration = Duration::from_secs(10);
/// Least bytes of a slice: one chunk.
const SLICE_MIN: u64 = 5 << 20;
/// Log and store are small beside the chunks and are read again so many times within the period at most.
const LOG_PASSES: i64 = 4;
/// Where a pass is kept beside the store's index.
const NOTE: &str = "scrub";

/// What a pass reads now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
enum Part {
    /// Chunks, in the order of their ids.
    #[default]
    Chunks,
    /// What stands around them in their segments, behind the one of this number.
    Segments(u64),
    /// The log, behind the segment of this number.
    Log(u64),
    /// The ordered store.
    Store,
}

/// Where scrubbing stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Pass {
    /// Full passes that have ended.
    ended: u64,
    /// What is read now.
    part: Part,
    /// The last chunk that was read.
    after: Option<ChunkId>,
    /// When the pass under way began.
    started: Option<SiteTime>,
    /// Bytes that it has read.
    bytes: u64,
    /// When the last full pass ended.
    last_ended: Option<SiteTime>,
    /// When log and store were read to their ends.
    log_ended: Option<SiteTime>,
    /// Chunks found damaged by any pass.
    found: u64,
    /// Damaged chunks whose place a good copy has taken.
    mended: u64,
    /// Segments of chunks found damaged around their chunks by any pass.
    segments_found: u64,
    /// Segments of the log found damaged by any pass.
    log_found: u64,
    /// Whether somebody asked for this pass: it goes at the full rate.
    asked: bool,
}
impl Versioned for Pass {
    const WHAT: &'static str = "scrub pass";
    const VERSION: u8 = 2;
}

impl Pass {
    /// Goes on behind the last chunk.
    fn chunks_ended(&mut self, now: SiteTime, period: Duration) {
        let pause = i64::try_from(period.as_micros()).unwrap_or(i64::MAX) / LOG_PASSES;
        let due = self.log_ended.is_none_or(|at| at.0.saturating_add(pause) <= now.0);
        if self.asked || due {
            self.part = Part::Segments(0);
        } else {
            self.end(now);
        }
    }

    fn end(&mut self, now: SiteTime) {
        let kept = Pass { ended: self.ended + 1, last_ended: Some(now), ..*self };
        *self = Pass { part: Part::Chunks, after: None, started: None, bytes: 0, asked: false, ..kept };
        probe("scrub_pass_ended");
    }
}

#[cfg(debug_assertions)]
impl Pass {
    /// One with a value of its own in every field.
    pub(crate) fn sample(after: ChunkId) -> Pass {
        Pass {
            ended: 1,
            part: Part::Segments(9),
            after: Some(after),
            started: Some(SiteTime(2)),
            bytes: 3,
            last_ended: Some(SiteTime(4)),
            log_ended: Some(SiteTime(7)),
            found: 5,
            mended: 6,
            segments_found: 8,
            log_found: 10,
            asked: true,
        }
    }
}

/// The scrubbing of one node.
#[derive(Default)]
pub(crate) struct Scrubbing {
    pass: Mutex<Pass>,
    /// The key of the ordered store that was read last.
    store_after: Mutex<Option<Bytes>>,
    /// Grows with each pass that is asked for: a slice of an older one does not count any more.
    asked: AtomicU64,
    wake: Notify,
}

impl Scrubbing {
    fn pass(&self) -> Pass {
        *self.pass.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change<T>(&self, change: impl FnOnce(&mut Pass) -> T) -> T {
        change(&mut self.pass.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Begins a full pass now. Returns how many passes will have ended with it.
    pub(crate) fn begin(&self, now: SiteTime) -> u64 {
        let number = self.change(|pass| {
            let (part, after) = (Part::Chunks, None);
            *pass = Pass { part, after, started: Some(now), bytes: 0, asked: true, ..*pass };
            self.asked.fetch_add(1, Ordering::Relaxed);
            pass.ended + 1
        });
        self.wake.notify_one();
        number
    }

    /// A good copy has taken the place of a damaged one.
    pub(crate) fn mended(&self) {
        self.change(|pass| pass.mended += 1);
    }

    /// As other nodes see it. `chunks`: bytes of the chunks that a pass reads, beside the log.
    pub(crate) fn report(&self, chunks: u64, group: &GroupStatus) -> ScrubReport {
        let Pass {
            ended, started, bytes, last_ended, found, mended, segments_found, log_found, asked, ..
        } = self.pass();
        let total = chunks.saturating_add(group.log_bytes);
        ScrubReport {
            ended,
            started,
            bytes: bytes.min(total),
            total,
            last_ended,
            found,
            mended,
            asked,
            segments_found,
            log_found,
            log_damaged: group.log_damaged,
            log_mended: group.log_mended,
            store_given_up: group.store_given_up,
        }
    }
}

/// Scrubs for ever.
pub(crate) async fn run(core: Arc<Core>) {
    alive(&core).await;
    recall(&core);
    loop {
        let (budget, pause) = pace(&core);
        if core.scrubbing.pass().asked {
            sleep(&*core.host.clock, pause).await;
        } else {
            tokio::select! {
                biased;
                () = core.scrubbing.wake.notified() => continue,
                () = sleep(&*core.host.clock, pause) => {}
            }
        }
        if let Err(e) = slice(&core, budget).await {
            tracing::warn!(error = %e, "a slice of the scrub failed; it goes on");
            // The index of the chunks lies in the ordered store: damage there must not hide behind its own errors.
            if let Err(e) = read_store(&core, budget).await {
                tracing::warn!(error = %e, "the ordered store does not read either");
            }
        }
        loop {
            match core.copies.disk().clean().await {
                Ok(true) => {}
                Ok(false) => break,
                Err(e) => {
                    tracing::warn!(error = %e, "room of removed chunks is not given back now");
                    break;
                }
            }
        }
    }
}

/// Goes on where an earlier process was.
fn recall(core: &Core) {
    match core.copies.disk().note(NOTE) {
        Ok(Some(note)) => match codec::decode::<Pass>(&note) {
            // What was asked for before the process ended is not waited for any more, but done.
            Ok(kept) => core.scrubbing.change(|pass| {
                if !pass.asked {
                    *pass = kept;
                }
            }),
            Err(e) => tracing::warn!(error = %e, "where the scrub stood is not known; it begins anew"),
        },
        Ok(None) => {}
        Err(e) => tracing::warn!(error = %e, "where the scrub stood is not known; it begins anew"),
    }
}

/// Bytes of the next slice, and how long to wait before it.
fn pace(core: &Core) -> (u64, Duration) {
    let whole = core.copies.disk().fill().bytes.saturating_add(core.group.status().log_bytes);
    if core.scrubbing.pass().asked {
        let budget = core.limits.scrub_rate.max(SLICE_MIN).min(whole.max(1));
        let micros = budget.saturating_mul(1_000_000) / core.limits.scrub_rate.max(1);
        return (budget, Duration::from_micros(micros));
    }
    let slices = (core.limits.scrub.as_secs() / PAUSE.as_secs()).max(1);
    ((whole / slices).max(SLICE_MIN), PAUSE)
}

/// What one step has read.
struct Step {
    bytes: u64,
    /// The pass has ended, or another one was asked for.
    over: bool,
}

/// Reads about `budget` bytes, in as many parts of the pass as that takes.
async fn slice(core: &Core, budget: u64) -> Result<(), CopyError> {
    let (asked, mut left) = (core.scrubbing.asked.load(Ordering::Relaxed), budget);
    loop {
        let step = match core.scrubbing.pass().part {
            Part::Chunks => chunks(core, left, asked).await?,
            Part::Segments(after) => segments(core, after, asked).await?,
            Part::Log(after) => log(core, after, asked).await?,
            Part::Store => store(core, left, asked).await?,
        };
        metrics::counter!("benteng_objects_scrubbed_bytes_total").increment(step.bytes);
        left = left.saturating_sub(step.bytes);
        if step.over || left == 0 {
            break;
        }
    }
    core.copies.disk().keep_note(NOTE, codec::encode(&core.scrubbing.pass())).await
}

/// Changes the pass, unless another one was asked for since. Returns how this one goes on.
fn advance(core: &Core, asked: u64, bytes: u64, change: impl FnOnce(&mut Pass)) -> Step {
    core.scrubbing.change(|pass| {
        if core.scrubbing.asked.load(Ordering::Relaxed) != asked {
            return Step { bytes, over: true };
        }
        let before = pass.ended;
        pass.bytes += bytes;
        change(pass);
        Step { bytes, over: pass.ended != before }
    })
}

async fn chunks(core: &Core, budget: u64, asked: u64) -> Result<Step, CopyError> {
    let disk = core.copies.disk();
    let known: BTreeSet<ChunkId> = disk.quarantined().into_iter().collect();
    let after = core.scrubbing.pass().after;
    let done = disk.scrub(after, budget).await?;
    let now = core.group.site_time();
    let new = done.corrupt.iter().filter(|chunk| !known.contains(chunk)).count();
    // The store keeps apart what it found now and before.
    for chunk in heal::to_mend(core) {
        probe("scrub_found_damage");
        core.findings.add(core.me, chunk);
    }
    let found = u64::try_from(new).unwrap_or(u64::MAX);
    metrics::counter!("benteng_objects_scrub_found_total").increment(found);
    core.scrubbing.change(|pass| pass.found += found);
    Ok(advance(core, asked, done.bytes, |pass| {
        pass.started.get_or_insert(now);
        pass.after = done.next;
        if done.next.is_none() {
            pass.chunks_ended(now, core.limits.scrub);
        }
    }))
}

async fn segments(core: &Core, after: u64, asked: u64) -> Result<Step, CopyError> {
    let done = core.copies.disk().scrub_segment(after).await?;
    let found = u64::from(done.damaged);
    metrics::counter!("benteng_objects_scrub_segments_found_total").increment(found);
    core.scrubbing.change(|pass| pass.segments_found += found);
    Ok(advance(core, asked, done.bytes, |pass| {
        pass.part = done.segment.map_or(Part::Log(0), Part::Segments);
    }))
}

async fn log(core: &Core, after: u64, asked: u64) -> Result<Step, CopyError> {
    let read = core.group.scrub_log(after).await;
    let done = read.map_err(|e| CopyError::Failed(e.to_string()))?;
    let found = u64::from(done.damaged);
    metrics::counter!("benteng_raft_log_scrub_found_total").increment(found);
    core.scrubbing.change(|pass| pass.log_found += found);
    Ok(advance(core, asked, done.bytes, |pass| pass.part = done.segment.map_or(Part::Store, Part::Log)))
}

/// Reads the next stretch of the ordered store. Returns its bytes, and whether its end was reached.
async fn read_store(core: &Core, budget: u64) -> Result<(u64, bool), CopyError> {
    let position = || core.scrubbing.store_after.lock().unwrap_or_else(PoisonError::into_inner);
    let after = position().clone();
    let read = core.group.scrub_store(after, budget).await;
    let done = read.map_err(|e| CopyError::Failed(e.to_string()))?;
    let ended = done.next.is_none();
    *position() = done.next;
    Ok((done.bytes, ended))
}

async fn store(core: &Core, budget: u64, asked: u64) -> Result<Step, CopyError> {
    let (bytes, ended) = read_store(core, budget).await?;
    let now = core.group.site_time();
    Ok(advance(core, asked, bytes, |pass| {
        if ended {
            pass.log_ended = Some(now);
            pass.end(now);
        }
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pass_that_is_asked_for_begins_anew_and_counts_by_itself() {
        let scrubbing = Scrubbing::default();
        let after =
            ChunkId { blob: BlobId::default(), part: PartNumber(1), attempt: Attempt(1), sequence: 1 };
        scrubbing.change(|pass| (pass.ended, pass.after, pass.bytes, pass.found) = (4, Some(after), 70, 2));
        assert_eq!(scrubbing.begin(SiteTime(9)), 5);
        let report = scrubbing.report(100, &GroupStatus::default());
        assert_eq!((report.ended, report.bytes, report.found, report.asked), (4, 0, 2, true));
        assert_eq!(report.started, Some(SiteTime(9)));
        assert_eq!(scrubbing.pass().after, None);
        let kept = codec::encode(&scrubbing.pass());
        assert_eq!(codec::decode::<Pass>(&kept).ok(), Some(scrubbing.pass()), "it outlives the process");
    }

    #[test]
    fn log_and_store_are_read_within_the_period_and_whenever_somebody_asks() {
        let period = Duration::from_secs(400);
        let check = |asked: bool, log_ended: Option<i64>, now: i64, goes_on: bool| {
            let log_ended = log_ended.map(|at| SiteTime(at * 1_000_000));
            let mut pass = Pass { asked, log_ended, ..Pass::default() };
            pass.chunks_ended(SiteTime(now * 1_000_000), period);
            let expected = if goes_on { (Part::Segments(0), 0) } else { (Part::Chunks, 1) };
            assert_eq!((pass.part, pass.ended), expected, "{asked} {log_ended:?} {now}");
        };
        check(false, None, 5, true);
        check(false, Some(10), 109, false);
        check(false, Some(10), 110, true);
        check(true, Some(10), 11, true);
        let mut pass = Pass { log_ended: Some(SiteTime(7)), log_found: 2, found: 3, ..Pass::default() };
        pass.end(SiteTime(9));
        assert_eq!((pass.log_ended, pass.log_found, pass.found), (Some(SiteTime(7)), 2, 3));
    }
}
