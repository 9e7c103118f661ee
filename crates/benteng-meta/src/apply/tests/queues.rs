//! Queues that are emptied from their front begin where the clock says.

use std::ops::Bound;

use super::*;

/// No row stands before the place where its queue says that it begins.
pub(super) fn begin_before_their_rows(rows: &BTreeMap<Bytes, Bytes>, queues: &Queues) {
    for (table, begins) in [
        (key::Table::AnswerOrder, queues.answers),
        (key::Table::CompletedOrder, queues.completions),
        (key::Table::DeadPart, queues.dead),
        (key::Table::DeadBlob, queues.dead),
    ] {
        let (from, to) = (key::table(table), key::from_seq(table, begins));
        let range = (Bound::Included(&from[..]), Bound::Excluded(&to[..]));
        let before = rows.range::<[u8], _>(range).next();
        assert!(before.is_none(), "a queue begins behind one of its rows: {before:?}");
    }
}

#[test]
fn answers_go_in_their_order_and_their_queue_moves_on() {
    let mut state = State::site();
    let mut id = 1 << 32;
    let mut many = |state: &mut State, at: i64| {
        for _ in 0..200 {
            id += 1;
            let _ =
                state.run_as(id, at, i64::MAX, Command::DeleteBucket { name: "nobody-has-it".to_owned() });
        }
    };
    let begun = query::clock(&state).expect("readable").now.0;
    many(&mut state, begun);
    assert_eq!(query::clock(&state).expect("readable").queues.answers, StateSeq(0), "none is old enough");
    many(&mut state, begun + ANSWER_KEPT + 1);
    let clock = query::clock(&state).expect("readable");
    assert!(clock.queues.answers > StateSeq(100) && clock.answers < 300, "{clock:?}");
    state.check();
}
