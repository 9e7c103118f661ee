//! The ordered store on RocksDB, without its write-ahead log: our own log replays
//! (design §4). Reads are direct calls; writes and flushes happen on a thread each, since
//! RocksDB stops writers when memtables fill faster than they are flushed.

mod verify; // every block from the device again; and what becomes of a damaged store

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use rocksdb::{
    BlockBasedOptions, Cache, DB, DBCompressionType, DBPinnableSlice, DBRawIterator, FlushOptions, Options,
    ReadOptions, Snapshot, WriteBatch, WriteOptions,
};

use super::pool::{Pace, Pool};
use crate::{Batch, Error, Fut, Kv, KvView, Op, Result, Verified, Visit};

/// Batches that wait for the writer; the next ones wait outside.
const QUEUED_WRITES: usize = 64;
/// Flushes that wait.
const QUEUED_FLUSHES: usize = 8;

/// Memory of a store; the rest of RocksDB's settings follows from what a node needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RocksOptions {
    /// Cache of blocks, indexes and filters, in bytes.
    pub block_cache_bytes: usize,
    /// All memtables together, in bytes. Larger ones flush less often, and flushes are what
    /// p99 is made of (research: 64 → 256 MiB took it from 72 to 22 ms).
    pub write_buffer_bytes: usize,
}

impl Default for RocksOptions {
    fn default() -> RocksOptions {
        RocksOptions { block_cache_bytes: 96 << 20, write_buffer_bytes: 64 << 20 }
    }
}

/// An open store. Dropping it writes what is queued, joins its threads and closes the
/// database; snapshots keep the database (and its lock) open until they are dropped.
pub struct RocksKv {
    // In this order: the writer hands flushes to the flusher.
    writer: Pool,
    flusher: Pool,
    verifier: Pool,
    db: Arc<DB>,
    object: Arc<str>,
    path: Arc<PathBuf>,
    condemned: u64,
}

impl RocksKv {
    /// Opens or creates the store in the directory `path`. Blocks on the disk.
    ///
    /// After an unclean end the state is the last flush that returned or a later one, at a
    /// batch boundary.
    /// A store that was given up ([`Kv::condemn`]) is removed first.
    /// Errors: damage is `InvalidData`, never repaired here; the state is rebuilt from log and peers.
    pub fn open(path: &Path, options: &RocksOptions) -> Result<Arc<RocksKv>> {
        let object: Arc<str> = path.display().to_string().into();
        let condemned = verify::bury(path).map_err(|e| Error::new("remove damaged store", &object, e))?;
        let db = DB::open(&database_options(options), path).map_err(|e| error("open store", &object, e))?;
        Ok(Arc::new(RocksKv {
            writer: Pool::start("benteng-kv-write", 1, QUEUED_WRITES),
            flusher: Pool::start("benteng-kv-flush", 1, QUEUED_FLUSHES),
            verifier: Pool::start("benteng-kv-verify", 1, QUEUED_FLUSHES),
            db: Arc::new(db),
            object,
            path: Arc::new(path.to_owned()),
            condemned,
        }))
    }
}

fn database_options(memory: &RocksOptions) -> Options {
    let mut table = BlockBasedOptions::default();
    table.set_block_cache(&Cache::new_lru_cache(memory.block_cache_bytes));
    table.set_block_size(16 << 10);
    table.set_bloom_filter(10.0, false);
    table.set_cache_index_and_filter_blocks(true);
    table.set_pin_l0_filter_and_index_blocks_in_cache(true);

    let mut options = Options::default();
    options.create_if_missing(true);
    options.set_block_based_table_factory(&table);
    options.set_paranoid_checks(true);
    options.set_atomic_flush(true);
    // Values are sealed: they do not compress. Sealing compresses before.
    options.set_compression_type(DBCompressionType::None);
    options.set_bottommost_compression_type(DBCompressionType::None);
    // Two memtables bound the memory (I7): one filling, one being flushed; then writers stop.
    options.set_write_buffer_size((memory.write_buffer_bytes / 2).max(1 << 20));
    options.set_max_write_buffer_number(2);
    // Most keys that `apply` asks for are not there (a new command's answer, a new object): a filter says
    // so without a walk through the memtable.
    options.set_memtable_prefix_bloom_ratio(0.02);
    options.set_memtable_whole_key_filtering(true);
    // Spreads write-back, so that a flush does not meet the journal's fsyncs as one burst.
    options.set_bytes_per_sync(512 << 10);
    options.set_max_background_jobs(2);
    options.set_max_open_files(1000);
    // RocksDB's own text log.
    options.set_max_log_file_size(4 << 20);
    options.set_keep_log_file_num(4);
    options
}

/// RocksDB's error as one of the machine: the kinds that callers tell apart.
fn error(op: &'static str, object: &Arc<str>, e: rocksdb::Error) -> Error {
    Error::new(op, object, io_error(e))
}

fn io_error(e: rocksdb::Error) -> io::Error {
    io::Error::new(kind_of(&e.kind(), e.as_ref()), e)
}

fn kind_of(kind: &rocksdb::ErrorKind, text: &str) -> io::ErrorKind {
    // The C interface gives errno as text alone.
    if text.contains("No space left on device") || text.contains("Disk quota exceeded") {
        return io::ErrorKind::StorageFull;
    }
    match kind {
        rocksdb::ErrorKind::NotFound => io::ErrorKind::NotFound,
        rocksdb::ErrorKind::Corruption => io::ErrorKind::InvalidData,
        rocksdb::ErrorKind::InvalidArgument => io::ErrorKind::InvalidInput,
        rocksdb::ErrorKind::Busy | rocksdb::ErrorKind::TryAgain => io::ErrorKind::ResourceBusy,
        _ => io::ErrorKind::Other,
    }
}

fn value(
    found: std::result::Result<Option<DBPinnableSlice<'_>>, rocksdb::Error>,
) -> std::result::Result<Option<Bytes>, rocksdb::Error> {
    Ok(found?.map(|v| Bytes::copy_from_slice(&v)))
}

/// Whether `from..to` holds no key by its bounds alone (an empty `to` is the end).
fn is_empty_range(from: &[u8], to: &[u8]) -> bool {
    !to.is_empty() && from >= to
}

fn bounds(from: &[u8], to: &[u8]) -> ReadOptions {
    let mut options = ReadOptions::default();
    options.set_iterate_lower_bound(from);
    if !to.is_empty() {
        options.set_iterate_upper_bound(to);
    }
    options
}

#[derive(Clone, Copy)]
enum Direction {
    Up,
    Down,
}

fn walk(
    iter: &mut DBRawIterator<'_>,
    direction: Direction,
    visit: &mut dyn FnMut(&[u8], &[u8]) -> Visit,
) -> std::result::Result<(), rocksdb::Error> {
    match direction {
        Direction::Up => iter.seek_to_first(),
        Direction::Down => iter.seek_to_last(),
    }
    while let Some((key, value)) = iter.item() {
        if visit(key, value).is_break() {
            return Ok(());
        }
        match direction {
            Direction::Up => iter.next(),
            Direction::Down => iter.prev(),
        }
    }
    // An iterator ends at an error too.
    iter.status()
}

impl KvView for RocksKv {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>> {
        value(self.db.get_pinned(key)).map_err(|e| error("read store", &self.object, e))
    }

    fn scan(&self, from: &[u8], to: &[u8], visit: &mut dyn FnMut(&[u8], &[u8]) -> Visit) -> Result<()> {
        if is_empty_range(from, to) {
            return Ok(());
        }
        walk(&mut self.db.raw_iterator_opt(bounds(from, to)), Direction::Up, visit)
            .map_err(|e| error("scan store", &self.object, e))
    }

    fn scan_back(&self, from: &[u8], to: &[u8], visit: &mut dyn FnMut(&[u8], &[u8]) -> Visit) -> Result<()> {
        if is_empty_range(from, to) {
            return Ok(());
        }
        walk(&mut self.db.raw_iterator_opt(bounds(from, to)), Direction::Down, visit)
            .map_err(|e| error("scan store", &self.object, e))
    }
}

impl Kv for RocksKv {
    fn snapshot(&self) -> Result<Arc<dyn KvView>> {
        let cell = SnapshotCell::new(self.db.clone(), |db| db.snapshot());
        Ok(Arc::new(RocksSnapshot { cell, object: self.object.clone() }))
    }

    fn write(&self, batch: Batch) -> Fut<Result<()>> {
        let (queue, db, object) = (self.writer.queue().clone(), self.db.clone(), self.object.clone());
        Box::pin(async move {
            queue
                .run(Pace::Slow, move || write(&db, batch).map_err(io_error))
                .await
                .map_err(|e| Error::new("write store", object, e))
        })
    }

    fn flush(&self) -> Fut<Result<()>> {
        let (writer, flusher) = (self.writer.queue().clone(), self.flusher.queue().clone());
        let (db, object) = (self.db.clone(), self.object.clone());
        Box::pin(async move {
            // Through the writer's queue, so that it covers every batch submitted before it;
            // on a thread of its own, so that later batches do not wait for it.
            let flushed = async {
                let slot = flusher.room().await?;
                let pass = move || Ok(slot.run(Pace::Slow, move || flush(&db).map_err(io_error)));
                writer.run(Pace::Slow, pass).await?.await
            };
            flushed.await.map_err(|e| Error::new("flush store", object, e))
        })
    }

    fn verify(&self, after: Option<Bytes>, budget: u64) -> Fut<Result<Verified>> {
        let (queue, object, path) = (self.verifier.queue().clone(), self.object.clone(), self.path.clone());
        Box::pin(async move {
            let read = move || verify::read_again(&path, after.as_deref(), budget);
            queue.run(Pace::Slow, read).await.map_err(|e| Error::new("verify store", object, e))
        })
    }

    fn condemn(&self) -> Fut<Result<()>> {
        let (queue, object, path) = (self.verifier.queue().clone(), self.object.clone(), self.path.clone());
        Box::pin(async move {
            let condemn = move || verify::condemn(&path);
            queue.run(Pace::Slow, condemn).await.map_err(|e| Error::new("give up store", object, e))
        })
    }

    fn condemned(&self) -> u64 {
        self.condemned
    }
}

fn write(db: &DB, batch: Batch) -> std::result::Result<(), rocksdb::Error> {
    let mut out = WriteBatch::default();
    // The greatest key that an earlier op of this batch may have put.
    let mut put_max: Option<Bytes> = None;
    for op in batch.ops {
        match op {
            Op::Put(key, value) => {
                out.put(&key, &value);
                put_max = put_max.max(Some(key));
            }
            Op::Delete(key) => out.delete(&key),
            Op::DeleteRange(from, to) if to.is_empty() => {
                // RocksDB has no open end: just behind the last key that can be there. This
                // thread is the only writer, so no key appears in between.
                if let Some(end) = behind_last(db, put_max.as_deref())?
                    && from < end
                {
                    out.delete_range(from.as_ref(), end.as_slice());
                }
            }
            // RocksDB fails a batch whose range ends before it starts.
            Op::DeleteRange(from, to) if from < to => out.delete_range(&from, &to),
            Op::DeleteRange(..) => {}
        }
    }
    let mut options = WriteOptions::default();
    options.disable_wal(true);
    db.write_opt(out, &options)
}

fn behind_last(db: &DB, put_max: Option<&[u8]>) -> std::result::Result<Option<Vec<u8>>, rocksdb::Error> {
    let mut iter = db.raw_iterator();
    iter.seek_to_last();
    let last = iter.key().max(put_max).map(|key| [key, &[0]].concat());
    iter.status()?;
    Ok(last)
}

fn flush(db: &DB) -> std::result::Result<(), rocksdb::Error> {
    let mut options = FlushOptions::default();
    options.set_wait(true);
    db.flush_opt(&options)
}

self_cell::self_cell!(
    struct SnapshotCell {
        owner: Arc<DB>,
        #[covariant]
        dependent: Snapshot,
    }
);

struct RocksSnapshot {
    cell: SnapshotCell,
    object: Arc<str>,
}

impl RocksSnapshot {
    fn walk(
        &self,
        from: &[u8],
        to: &[u8],
        direction: Direction,
        visit: &mut dyn FnMut(&[u8], &[u8]) -> Visit,
    ) -> Result<()> {
        if is_empty_range(from, to) {
            return Ok(());
        }
        let mut iter = self.cell.borrow_dependent().raw_iterator_opt(bounds(from, to));
        walk(&mut iter, direction, visit).map_err(|e| error("scan snapshot of store", &self.object, e))
    }
}

impl KvView for RocksSnapshot {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>> {
        value(self.cell.borrow_dependent().get_pinned(key))
            .map_err(|e| error("read snapshot of store", &self.object, e))
    }

    fn scan(&self, from: &[u8], to: &[u8], visit: &mut dyn FnMut(&[u8], &[u8]) -> Visit) -> Result<()> {
        self.walk(from, to, Direction::Up, visit)
    }

    fn scan_back(&self, from: &[u8], to: &[u8], visit: &mut dyn FnMut(&[u8], &[u8]) -> Visit) -> Result<()> {
        self.walk(from, to, Direction::Down, visit)
    }
}

#[cfg(test)]
mod tests;
