//! [`Disk`] and [`File`] of one boot: each call passes the planned faults on its way.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use benteng_host::{Disk, Error, File, Fut, Open, Result, Space, sleep};
use bytes::Bytes;

use super::{DiskCall, Errno, InodeId, Shared, State};
use crate::random::{below, coin, draw};

/// A file system as one boot sees it.
pub(super) struct Mount {
    pub(super) generation: u64,
    pub(super) shared: Arc<Shared>,
}

/// What becomes of a call that is about to be made.
enum Course {
    /// It is made.
    Whole,
    /// The host stops here, in the middle of it.
    Crash { half: bool },
    /// The device fails.
    Fails(Errno),
}

impl State {
    fn course(&mut self, call: DiskCall) -> Course {
        if call != DiskCall::Read {
            self.changes += 1;
            if self.crash_at == Some(self.changes) {
                return Course::Crash { half: coin(&mut self.rng) };
            }
        }
        let planned = self.failing.entry(call).or_default();
        planned.iter_mut().for_each(|left| *left -= 1);
        let fails = planned.contains(&0);
        planned.retain(|left| *left > 0);
        let mut course = if fails { Course::Fails(Errno::EIO) } else { Course::Whole };
        if call != DiskCall::Read
            && let Some((left, errno)) = &mut self.failing_op
        {
            *left -= 1;
            if *left == 0 {
                course = Course::Fails(*errno);
                self.failing_op = None;
            }
        }
        self.failures += u64::from(!matches!(course, Course::Whole));
        course
    }
}

/// What a call does: `begin` when it is made, `finish` after its latency.
struct Steps<B, F> {
    call: DiskCall,
    begin: B,
    finish: F,
}

impl Mount {
    /// Makes a call that changes something, or reads from the device.
    fn make<A, T, B, F>(&self, op: &'static str, object: &Path, steps: Steps<B, F>) -> Fut<Result<T>>
    where
        A: Send + 'static,
        T: Send + 'static,
        B: FnOnce(&mut State, bool) -> io::Result<A> + Send + 'static,
        F: FnOnce(&mut State, A, bool) -> io::Result<T> + Send + 'static,
    {
        let (shared, generation, object) = (self.shared.clone(), self.generation, object.to_owned());
        Box::pin(async move {
            let end = run(&shared, generation, steps).await;
            end.map_err(|e| Error::new(op, object.display(), e))
        })
    }

    /// A call without latency: all of it happens at its beginning.
    fn at_once<T: Send + 'static>(
        &self,
        call: DiskCall,
        op: &'static str,
        object: &Path,
        work: impl FnOnce(&mut State) -> io::Result<T> + Send + 'static,
    ) -> Fut<Result<T>> {
        let begin = |state: &mut State, whole: bool| {
            if whole || coin(&mut state.rng) { work(state).map(Some) } else { Ok(None) }
        };
        // Nobody sees the end of a call that was not made whole.
        let finish = |_: &mut State, done: Option<T>, _| done.ok_or_else(|| Errno::EIO.into());
        self.make(op, object, Steps { call, begin, finish })
    }

    /// A call that looks at what the kernel knows.
    fn look<T: Send + 'static>(
        &self,
        op: &'static str,
        object: &Path,
        work: impl FnOnce(&mut State) -> io::Result<T> + Send + 'static,
    ) -> Fut<Result<T>> {
        let (shared, generation, object) = (self.shared.clone(), self.generation, object.to_owned());
        Box::pin(async move {
            ready(&shared, generation).await;
            let mut state = shared.lock();
            let end =
                if state.generation == generation { work(&mut state) } else { Err(Errno::ESTALE.into()) };
            end.map_err(|e| Error::new(op, object.display(), e))
        })
    }
}

/// Waits out a stall; never completes on a host that has stopped.
async fn ready(shared: &Shared, generation: u64) {
    loop {
        if shared.gate.stopped().is_some() && shared.lock().generation == generation {
            return std::future::pending().await;
        }
        let Some(until) = shared.lock().stalled_until else { return };
        if shared.clock.now() >= until {
            return;
        }
        shared.clock.sleep_until(until).await;
    }
}

/// A call that was made: what it holds during its latency, and whether the device is good.
struct Made<A, F> {
    begun: A,
    finish: F,
    latency: Duration,
    good: bool,
}

/// Makes a call; `None` if the host stops in the middle of it.
fn begin<A, T, B, F>(shared: &Shared, generation: u64, steps: Steps<B, F>) -> io::Result<Option<Made<A, F>>>
where
    B: FnOnce(&mut State, bool) -> io::Result<A>,
    F: FnOnce(&mut State, A, bool) -> io::Result<T>,
{
    let Steps { call, begin, finish } = steps;
    let mut state = shared.lock();
    if state.generation != generation {
        return Err(Errno::ESTALE.into());
    }
    let sync = matches!(call, DiskCall::SyncData | DiskCall::SyncDir);
    match state.course(call) {
        Course::Crash { half } => {
            shared.gate.stop(format!("power or process ended at disk operation {}", state.changes));
            let (begun, ended) = match begin(&mut state, false) {
                Ok(begun) if half => (None, Some(finish(&mut state, begun, true))),
                begun => (Some(begun), None),
            };
            drop(state);
            // Results do not matter, nobody sees them; but a file in them locks as it closes.
            drop((begun, ended));
            Ok(None)
        }
        Course::Fails(errno) if !sync => Err(errno.into()),
        course => {
            let begun = begin(&mut state, true)?;
            let range = match call {
                DiskCall::SyncData | DiskCall::SyncDir => state.sync_latency.clone(),
                DiskCall::Write | DiskCall::Zero => state.write_latency.clone(),
                DiskCall::Read => state.read_latency.clone(),
                _ => Duration::ZERO..=Duration::ZERO,
            };
            let latency = draw(&mut state.rng, &range);
            Ok(Some(Made { begun, finish, latency, good: matches!(course, Course::Whole) }))
        }
    }
}

async fn run<A, T, B, F>(shared: &Shared, generation: u64, steps: Steps<B, F>) -> io::Result<T>
where
    B: FnOnce(&mut State, bool) -> io::Result<A>,
    F: FnOnce(&mut State, A, bool) -> io::Result<T>,
{
    ready(shared, generation).await;
    let Some(made) = begin(shared, generation, steps)? else {
        return std::future::pending().await;
    };
    if !made.latency.is_zero() {
        sleep(&*shared.clock, made.latency).await;
        ready(shared, generation).await;
    }
    let mut state = shared.lock();
    if state.generation != generation {
        return Err(Errno::ESTALE.into());
    }
    (made.finish)(&mut state, made.begun, made.good)
}

impl Disk for Mount {
    fn open(&self, path: &Path, how: Open) -> Fut<Result<Arc<dyn File>>> {
        let (generation, shared, name) = (self.generation, self.shared.clone(), Arc::from(path));
        let at = path.to_owned();
        let open = move |state: &mut State| {
            let inode = state.image.open(&at, how)?;
            // Made here, so that a dropped future closes it.
            Ok(Arc::new(SimFile { mount: Mount { generation, shared }, inode, path: name, how }))
        };
        let opened = match how {
            Open::CreateNew => self.at_once(DiskCall::Create, "open", path, open),
            Open::Read | Open::Write => self.look("open", path, open),
        };
        Box::pin(async move { Ok(opened.await? as Arc<dyn File>) })
    }

    fn create_dir_all(&self, path: &Path) -> Fut<Result<()>> {
        let at = path.to_owned();
        self.at_once(DiskCall::MakeDir, "create directory", path, move |state| state.image.make_dirs(&at))
    }

    fn remove(&self, path: &Path) -> Fut<Result<()>> {
        let at = path.to_owned();
        self.at_once(DiskCall::Remove, "remove", path, move |state| state.image.remove(&at))
    }

    fn rename(&self, from: &Path, to: &Path) -> Fut<Result<()>> {
        let (at, to) = (from.to_owned(), to.to_owned());
        self.at_once(DiskCall::Rename, "rename", from, move |state| state.image.rename(&at, &to))
    }

    fn list(&self, dir: &Path) -> Fut<Result<Vec<String>>> {
        let at = dir.to_owned();
        self.look("list", dir, move |state| state.image.list(&at))
    }

    fn sync_dir(&self, dir: &Path) -> Fut<Result<()>> {
        let at = dir.to_owned();
        // Names that change while it is under way may be covered or not; here they are.
        let finish = move |state: &mut State, (), good: bool| {
            if good { state.image.sync_dir(&at) } else { Err(Errno::EIO.into()) }
        };
        self.make(
            "sync directory",
            dir,
            Steps { call: DiskCall::SyncDir, begin: |_: &mut State, _| Ok(()), finish },
        )
    }

    fn space(&self, path: &Path) -> Fut<Result<Space>> {
        let at = path.to_owned();
        self.look("ask the free space of", path, move |state| state.image.space(&at))
    }
}

struct SimFile {
    mount: Mount,
    inode: InodeId,
    path: Arc<Path>,
    how: Open,
}

impl Drop for SimFile {
    fn drop(&mut self) {
        let mut state = self.mount.shared.lock();
        if state.generation == self.mount.generation {
            state.image.close(self.inode);
        }
    }
}

impl SimFile {
    fn change(
        &self,
        call: DiskCall,
        op: &'static str,
        work: impl FnOnce(&mut State, bool) -> io::Result<()> + Send + 'static,
    ) -> Fut<Result<()>> {
        let writable = self.how != Open::Read;
        let begin = move |state: &mut State, whole: bool| {
            if writable { work(state, whole) } else { Err(Errno::EBADF.into()) }
        };
        self.mount.make(op, &self.path, Steps { call, begin, finish: |_: &mut State, (), _| Ok(()) })
    }
}

impl File for SimFile {
    fn len(&self) -> Fut<Result<u64>> {
        let inode = self.inode;
        self.mount
            .look("ask the length of", &self.path, move |state| Ok(state.image.inode(inode)?.cache().len()))
    }

    fn read_at(&self, offset: u64, n: usize) -> Fut<Result<Bytes>> {
        let inode = self.inode;
        let read =
            move |state: &mut State| Ok(Bytes::from(state.image.inode(inode)?.cache().read(offset, n)));
        self.mount.at_once(DiskCall::Read, "read", &self.path, read)
    }

    fn write_at(&self, offset: u64, parts: Vec<Bytes>) -> Fut<Result<()>> {
        let inode = self.inode;
        self.change(DiskCall::Write, "write", move |state, whole| {
            let n: u64 = parts.iter().map(|part| part.len() as u64).sum();
            // A killed write has done any first part of its bytes.
            let most = if whole { u64::MAX } else { below(&mut state.rng, n.saturating_add(1)) };
            state.image.write(inode, offset, &parts, most)
        })
    }

    fn zero(&self, offset: u64, n: u64) -> Fut<Result<()>> {
        let inode = self.inode;
        self.change(DiskCall::Zero, "zero", move |state, whole| {
            let most = if whole { n } else { below(&mut state.rng, n.saturating_add(1)) };
            state.image.zero(inode, offset, most)
        })
    }

    fn allocate(&self, offset: u64, n: u64) -> Fut<Result<()>> {
        let inode = self.inode;
        self.change(DiskCall::Allocate, "allocate", move |state, whole| {
            if whole || coin(&mut state.rng) { state.image.allocate(inode, offset, n) } else { Ok(()) }
        })
    }

    fn set_len(&self, n: u64) -> Fut<Result<()>> {
        let inode = self.inode;
        self.change(DiskCall::SetLen, "set the length of", move |state, whole| {
            if whole || coin(&mut state.rng) { state.image.set_len(inode, n) } else { Ok(()) }
        })
    }

    fn sync_data(&self) -> Fut<Result<()>> {
        let inode = self.inode;
        // What is written while it is under way is not covered.
        let begin = move |state: &mut State, _| Ok(state.image.inode(inode)?.mark());
        let finish = move |state: &mut State, mark: u64, good: bool| {
            let State { image, rng, .. } = state;
            let file = image.inode(inode)?;
            if good {
                file.commit(mark);
                Ok(())
            } else {
                file.commit_fails(mark, rng);
                Err(Errno::EIO.into())
            }
        };
        self.mount.make("fsync", &self.path, Steps { call: DiskCall::SyncData, begin, finish })
    }
}
