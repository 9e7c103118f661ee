//! Certificates of the doors: files that are read again when they change, or ones that the
//! site's own authority issues and renews.

use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};
use benteng_host::{Host, Wall};
use benteng_keys::{SiteCa, Validity};
use benteng_meta::ids::NodeId;
use rustls::ServerConfig;
use rustls::crypto::ring::sign::any_supported_type;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use crate::config::Config;

/// How long a certificate that we issue is valid; a new one is issued after half of it.
const LIFE: Duration = Duration::from_secs(30 * 24 * 3600);
/// A clock of a client that is behind by less still accepts it.
const BACKDATE: Duration = Duration::from_secs(3600);

/// The certificate that the doors show; cheap to clone, changed under their feet.
#[derive(Clone)]
pub(crate) struct DoorCert {
    inner: Arc<Inner>,
}

struct Inner {
    source: Source,
    shown: RwLock<Shown>,
}

struct Shown {
    key: Arc<CertifiedKey>,
    /// Files: when they were last changed. Own issue: when it is due again.
    stamp: SystemTime,
}

enum Source {
    Files { cert: PathBuf, key: PathBuf },
    Issued { ca: Arc<SiteCa>, node: NodeId, names: Vec<String>, host: Host },
}

impl DoorCert {
    /// The certificate as configured; without files, one of the site's authority for the advertised host.
    pub(crate) fn new(config: &Config, ca: Arc<SiteCa>, node: NodeId, host: &Host) -> Result<DoorCert> {
        let source = if config.tls.cert_file.as_os_str().is_empty() {
            let mut names: Vec<String> = vec!["localhost".into(), "127.0.0.1".into(), "::1".into()];
            if !config.advertise.host.is_empty() {
                names.push(config.advertise.host.clone());
                names.extend(
                    config
                        .s3
                        .domains
                        .iter()
                        .filter(|d| *d != "localhost")
                        .flat_map(|d| [d.clone(), format!("*.{d}")]),
                );
            }
            names.sort();
            names.dedup();
            Source::Issued { ca, node, names, host: host.clone() }
        } else {
            Source::Files { cert: config.tls.cert_file.clone(), key: config.tls.key_file.clone() }
        };
        let shown = RwLock::new(source.read()?);
        Ok(DoorCert { inner: Arc::new(Inner { source, shown }) })
    }

    /// TLS for a door that listens on `listen`; `None` where doors speak plainly ([`Config::speaks_tls`]).
    pub(crate) fn server_config(&self, config: &Config, listen: &str) -> Option<Arc<ServerConfig>> {
        if !config.speaks_tls(listen) {
            return None;
        }
        let config = ServerConfig::builder().with_no_client_auth().with_cert_resolver(self.inner.clone());
        Some(Arc::new(config))
    }

    /// Reads changed files, or issues anew when due; called once a minute. On an error the old certificate stays.
    pub(crate) fn refresh(&self) -> Result<bool> {
        let stamp = self.inner.shown.read().unwrap_or_else(PoisonError::into_inner).stamp;
        let due = match &self.inner.source {
            Source::Files { .. } => self.inner.source.changed()? != stamp,
            Source::Issued { .. } => SystemTime::now() >= stamp,
        };
        if due {
            let fresh = self.inner.source.read()?;
            *self.inner.shown.write().unwrap_or_else(PoisonError::into_inner) = fresh;
        }
        Ok(due)
    }
}

impl Source {
    fn changed(&self) -> Result<SystemTime> {
        let Source::Files { cert, key } = self else { return Ok(SystemTime::now()) };
        let of = |path: &PathBuf| {
            let modified = std::fs::metadata(path).and_then(|meta| meta.modified());
            modified.with_context(|| format!("cannot read {}", path.display()))
        };
        Ok(of(cert)?.max(of(key)?))
    }

    fn read(&self) -> Result<Shown> {
        match self {
            Source::Files { cert, key } => {
                let stamp = self.changed()?;
                let certs =
                    CertificateDer::pem_file_iter(cert).and_then(Iterator::collect::<Result<Vec<_>, _>>);
                let certs =
                    certs.with_context(|| format!("tls.cert_file {} is no PEM chain", cert.display()))?;
                let private = PrivateKeyDer::from_pem_file(key)
                    .with_context(|| format!("tls.key_file {} is no PEM key", key.display()))?;
                Ok(Shown { key: certified(certs, &private)?, stamp })
            }
            Source::Issued { ca, node, names, host } => {
                let now = host.clock.wall();
                let shift = |by: Duration| i64::try_from(by.as_micros()).unwrap_or(i64::MAX);
                let validity = Validity {
                    from: Wall(now.0.saturating_sub(shift(BACKDATE))),
                    until: Wall(now.0.saturating_add(shift(LIFE))),
                };
                let issued = ca
                    .issue(*node, names, validity, host.random.as_ref())
                    .context("cannot issue a certificate")?;
                let private = PrivateKeyDer::try_from(issued.key_der.as_slice())
                    .map_err(|e| anyhow::anyhow!("the issued key is unusable: {e}"))?;
                // The authority's own certificate goes with it: clients that know only its fingerprint can check.
                let chain =
                    vec![CertificateDer::from(issued.cert_der), CertificateDer::from(ca.cert_der().to_vec())];
                Ok(Shown { key: certified(chain, &private)?, stamp: SystemTime::now() + LIFE / 2 })
            }
        }
    }
}

fn certified(chain: Vec<CertificateDer<'static>>, key: &PrivateKeyDer<'_>) -> Result<Arc<CertifiedKey>> {
    let signer =
        any_supported_type(key).context("the private key is of a kind that TLS here does not know")?;
    let certified = CertifiedKey::new(chain, signer);
    certified.keys_match().context("the private key does not belong to the certificate")?;
    Ok(Arc::new(certified))
}

impl ResolvesServerCert for Inner {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.shown.read().unwrap_or_else(PoisonError::into_inner).key.clone())
    }
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("DoorCert")
    }
}

#[cfg(test)]
mod tests {
    use benteng_host::real;
    use benteng_keys::RootKey;
    use benteng_meta::ids::SiteId;

    use super::*;

    #[tokio::test]
    async fn doors_show_an_issued_certificate_then_files_and_their_changes() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let host = real::host();
        let root = RootKey::generate(host.random.as_ref());
        let site = SiteId::from_random([1; 16]);
        let made = SiteCa::generate(&root, site, host.clock.wall(), host.random.as_ref());
        let ca = Arc::new(made.expect("an authority").0);
        let mut config = crate::config::parse("", &[]).expect("defaults are a configuration");
        config.advertise.host = "store.test".into();

        let issued = DoorCert::new(&config, ca.clone(), NodeId(1), &host).expect("issued");
        assert!(issued.server_config(&config, "127.0.0.1:1").is_none(), "plain on loopback");
        assert!(issued.server_config(&config, "0.0.0.0:1").is_some(), "TLS elsewhere");
        config.tls.loopback = true;
        assert!(issued.server_config(&config, "127.0.0.1:1").is_some(), "TLS on loopback where wanted");
        assert!(!issued.refresh().expect("not due"));

        let write = |name: &str| {
            let validity = Validity { from: Wall(0), until: Wall(i64::MAX) };
            let cert =
                ca.issue(NodeId(1), &[name.to_owned()], validity, host.random.as_ref()).expect("issue");
            std::fs::write(dir.path().join("cert.pem"), &cert.cert_pem).expect("write");
            std::fs::write(dir.path().join("key.pem"), cert.key_pem.as_bytes()).expect("write");
        };
        config.tls.cert_file = dir.path().join("cert.pem");
        config.tls.key_file = dir.path().join("key.pem");
        write("a.test");
        let files = DoorCert::new(&config, ca.clone(), NodeId(1), &host).expect("files");
        assert!(!files.refresh().expect("unchanged"));
        std::fs::write(dir.path().join("key.pem"), "nonsense").expect("write");
        assert!(files.refresh().is_err(), "a broken file is said, the old certificate stays");
        write("b.test");
        assert!(files.refresh().expect("changed"));
    }
}
