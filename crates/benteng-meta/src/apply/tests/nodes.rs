//! Nodes are drained and removed; counts fall by command alone (S8).

use super::*;

const ONE: NodeId = NodeId(1);
const TWO: NodeId = NodeId(2);
const THREE: NodeId = NodeId(3);
const FOUR: NodeId = NodeId(4);

fn chunk() -> ChunkId {
    ChunkId { blob: BlobId(Uuid::from_u128(1)), part: PartNumber(1), attempt: Attempt(7), sequence: 0 }
}

/// Stores one chunk on the nodes of the mask.
fn stored(state: &mut State, mask: u16) {
    let command = put("a", 1, 1, 9000, NewBody::Chunks(part(7, 9000, mask)), Condition::default());
    assert!(state.run(command).is_ok());
}

fn remove(state: &mut State, node: NodeId, lost: bool, accept_one_voter: bool) -> Outcome {
    state.run(Command::RemoveNode { node, lost, accept_one_voter })
}

fn refused(outcome: &Outcome, says: &str) {
    match outcome {
        Err(Rejection::Invalid(why)) => assert!(why.contains(says), "{why}"),
        other => panic!("{other:?} does not say {says:?}"),
    }
}

fn site(state: &State) -> SiteRow {
    query::site(state).expect("readable").expect("formed")
}

/// Adds node 4 with disks of its own.
fn fourth(state: &mut State) {
    let hash = [9; 32];
    let token = Command::CreateJoinToken { hash, valid: 10 * SECOND, replaces: None };
    assert_eq!(state.run(token), Ok(Answer::Done));
    let node = NodeRow { name: "node-4".into(), store: StoreId(Uuid::from_u128(4)), ..State::node(2) };
    assert_eq!(state.run(Command::AddNode { node, token: hash }), Ok(Answer::Node(FOUR)));
}

/// Moves every group to these nodes, filled at once.
fn moved(state: &mut State, to: &[NodeId]) {
    let groups = || (0..PlacementGroup::COUNT).map(PlacementGroup);
    let targets = groups().map(|group| (group, to.to_vec())).collect();
    assert_eq!(state.run(Command::SetTargets(targets)), Ok(Answer::Done));
    for node in to {
        let since = |g| (g, query::placement(state, g).expect("readable").since);
        let groups = groups().map(since).collect();
        assert_eq!(state.run(Command::Filled { node: *node, groups }), Ok(Answer::Done));
    }
}

#[test]
fn s8_counts_never_fall_but_by_a_removal() {
    let mut state = State::site();
    refused(&state.run(Command::SetCopies { copies: 2, copies_min: 2 }), "removal of a node");
    refused(&state.run(Command::SetCopies { copies: 3, copies_min: 1 }), "removal of a node");
    let targets = |nodes: &[NodeId]| Command::SetTargets(vec![(PlacementGroup(5), nodes.to_vec())]);
    refused(&state.run(targets(&[ONE, TWO])), "2 holders");
    refused(&state.run(targets(&[ONE, TWO, TWO])), "no target");
    let removed = Command::SetNodeState { node: THREE, state: NodeState::Removed };
    refused(&state.run(removed), "a command of its own");
    refused(&remove(&mut state, THREE, false, false), "--accept-one-voter");
    assert_eq!((site(&state).copies, site(&state).copies_min, site(&state).one_voter), (3, 2, false));

    assert_eq!(remove(&mut state, THREE, false, true), Ok(Answer::Done));
    assert_eq!((site(&state).copies, site(&state).copies_min, site(&state).one_voter), (2, 2, true));
    let row = query::placement(&state, PlacementGroup(5)).expect("readable");
    assert_eq!((row.current, row.target), (vec![ONE, TWO], None));
    assert_eq!(remove(&mut state, THREE, false, true), Ok(Answer::Done), "again is no error");
    assert_eq!(remove(&mut state, TWO, false, true), Ok(Answer::Done));
    assert_eq!((site(&state).copies, site(&state).copies_min), (1, 1));
    refused(&remove(&mut state, ONE, true, true), "the last one");
}

#[test]
fn s8_three_nodes_again_end_what_was_accepted() {
    let mut state = State::site();
    assert_eq!(remove(&mut state, THREE, false, true), Ok(Answer::Done));
    assert!(site(&state).one_voter);
    fourth(&mut state);
    assert!(!site(&state).one_voter);
}

#[test]
fn i1_a_node_that_holds_groups_is_drained_before_it_goes() {
    let mut state = State::site();
    fourth(&mut state);
    refused(&remove(&mut state, THREE, false, false), "still holds 1024 placement groups");
    let drain = Command::SetNodeState { node: THREE, state: NodeState::Draining };
    assert_eq!(state.run(drain), Ok(Answer::Done));
    moved(&mut state, &[ONE, TWO, FOUR]);
    assert_eq!(remove(&mut state, THREE, false, false), Ok(Answer::Done));
    assert_eq!((site(&state).copies, site(&state).one_voter), (3, false));
}

#[test]
fn i1_a_lost_node_is_kept_while_it_alone_has_a_copy() {
    let mut state = State::site();
    fourth(&mut state);
    stored(&mut state, 0b101);
    state.run(Command::FoundMissing { node: ONE, chunks: vec![chunk()] }).expect("queued");
    state.check();
    // Nodes 1 and 2 lack it: what is on node 3 is all there is.
    refused(&remove(&mut state, THREE, true, false), "only good copy of 1 chunks");
    let repaired = Command::Repaired { node: ONE, store: STORES[0], chunks: vec![chunk()] };
    assert_eq!(state.run(repaired), Ok(Answer::Done));
    assert_eq!(remove(&mut state, THREE, true, false), Ok(Answer::Done));
    state.check();
    assert_eq!(query::clock(&state).expect("readable").chunks_short, 1, "node 2 still lacks it");
    assert_eq!(site(&state).copies, 3, "the fourth node takes its place");
}

#[test]
fn what_a_removed_node_lacked_is_nobodys_any_more() {
    let mut state = State::site();
    stored(&mut state, 0b011);
    assert_eq!(query::clock(&state).expect("readable").chunks_short, 1);
    assert_eq!(remove(&mut state, THREE, false, true), Ok(Answer::Done));
    assert_eq!(query::clock(&state).expect("readable").chunks_short, 0);
    state.check();
}

#[test]
fn s7_the_survivor_goes_on_alone_in_a_new_epoch() {
    let mut state = State::site();
    stored(&mut state, 0b011);
    refused_node(&state.run(Command::Recover { node: FOUR }));
    assert_eq!(state.run(Command::Recover { node: TWO }), Ok(Answer::Done));
    state.check();
    assert_eq!((site(&state).copies, site(&state).copies_min, site(&state).recovery_epoch), (1, 1, 1));
    let rows = query::nodes(&state).expect("readable");
    let live: Vec<NodeId> =
        rows.iter().filter(|(_, row)| row.state != NodeState::Removed).map(|(id, _)| *id).collect();
    assert_eq!(live, [TWO]);
    assert_eq!(query::placement(&state, PlacementGroup(9)).expect("readable").current, [TWO]);
    assert_eq!(query::clock(&state).expect("readable").chunks_short, 0, "node 3 lacked it, and is gone");
    refused_node(&state.run(Command::Recover { node: ONE }));
}

fn refused_node(outcome: &Outcome) {
    assert!(matches!(outcome, Err(Rejection::NoSuchNode(_))), "{outcome:?}");
}

#[test]
fn the_only_active_node_is_not_drained() {
    let mut state = State::site();
    let drain = |node| Command::SetNodeState { node, state: NodeState::Draining };
    assert_eq!(state.run(drain(ONE)), Ok(Answer::Done));
    assert_eq!(state.run(drain(TWO)), Ok(Answer::Done));
    refused(&state.run(drain(THREE)), "only one that holds chunks");
    assert_eq!(state.run(Command::SetNodeState { node: ONE, state: NodeState::Active }), Ok(Answer::Done));
    assert_eq!(state.run(drain(THREE)), Ok(Answer::Done));
}

#[test]
fn a_join_token_lets_one_node_in_once() {
    let mut state = State::site();
    let hash = [9; 32];
    let node = NodeRow { name: "new".into(), ..State::node(0) };
    let add = Command::AddNode { node, token: hash };
    assert_eq!(state.run(add.clone()), Err(Rejection::InvalidToken));
    let token = Command::CreateJoinToken { hash, valid: 10 * SECOND, replaces: Some(NodeId(2)) };
    assert_eq!(state.run(token), Ok(Answer::Done));
    assert_eq!(state.run(add.clone()), Ok(Answer::Node(NodeId(4))));
    assert_eq!(state.run(add), Err(Rejection::InvalidToken));
    let row = query::placement(&state, PlacementGroup(0)).expect("readable");
    assert_eq!(row.target, Some(vec![NodeId(1), NodeId(4), NodeId(3)]), "the newcomer takes the place");
    let update = Command::UpdateNode { node: NodeId(2), doors: Doors::default(), store: STORES[1] };
    assert_eq!(state.run(update), Err(Rejection::NoSuchNode(NodeId(2))), "a replaced node never returns");
}

#[test]
fn the_last_admin_stays() {
    let mut state = State::site();
    let row = |roles| UserRow { roles, opd: None, scram: None, disabled: false, created: SiteTime(0) };
    let create = |name: &str, roles| Command::CreateUser { name: name.into(), row: row(roles) };
    assert_eq!(state.run(create("a", vec![Role::Admin])), Ok(Answer::Done));
    assert_eq!(state.run(create("b", vec![Role::Sistem])), Ok(Answer::Done));
    let remove = |name: &str| Command::DeleteUser { name: name.into() };
    assert_eq!(state.run(remove("a")), Err(Rejection::LastAdmin("a".into())));
    let demote = Command::UpdateUser { name: "a".into(), row: row(vec![]) };
    assert_eq!(state.run(demote.clone()), Err(Rejection::LastAdmin("a".into())));
    assert_eq!(state.run(create("c", vec![Role::Admin])), Ok(Answer::Done));
    assert_eq!(state.run(demote), Ok(Answer::Done));
    let key = Command::CreateAccessKey { id: "BTAAAA".into(), user: "b".into(), secret: "s".into() };
    assert_eq!(state.run(key), Ok(Answer::Done));
    assert_eq!(state.run(remove("b")), Ok(Answer::Done));
    assert_eq!(state.rows(key::Table::AccessKey), 0, "its keys go with a user");
}
