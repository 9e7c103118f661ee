//! The suite of the ordered store, against a `BTreeMap`.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;

use super::Numbers;
use crate::{Batch, Kv, KvView, Op, Result, Visit};

type Model = BTreeMap<Bytes, Bytes>;
type Pairs = Vec<(Bytes, Bytes)>;

/// Checks a store. `open` opens the same store each time, empty at first; before it is
/// called again every handle of the earlier one is dropped. It may end that one cleanly or
/// by a crash: what was flushed must be there, and of the rest a prefix of whole batches.
pub async fn kv<F, O>(mut open: F)
where
    F: FnMut() -> O,
    O: Future<Output = Result<Arc<dyn Kv>>>,
{
    let store = opened(&mut open).await;
    check(&*store, &Model::new());
    single_keys(&*store).await;
    ops_of_a_batch_apply_in_order(&*store).await;
    ranges(&*store).await;
    snapshots_stand_still(&*store).await;
    a_sound_store_verifies_in_steps(&*store).await;
    drop(store);
    a_store_that_is_given_up_is_empty_next_time(&mut open).await;
    a_reopened_store_is_a_prefix_of_batches(&mut open).await;
    for seed in 0..8 {
        random_histories_match_the_model(&mut open, seed).await;
    }
}

async fn opened<F, O>(open: &mut F) -> Arc<dyn Kv>
where
    F: FnMut() -> O,
    O: Future<Output = Result<Arc<dyn Kv>>>,
{
    match open().await {
        Ok(store) => store,
        Err(e) => panic!("the store does not open: {e}"),
    }
}

fn batch(ops: &[Op]) -> Batch {
    Batch { ops: ops.to_vec() }
}

fn put(key: &str, value: &str) -> Op {
    Op::Put(Bytes::copy_from_slice(key.as_bytes()), Bytes::copy_from_slice(value.as_bytes()))
}

fn delete(key: &str) -> Op {
    Op::Delete(Bytes::copy_from_slice(key.as_bytes()))
}

fn delete_range(from: &str, to: &str) -> Op {
    Op::DeleteRange(Bytes::copy_from_slice(from.as_bytes()), Bytes::copy_from_slice(to.as_bytes()))
}

fn apply(model: &mut Model, batch: &Batch) {
    for op in &batch.ops {
        match op {
            Op::Put(key, value) => drop(model.insert(key.clone(), value.clone())),
            Op::Delete(key) => drop(model.remove(key)),
            Op::DeleteRange(from, to) => {
                model.retain(|key, _| key < from || (!to.is_empty() && key >= to));
            }
        }
    }
}

async fn write(store: &dyn Kv, model: &mut Model, change: Batch) {
    apply(model, &change);
    store.write(change).await.expect("a sound store takes a batch");
}

async fn clear(store: &dyn Kv) {
    store.write(batch(&[delete_range("", "")])).await.expect("a sound store takes a batch");
    store.flush().await.expect("a sound store flushes");
}

fn scanned(view: &dyn KvView, from: &[u8], to: &[u8], back: bool, limit: usize) -> Pairs {
    let mut pairs = Pairs::new();
    let mut visit = |key: &[u8], value: &[u8]| {
        pairs.push((Bytes::copy_from_slice(key), Bytes::copy_from_slice(value)));
        if pairs.len() == limit { Visit::Break(()) } else { Visit::Continue(()) }
    };
    let end = if back { view.scan_back(from, to, &mut visit) } else { view.scan(from, to, &mut visit) };
    end.expect("a sound store scans");
    pairs
}

fn expected(model: &Model, from: &[u8], to: &[u8], back: bool, limit: usize) -> Pairs {
    if !to.is_empty() && from >= to {
        return Pairs::new();
    }
    let upper = if to.is_empty() { Bound::Unbounded } else { Bound::Excluded(to) };
    let range = model.range::<[u8], _>((Bound::Included(from), upper)).map(|(k, v)| (k.clone(), v.clone()));
    if back { range.rev().take(limit).collect() } else { range.take(limit).collect() }
}

fn check_range(view: &dyn KvView, model: &Model, from: &[u8], to: &[u8]) {
    for back in [false, true] {
        for limit in [1, 2, usize::MAX] {
            let (got, want) = (scanned(view, from, to, back, limit), expected(model, from, to, back, limit));
            assert_eq!(got, want, "scan of {from:?}..{to:?}, back: {back}, first {limit}");
        }
    }
}

fn check(view: &dyn KvView, model: &Model) {
    check_range(view, model, b"", b"");
    for (key, value) in model {
        let got = view.get(key).expect("a sound store reads");
        assert_eq!(got.as_ref(), Some(value), "value of {key:?}");
    }
}

async fn single_keys(store: &dyn Kv) {
    let mut model = Model::new();
    for change in [
        batch(&[]),
        batch(&[put("a", "1")]),
        batch(&[put("a", "2"), put("b", "")]),
        batch(&[put("", "the empty key is a key")]),
        batch(&[delete("a"), delete("never there")]),
        Batch { ops: vec![Op::Put(Bytes::from_static(&[255, 255]), Bytes::from(vec![7; 100_000]))] },
    ] {
        write(store, &mut model, change).await;
        check(store, &model);
    }
    for absent in ["a", "aa", "never there"] {
        assert_eq!(store.get(absent.as_bytes()).expect("a sound store reads"), None, "{absent} is not there");
    }
    clear(store).await;
    check(store, &Model::new());
}

async fn ops_of_a_batch_apply_in_order(store: &dyn Kv) {
    type Row<'a> = (&'a [Op], &'a [(&'a str, &'a str)]);
    let rows: &[Row<'_>] = &[
        (&[put("a", "1"), put("a", "2")], &[("a", "2")]),
        (&[put("a", "1"), delete("a")], &[]),
        (&[delete("a"), put("a", "1")], &[("a", "1")]),
        (&[put("a", "1"), put("b", "1"), delete_range("a", "c"), put("b", "2")], &[("b", "2")]),
        (&[delete_range("a", "c"), put("a", "1"), put("c", "1")], &[("a", "1"), ("c", "1")]),
        (&[put("a", "1"), put("c", "1"), delete_range("a", "c")], &[("c", "1")]),
        // An empty end is the end of the store, for keys of the same batch and of earlier ones.
        (&[put("m", "1"), put("z", "1"), delete_range("n", ""), put("o", "1")], &[("m", "1"), ("o", "1")]),
        // Ranges that end before they start hold nothing.
        (&[put("b", "1"), delete_range("c", "a"), delete_range("b", "b")], &[("b", "1")]),
    ];
    for (ops, pairs) in rows {
        for kept in [&[][..], &[put("zz", "earlier"), put("a", "earlier"), put("b", "earlier")]] {
            clear(store).await;
            let mut model = Model::new();
            write(store, &mut model, batch(kept)).await;
            write(store, &mut model, batch(ops)).await;
            check(store, &model);
            for (key, value) in *pairs {
                let got = store.get(key.as_bytes()).expect("a sound store reads");
                assert_eq!(got.as_deref(), Some(value.as_bytes()), "{key} after {ops:?}");
            }
        }
    }
    clear(store).await;
}

async fn ranges(store: &dyn Kv) {
    let mut model = Model::new();
    let keys = ["", "a", "a\0", "ab", "b", "ba", "c", "\u{ff}"];
    let change = batch(&keys.map(|key| put(key, key)));
    write(store, &mut model, change).await;
    let bounds = ["", "a", "a\0", "a\0\0", "aa", "b", "c", "d", "\u{ff}", "\u{fff}"];
    for from in bounds {
        for to in bounds {
            check_range(store, &model, from.as_bytes(), to.as_bytes());
        }
    }
    clear(store).await;
}

async fn snapshots_stand_still(store: &dyn Kv) {
    let mut model = Model::new();
    write(store, &mut model, batch(&[put("a", "1"), put("b", "1"), put("c", "1")])).await;
    let before = store.snapshot().expect("a sound store gives a snapshot");
    let then = model.clone();
    write(store, &mut model, batch(&[put("a", "2"), delete("b"), put("d", "2"), delete_range("c", "d")]))
        .await;
    check(&*before, &then);
    check(store, &model);
    for (from, to) in [("b", "d"), ("a", "b"), ("d", "")] {
        check_range(&*before, &then, from.as_bytes(), to.as_bytes());
    }
    store.flush().await.expect("a sound store flushes");
    clear(store).await;
    check(&*before, &then);
    // A live scan visits one state, whatever its visitor lets happen to the store.
    write(store, &mut Model::new(), batch(&[put("a", "1"), put("b", "1")])).await;
    let mut seen = 0;
    let mut other = Vec::new();
    let visit = &mut |_: &[u8], value: &[u8]| {
        other.push(store.write(batch(&[put("b", "2"), put("c", "2")])));
        assert_eq!(value, b"1", "a live scan sees one state");
        seen += 1;
        Visit::Continue(())
    };
    store.scan(b"", b"", visit).expect("a sound store scans");
    assert_eq!(seen, 2, "a live scan sees one state");
    for write in other {
        write.await.expect("a sound store takes a batch");
    }
    clear(store).await;
}

async fn a_sound_store_verifies_in_steps(store: &dyn Kv) {
    let mut model = Model::new();
    let change = batch(&["a", "b", "c", "d"].map(|key| put(key, "four")));
    write(store, &mut model, change).await;
    store.flush().await.expect("a sound store flushes");
    let (mut after, mut bytes, mut steps) = (None, 0, 0);
    loop {
        let done = store.verify(after.clone(), 10).await.expect("a sound store verifies");
        assert!(done.next.is_none() || done.next > after, "it goes on");
        (after, bytes, steps) = (done.next, bytes + done.bytes, steps + 1);
        if after.is_none() {
            break;
        }
    }
    assert!(bytes >= 20 && steps >= 2, "{bytes} bytes in {steps} steps");
    clear(store).await;
}

async fn a_store_that_is_given_up_is_empty_next_time<F, O>(open: &mut F)
where
    F: FnMut() -> O,
    O: Future<Output = Result<Arc<dyn Kv>>>,
{
    let store = opened(open).await;
    let before = store.condemned();
    write(&*store, &mut Model::new(), batch(&[put("a", "1")])).await;
    store.flush().await.expect("a sound store flushes");
    store.condemn().await.expect("a store can be given up");
    drop(store);
    for _ in 0..2 {
        let store = opened(open).await;
        check(&*store, &Model::new());
        assert_eq!(store.condemned(), before + 1);
    }
}

async fn a_reopened_store_is_a_prefix_of_batches<F, O>(open: &mut F)
where
    F: FnMut() -> O,
    O: Future<Output = Result<Arc<dyn Kv>>>,
{
    for flushed in [0, 1, 7, 20] {
        let store = opened(open).await;
        clear(&*store).await;
        let mut history = vec![Model::new()];
        for i in 0..20 {
            let mut model = history.last().cloned().unwrap_or_default();
            let change = batch(&[
                put("position", &i.to_string()),
                put(&format!("k{i}"), "v"),
                delete(&format!("k{}", i / 2)),
            ]);
            write(&*store, &mut model, change).await;
            history.push(model);
            if i + 1 == flushed {
                store.flush().await.expect("a sound store flushes");
            }
        }
        drop(store);
        let store = opened(open).await;
        is_one_of(&*store, &history[flushed..]);
    }
}

/// The position in `history` of the state that the store is in; panics if it is in none.
fn is_one_of(store: &dyn Kv, history: &[Model]) -> usize {
    let now: Model = scanned(store, b"", b"", false, usize::MAX).into_iter().collect();
    let found = history.iter().rposition(|model| *model == now);
    found.expect("a reopened store is what it was at its last flush or after a later batch")
}

async fn random_histories_match_the_model<F, O>(open: &mut F, seed: u64)
where
    F: FnMut() -> O,
    O: Future<Output = Result<Arc<dyn Kv>>>,
{
    let mut numbers = Numbers(seed);
    let mut store = opened(open).await;
    clear(&*store).await;
    // The states since the last flush, the live one last.
    let mut history = vec![Model::new()];
    let mut snapshots: Vec<(Arc<dyn KvView>, Model)> = Vec::new();
    for _ in 0..300 {
        let live = history.last().cloned().unwrap_or_default();
        match numbers.below(20) {
            0 => {
                store.flush().await.expect("a sound store flushes");
                history = vec![live];
            }
            1 => {
                snapshots.clear();
                drop(store);
                store = opened(open).await;
                let at = is_one_of(&*store, &history);
                history.truncate(at + 1);
            }
            2 => {
                snapshots.push((store.snapshot().expect("a sound store gives a snapshot"), live));
                if snapshots.len() > 4 {
                    snapshots.remove(0);
                }
            }
            3..=7 => {
                let (from, to) = (random_key(&mut numbers), random_key(&mut numbers));
                check_range(&*store, &live, &from, &to);
                for (snapshot, model) in &snapshots {
                    check_range(&**snapshot, model, &from, &to);
                    let got = snapshot.get(&from).expect("a sound store reads");
                    assert_eq!(got.as_ref(), model.get(&from), "seed {seed}: {from:?} in a snapshot");
                }
            }
            _ => {
                let mut model = live;
                let ops = (0..numbers.below(6)).map(|_| random_op(&mut numbers)).collect();
                write(&*store, &mut model, Batch { ops }).await;
                history.push(model);
            }
        }
    }
    check(&*store, history.last().expect("the live state is kept"));
    for (snapshot, model) in &snapshots {
        check(&**snapshot, model);
    }
}

fn random_key(numbers: &mut Numbers) -> Bytes {
    (0..numbers.below(4)).map(|_| [0, 1, 128, 255][numbers.below(4) as usize]).collect()
}

fn random_op(numbers: &mut Numbers) -> Op {
    match numbers.below(8) {
        0 => Op::DeleteRange(random_key(numbers), random_key(numbers)),
        1 | 2 => Op::Delete(random_key(numbers)),
        _ => {
            let n = numbers.below(20);
            Op::Put(random_key(numbers), numbers.bytes(n).into())
        }
    }
}
