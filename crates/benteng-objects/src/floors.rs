//! The oldest state that a read of this node still uses (O5). What died at or before a floor
//! that every node has published may be removed, so a read registers before it looks anything up.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use benteng_meta::ids::StateSeq;

#[derive(Default)]
struct Held {
    /// Where the incarnation began: no floor is older.
    began: StateSeq,
    /// Numbers readers, and lives: a reader of an earlier life is not counted any more.
    next: u64,
    readers: BTreeSet<(StateSeq, u64)>,
}

/// Readers of one node.
#[derive(Default)]
pub(crate) struct Floors {
    held: Mutex<Held>,
}

/// A read in use; it ends when dropped.
pub(crate) struct Floor {
    floors: Arc<Floors>,
    place: (StateSeq, u64),
}

impl Drop for Floor {
    fn drop(&mut self) {
        self.floors.lock().readers.remove(&self.place);
    }
}

impl Floors {
    fn lock(&self) -> std::sync::MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A new incarnation, committed at `began`: reads of the old one are refused by stores anyway.
    pub(crate) fn begin(&self, began: StateSeq) {
        let mut held = self.lock();
        held.began = began;
        held.readers.clear();
    }

    /// Registers a read. `applied` is asked under the lock, so that no floor above it can be
    /// published in between.
    pub(crate) fn hold(self: &Arc<Self>, applied: impl FnOnce() -> StateSeq) -> Floor {
        let mut held = self.lock();
        let seq = applied().max(held.began);
        held.next += 1;
        let place = (seq, held.next);
        held.readers.insert(place);
        Floor { floors: self.clone(), place }
    }

    /// min(oldest read in use, applied now).
    pub(crate) fn oldest(&self, applied: impl FnOnce() -> StateSeq) -> StateSeq {
        let held = self.lock();
        let applied = applied().max(held.began);
        held.readers.first().map_or(applied, |(seq, _)| applied.min(*seq))
    }

    /// Reads in use.
    pub(crate) fn readers(&self) -> usize {
        self.lock().readers.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn o5_the_floor_is_the_oldest_read_in_use_and_never_goes_back() {
        let floors = Arc::new(Floors::default());
        let oldest = |applied| floors.oldest(|| StateSeq(applied)).0;
        assert_eq!(oldest(5), 5);
        let a = floors.hold(|| StateSeq(7));
        let b = floors.hold(|| StateSeq(7));
        let c = floors.hold(|| StateSeq(9));
        assert_eq!(oldest(20), 7);
        drop(a);
        assert_eq!(oldest(20), 7, "another read of the same state is still there");
        drop(b);
        assert_eq!(oldest(20), 9);
        floors.begin(StateSeq(30));
        assert_eq!(oldest(20), 30, "a new incarnation begins at its own commit");
        drop(c);
        assert_eq!(floors.hold(|| StateSeq(3)).place.0, StateSeq(30));
        assert_eq!(oldest(40), 40);
        assert_eq!(floors.readers(), 0);
    }
}
