//! The ordered store of a simulated host: every version of a key since the last flush, so
//! that a crash can return to any batch boundary after it, and a snapshot is a number.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::{Bound, RangeInclusive};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use benteng_host::{Batch, Clock, Error, Fut, Kv, KvView, Op, Result, Verified, Visit, sleep};
use bytes::Bytes;
use rand::Rng;

use crate::disk::Errno;
use crate::random::{SimRng, below, coin, draw, stream};

/// Pairs that a scan takes under the lock at a time; its visitor runs outside of it.
const SCAN_STEP: usize = 64;

/// Values of a key by the batch that wrote them, ascending; `None` is a removal.
type Versions = Vec<(u64, Option<Bytes>)>;

#[derive(Default)]
struct State {
    map: BTreeMap<Bytes, Versions>,
    /// Keys that have more than one version, or end in a removal.
    untidy: BTreeSet<Bytes>,
    /// The last batch written, and the last one surely durable.
    written: u64,
    flushed: u64,
    flips: u64,
    /// Keys whose stored values have rotted, by the batch that wrote them: what a checksum beside them would say.
    rotten: BTreeSet<(Bytes, u64)>,
    /// Given up for damage: it is empty after the next crash or stop.
    condemned: bool,
    /// How often that has happened.
    given_up: u64,
    /// Views in use, by the batch that they see last.
    views: BTreeMap<u64, usize>,
    generation: u64,
    /// Calls still to come before one fails, and how: of writes and flushes, and of reads.
    failing: [Option<(u64, Errno)>; 2],
    /// Calls of this boot that failed for nothing that the software did.
    failures: u64,
    write_latency: Option<RangeInclusive<Duration>>,
    flush_latency: Option<RangeInclusive<Duration>>,
}

/// Kinds of calls, for planning faults.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KvCall {
    /// Writing a batch, or flushing.
    Change,
    /// Reading a key, or a scan.
    Read,
}

impl State {
    /// A call of a kind is made: whether it fails.
    fn made(&mut self, call: KvCall, op: &'static str) -> Result<()> {
        let planned = &mut self.failing[call as usize];
        let Some((left, errno)) = planned else { return Ok(()) };
        *left -= 1;
        if *left > 0 {
            return Ok(());
        }
        let errno = *errno;
        *planned = None;
        self.failures += 1;
        Err(Error::new(op, "the simulated store", errno.into()))
    }

    fn set(&mut self, key: &Bytes, value: Option<Bytes>) {
        let batch = self.written;
        let versions = self.map.entry(key.clone()).or_default();
        match versions.last_mut() {
            Some((last, slot)) if *last == batch => *slot = value,
            _ => versions.push((batch, value)),
        }
        if versions.len() > 1 || versions.iter().any(|(_, value)| value.is_none()) {
            self.untidy.insert(key.clone());
        }
    }

    fn apply(&mut self, batch: Batch) {
        self.written += 1;
        for op in batch.ops {
            match op {
                Op::Put(key, value) => self.set(&key, Some(value)),
                Op::Delete(key) => {
                    if self.map.contains_key(&key) {
                        self.set(&key, None);
                    }
                }
                Op::DeleteRange(from, to) => {
                    let Some(range) = range(&from, &to) else { continue };
                    let live = |(_, versions): &(&Bytes, &Versions)| {
                        versions.last().is_some_and(|(_, v)| v.is_some())
                    };
                    let keys: Vec<Bytes> =
                        self.map.range::<[u8], _>(range).filter(live).map(|(key, _)| key.clone()).collect();
                    keys.iter().for_each(|key| self.set(key, None));
                }
            }
        }
    }

    /// Forgets versions that neither a view nor a crash can show again.
    fn tidy(&mut self) {
        let oldest = self.views.keys().next().copied().unwrap_or(u64::MAX).min(self.flushed);
        let map = &mut self.map;
        self.untidy.retain(|key| {
            let Some(versions) = map.get_mut(key) else { return false };
            let seen = versions.partition_point(|(batch, _)| *batch <= oldest);
            versions.drain(..seen.saturating_sub(1));
            if let [(batch, None)] = versions[..]
                && batch <= oldest
            {
                map.remove(key);
                return false;
            }
            versions.len() > 1 || versions.iter().any(|(_, value)| value.is_none())
        });
    }

    /// Undoes every batch after `last`.
    fn rewind(&mut self, last: u64) {
        (self.failing, self.failures) = ([None; 2], 0);
        self.map.retain(|_, versions| {
            versions.retain(|(batch, _)| *batch <= last);
            !versions.is_empty()
        });
        self.rotten.retain(|(_, batch)| *batch <= last);
        (self.written, self.flushed) = (last, last);
        self.views.clear();
        self.tidy();
    }

    /// Empty, as a directory whose files are gone; the machine is the same.
    fn empty(&mut self) {
        let (generation, given_up, flips) = (self.generation, self.given_up, self.flips);
        let latency = (self.write_latency.clone(), self.flush_latency.clone());
        *self = State { generation, given_up, flips, ..State::default() };
        (self.write_latency, self.flush_latency) = latency;
    }

    /// Whether a checksum beside the value that is stored last under `key` would fail.
    fn is_rotten(&self, key: &Bytes, versions: &Versions) -> bool {
        versions.last().is_some_and(|(batch, _)| self.rotten.contains(&(key.clone(), *batch)))
    }
}

/// Where a scan starts and ends.
type Bounds<'a> = (Bound<&'a [u8]>, Bound<&'a [u8]>);

/// The bounds of `from..to` (an empty `to` is the end), unless they hold no key.
fn range<'a>(from: &'a [u8], to: &'a [u8]) -> Option<Bounds<'a>> {
    if to.is_empty() {
        return Some((Bound::Included(from), Bound::Unbounded));
    }
    (from < to).then_some((Bound::Included(from), Bound::Excluded(to)))
}

struct Shared {
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
    rng: Mutex<SimRng>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn pass(&self, range: Option<RangeInclusive<Duration>>) {
        let Some(range) = range else { return };
        let latency = draw(&mut self.rng.lock().unwrap_or_else(PoisonError::into_inner), &range);
        sleep(&*self.clock, latency).await;
    }
}

/// What a host's store holds, and the handle to its crashes. It survives restarts.
pub struct SimKv {
    shared: Arc<Shared>,
}

impl SimKv {
    /// An empty store. `clock` times latencies, `seed` draws them.
    pub fn new(clock: Arc<dyn Clock>, seed: u64) -> Arc<SimKv> {
        let rng = Mutex::new(stream(seed, "kv"));
        Arc::new(SimKv { shared: Arc::new(Shared { clock, state: Mutex::default(), rng }) })
    }

    /// The store for the software of this boot. Handles of earlier boots fail.
    pub fn open(&self) -> Arc<dyn Kv> {
        let generation = self.shared.lock().generation;
        Arc::new(OpenKv { shared: self.shared.clone(), generation })
    }

    /// The process ends, however: without a log, the state is that of the last flush or, as
    /// `rng` decides, of a later batch that a flush in the background happened to reach.
    pub fn crash(&self, rng: &mut SimRng) {
        let mut state = self.shared.lock();
        let later = state.written - state.flushed;
        let last = if coin(rng) { state.flushed } else { state.flushed + below(rng, later + 1) };
        state.rewind(last);
        state.generation += 1;
        if state.condemned {
            state.given_up += 1;
            state.empty();
        }
    }

    /// As [`SimKv::crash`], back to this batch; it must not lie before the last flush.
    pub fn crash_to(&self, batch: u64) {
        let mut state = self.shared.lock();
        assert!((state.flushed..=state.written).contains(&batch), "a flush does not come undone");
        state.rewind(batch);
        state.generation += 1;
    }

    /// The `n`-th call of its kind from now (1: the next) fails once: with ENOSPC if the device is `full`, else
    /// with EIO. 0: none does any more.
    pub fn fail(&self, call: KvCall, n: u64, full: bool) {
        let errno = if full { Errno::ENOSPC } else { Errno::EIO };
        self.shared.lock().failing[call as usize] = (n > 0).then_some((n, errno));
    }

    /// Calls that failed since the last boot.
    pub fn failures(&self) -> u64 {
        self.shared.lock().failures
    }

    /// The store is gone: empty, as after the loss of its directory.
    pub fn lose(&self) {
        let mut state = self.shared.lock();
        state.generation += 1;
        state.flips = 0;
        state.empty();
    }

    /// Whether any value that is stored has rotted.
    pub fn is_rotten(&self) -> bool {
        let state = self.shared.lock();
        !state.rotten.is_empty() && state.map.iter().any(|(key, versions)| state.is_rotten(key, versions))
    }

    /// How long writes and flushes take, drawn evenly from these ranges.
    pub fn set_latency(&self, write: RangeInclusive<Duration>, flush: RangeInclusive<Duration>) {
        let mut state = self.shared.lock();
        state.write_latency = Some(write);
        state.flush_latency = Some(flush);
    }

    /// Flips a bit in the stored value of one of the keys that `choose` accepts; says of which.
    pub fn flip(&self, rng: &mut SimRng, choose: impl Fn(&[u8]) -> bool) -> Option<Bytes> {
        let mut state = self.shared.lock();
        let lives =
            |versions: &Versions| matches!(versions.last(), Some((_, Some(value))) if !value.is_empty());
        let chosen = state.map.iter().filter(|(key, versions)| choose(key) && lives(versions));
        let keys: Vec<Bytes> = chosen.map(|(key, _)| key.clone()).collect();
        let key = keys.get(usize::try_from(below(rng, keys.len() as u64)).ok()?)?.clone();
        let (at, bit) = (rng.next_u64(), below(rng, 8));
        let mut rotten = Vec::new();
        for (batch, value) in state.map.get_mut(&key)? {
            let Some(bytes) = value.as_ref().filter(|bytes| !bytes.is_empty()) else { continue };
            let mut bytes = bytes.to_vec();
            let at = usize::try_from(at % bytes.len() as u64).ok()?;
            bytes[at] ^= 1 << bit;
            *value = Some(bytes.into());
            rotten.push((key.clone(), *batch));
        }
        state.rotten.extend(rotten);
        state.flips += 1;
        Some(key)
    }

    /// Bits flipped since the store was new.
    pub fn flips(&self) -> u64 {
        self.shared.lock().flips
    }

    /// Batches written so far, and of those how many are surely durable.
    pub fn position(&self) -> (u64, u64) {
        let state = self.shared.lock();
        (state.written, state.flushed)
    }
}

struct OpenKv {
    shared: Arc<Shared>,
    generation: u64,
}

/// A view of the state after one batch; its versions are kept while it lives.
struct View {
    shared: Arc<Shared>,
    generation: u64,
    last: u64,
}

impl Drop for View {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        if state.generation == self.generation
            && let Some(count) = state.views.get_mut(&self.last)
        {
            *count -= 1;
            if *count == 0 {
                state.views.remove(&self.last);
            }
        }
    }
}

fn stale(op: &'static str) -> Error {
    Error::new(op, "store of an earlier boot", Errno::ESTALE.into())
}

impl OpenKv {
    fn view(&self) -> Result<View> {
        let mut state = self.shared.lock();
        if state.generation != self.generation {
            return Err(stale("read store"));
        }
        let last = state.written;
        *state.views.entry(last).or_default() += 1;
        Ok(View { shared: self.shared.clone(), generation: self.generation, last })
    }
}

impl View {
    /// Up to [`SCAN_STEP`] pairs of the range, from its start or its end.
    fn step(&self, range: Bounds<'_>, back: bool) -> Result<Vec<(Bytes, Bytes)>> {
        let state = self.shared.lock();
        if state.generation != self.generation {
            return Err(stale("scan store"));
        }
        let pair = |(key, versions): (&Bytes, &Versions)| Some((key.clone(), self.value(versions)?));
        let keys = state.map.range::<[u8], _>(range);
        Ok(if back {
            keys.rev().filter_map(pair).take(SCAN_STEP).collect()
        } else {
            keys.filter_map(pair).take(SCAN_STEP).collect()
        })
    }

    fn value(&self, versions: &Versions) -> Option<Bytes> {
        let seen = versions.partition_point(|(batch, _)| *batch <= self.last);
        versions[..seen].last().and_then(|(_, value)| value.clone())
    }

    fn walk(
        &self,
        from: &[u8],
        to: &[u8],
        back: bool,
        visit: &mut dyn FnMut(&[u8], &[u8]) -> Visit,
    ) -> Result<()> {
        let Some((lower, upper)) = range(from, to) else { return Ok(()) };
        self.shared.lock().made(KvCall::Read, "scan store")?;
        let mut reached: Option<Bytes> = None;
        loop {
            let pairs = match &reached {
                None => self.step((lower, upper), back)?,
                Some(key) if back => self.step((lower, Bound::Excluded(key)), back)?,
                Some(key) => self.step((Bound::Excluded(key), upper), back)?,
            };
            for (key, value) in &pairs {
                if visit(key, value).is_break() {
                    return Ok(());
                }
            }
            match pairs.into_iter().nth(SCAN_STEP - 1) {
                Some((last, _)) => reached = Some(last),
                None => return Ok(()),
            }
        }
    }
}

impl KvView for View {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>> {
        let mut state = self.shared.lock();
        if state.generation != self.generation {
            return Err(stale("read store"));
        }
        state.made(KvCall::Read, "read store")?;
        Ok(state.map.get(key).and_then(|versions| self.value(versions)))
    }

    fn scan(&self, from: &[u8], to: &[u8], visit: &mut dyn FnMut(&[u8], &[u8]) -> Visit) -> Result<()> {
        self.walk(from, to, false, visit)
    }

    fn scan_back(&self, from: &[u8], to: &[u8], visit: &mut dyn FnMut(&[u8], &[u8]) -> Visit) -> Result<()> {
        self.walk(from, to, true, visit)
    }
}

impl KvView for OpenKv {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>> {
        self.view()?.get(key)
    }

    fn scan(&self, from: &[u8], to: &[u8], visit: &mut dyn FnMut(&[u8], &[u8]) -> Visit) -> Result<()> {
        self.view()?.scan(from, to, visit)
    }

    fn scan_back(&self, from: &[u8], to: &[u8], visit: &mut dyn FnMut(&[u8], &[u8]) -> Visit) -> Result<()> {
        self.view()?.scan_back(from, to, visit)
    }
}

impl Kv for OpenKv {
    fn snapshot(&self) -> Result<Arc<dyn KvView>> {
        Ok(Arc::new(self.view()?))
    }

    fn write(&self, batch: Batch) -> Fut<Result<()>> {
        let (shared, generation) = (self.shared.clone(), self.generation);
        Box::pin(async move {
            let latency = {
                let mut state = shared.lock();
                if state.generation != generation {
                    return Err(stale("write store"));
                }
                state.made(KvCall::Change, "write store")?;
                state.apply(batch);
                state.write_latency.clone()
            };
            shared.pass(latency).await;
            Ok(())
        })
    }

    fn flush(&self) -> Fut<Result<()>> {
        let (shared, generation) = (self.shared.clone(), self.generation);
        Box::pin(async move {
            let (upto, latency) = {
                let mut state = shared.lock();
                if state.generation == generation {
                    state.made(KvCall::Change, "flush store")?;
                }
                (state.written, state.flush_latency.clone())
            };
            shared.pass(latency).await;
            let mut state = shared.lock();
            if state.generation != generation {
                return Err(stale("flush store"));
            }
            state.flushed = state.flushed.max(upto);
            state.tidy();
            Ok(())
        })
    }

    fn verify(&self, after: Option<Bytes>, budget: u64) -> Fut<Result<Verified>> {
        let (shared, generation) = (self.shared.clone(), self.generation);
        Box::pin(async move {
            let state = shared.lock();
            if state.generation != generation {
                return Err(stale("verify store"));
            }
            let mut done = Verified::default();
            let from = after.map_or(Bound::Unbounded, Bound::Excluded);
            for (key, versions) in state.map.range((from, Bound::Unbounded)) {
                if state.is_rotten(key, versions) {
                    let rot = std::io::ErrorKind::InvalidData.into();
                    return Err(Error::new("verify store", String::from_utf8_lossy(key), rot));
                }
                let stored = versions.last().and_then(|(_, value)| value.as_ref());
                done.bytes += (key.len() + stored.map_or(0, Bytes::len)) as u64;
                if done.bytes >= budget {
                    done.next = Some(key.clone());
                    break;
                }
            }
            Ok(done)
        })
    }

    fn condemn(&self) -> Fut<Result<()>> {
        let (shared, generation) = (self.shared.clone(), self.generation);
        Box::pin(async move {
            let mut state = shared.lock();
            if state.generation != generation {
                return Err(stale("give up store"));
            }
            state.condemned = true;
            Ok(())
        })
    }

    fn condemned(&self) -> u64 {
        self.shared.lock().given_up
    }
}

#[cfg(test)]
mod tests;
