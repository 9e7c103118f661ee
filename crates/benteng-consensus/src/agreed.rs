//! What time it is, as far as a majority of the voters agrees (C4): the measure of this node's own
//! wall clock. The leader finds it when it reads the clocks for site time and tells the others.
//!
//! Site time itself is no such measure: it never jumps, so it is the wrong one of the two when a site
//! that was founded with a wrong clock has its clocks set right.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use benteng_host::{Clock, Mono, Wall};

/// Clocks that differ by less agree; an own clock that is off by less is believed.
const AGREE: Duration = Duration::from_secs(60);

/// The last time that was agreed on, and when that was by this node's monotonic clock.
#[derive(Default)]
pub(crate) struct Agreed {
    last: Mutex<Option<(Mono, Wall)>>,
}

impl Agreed {
    /// Takes what a majority agrees on now.
    pub(crate) fn set(&self, clock: &dyn Clock, agreed: Wall) {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some((clock.now(), agreed));
    }

    /// What was agreed on last, run on by this node's monotonic clock.
    pub(crate) fn now(&self, clock: &dyn Clock) -> Option<Wall> {
        let (at, agreed) = (*self.last.lock().unwrap_or_else(PoisonError::into_inner))?;
        Some(Wall(agreed.0.saturating_add(micros(clock.now().since(at)))))
    }

    /// By how much the own wall clock is off, microseconds; `None` while nothing was agreed on.
    pub(crate) fn off(&self, clock: &dyn Clock) -> Option<i64> {
        Some(clock.wall().0.saturating_sub(self.now(clock)?.0))
    }

    /// The own wall clock, or what was agreed on if that is another hour.
    pub(crate) fn wall(&self, clock: &dyn Clock) -> Wall {
        let own = clock.wall();
        match self.now(clock) {
            Some(agreed) if own.0.saturating_sub(agreed.0).unsigned_abs() > micros(AGREE).unsigned_abs() => {
                agreed
            }
            _ => own,
        }
    }
}

/// The median of `clocks`, if more than half of `members` stand by it. Two clocks of three that
/// contradict each other agree on nothing.
pub(crate) fn median(mut clocks: Vec<Wall>, members: usize) -> Option<Wall> {
    clocks.sort_unstable();
    let median = *clocks.get(clocks.len().checked_sub(1)? / 2)?;
    let near =
        |clock: &&Wall| clock.0.saturating_sub(median.0).unsigned_abs() <= micros(AGREE).unsigned_abs();
    (clocks.iter().filter(near).count() * 2 > members).then_some(median)
}

fn micros(d: Duration) -> i64 {
    i64::try_from(d.as_micros()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicI64, Ordering};

    use benteng_host::Fut;

    use super::*;

    const HOUR: i64 = 3_600_000_000;

    /// Monotonic time stands at a second; the test sets the wall clock.
    #[derive(Default)]
    struct Hand(AtomicI64);

    impl Clock for Hand {
        fn now(&self) -> Mono {
            Mono(Duration::from_secs(1))
        }
        fn wall(&self) -> Wall {
            Wall(self.0.load(Ordering::Relaxed))
        }
        fn sleep_until(&self, _: Mono) -> Fut<()> {
            Box::pin(std::future::pending())
        }
    }

    #[test]
    fn c4_a_majority_must_stand_by_a_time() {
        let check = |clocks: &[i64], members: usize, expected: Option<i64>| {
            let clocks = clocks.iter().map(|hours| Wall(hours * HOUR)).collect();
            assert_eq!(median(clocks, members), expected.map(|hours| Wall(hours * HOUR)));
        };
        check(&[], 3, None);
        check(&[5], 1, Some(5));
        check(&[5], 3, None);
        check(&[5, 5], 3, Some(5));
        check(&[5, 6], 3, None);
        check(&[6, 5, 5], 3, Some(5));
        check(&[5, 100_000, 5], 3, Some(5));
        check(&[1, 2, 3], 3, None);
        check(&[5, 5, 5, 9, 9], 5, Some(5));
    }

    #[test]
    fn c4_an_own_clock_that_is_far_off_is_not_believed() {
        let check = |own: i64, agreed: Option<i64>, expected: i64| {
            let (hand, known) = (Hand(AtomicI64::new(own)), Agreed::default());
            if let Some(agreed) = agreed {
                known.set(&hand, Wall(agreed));
            }
            assert_eq!(known.wall(&hand), Wall(expected));
            assert_eq!(known.off(&hand), agreed.map(|agreed| own - agreed));
        };
        check(HOUR, None, HOUR);
        check(HOUR, Some(HOUR + 59_000_000), HOUR);
        check(HOUR, Some(HOUR - 61_000_000), HOUR - 61_000_000);
        check(20 * 365 * 24 * HOUR, Some(HOUR), HOUR);
        check(0, Some(HOUR), HOUR);
    }
}
