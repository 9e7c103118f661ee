//! The disk of a simulated host: inodes and names, a page cache over a durable image.
//!
//! The control handle is the `Arc<SimDisk>`; it survives restarts. Mounts and open files
//! of an earlier boot fail with ESTALE. Faults are asked for here and take effect at the
//! next call that they concern. Space is charged by length, holes too.
//!
//! A call changes the page cache when it is first polled and completes after its latency;
//! a sync becomes effective at its end. So a dropped future has done what a thread that
//! goes on behind it may have done.

mod calls; // the Disk and File of a mount
mod image; // inodes and names together, errno and all
mod inode; // contents: page cache, durable image, unsynced changes
mod names; // directories: unsynced changes of names
mod pages; // sparse bytes

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use benteng_host::{Clock, Disk, File, Fut, Mono, Open, Result, Space};

use self::calls::Mount;
use self::image::Image;
use crate::Gate;
use crate::random::{SimRng, below, stream};

/// Number of a file; names come and go, it stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct InodeId(u64);

/// Kinds of calls, for planning faults.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum DiskCall {
    /// Creating a file.
    Create,
    /// Creating directories.
    MakeDir,
    /// Removing a file.
    Remove,
    /// Renaming a file.
    Rename,
    /// Syncing a directory.
    SyncDir,
    /// Reading from a file.
    Read,
    /// Writing to a file.
    Write,
    /// Zeroing.
    Zero,
    /// Allocating.
    Allocate,
    /// Setting the length.
    SetLen,
    /// Syncing a file.
    SyncData,
}

/// Linux's numbers of the errors that a simulated disk gives.
#[derive(Clone, Copy)]
pub(crate) struct Errno(i32);

impl Errno {
    pub(crate) const ENOENT: Errno = Errno(2);
    pub(crate) const EIO: Errno = Errno(5);
    pub(crate) const EBADF: Errno = Errno(9);
    pub(crate) const EEXIST: Errno = Errno(17);
    pub(crate) const ENOTDIR: Errno = Errno(20);
    pub(crate) const EISDIR: Errno = Errno(21);
    pub(crate) const EFBIG: Errno = Errno(27);
    pub(crate) const ENOSPC: Errno = Errno(28);
    pub(crate) const ESTALE: Errno = Errno(116);
}

impl From<Errno> for std::io::Error {
    fn from(errno: Errno) -> std::io::Error {
        std::io::Error::from_raw_os_error(errno.0)
    }
}

struct State {
    image: Image,
    rng: SimRng,
    /// Counts boots; handles of another one are stale.
    generation: u64,
    /// Calls that change something, ever.
    changes: u64,
    crash_at: Option<u64>,
    /// Calls of a kind still to come before one fails with EIO.
    failing: BTreeMap<DiskCall, Vec<u64>>,
    /// Changing calls still to come before one fails, and how.
    failing_op: Option<(u64, Errno)>,
    /// Errors that this boot was given for nothing that it did.
    failures: u64,
    flips: u64,
    stalled_until: Option<Mono>,
    write_latency: RangeInclusive<Duration>,
    sync_latency: RangeInclusive<Duration>,
    read_latency: RangeInclusive<Duration>,
}

struct Shared {
    clock: Arc<dyn Clock>,
    gate: Arc<Gate>,
    state: Mutex<State>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A simulated disk and the handle to its faults. As a [`Disk`] it is a mount of the
/// current boot.
pub struct SimDisk {
    shared: Arc<Shared>,
}

impl SimDisk {
    /// An empty disk without faults or latencies. `clock` times stalls and latencies,
    /// `gate` is stopped by [`SimDisk::crash_at_op`], `seed` decides all that is open.
    pub fn new(clock: Arc<dyn Clock>, gate: Arc<Gate>, seed: u64) -> Arc<SimDisk> {
        let state = State {
            image: Image::default(),
            rng: stream(seed, "disk"),
            generation: 0,
            changes: 0,
            crash_at: None,
            failing: BTreeMap::new(),
            failing_op: None,
            failures: 0,
            flips: 0,
            stalled_until: None,
            write_latency: Duration::ZERO..=Duration::ZERO,
            sync_latency: Duration::ZERO..=Duration::ZERO,
            read_latency: Duration::ZERO..=Duration::ZERO,
        };
        Arc::new(SimDisk { shared: Arc::new(Shared { clock, gate, state: Mutex::new(state) }) })
    }

    /// The file system for the software of this boot.
    pub fn mount(&self) -> Arc<dyn Disk> {
        Arc::new(self.mounted())
    }

    fn mounted(&self) -> Mount {
        Mount { generation: self.shared.lock().generation, shared: self.shared.clone() }
    }

    /// The process dies: the page cache stays, what was asked of the disk is done, its
    /// handles are stale. Faults that were planned are forgotten, the gate opens for the next boot.
    pub fn kill(&self) {
        self.shared.gate.reopen();
        let mut state = self.shared.lock();
        state.generation += 1;
        state.image.close_all();
        state.crash_at = None;
        state.failing.clear();
        state.failing_op = None;
        state.failures = 0;
        state.stalled_until = None;
    }

    /// The power fails: of the unsynced writes each lasts, is torn at 512 bytes, or is lost,
    /// as `rng` decides; of the unsynced names each lasts or not.
    pub fn power_loss(&self, rng: &mut SimRng) {
        self.kill();
        self.shared.lock().image.power_loss(rng);
    }

    /// The disk is replaced by an empty one.
    pub fn lose(&self) {
        self.kill();
        let mut state = self.shared.lock();
        state.image = Image::default();
        state.flips = 0;
    }

    /// Calls so far that change something (reads, opens, lists do not count).
    pub fn ops(&self) -> u64 {
        self.shared.lock().changes
    }

    /// The host stops at the `n`-th changing call from now (1: the next), which is done, done
    /// in part, or not done, and never completes. Its gate says so; kill or cut the power then.
    pub fn crash_at_op(&self, n: u64) {
        let mut state = self.shared.lock();
        state.crash_at = Some(state.changes.saturating_add(n.max(1)));
    }

    /// The `n`-th call of its kind from now (1: the next) fails with EIO. A failed sync leaves
    /// the page cache as it is and the device without (some of) it, for good.
    pub fn fail(&self, call: DiskCall, n: u64) {
        self.shared.lock().failing.entry(call).or_default().push(n.max(1));
    }

    /// The `n`-th changing call from now (1: the next), whatever its kind, fails once: with ENOSPC if the device
    /// is `full`, else with EIO. 0: none does any more.
    pub fn fail_op(&self, n: u64, full: bool) {
        let errno = if full { Errno::ENOSPC } else { Errno::EIO };
        self.shared.lock().failing_op = (n > 0).then_some((n, errno));
    }

    /// Calls that failed for nothing that the software did, since the last boot.
    pub fn failures(&self) -> u64 {
        self.shared.lock().failures
    }

    /// Whether its capacity is limited.
    pub fn is_limited(&self) -> bool {
        self.shared.lock().image.is_limited()
    }

    /// Files below `dir` with the end of what was written to each.
    pub fn written(&self, dir: &Path) -> Vec<(PathBuf, u64)> {
        let state = self.shared.lock();
        let ends = state.image.ends();
        ends.filter(|(path, _)| path.starts_with(dir)).collect()
    }

    /// All files with their lengths.
    pub fn sizes(&self) -> Vec<(PathBuf, u64)> {
        self.shared.lock().image.sizes().collect()
    }

    /// A file disappears for good, as after damage to its directory; says whether it was there.
    pub fn lose_file(&self, path: &Path) -> bool {
        let mut state = self.shared.lock();
        state.flips += 1;
        let lost = state.image.remove(path).is_ok();
        let synced = path.parent().is_none_or(|dir| state.image.sync_dir(dir).is_ok());
        lost && synced
    }

    /// Calls that begin within `d` from now wait until then.
    pub fn stall(&self, d: Duration) {
        let until = self.shared.clock.now() + d;
        self.shared.lock().stalled_until = Some(until);
    }

    /// Limits the sum of lengths to `bytes`; `None` lifts it. Files may be over it already:
    /// then nothing grows.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.shared.lock().image.set_capacity(bytes);
    }

    /// How long writes and syncs take, drawn evenly from these ranges.
    pub fn set_latency(&self, write: RangeInclusive<Duration>, sync: RangeInclusive<Duration>) {
        let mut state = self.shared.lock();
        state.write_latency = write;
        state.sync_latency = sync;
    }

    /// How long reads take; what they read is what was there when they began.
    pub fn set_read_latency(&self, read: RangeInclusive<Duration>) {
        self.shared.lock().read_latency = read;
    }

    /// Flips the bits of `mask` in a stored byte: bit rot. Says whether that byte exists.
    pub fn flip(&self, path: &Path, offset: u64, mask: u8) -> bool {
        let mut state = self.shared.lock();
        state.flips += 1;
        state.image.flip(path, offset, mask)
    }

    /// Bits flipped, and files lost, since the disk was new.
    pub fn flips(&self) -> u64 {
        self.shared.lock().flips
    }

    /// Flips one bit somewhere in the files that `choose` accepts; says where.
    pub fn flip_somewhere(&self, rng: &mut SimRng, choose: impl Fn(&Path) -> bool) -> Option<(PathBuf, u64)> {
        let mut state = self.shared.lock();
        let files: Vec<(PathBuf, u64)> =
            state.image.sizes().filter(|(path, n)| *n > 0 && choose(path)).collect();
        let total = files.iter().map(|(_, n)| n).sum();
        // Bytes rot, not files: large ones more.
        let mut offset = below(rng, total);
        for (path, n) in files {
            if offset < n {
                let mask = 1 << below(rng, 8);
                return state.image.flip(&path, offset, mask).then_some((path, offset));
            }
            offset -= n;
        }
        None
    }

    /// Drops clean pages: reads then show what the device holds, after a failed sync too.
    pub fn evict(&self) {
        self.shared.lock().image.evict();
    }
}

impl Disk for SimDisk {
    fn open(&self, path: &Path, how: Open) -> Fut<Result<Arc<dyn File>>> {
        self.mounted().open(path, how)
    }
    fn create_dir_all(&self, path: &Path) -> Fut<Result<()>> {
        self.mounted().create_dir_all(path)
    }
    fn remove(&self, path: &Path) -> Fut<Result<()>> {
        self.mounted().remove(path)
    }
    fn rename(&self, from: &Path, to: &Path) -> Fut<Result<()>> {
        self.mounted().rename(from, to)
    }
    fn list(&self, dir: &Path) -> Fut<Result<Vec<String>>> {
        self.mounted().list(dir)
    }
    fn sync_dir(&self, dir: &Path) -> Fut<Result<()>> {
        self.mounted().sync_dir(dir)
    }
    fn space(&self, path: &Path) -> Fut<Result<Space>> {
        self.mounted().space(path)
    }
}

#[cfg(test)]
mod tests;
