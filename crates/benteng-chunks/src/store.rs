//! The public handle: append, read, list, remove.

use std::collections::BTreeSet;
use std::ops::{ControlFlow, Range};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use benteng_host::planted::{Bug, planted};
use benteng_host::{Host, Kv, probe, witness, witnessed};
use benteng_journal::{Journal, NoCipher, OnDamage, Options, Place, ReleaseOrder, Replay, SegmentNo};
use benteng_meta::ids::{ChunkId, StoreId};
use bytes::Bytes;
use tracing::error;

use crate::chunk::{ChunkHeader, ChunkInfo, NewChunk};
use crate::error::Error;
use crate::identity::Identity;
use crate::index::{Entry, Index, Live, Outcome};
use crate::open::catch_up;
use crate::pipeline::{Pipeline, Work};
use crate::space::Reserve;
use crate::tomb::Grave;
use crate::usage::Usage;

/// Settings of a chunk store.
#[derive(Clone, Debug)]
pub struct StoreOptions {
    /// Size of a segment in bytes.
    pub segment_bytes: u64,
    /// Segments kept ready; they are part of the reserve.
    pub spares: usize,
    /// Bytes appended and not yet durable at most; beyond it appends wait.
    pub queue_bytes: u64,
    /// Bytes that share one fsync at most.
    pub batch_bytes: u64,
    /// Below this share of the device, in thousandths, chunks are refused (O6).
    pub reserve_permille: u64,
    /// They are taken again above this one.
    pub resume_permille: u64,
    /// A segment is worth cleaning from this share of dead bytes on, in percent.
    pub clean_percent: u64,
}

impl Default for StoreOptions {
    fn default() -> StoreOptions {
        StoreOptions {
            segment_bytes: 256 << 20,
            spares: 1,
            queue_bytes: 32 << 20,
            batch_bytes: 16 << 20,
            reserve_permille: 50,
            resume_permille: 60,
            clean_percent: 25,
        }
    }
}

/// The chunks of one node. Dropping it ends it like a crash would.
pub struct Store {
    pub(crate) identity: Identity,
    pub(crate) journal: Arc<Journal>,
    pub(crate) index: Arc<Index>,
    pub(crate) pipeline: Pipeline,
    pub(crate) reserve: Reserve,
    pub(crate) options: StoreOptions,
    pub(crate) kv: Arc<dyn Kv>,
    pub(crate) cleaning: tokio::sync::Semaphore,
    /// Held by whoever brings an evicted chunk back; alone by whoever writes its tombstone again.
    pub(crate) returning: tokio::sync::RwLock<()>,
    /// Segments that a scrub found damaged around their chunks; they are cleaned first.
    pub(crate) rotten: Mutex<BTreeSet<SegmentNo>>,
    damaged: u64,
}

/// How often a read looks its place up again because cleaning moved the chunk.
const LOOKUPS_MAX: u32 = 8;

impl Store {
    /// Opens or creates the store in `dir`, with its index under `c/` in `kv`. A missing or
    /// older index is caught up from the journal.
    ///
    /// Errors: `Journal(Damaged)` if the journal's head or end is missing, `Identity`; lost
    /// stretches inside are counted in [`Store::usage`] and left to repair.
    pub async fn open(
        host: Host,
        dir: PathBuf,
        kv: Arc<dyn Kv>,
        options: StoreOptions,
    ) -> Result<Store, Error> {
        let identity = Identity::load_or_draw(host.clone(), dir.clone()).await?;
        let id = identity.id;
        let journal_options = Options {
            segment_bytes: options.segment_bytes,
            spares: options.spares,
            queue_bytes: options.queue_bytes,
            batch_bytes: options.batch_bytes,
            replay: Replay::TagsOnly,
            // The index replays by itself, segment by segment.
            replay_from: SegmentNo(u64::MAX),
            release: ReleaseOrder::Any,
            on_damage: OnDamage::List,
            ..Options::default()
        };
        // Bodies are ciphertext already, and ids are no secret (I5).
        let cipher = Arc::new(NoCipher);
        let mut ignore = |_| Ok(());
        let (journal, _) =
            Journal::open(host.clone(), dir.clone(), id.0, journal_options, cipher, &mut ignore).await?;
        let (journal, index) = (Arc::new(journal), Arc::new(Index::new(kv.clone(), id)));
        let damaged = catch_up(&journal, &index).await?.len() as u64;
        let reserve = Reserve::new(host.clone(), dir, options.reserve_permille, options.resume_permille);
        reserve.look().await?;
        let pipeline = Pipeline::start(&host, journal.clone(), index.clone());
        let cleaning = tokio::sync::Semaphore::new(1);
        let returning = tokio::sync::RwLock::default();
        let rotten = Mutex::default();
        let store = Store {
            identity,
            journal,
            index,
            pipeline,
            reserve,
            options,
            kv,
            cleaning,
            returning,
            rotten,
            damaged,
        };
        store.state_found()?;
        Ok(store)
    }

    /// States which chunks a start has found: all that were acknowledged, none that was removed (I1, I8).
    fn state_found(&self) -> Result<(), Error> {
        if witnessed() {
            let mut count = 0;
            self.index.list(None, &mut |id, _| {
                count += 1;
                witness("chunk_found", self.id().0.as_u128(), || id.folded());
                ControlFlow::Continue(())
            })?;
            witness("chunks_found", self.id().0.as_u128(), || count);
        }
        Ok(())
    }

    /// The id of these disks, drawn at creation.
    pub fn id(&self) -> StoreId {
        self.identity.id
    }

    /// Appends one chunk; returns once it is on disk and can be read.
    ///
    /// Every frame is held against its checksum before the write (I4). The same id again with equal
    /// bytes is no error. What is appended under the id of a quarantined chunk takes its place.
    /// Errors: `BadFrame`, `Malformed`, `Conflict`, `Removed`, `Full` (retryable): nothing
    /// is written.
    /// Cancellation: if dropped, the chunk may exist; the same id may be appended again.
    pub async fn append(&self, chunk: NewChunk) -> Result<(), Error> {
        let header = ChunkHeader::verified(&chunk)?;
        let id = header.id;
        let mut found = self.index.get(id)?;
        let mut _returning = None;
        if matches!(&found, Some(Entry::Buried(tomb)) if tomb.grave == Grave::Evicted) {
            _returning = Some(self.returning.read().await);
            found = self.index.get(id)?;
        }
        let work = match found {
            Some(Entry::Buried(tomb)) if tomb.grave == Grave::Removed => {
                return Err(Error::Removed { chunk: id });
            }
            Some(Entry::Live(live)) if self.index.is_quarantined(id) => {
                // Its checksums may be as wrong as its bytes: the header of the good copy counts.
                Work::Copy(header, chunk.bytes, live.place)
            }
            Some(Entry::Live(live)) if live.header == header => {
                // Whoever sent it first may have gone before it was told.
                self.state("chunk_kept", &[id]);
                return Ok(());
            }
            Some(Entry::Live(_)) => return Err(Error::Conflict { chunk: id }),
            Some(Entry::Buried(_)) | None => Work::Chunk(header, chunk.bytes),
        };
        if !planted(Bug::ReserveIgnored) {
            self.reserve.admit(chunk_len(&work)).await?;
        }
        match self.pipeline.run(work).await? {
            Outcome::Done => {
                probe("chunk_durable");
                self.state("chunk_kept", &[id]);
                Ok(())
            }
            Outcome::Removed => Err(Error::Removed { chunk: id }),
            Outcome::Conflict => Err(Error::Conflict { chunk: id }),
        }
    }

    /// The bytes of some frames, each verified (I4).
    ///
    /// Errors: `NotFound`; `Corrupt`: the chunk is quarantined, never served; `Range`.
    pub async fn read(&self, id: ChunkId, frames: Range<u32>) -> Result<Bytes, Error> {
        let mut live = self.index.live(id)?;
        for _ in 0..LOOKUPS_MAX {
            let (offset, len) = live.header.extent(&frames)?;
            let place = live.place;
            let read = self.journal.read_range(place, offset, len).await;
            match read {
                Ok(bytes) if live.header.bad_frame(frames.start, std::slice::from_ref(&bytes)).is_none() => {
                    // A quarantined chunk may have sound frames; they are as good as any.
                    return Ok(bytes);
                }
                Ok(_)
                | Err(benteng_journal::Error::Released { .. } | benteng_journal::Error::Damaged { .. }) => {}
                Err(e) => return Err(e.into()),
            }
            // Cleaning may have moved it under this read: only an unchanged place is corrupt.
            live = self.index.live(id)?;
            if live.place == place {
                return Err(self.corrupt(id, place).await?);
            }
            probe("chunk_read_follows_cleaning");
        }
        Err(self.corrupt(id, live.place).await?)
    }

    /// Quarantines a chunk; returns the error that says so.
    pub(crate) async fn corrupt(&self, id: ChunkId, place: Place) -> Result<Error, Error> {
        if !self.index.is_quarantined(id) {
            self.index.quarantine(id).await?;
            metrics::counter!("benteng_chunks_quarantined_total").increment(1);
            error!(chunk = %id, segment = place.segment.0, offset = place.offset, "chunk is corrupt and quarantined");
        }
        Ok(Error::Corrupt { chunk: id, segment: place.segment, offset: place.offset })
    }

    /// What is known of a chunk; `None`: it is not here.
    pub fn stat(&self, id: ChunkId) -> Result<Option<ChunkInfo>, Error> {
        match self.index.get(id)? {
            Some(Entry::Live(live)) => Ok(Some(self.info(id, &live))),
            Some(Entry::Buried(_)) | None => Ok(None),
        }
    }

    fn info(&self, id: ChunkId, live: &Live) -> ChunkInfo {
        live.header.info(self.index.is_quarantined(id))
    }

    /// All of a chunk but its bytes, so that a peer can append it verbatim.
    /// Errors: `NotFound`.
    #[expect(clippy::unused_async, reason = "a header may have to be read from disk in a later format")]
    pub async fn header(&self, id: ChunkId) -> Result<ChunkHeader, Error> {
        Ok(self.index.live(id)?.header)
    }

    /// Up to `limit` chunks in the order of their ids, from behind `after` on.
    pub fn list(&self, after: Option<ChunkId>, limit: usize) -> Result<Vec<(ChunkId, ChunkInfo)>, Error> {
        let mut listed = Vec::new();
        if limit == 0 {
            return Ok(listed);
        }
        self.index.list(after, &mut |id, live| {
            listed.push((id, self.info(id, &live)));
            if listed.len() < limit { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })?;
        Ok(listed)
    }

    /// Removes chunks for good: durable tombstones, written even under the reserve. Ids
    /// that are not here are refused from now on. The caller acts on committed facts (I8).
    /// Space comes back by [`Store::clean`].
    pub async fn remove(&self, ids: Vec<ChunkId>) -> Result<(), Error> {
        let mut wanted = Vec::with_capacity(ids.len());
        for id in ids {
            if !matches!(self.index.get(id)?, Some(Entry::Buried(tomb)) if tomb.grave == Grave::Removed) {
                wanted.push(id);
            }
        }
        self.state("chunk_going", &wanted);
        if !wanted.is_empty() {
            self.pipeline.run(Work::Bury(wanted.clone())).await?;
        }
        self.state("chunk_gone", &wanted);
        Ok(())
    }

    fn state(&self, what: &'static str, ids: &[ChunkId]) {
        ids.iter().for_each(|id| witness(what, self.id().0.as_u128(), || id.folded()));
    }

    /// Gives chunks up that others hold: like [`Store::remove`], but the ids may come back.
    /// Ids that are not here stay as they are.
    pub async fn evict(&self, ids: Vec<ChunkId>) -> Result<(), Error> {
        let mut here = Vec::with_capacity(ids.len());
        for id in ids {
            if matches!(self.index.get(id)?, Some(Entry::Live(_))) {
                here.push(id);
            }
        }
        if !here.is_empty() {
            self.state("chunk_going", &here);
            self.pipeline.run(Work::Evict(here.clone())).await?;
            self.state("chunk_gone", &here);
            probe("chunks_evicted");
        }
        Ok(())
    }

    /// Quarantines a chunk whose checksums are good and that is wrong nevertheless: it does not
    /// authenticate, which needs a key to tell (I4). What is appended under its id takes its place.
    ///
    /// Errors: `NotFound`.
    pub async fn doubt(&self, id: ChunkId) -> Result<(), Error> {
        let place = self.index.live(id)?.place;
        self.corrupt(id, place).await.map(drop)
    }

    /// What was kept under `name` by [`Store::keep_note`]. It may be older after a crash, or gone
    /// with the index.
    pub fn note(&self, name: &str) -> Result<Option<Bytes>, Error> {
        self.index.note(name)
    }

    /// Keeps a few bytes of the caller's beside the index.
    pub async fn keep_note(&self, name: &str, note: Bytes) -> Result<(), Error> {
        self.index.set_note(name, note).await
    }

    /// Looks at the device now (O6): a store to which nothing is appended would not notice.
    pub async fn look(&self) -> Result<(), Error> {
        self.reserve.look().await.map(drop)
    }

    /// How full the store is; the device as last looked at.
    pub fn usage(&self) -> Usage {
        let segments = self.journal.segments();
        let used: u64 = segments.iter().map(|segment| segment.bytes).sum();
        let (live_bytes, chunks) = self.index.uses(|uses| (uses.live_bytes, uses.chunks));
        let (device_free, device_total, under_reserve) = self.reserve.last();
        Usage {
            live_bytes,
            dead_bytes: used.saturating_sub(live_bytes),
            chunks,
            quarantined: self.index.quarantined().len() as u64,
            segments: segments.len() as u64,
            device_free,
            device_total,
            under_reserve,
            damaged: self.damaged,
        }
    }

    /// Chunks found damaged here that no peer's copy has replaced yet.
    pub fn quarantined(&self) -> Vec<ChunkId> {
        self.index.quarantined()
    }

    /// Ends the store cleanly; requests under way are answered first.
    pub async fn close(&self) -> Result<(), Error> {
        // An empty tombstone list passes behind everything that was accepted.
        self.pipeline.run(Work::Bury(Vec::new())).await?;
        self.journal.stop().await?;
        Ok(self.kv.flush().await?)
    }
}

fn chunk_len(work: &Work) -> u64 {
    match work {
        Work::Chunk(header, _) | Work::Copy(header, ..) => u64::from(header.len),
        Work::Bury(_) | Work::Evict(_) => 0,
    }
}
