//! Judges facts that nodes state while they run: one map of log index -> entry over all nodes
//! (I1, I6), and no removal of a chunk that a live row names (I8).

use std::collections::{BTreeMap, BTreeSet};

/// A chunk's attempt as removal states it: blob, and attempt with part.
pub(crate) type Removed = (u128, u128);

/// What nodes stated so far.
#[derive(Debug, Default)]
pub(crate) struct Facts {
    applied: BTreeMap<u128, u128>,
    removed: BTreeSet<Removed>,
    fresh: Vec<Removed>,
    broken: Vec<String>,
}

impl Facts {
    /// Takes a fact.
    pub(crate) fn state(&mut self, what: &str, of: u128, value: u128) {
        match what {
            "applied" => {
                let first = *self.applied.entry(of).or_insert(value);
                if first != value {
                    self.broken.push(format!(
                        "I6: two entries were applied at log index {of}: {first:032x} and {value:032x}"
                    ));
                }
            }
            "removed" => {
                if self.removed.insert((of, value)) {
                    self.fresh.push((of, value));
                }
            }
            other => self.broken.push(format!("nobody judges facts of the kind {other}")),
        }
    }

    /// Contradictions since the last call.
    pub(crate) fn take_broken(&mut self) -> Vec<String> {
        std::mem::take(&mut self.broken)
    }

    /// Attempts removed on any node since the last call, each once.
    pub(crate) fn take_removed(&mut self) -> Vec<Removed> {
        std::mem::take(&mut self.fresh)
    }

    /// Attempts that any node ever removed.
    pub(crate) fn removed(&self) -> Vec<Removed> {
        self.removed.iter().copied().collect()
    }

    /// Entries applied on any node.
    pub(crate) fn entries(&self) -> u64 {
        self.applied.len() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn i6_two_entries_at_one_index_are_a_contradiction_and_a_repetition_is_none() {
        let mut facts = Facts::default();
        facts.state("applied", 7, 1);
        facts.state("applied", 7, 1);
        facts.state("applied", 8, 2);
        assert!(facts.take_broken().is_empty());
        facts.state("applied", 7, 2);
        assert_eq!(facts.take_broken().len(), 1);
        assert_eq!(facts.entries(), 2);
    }

    #[test]
    fn removals_are_told_once_and_kept() {
        let mut facts = Facts::default();
        facts.state("removed", 1, 2);
        facts.state("removed", 1, 2);
        assert_eq!(facts.take_removed(), vec![(1, 2)]);
        assert!(facts.take_removed().is_empty());
        assert_eq!(facts.removed(), vec![(1, 2)]);
    }
}
