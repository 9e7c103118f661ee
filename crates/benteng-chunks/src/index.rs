//! Chunk -> place, in the node's ordered store under `c/`. A cache of the journal: each
//! batch says up to which segment it reaches, so that boot replays from there, and a lost
//! index is rebuilt by replaying all. Journal and index agree on one order (`pipeline`).

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use benteng_host::{Batch, Kv, prefix_end};
use benteng_journal::{Place, SegmentNo};
use benteng_meta::ids::{ChunkId, StoreId};
use bytes::{Buf, BufMut, Bytes};
use uuid::Uuid;

use crate::chunk::ChunkHeader;
use crate::error::Error;
use crate::tomb::{Grave, Tomb, put_segments, take_segments};
use crate::usage::Uses;

/// Everything of the chunk store in the ordered store.
pub(crate) const PREFIX: &[u8] = b"c/";
const WATERMARK: &[u8] = b"c/w";
const LIVE: &[u8] = b"c/l/";
const BURIED: &[u8] = b"c/b/";
const QUARANTINED: &[u8] = b"c/q/";
const NOTES: &[u8] = b"c/n/";
const VERSION: u8 = 1;

/// Where each live segment ends.
pub(crate) type Ends = BTreeMap<SegmentNo, u64>;

/// Whether no record lies at `place` any more: the segment is gone, or was closed before it
/// at boot (J4: then its records have been copied, and the replay meets them again).
fn is_stale(place: &Place, ends: &Ends) -> bool {
    ends.get(&place.segment).is_none_or(|end| place.end() > *end)
}

/// A chunk that can be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Live {
    pub(crate) place: Place,
    /// Other segments that hold records of it: duplicates, and what copies came from.
    pub(crate) others: Vec<SegmentNo>,
    pub(crate) header: ChunkHeader,
}

/// What is known of an id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Entry {
    Live(Live),
    Buried(Tomb),
}

/// A record of the journal, as the index sees it.
#[derive(Clone, Debug)]
pub(crate) enum Change {
    /// A chunk; the first record of an id counts.
    Chunk(Place, ChunkHeader),
    /// The same bytes at another place; the latest counts. `from`: only if that is where
    /// the chunk lies now.
    Copy(Place, ChunkHeader, Option<Place>),
    /// A tombstone.
    Bury(SegmentNo, ChunkId),
    /// A tombstone of a chunk that may come back.
    Evict(SegmentNo, ChunkId),
}

/// What became of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Done,
    Removed,
    Conflict,
}

pub(crate) struct Index {
    kv: Arc<dyn Kv>,
    store: StoreId,
    memory: Mutex<Memory>,
}

#[derive(Default)]
struct Memory {
    uses: Uses,
    quarantined: BTreeSet<ChunkId>,
    /// Every record in segments below is indexed.
    reaches: SegmentNo,
}

fn key(prefix: &[u8], id: ChunkId) -> Bytes {
    [prefix, &id.to_bytes()].concat().into()
}

fn malformed(key: &[u8]) -> Error {
    let why =
        std::io::Error::new(std::io::ErrorKind::InvalidData, "not an entry of the chunk index, version 1");
    Error::Io(benteng_host::Error::new("decode", String::from_utf8_lossy(key), why))
}

impl Live {
    pub(crate) fn encode(&self) -> Bytes {
        let mut out = Vec::new();
        out.put_u8(VERSION);
        out.put_u64_le(self.place.segment.0);
        out.put_u64_le(self.place.offset);
        out.put_u16_le(self.place.tag_len);
        out.put_u32_le(self.place.body_len);
        put_segments(&mut out, &self.others);
        out.put_slice(&self.header.encode());
        out.into()
    }

    pub(crate) fn decode(mut bytes: &[u8]) -> Option<Live> {
        if bytes.len() < 23 || bytes.get_u8() != VERSION {
            return None;
        }
        let place = Place {
            segment: SegmentNo(bytes.get_u64_le()),
            offset: bytes.get_u64_le(),
            tag_len: bytes.get_u16_le(),
            body_len: bytes.get_u32_le(),
        };
        let others = take_segments(&mut bytes)?;
        Some(Live { place, others, header: ChunkHeader::decode(bytes)? })
    }

    fn noting(mut self, segment: SegmentNo) -> Live {
        if segment != self.place.segment && !self.others.contains(&segment) {
            self.others.push(segment);
        }
        self
    }
}

impl Index {
    pub(crate) fn new(kv: Arc<dyn Kv>, store: StoreId) -> Index {
        Index { kv, store, memory: Mutex::default() }
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Up to which segment the stored index reaches; `None`: there is none of this store.
    pub(crate) fn watermark(&self) -> Result<Option<SegmentNo>, Error> {
        let Some(bytes) = self.kv.get(WATERMARK)? else { return Ok(None) };
        let known = bytes.len() == 25 && bytes[0] == VERSION && bytes[1..17] == *self.store.0.as_bytes();
        Ok(known.then(|| SegmentNo((&bytes[17..]).get_u64_le())))
    }

    /// Forgets everything stored.
    pub(crate) async fn clear(&self) -> Result<(), Error> {
        let mut batch = Batch::default();
        batch.delete_range(PREFIX, prefix_end(PREFIX));
        Ok(self.kv.write(batch).await?)
    }

    /// Counts what is stored, once the index has caught up; chunks whose segment does not
    /// live any more are lost here and quarantined.
    pub(crate) async fn count(&self, ends: &Ends) -> Result<(), Error> {
        let mut memory = Memory { reaches: self.memory().reaches, ..Memory::default() };
        let mut lost = Vec::new();
        self.each(LIVE, None, Live::decode, &mut |id, entry| {
            memory.uses.add(&entry.place);
            if is_stale(&entry.place, ends) {
                lost.push(id);
            }
            ControlFlow::Continue(())
        })?;
        self.each(QUARANTINED, None, |_| Some(()), &mut |id, ()| {
            memory.quarantined.insert(id);
            ControlFlow::Continue(())
        })?;
        *self.memory() = memory;
        for id in lost {
            self.quarantine(id).await?;
        }
        Ok(())
    }

    fn each<T>(
        &self,
        prefix: &[u8],
        after: Option<ChunkId>,
        decode: impl Fn(&[u8]) -> Option<T>,
        visit: &mut dyn FnMut(ChunkId, T) -> ControlFlow<()>,
    ) -> Result<(), Error> {
        let from = match after {
            // The first key behind it: the ids have all one length.
            Some(after) => [&key(prefix, after)[..], &[0]].concat(),
            None => prefix.to_vec(),
        };
        let mut bad = None;
        self.kv.scan(&from, &prefix_end(prefix), &mut |key, value| match (
            ChunkId::from_bytes(&key[prefix.len()..]),
            decode(value),
        ) {
            (Some(id), Some(value)) => visit(id, value),
            _ => {
                bad = Some(key.to_vec());
                ControlFlow::Break(())
            }
        })?;
        bad.map_or(Ok(()), |key| Err(malformed(&key)))
    }

    /// Visits live chunks in the order of their ids, from behind `after` on.
    pub(crate) fn list(
        &self,
        after: Option<ChunkId>,
        visit: &mut dyn FnMut(ChunkId, Live) -> ControlFlow<()>,
    ) -> Result<(), Error> {
        self.each(LIVE, after, Live::decode, visit)
    }

    /// Visits tombstones.
    pub(crate) fn buried(
        &self,
        visit: &mut dyn FnMut(ChunkId, Tomb) -> ControlFlow<()>,
    ) -> Result<(), Error> {
        self.each(BURIED, None, Tomb::decode, visit)
    }

    pub(crate) fn get(&self, id: ChunkId) -> Result<Option<Entry>, Error> {
        let at = key(LIVE, id);
        if let Some(bytes) = self.kv.get(&at)? {
            return Live::decode(&bytes).map(|live| Some(Entry::Live(live))).ok_or_else(|| malformed(&at));
        }
        let at = key(BURIED, id);
        match self.kv.get(&at)? {
            Some(bytes) => {
                Tomb::decode(&bytes).map(|tomb| Some(Entry::Buried(tomb))).ok_or_else(|| malformed(&at))
            }
            None => Ok(None),
        }
    }

    /// The chunk, if it can be read.
    pub(crate) fn live(&self, id: ChunkId) -> Result<Live, Error> {
        match self.get(id)? {
            Some(Entry::Live(live)) => Ok(live),
            Some(Entry::Buried(_)) | None => Err(Error::NotFound { chunk: id }),
        }
    }

    /// Applies records in the order of the journal, in one batch. `reaches`: every record
    /// in segments below is indexed with it. `ends`: at boot, tells stale places.
    pub(crate) async fn apply(
        &self,
        changes: Vec<Change>,
        reaches: SegmentNo,
        ends: Option<&Ends>,
    ) -> Result<Vec<Outcome>, Error> {
        let mut update =
            Update { index: self, ends, batch: Batch::default(), seen: BTreeMap::new(), moves: Vec::new() };
        let outcomes = changes.into_iter().map(|change| update.change(change)).collect::<Result<_, _>>()?;
        let Update { mut batch, moves, .. } = update;
        let mut mark = vec![VERSION];
        mark.put_slice(Uuid::as_bytes(&self.store.0));
        mark.put_u64_le(reaches.0);
        batch.put(WATERMARK, mark);
        self.kv.write(batch).await?;
        let mut memory = self.memory();
        memory.reaches = reaches;
        for Move { id, from, to } in moves {
            from.iter().for_each(|place| memory.uses.subtract(place));
            to.iter().for_each(|place| memory.uses.add(place));
            // New bytes, or none: either way the old damage is history.
            memory.quarantined.remove(&id);
        }
        Ok(outcomes)
    }

    /// What the caller keeps under a name.
    pub(crate) fn note(&self, name: &str) -> Result<Option<Bytes>, Error> {
        Ok(self.kv.get(&[NOTES, name.as_bytes()].concat())?)
    }

    pub(crate) async fn set_note(&self, name: &str, note: Bytes) -> Result<(), Error> {
        let mut batch = Batch::default();
        batch.put([NOTES, name.as_bytes()].concat(), note);
        Ok(self.kv.write(batch).await?)
    }

    /// Forgets tombstones that nothing needs any more.
    pub(crate) async fn forget(&self, ids: &[ChunkId]) -> Result<(), Error> {
        let mut batch = Batch::default();
        ids.iter().for_each(|id| batch.delete(key(BURIED, *id)));
        Ok(self.kv.write(batch).await?)
    }

    pub(crate) async fn quarantine(&self, id: ChunkId) -> Result<(), Error> {
        self.memory().quarantined.insert(id);
        let mut batch = Batch::default();
        batch.put(key(QUARANTINED, id), Bytes::new());
        Ok(self.kv.write(batch).await?)
    }

    pub(crate) fn is_quarantined(&self, id: ChunkId) -> bool {
        self.memory().quarantined.contains(&id)
    }

    pub(crate) fn quarantined(&self) -> Vec<ChunkId> {
        self.memory().quarantined.iter().copied().collect()
    }

    /// Reads what is known of live bytes.
    pub(crate) fn uses<T>(&self, read: impl FnOnce(&Uses) -> T) -> T {
        read(&self.memory().uses)
    }

    pub(crate) fn reaches(&self) -> SegmentNo {
        self.memory().reaches
    }
}

/// A live record that came or went.
struct Move {
    id: ChunkId,
    from: Option<Place>,
    to: Option<Place>,
}

/// One batch in the making; later changes see earlier ones.
struct Update<'a> {
    index: &'a Index,
    ends: Option<&'a Ends>,
    batch: Batch,
    seen: BTreeMap<ChunkId, Option<Entry>>,
    moves: Vec<Move>,
}

impl Update<'_> {
    fn get(&mut self, id: ChunkId) -> Result<Option<Entry>, Error> {
        if let Some(entry) = self.seen.get(&id) {
            return Ok(entry.clone());
        }
        self.index.get(id)
    }

    /// Whether a chunk may live where this tombstone stands: it was evicted, or the tombstone's
    /// record is gone from the journal: then it was forgotten before the crash and the id may have
    /// been taken anew since, or it was carried on and the replay meets it again. Where it knew of
    /// dead records stays known in either case.
    fn gives_way(&self, tomb: &Tomb) -> bool {
        tomb.grave == Grave::Evicted || self.ends.is_some_and(|ends| !ends.contains_key(&tomb.at))
    }

    fn change(&mut self, change: Change) -> Result<Outcome, Error> {
        match change {
            Change::Chunk(place, header) => self.chunk(place, header),
            Change::Copy(place, header, from) => self.copy(place, header, from),
            Change::Bury(at, id) => self.bury(at, id, Grave::Removed),
            Change::Evict(at, id) => self.evict(at, id),
        }
    }

    fn chunk(&mut self, place: Place, header: ChunkHeader) -> Result<Outcome, Error> {
        match self.get(header.id)? {
            Some(Entry::Buried(tomb)) if self.gives_way(&tomb) => self.first(place, header, tomb.dead_in),
            Some(Entry::Buried(tomb)) => self.dead_on_arrival(header.id, tomb, place),
            Some(Entry::Live(live)) if live.place == place => Ok(Outcome::Done),
            Some(Entry::Live(live)) if self.ends.is_some_and(|ends| is_stale(&live.place, ends)) => {
                self.put(Live { place, others: live.others, header });
                Ok(Outcome::Done)
            }
            Some(Entry::Live(live)) => {
                let outcome = if live.header == header { Outcome::Done } else { Outcome::Conflict };
                self.put(live.noting(place.segment));
                Ok(outcome)
            }
            None => self.first(place, header, Vec::new()),
        }
    }

    fn copy(&mut self, place: Place, header: ChunkHeader, from: Option<Place>) -> Result<Outcome, Error> {
        let id = header.id;
        match self.get(id)? {
            Some(Entry::Buried(tomb)) if self.gives_way(&tomb) => self.first(place, header, tomb.dead_in),
            Some(Entry::Buried(tomb)) => self.dead_on_arrival(id, tomb, place),
            Some(Entry::Live(live)) if live.place == place => Ok(Outcome::Done),
            Some(Entry::Live(live)) if from.is_some_and(|from| from != live.place) => {
                // It has moved meanwhile: this copy is dead.
                self.put(live.noting(place.segment));
                Ok(Outcome::Done)
            }
            Some(Entry::Live(live)) => {
                self.moves.push(Move { id, from: Some(live.place), to: Some(place) });
                let old = live.place.segment;
                self.put(Live { place, others: live.others, header }.noting(old));
                self.batch.delete(key(QUARANTINED, id));
                Ok(Outcome::Done)
            }
            None => self.first(place, header, Vec::new()),
        }
    }

    fn first(&mut self, place: Place, header: ChunkHeader, others: Vec<SegmentNo>) -> Result<Outcome, Error> {
        self.moves.push(Move { id: header.id, from: None, to: Some(place) });
        self.put(Live { place, others, header });
        Ok(Outcome::Done)
    }

    /// A record of a removed chunk: it stays removed, and its tombstone stays needed.
    fn dead_on_arrival(&mut self, id: ChunkId, mut tomb: Tomb, place: Place) -> Result<Outcome, Error> {
        if !tomb.dead_in.contains(&place.segment) {
            tomb.dead_in.push(place.segment);
            self.put_tomb(id, tomb);
        }
        Ok(Outcome::Removed)
    }

    /// A chunk that is not here is not evicted, and one that was removed stays removed.
    fn evict(&mut self, at: SegmentNo, id: ChunkId) -> Result<Outcome, Error> {
        match self.get(id)? {
            None => Ok(Outcome::Done),
            Some(Entry::Buried(Tomb { grave: Grave::Removed, .. })) => Ok(Outcome::Done),
            Some(Entry::Buried(_) | Entry::Live(_)) => self.bury(at, id, Grave::Evicted),
        }
    }

    fn bury(&mut self, at: SegmentNo, id: ChunkId, grave: Grave) -> Result<Outcome, Error> {
        let tomb = match self.get(id)? {
            Some(Entry::Buried(tomb)) => Tomb { grave, at: at.max(tomb.at), dead_in: tomb.dead_in },
            Some(Entry::Live(live)) => {
                self.moves.push(Move { id, from: Some(live.place), to: None });
                self.batch.delete(key(LIVE, id));
                self.batch.delete(key(QUARANTINED, id));
                let mut dead_in = live.others;
                dead_in.push(live.place.segment);
                Tomb { grave, at, dead_in }
            }
            None => Tomb { grave, at, dead_in: Vec::new() },
        };
        self.put_tomb(id, tomb);
        Ok(Outcome::Done)
    }

    fn put(&mut self, live: Live) {
        self.batch.delete(key(BURIED, live.header.id));
        self.batch.put(key(LIVE, live.header.id), live.encode());
        self.seen.insert(live.header.id, Some(Entry::Live(live)));
    }

    fn put_tomb(&mut self, id: ChunkId, tomb: Tomb) {
        self.batch.put(key(BURIED, id), tomb.encode());
        self.seen.insert(id, Some(Entry::Buried(tomb)));
    }
}
