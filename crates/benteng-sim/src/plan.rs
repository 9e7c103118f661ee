//! What a seed decides before its run begins: sizes, latencies, and which faults it knows. Runs
//! that know few faults reach states that runs with all of them never do.
//! Source: A. Groce et al., "Swarm testing", ISSTA 2012.

use std::ops::RangeInclusive;
use std::time::Duration;

use rand::RngExt;

use crate::SimRng;
use crate::nemesis::Fault;

/// Kinds that every run knows at least.
const KINDS_MIN: usize = 7;

/// The shape of one run.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// Nodes that form the site; fewer than three grow to three.
    pub(crate) founders: u64,
    /// Simulated time per step.
    pub(crate) tick: Duration,
    /// Entries that the Raft log keeps behind what is applied; few: who was away gets a snapshot.
    pub(crate) log_keep: u64,
    /// Size of a segment of the Raft log, bytes.
    pub(crate) log_segment: u64,
    /// Size of a segment of the chunk store, bytes.
    pub(crate) chunk_segment: u64,
    /// How long a write to the ordered store takes.
    pub(crate) kv_write: RangeInclusive<Duration>,
    /// How long a flush of it takes.
    pub(crate) kv_flush: RangeInclusive<Duration>,
    /// How long a sync of a file takes.
    pub(crate) disk_sync: RangeInclusive<Duration>,
    /// How long a read from a file takes.
    pub(crate) disk_read: RangeInclusive<Duration>,
    /// The longest pause of a client between two operations.
    pub(crate) pause: Duration,
    /// The longest pause between two strikes.
    pub(crate) lull: Duration,
    /// Faults that strike at random.
    pub(crate) faults: Vec<Fault>,
    /// When a node is replaced by a fresh one, if one is.
    pub(crate) replace_after: Option<Duration>,
    /// When a fourth node joins and another one is drained and removed, if that is so.
    pub(crate) drain_after: Option<Duration>,
    /// When the next node joins a small site.
    pub(crate) grow_after: Duration,
    /// The node whose disks rot, if one does: never a second one, and then none is replaced for another cause.
    pub(crate) rot: Option<u64>,
    /// Time within which every stored chunk is read again.
    pub(crate) scrub: Duration,
    /// After which a floor that is not renewed is voided (O5).
    pub(crate) floor_void: Duration,
}

/// What becomes of the site's nodes beside their faults.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    None,
    Replacement,
    Drain,
    /// So many nodes form the site.
    Growth(u64),
}

impl Change {
    fn draw(rng: &mut SimRng) -> Change {
        match rng.random_range(0..10) {
            0..5 => Change::Replacement,
            5..7 => Change::Drain,
            7 => Change::Growth(1),
            8 => Change::Growth(2),
            _ => Change::None,
        }
    }
}

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

impl Plan {
    /// Draws one for a run whose work lasts `work`.
    pub(crate) fn draw(rng: &mut SimRng, work: Duration) -> Plan {
        let mut pick = |of: &[u64]| of[rng.random_range(0..of.len())];
        let tick = ms(pick(&[1, 2, 5, 5]));
        let log_keep = pick(&[60, 150, 300]);
        let log_segment = pick(&[256 << 10, 512 << 10, 2 << 20]);
        let chunk_segment = pick(&[9 << 20, 12 << 20, 24 << 20]);
        let kv_write = Duration::ZERO..=ms(pick(&[0, 2, 20]));
        let kv_flush = Duration::ZERO..=ms(pick(&[0, 10, 300]));
        let (pause, lull) = (ms(pick(&[60, 120, 240])), ms(pick(&[700, 1300, 2500])));
        let mut left = Fault::AT_RANDOM.to_vec();
        let mut faults = Vec::new();
        while !left.is_empty() {
            let fault = left.swap_remove(rng.random_range(0..left.len()));
            if faults.len() < KINDS_MIN || rng.random_bool(0.6) {
                faults.push(fault);
            }
        }
        let disk_sync = Duration::ZERO..=ms([0, 1, 6, 25][rng.random_range(0..4)]);
        let disk_read = Duration::ZERO..=ms([0, 0, 0, 3][rng.random_range(0..4)]);
        let rot = rng.random_bool(0.3).then(|| rng.random_range(1..=3));
        // One machine stands by: each of these needs it.
        let change = if rot.is_some() { Change::None } else { Change::draw(rng) };
        let at = work.mul_f64(rng.random_range(0.1..0.8));
        let replace_after = (change == Change::Replacement).then_some(at);
        // A drain takes a while: the site is whole again only behind it.
        let drain_after = (change == Change::Drain).then_some(at / 2);
        let founders = if let Change::Growth(from) = change { from } else { 3 };
        let scrub = Duration::from_secs(if rot.is_some() { 20 } else { 14 * 24 * 3600 });
        Plan {
            founders,
            tick,
            log_keep,
            log_segment,
            chunk_segment,
            kv_write,
            kv_flush,
            disk_sync,
            disk_read,
            pause,
            lull,
            faults,
            replace_after,
            drain_after,
            grow_after: work.mul_f64(0.1),
            rot,
            scrub,
            floor_void: Duration::from_secs(600),
        }
    }

    /// One without faults, for scripts.
    pub(crate) fn calm() -> Plan {
        Plan {
            founders: 3,
            tick: ms(2),
            log_keep: 300,
            log_segment: 512 << 10,
            chunk_segment: 12 << 20,
            kv_write: Duration::ZERO..=ms(1),
            kv_flush: Duration::ZERO..=ms(10),
            disk_sync: Duration::ZERO..=ms(1),
            disk_read: Duration::ZERO..=Duration::ZERO,
            pause: ms(60),
            lull: ms(1000),
            faults: Vec::new(),
            replace_after: None,
            drain_after: None,
            grow_after: Duration::MAX,
            rot: None,
            scrub: Duration::from_secs(14 * 24 * 3600),
            floor_void: Duration::from_secs(600),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_plan_knows_enough_faults_and_all_plans_together_know_all() {
        let mut known = BTreeSet::new();
        let (mut replaced, mut rots, mut drained, mut grown) = (0, 0, 0, 0);
        for seed in 0..200 {
            let plan = Plan::draw(&mut crate::stream(seed, "plan"), Duration::from_secs(60));
            let kinds: BTreeSet<Fault> = plan.faults.iter().copied().collect();
            assert!(kinds.len() >= KINDS_MIN, "seed {seed}: {kinds:?}");
            assert_eq!(kinds.len(), plan.faults.len(), "no kind twice");
            known.extend(kinds);
            replaced += usize::from(plan.replace_after.is_some());
            rots += usize::from(plan.rot.is_some());
            drained += usize::from(plan.drain_after.is_some());
            grown += usize::from(plan.founders < 3);
            let spares = usize::from(plan.rot.is_some())
                + usize::from(plan.replace_after.is_some())
                + usize::from(plan.drain_after.is_some());
            assert!(spares <= 1, "one machine stands by");
        }
        assert_eq!(known, Fault::AT_RANDOM.into_iter().collect());
        assert!((50..150).contains(&replaced), "{replaced}");
        assert!((30..100).contains(&rots), "{rots}");
        assert!((10..60).contains(&drained), "{drained}");
        assert!((10..60).contains(&grown), "{grown}");
    }
}
