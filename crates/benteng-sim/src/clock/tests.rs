//! Properties of simulated clocks.

use benteng_host::{sleep, timeout};
use proptest::prelude::*;

use super::*;
use crate::testing::on_a_host;

fn secs(s: u64) -> Duration {
    Duration::from_secs(s)
}

fn true_now() -> Duration {
    turmoil::sim_elapsed().expect("on a host")
}

#[test]
fn a_clock_drifts_at_its_rate_and_wakes_on_its_own_time() {
    on_a_host(|| async {
        for rate in [900_000, 1_000_000, 1_100_000, 2_000_001] {
            let clock = SimClock::new();
            clock.set_rate(rate);
            let (from, started) = (clock.now(), true_now());
            sleep(&clock, secs(10)).await;
            assert!(clock.now().since(from) >= secs(10), "a sleep never ends early");
            let took = true_now() - started;
            let want = secs(10).mul_f64(1e6 / rate as f64);
            assert!(
                took >= want && took < want + Duration::from_millis(3),
                "rate {rate}: {took:?} for {want:?}"
            );
        }
    });
}

#[test]
fn jumps_move_the_wall_clock_alone_and_leaps_wake_sleepers() {
    on_a_host(|| async {
        let clock = SimClock::new();
        let (mono, wall) = (clock.now(), clock.wall());
        clock.jump_wall(-5_000_000);
        assert_eq!((clock.now(), clock.wall()), (mono, Wall(wall.0 - 5_000_000)));
        clock.leap(secs(60));
        assert_eq!((clock.now(), clock.wall()), (mono + secs(60), Wall(wall.0 + 55_000_000)));

        let sleeper = tokio::spawn({
            let clock = clock.clone();
            async move { sleep(&clock, secs(1000)).await }
        });
        sleep(&clock, secs(1)).await;
        let before = true_now();
        clock.leap(secs(999));
        sleeper.await.expect("no panic");
        assert!(true_now() - before < Duration::from_millis(5), "the leap ended the sleep");
        // Slowed down in its sleep, it sleeps longer.
        let sleeper = sleep(&clock, secs(10));
        clock.set_rate(100_000);
        let before = true_now();
        sleeper.await;
        assert!(true_now() - before >= secs(100));
        assert!(timeout(&clock, secs(1), sleep(&clock, Duration::MAX)).await.is_err());
    });
}

#[test]
fn monotonic_time_starts_at_each_boot_and_wall_time_goes_on() {
    on_a_host(|| async {
        let clock = SimClock::new();
        sleep(&clock, secs(7)).await;
        let wall = clock.wall();
        clock.boot();
        assert_eq!((clock.now(), clock.wall()), (Mono::default(), wall));
    });
}

proptest! {
    #[test]
    fn a_wake_is_never_early_and_at_most_a_few_nanoseconds_late(
        rate in 1_u64..10_000_000,
        host_at in 0_u64..1 << 50,
        past in 0_u64..1 << 50,
        left in 0_u64..1 << 50,
    ) {
        let mut anchors = Anchors {
            true_at: secs(5), host_at: Duration::from_nanos(host_at), rate,
            boot_at: Duration::ZERO, wall_offset: 0, seen: secs(5) + Duration::from_nanos(past),
        };
        let at = anchors.mono() + Duration::from_nanos(left);
        let wait = anchors.until(at);
        anchors.seen += wait;
        prop_assert!(anchors.mono() >= at, "early");
        let late = anchors.mono().since(at);
        prop_assert!(late <= scale(Duration::from_nanos(2), rate, TRUE_RATE) + Duration::from_nanos(1), "late by {late:?}");
    }
}
