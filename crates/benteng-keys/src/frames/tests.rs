//! Tests of `frames`: round trips, golden bytes, every truncation and flipped bit.

#![allow(clippy::unwrap_used)] // a test's panic is its verdict

use std::collections::HashSet;

use benteng_host::real::SystemEntropy;
use proptest::prelude::*;
use uuid::Uuid;

use super::*;
use crate::secret::SecretBytes32;
use crate::wrap::{BucketKey, Dek};

const SALT: [u8; 32] = [6; 32];
const PART: PartNumber = PartNumber(1);
const ATTEMPT: Attempt = Attempt(0xfeed);

fn blob() -> BlobId {
    BlobId(Uuid::from_u128(0xb10b))
}

struct Fixed;

impl benteng_host::Random for Fixed {
    fn fill(&self, out: &mut [u8]) {
        out.fill(2);
    }
}

fn dek() -> Dek {
    BucketKey::of_customer(SecretBytes32::new([9; 32])).generate_dek(blob(), &Fixed).0
}

fn plain(len: usize) -> Bytes {
    // Repeats after 251 bytes, so shifted frames differ.
    (0..len).map(|i| u8::try_from(i % 251).expect("below 251")).collect::<Vec<_>>().into()
}

fn seal_as(body: &Bytes, part: PartNumber, attempt: Attempt, salt: &[u8; 32]) -> Vec<Sealed> {
    let mut sealer = Sealer::new(dek().part_key(part, attempt, salt), blob(), part, attempt);
    let chunks: Vec<_> = body.chunks(CHUNK_PLAIN).map(|chunk| body.slice_ref(chunk)).collect();
    let count = chunks.len();
    let seal = |(i, chunk)| sealer.seal_chunk([chunk], if i + 1 == count { Last::Yes } else { Last::No });
    chunks.into_iter().enumerate().map(seal).collect()
}

fn seal(body: &Bytes) -> Vec<Sealed> {
    seal_as(body, PART, ATTEMPT, &SALT)
}

fn opener(len: usize) -> Opener {
    Opener::new(dek().part_key(PART, ATTEMPT, &SALT), blob(), PART, ATTEMPT, len as u64)
}

fn read(opener: &Opener, chunks: &[Sealed], range: std::ops::Range<u64>) -> Vec<u8> {
    let mut out = Vec::new();
    for piece in opener.layout().pieces(range) {
        let bytes = chunks[piece.sequence as usize].bytes().slice(piece.cipher.clone());
        let plain = opener.open_frames(piece.sequence, piece.frames.start, bytes).expect("it was sealed so");
        out.extend_from_slice(&plain[piece.skip..piece.skip + piece.take]);
    }
    out
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn any_range_of_a_sealed_part_is_that_range_of_the_plaintext(
        len in prop_oneof![1..300_000_usize, CHUNK_PLAIN - 70_000..CHUNK_PLAIN + 70_000, Just(CHUNK_PLAIN), Just(FRAME_PLAIN)],
        a: prop::sample::Index,
        b: prop::sample::Index,
    ) {
        let body = plain(len);
        let chunks = seal(&body);
        let opener = opener(len);
        for (chunk, sequence) in chunks.iter().zip(0..) {
            prop_assert_eq!(chunk.bytes().len(), opener.layout().chunk_cipher(sequence));
            prop_assert!(frame_crcs_match(chunk.bytes(), &chunk.frame_crcs));
        }
        let (a, b) = (a.index(len), b.index(len));
        let (from, to) = (a.min(b), a.max(b) + 1);
        prop_assert_eq!(read(&opener, &chunks, from as u64..to as u64), &body[from..to]);
        prop_assert_eq!(read(&opener, &chunks, 0..len as u64), &body[..]);
    }

    #[test]
    fn pieces_of_any_size_seal_alike(cuts in prop::collection::vec(0..200_001_usize, 0..6)) {
        let body = plain(200_000);
        let mut cuts = cuts;
        cuts.extend([0, 200_000]);
        cuts.sort_unstable();
        let pieces: Vec<_> = cuts.windows(2).map(|w| body.slice(w[0].min(200_000)..w[1].min(200_000))).collect();
        let mut sealer = Sealer::new(dek().part_key(PART, ATTEMPT, &SALT), blob(), PART, ATTEMPT);
        let (cut, whole) = (sealer.seal_chunk(pieces, Last::Yes), seal(&body).remove(0));
        prop_assert_eq!(cut.bytes(), whole.bytes());
    }

    #[test]
    fn garbage_is_refused_without_panic(sequence: u32, frame: u32, bytes: Vec<u8>, len: u64) {
        let opener = Opener::new(dek().part_key(PART, ATTEMPT, &SALT), blob(), PART, ATTEMPT, len);
        prop_assert!(opener.open_frames(sequence, frame, bytes.clone().into()).is_err());
        prop_assert!(opener.open_frames(0, 0, bytes.into()).is_err());
    }
}

#[test]
fn opening_works_in_place_and_on_shared_bytes() {
    let body = plain(200_000);
    let sealed = seal(&body).remove(0).into_bytes();
    let shared = opener(200_000).open_frames(0, 0, sealed.clone()).unwrap();
    assert_eq!(shared, body);
    let address = sealed.as_ptr();
    let alone = opener(200_000).open_frames(0, 0, sealed).unwrap();
    assert_eq!(alone, body);
    assert_eq!(alone.as_ptr(), address, "the only handle is opened in place");
}

#[test]
fn i4_a_flipped_bit_anywhere_in_a_frame_is_refused() {
    let body = plain(FRAME_PLAIN + 3);
    let sealed = seal(&body).remove(0);
    let opener = opener(body.len());
    // Every bit of the short last frame, and a bit of every byte in the full first one's ends.
    let short = FRAME_CIPHER * 8..sealed.bytes().len() * 8;
    let ends = (0..64 * 8).chain((FRAME_CIPHER - 64) * 8..FRAME_CIPHER * 8);
    for bit in short.chain(ends) {
        let mut bad = sealed.bytes().to_vec();
        bad[bit / 8] ^= 1 << (bit % 8);
        assert!(!frame_crcs_match(&bad, &sealed.frame_crcs), "CRC misses bit {bit}");
        let frame = u32::from(bit / 8 >= FRAME_CIPHER);
        let want = Error::Frame { blob: blob(), sequence: 0, frame };
        assert_eq!(opener.open_frames(0, 0, bad.into()), Err(want), "bit {bit}");
    }
}

#[test]
fn i4_frames_of_another_place_are_refused() {
    let body = plain(CHUNK_PLAIN + 2 * FRAME_PLAIN);
    let len = body.len();
    let chunks = seal(&body);
    let opener = opener(len);
    let frame =
        |chunk: usize, n: usize| chunks[chunk].bytes().slice(n * FRAME_CIPHER..(n + 1) * FRAME_CIPHER);
    assert!(opener.open_frames(0, 1, frame(0, 1)).is_ok());
    assert!(opener.open_frames(0, 0, frame(0, 1)).is_err(), "reordered");
    assert!(opener.open_frames(0, 0, [frame(0, 0), frame(0, 2)].concat().into()).is_err(), "one dropped");
    assert!(opener.open_frames(0, 0, [frame(0, 0), frame(0, 0)].concat().into()).is_err(), "one doubled");
    assert!(opener.open_frames(0, 0, frame(1, 0)).is_err(), "of the next chunk");
    assert!(opener.open_frames(1, 0, frame(0, 0)).is_err(), "of the chunk before");
    let others = [
        ("part", seal_as(&body, PartNumber(2), ATTEMPT, &SALT)),
        ("attempt", seal_as(&body, PART, Attempt(1), &SALT)),
        ("salt", seal_as(&body, PART, ATTEMPT, &[7; 32])),
    ];
    for (what, other) in others {
        assert!(opener.open_frames(0, 0, other[0].bytes().clone()).is_err(), "of another {what}");
    }
    let key = dek().part_key(PART, ATTEMPT, &SALT);
    let other_blob = Opener::new(key, BlobId(Uuid::from_u128(1)), PART, ATTEMPT, len as u64);
    assert!(other_blob.open_frames(0, 0, frame(0, 0)).is_err(), "of another blob");
}

#[test]
fn i4_a_cut_part_is_refused() {
    let body = plain(3 * FRAME_PLAIN);
    let bytes = seal(&body).remove(0).into_bytes();
    let shorter = opener(2 * FRAME_PLAIN);
    assert!(shorter.open_frames(0, 0, bytes.slice(..2 * FRAME_CIPHER)).is_err(), "the last flag is missing");
    let longer = opener(4 * FRAME_PLAIN);
    assert!(longer.open_frames(0, 2, bytes.slice(2 * FRAME_CIPHER..)).is_err(), "the last flag is too early");
    let right = opener(body.len());
    for len in [0, 1, TAG, FRAME_CIPHER - 1, FRAME_CIPHER + 1, bytes.len() - 1] {
        assert!(right.open_frames(0, 0, bytes.slice(..len)).is_err(), "cut to {len}");
    }
    assert!(right.open_frames(0, 0, [&bytes[..], &[0; 17]].concat().into()).is_err(), "bytes behind the end");
}

#[test]
fn k2_the_frame_counter_never_restarts_at_a_chunk() {
    let key = dek().part_key(PART, ATTEMPT, &SALT);
    let frames = Frames::new(key, blob(), PART, ATTEMPT);
    let mut seen = HashSet::new();
    for sequence in 0..3 {
        for frame in 0..64 {
            let counter = counter(sequence, frame).expect("far from the end");
            assert_eq!(counter, sequence * 64 + frame);
            assert!(seen.insert(frames.nonce(counter, false)), "K2: a nonce comes twice");
        }
    }
    assert_eq!(counter(u32::MAX, 0), None);
    // And in the bytes: equal plaintext in two chunks gives different ciphertext.
    let zeros = Bytes::from(vec![0; 2 * CHUNK_PLAIN]);
    let chunks = seal(&zeros);
    assert_ne!(chunks[0].bytes()[..FRAME_CIPHER], chunks[1].bytes()[..FRAME_CIPHER]);
}

#[test]
#[should_panic(expected = "K2")]
fn k2_nothing_is_sealed_behind_the_last_chunk() {
    let mut sealer = Sealer::new(dek().part_key(PART, ATTEMPT, &SALT), blob(), PART, ATTEMPT);
    sealer.seal_chunk([plain(1)], Last::Yes);
    sealer.seal_chunk([plain(1)], Last::Yes);
}

#[test]
#[should_panic(expected = "K2")]
fn k2_a_short_chunk_ends_its_part() {
    Sealer::new(dek().part_key(PART, ATTEMPT, &SALT), blob(), PART, ATTEMPT).seal_chunk([plain(5)], Last::No);
}

#[test]
fn frame_format_v1_is_golden() {
    let sealed = seal(&Bytes::from_static(b"frame")).remove(0);
    assert_eq!(hex::encode(sealed.bytes()), "6ec55e4e6698506750c821343dea1de273cc3ec541");
    assert_eq!(sealed.frame_crcs, [crc32c(sealed.bytes())]);
    assert_eq!(crc32c(b"123456789"), 0xe306_9283, "the check value of CRC-32C");
    assert_eq!(sealed.chunk, ChunkId { blob: blob(), part: PART, attempt: ATTEMPT, sequence: 0 });
}

#[test]
fn fresh_salts_keep_attempts_of_equal_number_apart() {
    let random = SystemEntropy::new();
    let body = plain(100);
    let sealed = |salt| seal_as(&body, PART, ATTEMPT, &salt).remove(0).into_bytes();
    assert_ne!(sealed(benteng_host::random_array(&random)), sealed(benteng_host::random_array(&random)));
}
