//! The endpoint under load: where it is, as whom, and what is stored there.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use http::Method;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use zeroize::Zeroizing;

use super::S3Args;
use super::sign::{Signer, encode};
use super::wire::{Connection, Request};
use crate::cli::Global;
use crate::client::site_variables;

/// One address of the endpoint.
pub(crate) struct Address {
    /// As `Host:` has it.
    pub(crate) authority: String,
    pub(crate) host: String,
    pub(crate) port: u16,
    /// Name that its certificate must bear; `None`: plain HTTP.
    pub(crate) tls: Option<ServerName<'static>>,
}

/// The endpoint.
pub(crate) struct Target {
    pub(crate) addresses: Vec<Address>,
    pub(crate) signer: Signer,
    pub(crate) bucket: String,
    /// For addresses that speak TLS.
    pub(crate) tls: tokio_rustls::TlsConnector,
}

impl Target {
    /// From the command line and the environment.
    ///
    /// Errors: usage, with what is missing.
    pub(crate) fn find(global: &Global, args: &S3Args) -> Result<Target> {
        let variables = site_variables(global)?;
        let need = |name: &str| {
            let found = variables.get(name).filter(|value| !value.is_empty()).cloned();
            found.ok_or_else(|| crate::usage(&format!("set {name}, or give --site FILE")))
        };
        let endpoints = match args.endpoints.as_slice() {
            [] => vec![need("AWS_ENDPOINT_URL")?],
            given => given.to_vec(),
        };
        let secret = Zeroizing::new(need("AWS_SECRET_ACCESS_KEY")?);
        let region = need("AWS_REGION").unwrap_or_else(|_| "us-east-1".to_owned());
        let addresses = endpoints.iter().map(|url| Address::parse(url)).collect::<Result<Vec<_>>>()?;
        if args.bucket.is_empty() || args.bucket.contains('/') {
            return Err(crate::usage("--bucket takes the name of a bucket"));
        }
        Ok(Target {
            addresses,
            signer: Signer::new(need("AWS_ACCESS_KEY_ID")?, secret, region),
            bucket: args.bucket.clone(),
            tls: connector(global.ca.as_deref())?,
        })
    }

    /// The path of a key.
    pub(crate) fn path(&self, key: &str) -> String {
        format!("/{}/{}", self.bucket, encode(key, b"/"))
    }

    async fn ask(&self, method: Method, path: &str, query: &str) -> Result<(u16, Bytes)> {
        let address = self.addresses.first().context("no endpoint")?;
        let mut connection = Connection::new(address, self);
        let request = Request { method, path, query, body: Bytes::new(), payload: super::sign::sha256(b"") };
        let mut text = Vec::new();
        let status = connection.send(request, &mut |piece| text.extend_from_slice(piece)).await;
        let status = status.with_context(|| format!("no answer from {}", address.authority))?;
        Ok((status, text.into()))
    }

    /// Makes the bucket unless it is there.
    pub(crate) async fn make_bucket(&self) -> Result<()> {
        let path = format!("/{}", self.bucket);
        let (status, _) = self.ask(Method::HEAD, &path, "").await?;
        if status == 200 {
            return Ok(());
        }
        let (status, text) = self.ask(Method::PUT, &path, "").await?;
        if status != 200 && status != 409 {
            bail!("bucket {} cannot be made: {status} {}", self.bucket, String::from_utf8_lossy(&text));
        }
        Ok(())
    }

    /// How many keys `PREFIX` + number are there without a gap: what an earlier run with `--keep` left.
    pub(crate) async fn count(&self, prefix: &str) -> Result<u64> {
        let there = async |number: u64| {
            let (status, _) =
                self.ask(Method::HEAD, &self.path(&super::worker::key(prefix, number)), "").await?;
            Ok::<bool, anyhow::Error>(status == 200)
        };
        let mut high = 1;
        while high < 1 << 40 && there(high - 1).await? {
            high *= 2;
        }
        let (mut low, mut high) = (high / 2, high - 1);
        while low < high {
            let middle = low + (high - low) / 2;
            if there(middle).await? { low = middle + 1 } else { high = middle }
        }
        Ok(low)
    }
}

impl Address {
    fn parse(url: &str) -> Result<Address> {
        let parsed = reqwest::Url::parse(url).ok();
        let parsed = parsed.filter(|url| matches!(url.scheme(), "http" | "https") && url.path() == "/");
        let parsed = parsed.ok_or_else(|| crate::usage(&format!("{url:?} is not the URL of an endpoint")))?;
        let host = parsed.host_str().context("a URL of http has a host")?.to_owned();
        let port = parsed.port_or_known_default().context("http and https have default ports")?;
        let authority = match parsed.port() {
            Some(port) => format!("{host}:{port}"),
            None => host.clone(),
        };
        // An IPv6 address stands in brackets in a URL, and without them everywhere else.
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let tls = match parsed.scheme() {
            "https" => {
                Some(ServerName::try_from(host.clone()).context("the host cannot bear a certificate")?)
            }
            _ => None,
        };
        Ok(Address { authority, host, port, tls })
    }
}

fn connector(ca: Option<&Path>) -> Result<tokio_rustls::TlsConnector> {
    let mut roots = rustls::RootCertStore::empty();
    if let Some(path) = ca {
        let certificates = CertificateDer::pem_file_iter(path);
        for certificate in certificates.with_context(|| format!("cannot read {}", path.display()))? {
            let certificate = certificate.with_context(|| format!("{} is not PEM", path.display()))?;
            roots.add(certificate).with_context(|| format!("{} holds no authority", path.display()))?;
        }
    }
    let config = rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    Ok(tokio_rustls::TlsConnector::from(Arc::new(config)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_urls_of_http_without_a_path() {
        for (url, authority, port, tls) in [
            ("http://127.0.0.1:7400", Some("127.0.0.1:7400"), 7400, false),
            ("https://s3.kota.go.id/", Some("s3.kota.go.id"), 443, true),
            ("http://[::1]:80/", Some("[::1]"), 80, false),
            ("http://h/bucket", None, 0, false),
            ("s3://h", None, 0, false),
            ("h:80", None, 0, false),
        ] {
            let got = Address::parse(url).ok();
            assert_eq!(got.as_ref().map(|a| a.authority.as_str()), authority, "{url}");
            if let Some(got) = got {
                assert_eq!((got.port, got.tls.is_some()), (port, tls), "{url}");
            }
        }
    }
}
