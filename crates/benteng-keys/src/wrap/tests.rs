//! Tests of `wrap`: round trips, golden bytes, every truncation and flipped bit.

#![allow(clippy::unwrap_used)] // a test's panic is its verdict

use benteng_host::real::SystemEntropy;
use proptest::prelude::*;
use uuid::Uuid;

use super::*;

struct Fixed(u8);

impl Random for Fixed {
    fn fill(&self, out: &mut [u8]) {
        out.fill(self.0);
    }
}

const V1: KekVersion = KekVersion(1);
const V2: KekVersion = KekVersion(2);

fn bucket(n: u128) -> BucketId {
    BucketId(Uuid::from_u128(n))
}

fn blob(n: u128) -> BlobId {
    BlobId(Uuid::from_u128(n))
}

fn keyring() -> Keyring {
    let ring = Keyring::new(RootKey::from_secret(SecretBytes32::new([7; 32])));
    for version in [V1, V2] {
        ring.load(version, &ring.generate_kek(version, &SystemEntropy::new())).unwrap();
    }
    ring
}

#[test]
fn keys_open_down_the_whole_hierarchy_after_a_restart() {
    let random = SystemEntropy::new();
    let root = RootKey::generate(&random);
    let ring = Keyring::new(root.clone());
    let kek = ring.generate_kek(V1, &random);
    assert_eq!(ring.newest(), None, "generating does not load: the command may lose");
    ring.load(V1, &kek).unwrap();
    let (bucket_key, wrapped_bucket) = ring.generate_bucket_key(V1, bucket(1), &random).unwrap();
    let (dek, wrapped_dek) = bucket_key.generate_dek(blob(1), &random);
    let sealed = dek.seal_inline(b"isi");

    let again = Keyring::new(root);
    again.load(V1, &WrappedKey::from_bytes(&kek.to_bytes()).unwrap()).unwrap();
    let bucket_key = again.open_bucket_key(bucket(1), &wrapped_bucket).unwrap();
    let dek = bucket_key.open_dek(blob(1), &wrapped_dek).unwrap();
    assert_eq!(dek.open_inline(&sealed).unwrap(), &b"isi"[..]);
}

#[test]
fn loading_twice_is_no_error_and_another_key_is() {
    let (ring, random) = (keyring(), SystemEntropy::new());
    let other = ring.generate_kek(V1, &random);
    assert_eq!(ring.load(V1, &other).err(), Some(Error::KekConflict { version: V1 }));
    let third = ring.generate_kek(KekVersion(3), &random);
    ring.load(KekVersion(3), &third).unwrap();
    ring.load(KekVersion(3), &third).unwrap();
    assert_eq!(ring.newest(), Some(KekVersion(3)));
    assert!(ring.load(KekVersion(4), &third).is_err(), "a KEK opens under its own version only");
}

#[test]
fn wrapped_keys_open_for_their_owner_only() {
    let (ring, random) = (keyring(), SystemEntropy::new());
    let (key, wrapped) = ring.generate_bucket_key(V1, bucket(1), &random).unwrap();
    assert_eq!(ring.open_bucket_key(bucket(2), &wrapped).err(), Some(Error::Unwrap { what: "bucket key" }));
    let (_, dek) = key.generate_dek(blob(1), &random);
    assert_eq!(key.open_dek(blob(2), &dek).err(), Some(Error::Unwrap { what: "data key" }));
    let (other, _) = ring.generate_bucket_key(V1, bucket(2), &random).unwrap();
    assert!(other.open_dek(blob(1), &dek).is_err());
    assert!(ring.open_bucket_key(bucket(1), &dek).is_err(), "a data key is no bucket key");
    let customer = BucketKey::of_customer(SecretBytes32::new([9; 32]));
    assert!(customer.open_dek(blob(1), &dek).is_err());
}

#[test]
fn rotation_only_rewraps_and_a_destroyed_version_opens_nothing() {
    let (ring, random) = (keyring(), SystemEntropy::new());
    let (key, old) = ring.generate_bucket_key(V1, bucket(1), &random).unwrap();
    let new = ring.rewrap(bucket(1), &old, V2, &random).unwrap();
    assert_eq!((old.under(), new.under()), (V1, V2));
    assert_eq!(old.check_value(), new.check_value(), "the same key lies inside");
    assert!(ring.open_bucket_key(bucket(1), &new).unwrap().key.same_as(&key.key));
    ring.forget(V1);
    assert_eq!(ring.open_bucket_key(bucket(1), &old).err(), Some(Error::UnknownKek { version: V1 }));
    assert!(ring.open_bucket_key(bucket(1), &new).is_ok());
}

#[test]
fn i4_every_flipped_bit_and_every_truncation_of_a_wrapped_key_is_refused() {
    let (ring, random) = (keyring(), SystemEntropy::new());
    let (key, _) = ring.generate_bucket_key(V1, bucket(1), &random).unwrap();
    let bytes = key.generate_dek(blob(1), &random).1.to_bytes();
    assert!(key.open_dek(blob(1), &WrappedKey::from_bytes(&bytes).unwrap()).is_ok());
    for bit in 0..bytes.len() * 8 {
        let mut bad = bytes.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        let opened = WrappedKey::from_bytes(&bad).and_then(|wrapped| key.open_dek(blob(1), &wrapped));
        assert!(opened.is_err(), "bit {bit}");
    }
    for len in 0..bytes.len() {
        assert!(WrappedKey::from_bytes(&bytes[..len]).is_err(), "cut to {len}");
    }
}

#[test]
fn wrapped_key_v1_is_golden() {
    let kek = SecretBytes32::new([1; 32]);
    let wrapped =
        wrap(&kek, &Owner::bucket(bucket(2), KekVersion(300)), &SecretBytes32::new([3; 32]), &Fixed(4));
    assert_eq!(
        hex::encode(wrapped.to_bytes()),
        "01ac020404040404040404040404047c502b237de7d6fb0ba1d18de561364804aab54c809d3820e156fd9ad9e1bd39ced336a4b082b2527076d43e8fa1b7ba432990ccdc835aa0"
    );
    let key = unwrap(&kek, &Owner::bucket(bucket(2), KekVersion(300)), &wrapped).unwrap();
    assert!(key.same_as(&SecretBytes32::new([3; 32])));
}

#[test]
fn part_keys_differ_by_part_attempt_and_salt() {
    let key = BucketKey::of_customer(SecretBytes32::new([9; 32]));
    let (dek, _) = key.generate_dek(blob(1), &Fixed(1));
    let base = dek.part_key(PartNumber(1), Attempt(1), &[0; 32]);
    assert_eq!(
        hex::encode(base.key.expose()) + &hex::encode(base.prefix),
        "0d830ed46ba7a16aedfb7ab00cb56fd97e8c0e00d81b573b3762860faafed37a65948327d607c3"
    );
    let mut salt = [0; 32];
    salt[31] = 1;
    for other in [
        dek.part_key(PartNumber(2), Attempt(1), &[0; 32]),
        dek.part_key(PartNumber(1), Attempt(2), &[0; 32]),
        dek.part_key(PartNumber(1), Attempt(1), &salt),
    ] {
        assert!(!other.key.same_as(&base.key));
        assert_ne!(other.prefix, base.prefix);
    }
}

#[test]
fn i4_inline_bodies_refuse_flips_cuts_and_other_blobs() {
    let key = BucketKey::of_customer(SecretBytes32::new([9; 32]));
    let (dek, _) = key.generate_dek(blob(1), &Fixed(1));
    let (other, _) = key.generate_dek(blob(2), &Fixed(1));
    let sealed = dek.seal_inline(b"body");
    assert_eq!(hex::encode(&sealed), "0100354ba5a48fddd3b49843462e5f26c03bc077e31663191101654e0a6ea241e0");
    assert_eq!(dek.open_inline(&sealed).unwrap(), &b"body"[..]);
    assert_eq!(
        other.open_inline(&sealed),
        Err(Error::Inline { blob: blob(2) }),
        "the same key, another blob"
    );
    for bit in 0..sealed.len() * 8 {
        let mut bad = sealed.to_vec();
        bad[bit / 8] ^= 1 << (bit % 8);
        assert!(dek.open_inline(&bad).is_err(), "bit {bit}");
    }
    for len in 0..sealed.len() {
        assert!(dek.open_inline(&sealed[..len]).is_err(), "cut to {len}");
    }
}

#[test]
fn k1_two_inline_bodies_under_one_key_share_no_nonce() {
    let (dek, _) = BucketKey::of_customer(SecretBytes32::new([9; 32])).generate_dek(blob(1), &Fixed(1));
    let nonce = |plain: &[u8]| dek.seal_inline(plain)[1..=NONCE].to_vec();
    assert_ne!(nonce(b"a"), nonce(b"b"));
    assert_ne!(nonce(b""), nonce(b"\0"));
}

proptest! {
    #[test]
    fn inline_bodies_survive(plain: Vec<u8>) {
        let (dek, _) = BucketKey::of_customer(SecretBytes32::new([9; 32])).generate_dek(blob(1), &Fixed(1));
        let sealed = dek.seal_inline(&plain);
        prop_assert_eq!(sealed.len(), plain.len() + Dek::INLINE_OVERHEAD);
        prop_assert_eq!(dek.open_inline(&sealed).unwrap(), plain);
    }

    #[test]
    fn garbage_is_refused_without_panic(bytes: Vec<u8>) {
        let (dek, _) = BucketKey::of_customer(SecretBytes32::new([9; 32])).generate_dek(blob(1), &Fixed(1));
        prop_assert!(dek.open_inline(&bytes).is_err());
        prop_assert!(WrappedKey::from_bytes(&bytes).is_err() || bytes.len() >= 70);
    }
}
