//! How slowly a client may send: a body that trickles would hold its share of the upload
//! budget for ever (I7).

use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use benteng_host::{Clock, Fut, Mono, sleep};

/// Bytes a second that a request body must bring, on the average of one window. Low enough
/// for ten parts at once over a bad line, high enough that holding a node's whole upload
/// budget costs the sender as many connections as it has shares.
pub const BODY_RATE_MIN: u64 = 1024;

/// Watches one request body. Only time that the door waits for its client counts: a store
/// that is slow to take bytes is never blamed on the sender.
pub struct Pace {
    clock: Arc<dyn Clock>,
    window: Duration,
    /// Bytes that one window must bring.
    quota: u64,
    /// Bytes since the window began.
    bytes: u64,
    /// Time that the door has waited in this window, the present wait aside.
    waited: Duration,
    /// The present wait: since when, and what ends the window.
    wait: Option<(Mono, Fut<()>)>,
}

impl Pace {
    /// Watches a body that must bring [`BODY_RATE_MIN`] bytes a second on the average of
    /// each `window`, and at least one byte in it.
    pub fn new(clock: Arc<dyn Clock>, window: Duration) -> Pace {
        let millis = u64::try_from(window.as_millis()).unwrap_or(u64::MAX);
        let quota = (BODY_RATE_MIN.saturating_mul(millis) / 1000).max(1);
        Pace { clock, window, quota, bytes: 0, waited: Duration::ZERO, wait: None }
    }

    /// The length of the window.
    pub fn window(&self) -> Duration {
        self.window
    }

    /// Counts `bytes` that came; with its quota full the window is over.
    pub fn came(&mut self, bytes: usize) {
        if let Some((since, _)) = self.wait.take() {
            self.waited += self.clock.now().since(since);
        }
        self.bytes = self.bytes.saturating_add(u64::try_from(bytes).unwrap_or(u64::MAX));
        if self.bytes >= self.quota {
            self.bytes = 0;
            self.waited = Duration::ZERO;
        }
    }

    /// To be asked when nothing is there to read: ready once the window is over and its quota
    /// is not. The caller then gives the body up with [`BodyError::Slow`](crate::BodyError::Slow).
    pub fn poll_late(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let (clock, left) = (&self.clock, self.window.saturating_sub(self.waited));
        let (_, alarm) = self.wait.get_or_insert_with(|| (clock.now(), sleep(clock.as_ref(), left)));
        alarm.as_mut().poll(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::task::Waker;

    use benteng_host::Wall;

    use super::*;

    /// A clock that only the test moves, in seconds.
    #[derive(Default)]
    struct Still(Arc<AtomicU64>);

    impl Clock for Still {
        fn now(&self) -> Mono {
            Mono::default() + Duration::from_secs(self.0.load(Ordering::SeqCst))
        }

        fn wall(&self) -> Wall {
            unreachable!("no part of this")
        }

        fn sleep_until(&self, at: Mono) -> Fut<()> {
            let seconds = Arc::clone(&self.0);
            Box::pin(std::future::poll_fn(move |_| {
                let now = Mono::default() + Duration::from_secs(seconds.load(Ordering::SeqCst));
                if now >= at { Poll::Ready(()) } else { Poll::Pending }
            }))
        }
    }

    /// Plays `(seconds that pass, bytes that then come)`; returns how many steps it lasted.
    /// Before the time of a step passes, the door waits.
    fn check(steps: &[(u64, usize)], lasted: usize) {
        let seconds = Arc::new(AtomicU64::new(0));
        let mut pace = Pace::new(Arc::new(Still(Arc::clone(&seconds))), Duration::from_secs(60));
        let mut cx = Context::from_waker(Waker::noop());
        let late = steps.iter().position(|(pass, bytes)| {
            assert!(pace.poll_late(&mut cx).is_pending() || *pass == 0, "it was late before: {steps:?}");
            seconds.fetch_add(*pass, Ordering::SeqCst);
            pace.came(*bytes);
            pace.poll_late(&mut cx).is_ready()
        });
        assert_eq!(late.unwrap_or(steps.len()), lasted, "{steps:?}");
    }

    #[test]
    fn i7_a_body_that_trickles_is_given_up() {
        let quota = usize::try_from(BODY_RATE_MIN).unwrap_or(0) * 60;
        check(&[(60, 0)], 0);
        check(&[(59, 0), (1, 0)], 1);
        // One byte a second keeps nobody alive beyond the window.
        check(&[(1, 1); 100], 59);
        // Just enough, for ever; a little less, and the second window ends it.
        check(&[(59, quota); 50], 50);
        check(&[(59, quota), (59, quota - 1), (1, 0)], 2);
        check(&[(30, quota / 2), (29, quota - quota / 2), (59, 1), (1, 0)], 3);
    }

    #[test]
    fn time_in_which_the_door_did_not_wait_is_not_the_clients() {
        let seconds = Arc::new(AtomicU64::new(0));
        let mut pace = Pace::new(Arc::new(Still(Arc::clone(&seconds))), Duration::from_secs(60));
        let mut cx = Context::from_waker(Waker::noop());
        pace.came(10);
        seconds.store(1000, Ordering::SeqCst);
        assert!(pace.poll_late(&mut cx).is_pending(), "the window begins with the first wait");
        seconds.store(1010, Ordering::SeqCst);
        pace.came(10);
        // A store takes a minute over what came; the client has used ten seconds of its window.
        seconds.store(1070, Ordering::SeqCst);
        assert!(pace.poll_late(&mut cx).is_pending(), "the store's minute is not the client's");
        seconds.store(1119, Ordering::SeqCst);
        assert!(pace.poll_late(&mut cx).is_pending());
        seconds.store(1120, Ordering::SeqCst);
        assert!(pace.poll_late(&mut cx).is_ready());
    }
}
