//! Linearizability of the operations on one key (I2), by the search of Wing and Gong with the
//! memory of Lowe: states that were tried with the same set of done operations are not tried again.
//! Source: G. Lowe, "Testing for linearizability", 2017.

use std::collections::HashSet;

use crate::history::{Call, Operation, Told, Value};

/// Searches for an order of the operations that explains all answers.
///
/// Takes operations of one key. `Err` holds the longest explained prefix's last operation and
/// the ones that could not follow.
pub(crate) fn check(operations: &[Operation]) -> Result<(), String> {
    // What failed surely was not done, and what was refused only reads: the first say nothing.
    let mut ops: Vec<&Operation> = operations.iter().filter(|op| op.told != Told::Failed).collect();
    ops.sort_by_key(|op| (op.invoked, op.returned));
    let mut search = Search { seen: HashSet::new(), best: 0, stuck: None };
    let mut done = vec![0_u64; ops.len().div_ceil(64)];
    if search.explain(&ops, &mut done, 0, None) { Ok(()) } else { Err(search.told(&ops)) }
}

struct Search {
    seen: HashSet<(Vec<u64>, Option<Value>)>,
    best: usize,
    /// What was done, and what the key held, where the search came farthest.
    stuck: Option<(Vec<u64>, Option<Value>)>,
}

/// When the first of the operations that are left was answered: what was asked later cannot come before it.
fn first_return(ops: &[&Operation], done: &[u64]) -> u64 {
    let left = (0..ops.len()).filter(|i| !is_done(done, *i));
    left.map(|i| ops[i].returned).min().unwrap_or(u64::MAX)
}

fn is_done(done: &[u64], i: usize) -> bool {
    done.get(i / 64).is_some_and(|word| word & (1 << (i % 64)) != 0)
}

fn flip(done: &mut [u64], i: usize) {
    if let Some(word) = done.get_mut(i / 64) {
        *word ^= 1 << (i % 64);
    }
}

/// The state after the operation took effect in `state`; `None`: its answer contradicts the state.
fn step(op: &Operation, state: Option<Value>) -> Option<Option<Value>> {
    let unknown = op.told == Told::Unknown;
    let may = |holds: bool, then: Option<Value>| match (&op.told, holds) {
        (Told::Done, true) => Some(then),
        (Told::Refused, false) => Some(state),
        (Told::Unknown, true) => Some(then),
        (Told::Unknown, false) => Some(state),
        _ => None,
    };
    match &op.call {
        Call::Put(value) => may(true, Some(*value)),
        Call::Delete => may(true, None),
        Call::Create(value) => may(state.is_none(), Some(*value)),
        Call::Replace(expected, value) => may(state == Some(*expected), Some(*value)),
        Call::Get => (unknown || op.told == Told::Read(state)).then_some(state),
        Call::List => (unknown || op.told == Told::Listed(state.is_some())).then_some(state),
    }
}

impl Search {
    /// Where the search came farthest, and what could not follow.
    fn told(self, ops: &[&Operation]) -> String {
        let Some((done, state)) = self.stuck else { return "there is nothing to explain".to_owned() };
        let (count, first_return) = (self.best, first_return(ops, &done));
        let candidates: Vec<String> = (0..ops.len())
            .filter(|i| !is_done(&done, *i) && ops[*i].invoked <= first_return)
            .map(|i| ops[i].to_string())
            .collect();
        format!("after {count} operations the key holds {state:?}; next: {}", candidates.join("; "))
    }

    fn explain(
        &mut self,
        ops: &[&Operation],
        done: &mut Vec<u64>,
        count: usize,
        state: Option<Value>,
    ) -> bool {
        let certain_left =
            |done: &[u64]| (0..ops.len()).any(|i| !is_done(done, i) && ops[i].told != Told::Unknown);
        if !certain_left(done) {
            // Unknown ones need not ever take effect.
            return true;
        }
        if !self.seen.insert((done.clone(), state)) {
            return false;
        }
        // An operation may come next if none that is left was answered before it was asked.
        let first_return = first_return(ops, done);
        if count >= self.best {
            self.best = count;
            self.stuck = Some((done.clone(), state));
        }
        for i in 0..ops.len() {
            if is_done(done, i) || ops[i].invoked > first_return {
                continue;
            }
            if let Some(next) = step(ops[i], state) {
                flip(done, i);
                if self.explain(ops, done, count + 1, next) {
                    return true;
                }
                flip(done, i);
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn op(invoked: u64, returned: u64, call: Call, told: Told) -> Operation {
        Operation { client: 0, node: 0, key: "k".into(), call, invoked, returned, told }
    }

    fn is_linear(ops: &[Operation]) -> bool {
        check(ops).is_ok()
    }

    #[test]
    fn i2_answers_that_no_order_explains_are_found() {
        let put = |a, b, v| op(a, b, Call::Put(v), Told::Done);
        let read = |a, b, v| op(a, b, Call::Get, Told::Read(v));
        let lost = |a, v| op(a, u64::MAX, Call::Put(v), Told::Unknown);
        for (linear, history) in [
            (true, vec![put(0, 1, 1), read(2, 3, Some(1))]),
            (false, vec![put(0, 1, 1), read(2, 3, None)]),
            (true, vec![put(0, 5, 1), read(2, 3, None), read(6, 7, Some(1))]),
            (true, vec![put(0, 5, 1), read(1, 2, Some(1))]),
            // New, then old again.
            (false, vec![put(0, 1, 1), put(2, 9, 2), read(3, 4, Some(2)), read(5, 6, Some(1))]),
            // An unknown write may take effect late, never, but not twice.
            (true, vec![put(0, 1, 1), lost(2, 2), read(5, 6, Some(1)), read(7, 8, Some(2))]),
            (true, vec![put(0, 1, 1), lost(2, 2), read(5, 6, Some(1))]),
            (false, vec![put(0, 1, 1), lost(2, 2), read(5, 6, Some(2)), put(7, 8, 3), read(9, 10, Some(2))]),
            (false, vec![put(0, 1, 1), read(2, 3, Some(9))]),
        ] {
            assert_eq!(is_linear(&history), linear, "{history:?}");
        }
    }

    #[test]
    fn conditional_writes_have_one_winner() {
        let create = |a, b, v, told| op(a, b, Call::Create(v), told);
        let both = vec![create(0, 9, 1, Told::Done), create(1, 8, 2, Told::Done)];
        assert!(!is_linear(&both), "two creators won");
        let one = vec![create(0, 9, 1, Told::Done), create(1, 8, 2, Told::Refused)];
        assert!(is_linear(&one));
        let replaced = vec![
            create(0, 1, 1, Told::Done),
            op(2, 3, Call::Replace(1, 2), Told::Done),
            op(4, 5, Call::Replace(1, 3), Told::Refused),
            op(6, 7, Call::Get, Told::Read(Some(2))),
        ];
        assert!(is_linear(&replaced));
        let wrong = vec![create(0, 1, 1, Told::Done), op(2, 3, Call::Replace(1, 2), Told::Refused)];
        assert!(!is_linear(&wrong), "a condition that held was refused");
        let listed = |there| vec![create(0, 1, 1, Told::Done), op(2, 3, Call::List, Told::Listed(there))];
        assert!(is_linear(&listed(true)));
        assert!(!is_linear(&listed(false)), "a listing misses what was acknowledged before it");
    }
}
