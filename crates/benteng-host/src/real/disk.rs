//! Files of the operating system, on a small pool of threads.
//!
//! Requests are submitted when their future is first polled. One that is dropped later
//! runs to its end all the same: after cancelling a write the range is undefined.

use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, fallocate};
use nix::sys::statvfs::statvfs;
use rustix::buffer::spare_capacity;
use rustix::io::pread;

use super::pool::{Pace, Pool};
use crate::{Disk, Error, File, Fut, Open, Result, Space, WriteSyncError};

/// Threads: one that only reads and writes, three that also wait for the device.
const THREADS: usize = 4;
/// Requests under way; the next ones wait.
const REQUESTS: usize = 256;
/// Parts of a write up to this size are joined, so that a record and its header are one call.
const JOIN_BYTES: usize = 64 << 10;
const ZEROS_BYTES: usize = 1 << 20;
static ZEROS: [u8; ZEROS_BYTES] = [0; ZEROS_BYTES];

/// The file system. Files are created with mode 0600, directories with 0700 (I5).
pub struct RealDisk {
    pool: Arc<Pool>,
}

impl RealDisk {
    /// Starts the threads `benteng-disk-1` to `-4`.
    pub fn new() -> RealDisk {
        RealDisk { pool: Arc::new(Pool::start("benteng-disk", THREADS, REQUESTS)) }
    }

    fn run<T: Send + 'static>(
        &self,
        op: &'static str,
        path: &Path,
        work: impl FnOnce(&Path) -> io::Result<T> + Send + 'static,
    ) -> Fut<Result<T>> {
        let pool = self.pool.clone();
        let path = path.to_owned();
        Box::pin(async move {
            let name = path.clone();
            pool.queue()
                .run(Pace::Slow, move || work(&path))
                .await
                .map_err(|e| Error::new(op, name.display(), e))
        })
    }
}

impl Default for RealDisk {
    fn default() -> RealDisk {
        RealDisk::new()
    }
}

impl Disk for RealDisk {
    fn open(&self, path: &Path, how: Open) -> Fut<Result<Arc<dyn File>>> {
        let pool = self.pool.clone();
        let opened = self.run("open", path, move |path| {
            let mut options = OpenOptions::new();
            options.read(true).write(how != Open::Read).create_new(how == Open::CreateNew).mode(0o600);
            let file = options.open(path)?;
            if file.metadata()?.is_dir() {
                return Err(Errno::EISDIR.into());
            }
            Ok(file)
        });
        let path: Arc<Path> = path.into();
        Box::pin(async move {
            let inner = Arc::new(opened.await?);
            Ok(Arc::new(RealFile { inner, path, pool }) as Arc<dyn File>)
        })
    }

    fn create_dir_all(&self, path: &Path) -> Fut<Result<()>> {
        self.run("create directory", path, create_dir_all)
    }

    fn remove(&self, path: &Path) -> Fut<Result<()>> {
        self.run("remove", path, |path| fs::remove_file(path))
    }

    fn rename(&self, from: &Path, to: &Path) -> Fut<Result<()>> {
        let to = to.to_owned();
        self.run("rename", from, move |from| fs::rename(from, to))
    }

    fn list(&self, dir: &Path) -> Fut<Result<Vec<String>>> {
        self.run("list", dir, |dir| {
            let mut names = Vec::new();
            for entry in fs::read_dir(dir)? {
                names.push(entry?.file_name().into_string().map_err(|name| {
                    let what = format!("the name {name:?} is not UTF-8 and none of ours; move it away");
                    io::Error::new(io::ErrorKind::InvalidData, what)
                })?);
            }
            names.sort_unstable();
            Ok(names)
        })
    }

    fn sync_dir(&self, dir: &Path) -> Fut<Result<()>> {
        self.run("sync directory", dir, sync_dir)
    }

    fn space(&self, path: &Path) -> Fut<Result<Space>> {
        self.run("ask the free space of", path, |path| {
            let s = statvfs(path)?;
            Ok(Space {
                total: s.blocks().saturating_mul(s.fragment_size()),
                free: s.blocks_available().saturating_mul(s.fragment_size()),
            })
        })
    }
}

fn sync_dir(dir: &Path) -> io::Result<()> {
    // The empty parent of a relative name is the working directory.
    let dir = if dir.as_os_str().is_empty() { Path::new(".") } else { dir };
    fs::File::open(dir)?.sync_all()
}

fn create_dir_all(path: &Path) -> io::Result<()> {
    let mut missing: Vec<PathBuf> = Vec::new();
    let mut existing = Some(path);
    while let Some(dir) = existing.filter(|dir| !dir.as_os_str().is_empty()) {
        match fs::metadata(dir) {
            Ok(found) if found.is_dir() => break,
            Ok(_) => return Err(Errno::ENOTDIR.into()),
            Err(e) if e.kind() == io::ErrorKind::NotFound => missing.push(dir.to_owned()),
            Err(e) => return Err(e),
        }
        existing = dir.parent();
    }
    // The deepest directory that is there may be of an earlier call that was killed between
    // mkdir and fsync. One that we may not sync was not made by us.
    if let Some(parent) = existing.and_then(Path::parent) {
        match sync_dir(parent) {
            Err(e) if e.kind() != io::ErrorKind::PermissionDenied => return Err(e),
            _ => {}
        }
    }
    for dir in missing.iter().rev() {
        match fs::DirBuilder::new().mode(0o700).create(dir) {
            Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(e),
            _ => sync_dir(dir.parent().unwrap_or(Path::new("/")))?,
        }
    }
    Ok(())
}

struct RealFile {
    inner: Arc<fs::File>,
    path: Arc<Path>,
    pool: Arc<Pool>,
}

impl RealFile {
    fn run<T: Send + 'static>(
        &self,
        op: &'static str,
        pace: Pace,
        work: impl FnOnce(&fs::File) -> io::Result<T> + Send + 'static,
    ) -> Fut<Result<T>> {
        let (pool, path, file) = (self.pool.clone(), self.path.clone(), self.inner.clone());
        Box::pin(async move {
            pool.queue().run(pace, move || work(&file)).await.map_err(|e| Error::new(op, path.display(), e))
        })
    }
}

impl File for RealFile {
    fn len(&self) -> Fut<Result<u64>> {
        self.run("ask the length of", Pace::Quick, |file| Ok(file.metadata()?.len()))
    }

    fn read_at(&self, offset: u64, n: usize) -> Fut<Result<Bytes>> {
        self.run("read", Pace::Quick, move |file| read_at(file, offset, n).map(Bytes::from))
    }

    fn write_at(&self, offset: u64, parts: Vec<Bytes>) -> Fut<Result<()>> {
        self.run("write", Pace::Quick, move |file| write_at(file, offset, &parts))
    }

    fn zero(&self, offset: u64, n: u64) -> Fut<Result<()>> {
        self.run("zero", Pace::Slow, move |file| zero(file, offset, n))
    }

    fn allocate(&self, offset: u64, n: u64) -> Fut<Result<()>> {
        self.run("allocate", Pace::Slow, move |file| allocate(file, offset, n))
    }

    fn set_len(&self, n: u64) -> Fut<Result<()>> {
        self.run("set the length of", Pace::Slow, move |file| file.set_len(n))
    }

    fn sync_data(&self) -> Fut<Result<()>> {
        self.run("fsync", Pace::Slow, fs::File::sync_data)
    }

    fn write_sync(&self, offset: u64, parts: Vec<Bytes>) -> Fut<std::result::Result<(), WriteSyncError>> {
        let (pool, path, file) = (self.pool.clone(), self.path.clone(), self.inner.clone());
        Box::pin(async move {
            // The outer error is the write's, the inner one the sync's.
            let both = move || write_at(&file, offset, &parts).map(|()| file.sync_data());
            let done = pool.queue().run(Pace::Slow, both).await;
            let failed = |op, e| Error::new(op, path.display(), e);
            match done {
                Ok(Ok(())) => Ok(()),
                Ok(Err(e)) => Err(WriteSyncError::Sync(failed("fsync", e))),
                Err(e) => Err(WriteSyncError::Write(failed("write", e))),
            }
        })
    }
}

fn read_at(file: &fs::File, offset: u64, n: usize) -> io::Result<Vec<u8>> {
    // No more than the file holds: `n` may come from a damaged length.
    let left = file.metadata()?.len().saturating_sub(offset);
    let n = usize::try_from(left).unwrap_or(usize::MAX).min(n);
    let mut out = Vec::with_capacity(n);
    while out.len() < n {
        let at = offset + out.len() as u64;
        // Into memory that nobody has zeroed: for a chunk that is a pass over 4 MiB less.
        match pread(file, spare_capacity(&mut out), at) {
            Ok(0) => break, // The file was cut meanwhile.
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(e.into()),
        }
    }
    // An allocator may give more than was asked for.
    out.truncate(n);
    Ok(out)
}

fn write_at(file: &fs::File, mut offset: u64, parts: &[Bytes]) -> io::Result<()> {
    let mut joined = BytesMut::new();
    let mut put = |bytes: &[u8]| -> io::Result<()> {
        file.write_all_at(bytes, offset)?;
        offset = offset.checked_add(bytes.len() as u64).ok_or(Errno::EFBIG)?;
        Ok(())
    };
    for part in parts {
        if joined.len() + part.len() > JOIN_BYTES {
            put(&joined)?;
            joined.clear();
        }
        // A lone or large part is written from where it is.
        if parts.len() == 1 || part.len() > JOIN_BYTES {
            put(part)?;
        } else {
            joined.extend_from_slice(part);
        }
    }
    put(&joined)
}

fn zero(file: &fs::File, offset: u64, n: u64) -> io::Result<()> {
    let end = offset.checked_add(n).ok_or(Errno::EFBIG)?;
    let mut at = offset;
    while at < end {
        let piece = (end - at).min(ZEROS_BYTES as u64);
        file.write_all_at(&ZEROS[..piece as usize], at)?;
        at += piece;
    }
    Ok(())
}

fn allocate(file: &fs::File, offset: u64, n: u64) -> io::Result<()> {
    let signed = |v: u64| i64::try_from(v).map_err(|_| Errno::EFBIG);
    let (start, length) = (signed(offset)?, signed(n)?);
    if n == 0 {
        return Ok(()); // fallocate(2) refuses it.
    }
    loop {
        match fallocate(file, FallocateFlags::empty(), start, length) {
            Ok(()) => return Ok(()),
            Err(Errno::EINTR) => {}
            // A file system without it (NFS, ZFS): what is new is written, as posix_fallocate does.
            Err(Errno::EOPNOTSUPP) => {
                let len = file.metadata()?.len();
                let end = offset.checked_add(n).ok_or(Errno::EFBIG)?;
                return zero(file, len, end.saturating_sub(len));
            }
            Err(e) => return Err(e.into()),
        }
    }
}

#[cfg(test)]
mod tests;
