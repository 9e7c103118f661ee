//! Moves of placement groups end (O3).

use super::*;

/// A move of the chunk's group to nodes 1, 2 and a fresh 4, filled, but for one chunk that node 4 lacks.
fn stuck_move() -> (State, PlacementGroup) {
    let mut state = State::site();
    assert!(
        state.run(put("a", 1, 1, 9000, NewBody::Chunks(part(7, 9000, 0b111)), Condition::default())).is_ok()
    );
    let chunk =
        ChunkId { blob: BlobId(Uuid::from_u128(1)), part: PartNumber(1), attempt: Attempt(7), sequence: 0 };
    let group = chunk.placement_group();
    let hash = [9; 32];
    let token = Command::CreateJoinToken { hash, valid: 10 * SECOND, replaces: Some(NodeId(3)) };
    assert_eq!(state.run(token), Ok(Answer::Done));
    let node = NodeRow { store: StoreId(Uuid::from_u128(4)), ..State::node(2) };
    assert_eq!(state.run(Command::AddNode { node, token: hash }), Ok(Answer::Node(NodeId(4))));
    assert_eq!(state.run(Command::FoundMissing { node: NodeId(4), chunks: vec![chunk] }), Ok(Answer::Done));
    let since = query::placement(&state, group).expect("readable").since;
    let filled = Command::Filled { node: NodeId(4), groups: vec![(group, since)] };
    assert_eq!(state.run(filled), Ok(Answer::Done));
    assert!(query::placement(&state, group).expect("readable").target.is_some(), "O3: a copy is missing");
    (state, group)
}

fn ended(state: &State, group: PlacementGroup) -> bool {
    let row = query::placement(state, group).expect("readable");
    row.target.is_none() && row.current.contains(&NodeId(4)) && !row.current.contains(&NodeId(3))
}

#[test]
fn o3_a_move_ends_when_the_last_lacking_chunk_is_copied() {
    let (mut state, group) = stuck_move();
    let chunk =
        ChunkId { blob: BlobId(Uuid::from_u128(1)), part: PartNumber(1), attempt: Attempt(7), sequence: 0 };
    let store = StoreId(Uuid::from_u128(4));
    let repaired = Command::Repaired { node: NodeId(4), store, chunks: vec![chunk] };
    assert_eq!(state.run(repaired), Ok(Answer::Done));
    assert!(ended(&state, group));
}

/// Simulator, seed 3 of 2026-11-25: the group stood in its move for ever.
#[test]
fn o3_a_move_ends_when_the_last_lacking_chunk_dies() {
    let (mut state, group) = stuck_move();
    assert!(state.run(delete("a")).is_ok());
    state.check();
    assert!(ended(&state, group));
}

/// Simulator, seed 19 of 2026-11-25: 1,020 groups stood in a move to where they were.
#[test]
fn o3_a_move_to_the_present_holders_in_another_order_ends_at_once() {
    let mut state = State::site();
    let group = PlacementGroup(5);
    let before = query::placement(&state, group).expect("readable").current;
    let target: Vec<NodeId> = before.iter().rev().copied().collect();
    assert_eq!(state.run(Command::SetTargets(vec![(group, target.clone())])), Ok(Answer::Done));
    let row = query::placement(&state, group).expect("readable");
    assert_eq!((row.current, row.target), (target, None));
}
