//! Latencies in buckets of at most 1.6 % width: as small after an hour as after a second.

use std::time::Duration;

/// Buckets per power of two.
const STEPS: u64 = 64;
/// Powers of two above [`STEPS`] microseconds that are told apart: up to more than an hour.
const POWERS: usize = 28;

/// How long requests took.
#[derive(Clone)]
pub(crate) struct Histogram {
    counts: Vec<u64>,
    total: u64,
    max: Duration,
}

impl Default for Histogram {
    fn default() -> Self {
        Histogram { counts: vec![0; (POWERS + 1) * 64], total: 0, max: Duration::ZERO }
    }
}

/// The bucket of so many microseconds.
fn bucket(micros: u64) -> usize {
    if micros < STEPS {
        return usize::try_from(micros).unwrap_or(0);
    }
    let power = u64::from(micros.ilog2()) - 6;
    let step = (micros >> power) - STEPS;
    usize::try_from((power + 1) * STEPS + step).unwrap_or(usize::MAX).min((POWERS + 1) * 64 - 1)
}

/// The upper end of a bucket, microseconds.
fn upper(bucket: usize) -> u64 {
    let bucket = u64::try_from(bucket).unwrap_or(u64::MAX);
    if bucket < STEPS {
        return bucket;
    }
    let (power, step) = (bucket / STEPS - 1, bucket % STEPS);
    ((STEPS + step + 1) << power) - 1
}

impl Histogram {
    /// Adds one request.
    pub(crate) fn record(&mut self, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.counts[bucket(micros)] += 1;
        self.total += 1;
        self.max = self.max.max(took);
    }

    /// Adds what another one holds.
    pub(crate) fn merge(&mut self, other: &Histogram) {
        self.counts.iter_mut().zip(&other.counts).for_each(|(mine, theirs)| *mine += theirs);
        self.total += other.total;
        self.max = self.max.max(other.max);
    }

    /// The latency that a share `q` (0 to 1) of the requests did not exceed.
    pub(crate) fn quantile(&self, q: f64) -> Duration {
        let rank = ((self.total as f64 * q).ceil() as u64).max(1);
        let mut seen = 0;
        for (i, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= rank {
                return Duration::from_micros(upper(i)).min(self.max);
            }
        }
        self.max
    }

    /// The longest.
    pub(crate) fn max(&self) -> Duration {
        self.max
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_is_off_by_less_than_two_percent() {
        for micros in [0, 1, 63, 64, 65, 127, 128, 1_000, 10_007, 999_999, 3_600_000_000] {
            let up = upper(bucket(micros));
            assert!(up >= micros && up <= micros + micros / 50, "{micros} -> {up}");
        }
        let mut seen = Histogram::default();
        (1..=1000).for_each(|i| seen.record(Duration::from_micros(i * 10)));
        let near = |q: f64, micros: u64| {
            let got = u64::try_from(seen.quantile(q).as_micros()).expect("small");
            assert!(got >= micros && got <= micros + micros / 50, "{q}: {got}");
        };
        near(0.5, 5_000);
        near(0.99, 9_900);
        near(1.0, 10_000);
        let mut both = Histogram::default();
        both.merge(&seen);
        both.merge(&seen);
        assert_eq!((both.total, both.quantile(0.5)), (2000, seen.quantile(0.5)));
        assert_eq!(Histogram::default().quantile(0.5), Duration::ZERO);
    }
}
