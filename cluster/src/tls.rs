//! Certificates of the doors: files that are read again when they change, or ones that the
//! site's own authority issues and renews.

use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};
use benteng_host::{Clock, Host, Random, Wall};
use benteng_keys::{SiteCa, Validity};
use benteng_meta::ids::NodeId;
use rustls::ServerConfig;
use rustls::crypto::ring::sign::any_supported_type;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::config::Config;

/// How long a certificate that we issue is valid; a new one is issued after half of it.
const LIFE: Duration = Duration::from_secs(30 * 24 * 3600);
/// A clock of a client that is behind by less still accepts it.
const BACKDATE: Duration = Duration::from_secs(3600);
/// A clock that was set back by less is none that was set right.
const CLOCK_STEP: Duration = Duration::from_secs(60);

/// The certificate that the doors show; cheap to clone, changed under their feet.
#[derive(Clone)]
pub(crate) struct DoorCert {
    inner: Arc<Inner>,
}

struct Inner {
    source: Source,
    clock: Arc<dyn Clock>,
    shown: RwLock<Shown>,
}

struct Shown {
    key: Arc<CertifiedKey>,
    /// Files: when they were last changed.
    changed: Option<SystemTime>,
    /// Own issue: when that was.
    issued: Wall,
    /// Until when it is valid.
    end: Wall,
}

enum Source {
    Files { cert: PathBuf, key: PathBuf },
    Issued { ca: Arc<SiteCa>, node: NodeId, names: Vec<String>, random: Arc<dyn Random> },
}

impl DoorCert {
    /// The certificate as configured; without files, one of the site's authority for the advertised host.
    /// Validity is reckoned by the clock of `host`.
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
            // A door without an advertised host is reached as it listens.
            for listen in [&config.listen.s3, &config.listen.http, &config.listen.sql] {
                let host = listen.rsplit_once(':').map_or("", |(host, _)| host);
                let host = host.trim_start_matches('[').trim_end_matches(']');
                if !matches!(host, "" | "0.0.0.0" | "::") {
                    names.push(host.to_owned());
                }
            }
            names.sort();
            names.dedup();
            Source::Issued { ca, node, names, random: host.random.clone() }
        } else {
            Source::Files { cert: config.tls.cert_file.clone(), key: config.tls.key_file.clone() }
        };
        let clock = host.clock.clone();
        let shown = RwLock::new(source.read(clock.wall())?);
        Ok(DoorCert { inner: Arc::new(Inner { source, clock, shown }) })
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
        let (changed, issued) = {
            let shown = self.inner.shown.read().unwrap_or_else(PoisonError::into_inner);
            (shown.changed, shown.issued)
        };
        let now = self.inner.clock.wall();
        let due = match &self.inner.source {
            Source::Files { .. } => changed != Some(self.inner.source.changed()?),
            Source::Issued { .. } => is_due(issued, now, LIFE / 2),
        };
        if due {
            let fresh = self.inner.source.read(now)?;
            *self.inner.shown.write().unwrap_or_else(PoisonError::into_inner) = fresh;
        }
        Ok(due)
    }

    /// Until when the certificate is valid that is shown now.
    pub(crate) fn end(&self) -> Wall {
        self.inner.shown.read().unwrap_or_else(PoisonError::into_inner).end
    }
}

/// Whether a certificate of ours is issued anew: after `after`, or when the clock that it was issued by has
/// been set back since, before the beginning of its validity for all that we know.
pub(crate) fn is_due(issued: Wall, now: Wall, after: Duration) -> bool {
    now.0 < issued.0.saturating_sub(micros(CLOCK_STEP)) || now.0 >= issued.0.saturating_add(micros(after))
}

/// A duration in the unit of [`Wall`].
pub(crate) fn micros(d: Duration) -> i64 {
    i64::try_from(d.as_micros()).unwrap_or(i64::MAX)
}

/// Until when a certificate is valid.
///
/// Errors: it is none.
pub(crate) fn end_of(der: &[u8]) -> Result<Wall> {
    let parsed = X509Certificate::from_der(der);
    let (_, cert) = parsed.map_err(|error| anyhow::anyhow!("a certificate does not parse: {error}"))?;
    Ok(Wall(cert.validity().not_after.timestamp().saturating_mul(1_000_000)))
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

    fn read(&self, now: Wall) -> Result<Shown> {
        match self {
            Source::Files { cert, key } => {
                let changed = Some(self.changed()?);
                let certs =
                    CertificateDer::pem_file_iter(cert).and_then(Iterator::collect::<Result<Vec<_>, _>>);
                let certs =
                    certs.with_context(|| format!("tls.cert_file {} is no PEM chain", cert.display()))?;
                let private = PrivateKeyDer::from_pem_file(key)
                    .with_context(|| format!("tls.key_file {} is no PEM key", key.display()))?;
                let leaf = certs.first().context("tls.cert_file holds no certificate")?;
                let end = end_of(leaf)?;
                if end <= now {
                    tracing::error!(file = %cert.display(), "the certificate of the doors has expired; put a new one in its place");
                }
                Ok(Shown { key: certified(certs, &private)?, changed, issued: now, end })
            }
            Source::Issued { ca, node, names, random } => {
                let validity = Validity {
                    from: Wall(now.0.saturating_sub(micros(BACKDATE))),
                    until: Wall(now.0.saturating_add(micros(LIFE))),
                };
                let issued = ca
                    .issue(*node, names, validity, random.as_ref())
                    .context("cannot issue a certificate")?;
                let private = PrivateKeyDer::try_from(issued.key_der.as_slice())
                    .map_err(|e| anyhow::anyhow!("the issued key is unusable: {e}"))?;
                // The authority's own certificate goes with it: clients that know only its fingerprint can check.
                let chain =
                    vec![CertificateDer::from(issued.cert_der), CertificateDer::from(ca.cert_der().to_vec())];
                Ok(Shown {
                    key: certified(chain, &private)?,
                    changed: None,
                    issued: now,
                    end: validity.until,
                })
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
        assert!(files.end() > host.clock.wall(), "it says until when it is valid");
    }

    #[test]
    fn certificates_are_issued_anew_in_time_and_after_a_clock_was_set_right() {
        let day = Duration::from_secs(24 * 3600);
        let (issued, days) = (Wall(micros(100 * day)), |n: u32| Wall(micros(n * day)));
        assert!(!is_due(issued, days(100), day));
        assert!(!is_due(issued, Wall(issued.0 - 59_000_000), day), "a clock that is slewed");
        assert!(is_due(issued, days(101), day));
        assert!(is_due(issued, days(5000), day), "after a jump, without waiting for the turn of the day");
        assert!(is_due(issued, days(99), day), "what was issued at 2038 is not valid yet");
    }
}
