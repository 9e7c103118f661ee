//! Which entries there are, where each lies in the journal, and which are still in memory.
//! Every entry is read about three times soon after it was written: the cache spares that.

use std::collections::VecDeque;

use benteng_journal::Place;

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

    pub(super) fn slot(&self, index: u64) -> Option<&Slot> {
        self.position(index).and_then(|at| self.slots.get(at))
    }

    /// Adds an entry behind the last. `Err` names the hole that it would leave.
    pub(super) fn push(&mut self, entry: Entry, ticket: u64) -> Result<(), String> {
        // An empty log may begin anywhere: what stood before is openraft's to know.
        let expected = self.last().map_or(entry.log_id.index, |last| last.index + 1);
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
        let expected = self.last().map_or(id.index, |last| last.index + 1);
        if id.index != expected {
            return Err(format!("a hole before index {}: expected {expected}", id.index));
        }
        self.slots.push_back(Slot { id, ticket: 0, place: Some(place), entry: None, bytes: 0 });
        Ok(())
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
