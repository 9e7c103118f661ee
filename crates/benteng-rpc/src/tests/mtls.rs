//! Mutual TLS: wrong authority, wrong node, expired certificates are refused.

use benteng_host::Wall;
use benteng_keys::{RootKey, SiteCa, Validity};
use benteng_meta::ids::SiteId;

use super::*;
use crate::{Error, MutualTls, TlsIdentity};

fn site() -> SiteId {
    SiteId::from_random([7; 16])
}

struct Issuer {
    ca: SiteCa,
    now: Wall,
}

const DAY: i64 = 86_400 * 1_000_000;

impl Issuer {
    fn new(site: SiteId) -> Issuer {
        let host = real::host();
        let root = RootKey::generate(&*host.random);
        let now = host.clock.wall();
        let (ca, _) = SiteCa::generate(&root, site, now, &*host.random).unwrap();
        Issuer { ca, now }
    }

    fn issue(&self, node: NodeId, from: i64, until: i64) -> TlsIdentity {
        let validity =
            Validity { from: Wall(self.now.0 + from * DAY), until: Wall(self.now.0 + until * DAY) };
        let cert = self.ca.issue(node, &["127.0.0.1".to_owned()], validity, &*real::host().random).unwrap();
        TlsIdentity {
            ca_der: vec![self.ca.cert_der().to_vec()],
            cert_der: cert.cert_der,
            key_der: cert.key_der.to_vec(),
        }
    }

    fn good(&self, node: NodeId) -> TlsIdentity {
        self.issue(node, -1, 1)
    }
}

fn tls(identity: &TlsIdentity) -> Arc<MutualTls> {
    Arc::new(MutualTls::new(site(), real::host().clock, identity).unwrap())
}

/// `ME` with one identity calls `PEER` with another over real TCP.
async fn call(mine: Arc<MutualTls>, theirs: Arc<MutualTls>) -> crate::Result<Reply> {
    let rpc =
        |node, secure| Rpc::new(real::host(), node, secure, Arc::new(Answering(Answers::new())), limits());
    let (me, peer) = (rpc(ME, mine), rpc(PEER, theirs));
    let server = peer.listen("127.0.0.1:0").await.unwrap();
    me.set_peer(PEER, server.local_addr().to_owned());
    peer.set_peer(ME, String::new());
    let mut request = ask(method::ECHO, &[b"x"]);
    request.parts.push(Bytes::from(vec![3; 4 << 20]));
    me.call(PEER, Lane::Chunks, request, SOON).await
}

fn refused(result: &crate::Result<Reply>, what: &str) {
    assert!(matches!(result, Err(Error::Unreachable { .. })), "{what}: {result:?}");
}

#[tokio::test]
async fn nodes_of_one_site_talk_and_know_each_other() {
    let ca = Issuer::new(site());
    let reply = call(tls(&ca.good(ME)), tls(&ca.good(PEER))).await.unwrap();
    assert_eq!(reply.parts[2], "1 chunks 3 4", "the service is told the certified node");
    assert_eq!(reply.parts[1].len(), 4 << 20);
}

#[tokio::test]
async fn another_ca_is_refused_on_either_side() {
    let (ca, other) = (Issuer::new(site()), Issuer::new(site()));
    refused(&call(tls(&other.good(ME)), tls(&ca.good(PEER))).await, "client of another CA");
    refused(&call(tls(&ca.good(ME)), tls(&other.good(PEER))).await, "server of another CA");
    // Trusting the right CA is not enough: the certificate shown must be of it.
    let stranger = TlsIdentity { ca_der: ca.good(ME).ca_der, ..other.good(ME) };
    refused(&call(tls(&stranger), tls(&ca.good(PEER))).await, "client that shows another CA's certificate");
    let stranger = TlsIdentity { ca_der: ca.good(ME).ca_der, ..other.good(PEER) };
    refused(&call(tls(&ca.good(ME)), tls(&stranger)).await, "server that shows another CA's certificate");
}

#[tokio::test]
async fn another_node_id_is_refused_on_either_side() {
    let ca = Issuer::new(site());
    refused(&call(tls(&ca.good(ME)), tls(&ca.good(NodeId(3)))).await, "server that is node 3");
    refused(&call(tls(&ca.good(NodeId(3))), tls(&ca.good(PEER))).await, "client that is no peer");
}

#[tokio::test]
async fn another_site_is_refused_even_under_the_same_ca() {
    let (ca, abroad) = (Issuer::new(site()), Issuer::new(SiteId::from_random([8; 16])));
    let both = |mut identity: TlsIdentity| {
        identity.ca_der = vec![ca.ca.cert_der().to_vec(), abroad.ca.cert_der().to_vec()];
        tls(&identity)
    };
    refused(&call(both(abroad.good(ME)), both(ca.good(PEER))).await, "client of another site");
    refused(&call(both(ca.good(ME)), both(abroad.good(PEER))).await, "server of another site");
    assert!(call(both(ca.good(ME)), both(ca.good(PEER))).await.is_ok());
}

#[tokio::test]
async fn expired_and_future_certificates_are_refused() {
    let ca = Issuer::new(site());
    for (from, until, what) in [(-2, -1, "expired"), (1, 2, "not yet valid")] {
        refused(&call(tls(&ca.issue(ME, from, until)), tls(&ca.good(PEER))).await, what);
        refused(&call(tls(&ca.good(ME)), tls(&ca.issue(PEER, from, until))).await, what);
    }
}

#[tokio::test]
async fn a_reloaded_identity_counts_at_the_next_connection() {
    let ca = Issuer::new(site());
    let mine = tls(&ca.issue(ME, -2, -1));
    refused(&call(mine.clone(), tls(&ca.good(PEER))).await, "expired");
    mine.reload(&ca.good(ME)).unwrap();
    assert!(call(mine.clone(), tls(&ca.good(PEER))).await.is_ok());
    let broken = TlsIdentity { key_der: vec![1, 2, 3], ..ca.good(ME) };
    assert!(matches!(mine.reload(&broken), Err(Error::Identity { .. })));
    let mismatched = TlsIdentity { key_der: ca.good(ME).key_der, ..ca.good(ME) };
    assert!(matches!(mine.reload(&mismatched), Err(Error::Identity { .. })), "a key of another certificate");
    assert!(call(mine, tls(&ca.good(PEER))).await.is_ok(), "the old identity stays in use");
}

#[tokio::test]
async fn i5_a_plain_caller_gets_nothing_from_a_tls_server() {
    let ca = Issuer::new(site());
    let rpc = |node, secure: Arc<dyn crate::Secure>| {
        let limits = Limits { dial: Duration::from_secs(2), ..limits() };
        Rpc::new(real::host(), node, secure, Arc::new(Answering(Answers::new())), limits)
    };
    let (me, peer) = (rpc(ME, Arc::new(PlainHello::new(ME))), rpc(PEER, tls(&ca.good(PEER))));
    let server = peer.listen("127.0.0.1:0").await.unwrap();
    me.set_peer(PEER, server.local_addr().to_owned());
    peer.set_peer(ME, String::new());
    refused(&me.call(PEER, Lane::Unary, ask(method::ECHO, &[]), SOON).await, "a plain hello");
}
