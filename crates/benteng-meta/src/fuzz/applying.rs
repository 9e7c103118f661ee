//! Commands in any order against a site of three nodes: nothing that anybody writes into the log may make
//! `apply` panic (C5), and every replica must come to the same (I6).

use std::collections::BTreeMap;
use std::sync::OnceLock;

use benteng_host::{Batch, Op};
use bytes::Bytes;

use super::samples;
use crate::codec;
use crate::{AnswerRow, Envelope, Outcome, Tx};

/// A state in memory.
type State = BTreeMap<Bytes, Bytes>;

fn run(state: &mut State, envelope: &Envelope) -> Outcome {
    let step = |state: &State| -> (Outcome, Batch) {
        let mut tx = Tx::new(state);
        let outcome = crate::apply::apply(&mut tx, envelope).expect("the state in memory is readable");
        (outcome, tx.into_batch())
    };
    let (outcome, batch) = step(state);
    assert!(step(state) == (outcome.clone(), batch.clone()), "I6: two replicas come to different states");
    for op in batch.ops {
        match op {
            Op::Put(key, row) => drop(state.insert(key, row)),
            Op::Delete(key) => drop(state.remove(&key)),
            Op::DeleteRange(..) => panic!("a transaction writes rows one by one"),
        }
    }
    outcome
}

/// A formed site with one of everything.
fn formed() -> State {
    static FORMED: OnceLock<State> = OnceLock::new();
    let make = || {
        let mut state = State::default();
        for envelope in samples::history() {
            let outcome = run(&mut state, &envelope);
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
        let outcome = run(&mut state, &envelope);
        let row = AnswerRow { at: envelope.stamp, outcome: outcome.clone() };
        let back: AnswerRow = codec::decode(&codec::encode(&row)).expect("an answer can be remembered");
        assert!(back == row, "an answer changes when it is remembered");
        let remembered = state.contains_key(&crate::key::answer(envelope.id));
        if remembered {
            assert_eq!(run(&mut state, &envelope), outcome, "C1: the same command is answered differently");
        }
    }
}
