//! Judges facts that nodes state while they run: one map of log index -> entry over all nodes
//! (I1, I6), no vote, entry or chunk forgotten that was answered for (I1), enough copies of what is
//! acknowledged (I1), no removal of a chunk that a live row names (I8), no nonce twice (K1, K2).

use std::collections::{BTreeMap, BTreeSet, HashMap};

/// A chunk's attempt as removal states it: blob, and attempt with part.
pub(crate) type Removed = (u128, u128);

/// What nodes stated so far.
#[derive(Debug, Default)]
pub(crate) struct Facts {
    applied: BTreeMap<u128, u128>,
    removed: BTreeSet<Removed>,
    fresh: Vec<Removed>,
    /// Newest vote that a store answered for: term, node and whether it was granted.
    votes: BTreeMap<u128, u128>,
    /// Entries of each store's log that were answered for: their count from the log's beginning.
    logs: BTreeMap<u128, u128>,
    chunks: BTreeMap<u128, Chunks>,
    /// Stores that ever held a chunk durably.
    copies: HashMap<u128, BTreeSet<u128>>,
    /// Copies without which nothing may be acknowledged; 0 until the site is formed.
    copies_min: usize,
    /// Stores whose chunk segments were damaged on purpose.
    damaged: BTreeSet<u128>,
    /// Key and nonce -> additional data and plaintext, by their sums.
    sealed: HashMap<u64, u64>,
    broken: Vec<String>,
}

/// Chunks of one store.
#[derive(Debug, Default)]
struct Chunks {
    kept: BTreeSet<u128>,
    /// Their removal has been asked for, and need not be durable yet.
    going: BTreeSet<u128>,
    gone: BTreeSet<u128>,
    found: BTreeSet<u128>,
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
            "vote_kept" => drop(self.votes.insert(of, value)),
            "vote_found" => self.vote_found(of, value),
            "log_kept" => {
                let kept = self.logs.entry(of).or_default();
                *kept = value.max(*kept);
            }
            "log_cut" => {
                let kept = self.logs.entry(of).or_default();
                *kept = value.min(*kept);
            }
            "log_found" => self.log_found(of, value),
            "chunk_kept" | "chunk_going" | "chunk_gone" | "chunk_found" | "chunks_found" => {
                self.chunk(what, of, value);
            }
            "group_switched" => {
                if value != 0 {
                    self.broken.push(format!("O3: placement group {of} switched before its target held all"));
                }
            }
            "chunk_acknowledged" => {
                let copies = self.copies.get(&value).map_or(0, BTreeSet::len);
                if copies < self.copies_min {
                    self.broken
                        .push(format!("I1: chunk {value:032x} is acknowledged with {copies} durable copies"));
                }
            }
            "sealed" => {
                let (key_and_nonce, plain) = ((value >> 64) as u64, value as u64);
                let first = *self.sealed.entry(key_and_nonce).or_insert(plain);
                if first != plain {
                    self.broken.push("K1: one nonce sealed two plaintexts under one key".to_owned());
                }
            }
            other => self.broken.push(format!("nobody judges facts of the kind {other}")),
        }
    }

    fn vote_found(&mut self, store: u128, found: u128) {
        let kept = self.votes.get(&store).copied().unwrap_or(0);
        let term = |vote: u128| vote >> 64;
        let granted = |vote: u128| vote & 1 == 1;
        // In one term a vote may be granted later, and never be given to another; but whoever voted for a loser
        // follows the leader whom the others have elected.
        let lost = term(found) < term(kept)
            || (term(found) == term(kept) && found != kept && (granted(kept) || !granted(found)));
        if lost {
            self.broken.push(format!(
                "I1: a node forgot a vote: term {} for {}, found term {} for {}",
                term(kept),
                kept as u64 >> 1,
                term(found),
                found as u64 >> 1
            ));
        }
        self.votes.insert(store, found);
    }

    fn log_found(&mut self, store: u128, found: u128) {
        let kept = self.logs.insert(store, found).unwrap_or(0);
        // What is found counts: Raft answers for it from now on.
        if found < kept {
            self.broken.push(format!("I1: a log of {kept} entries answered for was found with {found}"));
        }
    }

    fn chunk(&mut self, what: &str, store: u128, chunk: u128) {
        let chunks = self.chunks.entry(store).or_default();
        match what {
            "chunk_kept" => {
                chunks.kept.insert(chunk);
                chunks.going.remove(&chunk);
                chunks.gone.remove(&chunk);
                self.copies.entry(chunk).or_default().insert(store);
            }
            "chunk_going" => {
                chunks.kept.remove(&chunk);
                chunks.going.insert(chunk);
            }
            "chunk_gone" => {
                chunks.going.remove(&chunk);
                chunks.gone.insert(chunk);
            }
            "chunk_found" => drop(chunks.found.insert(chunk)),
            // All that there were have been stated.
            _ => {
                let found = std::mem::take(&mut chunks.found);
                let lost = chunks.kept.difference(&found).count();
                let back = chunks.gone.intersection(&found).count();
                if lost > 0 && !self.damaged.contains(&store) {
                    self.broken.push(format!("I1: a store forgot {lost} chunks that it had acknowledged"));
                }
                // A tombstone that rotted before its segment was cleaned is gone for a rebuilt index: what it had
                // removed is an orphan again.
                if back > 0 && !self.damaged.contains(&store) {
                    self.broken.push(format!("J5: {back} removed chunks came back to life in a store"));
                }
            }
        }
    }

    /// From now on nothing may be acknowledged with fewer copies.
    pub(crate) fn expect_copies(&mut self, copies_min: usize) {
        self.copies_min = copies_min;
    }

    /// The chunk segments of `store` were damaged on purpose: what it lost there is repair's business.
    pub(crate) fn damaged(&mut self, store: u128) {
        self.damaged.insert(store);
    }

    /// The newest vote that each store answered for.
    pub(crate) fn votes(&self) -> &BTreeMap<u128, u128> {
        &self.votes
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

    fn check(facts: &[(&str, u128, u128)], broken: usize) {
        let mut all = Facts::default();
        all.expect_copies(2);
        facts.iter().for_each(|(what, of, value)| all.state(what, *of, *value));
        assert_eq!(all.take_broken().len(), broken, "{facts:?}");
    }

    #[test]
    fn i6_two_entries_at_one_index_are_a_contradiction_and_a_repetition_is_none() {
        check(&[("applied", 7, 1), ("applied", 7, 1), ("applied", 8, 2)], 0);
        check(&[("applied", 7, 1), ("applied", 7, 2)], 1);
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

    #[test]
    fn i1_votes_and_entries_that_were_answered_for_are_found_again() {
        let vote = |term: u128, node: u128, granted: u128| term << 64 | node << 1 | granted;
        check(&[("vote_kept", 1, vote(3, 2, 0)), ("vote_found", 1, vote(3, 2, 1))], 0);
        check(&[("vote_kept", 1, vote(3, 2, 1)), ("vote_found", 1, vote(2, 9, 1))], 1);
        check(&[("vote_kept", 1, vote(3, 2, 0)), ("vote_found", 1, vote(3, 1, 1))], 0);
        check(&[("vote_kept", 1, vote(3, 2, 0)), ("vote_found", 1, vote(3, 1, 0))], 1);
        check(&[("vote_kept", 1, vote(3, 2, 1)), ("vote_found", 1, vote(3, 1, 1))], 1);
        check(&[("vote_kept", 1, vote(3, 2, 1)), ("vote_found", 1, vote(3, 2, 0))], 1);
        check(&[("vote_kept", 1, vote(3, 2, 0)), ("vote_found", 2, 0)], 0);
        check(&[("log_kept", 1, 9), ("log_found", 1, 9), ("log_kept", 1, 10), ("log_found", 1, 9)], 1);
        check(&[("log_kept", 1, 9), ("log_cut", 1, 4), ("log_found", 1, 4)], 0);
        check(&[("log_found", 1, 9), ("log_found", 1, 8)], 1);
    }

    #[test]
    fn i1_chunks_that_were_acknowledged_stay_and_removed_ones_do_not_come_back() {
        check(&[("chunk_kept", 1, 5), ("chunk_found", 1, 5), ("chunks_found", 1, 1)], 0);
        check(&[("chunk_kept", 1, 5), ("chunks_found", 1, 0)], 1);
        check(&[("chunk_kept", 1, 5), ("chunk_going", 1, 5), ("chunks_found", 1, 0)], 0);
        let gone = [("chunk_kept", 1, 5), ("chunk_going", 1, 5), ("chunk_gone", 1, 5)];
        check(&[&gone[..], &[("chunk_found", 1, 5), ("chunks_found", 1, 1)]].concat(), 1);
        check(&[("chunk_kept", 1, 5), ("chunk_kept", 2, 5), ("chunk_acknowledged", 0, 5)], 0);
        check(&[("chunk_kept", 1, 5), ("chunk_acknowledged", 0, 5)], 1);
    }

    #[test]
    fn k1_one_nonce_for_two_plaintexts_is_found() {
        check(&[("sealed", 0, 1 << 64 | 7), ("sealed", 0, 1 << 64 | 7), ("sealed", 0, 2 << 64 | 8)], 0);
        check(&[("sealed", 0, 1 << 64 | 7), ("sealed", 0, 1 << 64 | 8)], 1);
    }
}
