//! Tests of `values`: round trips, golden bytes, every truncation and flipped bit.

#![allow(clippy::unwrap_used)] // a test's panic is its verdict

use benteng_host::random_array;
use benteng_host::real::SystemEntropy;
use proptest::prelude::*;
use std::collections::HashSet;
use uuid::Uuid;

use super::*;

fn root() -> RootKey {
    RootKey::from_secret(SecretBytes32::new([7; 32]))
}

fn store(n: u128) -> StoreId {
    StoreId(Uuid::from_u128(n))
}

fn sealer(number: u32, salt: [u8; 32]) -> ValueSealer {
    ValueSealer::new(&root(), store(1), "state", number, salt)
}

fn opener(salts: &[(u32, [u8; 32])]) -> ValueOpener {
    let opener = ValueOpener::new(&root(), store(1), "state");
    for (number, salt) in salts {
        opener.add(*number, salt);
    }
    opener
}

proptest! {
    #[test]
    fn values_survive_under_their_key(key: Vec<u8>, plain: Vec<u8>, repeats in 1..200_usize) {
        let (sealer, opener) = (sealer(3, [1; 32]), opener(&[(3, [1; 32])]));
        for plain in [plain.clone(), plain.repeat(repeats)] {
            let sealed = sealer.seal(&key, &plain);
            prop_assert!(sealed.len() <= plain.len() + VALUE_OVERHEAD);
            prop_assert_eq!(opener.open(&key, &sealed).unwrap(), plain);
            let other = [&key[..], b"x"].concat();
            prop_assert_eq!(opener.open(&other, &sealed), Err(Error::Value { len: sealed.len() }));
        }
    }

    #[test]
    fn garbage_is_refused_without_panic(bytes: Vec<u8>) {
        prop_assert!(opener(&[(0, [1; 32]), (3, [1; 32])]).open(b"key", &bytes).is_err());
    }

    #[test]
    fn unpacking_garbage_never_panics(bytes: Vec<u8>) {
        let _ = unpack(bytes);
    }
}

#[test]
fn i4_every_flipped_bit_and_every_truncation_is_refused() {
    let opener = opener(&[(3, [1; 32])]);
    for plain in [&b"short"[..], &[b'a'; 500]] {
        let sealed = sealer(3, [1; 32]).seal(b"key", plain);
        assert!(opener.open(b"key", &sealed).is_ok());
        for bit in 0..sealed.len() * 8 {
            let mut bad = sealed.to_vec();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(opener.open(b"key", &bad).is_err(), "bit {bit}");
        }
        for len in 0..sealed.len() {
            assert!(opener.open(b"key", &sealed[..len]).is_err(), "cut to {len}");
        }
    }
}

#[test]
fn k1_nonces_count_from_zero_within_a_salt_and_never_come_twice() {
    let sealer = sealer(3, [1; 32]);
    let nonces: Vec<_> = (0..100).map(|_| sealer.seal(b"key", b"plain")[5..17].to_vec()).collect();
    assert_eq!(nonces[0], [0; 12]);
    assert_eq!(nonces.iter().collect::<HashSet<_>>().len(), 100, "K1: a nonce comes twice");
}

#[test]
fn k1_processes_with_fresh_salts_share_no_key() {
    // The same root, store, counter and plaintext: as a replay of the log after a crash.
    let random = SystemEntropy::new();
    let (a, b) = (random_array(&random), random_array(&random));
    let (first, second) = (sealer(1, a).seal(b"key", b"plain"), sealer(2, b).seal(b"key", b"plain"));
    assert_eq!(first[5..17], second[5..17], "the counters are equal");
    assert_ne!(first[17..], second[17..], "K1: two processes under one key and nonce");
    let opener = opener(&[(1, a), (2, b)]);
    assert_eq!(opener.open(b"key", &first).unwrap(), opener.open(b"key", &second).unwrap());
    assert!(opener.open(b"key", &sealer(2, a).seal(b"key", b"plain")).is_err(), "the number names the key");
    assert_eq!(opener.open(b"key", &sealer(9, a).seal(b"key", b"")), Err(Error::UnknownSalt { number: 9 }));
}

#[test]
fn k1_stores_and_purposes_share_no_key() {
    let sealed = sealer(3, [1; 32]).seal(b"key", b"plain");
    for (id, purpose) in [(2, "state"), (1, "other")] {
        let other = ValueOpener::new(&root(), store(id), purpose);
        other.add(3, &[1; 32]);
        assert!(other.open(b"key", &sealed).is_err(), "{id} {purpose}");
    }
}

#[test]
fn values_that_compress_are_smaller_and_others_stay_as_they_are() {
    let sealer = sealer(3, [1; 32]);
    assert!(sealer.seal(b"", &[b'a'; 4096]).len() < 200);
    let mut noise = vec![0; 4096];
    benteng_host::Random::fill(&SystemEntropy::new(), &mut noise);
    assert_eq!(sealer.seal(b"", &noise).len(), noise.len() + VALUE_OVERHEAD);
}

#[test]
fn value_format_v1_is_golden() {
    let sealer = sealer(0x0102_0304, [1; 32]);
    assert_eq!(
        hex::encode(sealer.seal(b"key", b"value")),
        "01010203040000000000000000000000009b21bf919469b22c1f187a3f3164c38e03a49ed1053d"
    );
    // Opened, not compared: another release of LZ4 may pack the same bytes in another way.
    let packed = "0101020304000000000000000000000001a2e7cd30236837ad71be41bb048c26ec37501ae5d42080441b12d5a423fcf97279";
    let opener = opener(&[(0x0102_0304, [1; 32])]);
    assert_eq!(opener.open(b"key", &hex::decode(packed).unwrap()).unwrap(), &[b'a'; 100][..]);
}
