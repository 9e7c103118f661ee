//! Mutual TLS 1.3 under the site's own CA (I5): both ends prove to be a node of this site,
//! and which one. Membership is checked above, against the allow list.

use std::fmt::{self, Display};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use benteng_host::{Clock, Fut, Stream};
use benteng_keys::{node_name, parse_node_name};
use benteng_meta::ids::{NodeId, SiteId};
use rustls::client::Resumption;
use rustls::crypto::{CryptoProvider, ring};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::time_provider::TimeProvider;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use tokio_rustls::{TlsAcceptor, TlsConnector};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use crate::error::{Error, Result};
use crate::secure::Secure;

const ALPN: &[u8] = b"benteng-rpc/1";

/// What a node shows and trusts.
pub struct TlsIdentity {
    /// The site CA's certificates, DER: what is trusted. Two while a CA is replaced.
    pub ca_der: Vec<Vec<u8>>,
    /// The node's certificate, DER.
    pub cert_der: Vec<u8>,
    /// The node's private key, PKCS#8 DER. rustls keeps its own copy.
    pub key_der: Vec<u8>,
}

/// TLS 1.3 only, both sides with certificates of the site's CA, no resumption: a removed CA
/// or an expired certificate counts at the next connection.
pub struct MutualTls {
    site: SiteId,
    clock: Arc<dyn Clock>,
    configs: RwLock<Configs>,
}

#[derive(Clone)]
struct Configs {
    connector: TlsConnector,
    acceptor: TlsAcceptor,
}

/// The node's own clock, for validity periods.
struct WallTime(Arc<dyn Clock>);

impl fmt::Debug for WallTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WallTime")
    }
}

impl TimeProvider for WallTime {
    fn current_time(&self) -> Option<UnixTime> {
        let micros = u64::try_from(self.0.wall().0).ok()?;
        Some(UnixTime::since_unix_epoch(Duration::from_micros(micros)))
    }
}

fn unusable(why: impl Display) -> Error {
    Error::Identity { why: why.to_string() }
}

fn broken(peer: &dyn Display, why: &dyn Display) -> Error {
    Error::Handshake { peer: peer.to_string(), why: why.to_string() }
}

impl Configs {
    fn new(clock: &Arc<dyn Clock>, identity: &TlsIdentity) -> Result<Configs> {
        let provider: Arc<CryptoProvider> = Arc::new(ring::default_provider());
        let time = Arc::new(WallTime(clock.clone()));
        let mut roots = RootCertStore::empty();
        for ca in &identity.ca_der {
            roots.add(CertificateDer::from(ca.clone())).map_err(unusable)?;
        }
        let roots = Arc::new(roots);
        let chain = vec![CertificateDer::from(identity.cert_der.clone())];
        let key = || PrivateKeyDer::from(PrivatePkcs8KeyDer::from(identity.key_der.clone()));
        let only = &[&rustls::version::TLS13];

        let mut client = ClientConfig::builder_with_details(provider.clone(), time.clone())
            .with_protocol_versions(only)
            .map_err(unusable)?
            .with_root_certificates(roots.clone())
            .with_client_auth_cert(chain.clone(), key())
            .map_err(unusable)?;
        client.resumption = Resumption::disabled();
        client.alpn_protocols = vec![ALPN.to_vec()];

        let verifier =
            WebPkiClientVerifier::builder_with_provider(roots, provider.clone()).build().map_err(unusable)?;
        let mut server = ServerConfig::builder_with_details(provider, time)
            .with_protocol_versions(only)
            .map_err(unusable)?
            .with_client_cert_verifier(verifier)
            .with_single_cert(chain, key())
            .map_err(unusable)?;
        server.session_storage = Arc::new(NoServerSessionStorage {});
        server.send_tls13_tickets = 0;
        server.alpn_protocols = vec![ALPN.to_vec()];
        Ok(Configs { connector: Arc::new(client).into(), acceptor: Arc::new(server).into() })
    }
}

impl MutualTls {
    /// Speaks for a node of `site` with `identity`; `clock` judges validity periods.
    ///
    /// Errors: `Identity`, if a certificate or key does not parse or does not match.
    pub fn new(site: SiteId, clock: Arc<dyn Clock>, identity: &TlsIdentity) -> Result<MutualTls> {
        let configs = RwLock::new(Configs::new(&clock, identity)?);
        Ok(MutualTls { site, clock, configs })
    }

    /// Takes another identity for all later connections; those that stand stay.
    ///
    /// Errors: `Identity`; then the old one stays in use.
    pub fn reload(&self, identity: &TlsIdentity) -> Result<()> {
        let fresh = Configs::new(&self.clock, identity)?;
        *self.configs.write().unwrap_or_else(PoisonError::into_inner) = fresh;
        Ok(())
    }

    fn configs(&self) -> Configs {
        self.configs.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// The one node of `site` that a verified certificate names.
pub(crate) fn identity(site: SiteId, certificates: Option<&[CertificateDer<'_>]>) -> Result<NodeId> {
    let leaf =
        certificates.and_then(|chain| chain.first()).ok_or_else(|| broken(&"a node", &"no certificate"))?;
    let (_, leaf) = X509Certificate::from_der(leaf).map_err(|e| broken(&"a node", &e))?;
    let names = leaf.subject_alternative_name().map_err(|e| broken(&"a node", &e))?;
    let mut nodes = names.iter().flat_map(|names| &names.value.general_names).filter_map(|name| match name {
        GeneralName::DNSName(name) => parse_node_name(name),
        _ => None,
    });
    match (nodes.next(), nodes.next()) {
        (Some((node, of)), None) if of == site => Ok(node),
        (Some((node, of)), None) => Err(broken(&format!("node {node}"), &format!("it belongs to site {of}"))),
        (Some(_), Some(_)) => Err(broken(&"a node", &"its certificate names several nodes")),
        (None, _) => Err(broken(&"a node", &"its certificate names no node")),
    }
}

impl Secure for MutualTls {
    fn connect(&self, stream: Box<dyn Stream>, expect: NodeId) -> Fut<Result<Box<dyn Stream>>> {
        let site = self.site;
        let connector = self.configs().connector;
        Box::pin(async move {
            let name = ServerName::try_from(node_name(expect, site)).map_err(|e| broken(&expect, &e))?;
            let stream = connector.connect(name, stream).await.map_err(|e| broken(&expect, &e))?;
            let (_, session) = stream.get_ref();
            let who = identity(site, session.peer_certificates())?;
            // rustls has matched the name already; a certificate that names a second node is refused here.
            if who != expect || session.alpn_protocol() != Some(ALPN) {
                return Err(broken(&expect, &format!("node {who} answered, or another protocol")));
            }
            Ok(Box::new(stream) as Box<dyn Stream>)
        })
    }

    fn accept(&self, stream: Box<dyn Stream>) -> Fut<Result<(Box<dyn Stream>, NodeId)>> {
        let site = self.site;
        let acceptor = self.configs().acceptor;
        Box::pin(async move {
            let stream = acceptor.accept(stream).await.map_err(|e| broken(&"a caller", &e))?;
            let (_, session) = stream.get_ref();
            let who = identity(site, session.peer_certificates())?;
            if session.alpn_protocol() != Some(ALPN) {
                return Err(broken(&format!("node {who}"), &"it speaks another protocol"));
            }
            Ok((Box::new(stream) as Box<dyn Stream>, who))
        })
    }
}
