//! Uncommitted changes over a view: what one entry writes, the next one in the same batch reads.

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;
use std::sync::{Mutex, PoisonError};

use benteng_host::{Batch, KvView, Visit};
use bytes::Bytes;

use crate::codec::{self, Versioned};
use crate::key::Table;
use crate::{Error, Result};

/// A transaction: reads fall through to the base, writes stay here until [`Tx::into_batch`].
pub struct Tx<'a> {
    base: &'a dyn KvView,
    changes: BTreeMap<Bytes, Option<Bytes>>,
    /// What was read of the base: the commands of a batch ask for the same rows of site, bucket and gateway.
    seen: Mutex<HashMap<Bytes, Option<Bytes>>>,
    /// A placement was written since [`Tx::placements_changed`] was asked.
    placements_changed: bool,
}

impl<'a> Tx<'a> {
    /// Starts with no changes over `base`.
    pub fn new(base: &'a dyn KvView) -> Tx<'a> {
        Tx { base, changes: BTreeMap::new(), seen: Mutex::default(), placements_changed: false }
    }

    /// The row at `key`.
    pub fn get<T: Versioned>(&self, key: &[u8]) -> Result<Option<T>> {
        match self.changes.get(key) {
            Some(Some(value)) => codec::decode(value).map(Some),
            Some(None) => Ok(None),
            None => self.base_row(key)?.map(|value| codec::decode(&value)).transpose(),
        }
    }

    /// Whether there is a row at `key`.
    pub fn has(&self, key: &[u8]) -> Result<bool> {
        match self.changes.get(key) {
            Some(change) => Ok(change.is_some()),
            None => Ok(self.base_row(key)?.is_some()),
        }
    }

    /// The row at `key` before this transaction; the base is asked once.
    fn base_row(&self, key: &[u8]) -> benteng_host::Result<Option<Bytes>> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(row) = seen.get(key) {
            return Ok(row.clone());
        }
        let row = self.base.get(key)?;
        seen.insert(Bytes::copy_from_slice(key), row.clone());
        Ok(row)
    }

    /// Whether a placement was written since this was asked last.
    pub(crate) fn placements_changed(&mut self) -> bool {
        std::mem::take(&mut self.placements_changed)
    }

    /// Writes a row.
    pub fn put<T: Versioned>(&mut self, key: Bytes, row: &T) {
        self.placements_changed |= key.first() == Some(&(Table::Placement as u8));
        self.changes.insert(key, Some(codec::encode(row)));
    }

    /// Removes a row; no matter if there is none.
    pub fn delete(&mut self, key: Bytes) {
        self.changes.insert(key, None);
    }

    /// Removes a row and returns it.
    pub fn take<T: Versioned>(&mut self, key: Bytes) -> Result<Option<T>> {
        let row = self.get(&key)?;
        if row.is_some() {
            self.delete(key);
        }
        Ok(row)
    }

    /// Keys and rows of `from..to` in order, at most `limit`.
    pub fn range<T: Versioned>(&self, from: &[u8], to: &[u8], limit: usize) -> Result<Vec<(Bytes, T)>> {
        let mut out = Vec::new();
        let mut failed: Option<Error> = None;
        self.scan(from, to, &mut |key, value| match codec::decode(value) {
            Ok(row) if out.len() < limit => {
                out.push((Bytes::copy_from_slice(key), row));
                Visit::Continue(())
            }
            Ok(_) => Visit::Break(()),
            Err(e) => {
                failed = Some(e);
                Visit::Break(())
            }
        })?;
        failed.map_or(Ok(out), Err)
    }

    /// The changes, in key order.
    pub fn into_batch(self) -> Batch {
        let mut batch = Batch::default();
        for (key, change) in self.changes {
            match change {
                Some(value) => batch.put(key, value),
                None => batch.delete(key),
            }
        }
        batch
    }
}

impl KvView for Tx<'_> {
    fn get(&self, key: &[u8]) -> benteng_host::Result<Option<Bytes>> {
        match self.changes.get(key) {
            Some(change) => Ok(change.clone()),
            None => self.base_row(key),
        }
    }

    fn scan(
        &self,
        from: &[u8],
        to: &[u8],
        visit: &mut dyn FnMut(&[u8], &[u8]) -> Visit,
    ) -> benteng_host::Result<()> {
        let upper = if to.is_empty() { Bound::Unbounded } else { Bound::Excluded(to) };
        if !to.is_empty() && from >= to {
            return Ok(());
        }
        let mut changes = self.changes.range::<[u8], _>((Bound::Included(from), upper)).peekable();
        let mut stopped = false;
        self.base.scan(from, to, &mut |key, value| {
            // Changes that sort before this base row come first; one on it replaces it.
            while let Some((changed, new)) = changes.next_if(|(k, _)| k.as_ref() < key) {
                if let Some(new) = new
                    && visit(changed, new).is_break()
                {
                    stopped = true;
                    return Visit::Break(());
                }
            }
            let go_on = match changes.next_if(|(k, _)| k.as_ref() == key) {
                Some((_, Some(new))) => visit(key, new),
                Some((_, None)) => Visit::Continue(()),
                None => visit(key, value),
            };
            stopped = go_on.is_break();
            go_on
        })?;
        if !stopped {
            for (key, change) in changes {
                if let Some(value) = change
                    && visit(key, value).is_break()
                {
                    break;
                }
            }
        }
        Ok(())
    }

    fn scan_back(
        &self,
        from: &[u8],
        to: &[u8],
        visit: &mut dyn FnMut(&[u8], &[u8]) -> Visit,
    ) -> benteng_host::Result<()> {
        // No command reads backwards over large ranges: collecting keeps one merge to get right.
        let mut rows = Vec::new();
        self.scan(from, to, &mut |key, value| {
            rows.push((Bytes::copy_from_slice(key), Bytes::copy_from_slice(value)));
            Visit::Continue(())
        })?;
        for (key, value) in rows.iter().rev() {
            if visit(key, value).is_break() {
                break;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use benteng_host::Result as HostResult;
    use proptest::prelude::*;

    use super::*;

    /// A view over a map, the model of everything here.
    struct Map(BTreeMap<Vec<u8>, Vec<u8>>);

    impl KvView for Map {
        fn get(&self, key: &[u8]) -> HostResult<Option<Bytes>> {
            Ok(self.0.get(key).map(|v| Bytes::copy_from_slice(v)))
        }
        fn scan(
            &self,
            from: &[u8],
            to: &[u8],
            visit: &mut dyn FnMut(&[u8], &[u8]) -> Visit,
        ) -> HostResult<()> {
            for (k, v) in self.0.range(from.to_vec()..) {
                if (!to.is_empty() && k.as_slice() >= to) || visit(k, v).is_break() {
                    break;
                }
            }
            Ok(())
        }
        fn scan_back(&self, _: &[u8], _: &[u8], _: &mut dyn FnMut(&[u8], &[u8]) -> Visit) -> HostResult<()> {
            Ok(())
        }
    }

    type Rows = BTreeMap<Vec<u8>, Vec<u8>>;

    fn rows() -> impl Strategy<Value = Rows> {
        proptest::collection::btree_map(
            proptest::collection::vec(0_u8..4, 0..3),
            proptest::collection::vec(any::<u8>(), 0..2),
            0..12,
        )
    }

    proptest! {
        #[test]
        fn a_scan_sees_base_and_changes_as_one_state(
            base in rows(),
            changes in proptest::collection::vec((proptest::collection::vec(0_u8..4, 0..3), proptest::option::of(any::<u8>())), 0..12),
            from in proptest::collection::vec(0_u8..4, 0..3),
            to in proptest::collection::vec(0_u8..4, 0..3),
            limit in 0_usize..8,
        ) {
            let map = Map(base.clone());
            let mut tx = Tx::new(&map);
            let mut model = base;
            for (key, change) in changes {
                match change {
                    Some(v) => { tx.changes.insert(key.clone().into(), Some(vec![v].into())); model.insert(key, vec![v]); }
                    None => { tx.changes.insert(key.clone().into(), None); model.remove(&key); }
                }
            }
            let expected: Vec<_> = model.into_iter()
                .filter(|(k, _)| *k >= from && (to.is_empty() || *k < to)).take(limit).collect();
            let mut seen = Vec::new();
            if limit > 0 {
                tx.scan(&from, &to, &mut |k, v| {
                    seen.push((k.to_vec(), v.to_vec()));
                    if seen.len() == limit { Visit::Break(()) } else { Visit::Continue(()) }
                }).expect("maps cannot fail");
            }
            prop_assert_eq!(seen, expected);
        }
    }
}
