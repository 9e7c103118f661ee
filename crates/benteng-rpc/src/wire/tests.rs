//! The frame codec: round trips, golden bytes, truncations, garbage.

#![allow(clippy::unwrap_used)] // a test's panic is its verdict

use proptest::prelude::*;

use super::*;

fn parts() -> impl Strategy<Value = Vec<Bytes>> {
    // Around the length at which parts are no longer copied together.
    let part = prop_oneof![Just(0), 1..64_usize, COPY_MAX - 2..COPY_MAX + 3, Just(9_000)];
    let part = (part, any::<u8>()).prop_map(|(len, byte)| Bytes::from(vec![byte; len]));
    prop::collection::vec(part, 0..5)
}

fn request() -> impl Strategy<Value = Request> {
    (any::<u16>(), any::<u32>(), any::<u64>(), parts()).prop_map(|(method, group, epoch, parts)| Request {
        method,
        group: GroupId(group),
        epoch,
        parts,
    })
}

fn refusal() -> impl Strategy<Value = Refusal> {
    (any::<u16>(), ".{0,40}").prop_map(|(code, message)| Refusal { code, message })
}

fn message() -> impl Strategy<Value = Message> {
    let status = prop_oneof![Just(Status::Ok), any::<u16>().prop_map(Status::Refused)];
    let reply = (status, parts()).prop_map(|(status, parts)| Reply { status, parts });
    prop_oneof![
        request().prop_map(Message::Request),
        reply.prop_map(|reply| Message::Reply(Ok(reply))),
        refusal().prop_map(|refusal| Message::Reply(Err(refusal))),
        Just(Message::Ping),
        Just(Message::Pong),
        request().prop_map(Message::Open),
        parts().prop_map(Message::Data),
        Just(Message::End),
        refusal().prop_map(Message::Reset),
        any::<u32>().prop_map(Message::Window),
    ]
}

/// As the other side sees it: a stream's message arrives in one part.
fn arrived(message: Message) -> Message {
    match message {
        Message::Data(parts) => Message::Data(vec![parts.concat().into()]),
        other => other,
    }
}

fn encode(messages: &[(u64, Message)]) -> Vec<u8> {
    let mut out = Outgoing::default();
    for (id, message) in messages {
        message.check_fit().unwrap();
        out.push(*id, message);
    }
    out.seal();
    let mut bytes = Vec::new();
    while !out.is_empty() {
        let mut slices = [IoSlice::new(&[]); 3];
        let n = out.slices(&mut slices);
        // Writes less than offered, as a socket does.
        let offered: Vec<u8> = slices[..n].iter().flat_map(|slice| slice.to_vec()).collect();
        let written = offered.len().div_ceil(2);
        bytes.extend_from_slice(&offered[..written]);
        out.advance(written);
    }
    bytes
}

fn decode_all(bytes: &[u8], steps: &[usize]) -> std::result::Result<Vec<(u64, Message)>, Garbage> {
    let mut buffer = BytesMut::new();
    let mut got = Vec::new();
    let mut rest = bytes;
    let mut steps = steps.iter().copied().cycle();
    while !rest.is_empty() {
        let (now, later) = rest.split_at(steps.next().unwrap_or(1).clamp(1, rest.len()));
        buffer.extend_from_slice(now);
        rest = later;
        while let Some(frame) = decode(&mut buffer)? {
            got.push(frame);
        }
    }
    assert!(buffer.is_empty(), "bytes are left over");
    Ok(got)
}

proptest! {
    #[test]
    fn frames_survive_any_split(
        frames in prop::collection::vec((any::<u64>(), message()), 1..6),
        steps in prop::collection::vec(1..5_000_usize, 1..8),
    ) {
        let bytes = encode(&frames);
        let want: Vec<_> = frames.into_iter().map(|(id, message)| (id, arrived(message))).collect();
        prop_assert_eq!(decode_all(&bytes, &steps).unwrap(), want.clone());
        if bytes.len() < 3_000 {
            prop_assert_eq!(decode_all(&bytes, &[1]).unwrap(), want);
        }
    }

    #[test]
    fn garbage_never_panics(bytes: Vec<u8>, kind in 0..12_u8) {
        let mut buffer = BytesMut::from(&bytes[..]);
        while let Ok(Some(_)) = decode(&mut buffer) {}
        let _ = decode_body(kind, bytes.into());
    }
}

fn sample() -> Vec<(u64, Message)> {
    let parts = vec![Bytes::from_static(b"ab"), Bytes::new(), Bytes::from_static(b"cde")];
    let request = Request { method: 7, group: GroupId(1), epoch: 2, parts: parts.clone() };
    vec![
        (1, Message::Request(request.clone())),
        (1, Message::Reply(Ok(Reply { status: Status::Refused(5), parts }))),
        (1, Message::Reply(Err(Refusal::new(9, "no")))),
        (2, Message::Ping),
        (2, Message::Pong),
        (3, Message::Open(request)),
        (3, Message::Data(vec![Bytes::from_static(b"xyz")])),
        (3, Message::End),
        (3, Message::Reset(Refusal::new(0, ""))),
        (3, Message::Window(1 << 20)),
    ]
}

#[test]
fn no_truncation_and_no_flipped_bit_gives_a_message() {
    for (id, message) in sample() {
        let bytes = encode(&[(id, message)]);
        for len in 0..bytes.len() {
            assert_eq!(decode(&mut BytesMut::from(&bytes[..len])), Ok(None), "cut to {len}");
        }
        for bit in 0..bytes.len() * 8 {
            let mut bad = bytes.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            // A longer length waits for more bytes, whose checksum then fails.
            assert!(!matches!(decode(&mut BytesMut::from(&bad[..])), Ok(Some(_))), "bit {bit}");
        }
    }
}

#[test]
fn i7_a_frame_too_long_is_refused_before_room_is_made_for_it() {
    let mut header = [0; HEADER];
    header[..4].copy_from_slice(&u32::try_from(FRAME_MAX + 1).unwrap().to_be_bytes());
    header[8] = 1;
    let mut buffer = BytesMut::from(&header[..]);
    assert_eq!(decode(&mut buffer), Err(Garbage("frame too long")));
    assert!(buffer.capacity() < 4096);
}

#[test]
fn what_does_not_fit_is_refused_before_it_is_sent() {
    let big = Bytes::from(vec![0; FRAME_MAX]);
    assert!(matches!(check_fit(std::slice::from_ref(&big)), Err(Error::TooLarge { parts: 1, .. })));
    assert!(check_fit(&[big.slice(..FRAME_MAX - 64)]).is_ok());
    assert!(check_fit(&vec![Bytes::new(); PARTS_MAX + 1]).is_err());
    assert!(check_fit(&vec![Bytes::new(); PARTS_MAX]).is_ok());
}

#[test]
fn large_parts_are_not_copied_in_either_direction() {
    let chunk = Bytes::from(vec![7; 100_000]);
    let request = Request { method: 1, group: GroupId(0), epoch: 0, parts: vec![chunk.clone()] };
    let mut out = Outgoing::default();
    out.push(1, &Message::Request(request));
    out.seal();
    assert!(out.segments.iter().any(|segment| segment.as_ptr() == chunk.as_ptr()));

    let bytes: Vec<u8> = out.segments.iter().flat_map(|segment| segment.to_vec()).collect();
    let mut buffer = BytesMut::from(&bytes[..]);
    let range = buffer.as_ptr_range();
    let Ok(Some((1, Message::Request(got)))) = decode(&mut buffer) else { panic!("it was just encoded") };
    assert!(range.contains(&got.parts[0].as_ptr()), "the part is a slice of the read buffer");
}

#[test]
fn a_long_refusal_is_cut_at_a_character() {
    let refusal = Refusal::new(1, "é".repeat(MESSAGE_MAX));
    let bytes = encode(&[(1, Message::Reply(Err(refusal)))]);
    let Ok(Some((_, Message::Reply(Err(got))))) = decode(&mut BytesMut::from(&bytes[..])) else {
        panic!("a cut refusal is still one");
    };
    assert_eq!(got.message, "é".repeat(MESSAGE_MAX / 2));
}

#[test]
fn frame_format_v1_is_golden() {
    let hex: String = encode(&sample()).iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(
        hex,
        "000000219520a31e010000000000000000000001000700000001000000000000000200030000000200000000000000036162636465000000160a4705a602000000000000000000000101000500030000000200000000000000036162636465000000050aced2980200000000000000000000010200096e6f00000000f0d9964d03000000000000000000000200000000668cbadd04000000000000000000000200000021d765508905000000000000000000000300070000000100000000000000020003000000020000000000000003616263646500000003d5c4359f06000000000000000000000378797a00000000c775458e0700000000000000000000030000000247f4b08708000000000000000000000300000000000485c2be1409000000000000000000000300100000"
    );
}
