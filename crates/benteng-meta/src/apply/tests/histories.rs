//! Random histories: commands that arrive once, twice, late, settled, or never.

use proptest::prelude::*;

use super::*;

/// Commands of a small world, so that histories meet each other.
fn commands() -> impl Strategy<Value = Command> {
    let key = || proptest::sample::select(vec!["a", "b", "besar"]);
    let mask = || proptest::sample::select(vec![0b111_u16, 0b011, 0b110, 0b001]);
    let chunked = |(key, blob, tag, mask, size): (&str, u64, u8, u16, u64)| {
        let body = NewBody::Chunks(part(blob, size, mask));
        put(key, blob.into(), tag, size, body, Condition::default())
    };
    prop_oneof![
        (key(), 0..40_u64, 0..4_u8).prop_map(|(k, b, t)| inline(k, b.into(), t)),
        (key(), 0..40_u64, 0..4_u8, mask(), 1..20_000_000_u64).prop_map(chunked),
        key().prop_map(delete),
        (100..104_u128).prop_map(upload),
        (100..104_u128, 1..4_u16, prop_oneof![Just(PART_BYTES_MIN), Just(3)])
            .prop_map(|(u, n, s)| put_part(u, n, 0, s)),
        (100..104_u128, proptest::collection::vec(1..4_u16, 0..3))
            .prop_map(|(u, parts)| complete(u, &parts.iter().map(|n| (*n, 0)).collect::<Vec<_>>())),
        (100..104_u128).prop_map(|u| Command::AbortUpload {
            bucket: BUCKET,
            key: "besar".into(),
            upload: BlobId(Uuid::from_u128(u))
        }),
        (0..40_u128, 0..40_u64, 1..4_u64).prop_map(|(blob, attempt, node)| Command::FoundMissing {
            node: NodeId(node),
            chunks: vec![ChunkId {
                blob: BlobId(Uuid::from_u128(blob)),
                part: PartNumber(1),
                attempt: Attempt(attempt),
                sequence: 0
            }],
        }),
    ]
}

/// Gives the command an attempt of its own, as gateways draw them, and returns the chunks it names.
fn own_attempt(command: &mut Command, attempt: u64) -> Vec<(BlobId, PartNumber, Attempt, u32)> {
    match command {
        Command::PutObject(put) => match &mut put.body {
            NewBody::Chunks(part) => {
                part.attempt = Attempt(attempt);
                vec![(put.blob, PartNumber(1), part.attempt, chunks_of(part.size))]
            }
            NewBody::Inline(_) => vec![],
        },
        Command::PutPart { upload, number, part, .. } => {
            part.attempt = Attempt(attempt);
            vec![(*upload, *number, part.attempt, chunks_of(part.size))]
        }
        _ => vec![],
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Commands arrive once, twice, late, after a Settle, or never.
    #[test]
    fn every_history_keeps_the_books(
        mut commands in proptest::collection::vec(commands(), 1..40),
        arrivals in proptest::collection::vec((0..40_usize, proptest::bool::weighted(0.15)), 1..80),
    ) {
        let named: Vec<_> = commands.iter_mut().zip(0..).map(|(c, i)| own_attempt(c, i)).collect();
        let mut state = State::site();
        for (step, (i, settle)) in arrivals.into_iter().enumerate() {
            let i = i % commands.len();
            let stamp = query::clock(&state).expect("readable").now.0 + SECOND;
            let id = CommandId(Uuid::from_u128(5000 + i as u128));
            if settle {
                state.run(Command::Settle { id, chunks: named[i].clone() }).expect("settling always answers");
            } else if let Command::CompleteUpload(complete) = &commands[i] {
                // A completion lists what its gateway has just read.
                let mut complete = complete.clone();
                for (number, attempt) in &mut complete.parts {
                    let row = query::part(&state, complete.upload, *number).expect("readable");
                    *attempt = row.map_or(Attempt(999), |row| row.attempt);
                }
                let id = 9000 + step as u128;
                let _ = state.run_as(id, stamp, i64::MAX, Command::CompleteUpload(complete));
            } else {
                let _ = state.run_as(id.0.as_u128(), stamp, i64::MAX, commands[i].clone());
            }
            state.check();
        }
    }

    #[test]
    fn i6_replicas_that_apply_one_history_hold_one_state(history in proptest::collection::vec(commands(), 1..30)) {
        let (mut a, mut b) = (State::site(), State::site());
        for command in history {
            prop_assert_eq!(a.run(command.clone()), b.run(command));
        }
        prop_assert_eq!(query::state_hash(&a).expect("readable"), query::state_hash(&b).expect("readable"));
    }

    #[test]
    fn commands_survive_their_encoding(command in commands()) {
        let envelope = Envelope {
            id: CommandId(Uuid::from_u128(1)), stamp: SiteTime(-5), deadline: SiteTime(i64::MAX),
            gateway: Some((NodeId(3), Incarnation(4))), command,
        };
        let bytes = codec::encode(&envelope);
        prop_assert_eq!(codec::decode::<Envelope>(&bytes).expect("what was encoded decodes"), envelope);
        for cut in 0..bytes.len() {
            prop_assert!(codec::decode::<Envelope>(&bytes[..cut]).is_err(), "cut at {}", cut);
        }
    }

    #[test]
    fn garbage_is_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = codec::decode::<Envelope>(&bytes);
        let _ = codec::decode::<BlobRow>(&bytes);
    }
}

/// The fuzzer's first find: answers that stand within each other as deep as their bytes say took the stack.
#[test]
fn c5_settlings_of_settlings_end_before_a_replica_cannot_read_them() {
    let mut state = State::site();
    let settle = |of: u128| Command::Settle { id: CommandId(Uuid::from_u128(of)), chunks: vec![] };
    assert_eq!(state.run_as(5000, SECOND, i64::MAX, settle(4999)), Ok(Answer::NeverApplied));
    for n in 1..=SETTLED_DEPTH_MAX as u128 {
        let outcome = state.run_as(5000 + n, SECOND, i64::MAX, settle(5000 + n - 1));
        assert!(matches!(outcome, Ok(Answer::Settled(_))), "{n}: {outcome:?}");
    }
    let last = 5000 + SETTLED_DEPTH_MAX as u128;
    let outcome = state.run_as(last + 1, SECOND, i64::MAX, settle(last));
    assert!(matches!(outcome, Err(Rejection::Invalid(_))), "{outcome:?}");
    let row: AnswerRow =
        query::get(&state, &key::answer(CommandId(Uuid::from_u128(last)))).expect("readable").expect("there");
    assert_eq!(settled_depth(&row.outcome), SETTLED_DEPTH_MAX);
    let deep = [&[1, 2][..], &[0, 7].repeat(1 << 20), &[0, 0]].concat();
    assert!(codec::decode::<AnswerRow>(&deep).is_err());
}
