//! An ordered store in memory that falls back to a batch boundary at or after its last flush.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use benteng_host::{Batch, Fut, Kv, KvView, Op, Result, Visit};
use bytes::Bytes;

type Map = BTreeMap<Vec<u8>, Bytes>;

#[derive(Default)]
struct State {
    now: Map,
    flushed: Map,
    since: Vec<Batch>,
}

#[derive(Default)]
pub(crate) struct MemoryKv(Mutex<State>);

fn apply(map: &mut Map, batch: &Batch) {
    for op in &batch.ops {
        match op {
            Op::Put(key, value) => drop(map.insert(key.to_vec(), value.clone())),
            Op::Delete(key) => drop(map.remove(&key[..])),
            Op::DeleteRange(from, to) => map.retain(|key, _| !(key[..] >= from[..] && key[..] < to[..])),
        }
    }
}

impl MemoryKv {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A crash: this many of the batches since the last flush survive.
    pub(crate) fn crash(&self, keep: usize) {
        let mut state = self.state();
        let mut map = state.flushed.clone();
        state.since.iter().take(keep).for_each(|batch| apply(&mut map, batch));
        state.now.clone_from(&map);
        state.flushed = map;
        state.since.clear();
    }

    pub(crate) fn unflushed(&self) -> usize {
        self.state().since.len()
    }

    /// All that was written is flushed.
    pub(crate) fn state_is_durable(&self) {
        let mut state = self.state();
        state.flushed = state.now.clone();
        state.since.clear();
    }

    pub(crate) fn lose_all(&self) {
        *self.state() = State::default();
    }

    pub(crate) fn keys(&self) -> Vec<Vec<u8>> {
        self.state().now.keys().cloned().collect()
    }
}

impl KvView for MemoryKv {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>> {
        Ok(self.state().now.get(key).cloned())
    }

    fn scan(&self, from: &[u8], to: &[u8], visit: &mut dyn FnMut(&[u8], &[u8]) -> Visit) -> Result<()> {
        let map = self.state().now.clone();
        for (key, value) in map.range(from.to_vec()..).take_while(|(key, _)| to.is_empty() || key[..] < *to) {
            if visit(key, value) == ControlFlow::Break(()) {
                break;
            }
        }
        Ok(())
    }

    fn scan_back(&self, from: &[u8], to: &[u8], visit: &mut dyn FnMut(&[u8], &[u8]) -> Visit) -> Result<()> {
        let map = self.state().now.clone();
        for (key, value) in
            map.iter().rev().filter(|(key, _)| key[..] >= *from && (to.is_empty() || key[..] < *to))
        {
            if visit(key, value) == ControlFlow::Break(()) {
                break;
            }
        }
        Ok(())
    }
}

impl Kv for MemoryKv {
    fn snapshot(&self) -> Result<Arc<dyn KvView>> {
        let now = self.state().now.clone();
        Ok(Arc::new(MemoryKv(Mutex::new(State { now, ..State::default() }))))
    }

    fn write(&self, batch: Batch) -> Fut<Result<()>> {
        let mut state = self.state();
        apply(&mut state.now, &batch);
        state.since.push(batch);
        Box::pin(async { Ok(()) })
    }

    fn flush(&self) -> Fut<Result<()>> {
        let mut state = self.state();
        state.flushed = state.now.clone();
        state.since.clear();
        Box::pin(async { Ok(()) })
    }
}
