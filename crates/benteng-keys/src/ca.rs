//! The site's own certificate authority (ECDSA P-256) and the certificates of its nodes.
//! Only the CA's private key is kept, wrapped under the root key; a node's key is made at
//! each issue and lives as long as its certificate.
//!
//! rcgen draws key pairs from ring's entropy, not from our seam: a simulated site has no
//! TLS. Serial numbers and wrapping come from the seam.

use std::time::Duration;

use benteng_host::{Random, Wall, random_array};
use benteng_meta::ids::{NodeId, SiteId};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, SerialNumber,
};
use serde::{Deserialize, Serialize};
use uuid::Uuid;
use zeroize::Zeroizing;

use crate::aead::{Cipher, NONCE};
use crate::error::{Error, Result};
use crate::unseal::RootKey;

const CA_VERSION: u8 = 1;
const NAME_END: &str = "benteng";
/// A clock that is late by less still accepts a new certificate.
const BACKDATE: Duration = Duration::from_secs(60 * 60);
const CA_LIFE: Duration = Duration::from_secs(20 * 365 * 24 * 60 * 60);
/// 9999-12-31T23:59:59Z, the last instant that X.509 can name.
const WALL_MAX: u64 = 253_402_300_799;

/// The name in a node's certificate that says who it is: `node-<id>.<site id>.benteng`.
pub fn node_name(node: NodeId, site: SiteId) -> String {
    format!("node-{node}.{site}.{NAME_END}")
}

/// Reads [`node_name`] back; `None` for any other name.
pub fn parse_node_name(name: &str) -> Option<(NodeId, SiteId)> {
    let (node, site) =
        name.strip_prefix("node-")?.strip_suffix(NAME_END)?.strip_suffix('.')?.split_once('.')?;
    let parsed = (node.parse().ok()?, SiteId(Uuid::try_parse(site).ok()?));
    // One spelling per identity: no leading zero or plus, no dashes, no capitals.
    (node_name(parsed.0, parsed.1) == name).then_some(parsed)
}

/// The CA as it is stored: its certificate, and its key under the root key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredCa {
    version: u8,
    site: SiteId,
    certificate: Vec<u8>,
    nonce: [u8; NONCE],
    /// PKCS#8 private key, ciphertext and tag.
    sealed_key: Vec<u8>,
}

/// How long a certificate is valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    /// Not before.
    pub from: Wall,
    /// Not after.
    pub until: Wall,
}

/// A certificate of a node and its private key.
pub struct NodeCert {
    /// The certificate, DER.
    pub cert_der: Vec<u8>,
    /// The private key, PKCS#8 DER, wiped on drop.
    pub key_der: Zeroizing<Vec<u8>>,
    /// The certificate, PEM.
    pub cert_pem: String,
    /// The private key, PEM, wiped on drop.
    pub key_pem: Zeroizing<String>,
}

/// The certificate authority of an unsealed site.
pub struct SiteCa {
    site: SiteId,
    certificate: Vec<u8>,
    issuer: Issuer<'static, KeyPair>,
}

fn bad(subject: &str, reason: &dyn std::fmt::Display) -> Error {
    Error::Certificate { subject: subject.to_string(), reason: reason.to_string() }
}

/// An X.509 instant; rcgen gives us its time type, so we need no other library.
macro_rules! instant {
    ($seconds:expr) => {
        rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(u64::min($seconds, WALL_MAX))
    };
}

fn seconds(at: Wall) -> u64 {
    u64::try_from(at.0 / 1_000_000).unwrap_or(0)
}

fn serial(random: &dyn Random) -> SerialNumber {
    let mut bytes: [u8; 16] = random_array(random);
    // Positive and of full length in DER.
    bytes[0] = bytes[0] & 0x7f | 0x40;
    SerialNumber::from_slice(&bytes)
}

fn key_pair(subject: &str) -> Result<KeyPair> {
    KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(|e| bad(subject, &e))
}

fn key_cipher(root: &RootKey, site: SiteId) -> (Cipher, Vec<u8>) {
    let mut aad = vec![CA_VERSION];
    aad.extend_from_slice(site.0.as_bytes());
    (Cipher::new(&root.derive("site CA", site.0.as_bytes())), aad)
}

impl SiteCa {
    /// Makes the CA of `site`, valid for 20 years from `now`, and its stored form.
    ///
    /// Errors: `Certificate`, if rcgen refuses.
    pub fn generate(
        root: &RootKey,
        site: SiteId,
        now: Wall,
        random: &dyn Random,
    ) -> Result<(SiteCa, StoredCa)> {
        let subject = format!("site {site}");
        let mut params = CertificateParams::default();
        params.distinguished_name = name(&format!("Benteng {subject}"));
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.serial_number = Some(serial(random));
        params.not_before = instant!(seconds(now).saturating_sub(BACKDATE.as_secs()));
        params.not_after = instant!(seconds(now).saturating_add(CA_LIFE.as_secs()));
        let pair = key_pair(&subject)?;
        let certificate = params.self_signed(&pair).map_err(|e| bad(&subject, &e))?.der().to_vec();

        let nonce = random_array(random);
        let (cipher, aad) = key_cipher(root, site);
        let mut sealed_key = pair.serialized_der().to_vec();
        let tag = cipher.seal(nonce, &aad, &mut sealed_key);
        sealed_key.extend_from_slice(&tag);
        let stored = StoredCa { version: CA_VERSION, site, certificate, nonce, sealed_key };
        Ok((SiteCa::open(root, &stored)?, stored))
    }

    /// Opens a stored CA.
    ///
    /// Errors: `Version`; `Unwrap` under another root key or when damaged; `Certificate`.
    pub fn open(root: &RootKey, stored: &StoredCa) -> Result<SiteCa> {
        if stored.version != CA_VERSION {
            return Err(Error::Version { what: "the site CA", version: stored.version, known: CA_VERSION });
        }
        let subject = format!("site {}", stored.site);
        let (cipher, aad) = key_cipher(root, stored.site);
        let mut key = Zeroizing::new(stored.sealed_key.clone());
        let key = cipher.open(stored.nonce, &aad, &mut key).map_err(|_| Error::Unwrap { what: "CA key" })?;
        let pair = KeyPair::try_from(&*key).map_err(|e| bad(&subject, &e))?;
        // The certificate lies beside the key in plain, so it is held against it here.
        let mut params = CertificateParams::default();
        params.distinguished_name = name(&format!("Benteng {subject}"));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let spki = rcgen::PublicKeyData::subject_public_key_info(&pair);
        if !contains(&stored.certificate, &spki) {
            return Err(bad(&subject, &"the stored certificate is not that of the stored key"));
        }
        let issuer = Issuer::new(params, pair);
        Ok(SiteCa { site: stored.site, certificate: stored.certificate.clone(), issuer })
    }

    /// The site.
    pub fn site(&self) -> SiteId {
        self.site
    }

    /// The CA's certificate, DER: what every node of the site trusts.
    pub fn cert_der(&self) -> &[u8] {
        &self.certificate
    }

    /// The CA's certificate, PEM.
    pub fn cert_pem(&self) -> String {
        pem(&self.certificate)
    }

    /// Issues a certificate for `node`, for both ends of a connection. `names` are further
    /// host names or IP addresses of it, for clients of its doors.
    ///
    /// Errors: `Certificate`, if a name is none or names another node, or the validity is empty.
    pub fn issue(
        &self,
        node: NodeId,
        names: &[String],
        validity: Validity,
        random: &dyn Random,
    ) -> Result<NodeCert> {
        let own = node_name(node, self.site);
        if let Some(foreign) = names.iter().find(|name| is_reserved(name)) {
            return Err(bad(&own, &format!("{foreign:?} would name a node; identities are not extra names")));
        }
        if validity.from >= validity.until {
            return Err(bad(&own, &"its validity is empty"));
        }
        let mut all = vec![own.clone()];
        all.extend_from_slice(names);
        let mut params = CertificateParams::new(all).map_err(|e| bad(&own, &e))?;
        params.distinguished_name = name(&own);
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        params.serial_number = Some(serial(random));
        params.not_before = instant!(seconds(validity.from));
        params.not_after = instant!(seconds(validity.until));
        let pair = key_pair(&own)?;
        let certificate = params.signed_by(&pair, &self.issuer).map_err(|e| bad(&own, &e))?;
        Ok(NodeCert {
            cert_der: certificate.der().to_vec(),
            key_der: Zeroizing::new(pair.serialize_der()),
            cert_pem: certificate.pem(),
            key_pem: Zeroizing::new(pair.serialize_pem()),
        })
    }
}

/// Whether a name lies where nodes' identities lie, in any spelling.
fn is_reserved(name: &str) -> bool {
    let name = name.trim_end_matches('.').to_ascii_lowercase();
    name == NAME_END || name.ends_with(".benteng")
}

fn name(common: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common);
    name
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len()).any(|window| window == needle)
}

/// PEM of a certificate: base64 in lines of 64 (RFC 7468).
fn pem(der: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(der.len() * 3 / 2 + 64);
    text.push_str("-----BEGIN CERTIFICATE-----\n");
    for line in der.chunks(48) {
        for group in line.chunks(3) {
            let byte = |i| u32::from(group.get(i).copied().unwrap_or(0));
            let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
            for i in 0..4 {
                let index = usize::try_from(bits >> (18 - 6 * i) & 63).expect("six bits");
                text.push(if i <= group.len() { char::from(ALPHABET[index]) } else { '=' });
            }
        }
        text.push('\n');
    }
    text.push_str("-----END CERTIFICATE-----\n");
    text
}

#[cfg(test)]
mod tests;
