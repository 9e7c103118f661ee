//! `apply` against what must hold whatever the history: counters, naming, idempotency, fences.

mod histories; // random histories keep the books
mod moves; // moves of placement groups end
mod nodes; // nodes are drained and removed, and counts fall by command alone
mod queues; // what is forgotten in order begins where it says
mod uploads; // multipart uploads free what they must

use std::collections::BTreeMap;

use benteng_host::{KvView, Op, Visit};
use bytes::Bytes;
use uuid::Uuid;

use super::*;
use crate::*;

/// A state in memory.
#[derive(Clone, Default)]
struct State(BTreeMap<Bytes, Bytes>);

impl KvView for State {
    fn get(&self, key: &[u8]) -> benteng_host::Result<Option<Bytes>> {
        KvView::get(&self.0, key)
    }
    fn scan(
        &self,
        from: &[u8],
        to: &[u8],
        visit: &mut dyn FnMut(&[u8], &[u8]) -> Visit,
    ) -> benteng_host::Result<()> {
        self.0.scan(from, to, visit)
    }
    fn scan_back(
        &self,
        from: &[u8],
        to: &[u8],
        visit: &mut dyn FnMut(&[u8], &[u8]) -> Visit,
    ) -> benteng_host::Result<()> {
        self.0.scan_back(from, to, visit)
    }
}

const BUCKET: BucketId = BucketId(Uuid::from_u128(0xb));
const STORES: [StoreId; 3] =
    [StoreId(Uuid::from_u128(1)), StoreId(Uuid::from_u128(2)), StoreId(Uuid::from_u128(3))];

impl State {
    fn run_as(&mut self, id: u128, stamp: i64, deadline: i64, command: Command) -> Outcome {
        let envelope = Envelope {
            id: CommandId(Uuid::from_u128(id)),
            stamp: SiteTime(stamp),
            deadline: SiteTime(deadline),
            gateway: None,
            command,
        };
        let changed = |state: &State| query::placements_changed(state).expect("readable");
        let before = changed(self);
        let mut tx = Tx::new(self);
        let outcome = apply(&mut tx, &envelope).expect("the state in memory is readable");
        let mut moved = false;
        for op in tx.into_batch().ops {
            moved |= matches!(&op, Op::Put(key, _) if key.starts_with(&key::table(key::Table::Placement)));
            match op {
                Op::Put(k, v) => drop(self.0.insert(k, v)),
                Op::Delete(k) => drop(self.0.remove(&k)),
                Op::DeleteRange(..) => unreachable!("transactions write puts and deletes"),
            }
        }
        // Whoever keeps what he has read of the placements looks at nothing else.
        let expected = if moved { Some(query::clock(self).expect("readable").seq) } else { before };
        assert_eq!(changed(self), expected, "{envelope:?}");
        outcome
    }

    /// Runs a command with a fresh id in the next second.
    fn run(&mut self, command: Command) -> Outcome {
        let clock = query::clock(self).expect("readable");
        let stamp = clock.now.0 + SECOND;
        self.run_as(u128::from(clock.seq.0) + (1 << 64), stamp, i64::MAX, command)
    }

    fn node(i: usize) -> NodeRow {
        NodeRow {
            name: format!("node-{i}"),
            zone: format!("zone-{i}"),
            doors: Doors::default(),
            store: STORES[i],
            state: NodeState::Active,
            joined: SiteTime(0),
        }
    }

    /// A formed site of three nodes with three copies, and a bucket.
    fn site() -> State {
        let mut state = State::default();
        let site = SiteRow {
            id: SiteId::default(),
            name: "test".into(),
            created: SiteTime(0),
            copies: 1,
            copies_min: 1,
            next_node: NodeId(0),
            removal_delay: 0,
            recovery_epoch: 0,
            ca: Bytes::new(),
            root_check: Bytes::new(),
            one_voter: false,
        };
        let kek = Bytes::from_static(b"wrapped");
        assert_eq!(
            state.run(Command::InitSite { site, kek, node: State::node(0) }),
            Ok(Answer::Node(NodeId(1)))
        );
        for i in 1..3_u8 {
            let hash = [i; 32];
            let token = Command::CreateJoinToken { hash, valid: 3600 * SECOND, replaces: None };
            assert_eq!(state.run(token), Ok(Answer::Done));
            let added = state.run(Command::AddNode { node: State::node(i.into()), token: hash });
            assert_eq!(added, Ok(Answer::Node(NodeId(u64::from(i) + 1))));
        }
        assert_eq!(state.run(Command::SetCopies { copies: 3, copies_min: 2 }), Ok(Answer::Done));
        let all: Vec<NodeId> = (1..=3).map(NodeId).collect();
        let groups = || (0..PlacementGroup::COUNT).map(PlacementGroup);
        let targets = groups().map(|group| (group, all.clone())).collect();
        assert_eq!(state.run(Command::SetTargets(targets)), Ok(Answer::Done));
        for node in [NodeId(2), NodeId(3)] {
            let since = |g| (g, query::placement(&state, g).expect("readable").since);
            let groups = groups().map(since).collect();
            assert_eq!(state.run(Command::Filled { node, groups }), Ok(Answer::Done));
        }
        assert_eq!(query::placement(&state, PlacementGroup(5)).expect("readable").current, all);
        let create = Command::CreateBucket {
            name: "arsip".into(),
            id: BUCKET,
            owner: "dinkes".into(),
            key: Bytes::new(),
            kek: KekVersion(1),
        };
        assert!(matches!(state.run(create), Ok(Answer::Committed(_))));
        state
    }

    fn usage(&self) -> UsageRow {
        query::get(self, &key::usage(BUCKET)).expect("readable").expect("the bucket is there")
    }

    fn rows(&self, table: key::Table) -> usize {
        self.0.keys().filter(|k| k[0] == table as u8).count()
    }

    /// What must hold after any command.
    fn check(&self) {
        let prefix = key::object(BUCKET, b"");
        let objects = query::page::<ObjectRow>(self, &prefix, None, usize::MAX).expect("readable");
        let usage = self.usage();
        assert_eq!(usage.objects, objects.len() as u64, "objects are counted exactly");
        assert_eq!(
            usage.bytes,
            objects.iter().map(|(_, o)| o.size).sum::<u64>(),
            "bytes are counted exactly"
        );
        assert_eq!(usage.uploads, self.rows(key::Table::Upload) as u64, "uploads are counted exactly");
        assert_eq!(self.rows(key::Table::Blob), objects.len(), "every blob row is named by one object");
        for (_, object) in &objects {
            assert!(
                self.0.contains_key(&key::blob(object.blob)),
                "I3: an object names a blob that is not there"
            );
        }
        let clock = query::clock(self).expect("readable");
        assert_eq!(
            clock.chunks_short,
            self.rows(key::Table::Repair) as u64,
            "short chunks are counted exactly"
        );
        assert_eq!(clock.answers, self.rows(key::Table::Answer) as u64, "answers are counted exactly");
        assert_eq!(clock.answers, self.rows(key::Table::AnswerOrder) as u64);
        queues::begin_before_their_rows(&self.0, &clock.queues);
        for key in self.0.keys().filter(|k| k[0] == key::Table::DeadPart as u8) {
            let id = BlobId(Uuid::from_slice(&key[9..25]).expect("sixteen bytes"));
            let number = PartNumber(u16::from_be_bytes([key[25], key[26]]));
            let attempt = Attempt(u64::from_be_bytes(key[27..35].try_into().expect("eight bytes")));
            let named = query::names_attempt(self, id, number, attempt).expect("readable");
            assert!(!named, "C2: a dead mark stands on a named attempt");
        }
    }
}

fn etag(n: u8) -> ETag {
    ETag { md5: [n; 16], parts: None }
}

fn part(attempt: u64, size: u64, mask: u16) -> NewPart {
    let stores = (1..=3).map(NodeId).zip(STORES).collect();
    let chunks = vec![mask; chunks_of(size) as usize];
    NewPart {
        attempt: Attempt(attempt),
        salt: [0; 32],
        size,
        md5: [0; 16],
        checksum: None,
        copies: Copies { stores, chunks },
    }
}

fn put(key: &str, blob: u128, tag: u8, size: u64, body: NewBody, condition: Condition) -> Command {
    Command::PutObject(Box::new(PutObject {
        bucket: BUCKET,
        key: key.into(),
        blob: BlobId(Uuid::from_u128(blob)),
        condition,
        dek: Bytes::new(),
        kek: KekVersion(1),
        etag: etag(tag),
        size,
        checksum: None,
        described: Described::default(),
        body,
    }))
}

fn inline(key: &str, blob: u128, tag: u8) -> Command {
    put(key, blob, tag, 1, NewBody::Inline(Bytes::from_static(b"x")), Condition::default())
}

fn delete(key: &str) -> Command {
    Command::DeleteObjects { bucket: BUCKET, keys: vec![DeleteKey { key: key.into(), if_match: None }] }
}

fn upload(id: u128) -> Command {
    Command::CreateUpload {
        bucket: BUCKET,
        key: "besar".into(),
        upload: BlobId(Uuid::from_u128(id)),
        row: Box::new(UploadRow {
            owner: "dinkes".into(),
            created: SiteTime(0),
            dek: Bytes::new(),
            described: Described::default(),
            checksum: None,
        }),
        kek: KekVersion(1),
    }
}

fn put_part(id: u128, number: u16, attempt: u64, size: u64) -> Command {
    Command::PutPart {
        bucket: BUCKET,
        key: "besar".into(),
        upload: BlobId(Uuid::from_u128(id)),
        number: PartNumber(number),
        part: Box::new(part(attempt, size, 0b111)),
    }
}

fn complete(id: u128, parts: &[(u16, u64)]) -> Command {
    Command::CompleteUpload(Box::new(CompleteUpload {
        bucket: BUCKET,
        key: "besar".into(),
        upload: BlobId(Uuid::from_u128(id)),
        parts: parts.iter().map(|(n, a)| (PartNumber(*n), Attempt(*a))).collect(),
        etag: ETag { md5: [9; 16], parts: Some(parts.len() as u16) },
        checksum: None,
        condition: Condition::default(),
    }))
}

#[test]
fn c1_a_command_twice_is_answered_alike_and_applied_once() {
    let mut state = State::site();
    let first = state.run_as(7, i64::MAX / 2, i64::MAX, inline("a", 1, 1));
    let before = state.0.clone();
    // Even after its deadline, and although the key holds something else by then (C1 before deadlines).
    assert_eq!(state.run_as(7, i64::MAX / 2, 0, inline("a", 1, 1)), first);
    assert_eq!(state.0, before);
}

#[test]
fn c2_a_late_duplicate_of_a_refused_command_kills_no_live_object() {
    let mut state = State::site();
    let body = NewBody::Chunks(part(5, 10, 0b111));
    let command = put("a", 1, 1, 10, body, Condition::default());
    assert!(state.run(command.clone()).is_ok());
    // The same blob under another command id is refused; its chunks are named, so nothing dies.
    assert!(matches!(state.run(command), Err(Rejection::Invalid(_))));
    assert_eq!(state.rows(key::Table::DeadPart), 0);
    state.check();
}

#[test]
fn c3_a_settled_command_never_comes_to_life() {
    let mut state = State::site();
    let late = CommandId(Uuid::from_u128(77));
    let chunks = vec![(BlobId(Uuid::from_u128(1)), PartNumber(1), Attempt(5), 1)];
    let settle = Command::Settle { id: late, chunks };
    assert_eq!(state.run(settle.clone()), Ok(Answer::NeverApplied));
    assert_eq!(state.rows(key::Table::DeadPart), 1);
    let body = NewBody::Chunks(part(5, 10, 0b111));
    let stamp = query::clock(&state).expect("readable").now.0;
    let original = put("a", 1, 1, 10, body, Condition::default());
    assert_eq!(state.run_as(77, stamp, i64::MAX, original), Err(Rejection::Refused));
    assert_eq!(state.usage().objects, 0);

    let applied = state.run_as(78, stamp, i64::MAX, inline("b", 2, 2));
    let settled = state.run(Command::Settle { id: CommandId(Uuid::from_u128(78)), chunks: vec![] });
    assert_eq!(settled, Ok(Answer::Settled(Box::new(applied))));
    state.check();
}

#[test]
fn a_command_after_its_deadline_changes_nothing_but_is_remembered() {
    let mut state = State::site();
    let now = query::clock(&state).expect("readable").now.0;
    assert_eq!(state.run_as(9, now, now - 1, inline("a", 1, 1)), Err(Rejection::DeadlinePassed));
    assert_eq!(state.usage().objects, 0);
}

#[test]
fn i9_a_superseded_gateway_never_completes_a_write() {
    let mut state = State::site();
    let start = Command::StartGateway { node: NodeId(2) };
    let Ok(Answer::Gateway(first, _)) = state.run(start.clone()) else { panic!("the gateway starts") };
    let Ok(Answer::Gateway(second, _)) = state.run(start) else { panic!("the gateway starts again") };
    assert!(second > first);
    for (incarnation, accepted) in [(first, false), (second, true)] {
        let envelope = Envelope {
            id: CommandId(Uuid::from_u128(u128::from(incarnation.0) + 1000)),
            stamp: SiteTime(0),
            deadline: SiteTime(i64::MAX),
            gateway: Some((NodeId(2), incarnation)),
            command: inline("a", 1, 1),
        };
        let mut tx = Tx::new(&state);
        let outcome = apply(&mut tx, &envelope).expect("readable");
        assert_eq!(outcome.is_ok(), accepted, "{outcome:?}");
    }
}

#[test]
fn o2_copies_that_do_not_count_ask_for_replacement_and_kill_nothing() {
    let mut state = State::site();
    let command = |mask| put("a", 1, 1, 10, NewBody::Chunks(part(5, 10, mask)), Condition::default());
    assert_eq!(state.run(command(0b001)), Ok(Answer::Replace(vec![0])), "one of three is below the minimum");
    assert_eq!(state.rows(key::Table::DeadPart), 0, "replacing is not terminal");
    assert!(matches!(state.run(command(0b011)), Ok(Answer::Committed(_))));
    assert_eq!(state.rows(key::Table::Repair), 1, "the third copy is queued");
    state.check();

    // A store that was wiped does not count, whatever the gateway believed.
    let mut wiped = part(6, 10, 0b011);
    wiped.copies.stores[0].1 = StoreId(Uuid::from_u128(99));
    let command = put("b", 2, 1, 10, NewBody::Chunks(wiped), Condition::default());
    assert_eq!(state.run(command), Ok(Answer::Replace(vec![0])));
}

#[test]
fn c2_a_second_copy_of_a_replaced_command_never_names_chunks_that_were_buried_since() {
    let mut state = State::site();
    let command = |mask, condition| put("a", 1, 1, 10, NewBody::Chunks(part(5, 10, mask)), condition);
    let late = |state: &mut State, mask| state.run_as(77, 0, i64::MAX, command(mask, Condition::default()));
    assert_eq!(late(&mut state, 0b001), Ok(Answer::Replace(vec![0])));
    // Proposed anew, and refused: its chunks are dead.
    let only = Condition { if_match: Some(Match::Any), ..Condition::default() };
    assert_eq!(state.run(command(0b111, only)), Err(Rejection::NoSuchKey));
    assert_eq!(state.rows(key::Table::DeadPart), 1);
    // The first entry comes again, when its copies would count.
    assert_eq!(late(&mut state, 0b111), Ok(Answer::Replace(vec![0])));
    assert_eq!(state.usage().objects, 0);
    state.check();
}

#[test]
fn i9_the_gateway_of_a_removed_node_never_completes_a_write() {
    let mut state = State::site();
    let Ok(Answer::Gateway(incarnation, _)) = state.run(Command::StartGateway { node: NodeId(3) }) else {
        panic!("the gateway starts")
    };
    let remove = Command::RemoveNode { node: NodeId(3), lost: false, accept_one_voter: true };
    assert_eq!(state.run(remove), Ok(Answer::Done));
    let envelope = Envelope {
        id: CommandId(Uuid::from_u128(4000)),
        stamp: SiteTime(0),
        deadline: SiteTime(i64::MAX),
        gateway: Some((NodeId(3), incarnation)),
        command: inline("a", 1, 1),
    };
    let outcome = apply(&mut Tx::new(&state), &envelope).expect("readable");
    assert_eq!(outcome, Err(Rejection::GatewaySuperseded(NodeId(3))));
}

#[test]
fn repaired_copies_leave_the_queue_and_dead_chunks_too() {
    let mut state = State::site();
    let command = put("a", 1, 1, 10, NewBody::Chunks(part(5, 10, 0b011)), Condition::default());
    assert!(state.run(command).is_ok());
    let chunk =
        ChunkId { blob: BlobId(Uuid::from_u128(1)), part: PartNumber(1), attempt: Attempt(5), sequence: 0 };
    let repaired = Command::Repaired { node: NodeId(3), store: STORES[2], chunks: vec![chunk] };
    assert_eq!(state.run(repaired), Ok(Answer::Done));
    assert_eq!(query::clock(&state).expect("readable").chunks_short, 0);

    assert_eq!(state.run(Command::FoundMissing { node: NodeId(2), chunks: vec![chunk] }), Ok(Answer::Done));
    assert_eq!(query::clock(&state).expect("readable").chunks_short, 1);
    assert!(state.run(delete("a")).is_ok());
    assert_eq!(query::clock(&state).expect("readable").chunks_short, 0, "a dead chunk is short of nothing");
    state.check();
}

#[test]
fn conditions_are_decided_against_the_current_version() {
    let tags = |n| Some(Match::Tags(vec![etag(n)]));
    let none = || Condition { if_match: None, if_none_match: Some(Match::Any) };
    let matching = |n| Condition { if_match: tags(n), if_none_match: None };
    let body = || NewBody::Inline(Bytes::from_static(b"x"));
    let mut state = State::site();
    for (condition, expected) in [
        (matching(1), Err(Rejection::NoSuchKey)),
        (none(), Ok(())),
        (none(), Err(Rejection::PreconditionFailed)),
        (matching(9), Err(Rejection::PreconditionFailed)),
        (matching(1), Ok(())),
        (Condition { if_match: Some(Match::Any), if_none_match: tags(9) }, Ok(())),
        (Condition { if_match: None, if_none_match: tags(1) }, Err(Rejection::PreconditionFailed)),
    ] {
        let blob = u128::from(query::clock(&state).expect("readable").seq.0);
        let outcome = state.run(put("a", blob, 1, 1, body(), condition.clone()));
        assert_eq!(outcome.map(drop), expected, "{condition:?}");
        state.check();
    }
}

#[test]
fn i8_dead_rows_stay_until_every_floor_and_every_store_has_passed() {
    let mut state = State::site();
    let mut lives = Vec::new();
    for node in (1..=3).map(NodeId) {
        let Ok(Answer::Gateway(life, _)) = state.run(Command::StartGateway { node }) else {
            panic!("the gateway starts")
        };
        lives.push((node, life));
    }
    assert!(state.run(put("a", 1, 1, 10, NewBody::Chunks(part(5, 10, 0b111)), Condition::default())).is_ok());
    assert!(state.run(delete("a")).is_ok());
    let dead = query::clock(&state).expect("readable").seq;
    let publish = |(node, incarnation): (NodeId, Incarnation), floor, removed| Command::PublishFloor {
        node,
        incarnation,
        floor,
        removed,
    };
    for (i, life) in lives.iter().enumerate() {
        assert!(
            matches!(state.run(Command::ForgetDead { upto: dead }), Err(Rejection::Invalid(_))),
            "floor {i}"
        );
        assert_eq!(state.run(publish(*life, dead, dead)), Ok(Answer::Done));
    }
    assert_eq!(state.run(Command::ForgetDead { upto: dead }), Ok(Answer::Done));
    assert_eq!((state.rows(key::Table::DeadPart), state.rows(key::Table::DeadBlob)), (0, 0));
    let back = state.run(publish(lives[0], StateSeq(1), dead));
    assert!(matches!(back, Err(Rejection::Invalid(_))), "a floor never goes back");
}
