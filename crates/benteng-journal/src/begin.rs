//! A new segment. Order (J5, K1): take a file, write the header with a fresh salt, fsync,
//! write the checkpoint, fsync, and only then give it its name and fsync that. So a file
//! named `.seg` always has a durable header and checkpoint; a crash anywhere before
//! leaves a spare, and the journal as it was.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use benteng_host::planted::{Bug, planted};
use benteng_host::{File, Host, Open, probe, random_array, random_u64};
use bytes::Bytes;
use tracing::warn;
use uuid::Uuid;

use crate::base::{Base, Closed};
use crate::cipher::{RecordCipher, SegmentCipher};
use crate::encode::{Encoder, Stored};
use crate::fatal::{must, sync_dir};
use crate::options::Options;
use crate::record::{Life, Place, Position, SegmentNo, crc32c, flag, own, stored_len};
use crate::segment::{HEADER_BYTES, SegmentHeader, segment_name, unfinished_name};
use crate::spares::{Spare, Spares};
use crate::sticky::Carried;
use crate::table::Reader;

/// What every segment of a journal has in common.
pub(crate) struct Ground {
    pub(crate) host: Host,
    pub(crate) dir: PathBuf,
    pub(crate) store: Uuid,
    pub(crate) cipher: Arc<dyn SegmentCipher>,
    pub(crate) options: Options,
    pub(crate) spares: Arc<Spares>,
}

/// A record copied from the unclaimed tail of an earlier boot's segment (J4).
pub(crate) struct TailRecord {
    pub(crate) kind: u8,
    pub(crate) tag: Bytes,
    /// Plain if it was sealed, stored as it is otherwise.
    pub(crate) body: Bytes,
    pub(crate) sealed: bool,
}

/// What a new segment begins with.
pub(crate) struct Plan<'a> {
    pub(crate) number: SegmentNo,
    pub(crate) boot: u32,
    /// Everything before this is durable.
    pub(crate) claim: Position,
    pub(crate) live: Vec<Closed>,
    pub(crate) sticky: &'a [Carried],
    pub(crate) tail: &'a [TailRecord],
    /// Bytes that the first record needs, if it is larger than a segment.
    pub(crate) need: u64,
}

/// The segment that is written to.
pub(crate) struct Active {
    pub(crate) file: Arc<dyn File>,
    pub(crate) number: SegmentNo,
    pub(crate) life: Life,
    pub(crate) boot: u32,
    pub(crate) cipher: Arc<dyn RecordCipher>,
    /// First byte behind the last durable record, and the number of the next.
    pub(crate) next: (u64, u64),
    /// Records of callers in it.
    pub(crate) history: u64,
    /// Bytes allocated.
    pub(crate) limit: u64,
}

impl Active {
    pub(crate) fn position(&self) -> Position {
        Position { segment: self.number, offset: self.next.0 }
    }

    /// What the next segment's base says about this one.
    pub(crate) fn closed(&self) -> Closed {
        Closed { number: self.number, end: self.next.0, records: self.next.1, history: self.history }
    }

    pub(crate) fn reader(&self) -> Arc<Reader> {
        Arc::new(Reader { file: self.file.clone(), life: self.life, cipher: self.cipher.clone() })
    }

    pub(crate) fn encoder(&self, claim: Position) -> Encoder<'_> {
        Encoder::new(self.number, self.life, self.boot, &*self.cipher, claim, self.next)
    }
}

/// A file that will become a segment.
struct Candidate {
    file: Arc<dyn File>,
    path: PathBuf,
    /// Where it came from, to be put back for want of room.
    spare: Option<Spare>,
    generation: u32,
    limit: u64,
}

impl Ground {
    /// Begins a segment; returns it and the places of the tail's records.
    ///
    /// Errors: only a full device (`is_full`); nothing has changed then. Everything else
    /// that fails ends the process (J6).
    pub(crate) async fn begin(&self, plan: Plan<'_>) -> benteng_host::Result<(Active, Vec<Place>)> {
        let mut salt: [u8; 32] = random_array(&*self.host.random);
        if planted(Bug::SegmentSaltReused) {
            salt = [0; 32];
        }
        let cipher = self.cipher.segment(&salt);
        let base = Base { records: plan.records(), live: plan.live.clone() };
        let base = base.encode();
        let needed = HEADER_BYTES + plan.bytes(&base, &*cipher) + plan.need + Options::CONTROL_BYTES;
        let candidate = self.candidate(needed).await?;
        let header = SegmentHeader {
            store: self.store,
            uuid: uuid::Builder::from_random_bytes(random_array(&*self.host.random)).into_uuid(),
            number: plan.number,
            generation: candidate.generation,
            boot: plan.boot,
            salt,
        };
        let mut active = Active {
            file: candidate.file.clone(),
            number: plan.number,
            life: header.life(),
            boot: plan.boot,
            cipher,
            next: (HEADER_BYTES, 0),
            history: plan.tail.len() as u64,
            limit: candidate.limit,
        };
        let (parts, places, next) = plan.encode(&active, &base);
        match self.fill(&candidate, plan.number, &header, parts).await {
            Ok(()) => {
                active.next = next;
                Ok((active, places))
            }
            Err(full) => {
                self.give_back(candidate).await;
                Err(full)
            }
        }
    }

    /// A spare, or a file made on the spot, with at least `needed` bytes.
    async fn candidate(&self, needed: u64) -> benteng_host::Result<Candidate> {
        let candidate = match self.spares.take() {
            Some(spare) => {
                let opened = self.host.disk.open(&spare.path, Open::Write).await;
                let file = self.only_full(opened).await?;
                let (path, generation, limit) = (spare.path.clone(), spare.generation + 1, spare.bytes);
                Candidate { file, path, spare: Some(spare), generation, limit }
            }
            None => {
                probe("journal_roll_without_spare");
                let path = self.dir.join(unfinished_name(random_u64(&*self.host.random)));
                let opened = self.host.disk.open(&path, Open::CreateNew).await;
                let file = self.only_full(opened).await?;
                Candidate { file, path, spare: None, generation: 1, limit: 0 }
            }
        };
        let limit = needed.max(self.options.segment_bytes);
        if candidate.limit >= limit {
            return Ok(candidate);
        }
        let grown = candidate.file.allocate(candidate.limit, limit - candidate.limit).await;
        match self.only_full(grown).await {
            Ok(()) => Ok(Candidate { limit, ..candidate }),
            Err(full) => {
                self.give_back(candidate).await;
                Err(full)
            }
        }
    }

    async fn fill(
        &self,
        candidate: &Candidate,
        number: SegmentNo,
        header: &SegmentHeader,
        parts: Vec<Bytes>,
    ) -> benteng_host::Result<()> {
        let file = &candidate.file;
        let written = file.write_at(0, vec![header.encode()]).await;
        self.only_full(written).await?;
        // K1: the salt is durable before anything is sealed under it.
        must(&self.host, file.sync_data().await).await;
        let written = file.write_at(HEADER_BYTES, parts).await;
        self.only_full(written).await?;
        must(&self.host, file.sync_data().await).await;
        let to = self.dir.join(segment_name(number));
        let renamed = self.host.disk.rename(&candidate.path, &to).await;
        self.only_full(renamed).await?;
        sync_dir(&self.host, &self.dir).await;
        Ok(())
    }

    /// Gives back the room behind the last record of an earlier boot's segment: boots in a row would
    /// else leave a whole segment each. Only once the next segment has its name: its base says where
    /// this one ends (J4), so that both lengths are right after a crash, and nothing waits for the new
    /// one to be durable. Not at a roll: the whole file becomes a spare once it is released, which is
    /// room that a full device cannot take away (O6).
    pub(crate) async fn trim(&self, path: &Path, end: u64, len: u64) {
        if len.saturating_sub(end) < (self.options.segment_bytes / 16).max(HEADER_BYTES) {
            // A full segment: it is worth more as a spare, once it is released.
            return;
        }
        let cut = async {
            let file = self.host.disk.open(path, Open::Write).await?;
            file.set_len(end).await
        };
        match cut.await {
            Ok(()) => probe("journal_segment_trimmed"),
            // It only takes more room than it must.
            Err(error) => warn!(%error, "the unused end of a journal segment is not given back"),
        }
    }

    /// Passes on success and a full device; anything else ends the process.
    async fn only_full<T>(&self, result: benteng_host::Result<T>) -> benteng_host::Result<T> {
        match result {
            Err(e) if !e.is_full() => Ok(must(&self.host, Err(e)).await),
            other => other,
        }
    }

    /// Undoes [`Ground::candidate`].
    async fn give_back(&self, candidate: Candidate) {
        match candidate.spare {
            // A failed allocation may have lengthened it: its old length is still true.
            Some(spare) => self.spares.put(Spare { generation: candidate.generation, ..spare }),
            // If it stays, the next boot removes it.
            None => drop(self.host.disk.remove(&candidate.path).await),
        }
    }
}

impl Plan<'_> {
    /// Records of the base: itself, the sticky ones, the tail.
    fn records(&self) -> u64 {
        1 + self.sticky.len() as u64 + self.tail.len() as u64
    }

    fn bytes(&self, base: &[u8], cipher: &dyn RecordCipher) -> u64 {
        let sealed = |tag: &[u8], body: &[u8]| stored_len(tag.len(), (body.len() + cipher.overhead()) as u64);
        let sticky =
            self.sticky.iter().map(|(_, tag, body)| sealed(tag, body.as_deref().unwrap_or_default()));
        let tail = self.tail.iter().map(|record| sealed(&record.tag, &record.body));
        sealed(&[], base) + sticky.sum::<u64>() + tail.sum::<u64>()
    }

    fn encode(&self, active: &Active, base: &Bytes) -> (Vec<Bytes>, Vec<Place>, (u64, u64)) {
        let mut encoder = active.encoder(self.claim);
        encoder.push(own::BASE, 0, &[], &Stored::Seal(base));
        for (kind, tag, body) in self.sticky {
            let body = body.as_ref().map_or(Stored::Empty, |body| Stored::Seal(body));
            encoder.push(*kind, flag::STICKY_COPY, tag, &body);
        }
        let places = self
            .tail
            .iter()
            .map(|record| {
                let parts = std::slice::from_ref(&record.body);
                let body = match record.sealed {
                    true => Stored::Seal(&record.body),
                    false => Stored::Raw(parts, crc32c([&record.body[..]])),
                };
                encoder.push(record.kind, flag::TAIL_COPY, &record.tag, &body)
            })
            .collect();
        let (parts, next) = encoder.finish();
        (parts, places, next)
    }
}

/// Removes what an earlier boot did not finish.
pub(crate) async fn remove_unfinished(host: &Host, dir: &Path, names: &[String]) -> benteng_host::Result<()> {
    for name in names {
        host.disk.remove(&dir.join(name)).await?;
    }
    Ok(())
}
