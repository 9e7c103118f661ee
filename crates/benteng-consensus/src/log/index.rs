//! Which entries there are, where each lies in the journal, and which are still in memory.
//! Every entry is read about three times soon after it was written: the cache spares that.

use std::collections::VecDeque;

use benteng_journal::{Place, SegmentNo};

use crate::types::{Entry, EntryPayload, LogId, Vote};

/// One entry of the log.
pub(super) struct Slot {
    pub(super) id: LogId,
    /// The submit that carries it; what was submitted before is durable when this is (J1).
    pub(super) ticket: u64,
    /// Where it lies; `None` until it is durable.
    pub(super) place: Option<Place>,
    /// The entry, while it is kept in memory: always until it is durable.
    pub(super) entry: Option<Entry>,
    bytes: usize,
}

/// The log as it was submitted.
#[derive(Default)]
pub(super) struct Index {
    /// Entries from `first` on, without holes.
    slots: VecDeque<Slot>,
    pub(super) purged: Option<LogId>,
    pub(super) vote: Option<Vote>,
    /// The newest submit.
    pub(super) ticket: u64,
    cached: usize,
    /// Slots before this position hold nothing in memory that could be dropped.
    evicted: usize,
}

/// Bytes that an entry takes in memory, about.
fn weight(entry: &Entry) -> usize {
    let payload = match &entry.payload {
        EntryPayload::Normal(p) => p.envelope.len(),
        EntryPayload::Blank => 0,
        EntryPayload::Membership(_) => 1024,
    };
    payload + 128
}

impl Index {
    pub(super) fn first(&self) -> Option<u64> {
        self.slots.front().map(|slot| slot.id.index)
    }

    /// The last entry, or what was purged last.
    pub(super) fn last(&self) -> Option<LogId> {
        self.slots.back().map(|slot| slot.id).or(self.purged)
    }

    fn position(&self, index: u64) -> Option<usize> {
        let offset = index.checked_sub(self.first()?)?;
        usize::try_from(offset).ok().filter(|at| *at < self.slots.len())
    }

    /// The last of the leading entries that lie in segments before this one; 0: there are none.
    pub(super) fn last_before(&self, segment: SegmentNo) -> u64 {
        let older = |slot: &&Slot| slot.place.is_some_and(|place| place.segment < segment);
        self.slots.iter().take_while(older).last().map_or(0, |slot| slot.id.index)
    }

    pub(super) fn slot(&self, index: u64) -> Option<&Slot> {
        self.position(index).and_then(|at| self.slots.get(at))
    }

    /// Adds an entry behind the last. `Err` names the hole that it would leave.
    pub(super) fn push(&mut self, entry: Entry, ticket: u64) -> Result<(), String> {
        // An empty log may begin anywhere: what stood before is openraft's to know.
        let expected = self.last().map_or(Some(entry.log_id.index), |last| last.index.checked_add(1));
        let expected = expected.ok_or("nothing follows the last index there is")?;
        if entry.log_id.index != expected {
            return Err(format!("entry {} does not follow; expected index {expected}", entry.log_id.index));
        }
        let bytes = weight(&entry);
        self.cached += bytes;
        self.slots.push_back(Slot { id: entry.log_id, ticket, place: None, entry: Some(entry), bytes });
        Ok(())
    }

    /// Adds an entry that lies in the journal, at replay: whatever stood there or behind goes.
    pub(super) fn replay(&mut self, id: LogId, place: Place) -> Result<(), String> {
        if self.purged.is_some_and(|purged| id.index <= purged.index) {
            return Ok(());
        }
        self.truncate(id.index.checked_sub(1));
        // The first may stand behind a hole: a later purge of this segment freed the ones before it
        // ([`Index::whole`] makes sure).
        if let Some(last) = self.slots.back().map(|slot| slot.id.index)
            && id.index != last + 1
        {
            return Err(format!("a hole before index {}: expected {}", id.index, last + 1));
        }
        self.slots.push_back(Slot { id, ticket: 0, place: Some(place), entry: None, bytes: 0 });
        Ok(())
    }

    /// After replay: whether the entries begin where the purged ones end. `Err` names the hole.
    pub(super) fn whole(&self) -> Result<(), String> {
        match (self.purged, self.first()) {
            (Some(purged), Some(first)) if first != purged.index + 1 => {
                Err(format!("a hole before index {first}: expected {}", purged.index + 1))
            }
            _ => Ok(()),
        }
    }

    /// Removes everything behind `last_kept`.
    pub(super) fn truncate(&mut self, last_kept: Option<u64>) {
        while let Some(slot) = self.slots.back() {
            if last_kept.is_some_and(|kept| slot.id.index <= kept) {
                break;
            }
            if let Some(slot) = self.slots.pop_back() {
                self.uncache(&slot);
            }
        }
        self.evicted = self.evicted.min(self.slots.len());
    }

    /// Removes everything up to `upto`.
    pub(super) fn purge(&mut self, upto: LogId) {
        while self.slots.front().is_some_and(|slot| slot.id.index <= upto.index) {
            if let Some(slot) = self.slots.pop_front() {
                self.uncache(&slot);
                self.evicted = self.evicted.saturating_sub(1);
            }
        }
        self.purged = self.purged.max(Some(upto));
    }

    fn uncache(&mut self, slot: &Slot) {
        if slot.entry.is_some() {
            self.cached = self.cached.saturating_sub(slot.bytes);
        }
    }

    /// Notes where the entries of a submit lie, and drops the oldest from memory beyond `keep` bytes.
    pub(super) fn settle(&mut self, first: u64, ticket: u64, places: &[Place], keep: usize) {
        for (index, place) in (first..).zip(places) {
            if let Some(at) = self.position(index)
                && let Some(slot) = self.slots.get_mut(at)
                // The slot may hold another entry by now: truncated and written again.
                && slot.ticket == ticket
            {
                slot.place = Some(*place);
            }
        }
        while self.cached > keep {
            let Some(slot) = self.slots.get_mut(self.evicted) else { break };
            if slot.place.is_none() {
                break;
            }
            if slot.entry.take().is_some() {
                self.cached = self.cached.saturating_sub(slot.bytes);
            }
            self.evicted += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use benteng_journal::SegmentNo;

    use super::*;
    use crate::wire::WireLogId;

    fn id(index: u64) -> LogId {
        WireLogId { term: 1, index }.into()
    }

    fn replayed(index: &mut Index, n: u64) -> Result<(), String> {
        index.replay(id(n), Place { segment: SegmentNo(1), offset: 4096, tag_len: 16, body_len: 32 })
    }

    /// Simulator, seed 10 of 2026-11-25: the newest segment began with purge 1158 and entry 1219; a
    /// later purge in it had freed the segment between them, and the node never started again.
    #[test]
    fn j5_a_hole_that_a_later_purge_covers_is_none() {
        let mut index = Index::default();
        index.purge(id(1158));
        assert_eq!(replayed(&mut index, 1219), Ok(()));
        assert_eq!(replayed(&mut index, 1220), Ok(()));
        assert!(index.whole().is_err(), "nothing has freed 1159 to 1218 yet");
        index.purge(id(1219));
        assert_eq!(index.whole(), Ok(()));
        assert_eq!((index.first(), index.last()), (Some(1220), Some(id(1220))));
    }

    #[test]
    fn a_hole_between_entries_is_damage() {
        let mut index = Index::default();
        assert_eq!(replayed(&mut index, 1), Ok(()));
        assert!(replayed(&mut index, 3).is_err());
        assert_eq!(index.whole(), Ok(()), "a log without purges begins where it begins");
    }
}
