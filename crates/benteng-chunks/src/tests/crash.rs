//! Random histories with crashes at any disk operation, held against a map in memory (I1, I4).

use std::cell::RefCell;
use std::collections::BTreeMap;

use proptest::prelude::*;

use super::world::Loss;
use super::{Bench, chunk, id, listed, whole};
use crate::{Error, Store};

#[derive(Clone, Debug)]
enum Step {
    Append(u32),
    /// Many at once.
    Burst(u32, u32),
    Remove(u32),
    Evict(u32),
    Clean,
    Flush,
    Roll,
    Scrub,
}

#[derive(Clone, Debug)]
struct Boot {
    steps: Vec<Step>,
    crash_in: Option<u16>,
    opening: Option<u8>,
    loss: u8,
    /// Share of unflushed batches of the index that survive; 255: the index is lost.
    index: u8,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        5 => (0..60_u32).prop_map(Step::Append),
        3 => (0..60_u32, 1..12_u32).prop_map(|(from, n)| Step::Burst(from, n)),
        5 => (0..60_u32).prop_map(Step::Remove),
        4 => (0..60_u32).prop_map(Step::Evict),
        3 => Just(Step::Clean),
        1 => Just(Step::Flush),
        1 => Just(Step::Roll),
        1 => Just(Step::Scrub),
    ]
}

fn boot() -> impl Strategy<Value = Boot> {
    (
        proptest::collection::vec(step(), 0..40),
        proptest::option::of(1..600_u16),
        proptest::option::weighted(0.3, 1..60_u8),
        0..4_u8,
        any::<u8>(),
    )
        .prop_map(|(steps, crash_in, opening, loss, index)| Boot {
            steps,
            crash_in,
            opening,
            loss,
            index,
        })
}

/// What the store may show of an id.
#[derive(Clone, Copy, Debug, PartialEq)]
enum State {
    /// An append was not answered.
    Maybe,
    Here,
    /// A removal, or an append after one, was not answered.
    Going,
    Gone,
    /// Evicted: it may come back.
    Away,
}

fn len(n: u32) -> usize {
    (n as usize * 397) % 4000 + 1
}

type Model = RefCell<BTreeMap<u32, State>>;

fn set(model: &Model, n: u32, state: State) {
    model.borrow_mut().insert(n, state);
}

async fn append(store: &Store, model: &Model, n: u32) {
    let known = model.borrow().get(&n).copied();
    match known {
        None | Some(State::Maybe) => set(model, n, State::Maybe),
        // Whether its tombstone is still needed is the store's business: both answers are right.
        Some(State::Gone) => set(model, n, State::Going),
        Some(State::Away) => set(model, n, State::Maybe),
        Some(State::Here | State::Going) => {}
    }
    let appended = store.append(chunk(n, len(n))).await;
    match (known, appended) {
        (None | Some(State::Maybe | State::Here | State::Away), Ok(())) => set(model, n, State::Here),
        (Some(State::Going | State::Gone), Err(Error::Removed { .. })) => set(model, n, State::Gone),
        (Some(State::Going | State::Gone), Ok(())) => set(model, n, State::Here),
        (known, other) => panic!("append of {n}, {known:?}: {other:?}"),
    }
}

async fn live(store: &Store, bench: &Bench, model: &Model, steps: &[Step]) {
    for step in steps {
        match step {
            Step::Append(n) => append(store, model, *n).await,
            Step::Burst(from, n) => {
                let all = (*from..from + n).map(|n| append(store, model, n));
                futures::future::join_all(all).await;
            }
            Step::Remove(n) => {
                set(model, *n, State::Going);
                store.remove(vec![id(*n), id(n + 100)]).await.expect("removes");
                set(model, *n, State::Gone);
            }
            Step::Evict(n) => {
                let known = model.borrow().get(n).copied();
                if known == Some(State::Here) {
                    set(model, *n, State::Maybe);
                }
                store.evict(vec![id(*n)]).await.expect("evicts");
                if matches!(known, Some(State::Here | State::Maybe)) {
                    set(model, *n, State::Away);
                }
            }
            Step::Clean => drop(store.clean().await.expect("cleans")),
            Step::Flush => benteng_host::Kv::flush(&*bench.kv).await.expect("flushes"),
            Step::Roll => drop(store.journal.roll().await.expect("rolls")),
            Step::Scrub => {
                let scrubbed = store.scrub(None, u64::MAX).await.expect("scrubs");
                assert!(scrubbed.corrupt.is_empty(), "I4: nothing has touched the disk: {scrubbed:?}");
            }
        }
    }
}

/// Holds the store against the model, and settles what was unknown.
async fn check(store: &Store, model: &Model) {
    let here: Vec<u32> = listed(store).into_iter().map(|(id, _)| id.sequence).collect();
    for n in &here {
        let wanted = chunk(*n, len(*n));
        let frames = u32::try_from(wanted.frame_crcs.len()).expect("few");
        let read = store.read(id(*n), 0..frames).await;
        assert!(read.as_ref().is_ok_and(|read| read[..] == whole(&wanted)), "I4: chunk {n}: {read:?}");
    }
    for (n, state) in model.borrow_mut().iter_mut() {
        let there = here.contains(n);
        match *state {
            State::Here => assert!(there, "I1: chunk {n} was acknowledged"),
            State::Gone => assert!(!there, "I8: chunk {n} was removed"),
            State::Away => assert!(!there, "chunk {n} was evicted"),
            State::Maybe if there => *state = State::Here,
            State::Maybe => {}
            State::Going => *state = if there { State::Here } else { State::Going },
        }
    }
    assert!(here.iter().all(|n| model.borrow().contains_key(n)), "nothing is invented");
    let counted: u64 = here.len() as u64;
    assert_eq!(store.usage().chunks, counted);
    assert_eq!(store.usage().damaged, 0);
}

fn run(seed: u64, boots: &[Boot]) {
    let bench = Bench::new(seed);
    let model = Model::default();
    let crash = |boot: &Boot| {
        match boot.loss {
            0 => bench.world.power_loss(Loss::Keep),
            1 => bench.world.power_loss(Loss::Drop),
            2 => bench.world.power_loss(Loss::Random),
            // kill -9: the page cache stays.
            _ => {}
        }
        match boot.index {
            255 => bench.kv.lose_all(),
            share => bench.kv.crash(bench.kv.unflushed() * usize::from(share) / 250),
        }
    };
    for boot in boots {
        if let Some(n) = boot.opening {
            bench.world.crash_in(u64::from(n));
            let _ = bench.world.run(async { bench.open().await.map(drop) });
            crash(boot);
        }
        bench.boot(async |store| {
            check(&store, &model).await;
            if let Some(n) = boot.crash_in {
                bench.world.crash_in(u64::from(n));
            }
            live(&store, &bench, &model, &boot.steps).await;
        });
        crash(boot);
    }
    bench.kv.lose_all();
    bench.boot(async |store| {
        check(&store, &model).await;
        while store.clean().await.expect("cleans").segment.is_some() {}
        check(&store, &model).await;
        store.close().await.expect("closes");
    });
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn i1_acknowledged_chunks_survive_every_crash(
        seed in any::<u64>(),
        boots in proptest::collection::vec(boot(), 1..5),
    ) {
        run(seed, &boots);
    }
}
