//! RocksDB held to the simulated store: the same operations, the same answers, the same contents after a clean
//! end and after one that loses what was not flushed. What the simulator proves about the code above is worth
//! as much as this.
//!
//! The unclean end of RocksDB is a copy of its files at that moment, taken while it runs: what a killed process
//! leaves. What a power cut does to files that were not synced is not tried here; see docs/reliability.md.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use benteng_host::real::{RocksKv, RocksOptions};
use benteng_host::{Batch, Kv, KvView, Op, Visit};
use benteng_sim::{SimClock, SimKv};
use bytes::Bytes;
use futures::executor::block_on;
use proptest::prelude::*;

/// One thing that is done to both.
#[derive(Clone, Debug)]
enum Step {
    Write(Vec<Op>),
    Flush,
    Get(Bytes),
    /// From, to, backwards, at most so many pairs.
    Scan(Bytes, Bytes, bool, usize),
    /// A snapshot that is kept; the oldest of more than three goes.
    Snapshot,
    /// The same questions to every kept snapshot.
    AskSnapshots(Bytes, Bytes, bool),
    /// The store is closed and opened again.
    Close,
    /// Whatever was not flushed may be lost.
    Crash,
}

fn key() -> impl Strategy<Value = Bytes> {
    // Few, so that they meet; with bytes at which orders turn.
    prop::collection::vec(prop::sample::select(vec![0_u8, 1, b'a', 127, 128, 255]), 0..4)
        .prop_map(Bytes::from)
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        6 => (key(), prop::collection::vec(any::<u8>(), 0..40)).prop_map(|(k, v)| Op::Put(k, v.into())),
        // Large enough that memtables turn over and are flushed by themselves.
        1 => (key(), any::<u8>(), 100_000..500_000_usize).prop_map(|(k, b, n)| Op::Put(k, vec![b; n].into())),
        3 => key().prop_map(Op::Delete),
        1 => (key(), key()).prop_map(|(from, to)| Op::DeleteRange(from, to)),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        10 => prop::collection::vec(op(), 0..6).prop_map(Step::Write),
        2 => Just(Step::Flush),
        4 => key().prop_map(Step::Get),
        4 => (key(), key(), any::<bool>(), 1..20_usize).prop_map(|(f, t, b, n)| Step::Scan(f, t, b, n)),
        2 => Just(Step::Snapshot),
        2 => (key(), key(), any::<bool>()).prop_map(|(f, t, b)| Step::AskSnapshots(f, t, b)),
        1 => Just(Step::Close),
        2 => Just(Step::Crash),
    ]
}

type Pairs = Vec<(Bytes, Bytes)>;

fn scan(view: &dyn KvView, from: &[u8], to: &[u8], back: bool, limit: usize) -> Pairs {
    let mut pairs = Pairs::new();
    let mut visit = |key: &[u8], value: &[u8]| {
        pairs.push((Bytes::copy_from_slice(key), Bytes::copy_from_slice(value)));
        if pairs.len() == limit { Visit::Break(()) } else { Visit::Continue(()) }
    };
    let end = if back { view.scan_back(from, to, &mut visit) } else { view.scan(from, to, &mut visit) };
    end.expect("a sound store scans");
    pairs
}

/// Both stores, and what they were after each batch since the last flush.
struct Both {
    dir: tempfile::TempDir,
    lives: u32,
    rocks: Option<Arc<RocksKv>>,
    sim: Arc<SimKv>,
    open: Arc<dyn Kv>,
    snapshots: Vec<(Arc<dyn KvView>, Arc<dyn KvView>)>,
    /// States by the simulated store's count of batches.
    states: BTreeMap<u64, Pairs>,
    crashes: u32,
}

impl Both {
    fn new() -> Both {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let sim = SimKv::new(Arc::new(SimClock::new()), 1);
        let open = sim.open();
        let rocks = Some(open_rocks(&dir.path().join("0")));
        let states = BTreeMap::from([(0, Pairs::new())]);
        Both { dir, lives: 0, rocks, sim, open, snapshots: Vec::new(), states, crashes: 0 }
    }

    fn rocks(&self) -> &Arc<RocksKv> {
        self.rocks.as_ref().expect("it is open")
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join(self.lives.to_string())
    }

    fn all(view: &dyn KvView) -> Pairs {
        scan(view, b"", b"", false, usize::MAX)
    }

    fn play(&mut self, step: Step) {
        match step {
            Step::Write(ops) => {
                let batch = Batch { ops };
                block_on(self.rocks().write(batch.clone())).expect("a sound store takes a batch");
                block_on(self.open.write(batch)).expect("a sound store takes a batch");
                let state = Both::all(&*self.open);
                self.states.insert(self.sim.position().0, state);
            }
            Step::Flush => {
                block_on(self.rocks().flush()).expect("a sound store flushes");
                block_on(self.open.flush()).expect("a sound store flushes");
                self.states = self.states.split_off(&self.sim.position().1);
            }
            Step::Get(key) => {
                let (a, b) = (self.rocks().get(&key), self.open.get(&key));
                assert_eq!(a.expect("it reads"), b.expect("it reads"), "the value of {key:?}");
            }
            Step::Scan(from, to, back, limit) => {
                let (a, b) = (
                    scan(&**self.rocks(), &from, &to, back, limit),
                    scan(&*self.open, &from, &to, back, limit),
                );
                assert!(a == b, "a scan of {from:?}..{to:?}, back: {back}, first {limit}");
            }
            Step::Snapshot => {
                let rocks = self.rocks().snapshot().expect("a sound store gives a snapshot");
                self.snapshots.push((rocks, self.open.snapshot().expect("a sound store gives a snapshot")));
                if self.snapshots.len() > 3 {
                    self.snapshots.remove(0);
                }
            }
            Step::AskSnapshots(from, to, back) => {
                for (rocks, sim) in &self.snapshots {
                    let (a, b) = (rocks.get(&from), sim.get(&from));
                    assert_eq!(a.expect("it reads"), b.expect("it reads"), "{from:?} in a snapshot");
                    let (a, b) = (scan(&**rocks, &from, &to, back, 7), scan(&**sim, &from, &to, back, 7));
                    assert!(a == b, "a scan of {from:?}..{to:?} in a snapshot");
                    assert!(Both::all(&**rocks) == Both::all(&**sim), "a snapshot");
                }
            }
            Step::Close => {
                self.snapshots.clear();
                drop(self.rocks.take());
                self.rocks = Some(open_rocks(&self.path()));
                self.follow();
            }
            Step::Crash => {
                self.snapshots.clear();
                let left = self.path();
                self.lives += 1;
                copy_as_it_is(&left, &self.path());
                drop(self.rocks.take());
                fs::remove_dir_all(left).expect("nobody holds it");
                self.rocks = Some(open_rocks(&self.path()));
                self.crashes += 1;
                self.follow();
            }
        }
        let both = (Both::all(&**self.rocks()), Both::all(&*self.open));
        assert!(both.0 == both.1, "contents differ");
    }

    /// RocksDB was opened anew: what it is now must be the last flush or a later batch, as a whole; and the
    /// simulated store, which could have come back as the same, does.
    fn follow(&mut self) {
        let now = Both::all(&**self.rocks());
        let (written, flushed) = self.sim.position();
        let found = self.states.range(flushed..=written).rev().find(|(_, state)| **state == now);
        let batch =
            *found.expect("an opened store is what it was at its last flush, or after a later batch").0;
        self.sim.crash_to(batch);
        self.open = self.sim.open();
        self.states = BTreeMap::from([(batch, now)]);
    }
}

fn open_rocks(path: &Path) -> Arc<RocksKv> {
    let small = RocksOptions { block_cache_bytes: 1 << 20, write_buffer_bytes: 2 << 20 };
    RocksKv::open(path, &small).expect("it opens")
}

/// Names and lengths of a store's files.
fn listed(dir: &Path) -> BTreeMap<PathBuf, u64> {
    let entries = fs::read_dir(dir).expect("it lists").filter_map(Result::ok);
    entries.filter_map(|entry| Some((entry.path(), entry.metadata().ok()?.len()))).collect()
}

/// The files of a live store as they are at one moment: a kill stops all of them at once, so a copy counts only
/// if nothing was written meanwhile, as a flush in the background does.
fn copy_as_it_is(from: &Path, to: &Path) {
    loop {
        fs::create_dir(to).expect("a new folder");
        let before = listed(from);
        let files = before.keys().filter(|path| path.file_name().is_some_and(|name| name != "LOCK"));
        let mut copied =
            files.map(|path| fs::copy(path, to.join(path.file_name().expect("a file has a name"))));
        // A file that is gone meanwhile: the copy is made anew.
        let whole = copied.all(|copied| copied.is_ok());
        if whole && listed(from) == before {
            return;
        }
        fs::remove_dir_all(to).expect("nobody holds it");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn rocksdb_and_the_simulated_store_answer_alike(steps in prop::collection::vec(step(), 1..60)) {
        let mut both = Both::new();
        for step in steps {
            both.play(step);
        }
    }
}

#[test]
fn an_unclean_end_loses_what_was_not_flushed_in_both() {
    let mut both = Both::new();
    let put = |key: &'static str| {
        Step::Write(vec![Op::Put(Bytes::from_static(key.as_bytes()), Bytes::from_static(b"v"))])
    };
    both.play(put("flushed"));
    both.play(Step::Flush);
    both.play(put("lost"));
    both.play(Step::Crash);
    assert_eq!(both.crashes, 1);
    assert_eq!(both.open.get(b"lost").expect("it reads"), None, "no log brings it back");
    assert!(both.open.get(b"flushed").expect("it reads").is_some());
}
