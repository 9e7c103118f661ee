//! Multipart uploads: what completion, replacement and abort free, and what they keep.

use super::*;

#[test]
fn multipart_frees_exactly_the_parts_that_were_not_named() {
    let mut state = State::site();
    assert!(state.run(upload(50)).is_ok());
    assert!(state.run(put_part(50, 1, 11, PART_BYTES_MIN)).is_ok());
    assert!(state.run(put_part(50, 2, 12, 5)).is_ok());
    assert!(state.run(put_part(50, 2, 13, 6)).is_ok(), "a part may be sent again");
    assert!(state.run(put_part(50, 7, 17, 8)).is_ok());
    assert_eq!(state.rows(key::Table::DeadPart), 1, "the replaced attempt");

    let wrong = [
        (&[][..], Rejection::InvalidPartOrder),
        (&[(2, 13), (1, 11)], Rejection::InvalidPartOrder),
        (&[(1, 11), (2, 12)], Rejection::InvalidPart(PartNumber(2))),
        (&[(1, 11), (3, 13)], Rejection::InvalidPart(PartNumber(3))),
    ];
    for (parts, expected) in wrong {
        assert_eq!(state.run(complete(50, parts)), Err(expected));
        state.check();
    }
    let small = state.run(complete(50, &[(2, 13), (7, 17)]));
    assert!(matches!(small, Err(Rejection::PartTooSmall { number: PartNumber(2), .. })), "{small:?}");

    let done = state.run(complete(50, &[(1, 11), (2, 13)]));
    assert!(matches!(done, Ok(Answer::Completed { .. })));
    assert_eq!(state.rows(key::Table::DeadPart), 2, "and the one that was not named");
    assert_eq!(state.usage(), UsageRow { objects: 1, bytes: PART_BYTES_MIN + 6, uploads: 0 });
    assert_eq!(state.run(complete(50, &[(1, 11), (2, 13)])), done, "L4: asked again, answered alike");
    assert_eq!(state.run(put_part(50, 3, 18, 1)), Err(Rejection::NoSuchUpload));
    state.check();

    assert!(state.run(delete("besar")).is_ok());
    assert_eq!(state.rows(key::Table::Part), 0);
    assert_eq!(state.rows(key::Table::DeadPart), 5, "both parts, and the one that came too late");
    state.check();
}

#[test]
fn an_aborted_upload_leaves_nothing_but_its_dead() {
    let mut state = State::site();
    assert!(state.run(upload(50)).is_ok());
    assert!(state.run(put_part(50, 1, 11, 10)).is_ok());
    assert_eq!(state.run(Command::DeleteBucket { name: "arsip".into() }), Err(Rejection::BucketNotEmpty));
    let abort =
        Command::AbortUpload { bucket: BUCKET, key: "besar".into(), upload: BlobId(Uuid::from_u128(50)) };
    assert_eq!(state.run(abort.clone()), Ok(Answer::Done));
    assert_eq!(state.run(abort), Err(Rejection::NoSuchUpload));
    assert_eq!((state.rows(key::Table::Part), state.rows(key::Table::DeadPart)), (0, 1));
    state.check();
}
