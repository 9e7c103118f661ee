//! Gives dead bytes back: copies what lives out of a segment, and releases it. Order (O6):
//! room first, copy, fsync, read back, switch the index, and only when nothing lives in
//! the segment any more and the index is flushed, release it. A crash anywhere leaves every chunk readable.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

use benteng_host::planted::{Bug, planted};
use benteng_host::probe;
use benteng_journal::{Release, Replayed, SegmentInfo, SegmentNo};
use benteng_meta::ids::ChunkId;

use crate::error::Error;
use crate::index::{Change, Entry};
use crate::open::changes_of;
use crate::pipeline::Work;
use crate::store::Store;
use crate::tomb::Grave;

/// Copies under way at once: enough to share an fsync, little memory.
const COPIES_AT_ONCE: usize = 4;

/// What one call of [`Store::clean`] did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cleaned {
    /// The segment that was cleaned; `None`: none is worth it.
    pub segment: Option<SegmentNo>,
    /// Live bytes copied.
    pub copied_bytes: u64,
    /// Bytes of the segment given back; 0 if it had to stay.
    pub released_bytes: u64,
    /// Corrupt chunks that keep the segment from being released until they are repaired
    /// (appended again) or removed.
    pub corrupt: Vec<ChunkId>,
}

/// A record of the segment that must not go with it.
enum Keep {
    Chunk(ChunkId),
    Tombstone(ChunkId),
    Evicted(ChunkId),
}

impl Store {
    /// Cleans the sealed segment with the most dead bytes, if they are at least a quarter
    /// of it, or any at all when the device is under its reserve; a damaged one before all others. One call runs
    /// at a time.
    ///
    /// Errors: `Full` if there is no room even for the copies; nothing has changed.
    /// Cancellation: safe; the copies made so far count.
    pub async fn clean(&self) -> Result<Cleaned, Error> {
        let _one = self.cleaning.acquire().await.map_err(|_| Error::Stopped)?;
        let space = self.reserve.look().await?;
        let Some((segment, live_bytes)) = self.worth_cleaning(space.free)? else {
            return Ok(Cleaned::default());
        };
        if live_bytes > 0 && space.free < live_bytes {
            return Err(Error::Full { free: space.free, total: space.total });
        }
        let mut cleaned = Cleaned { segment: Some(segment.number), ..Cleaned::default() };
        let keeps = self.keeps(segment.number).await?;
        let (mut tombstones, mut evicted) = (Vec::new(), Vec::new());
        let mut under_way = Vec::new();
        for keep in keeps {
            match keep {
                Keep::Tombstone(id) => tombstones.push(id),
                Keep::Evicted(id) => evicted.push(id),
                Keep::Chunk(id) => {
                    if let Some(answer) = self.copy_out(id, segment.number, &mut cleaned).await? {
                        under_way.push(answer);
                    }
                    if under_way.len() >= COPIES_AT_ONCE {
                        settle(&mut under_way).await?;
                    }
                }
            }
        }
        settle(&mut under_way).await?;
        if !tombstones.is_empty() {
            self.pipeline.run(Work::Bury(tombstones)).await?;
        }
        if !evicted.is_empty() {
            self.evict_again(evicted).await?;
        }
        self.copy_hidden(segment.number, &mut cleaned).await?;
        probe("chunk_segment_copied_out");
        if self.index.uses(|uses| uses.chunks_in(segment.number)) > 0 {
            // Corrupt ones: their repair or removal frees the segment.
            return Ok(cleaned);
        }
        // J5: what the index learned from this segment is durable before the segment goes.
        // Else an older index, after a crash, shows chunks whose tombstones went with it.
        if !planted(Bug::ReleasedBeforeFlush) {
            self.kv.flush().await?;
        }
        self.journal.release(Release::Segment(segment.number)).await?;
        let (_, gone) = self.tombstones(&self.journal.segments())?;
        self.index.forget(&gone).await?;
        self.segment_is_gone(segment.number);
        cleaned.released_bytes = segment.bytes;
        metrics::counter!("benteng_chunks_cleaned_bytes_total").increment(segment.bytes);
        Ok(cleaned)
    }

    /// The segment to clean, and the bytes in it that must be copied.
    fn worth_cleaning(&self, free: u64) -> Result<Option<(SegmentInfo, u64)>, Error> {
        let (_, _, pressed) = self.reserve.last();
        // Corrupt chunks cannot be copied: their segments wait for repair.
        let mut blocked = BTreeSet::new();
        for id in self.index.quarantined() {
            if let Some(Entry::Live(live)) = self.index.get(id)? {
                blocked.insert(live.place.segment);
            }
        }
        let segments = self.journal.segments();
        let (needed, _) = self.tombstones(&segments)?;
        let reaches = self.index.reaches();
        let damaged = self.damaged_segments();
        let candidates = segments.into_iter().filter_map(|segment| {
            // Not before all of its records are indexed: an unindexed chunk would look dead.
            if !segment.sealed || segment.number >= reaches || blocked.contains(&segment.number) {
                return None;
            }
            let live = self.index.uses(|uses| uses.bytes(segment.number))
                + needed.get(&segment.number).copied().unwrap_or(0);
            let (used, dead) =
                (segment.end - segment.first, (segment.end - segment.first).saturating_sub(live));
            let worth = live == 0 || dead * 100 >= used * self.options.clean_percent || (pressed && dead > 0);
            // A damaged one goes first, whatever lives in it: a start that replays it would lose some of that.
            let rank = (damaged.contains(&segment.number) && live < free, dead);
            ((worth && dead > 0) || rank.0).then_some((segment, live, rank))
        });
        Ok(candidates.max_by_key(|(_, _, rank)| *rank).map(|(segment, live, _)| (segment, live)))
    }

    /// Bytes of tombstones that must stay, by the segment in which they lie, and those whose
    /// segment has been released.
    fn tombstones(
        &self,
        segments: &[SegmentInfo],
    ) -> Result<(BTreeMap<SegmentNo, u64>, Vec<ChunkId>), Error> {
        /// A tombstone alone in its record; together they take less.
        const TOMBSTONE: u64 = 96;
        let live: BTreeSet<SegmentNo> = segments.iter().map(|segment| segment.number).collect();
        let (mut bytes, mut gone) = (BTreeMap::new(), Vec::new());
        self.index.buried(&mut |id, tomb| {
            if !live.contains(&tomb.at) {
                gone.push(id);
            } else if tomb.dead_in.iter().any(|segment| *segment != tomb.at && live.contains(segment)) {
                *bytes.entry(tomb.at).or_insert(0) += TOMBSTONE;
            }
            ControlFlow::Continue(())
        })?;
        Ok((bytes, gone))
    }

    /// What must be copied out of a segment.
    async fn keeps(&self, number: SegmentNo) -> Result<Vec<Keep>, Error> {
        let mut changes = Vec::new();
        let mut visit = |record: Replayed| {
            changes.extend(changes_of(&record).unwrap_or_default());
            Ok(())
        };
        // Chunks behind damaged headers are found through the index afterwards.
        match self.journal.scan(number, &mut visit).await {
            Ok(_) | Err(benteng_journal::Error::Damaged { .. }) => {}
            Err(e) => return Err(e.into()),
        }
        let live: BTreeSet<SegmentNo> =
            self.journal.segments().iter().map(|segment| segment.number).collect();
        let mut keeps = Vec::new();
        for change in changes {
            match change {
                Change::Chunk(place, header) | Change::Copy(place, header, _) => {
                    if let Some(Entry::Live(entry)) = self.index.get(header.id)?
                        && entry.place == place
                    {
                        keeps.push(Keep::Chunk(header.id));
                    }
                }
                Change::Bury(..) | Change::Evict(..) => {}
            }
        }
        // Of the index, not of the records: a tombstone behind a damaged header must not be lost with it.
        self.index.buried(&mut |id, tomb| {
            // Records of it elsewhere would come back to life in a rebuilt index.
            let needed =
                tomb.at == number && tomb.dead_in.iter().any(|one| *one != number && live.contains(one));
            if needed {
                keeps.push(match tomb.grave {
                    Grave::Removed => Keep::Tombstone(id),
                    Grave::Evicted => Keep::Evicted(id),
                });
            }
            ControlFlow::Continue(())
        })?;
        Ok(keeps)
    }

    /// Writes tombstones of evicted chunks again, but for those that have come back.
    async fn evict_again(&self, ids: Vec<ChunkId>) -> Result<(), Error> {
        // Whoever brings one back waits, or is through: a tombstone behind its record would hide it.
        let _alone = self.returning.write().await;
        let mut still = Vec::with_capacity(ids.len());
        for id in ids {
            if matches!(self.index.get(id)?, Some(Entry::Buried(tomb)) if tomb.grave == Grave::Evicted) {
                still.push(id);
            }
        }
        self.pipeline.run(Work::Evict(still)).await.map(drop)
    }

    /// Copies chunks whose record header is damaged: the index still knows their place.
    async fn copy_hidden(&self, from: SegmentNo, cleaned: &mut Cleaned) -> Result<(), Error> {
        if self.index.uses(|uses| uses.chunks_in(from)) <= cleaned.corrupt.len() as u64 {
            return Ok(());
        }
        let mut hidden = Vec::new();
        self.index.list(None, &mut |id, live| {
            if live.place.segment == from && !cleaned.corrupt.contains(&id) {
                hidden.push(id);
            }
            ControlFlow::Continue(())
        })?;
        for id in hidden {
            let answer = self.copy_out(id, from, cleaned).await?;
            settle(&mut answer.into_iter().collect()).await?;
        }
        Ok(())
    }

    /// Starts the copy of a chunk that lies in `from`.
    async fn copy_out(
        &self,
        id: ChunkId,
        from: SegmentNo,
        cleaned: &mut Cleaned,
    ) -> Result<Option<Answer>, Error> {
        let Some(Entry::Live(live)) = self.index.get(id)? else { return Ok(None) };
        if live.place.segment != from {
            return Ok(None);
        }
        let frames = live.header.frames();
        match self.read(id, 0..frames).await {
            Ok(bytes) => {
                cleaned.copied_bytes += live.place.stored_len();
                let work = Work::Copy(live.header, vec![bytes], live.place);
                Ok(Some(self.pipeline.enqueue(work).await?))
            }
            Err(Error::Corrupt { .. }) => {
                cleaned.corrupt.push(id);
                Ok(None)
            }
            // Removed meanwhile.
            Err(Error::NotFound { .. }) => Ok(None),
            Err(e) => Err(e),
        }
    }
}

type Answer = tokio::sync::oneshot::Receiver<Result<crate::index::Outcome, Error>>;

/// Waits for copies; one that was removed meanwhile is no error.
async fn settle(under_way: &mut Vec<Answer>) -> Result<(), Error> {
    for answer in under_way.drain(..) {
        answer.await.map_err(|_| Error::Stopped)??;
    }
    Ok(())
}
