//! Segments ready for use. A keeper task zeroes new ones ahead of need and recycles
//! released ones, so that a full device still has room for votes and deletes (O6), and
//! `fdatasync` meets no metadata changes.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use benteng_host::{Host, Open, probe, random_u64, sleep, timeout};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};
use tracing::warn;

use crate::fatal::sync_dir;
use crate::segment::{HEADER_BYTES, SegmentHeader, spare_name, unfinished_name};

/// What the keeper is told.
pub(crate) enum Errand {
    /// A released segment's file is no longer read.
    Recycle(PathBuf),
    /// A spare was taken.
    Taken,
}

/// A file ready for use.
#[derive(Clone, Debug)]
pub(crate) struct Spare {
    pub(crate) path: PathBuf,
    pub(crate) bytes: u64,
    /// Generation of its last life, 0 for none.
    pub(crate) generation: u32,
}

/// Spares of one journal.
pub(crate) struct Spares {
    host: Host,
    dir: PathBuf,
    segment_bytes: u64,
    target: usize,
    ready: Mutex<Vec<Spare>>,
    pub(crate) errands: UnboundedSender<Errand>,
}

/// Zeroing goes in slices with a sync each: one large flush would hold up the writer's.
const SLICE_BYTES: u64 = 1 << 20;
const RETRY_MIN: Duration = Duration::from_millis(100);
const RETRY_MAX: Duration = Duration::from_secs(30);

impl Spares {
    pub(crate) fn new(
        host: Host,
        dir: &Path,
        segment_bytes: u64,
        target: usize,
        errands: UnboundedSender<Errand>,
    ) -> Spares {
        Spares { host, dir: dir.to_owned(), segment_bytes, target, ready: Mutex::default(), errands }
    }

    fn count(&self) -> usize {
        self.ready.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// A spare, if there is one.
    pub(crate) fn take(&self) -> Option<Spare> {
        let spare = self.ready.lock().unwrap_or_else(PoisonError::into_inner).pop();
        if spare.is_some() {
            // The keeper may be gone: then nothing more is begun either.
            let _ = self.errands.send(Errand::Taken);
        }
        spare
    }

    /// Puts back a spare that could not be used for want of room.
    pub(crate) fn put(&self, spare: Spare) {
        self.ready.lock().unwrap_or_else(PoisonError::into_inner).push(spare);
    }

    /// Takes over the spare files that an earlier boot left; removes those beyond the target.
    pub(crate) async fn adopt(&self, names: &[String]) -> benteng_host::Result<()> {
        for name in names {
            let path = self.dir.join(name);
            match self.inspect(&path).await? {
                Some(spare) if self.count() < self.target => self.put(spare),
                _ => self.host.disk.remove(&path).await?,
            }
        }
        Ok(())
    }

    /// What a spare file is good for; `None`: too small.
    async fn inspect(&self, path: &Path) -> benteng_host::Result<Option<Spare>> {
        let file = self.host.disk.open(path, Open::Read).await?;
        let bytes = file.len().await?;
        if bytes < self.segment_bytes {
            return Ok(None);
        }
        let block = usize::try_from(HEADER_BYTES).expect("4096 fits");
        let header = SegmentHeader::decode(&file.read_at(0, block).await?);
        // An unreadable header belongs to no life: its records cannot match a new uuid either.
        let generation = header.map_or(0, |header| header.generation);
        Ok(Some(Spare { path: path.to_owned(), bytes, generation }))
    }

    /// Turns the file of a released segment into a spare, or removes it.
    async fn recycle(&self, path: &Path) -> benteng_host::Result<()> {
        let spare = if self.count() < self.target { self.inspect(path).await? } else { None };
        match spare {
            Some(spare) => {
                let to = self.dir.join(spare_name(random_u64(&*self.host.random)));
                self.host.disk.rename(path, &to).await?;
                // J5: the old name is durably gone before the header is overwritten.
                sync_dir(&self.host, &self.dir).await;
                self.put(Spare { path: to, ..spare });
                probe("journal_segment_recycled");
            }
            None => {
                self.host.disk.remove(path).await?;
                sync_dir(&self.host, &self.dir).await;
            }
        }
        Ok(())
    }

    /// Makes one new spare.
    async fn make(&self) -> benteng_host::Result<()> {
        let disk = &self.host.disk;
        let id = random_u64(&*self.host.random);
        let unfinished = self.dir.join(unfinished_name(id));
        let made = async {
            let file = disk.open(&unfinished, Open::CreateNew).await?;
            let mut at = 0;
            while at < self.segment_bytes {
                let n = SLICE_BYTES.min(self.segment_bytes - at);
                file.zero(at, n).await?;
                file.sync_data().await?;
                at += n;
            }
            let path = self.dir.join(spare_name(id));
            disk.rename(&unfinished, &path).await?;
            sync_dir(&self.host, &self.dir).await;
            benteng_host::Result::Ok(path)
        };
        match made.await {
            Ok(path) => {
                self.put(Spare { path, bytes: self.segment_bytes, generation: 0 });
                Ok(())
            }
            Err(e) => {
                // Nothing depends on a file that is not ready: give its room back and try later.
                let _ = disk.remove(&unfinished).await;
                Err(e)
            }
        }
    }

    /// The keeper: runs until the journal ends.
    pub(crate) async fn keep(self: Arc<Spares>, mut errands: UnboundedReceiver<Errand>) {
        let mut retry = RETRY_MIN;
        loop {
            // What was released comes first: a file that is recycled need not be made.
            while let Ok(errand) = errands.try_recv() {
                self.run(errand).await;
            }
            let mut wait = RETRY_MAX;
            if self.count() < self.target {
                match self.make().await {
                    Ok(()) => {
                        retry = RETRY_MIN;
                        if self.count() < self.target {
                            continue;
                        }
                    }
                    Err(error) => {
                        if error.is_full() {
                            probe("journal_spare_finds_no_room");
                        } else {
                            warn!(%error, "journal has no spare segment ready");
                        }
                        wait = retry;
                        retry = (retry * 2).min(RETRY_MAX);
                    }
                }
            }
            // Between two attempts at more spares, errands are run at once.
            match timeout(&*self.host.clock, wait, errands.recv()).await {
                Ok(Some(errand)) => self.run(errand).await,
                Ok(None) => return,
                Err(_elapsed) => {}
            }
        }
    }

    async fn run(&self, errand: Errand) {
        if let Errand::Recycle(path) = errand
            && let Err(error) = self.recycle(&path).await
        {
            warn!(%error, "released journal segment is not recycled; the next start removes it");
            sleep(&*self.host.clock, RETRY_MIN).await;
        }
    }
}
