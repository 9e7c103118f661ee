//! Site time (C4): the leader's, monotonic, slewed towards the median of the members' clocks.
//! Every node carries an estimate: the last sample it heard plus its own monotonic time.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use benteng_host::planted::{Bug, planted};
use benteng_host::{Clock, Mono, Wall};
use benteng_meta::ids::SiteTime;

/// A larger step needs an operator's command.
const STEP_MAX: i64 = 60_000_000;
/// Slewing changes the rate by one part in so many.
const SLEW: i64 = 20;

struct Estimate {
    at: Mono,
    time: i64,
    /// Whether anything but the state of an earlier life stands behind the estimate.
    sampled: bool,
}

/// This node's estimate of site time.
pub(crate) struct SiteClock {
    estimate: Mutex<Estimate>,
}

impl SiteClock {
    /// Starts from the stamp of the last command applied.
    pub(crate) fn new(clock: &dyn Clock, last: SiteTime) -> SiteClock {
        SiteClock { estimate: Mutex::new(Estimate { at: clock.now(), time: last.0, sampled: false }) }
    }

    fn lock(&self) -> MutexGuard<'_, Estimate> {
        self.estimate.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Site time now, as far as this node knows.
    pub(crate) fn now(&self, clock: &dyn Clock) -> SiteTime {
        let estimate = self.lock();
        SiteTime(estimate.time.saturating_add(micros(clock.now().since(estimate.at))))
    }

    /// Whether the leader, or a majority of clocks, stands behind the estimate.
    pub(crate) fn is_sampled(&self) -> bool {
        self.lock().sampled
    }

    /// Takes a sample from the leader's reply. Never back: stamps are monotonic.
    pub(crate) fn sample(&self, clock: &dyn Clock, heard: SiteTime) {
        let mut estimate = self.lock();
        let at = clock.now();
        let own = estimate.time.saturating_add(micros(at.since(estimate.at)));
        // Before the first sample the estimate is as old as the node's last life: any sample wins.
        let time = if estimate.sampled { own.max(heard.0) } else { heard.0 };
        *estimate = Estimate { at, time, sampled: true };
    }

    /// The leader's turn, about every heartbeat: `clocks` are wall clocks of a majority, just read.
    ///
    /// Returns the difference that only an operator may step over, if there is one.
    pub(crate) fn slew(&self, clock: &dyn Clock, mut clocks: Vec<Wall>) -> Option<Duration> {
        clocks.sort_unstable();
        let middle = if planted(Bug::FastestClockWins) { 1 } else { 2 };
        let median = clocks.get(clocks.len().checked_sub(1)? / middle)?.0;
        let mut estimate = self.lock();
        let at = clock.now();
        let elapsed = micros(at.since(estimate.at));
        let own = estimate.time.saturating_add(elapsed);
        let off = median.saturating_sub(own);
        let fresh = !estimate.sampled;
        let time = if fresh && off > 0 {
            // The site was off: nobody measured how long. A majority's median is the best there is.
            median
        } else if off.abs() > STEP_MAX {
            own
        } else {
            // Never more than a twentieth of the time that passed, so time neither jumps nor stops.
            own.saturating_add(off.clamp(-elapsed / SLEW, elapsed / SLEW))
        };
        *estimate = Estimate { at, time, sampled: true };
        let left = median.saturating_sub(time).unsigned_abs();
        (left > STEP_MAX.unsigned_abs()).then(|| Duration::from_micros(left))
    }
}

fn micros(d: Duration) -> i64 {
    i64::try_from(d.as_micros()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use benteng_host::Fut;

    use super::*;

    struct Hand(AtomicU64);

    impl Clock for Hand {
        fn now(&self) -> Mono {
            Mono(Duration::from_micros(self.0.load(Ordering::Relaxed)))
        }
        fn wall(&self) -> Wall {
            Wall(0)
        }
        fn sleep_until(&self, _: Mono) -> Fut<()> {
            Box::pin(std::future::pending())
        }
    }

    fn after(hand: &Hand, micros: u64) {
        hand.0.fetch_add(micros, Ordering::Relaxed);
    }

    #[test]
    fn c4_one_clock_at_2038_moves_nothing() {
        let hand = Hand(AtomicU64::new(0));
        let site = SiteClock::new(&hand, SiteTime(1_000_000));
        site.slew(&hand, vec![Wall(1_000_000); 3]);
        after(&hand, 250_000);
        let warned = site.slew(&hand, vec![Wall(1_250_000), Wall(1_250_000), Wall(i64::MAX / 2)]);
        assert_eq!((site.now(&hand), warned), (SiteTime(1_250_000), None));
    }

    #[test]
    fn c4_a_majority_that_jumps_warns_and_time_runs_on() {
        let hand = Hand(AtomicU64::new(0));
        let site = SiteClock::new(&hand, SiteTime(0));
        site.slew(&hand, vec![Wall(0); 3]);
        after(&hand, 1_000_000);
        let warned = site.slew(&hand, vec![Wall(9_000_000_000); 3]);
        assert_eq!(site.now(&hand), SiteTime(1_000_000));
        assert!(warned.is_some());
    }

    #[test]
    fn c4_time_slews_and_never_goes_back() {
        let hand = Hand(AtomicU64::new(0));
        let site = SiteClock::new(&hand, SiteTime(0));
        site.slew(&hand, vec![Wall(10_000_000); 3]);
        assert_eq!(site.now(&hand), SiteTime(10_000_000), "after a stop the median is taken as it is");
        let mut last = site.now(&hand);
        for _ in 0..100 {
            after(&hand, 250_000);
            // The members' clocks stand five seconds behind and do not move.
            site.slew(&hand, vec![Wall(5_000_000); 3]);
            let now = site.now(&hand);
            assert!(now > last, "time stopped or went back");
            assert!(now.0 - last.0 >= 237_500, "slewed by more than a twentieth");
            last = now;
        }
    }

    #[test]
    fn c4_after_a_quiet_night_deadlines_are_not_past() {
        let hand = Hand(AtomicU64::new(0));
        let follower = SiteClock::new(&hand, SiteTime(1));
        assert!(!follower.is_sampled());
        follower.sample(&hand, SiteTime(8 * 3_600_000_000));
        after(&hand, 10);
        assert_eq!(follower.now(&hand), SiteTime(8 * 3_600_000_000 + 10));
        follower.sample(&hand, SiteTime(5));
        assert!(follower.now(&hand).0 > 8 * 3_600_000_000, "a late reply does not turn time back");
    }
}
