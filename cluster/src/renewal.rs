//! Certificates are renewed before they end, and it is known when they do.
//!
//! The node's own is issued anew every day, by the site's authority that every node opens with the root key;
//! that of the doors is read again when its file changes, or issued anew as well.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use benteng_host::{Host, Wall};
use benteng_keys::{SiteCa, Validity};
use benteng_meta::ids::NodeId;
use benteng_rpc::{MutualTls, TlsIdentity};

use crate::tls::{DoorCert, end_of, is_due, micros};

/// How long a node's certificate is valid.
const LIFE: Duration = Duration::from_secs(30 * 24 * 3600);
/// A peer whose clock is behind by less still accepts it.
const BACKDATE: Duration = Duration::from_secs(24 * 3600);
/// After which it is issued anew.
const RENEW_AFTER: Duration = Duration::from_secs(24 * 3600);
/// How often certificates are looked after.
const TURN: Duration = Duration::from_secs(60);

/// A certificate of the site's authority for node-to-node connections, and until when it is valid.
pub(crate) fn identity_of(ca: &SiteCa, me: NodeId, host: &Host) -> Result<(TlsIdentity, Wall)> {
    let now = host.clock.wall().0;
    let validity = Validity {
        from: Wall(now.saturating_sub(micros(BACKDATE))),
        until: Wall(now.saturating_add(micros(LIFE))),
    };
    let issued =
        ca.issue(me, &[], validity, host.random.as_ref()).context("cannot issue the node's certificate")?;
    let identity = TlsIdentity {
        ca_der: vec![ca.cert_der().to_vec()],
        cert_der: issued.cert_der.clone(),
        key_der: issued.key_der.to_vec(),
    };
    Ok((identity, validity.until))
}

/// Looks after all certificates of a node.
pub(crate) struct Renewal {
    ca: Arc<SiteCa>,
    me: NodeId,
    host: Host,
    secure: Arc<MutualTls>,
    doors: DoorCert,
    /// When the node's own was issued, and until when it is valid.
    issued: Wall,
    node_end: Wall,
    authority_end: Wall,
    /// The first end of all of them.
    end: Arc<AtomicI64>,
}

impl Renewal {
    /// Begins with certificates that were issued just now, by the clock of `host`.
    ///
    /// Errors: the authority's own certificate does not parse.
    pub(crate) fn new(
        ca: Arc<SiteCa>,
        me: NodeId,
        host: Host,
        secure: Arc<MutualTls>,
        doors: DoorCert,
    ) -> Result<Renewal> {
        let issued = host.clock.wall();
        let node_end = Wall(issued.0.saturating_add(micros(LIFE)));
        let authority_end = end_of(ca.cert_der())?;
        let end = Arc::new(AtomicI64::new(i64::MAX));
        let renewal = Renewal { ca, me, host, secure, doors, issued, node_end, authority_end, end };
        renewal.tell();
        Ok(renewal)
    }

    /// Where it says until when the first of them is valid.
    pub(crate) fn end(&self) -> Arc<AtomicI64> {
        self.end.clone()
    }

    /// Renews what is due, for good.
    pub(crate) async fn run(mut self) {
        loop {
            tokio::time::sleep(TURN).await;
            self.turn();
        }
    }

    fn turn(&mut self) {
        if let Err(error) = self.doors.refresh() {
            tracing::error!(error = format!("{error:#}"), "door certificates not renewed; the old ones stay");
        }
        let now = self.host.clock.wall();
        if is_due(self.issued, now, RENEW_AFTER) {
            let renewed = identity_of(&self.ca, self.me, &self.host).and_then(|(identity, end)| {
                self.secure.reload(&identity)?;
                Ok(end)
            });
            match renewed {
                Ok(end) => (self.issued, self.node_end) = (now, end),
                Err(error) => {
                    tracing::error!(
                        error = format!("{error:#}"),
                        "node certificate not renewed; the old one stays"
                    );
                }
            }
        }
        self.tell();
    }

    fn tell(&self) {
        let ends = [("node", self.node_end), ("door", self.doors.end()), ("authority", self.authority_end)];
        let now = self.host.clock.wall();
        for (certificate, end) in ends {
            let left = (end.0.saturating_sub(now.0) / 1_000_000) as f64;
            metrics::gauge!("benteng_certificate_expires_seconds", "certificate" => certificate).set(left);
        }
        let first = ends.iter().map(|(_, end)| end.0).min().unwrap_or(i64::MAX);
        self.end.store(first, Ordering::Relaxed);
    }
}
