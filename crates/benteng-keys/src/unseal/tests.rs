//! Tests of `unseal`: round trips, golden bytes, every truncation and flipped bit.

#![allow(clippy::unwrap_used)] // a test's panic is its verdict

use benteng_host::real::SystemEntropy;
use proptest::prelude::*;

use super::*;

/// Cheap, for tests alone.
const CHEAP: Cost = Cost { memory_kib: 64, passes: 1, lanes: 1 };

struct Fixed;

impl Random for Fixed {
    fn fill(&self, out: &mut [u8]) {
        out.fill(5);
    }
}

fn root(byte: u8) -> RootKey {
    RootKey::from_secret(SecretBytes32::new([byte; 32]))
}

const FILE: &str = "benteng-root-key v1\n\
    0707070707070707070707070707070707070707070707070707070707070707\n\
    check 655a7478cff4e2a101b6176262fe1efe\n";

#[test]
fn key_file_is_golden_and_reads_back() {
    assert_eq!(root(7).to_file_text().as_str(), FILE);
    let back = RootKey::from_file_text(FILE).expect("it was just written");
    assert!(back.secret().same_as(root(7).secret()));
    let windows = FILE.replace('\n', "\r\n");
    assert!(RootKey::from_file_text(&windows).is_ok(), "an editor's line ends do no harm");
}

#[test]
fn every_changed_or_cut_key_file_is_refused() {
    for at in 0..FILE.len() {
        let mut bytes = FILE.as_bytes().to_vec();
        bytes[at] ^= 1;
        let text = String::from_utf8(bytes).expect("ASCII stays ASCII");
        // A line end may turn into another blank; the key itself never changes.
        if let Ok(read) = RootKey::from_file_text(&text) {
            assert!(read.secret().same_as(root(7).secret()), "byte {at}");
            assert!(FILE.as_bytes()[at].is_ascii_whitespace(), "byte {at}");
        }
    }
    for len in 0..FILE.len() - 1 {
        assert!(RootKey::from_file_text(&FILE[..len]).is_err(), "cut to {len}");
    }
    assert!(RootKey::from_file_text(&format!("{FILE}more\n")).is_err());
}

#[test]
fn purposes_and_contexts_give_independent_keys() {
    let root = root(7);
    let keys = [
        root.derive("ab", b"c"),
        root.derive("a", b"bc"),
        root.derive("ab", b""),
        root.derive("", b"abc"),
        RootKey::from_secret(SecretBytes32::new([8; 32])).derive("ab", b"c"),
    ];
    for (i, a) in keys.iter().enumerate() {
        for b in &keys[i + 1..] {
            assert!(!a.same_as(b));
        }
    }
    assert!(root.derive("ab", b"c").same_as(&keys[0]));
    assert_eq!(
        hex::encode(keys[0].expose()),
        "c350b5aca8cb3090b3bf274094f2d0aa7e92d42cdc0d279a1df558ad1de8e06b",
        "a change would lose every stored byte"
    );
}

#[test]
fn generated_roots_differ() {
    let random = SystemEntropy::new();
    assert_ne!(RootKey::generate(&random).check_value(), RootKey::generate(&random).check_value());
}

#[test]
fn a_passphrase_opens_what_it_sealed_and_no_other_does() {
    let sealed = SealedRoot::seal(&root(7), "empat kata yang acak", &SystemEntropy::new(), CHEAP).unwrap();
    assert_eq!(sealed.check_value(), root(7).check_value());
    assert!(sealed.open("empat kata yang acak").unwrap().secret().same_as(root(7).secret()));
    assert_eq!(sealed.open("empat kata yang acak ").err(), Some(Error::WrongPassphrase));
    assert_eq!(sealed.open("").err(), Some(Error::WrongPassphrase));
}

#[test]
fn the_default_cost_is_64_mib_three_passes() {
    let cost = Cost::default();
    assert_eq!((cost.memory_kib, cost.passes, cost.lanes), (65_536, 3, 1));
    let sealed = SealedRoot::seal(&root(7), "x", &Fixed, cost).unwrap();
    assert!(sealed.open("x").is_ok());
}

#[test]
fn absurd_costs_are_refused_not_paid() {
    for cost in [
        Cost { memory_kib: u32::MAX, passes: 1, lanes: 1 },
        Cost { memory_kib: 64, passes: u32::MAX, lanes: 1 },
        Cost { memory_kib: 0, passes: 1, lanes: 1 },
        Cost { memory_kib: 64, passes: 1, lanes: 0 },
    ] {
        assert!(matches!(SealedRoot::seal(&root(7), "x", &Fixed, cost), Err(Error::Cost { .. })), "{cost:?}");
    }
}

#[test]
fn sealed_root_v1_is_golden() {
    let sealed = SealedRoot::seal(&root(7), "kata sandi", &Fixed, CHEAP).unwrap();
    assert_eq!(
        sealed.to_text(),
        "benteng-sealed-root v1\n0140010105050505050505050505050505050505050505050505050505050505738ba242281d29a33b4419a2b030a4a880d7dee7dd878381b0d1d99609a091c04b2fcac09d6d743e22822f7d87d33034655a7478cff4e2a101b6176262fe1efe\n"
    );
    let read = SealedRoot::from_text(&sealed.to_text()).unwrap();
    assert_eq!(read, sealed);
    assert!(read.open("kata sandi").is_ok());
}

#[test]
fn every_changed_or_cut_sealed_root_is_refused() {
    let bytes = SealedRoot::seal(&root(7), "x", &Fixed, CHEAP).unwrap().to_bytes();
    for bit in 0..bytes.len() * 8 {
        let mut bad = bytes.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        let opened = SealedRoot::from_bytes(&bad).and_then(|sealed| {
            // A flipped cost may ask for gigabytes; it is another cost, and that is enough.
            if sealed.cost != CHEAP { Err(Error::WrongPassphrase) } else { sealed.open("x") }
        });
        assert!(opened.is_err(), "bit {bit}");
    }
    for len in 0..bytes.len() {
        assert!(SealedRoot::from_bytes(&bytes[..len]).is_err(), "cut to {len}");
    }
    assert!(SealedRoot::from_bytes(&[&bytes[..], &[0]].concat()).is_err());
}

proptest! {
    #[test]
    fn garbage_is_refused_without_panic(bytes: Vec<u8>, text: String) {
        prop_assert!(SealedRoot::from_bytes(&bytes).is_err());
        prop_assert!(SealedRoot::from_text(&text).is_err());
        prop_assert!(RootKey::from_file_text(&text).is_err());
    }
}
