//! Commands in any order against a site of three nodes: nothing that anybody writes into the log may make
//! `apply` panic (C5), and every replica must come to the same (I6).

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::OnceLock;

use benteng_host::{Batch, KvView, Op, Visit};
use bytes::Bytes;

use super::samples;
use crate::codec;
use crate::{AnswerRow, Envelope, Outcome, Tx};

/// A state in memory.
#[derive(Clone, Default)]
struct State(BTreeMap<Bytes, Bytes>);

impl State {
    fn within(&self, from: &[u8], to: &[u8]) -> impl DoubleEndedIterator<Item = (&Bytes, &Bytes)> {
        // Not a range with two ends: one that runs backwards is empty here, not a panic.
        let rows = self.0.range::<[u8], _>((Bound::Included(from), Bound::Unbounded));
        let rows: Vec<_> = rows.take_while(|(key, _)| to.is_empty() || &key[..] < to).collect();
        rows.into_iter()
    }

    fn run(&mut self, envelope: &Envelope) -> Outcome {
        let step = |state: &State| -> (Outcome, Batch) {
            let mut tx = Tx::new(state);
            let outcome = crate::apply::apply(&mut tx, envelope).expect("the state in memory is readable");
            (outcome, tx.into_batch())
        };
        let (outcome, batch) = step(self);
        assert!(step(self) == (outcome.clone(), batch.clone()), "I6: two replicas come to different states");
        for op in batch.ops {
            match op {
                Op::Put(key, row) => drop(self.0.insert(key, row)),
                Op::Delete(key) => drop(self.0.remove(&key)),
                Op::DeleteRange(..) => panic!("a transaction writes rows one by one"),
            }
        }
        outcome
    }
}

impl KvView for State {
    fn get(&self, key: &[u8]) -> benteng_host::Result<Option<Bytes>> {
        Ok(self.0.get(key).cloned())
    }

    fn scan(
        &self,
        from: &[u8],
        to: &[u8],
        visit: &mut dyn FnMut(&[u8], &[u8]) -> Visit,
    ) -> benteng_host::Result<()> {
        let _ = self.within(from, to).try_for_each(|(key, row)| visit(key, row));
        Ok(())
    }

    fn scan_back(
        &self,
        from: &[u8],
        to: &[u8],
        visit: &mut dyn FnMut(&[u8], &[u8]) -> Visit,
    ) -> benteng_host::Result<()> {
        let _ = self.within(from, to).rev().try_for_each(|(key, row)| visit(key, row));
        Ok(())
    }
}

/// A formed site with one of everything.
fn formed() -> State {
    static FORMED: OnceLock<State> = OnceLock::new();
    let make = || {
        let mut state = State::default();
        for envelope in samples::history() {
            let outcome = state.run(&envelope);
            assert!(outcome.is_ok(), "{:?}: {outcome:?}", envelope.command);
        }
        state
    };
    FORMED.get_or_init(make).clone()
}

/// Envelopes, each behind its length in two bytes, big-endian; what does not decode is left out. A first
/// byte of 0 begins with an empty state.
pub fn apply(bytes: &[u8]) {
    let Some((from, mut rest)) = bytes.split_first() else { return };
    let mut state = if *from == 0 { State::default() } else { formed() };
    // More says nothing more, and takes long.
    for _ in 0..64 {
        let Some((len, body)) = rest.split_first_chunk::<2>() else { break };
        let (now, later) = body.split_at(usize::from(u16::from_be_bytes(*len)).min(body.len()));
        rest = later;
        let Ok(envelope) = codec::decode::<Envelope>(now) else { continue };
        let outcome = state.run(&envelope);
        let row = AnswerRow { at: envelope.stamp, outcome: outcome.clone() };
        let back: AnswerRow = codec::decode(&codec::encode(&row)).expect("an answer can be remembered");
        assert!(back == row, "an answer changes when it is remembered");
        let remembered = state.0.contains_key(&crate::key::answer(envelope.id));
        if remembered {
            assert_eq!(state.run(&envelope), outcome, "C1: the same command is answered differently");
        }
    }
}
