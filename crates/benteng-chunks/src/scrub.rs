//! Reads every byte again: bit rot is found before the last good copy is gone (I4). Chunks by their ids, and what
//! stands around them in the journal, which only a start would meet, segment by segment.

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::sync::{MutexGuard, PoisonError};

use benteng_host::planted::{Bug, planted};
use benteng_host::probe;
use benteng_journal::{RawBodies, SegmentNo};
use benteng_meta::ids::ChunkId;

use crate::error::Error;
use crate::pipeline::Work;
use crate::store::Store;

/// What one call of [`Store::scrub`] did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scrubbed {
    /// Where to go on; `None`: the end was reached.
    pub next: Option<ChunkId>,
    /// Chunks verified.
    pub chunks: u64,
    /// Bytes read.
    pub bytes: u64,
    /// Corrupt chunks, quarantined now or before.
    pub corrupt: Vec<ChunkId>,
}

/// What one call of [`Store::scrub_segment`] did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SegmentScrubbed {
    /// The segment that was read, to go on behind it; `None`: the end was reached.
    pub segment: Option<u64>,
    /// Bytes read.
    pub bytes: u64,
    /// Whether damage was found that was not known.
    pub damaged: bool,
}

/// Chunks looked up at once.
const PAGE: usize = 64;

impl Store {
    /// Verifies chunks in the order of their ids, from behind `after` on, until about
    /// `budget_bytes` are read (at least one chunk). The caller sets the pace.
    pub async fn scrub(&self, after: Option<ChunkId>, budget_bytes: u64) -> Result<Scrubbed, Error> {
        let mut done = Scrubbed { next: after, ..Scrubbed::default() };
        loop {
            let mut page = Vec::new();
            self.index.list(done.next, &mut |id, live| {
                page.push((id, live.header.frames(), live.header.len));
                if page.len() < PAGE { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
            })?;
            if page.is_empty() {
                done.next = None;
                return Ok(done);
            }
            for (id, frames, len) in page {
                let frames = if planted(Bug::ScrubBlind) { 0..0 } else { 0..frames };
                match self.read(id, frames).await {
                    Ok(_) => {}
                    Err(Error::Corrupt { .. }) => done.corrupt.push(id),
                    // Removed meanwhile.
                    Err(Error::NotFound { .. }) => {}
                    Err(e) => return Err(e),
                }
                done.next = Some(id);
                done.chunks += 1;
                done.bytes += u64::from(len);
                if done.bytes >= budget_bytes {
                    return Ok(done);
                }
            }
        }
    }

    /// Verifies headers, tags and tombstones of the first segment behind number `after`. One that is damaged is
    /// closed and cleaned next: what the index knows of it is written anew elsewhere. Behind the last one, what
    /// lies beside the segments and only a start would read.
    pub async fn scrub_segment(&self, after: u64) -> Result<SegmentScrubbed, Error> {
        let segments = self.journal.segments();
        let Some(segment) = segments.into_iter().find(|segment| segment.number.0 > after) else {
            let damaged = !planted(Bug::ScrubBlind) && self.scrub_beside().await?;
            return Ok(SegmentScrubbed { damaged, ..SegmentScrubbed::default() });
        };
        let number = segment.number;
        let mut done = SegmentScrubbed { segment: Some(number.0), ..SegmentScrubbed::default() };
        if planted(Bug::ScrubBlind) {
            return Ok(done);
        }
        match self.journal.verify(number, RawBodies::PassOver).await {
            Ok(bytes) => done.bytes = bytes,
            // Cleaned meanwhile.
            Err(benteng_journal::Error::Released { .. }) => {}
            Err(benteng_journal::Error::Damaged { offset, why, .. }) => {
                done.bytes = offset;
                done.damaged = self.rotten().insert(number);
                if done.damaged {
                    probe("chunk_segment_damage_found");
                    tracing::error!(
                        segment = number.0,
                        offset,
                        why,
                        "a segment of chunks is damaged; it is cleaned"
                    );
                }
                let (_, _, full) = self.reserve.last();
                if number == self.journal.newest() && !full {
                    self.close_segment().await?;
                }
            }
            Err(e) => return Err(e.into()),
        }
        Ok(done)
    }

    /// Verifies the store's id and the watermark (J7), and writes anew what is damaged: both are known. Says whether
    /// there was damage.
    async fn scrub_beside(&self) -> Result<bool, Error> {
        let mut damaged = false;
        if !self.identity.is_sound().await? {
            damaged = true;
            tracing::error!(store = %self.id().0, "the file with the store's id is damaged; it is written anew");
            self.identity.write().await?;
        }
        match self.journal.verify_watermark().await {
            Ok(()) => {}
            Err(benteng_journal::Error::Damaged { why, .. }) => {
                damaged = true;
                tracing::error!(why, "the watermark of the chunks' journal is damaged; it is written anew");
                let (_, _, full) = self.reserve.last();
                if !full {
                    self.close_segment().await?;
                }
            }
            Err(e) => return Err(e.into()),
        }
        if damaged {
            probe("chunk_store_mended_beside");
        }
        Ok(damaged)
    }

    /// Ends the segment that is written to, so that it can be cleaned.
    async fn close_segment(&self) -> Result<(), Error> {
        let fresh = self.journal.roll().await?;
        // Behind it everything that was submitted before is indexed; what comes later lies in the fresh one.
        self.pipeline.run(Work::Bury(Vec::new())).await?;
        self.index.apply(Vec::new(), fresh, None).await.map(drop)
    }

    fn rotten(&self) -> MutexGuard<'_, BTreeSet<SegmentNo>> {
        self.rotten.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Segments that are damaged and still there.
    pub(crate) fn damaged_segments(&self) -> BTreeSet<SegmentNo> {
        self.rotten().clone()
    }

    pub(crate) fn segment_is_gone(&self, number: SegmentNo) {
        self.rotten().remove(&number);
    }

    /// How many segments are known to be damaged around their chunks.
    pub fn segments_damaged(&self) -> u64 {
        self.rotten().len() as u64
    }
}
