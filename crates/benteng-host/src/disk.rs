//! Files by name with positional I/O. Nothing is durable before the sync that covers it:
//! contents by [`File::sync_data`], names (create, rename, remove) by [`Disk::sync_dir`].

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;

use crate::{Error, Fut, Result};

/// How to open a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Open {
    /// Existing file, reading only.
    Read,
    /// Existing file, reading and writing.
    Write,
    /// New file, reading and writing; an existing one is an error (`AlreadyExists`).
    CreateNew,
}

/// Room on the device that holds a path, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    /// Size of the file system.
    pub total: u64,
    /// What an unprivileged process may still allocate.
    pub free: u64,
}

/// The file system of one machine. Paths are as the caller gives them, without `..`.
pub trait Disk: Send + Sync {
    /// Opens a file.
    fn open(&self, path: &Path, how: Open) -> Fut<Result<Arc<dyn File>>>;
    /// Creates a directory and its missing parents, durably (each parent is synced).
    fn create_dir_all(&self, path: &Path) -> Fut<Result<()>>;
    /// Removes a file.
    fn remove(&self, path: &Path) -> Fut<Result<()>>;
    /// Renames a file, replacing the target atomically. Open handles follow the file.
    fn rename(&self, from: &Path, to: &Path) -> Fut<Result<()>>;
    /// Names (not paths) of the entries of a directory, sorted by bytes.
    fn list(&self, dir: &Path) -> Fut<Result<Vec<String>>>;
    /// Makes the names in `dir` durable.
    fn sync_dir(&self, dir: &Path) -> Fut<Result<()>>;
    /// Room on the device that holds `path`.
    fn space(&self, path: &Path) -> Fut<Result<Space>>;
}

/// Which half of [`File::write_sync`] failed: only the first may be tried again (protocols J6).
#[derive(Debug)]
pub enum WriteSyncError {
    /// The write; nothing is promised, and nothing was synced.
    Write(Error),
    /// The sync: never retry, abort.
    Sync(Error),
}

/// An open file. Calls may overlap; overlapping writes of one range have no order.
#[expect(clippy::len_without_is_empty, reason = "a length that must be asked for has no cheap emptiness")]
pub trait File: Send + Sync {
    /// Length in bytes.
    fn len(&self) -> Fut<Result<u64>>;
    /// Reads `n` bytes at `offset`; fewer only at the end of the file.
    fn read_at(&self, offset: u64, n: usize) -> Fut<Result<Bytes>>;
    /// Writes all of `parts`, one after another, from `offset` on. May extend the file.
    /// On an error any part of it may have been written.
    fn write_at(&self, offset: u64, parts: Vec<Bytes>) -> Fut<Result<()>>;
    /// Allocates and zeroes `offset..offset + n`, extending the file: later writes there
    /// change no metadata, which makes `sync_data` cheap.
    fn zero(&self, offset: u64, n: u64) -> Fut<Result<()>>;
    /// Allocates `offset..offset + n` without zeroing it by hand, extending the file.
    fn allocate(&self, offset: u64, n: u64) -> Fut<Result<()>>;
    /// Cuts or extends (with zeros) the file.
    fn set_len(&self, n: u64) -> Fut<Result<()>>;
    /// Makes all writes that completed before this call durable, and the length.
    /// After an error the page cache may disagree with the disk for good: never retry,
    /// abort (protocols J6).
    fn sync_data(&self) -> Fut<Result<()>>;
    /// [`File::write_at`] and then [`File::sync_data`]: a log's every batch. A machine that can make
    /// one request of them spares a wait between the two.
    fn write_sync(&self, offset: u64, parts: Vec<Bytes>) -> Fut<std::result::Result<(), WriteSyncError>> {
        let (write, sync) = (self.write_at(offset, parts), self.sync_data());
        Box::pin(async move {
            write.await.map_err(WriteSyncError::Write)?;
            sync.await.map_err(WriteSyncError::Sync)
        })
    }
}
