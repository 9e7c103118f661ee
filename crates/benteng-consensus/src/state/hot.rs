//! Rows that every request and every command ask for, opened once, and the newest view, captured once.
//!
//! A view is of one moment, its *age*: how many writes had ended before it. A kept row says since which age it has
//! stood as it is, and goes before the write that changes it begins: while it is here, whoever reads at its age or
//! later may have it. Between the beginning and the end of a write nobody can tell whether a view has it in it:
//! such a view has no age, and reads the store.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use benteng_host::{Batch, KvView, Op};
use benteng_meta::key::Table;
use bytes::Bytes;

/// Rows kept at most; then all go, and those that are asked for come back. Most have some hundred bytes.
const ROWS_MAX: usize = 8192;
/// A larger row is not kept, so that all of them have 32 MiB at most (I7).
const VALUE_MAX: usize = 4 << 10;
/// Small rows of things that there are few of.
const TABLES: [Table; 12] = [
    Table::Site,
    Table::Clock,
    Table::Node,
    Table::Placement,
    Table::Gateway,
    Table::Floor,
    Table::Kek,
    Table::PlacementsChanged,
    Table::Bucket,
    Table::Usage,
    Table::User,
    Table::AccessKey,
];

/// What is kept in memory of one installation's rows.
#[derive(Default)]
pub(super) struct Hot {
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    age: u64,
    writing: bool,
    rows: HashMap<Bytes, Row>,
    view: Option<(Arc<dyn KvView>, Bytes)>,
}

struct Row {
    since: u64,
    value: Bytes,
}

fn is_hot(key: &[u8]) -> bool {
    key.first().is_some_and(|first| TABLES.iter().any(|table| *table as u8 == *first))
}

impl Hot {
    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The age of what the store holds now; `None` while a write is under way.
    pub(super) fn age(&self) -> Option<u64> {
        let kept = self.kept();
        (!kept.writing).then_some(kept.age)
    }

    /// Before `changes` are written: the rows that they touch are known no more. Returns those that are to be kept
    /// again once they are written.
    pub(super) fn begin(&self, changes: &Batch) -> Vec<(Bytes, Bytes)> {
        let mut kept = self.kept();
        kept.writing = true;
        kept.view = None;
        let mut again = Vec::new();
        for op in &changes.ops {
            match op {
                Op::Put(key, value) if is_hot(key) => {
                    kept.rows.remove(key);
                    again.push((key.clone(), value.clone()));
                }
                Op::Put(..) => {}
                Op::Delete(key) => drop(kept.rows.remove(key)),
                Op::DeleteRange(..) => kept.rows.clear(),
            }
        }
        again
    }

    /// Before all rows become others.
    pub(super) fn begin_anew(&self) {
        let mut kept = self.kept();
        kept.writing = true;
        kept.view = None;
        kept.rows.clear();
    }

    /// The write has ended, and left `rows`.
    pub(super) fn end(&self, rows: Vec<(Bytes, Bytes)>) {
        let mut kept = self.kept();
        kept.age += 1;
        kept.writing = false;
        let since = kept.age;
        for (key, value) in rows {
            kept.keep(key, Row { since, value });
        }
    }

    /// The row at `key` for a view of this age, if it is kept.
    pub(super) fn get(&self, age: u64, key: &[u8]) -> Option<Bytes> {
        if !is_hot(key) {
            return None;
        }
        self.kept().rows.get(key).filter(|row| row.since <= age).map(|row| row.value.clone())
    }

    /// Keeps what a view of this age has read, if nothing was written since.
    pub(super) fn put(&self, age: u64, key: &[u8], value: &Bytes) {
        if !is_hot(key) {
            return;
        }
        let mut kept = self.kept();
        if kept.is_now(age) {
            kept.keep(Bytes::copy_from_slice(key), Row { since: age, value: value.clone() });
        }
    }

    /// The view of now, and the prefix of its rows, if somebody captured it already.
    pub(super) fn view(&self) -> Option<(Arc<dyn KvView>, Bytes, u64)> {
        let kept = self.kept();
        let (view, prefix) = kept.view.clone()?;
        Some((view, prefix, kept.age))
    }

    /// Keeps a view of this age for those who come before the next write.
    pub(super) fn put_view(&self, age: u64, view: &Arc<dyn KvView>, prefix: &Bytes) {
        let mut kept = self.kept();
        if kept.is_now(age) {
            kept.view = Some((view.clone(), prefix.clone()));
        }
    }
}

impl Kept {
    fn is_now(&self, age: u64) -> bool {
        !self.writing && self.age == age
    }

    fn keep(&mut self, key: Bytes, row: Row) {
        if row.value.len() > VALUE_MAX {
            return;
        }
        if self.rows.len() >= ROWS_MAX {
            self.rows.clear();
        }
        self.rows.insert(key, row);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use benteng_meta::key;

    use super::*;

    fn put(value: &'static [u8]) -> Batch {
        let mut batch = Batch::default();
        batch.put(key::site(), Bytes::from_static(value));
        batch
    }

    #[test]
    fn a_row_is_kept_for_views_that_have_it_in_them() {
        let hot = Hot::default();
        let old = hot.age().expect("nothing is written");
        let again = hot.begin(&put(b"one"));
        assert_eq!(hot.age(), None, "a view that is captured now may have the write in it or not");
        hot.end(again);
        let new = hot.age().expect("it has ended");
        assert_eq!(hot.get(old, &key::site()), None, "an older view reads what stood there then");
        assert_eq!(hot.get(new, &key::site()).as_deref(), Some(&b"one"[..]));
        // What is changed goes before the change begins, for everybody.
        let again = hot.begin(&put(b"two"));
        assert_eq!(hot.get(new, &key::site()), None);
        hot.end(again);
        assert_eq!(hot.get(new, &key::site()), None, "the view of before is not told of what came after");
    }

    #[test]
    fn what_was_read_before_a_write_is_not_kept_after_it() {
        let hot = Hot::default();
        let age = hot.age().expect("nothing is written");
        let again = hot.begin(&put(b"new"));
        hot.put(age, &key::site(), &Bytes::from_static(b"old"));
        hot.end(again);
        hot.put(age, &key::site(), &Bytes::from_static(b"old"));
        assert_eq!(hot.get(age + 1, &key::site()).as_deref(), Some(&b"new"[..]));
        let view: Arc<dyn KvView> = Arc::new(BTreeMap::<Bytes, Bytes>::new());
        hot.put_view(age, &view, &Bytes::new());
        assert!(hot.view().is_none(), "a view of before is not the view of now");
        hot.put_view(age + 1, &view, &Bytes::new());
        assert!(hot.view().is_some());
        hot.begin_anew();
        assert!(hot.view().is_none() && hot.get(age + 1, &key::site()).is_none());
    }

    #[test]
    fn i7_kept_rows_are_bounded() {
        let hot = Hot::default();
        for n in 0..3 * ROWS_MAX {
            hot.put(0, &key::access_key(&n.to_string()), &Bytes::from_static(b"row"));
        }
        assert!(hot.kept().rows.len() <= ROWS_MAX);
        hot.put(0, &key::site(), &Bytes::from(vec![0; VALUE_MAX + 1]));
        assert_eq!(hot.get(0, &key::site()), None, "nor large ones");
        let other = [Table::Answer as u8, 1];
        hot.put(0, &other, &Bytes::from_static(b"row"));
        assert_eq!(hot.get(0, &other), None, "rows of which there are many are not kept");
    }
}
