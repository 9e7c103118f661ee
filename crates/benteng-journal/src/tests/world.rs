//! A deterministic machine for tests: one thread, virtual time, a disk with a volatile and
//! a durable image, and faults at any operation. Also included by `benteng-chunks`.
#![allow(dead_code, reason = "each including crate uses its own part of it")]

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::io;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use benteng_host::{
    Clock, Error, Fate, Fut, Host, Listener, Mono, Net, Random, Result, Stream, Task, TaskFailed, Tasks, Wall,
};
use futures::channel::oneshot;

#[path = "disk.rs"]
mod disk; // files and names, volatile and durable

const SECTOR: usize = 512;

/// What becomes of unsynced sectors and names when the power fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Loss {
    /// All of them reach the disk.
    Keep,
    /// None does.
    Drop,
    /// Each file keeps all, none, or each sector by chance; names keep a prefix of their changes.
    Random,
}

#[derive(Default)]
struct Inode {
    now: Vec<u8>,
    durable: Vec<u8>,
    dirty: BTreeSet<usize>,
}

enum NameChange {
    Link(PathBuf, u64),
    Unlink(PathBuf),
    Move(PathBuf, PathBuf),
}

#[derive(Default)]
struct State {
    seed: u64,
    now: Duration,
    tasks: BTreeMap<u64, Option<Fut<()>>>,
    ready: Vec<u64>,
    sleepers: BTreeMap<(Duration, u64), Waker>,
    next: u64,
    // Faults.
    ops: u64,
    crash_at: Option<u64>,
    crashed: bool,
    aborted: Option<String>,
    fail_sync_after: Option<u64>,
    fail_write_after: Option<u64>,
    capacity: Option<u64>,
    // Disk.
    inodes: BTreeMap<u64, Inode>,
    names: BTreeMap<PathBuf, u64>,
    durable_names: BTreeMap<PathBuf, u64>,
    changes: Vec<NameChange>,
    /// Files that were removed although they were not there.
    removed_in_vain: Vec<PathBuf>,
}

impl State {
    fn random(&mut self) -> u64 {
        // SplitMix64: any seed is good.
        self.seed = self.seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.seed;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: u64) -> u64 {
        self.random() % n.max(1)
    }

    fn used(&self) -> u64 {
        let live: BTreeSet<u64> = self.names.values().copied().collect();
        live.iter().filter_map(|id| self.inodes.get(id)).map(|inode| inode.now.len() as u64).sum()
    }

    fn room_for(&self, more: u64) -> io::Result<()> {
        match self.capacity {
            Some(capacity) if self.used() + more > capacity => Err(io::ErrorKind::StorageFull.into()),
            _ => Ok(()),
        }
    }

    fn apply(names: &mut BTreeMap<PathBuf, u64>, change: &NameChange) {
        match change {
            NameChange::Link(path, id) => drop(names.insert(path.clone(), *id)),
            NameChange::Unlink(path) => drop(names.remove(path)),
            NameChange::Move(from, to) => {
                if let Some(id) = names.remove(from) {
                    names.insert(to.clone(), id);
                }
            }
        }
    }

    fn change(&mut self, change: NameChange) {
        State::apply(&mut self.names, &change);
        self.changes.push(change);
    }
}

/// The machine. Clones share it.
#[derive(Clone)]
pub(crate) struct World(Arc<Mutex<State>>);

impl World {
    pub(crate) fn new(seed: u64) -> World {
        World(Arc::new(Mutex::new(State { seed, next: 1, ..State::default() })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn host(&self) -> Host {
        Host {
            clock: Arc::new(self.clone()),
            random: Arc::new(self.clone()),
            disk: Arc::new(self.clone()),
            net: Arc::new(self.clone()),
            tasks: Arc::new(self.clone()),
            fate: Arc::new(self.clone()),
        }
    }

    /// Runs to the end of `main`, or to a crash (`None`); every task ends with it.
    pub(crate) fn run<T>(&self, main: impl Future<Output = T>) -> Option<T> {
        let mut main = pin!(main);
        self.state().ready.push(0);
        let done = loop {
            if self.state().crashed {
                break None;
            }
            let picked = {
                let mut state = self.state();
                if state.ready.is_empty() {
                    let at =
                        *state.sleepers.keys().next().expect("a deadlock: nothing is ready, nothing sleeps");
                    state.now = state.now.max(at.0);
                    let woken = state.sleepers.remove(&at);
                    drop(state);
                    woken.into_iter().for_each(Waker::wake);
                    continue;
                }
                let n = state.ready.len() as u64;
                let i = state.below(n);
                state.ready.swap_remove(usize::try_from(i).expect("small"))
            };
            let waker = Waker::from(Arc::new(WakeTask { world: self.clone(), id: picked }));
            let mut cx = Context::from_waker(&waker);
            if picked == 0 {
                if let Poll::Ready(out) = main.as_mut().poll(&mut cx) {
                    break Some(out);
                }
                continue;
            }
            let task = self.state().tasks.get_mut(&picked).and_then(Option::take);
            if let Some(mut task) = task {
                let ended = task.as_mut().poll(&mut cx).is_ready();
                let mut state = self.state();
                if ended {
                    state.tasks.remove(&picked);
                } else if let Some(slot) = state.tasks.get_mut(&picked) {
                    *slot = Some(task);
                }
            }
        };
        let (tasks, sleepers) = {
            let mut state = self.state();
            state.crashed = false;
            state.crash_at = None;
            state.ready.clear();
            (std::mem::take(&mut state.tasks), std::mem::take(&mut state.sleepers))
        };
        drop((tasks, sleepers));
        self.state().ready.clear();
        done
    }

    /// The process dies at the `n`th disk operation from now on.
    pub(crate) fn crash_in(&self, n: u64) {
        let mut state = self.state();
        state.crash_at = Some(state.ops + n);
    }

    /// Disk operations so far.
    pub(crate) fn ops(&self) -> u64 {
        self.state().ops
    }

    /// The `n`th sync of a file from now on fails, and drops what it should have written.
    pub(crate) fn fail_sync_in(&self, n: u64) {
        self.state().fail_sync_after = Some(n);
    }

    /// The `n`th write from now on fails with EIO.
    pub(crate) fn fail_write_in(&self, n: u64) {
        self.state().fail_write_after = Some(n);
    }

    /// Limits the device; `None`: no limit.
    pub(crate) fn set_capacity(&self, bytes: Option<u64>) {
        self.state().capacity = bytes;
    }

    /// Bytes of all files.
    pub(crate) fn used(&self) -> u64 {
        self.state().used()
    }

    /// Why the process ended itself, if it did.
    pub(crate) fn aborted(&self) -> Option<String> {
        self.state().aborted.take()
    }

    /// A random number below `n`.
    pub(crate) fn below(&self, n: u64) -> u64 {
        self.state().below(n)
    }

    /// The power fails: what was not synced is lost, torn or kept.
    pub(crate) fn power_loss(&self, loss: Loss) {
        let mut state = self.state();
        let changes = std::mem::take(&mut state.changes);
        let kept = match loss {
            Loss::Keep => changes.len() as u64,
            Loss::Drop => 0,
            Loss::Random => state.below(changes.len() as u64 + 1),
        };
        let mut names = state.durable_names.clone();
        changes.iter().take(usize::try_from(kept).expect("small")).for_each(|c| State::apply(&mut names, c));
        state.durable_names = names.clone();
        state.names = names;
        let ids: Vec<u64> = state.inodes.keys().copied().collect();
        for id in ids {
            let mode = match loss {
                Loss::Keep => 0,
                Loss::Drop => 1,
                Loss::Random => state.below(3),
            };
            let mut inode = state.inodes.remove(&id).unwrap_or_default();
            for sector in std::mem::take(&mut inode.dirty) {
                if mode == 0 || (mode == 2 && state.below(2) == 0) {
                    inode.keep(sector);
                }
            }
            inode.now = inode.durable.clone();
            state.inodes.insert(id, inode);
        }
        let live: BTreeSet<u64> = state.names.values().copied().collect();
        state.inodes.retain(|id, _| live.contains(id));
    }

    /// Files that were removed although they were not there.
    pub(crate) fn removed_in_vain(&self) -> Vec<PathBuf> {
        self.state().removed_in_vain.clone()
    }

    /// Paths of all files.
    pub(crate) fn files(&self) -> Vec<PathBuf> {
        self.state().names.keys().cloned().collect()
    }

    /// Contents of a file.
    pub(crate) fn contents(&self, path: &Path) -> Vec<u8> {
        let state = self.state();
        state.inodes[&state.names[path]].now.clone()
    }

    /// Changes a file on the disk itself, behind everybody's back.
    pub(crate) fn tamper(&self, path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
        let mut state = self.state();
        let id = state.names[path];
        let inode = state.inodes.get_mut(&id).expect("named files have an inode");
        change(&mut inode.now);
        inode.durable = inode.now.clone();
    }

    /// Removes a file on the disk itself.
    pub(crate) fn lose(&self, path: &Path) {
        let mut state = self.state();
        state.names.remove(path);
        state.durable_names.remove(path);
    }

    /// Lets others run, counts the operation, and dies if its time has come.
    async fn op(&self) {
        let yields = self.below(3);
        for _ in 0..yields {
            self.yield_now().await;
        }
        let dies = {
            let mut state = self.state();
            state.ops += 1;
            state.crash_at == Some(state.ops)
        };
        if dies {
            self.die().await;
        }
    }

    async fn yield_now(&self) {
        let mut yielded = false;
        poll_fn(|cx| {
            if std::mem::replace(&mut yielded, true) {
                return Poll::Ready(());
            }
            cx.waker().wake_by_ref();
            Poll::Pending
        })
        .await;
    }

    async fn die(&self) -> Infallible {
        self.state().crashed = true;
        std::future::pending().await
    }

    fn io<T: Send + 'static>(
        &self,
        what: &'static str,
        path: &Path,
        run: impl FnOnce(&mut State) -> io::Result<T> + Send + 'static,
    ) -> Fut<Result<T>> {
        let (world, path) = (self.clone(), path.display().to_string());
        Box::pin(async move {
            world.op().await;
            let result = run(&mut world.state());
            result.map_err(|source| Error::new(what, path, source))
        })
    }
}

struct WakeTask {
    world: World,
    id: u64,
}

impl Wake for WakeTask {
    fn wake(self: Arc<Self>) {
        let mut state = self.world.state();
        if !state.ready.contains(&self.id) {
            state.ready.push(self.id);
        }
    }
}

impl Clock for World {
    fn now(&self) -> Mono {
        Mono(self.state().now)
    }

    fn wall(&self) -> Wall {
        Wall(i64::try_from(self.state().now.as_micros()).unwrap_or(i64::MAX))
    }

    fn sleep_until(&self, at: Mono) -> Fut<()> {
        let world = self.clone();
        Box::pin(poll_fn(move |cx| {
            let mut state = world.state();
            if state.now >= at.0 {
                return Poll::Ready(());
            }
            state.next += 1;
            let key = (at.0, state.next);
            state.sleepers.insert(key, cx.waker().clone());
            Poll::Pending
        }))
    }
}

impl Random for World {
    fn fill(&self, out: &mut [u8]) {
        let mut state = self.state();
        out.iter_mut().for_each(|byte| *byte = state.random() as u8);
    }
}

impl Fate for World {
    fn abort(&self, why: &str) -> Fut<Infallible> {
        let world = self.clone();
        world.state().aborted = Some(why.to_owned());
        Box::pin(async move { world.die().await })
    }
}

struct EndTask(World, u64);

impl Drop for EndTask {
    fn drop(&mut self) {
        let task = self.0.state().tasks.remove(&self.1);
        drop(task);
    }
}

impl Tasks for World {
    fn spawn(&self, name: &'static str, future: Fut<()>) -> Task {
        let (tx, rx) = oneshot::channel();
        let run: Fut<()> = Box::pin(async move {
            future.await;
            let _ = tx.send(());
        });
        let id = {
            let mut state = self.state();
            state.next += 1;
            let id = state.next;
            state.tasks.insert(id, Some(run));
            state.ready.push(id);
            id
        };
        let end = Box::pin(async move { rx.await.map_err(|_| TaskFailed { name, panicked: false }) });
        Task::new(end, Box::new(EndTask(self.clone(), id)))
    }

    fn blocking(
        &self,
        _name: &'static str,
        work: Box<dyn FnOnce() + Send>,
    ) -> Fut<std::result::Result<(), TaskFailed>> {
        Box::pin(async move {
            work();
            Ok(())
        })
    }
}

impl Net for World {
    fn listen(&self, addr: &str) -> Fut<Result<Box<dyn Listener>>> {
        let error = Error::new("listen", addr, io::ErrorKind::Unsupported.into());
        Box::pin(async move { Err(error) })
    }

    fn connect(&self, addr: &str) -> Fut<Result<Box<dyn Stream>>> {
        let error = Error::new("connect", addr, io::ErrorKind::Unsupported.into());
        Box::pin(async move { Err(error) })
    }
}
