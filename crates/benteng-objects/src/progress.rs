//! What this node's loops did, and how fast: where estimates come from.

use std::collections::VecDeque;
use std::sync::atomic::AtomicU64;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use benteng_host::Mono;

/// A rate is reckoned over so long at most.
const WINDOW: Duration = Duration::from_secs(30);
/// A rate of less is no rate yet.
const WINDOW_MIN: Duration = Duration::from_secs(1);

/// What loops did since the process began.
#[derive(Default)]
pub(crate) struct Progress {
    pub(crate) repaired: AtomicU64,
    pub(crate) repair_stuck: AtomicU64,
    pub(crate) filled: AtomicU64,
    pub(crate) filling: AtomicU64,
    /// Chunks that the round of filling under way is still to copy.
    pub(crate) to_fill: AtomicU64,
    pub(crate) strays: AtomicU64,
    pub(crate) evicted: AtomicU64,
    pub(crate) compared_missing: AtomicU64,
    copies: Mutex<VecDeque<(Mono, u64)>>,
}

impl Progress {
    /// Notes that a chunk was copied.
    pub(crate) fn copied(&self, now: Mono) {
        let mut copies = self.copies.lock().unwrap_or_else(PoisonError::into_inner);
        match copies.back_mut() {
            // One entry a second at most: thirty are kept.
            Some((at, n)) if now.since(*at) < Duration::from_secs(1) => *n += 1,
            _ => copies.push_back((now, 1)),
        }
        while copies.front().is_some_and(|(at, _)| now.since(*at) > WINDOW) {
            copies.pop_front();
        }
    }

    /// Chunks copied per minute of late; 0: none, or not for long enough to say.
    pub(crate) fn per_minute(&self, now: Mono) -> u64 {
        let copies = self.copies.lock().unwrap_or_else(PoisonError::into_inner);
        let late = || copies.iter().filter(|(at, _)| now.since(*at) <= WINDOW);
        let Some((first, _)) = late().next() else { return 0 };
        let over = now.since(*first);
        if over < WINDOW_MIN {
            return 0;
        }
        let n: u64 = late().map(|(_, n)| n).sum();
        n.saturating_mul(60_000) / u64::try_from(over.as_millis()).unwrap_or(u64::MAX).max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_that_of_the_last_half_minute() {
        let progress = Progress::default();
        let at = |millis| Mono(Duration::from_millis(millis));
        assert_eq!(progress.per_minute(at(0)), 0);
        for n in 0..100 {
            progress.copied(at(n * 100));
        }
        assert_eq!(progress.per_minute(at(10_000)), 600, "ten a second");
        assert_eq!(progress.per_minute(at(20_000)), 300);
        assert_eq!(progress.per_minute(at(60_000)), 0, "long ago says nothing");
        progress.copied(at(60_000));
        assert_eq!(progress.per_minute(at(60_500)), 0, "not for long enough");
    }
}
