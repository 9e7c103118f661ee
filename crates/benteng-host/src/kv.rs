//! The ordered key-value store that holds a node's state. It has no write-ahead log:
//! after a crash it is what it was at some flush at or after the last one that returned,
//! always at a batch boundary. Whoever writes keeps his own position in the same batch.

use std::collections::BTreeMap;
use std::ops::{Bound, ControlFlow};
use std::sync::Arc;

use bytes::Bytes;

use crate::{Fut, Result};

/// What a visitor of [`KvView::scan`] answers: go on, or stop.
pub type Visit = ControlFlow<()>;

/// One change of a [`Batch`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// Sets a key.
    Put(Bytes, Bytes),
    /// Removes a key; no error if it is not there.
    Delete(Bytes),
    /// Removes all keys in `from..to`; an empty `to` means: to the end.
    DeleteRange(Bytes, Bytes),
}

/// Changes that become visible, and durable, all or none. Later ops win over earlier ones.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// The changes in order.
    pub ops: Vec<Op>,
}

impl Batch {
    /// Sets a key.
    pub fn put(&mut self, key: impl Into<Bytes>, value: impl Into<Bytes>) {
        self.ops.push(Op::Put(key.into(), value.into()));
    }

    /// Removes a key.
    pub fn delete(&mut self, key: impl Into<Bytes>) {
        self.ops.push(Op::Delete(key.into()));
    }

    /// Removes all keys in `from..to`; an empty `to` means: to the end.
    pub fn delete_range(&mut self, from: impl Into<Bytes>, to: impl Into<Bytes>) {
        self.ops.push(Op::DeleteRange(from.into(), to.into()));
    }
}

/// A readable state of an ordered store: the live one, a snapshot, or one seen through
/// unsealing or an overlay. Reads are served from memory or the page cache and are bounded
/// by what the caller visits, so they do not go through a future.
pub trait KvView: Send + Sync {
    /// The value of `key`.
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>>;

    /// Visits the pairs in `from..to` in ascending order until the visitor breaks.
    /// An empty `to` means: to the end. On the live store the visited state is one snapshot.
    fn scan(&self, from: &[u8], to: &[u8], visit: &mut dyn FnMut(&[u8], &[u8]) -> Visit) -> Result<()>;

    /// As [`KvView::scan`], in descending order, from the last key below `to` down to `from`.
    fn scan_back(&self, from: &[u8], to: &[u8], visit: &mut dyn FnMut(&[u8], &[u8]) -> Visit) -> Result<()>;
}

/// Rows in memory.
impl KvView for BTreeMap<Bytes, Bytes> {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>> {
        Ok(BTreeMap::get(self, key).cloned())
    }

    fn scan(&self, from: &[u8], to: &[u8], visit: &mut dyn FnMut(&[u8], &[u8]) -> Visit) -> Result<()> {
        // Not a range with two ends: one that runs backwards is empty here, not a panic.
        let rows = self.range::<[u8], _>((Bound::Included(from), Bound::Unbounded));
        let mut rows = rows.take_while(|(key, _)| to.is_empty() || &key[..] < to);
        let _ = rows.try_for_each(|(key, value)| visit(key, value));
        Ok(())
    }

    fn scan_back(&self, from: &[u8], to: &[u8], visit: &mut dyn FnMut(&[u8], &[u8]) -> Visit) -> Result<()> {
        let upper = if to.is_empty() { Bound::Unbounded } else { Bound::Excluded(to) };
        let rows = self.range::<[u8], _>((Bound::Unbounded, upper)).rev();
        let mut rows = rows.take_while(|(key, _)| &key[..] >= from);
        let _ = rows.try_for_each(|(key, value)| visit(key, value));
        Ok(())
    }
}

/// The store of one node.
pub trait Kv: KvView {
    /// A consistent view of the state as of now, unaffected by later writes.
    fn snapshot(&self) -> Result<Arc<dyn KvView>>;

    /// Applies `batch` atomically. When it returns, reads see it; it is durable only after
    /// a later [`Kv::flush`]. Batches become durable in the order in which they were written.
    fn write(&self, batch: Batch) -> Fut<Result<()>>;

    /// Makes everything durable that was written before the call.
    fn flush(&self) -> Fut<Result<()>>;

    /// Reads what is stored behind the key `after` again, from the device rather than from a cache, and holds it
    /// against its checksums until about `budget` bytes are read (I4). What is not durable yet need not be read.
    ///
    /// Errors: damage is `InvalidData`; anything else says nothing about the bytes.
    fn verify(&self, after: Option<Bytes>, budget: u64) -> Fut<Result<Verified>>;

    /// Gives the store up for damage: the next one that is opened in its place is empty. Durable when it returns.
    fn condemn(&self) -> Fut<Result<()>>;

    /// How often a store in this place was given up for damage.
    fn condemned(&self) -> u64;
}

/// What one step of [`Kv::verify`] has read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verified {
    /// Bytes of keys and values.
    pub bytes: u64,
    /// The last key that was read, to go on behind it; `None`: the end was reached.
    pub next: Option<Bytes>,
}

/// The first key behind all keys that start with `prefix`; empty if there is none.
pub fn prefix_end(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < u8::MAX {
            end.push(last + 1);
            return end;
        }
    }
    end
}
