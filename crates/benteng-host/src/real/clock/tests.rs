//! Sleeping and deadlines, on the real clock.

use super::*;
use crate::{Elapsed, sleep, timeout};

#[tokio::test]
async fn a_sleep_never_ends_early() {
    let clock = SystemClock::new();
    for micros in [0, 1, 300, 2_500] {
        let before = clock.now();
        sleep(&clock, Duration::from_micros(micros)).await;
        assert!(clock.now().since(before) >= Duration::from_micros(micros), "slept for {micros} µs");
    }
    assert!(clock.wall() > Wall(1_700_000_000_000_000), "it is after 2023");
}

#[tokio::test]
async fn a_deadline_drops_the_work_and_finished_work_beats_a_passed_deadline() {
    let clock = SystemClock::new();
    assert_eq!(timeout(&clock, Duration::from_millis(1), std::future::pending::<()>()).await, Err(Elapsed));
    assert_eq!(timeout(&clock, Duration::ZERO, async { 7 }).await, Ok(7));
    // Beyond what the clock can name: never, and no panic.
    assert_eq!(timeout(&clock, Duration::MAX, async { 7 }).await, Ok(7));
    assert_eq!(timeout(&clock, Duration::from_millis(1), sleep(&clock, Duration::MAX)).await, Err(Elapsed));
}
