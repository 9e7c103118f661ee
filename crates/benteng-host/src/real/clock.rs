//! The operating system's clocks.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::{Clock, Fut, Mono, Wall};

/// `CLOCK_MONOTONIC` counted from the creation of the value, and the system's wall clock.
pub struct SystemClock {
    start: Instant,
}

impl SystemClock {
    /// Starts counting.
    pub fn new() -> SystemClock {
        SystemClock { start: Instant::now() }
    }
}

impl Default for SystemClock {
    fn default() -> SystemClock {
        SystemClock::new()
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Mono {
        Mono(self.start.elapsed())
    }

    fn wall(&self) -> Wall {
        let micros = |d: Duration| i64::try_from(d.as_micros()).unwrap_or(i64::MAX);
        match SystemTime::now().duration_since(UNIX_EPOCH) {
            Ok(d) => Wall(micros(d)),
            Err(before) => Wall(-micros(before.duration())),
        }
    }

    fn sleep_until(&self, at: Mono) -> Fut<()> {
        let deadline = self.start.checked_add(at.0);
        Box::pin(async move {
            match deadline {
                Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
                // Beyond what the clock can name: for ever.
                None => std::future::pending().await,
            }
        })
    }
}

#[cfg(test)]
mod tests;
