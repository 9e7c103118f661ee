//! The authority: what it issues is its own, for the node and time it says.

#![allow(clippy::unwrap_used)] // a test's panic is its verdict

use benteng_host::real::SystemEntropy;
use proptest::prelude::*;

use super::*;
use crate::secret::SecretBytes32;

const NOW: Wall = Wall(1_790_000_000_000_000);

fn site() -> SiteId {
    SiteId(Uuid::from_u128(0x517e))
}

fn root(byte: u8) -> RootKey {
    RootKey::from_secret(SecretBytes32::new([byte; 32]))
}

fn made() -> (SiteCa, StoredCa) {
    SiteCa::generate(&root(7), site(), NOW, &SystemEntropy::new()).unwrap()
}

fn year() -> Validity {
    Validity { from: NOW, until: Wall(NOW.0 + 365 * 86_400 * 1_000_000) }
}

#[test]
fn a_stored_ca_opens_under_its_root_only() {
    let (ca, stored) = made();
    let bytes = postcard::to_stdvec(&stored).unwrap();
    let read: StoredCa = postcard::from_bytes(&bytes).unwrap();
    assert_eq!(read, stored);
    let again = SiteCa::open(&root(7), &read).unwrap();
    assert_eq!((again.cert_der(), again.site()), (ca.cert_der(), site()));
    assert_eq!(SiteCa::open(&root(8), &read).err(), Some(Error::Unwrap { what: "CA key" }));
    let plain = ca.issuer.key().serialized_der();
    // Where ring's PKCS#8 has the private scalar; the public point behind it is no secret.
    assert!(!contains(&bytes, &plain[36..68]), "I5: the private key is not stored in plain");
}

#[test]
fn i4_a_changed_stored_ca_is_refused() {
    let (_, stored) = made();
    for at in 0..stored.sealed_key.len() {
        let mut bad = stored.clone();
        bad.sealed_key[at] ^= 1;
        assert!(SiteCa::open(&root(7), &bad).is_err(), "key byte {at}");
    }
    let (_, other) = made();
    let swapped = StoredCa { certificate: other.certificate, ..stored.clone() };
    assert!(matches!(SiteCa::open(&root(7), &swapped), Err(Error::Certificate { .. })));
    let moved = StoredCa { site: SiteId(Uuid::from_u128(1)), ..stored.clone() };
    assert!(SiteCa::open(&root(7), &moved).is_err());
    let newer = StoredCa { version: 2, ..stored };
    assert!(matches!(SiteCa::open(&root(7), &newer), Err(Error::Version { version: 2, .. })));
}

#[test]
fn node_certificates_carry_the_name_and_differ_at_each_issue() {
    let (ca, _) = made();
    let random = SystemEntropy::new();
    let names = ["gudang-1.kota.id".to_owned(), "10.0.0.7".to_owned()];
    let one = ca.issue(NodeId(3), &names, year(), &random).unwrap();
    let two = ca.issue(NodeId(3), &names, year(), &random).unwrap();
    assert_ne!(*one.key_der, *two.key_der);
    assert!(contains(&one.cert_der, node_name(NodeId(3), site()).as_bytes()));
    assert!(contains(&one.cert_der, b"gudang-1.kota.id"));
    assert!(contains(&one.cert_der, &[10, 0, 0, 7]));
    assert!(one.cert_pem.starts_with("-----BEGIN CERTIFICATE-----"));
    assert!(one.key_pem.starts_with("-----BEGIN PRIVATE KEY-----"));
}

#[test]
fn our_pem_is_what_the_library_writes() {
    let (ca, _) = made();
    let node = ca.issue(NodeId(3), &[], year(), &SystemEntropy::new()).unwrap();
    assert_eq!(pem(&node.cert_der), node.cert_pem.replace("\r\n", "\n"));
    assert!(ca.cert_pem().ends_with("-----END CERTIFICATE-----\n"));
    assert_eq!(pem(b"a"), "-----BEGIN CERTIFICATE-----\nYQ==\n-----END CERTIFICATE-----\n");
    assert_eq!(pem(b"ab"), "-----BEGIN CERTIFICATE-----\nYWI=\n-----END CERTIFICATE-----\n");
}

#[test]
fn a_certificate_never_names_a_second_node() {
    let (ca, _) = made();
    for name in ["node-1.abc.benteng", "NODE-1.X.BENTENG", "benteng", "x.benteng."] {
        let issued = ca.issue(NodeId(3), &[name.to_owned()], year(), &SystemEntropy::new());
        assert!(matches!(issued, Err(Error::Certificate { .. })), "{name}");
    }
    let empty = Validity { from: NOW, until: NOW };
    assert!(ca.issue(NodeId(3), &[], empty, &SystemEntropy::new()).is_err());
}

#[test]
fn instants_beyond_x509_are_cut_and_do_not_panic() {
    let forever = Validity { from: Wall(i64::MIN), until: Wall(i64::MAX) };
    let (ca, _) = made();
    assert!(ca.issue(NodeId(3), &[], forever, &SystemEntropy::new()).is_ok());
    assert!(SiteCa::generate(&root(7), site(), Wall(i64::MAX), &SystemEntropy::new()).is_ok());
}

proptest! {
    #[test]
    fn node_names_read_back(node: u64, site: u128) {
        let (node, site) = (NodeId(node), SiteId(Uuid::from_u128(site)));
        let name = node_name(node, site);
        prop_assert_eq!(parse_node_name(&name), Some((node, site)));
        prop_assert_eq!(parse_node_name(&name.to_ascii_uppercase()), None);
        prop_assert_eq!(parse_node_name(&name.replacen("node-", "node-0", 1)), None);
        prop_assert_eq!(parse_node_name(&name.replacen("node-", "node-+", 1)), None);
    }

    #[test]
    fn other_names_are_no_nodes(name: String) {
        prop_assert_eq!(parse_node_name(&name), None);
    }
}
