//! openraft's runtime on the seams of the host. Its methods are static, so the host is found by
//! the tokio runtime that calls them: one runtime per node (and, in the simulator, per boot).

use std::collections::HashMap;
use std::convert::Infallible;
use std::fmt;
use std::future::Future;
use std::ops::{Add, AddAssign, Sub, SubAssign};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use benteng_host::{Elapsed, Fut, Host, Mono, Task, TaskFailed};
use openraft_rt::{AsyncRuntime, Instant, OptionalSend};
use openraft_rt_tokio::{TokioMpsc, TokioMutex, TokioOneshot, TokioWatch};
use tokio::runtime::{Handle, Id};

/// The host of one runtime and the tasks that openraft started there.
struct Registered {
    host: Host,
    tasks: Mutex<HashMap<u64, Task>>,
    next: AtomicU64,
}

static HOSTS: RwLock<Option<HashMap<Id, Weak<Registered>>>> = RwLock::new(None);

/// Keeps a host registered for the runtime that made it. Groups of one runtime share it; when
/// the last is dropped, openraft's tasks there end.
pub(crate) struct Registration(Arc<Registered>);

/// Makes `host` the machine of everything openraft does on the calling runtime, unless one is already.
pub(crate) fn register(host: Host) -> Registration {
    let id = Handle::current().id();
    let mut hosts = HOSTS.write().unwrap_or_else(PoisonError::into_inner);
    let hosts = hosts.get_or_insert_default();
    hosts.retain(|_, entry| entry.strong_count() > 0);
    if let Some(shared) = hosts.get(&id).and_then(Weak::upgrade) {
        return Registration(shared);
    }
    let entry = Arc::new(Registered { host, tasks: Mutex::default(), next: AtomicU64::new(0) });
    hosts.insert(id, Arc::downgrade(&entry));
    Registration(entry)
}

impl Drop for Registration {
    fn drop(&mut self) {
        if Arc::strong_count(&self.0) > 1 {
            return;
        }
        // Taken out first: dropping tasks runs their destructors, which may want the lock.
        let tasks = std::mem::take(&mut *self.0.tasks.lock().unwrap_or_else(PoisonError::into_inner));
        drop(tasks);
    }
}

fn registered() -> Arc<Registered> {
    let id = Handle::current().id();
    let hosts = HOSTS.read().unwrap_or_else(PoisonError::into_inner);
    let found = hosts.as_ref().and_then(|hosts| hosts.get(&id)).and_then(Weak::upgrade);
    found.expect("openraft runs only between register() and the drop of its Registration")
}

/// The runtime; never made as a value.
#[derive(Debug)]
pub(crate) struct HostRuntime(Infallible);

/// An instant of the host's monotonic clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct HostInstant(Duration);

impl Instant for HostInstant {
    fn now() -> HostInstant {
        HostInstant(registered().host.clock.now().0)
    }
}

impl Add<Duration> for HostInstant {
    type Output = HostInstant;
    fn add(self, d: Duration) -> HostInstant {
        HostInstant(self.0.saturating_add(d))
    }
}

impl AddAssign<Duration> for HostInstant {
    fn add_assign(&mut self, d: Duration) {
        *self = *self + d;
    }
}

impl Sub<Duration> for HostInstant {
    type Output = HostInstant;
    fn sub(self, d: Duration) -> HostInstant {
        HostInstant(self.0.saturating_sub(d))
    }
}

impl SubAssign<Duration> for HostInstant {
    fn sub_assign(&mut self, d: Duration) {
        *self = *self - d;
    }
}

impl Sub<HostInstant> for HostInstant {
    type Output = Duration;
    fn sub(self, earlier: HostInstant) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

/// Randomness of the host, for election time-outs.
pub(crate) struct HostRng(Host);

impl rand::TryRng for HostRng {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        Ok(u32::from_le_bytes(benteng_host::random_array(&*self.0.random)))
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        Ok(benteng_host::random_u64(&*self.0.random))
    }

    fn try_fill_bytes(&mut self, out: &mut [u8]) -> Result<(), Infallible> {
        self.0.random.fill(out);
        Ok(())
    }
}

/// A spawned task's result. Dropping it lets the task run on, as openraft expects.
pub(crate) struct Join<T>(tokio::sync::oneshot::Receiver<T>);

impl<T> Future for Join<T> {
    type Output = Result<T, TaskFailed>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let lost = TaskFailed { name: "openraft", panicked: true };
        Pin::new(&mut self.0).poll(cx).map(|out| out.map_err(|_| lost))
    }
}

/// A future with a deadline on the host's clock.
pub(crate) struct Timeout<T> {
    future: Pin<Box<T>>,
    alarm: Fut<()>,
}

impl<T: Future> Future for Timeout<T> {
    type Output = Result<T::Output, Elapsed>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if let Poll::Ready(out) = self.future.as_mut().poll(cx) {
            return Poll::Ready(Ok(out));
        }
        self.alarm.as_mut().poll(cx).map(|()| Err(Elapsed))
    }
}

impl fmt::Debug for Registration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Registration")
    }
}

impl AsyncRuntime for HostRuntime {
    type JoinError = TaskFailed;
    type JoinHandle<T: OptionalSend + 'static> = Join<T>;
    type Sleep = Fut<()>;
    type Instant = HostInstant;
    type TimeoutError = Elapsed;
    type Timeout<R, T: Future<Output = R> + OptionalSend> = Timeout<T>;
    type ThreadLocalRng = HostRng;
    type Mpsc = TokioMpsc;
    type Watch = TokioWatch;
    type Oneshot = TokioOneshot;
    type Mutex<T: OptionalSend + 'static> = TokioMutex<T>;

    fn spawn<T>(future: T) -> Join<T::Output>
    where
        T: Future + OptionalSend + 'static,
        T::Output: OptionalSend + 'static,
    {
        let entry = registered();
        let id = entry.next.fetch_add(1, Ordering::Relaxed);
        let (tx, rx) = tokio::sync::oneshot::channel();
        let owner = Arc::downgrade(&entry);
        let mut tasks = entry.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        let task = entry.host.tasks.spawn(
            "openraft",
            Box::pin(async move {
                // Nobody may wait for the result: then it is dropped here.
                let _ = tx.send(future.await);
                if let Some(entry) = owner.upgrade() {
                    entry.tasks.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
                }
            }),
        );
        tasks.insert(id, task);
        Join(rx)
    }

    fn sleep(duration: Duration) -> Fut<()> {
        benteng_host::sleep(&*registered().host.clock, duration)
    }

    fn sleep_until(deadline: HostInstant) -> Fut<()> {
        registered().host.clock.sleep_until(Mono(deadline.0))
    }

    fn timeout<R, F: Future<Output = R> + OptionalSend>(duration: Duration, future: F) -> Timeout<F> {
        Timeout { future: Box::pin(future), alarm: HostRuntime::sleep(duration) }
    }

    fn timeout_at<R, F: Future<Output = R> + OptionalSend>(deadline: HostInstant, future: F) -> Timeout<F> {
        Timeout { future: Box::pin(future), alarm: HostRuntime::sleep_until(deadline) }
    }

    fn is_panic(failed: &TaskFailed) -> bool {
        failed.panicked
    }

    fn thread_rng() -> HostRng {
        HostRng(registered().host.clone())
    }

    fn new(_threads: usize) -> HostRuntime {
        unreachable!("openraft makes runtimes in its own tests only")
    }

    fn block_on<F, T>(&mut self, _future: F) -> T
    where
        F: Future<Output = T>,
    {
        match self.0 {}
    }
}
