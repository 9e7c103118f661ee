//! Clocks of a simulated host: simulated time, at a rate of its own, with jumps.
//!
//! now = anchor_host + (true − anchor_true) × rate, anchored again at each change. Rates
//! are whole parts per million and the arithmetic is of integers: floats differ between
//! machines.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use benteng_host::{Clock, Fut, Mono, Wall};
use tokio::sync::Notify;

/// Parts per million of a clock that runs true.
const TRUE_RATE: u64 = 1_000_000;
/// Wall time at the start of a simulation: 2026-01-01T00:00:00Z, in microseconds.
const EPOCH_MICROS: i64 = 1_767_225_600_000_000;

/// Both clocks of one host and the handle to disturb them. It survives restarts of the
/// host; monotonic time starts anew at each boot.
#[derive(Clone)]
pub struct SimClock {
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<Anchors>,
    /// Sleepers reckon again after each disturbance.
    changed: Notify,
}

struct Anchors {
    /// True time of the last disturbance, and what the host's clock showed then.
    true_at: Duration,
    host_at: Duration,
    rate: u64,
    /// What the host's clock showed at boot: zero of the monotonic clock.
    boot_at: Duration,
    wall_offset: i64,
    /// The last true time seen: outside of a host turmoil gives none.
    seen: Duration,
}

impl Anchors {
    fn host(&self) -> Duration {
        self.host_at + scale(self.seen.saturating_sub(self.true_at), self.rate, TRUE_RATE)
    }

    fn anchor(&mut self) {
        self.host_at = self.host();
        self.true_at = self.seen;
    }

    fn mono(&self) -> Mono {
        Mono(self.host().saturating_sub(self.boot_at))
    }

    /// True time until the monotonic clock shows `at`, rounded up: waking a nanosecond early
    /// makes a caller spin for ever.
    fn until(&self, at: Mono) -> Duration {
        let left = at.0.saturating_sub(self.mono().0);
        // One more, since `host` rounds down.
        scale(left, TRUE_RATE, self.rate).saturating_add(Duration::from_nanos(u64::from(!left.is_zero())))
    }
}

/// `d` × `times` / `by`, rounded down, as long as a `Duration` can be.
fn scale(d: Duration, times: u64, by: u64) -> Duration {
    let nanos = d.as_nanos().saturating_mul(u128::from(times)) / u128::from(by.max(1));
    let secs = u64::try_from(nanos / 1_000_000_000).unwrap_or(u64::MAX);
    Duration::new(secs, (nanos % 1_000_000_000) as u32)
}

impl SimClock {
    /// Clocks that run true and start with the simulation.
    pub fn new() -> SimClock {
        let state = Mutex::new(Anchors {
            true_at: Duration::ZERO,
            host_at: Duration::ZERO,
            rate: TRUE_RATE,
            boot_at: Duration::ZERO,
            wall_offset: 0,
            seen: Duration::ZERO,
        });
        SimClock { shared: Arc::new(Shared { state, changed: Notify::new() }) }
    }

    fn lock(&self) -> MutexGuard<'_, Anchors> {
        let mut state = self.shared.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(now) = turmoil::sim_elapsed() {
            state.seen = state.seen.max(now);
        }
        state
    }

    fn disturb(&self, change: impl FnOnce(&mut Anchors)) {
        let mut state = self.lock();
        state.anchor();
        change(&mut state);
        drop(state);
        self.shared.changed.notify_waiters();
    }

    /// From now on both clocks run at `rate` parts per million (1,000,000 is true, at least 1).
    pub fn set_rate(&self, rate: u64) {
        self.disturb(|anchors| anchors.rate = rate.max(1));
    }

    /// The wall clock jumps by `micros`, either way.
    pub fn jump_wall(&self, micros: i64) {
        self.disturb(|anchors| anchors.wall_offset = anchors.wall_offset.saturating_add(micros));
    }

    /// Both clocks leap ahead, as after a pause of the whole machine.
    pub fn leap(&self, by: Duration) {
        self.disturb(|anchors| anchors.host_at = anchors.host_at.saturating_add(by));
    }

    /// A boot: the monotonic clock starts at zero.
    pub fn boot(&self) {
        self.disturb(|anchors| anchors.boot_at = anchors.host_at);
    }
}

impl Default for SimClock {
    fn default() -> SimClock {
        SimClock::new()
    }
}

impl Clock for SimClock {
    fn now(&self) -> Mono {
        self.lock().mono()
    }

    fn wall(&self) -> Wall {
        let anchors = self.lock();
        let micros = i64::try_from(anchors.host().as_micros()).unwrap_or(i64::MAX);
        Wall(EPOCH_MICROS.saturating_add(micros).saturating_add(anchors.wall_offset))
    }

    fn sleep_until(&self, at: Mono) -> Fut<()> {
        let clock = self.clone();
        Box::pin(async move {
            loop {
                // Made before looking at the clock: a disturbance in between is not missed.
                let changed = clock.shared.changed.notified();
                let left = {
                    let anchors = clock.lock();
                    if anchors.mono() >= at {
                        return;
                    }
                    anchors.until(at)
                };
                futures::future::select(Box::pin(tokio::time::sleep(left)), Box::pin(changed)).await;
            }
        })
    }
}

#[cfg(test)]
mod tests;
