//! Monotonic and wall clocks. A node's two clocks may drift and the wall clock may jump;
//! nothing but site time (protocols C4) may compare times of two nodes.

use std::fmt;
use std::future::Future;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use crate::Fut;

/// An instant of this process's monotonic clock; means nothing to another process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Mono(pub Duration);

impl Mono {
    /// Time since `earlier`, zero if that is later.
    pub fn since(self, earlier: Mono) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

impl std::ops::Add<Duration> for Mono {
    type Output = Mono;
    fn add(self, d: Duration) -> Mono {
        Mono(self.0.saturating_add(d))
    }
}

/// Wall-clock time: microseconds since 1970-01-01T00:00:00Z.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Wall(pub i64);

/// The clocks of one machine.
pub trait Clock: Send + Sync {
    /// Monotonic time, never backwards within one process.
    fn now(&self) -> Mono;
    /// Wall-clock time; may jump either way.
    fn wall(&self) -> Wall;
    /// Completes once `now() >= at`.
    fn sleep_until(&self, at: Mono) -> Fut<()>;
}

/// Sleeps for `d` on `clock`.
pub fn sleep(clock: &dyn Clock, d: Duration) -> Fut<()> {
    clock.sleep_until(clock.now() + d)
}

/// The deadline passed first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Elapsed;

impl fmt::Display for Elapsed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("deadline passed")
    }
}

impl std::error::Error for Elapsed {}

/// Runs `future` for at most `d`; it is dropped when the time is up.
pub async fn timeout<F: Future>(clock: &dyn Clock, d: Duration, future: F) -> Result<F::Output, Elapsed> {
    let mut alarm = sleep(clock, d);
    let mut future = pin!(future);
    std::future::poll_fn(|cx| {
        // The work first: a result that is there wins over a deadline that has just passed.
        if let Poll::Ready(out) = future.as_mut().poll(cx) {
            return Poll::Ready(Ok(out));
        }
        alarm.as_mut().poll(cx).map(|()| Err(Elapsed))
    })
    .await
}
