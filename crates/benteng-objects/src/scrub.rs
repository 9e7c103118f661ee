//! Reads every stored byte again within its time, or now if somebody asks for it; what fails its
//! checksums is queued for repair (I4). Where a pass stands outlives the process.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use benteng_host::{probe, sleep};
use benteng_meta::codec::{self, Versioned};
use benteng_meta::ids::*;
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

use crate::copy::CopyError;
use crate::core::Core;
use crate::loops::alive;
use crate::wire::ScrubReport;

/// Between two slices, unless somebody asked for a pass now.
const PAUSE: Duration = Duration::from_secs(10);
/// Least bytes of a slice: one chunk.
const SLICE_MIN: u64 = 5 << 20;
/// Where a pass is kept beside the store's index.
const NOTE: &str = "scrub";

/// Where scrubbing stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Pass {
    /// Full passes that have ended.
    ended: u64,
    /// The last chunk that was read.
    after: Option<ChunkId>,
    /// When the pass under way began.
    started: Option<SiteTime>,
    /// Bytes that it has read.
    bytes: u64,
    /// When the last full pass ended.
    last_ended: Option<SiteTime>,
    /// Chunks found damaged by any pass.
    found: u64,
    /// Damaged chunks whose place a good copy has taken.
    mended: u64,
    /// Whether somebody asked for this pass: it goes at the full rate.
    asked: bool,
}
impl Versioned for Pass {
    const WHAT: &'static str = "scrub pass";
}

#[cfg(debug_assertions)]
impl Pass {
    /// One with a value of its own in every field.
    pub(crate) fn sample(after: ChunkId) -> Pass {
        Pass {
            ended: 1,
            after: Some(after),
            started: Some(SiteTime(2)),
            bytes: 3,
            last_ended: Some(SiteTime(4)),
            found: 5,
            mended: 6,
            asked: true,
        }
    }
}

/// The scrubbing of one node.
#[derive(Default)]
pub(crate) struct Scrubbing {
    pass: Mutex<Pass>,
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
            *pass = Pass { after: None, started: Some(now), bytes: 0, asked: true, ..*pass };
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

    /// As other nodes see it. `total`: bytes that a pass reads.
    pub(crate) fn report(&self, total: u64) -> ScrubReport {
        let Pass { ended, started, bytes, last_ended, found, mended, asked, .. } = self.pass();
        ScrubReport { ended, started, bytes: bytes.min(total), total, last_ended, found, mended, asked }
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
    let whole = core.copies.disk().fill().bytes;
    if core.scrubbing.pass().asked {
        let budget = core.limits.scrub_rate.max(SLICE_MIN).min(whole.max(1));
        let micros = budget.saturating_mul(1_000_000) / core.limits.scrub_rate.max(1);
        return (budget, Duration::from_micros(micros));
    }
    let slices = (core.limits.scrub.as_secs() / PAUSE.as_secs()).max(1);
    ((whole / slices).max(SLICE_MIN), PAUSE)
}

async fn slice(core: &Core, budget: u64) -> Result<(), CopyError> {
    let disk = core.copies.disk();
    let known: BTreeSet<ChunkId> = disk.quarantined().into_iter().collect();
    let asked = core.scrubbing.asked.load(Ordering::Relaxed);
    let after = core.scrubbing.pass().after;
    let done = disk.scrub(after, budget).await?;
    let now = core.group.site_time();
    let new = done.corrupt.iter().filter(|chunk| !known.contains(chunk)).count();
    // The store keeps them apart; what it kept apart before counts as well.
    for chunk in done.corrupt.iter().copied().chain(known) {
        probe("scrub_found_damage");
        core.findings.add(core.me, chunk);
    }
    let found = u64::try_from(new).unwrap_or(u64::MAX);
    metrics::counter!("benteng_objects_scrub_found_total").increment(found);
    metrics::counter!("benteng_objects_scrubbed_bytes_total").increment(done.bytes);
    let pass = core.scrubbing.change(|pass| {
        pass.found += found;
        if core.scrubbing.asked.load(Ordering::Relaxed) == asked {
            pass.started.get_or_insert(now);
            pass.bytes += done.bytes;
            pass.after = done.next;
            if done.next.is_none() {
                let Pass { ended, found, mended, .. } = *pass;
                *pass = Pass { ended: ended + 1, last_ended: Some(now), found, mended, ..Pass::default() };
                probe("scrub_pass_ended");
            }
        }
        *pass
    });
    disk.keep_note(NOTE, codec::encode(&pass)).await
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
        let report = scrubbing.report(100);
        assert_eq!((report.ended, report.bytes, report.found, report.asked), (4, 0, 2, true));
        assert_eq!(report.started, Some(SiteTime(9)));
        assert_eq!(scrubbing.pass().after, None);
        let kept = codec::encode(&scrubbing.pass());
        assert_eq!(codec::decode::<Pass>(&kept).ok(), Some(scrubbing.pass()), "it outlives the process");
    }
}
