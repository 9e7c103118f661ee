//! Named threads fed by a bounded queue: where blocking calls of the machine happen.
//!
//! The queue is ours rather than a channel because closing must not wait for senders:
//! a future that was made but not polled may outlive the pool, and dropping the pool on
//! the runtime's only thread must not wait for that very thread.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::{io, thread};

use futures::channel::oneshot;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

type Job = Box<dyn FnOnce() + Send>;

/// What kind of call a job makes. Slow ones may fill every thread but the first, so that
/// a read never waits behind the fsyncs of other files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pace {
    /// Served from the page cache, as a rule.
    Quick,
    /// Waits for the device, as a rule.
    Slow,
}

#[derive(Default)]
struct Waiting {
    quick: VecDeque<(OwnedSemaphorePermit, Job)>,
    slow: VecDeque<(OwnedSemaphorePermit, Job)>,
    /// The first thread of several (it takes quick jobs only) is waiting for work.
    first_idle: bool,
    closed: bool,
}

struct Shared {
    waiting: Mutex<Waiting>,
    /// Wakes the thread that takes quick jobs only.
    first: Condvar,
    /// Wakes the others.
    others: Condvar,
    /// Room in the queue; a full one makes submitters wait.
    room: Arc<Semaphore>,
    /// With a single thread it takes everything.
    single: bool,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        // Nothing panics while the lock is held; and a queue stays a queue if it did.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, pace: Pace, permit: OwnedSemaphorePermit, job: Job) {
        let mut waiting = self.lock();
        if waiting.closed {
            return; // Dropping the job tells its submitter.
        }
        let wake_first = match pace {
            Pace::Quick => {
                waiting.quick.push_back((permit, job));
                // Cleared here, not by the woken thread: a second push before it runs must wake another.
                std::mem::take(&mut waiting.first_idle)
            }
            Pace::Slow => {
                waiting.slow.push_back((permit, job));
                false
            }
        };
        drop(waiting);
        if wake_first { self.first.notify_one() } else { self.others.notify_one() }
    }

    /// The next job for a thread; none once the pool is closed and nothing is left for it.
    fn next(&self, first: bool) -> Option<(OwnedSemaphorePermit, Job)> {
        let quick_only = first && !self.single;
        let mut waiting = self.lock();
        loop {
            // Slow ones first: quick ones have a thread of their own.
            let slow = if quick_only { None } else { waiting.slow.pop_front() };
            if let Some(job) = slow.or_else(|| waiting.quick.pop_front()) {
                return Some(job);
            }
            if waiting.closed {
                return None;
            }
            waiting = if quick_only {
                waiting.first_idle = true;
                let mut woken = self.first.wait(waiting).unwrap_or_else(PoisonError::into_inner);
                woken.first_idle = false;
                woken
            } else {
                self.others.wait(waiting).unwrap_or_else(PoisonError::into_inner)
            };
        }
    }

    fn work(&self, first: bool) {
        while let Some((permit, job)) = self.next(first) {
            // A panicking job drops its reply, which its submitter reports; the thread serves on.
            // The panic hook has logged why.
            let _ = catch_unwind(AssertUnwindSafe(job));
            drop(permit);
        }
    }
}

/// A right to put one job into a queue, taken before the job is made.
pub(super) struct Room {
    shared: Arc<Shared>,
    permit: OwnedSemaphorePermit,
}

impl Room {
    /// Queues `work`; the returned future gives its result. It runs to its end even if the
    /// future is dropped.
    pub(super) fn run<T: Send + 'static>(
        self,
        pace: Pace,
        work: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> impl Future<Output = io::Result<T>> + Send + 'static {
        let (tx, rx) = oneshot::channel();
        let job = Box::new(move || {
            // The receiver may be gone: then nobody wants the answer.
            let _ = tx.send(work());
        });
        self.shared.push(pace, self.permit, job);
        async move { rx.await.unwrap_or_else(|_| Err(stopped())) }
    }
}

/// Handle for submitting; does not keep the threads alive.
#[derive(Clone)]
pub(super) struct Queue {
    shared: Arc<Shared>,
}

impl Queue {
    /// Waits for room in the queue.
    pub(super) async fn room(&self) -> io::Result<Room> {
        let permit = self.shared.room.clone().acquire_owned().await.map_err(|_| stopped())?;
        Ok(Room { shared: self.shared.clone(), permit })
    }

    /// Runs `work` on one of the threads, in order of submission where there is one thread.
    /// A full queue makes the caller wait. Cancellation: the work may or may not run.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        pace: Pace,
        work: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        self.room().await?.run(pace, work).await
    }
}

fn stopped() -> io::Error {
    io::Error::new(io::ErrorKind::BrokenPipe, "its thread has panicked or is closed; restart the node")
}

/// The threads. Dropping it runs what is queued, then joins them.
pub(super) struct Pool {
    queue: Queue,
    threads: Vec<JoinHandle<()>>,
}

impl Pool {
    /// Starts `count` threads named `name-1`, `name-2`, … whose queue holds `capacity` jobs,
    /// running ones included. Panics where the machine gives no thread: nothing works without.
    pub(super) fn start(name: &str, count: usize, capacity: usize) -> Pool {
        let shared = Arc::new(Shared {
            waiting: Mutex::default(),
            first: Condvar::new(),
            others: Condvar::new(),
            room: Arc::new(Semaphore::new(capacity)),
            single: count == 1,
        });
        let start = |i: usize| {
            let shared = shared.clone();
            let name = if count == 1 { name.to_owned() } else { format!("{name}-{}", i + 1) };
            match thread::Builder::new().name(name.clone()).spawn(move || shared.work(i == 0)) {
                Ok(thread) => thread,
                Err(e) => panic!("cannot start the thread {name}: {e}; raise the limit on threads"),
            }
        };
        let threads = (0..count).map(start).collect();
        Pool { queue: Queue { shared }, threads }
    }

    /// A handle for submitting.
    pub(super) fn queue(&self) -> &Queue {
        &self.queue
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        let shared = &self.queue.shared;
        shared.room.close();
        shared.lock().closed = true;
        shared.first.notify_all();
        shared.others.notify_all();
        for thread in self.threads.drain(..) {
            // Jobs are caught one by one, so a thread does not end by a panic.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests;
