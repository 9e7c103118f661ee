//! Admission by bytes: what is not admitted waits, for a bounded time, and is then refused (I7).

use std::sync::Arc;
use std::time::Duration;

use benteng_host::{Clock, timeout};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::{Error, Result};

/// A number of bytes that requests share. First come, first served.
pub(crate) struct Budget {
    what: &'static str,
    room: Arc<Semaphore>,
    total: u32,
    wait: Duration,
}

/// Bytes taken; given back when dropped.
pub(crate) struct Permit(OwnedSemaphorePermit);

impl Permit {
    /// Gives back all but `bytes`.
    pub(crate) fn shrink_to(&mut self, bytes: usize) {
        let rest = self.0.num_permits().saturating_sub(bytes);
        drop(self.0.split(rest));
    }
}

impl Budget {
    /// `total` bytes; a request waits for its share at most `wait`.
    pub(crate) fn new(what: &'static str, total: usize, wait: Duration) -> Budget {
        let total = u32::try_from(total.min(Semaphore::MAX_PERMITS)).unwrap_or(u32::MAX);
        let room = Arc::new(Semaphore::new(usize::try_from(total).unwrap_or(Semaphore::MAX_PERMITS)));
        Budget { what, room, total, wait }
    }

    /// More than all there is counts as all there is: such a request runs alone.
    fn count(&self, bytes: usize) -> u32 {
        u32::try_from(bytes).unwrap_or(u32::MAX).min(self.total)
    }

    /// Takes `bytes`, waiting for room.
    ///
    /// Errors: `Unavailable` if there is none within the time. Cancellation: nothing is taken.
    pub(crate) async fn take(&self, clock: &dyn Clock, bytes: usize) -> Result<Permit> {
        let n = self.count(bytes);
        if let Ok(permit) = self.room.clone().try_acquire_many_owned(n) {
            return Ok(Permit(permit));
        }
        metrics::counter!("benteng_objects_admission_waits_total", "budget" => self.what).increment(1);
        match timeout(clock, self.wait, self.room.clone().acquire_many_owned(n)).await {
            Ok(Ok(permit)) => Ok(Permit(permit)),
            Ok(Err(_)) | Err(_) => {
                metrics::counter!("benteng_objects_admission_refusals_total", "budget" => self.what)
                    .increment(1);
                Err(Error::Unavailable { why: format!("too many bytes of {} are in flight", self.what) })
            }
        }
    }

    /// Takes `bytes` if at least half of all is free: for what is only convenient, so that
    /// readers that stall on half of the budget never starve the others.
    pub(crate) fn take_spare(&self, bytes: usize) -> Option<Permit> {
        let n = self.count(bytes);
        let half = usize::try_from(self.total / 2).unwrap_or(0);
        if self.room.available_permits() < half + bytes {
            return None;
        }
        self.room.clone().try_acquire_many_owned(n).ok().map(Permit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn i7_what_finds_no_room_is_refused_in_time_and_room_comes_back() {
        let clock = benteng_host::real::SystemClock::new();
        let budget = Budget::new("tests", 100, Duration::from_millis(20));
        let mut all = budget.take(&clock, 1_000).await.expect("one may have all");
        let refused = budget.take(&clock, 1).await.err();
        assert!(matches!(refused, Some(Error::Unavailable { .. })), "{refused:?}");
        all.shrink_to(60);
        let some = budget.take(&clock, 40).await.expect("40 came back");
        assert!(budget.take_spare(1).is_none());
        drop(all);
        assert!(budget.take_spare(10).is_some(), "60 are free, 10 of them above the half");
        assert!(budget.take_spare(11).is_none());
        drop(some);
    }
}
