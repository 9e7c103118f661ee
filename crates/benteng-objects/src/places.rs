//! The placements of all groups, kept until a command changes one: loops look at them twice a second, and they are a
//! thousand rows.

use std::sync::{Arc, Mutex, PoisonError};

use benteng_host::KvView;
use benteng_meta::ids::*;
use benteng_meta::placement::{Candidate, plan};
use benteng_meta::{PlacementRow, query};

use crate::Result;

/// All groups with their placements, by number.
pub(crate) type Rows = Arc<Vec<(PlacementGroup, PlacementRow)>>;

/// Groups that are to move, and where to.
pub(crate) type Moves = Vec<(PlacementGroup, Vec<NodeId>)>;

/// What a plan was made of.
struct Planned {
    changed: StateSeq,
    candidates: Vec<Candidate>,
    copies: usize,
}

/// What was read last, with the command that had changed it last; and what needed no move.
#[derive(Default)]
pub(crate) struct Places {
    known: Mutex<Option<(StateSeq, Rows)>>,
    settled: Mutex<Option<Planned>>,
}

impl Places {
    /// The placements in `view`. Errors: it cannot be read.
    pub(crate) fn of(&self, view: &dyn KvView) -> Result<Rows> {
        let changed = query::placements_changed(view)?;
        {
            let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            if let (Some(changed), Some((at, rows))) = (changed, known.as_ref())
                && changed == *at
            {
                return Ok(rows.clone());
            }
        }
        let rows = Arc::new(query::placements(view)?);
        if let Some(changed) = changed {
            *self.known.lock().unwrap_or_else(PoisonError::into_inner) = Some((changed, rows.clone()));
        }
        Ok(rows)
    }

    /// Groups that should move for `copies` holders among `candidates`. Errors: `view` cannot be read.
    pub(crate) fn moves(
        &self,
        view: &dyn KvView,
        candidates: Vec<Candidate>,
        copies: usize,
    ) -> Result<Moves> {
        let settled = || self.settled.lock().unwrap_or_else(PoisonError::into_inner);
        let changed = query::placements_changed(view)?;
        let same =
            |of: &Planned| Some(of.changed) == changed && of.candidates == candidates && of.copies == copies;
        if settled().as_ref().is_some_and(same) {
            return Ok(Moves::new());
        }
        let heading = |row: &PlacementRow| row.target.clone().unwrap_or_else(|| row.current.clone());
        let rows: Moves = self.of(view)?.iter().map(|(group, row)| (*group, heading(row))).collect();
        let moves = plan(&candidates, copies, &rows);
        if let (Some(changed), true) = (changed, moves.is_empty()) {
            *settled() = Some(Planned { changed, candidates, copies });
        }
        Ok(moves)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use benteng_host::Visit;
    use benteng_meta::{PlacementsChangedRow, codec, key};
    use bytes::Bytes;

    use super::*;

    /// A state that counts how often it is read from end to end.
    #[derive(Default)]
    struct State {
        rows: BTreeMap<Bytes, Bytes>,
        scans: AtomicUsize,
    }

    impl State {
        fn hold(&mut self, node: u64, at: u64) {
            let row = PlacementRow { current: vec![NodeId(node)], ..PlacementRow::default() };
            self.rows.insert(key::placement(PlacementGroup(3)), codec::encode(&row));
            let changed = PlacementsChangedRow { at: StateSeq(at) };
            self.rows.insert(key::placements_changed(), codec::encode(&changed));
        }
    }

    impl KvView for State {
        fn get(&self, key: &[u8]) -> benteng_host::Result<Option<Bytes>> {
            KvView::get(&self.rows, key)
        }
        fn scan(
            &self,
            from: &[u8],
            to: &[u8],
            visit: &mut dyn FnMut(&[u8], &[u8]) -> Visit,
        ) -> benteng_host::Result<()> {
            self.scans.fetch_add(1, Ordering::Relaxed);
            self.rows.scan(from, to, visit)
        }
        fn scan_back(
            &self,
            from: &[u8],
            to: &[u8],
            visit: &mut dyn FnMut(&[u8], &[u8]) -> Visit,
        ) -> benteng_host::Result<()> {
            self.rows.scan_back(from, to, visit)
        }
    }

    #[test]
    fn placements_are_read_again_only_when_a_command_has_changed_one() {
        let (places, mut state) = (Places::default(), State::default());
        let holder = |state: &State| places.of(state).expect("readable")[0].1.current[0].0;
        state.hold(1, 40);
        assert_eq!((holder(&state), holder(&state)), (1, 1));
        assert_eq!(state.scans.load(Ordering::Relaxed), 1);
        state.hold(2, 41);
        assert_eq!((holder(&state), holder(&state)), (2, 2));
        assert_eq!(state.scans.load(Ordering::Relaxed), 2);
        // An older binary did not say when: nothing is known for longer than a look.
        state.rows.remove(&key::placements_changed());
        assert_eq!((holder(&state), holder(&state)), (2, 2));
        assert_eq!(state.scans.load(Ordering::Relaxed), 4);
    }

    #[test]
    fn a_plan_that_needs_no_move_is_made_once_for_the_same_nodes() {
        let (places, mut state) = (Places::default(), State::default());
        state.hold(1, 40);
        let nodes = |nodes: &[u64]| -> Vec<Candidate> {
            nodes.iter().map(|n| Candidate { node: NodeId(*n), zone: format!("zona-{n}") }).collect()
        };
        let moves =
            |state: &State, of: &[u64], copies| places.moves(state, nodes(of), copies).expect("readable");
        assert!(moves(&state, &[1], 1).is_empty() && moves(&state, &[1], 1).is_empty());
        assert_eq!(moves(&state, &[1, 2], 2).len(), 1, "another node, another plan");
        assert_eq!(moves(&state, &[2], 1), vec![(PlacementGroup(3), vec![NodeId(2)])]);
        assert!(moves(&state, &[1], 1).is_empty());
    }
}
