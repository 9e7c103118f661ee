//! An ordered store in memory that falls back to a batch boundary at or after its last flush.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use benteng_host::{Batch, Fut, Kv, KvView, Op, Result, Verified, Visit};
use bytes::Bytes;
use futures::channel::oneshot;

type Map = BTreeMap<Vec<u8>, Bytes>;

#[derive(Default)]
struct State {
    now: Map,
    flushed: Map,
    since: Vec<Batch>,
}

#[derive(Default)]
pub(crate) struct MemoryKv {
    state: Arc<Mutex<State>>,
    held: Arc<Mutex<Vec<oneshot::Sender<()>>>>,
    holding: AtomicBool,
}

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
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on writes wait, until [`MemoryKv::let_go`].
    pub(crate) fn hold(&self) {
        self.holding.store(true, Ordering::Relaxed);
    }

    pub(crate) fn let_go(&self) {
        self.holding.store(false, Ordering::Relaxed);
        self.held.lock().unwrap_or_else(PoisonError::into_inner).clear();
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
        let state = Arc::new(Mutex::new(State { now, ..State::default() }));
        Ok(Arc::new(MemoryKv { state, ..MemoryKv::default() }))
    }

    fn write(&self, batch: Batch) -> Fut<Result<()>> {
        let wait = self.holding.load(Ordering::Relaxed).then(|| {
            let (tx, rx) = oneshot::channel();
            self.held.lock().unwrap_or_else(PoisonError::into_inner).push(tx);
            rx
        });
        let state = self.state.clone();
        Box::pin(async move {
            if let Some(wait) = wait {
                // Dropped senders let go.
                let _ = wait.await;
            }
            let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
            apply(&mut state.now, &batch);
            state.since.push(batch);
            Ok(())
        })
    }

    fn flush(&self) -> Fut<Result<()>> {
        let mut state = self.state();
        state.flushed = state.now.clone();
        state.since.clear();
        Box::pin(async { Ok(()) })
    }

    /// Memory does not rot.
    fn verify(&self, _: Option<Bytes>, _: u64) -> Fut<Result<Verified>> {
        Box::pin(async { Ok(Verified::default()) })
    }

    fn condemn(&self) -> Fut<Result<()>> {
        *self.state() = State::default();
        Box::pin(async { Ok(()) })
    }

    fn condemned(&self) -> u64 {
        0
    }
}
