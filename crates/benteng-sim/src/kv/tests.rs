//! The simulated store passes the suite; its crashes; its cost.

use benteng_host::conformance;
use futures::FutureExt;
use futures::executor::block_on;

use super::*;
use crate::SimClock;

fn store() -> Arc<SimKv> {
    SimKv::new(Arc::new(SimClock::new()), 1)
}

fn put(key: &str, value: &str) -> Batch {
    let mut batch = Batch::default();
    batch.put(key.as_bytes().to_vec(), value.as_bytes().to_vec());
    batch
}

#[test]
fn sim_kv_conforms_over_crashes() {
    for seed in 0..5 {
        let (store, mut rng) = (store(), stream(seed, "test"));
        block_on(conformance::kv(|| {
            store.crash(&mut rng);
            let open = store.open();
            async move { Ok(open) }
        }));
    }
}

#[test]
fn a_crash_reaches_every_batch_boundary_after_the_flush_and_none_before() {
    let mut reached = BTreeSet::new();
    for seed in 0..200 {
        let store = store();
        let open = store.open();
        block_on(async {
            open.write(put("position", "1")).await.expect("writes");
            open.flush().await.expect("flushes");
            for i in 2..=4 {
                open.write(put("position", &i.to_string())).await.expect("writes");
            }
        });
        store.crash(&mut stream(seed, "test"));
        reached.insert(store.open().get(b"position").expect("reads").expect("it was flushed"));
    }
    assert_eq!(reached.into_iter().collect::<Vec<_>>(), ["1", "2", "3", "4"]);
}

#[test]
fn handles_and_snapshots_of_an_earlier_boot_fail() {
    let store = store();
    let open = store.open();
    let snapshot = open.snapshot().expect("gives a snapshot");
    let late = open.write(put("a", "1"));
    store.crash(&mut stream(1, "test"));
    for e in [open.get(b"a").err(), snapshot.get(b"a").err(), late.now_or_never().and_then(Result::err)] {
        assert_eq!(e.and_then(|e| e.source.raw_os_error()), Some(116));
    }
    assert!(open.snapshot().is_err() && open.flush().now_or_never().is_some_and(|end| end.is_err()));
    drop(snapshot);
    assert_eq!(store.open().get(b"a").expect("reads"), None);
}

#[test]
fn a_flush_does_not_cover_what_is_written_while_it_is_under_way() {
    crate::testing::on_a_host(|| async {
        let second = Duration::from_secs(1);
        let mut left = BTreeSet::new();
        for seed in 0..20 {
            let store = SimKv::new(Arc::new(SimClock::new()), 1);
            store.set_latency(Duration::ZERO..=Duration::ZERO, second..=second);
            let open = store.open();
            open.write(put("a", "before")).await.expect("writes");
            let flush = tokio::spawn(open.flush());
            tokio::task::yield_now().await;
            open.write(put("a", "while")).await.expect("writes");
            flush.await.expect("no panic").expect("flushes");
            assert_eq!(store.position(), (2, 1));
            store.crash(&mut stream(seed, "test"));
            left.insert(store.open().get(b"a").expect("reads").expect("it was flushed"));
        }
        assert_eq!(left, ["before", "while"].map(Bytes::from).into());
    });
}

#[test]
fn i7_versions_do_not_pile_up() {
    let store = store();
    let open = store.open();
    block_on(async {
        for i in 0..1000 {
            let _held = open.snapshot().expect("gives a snapshot");
            open.write(put("a", &i.to_string())).await.expect("writes");
            let mut gone = put(&format!("k{i}"), "v");
            gone.delete(format!("k{i}"));
            open.write(gone).await.expect("writes");
            if i % 10 == 0 {
                open.flush().await.expect("flushes");
            }
        }
        open.flush().await.expect("flushes");
    });
    let state = store.shared.lock();
    assert_eq!((state.map.len(), state.map.values().map(Vec::len).sum::<usize>()), (1, 1));
    assert!(state.untidy.is_empty() && state.views.is_empty());
}
