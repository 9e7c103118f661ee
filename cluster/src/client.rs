//! The admin API from the outside: finds the site, sends requests, reads answers.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use benteng_http::api::ErrorBody;
use reqwest::{Method, RequestBuilder, Response, Url};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::cli::Global;

/// A site that cannot be connected to within this is not there.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);
/// An answer that stands still for longer is given up; long transfers are none.
const STALLED_AFTER: Duration = Duration::from_secs(90);

/// An admin API.
pub(crate) struct Client {
    base: Url,
    login: Option<Login>,
    http: reqwest::Client,
}

/// Answers of the site other than success.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub(crate) struct Refused {
    pub(crate) status: u16,
    pub(crate) code: String,
    pub(crate) message: String,
}

/// Where the site is: `--site`, else the environment. Names are those of `endpoints.env`.
pub(crate) fn site_variables(global: &Global) -> Result<BTreeMap<String, String>> {
    match &global.site {
        Some(site) if site.contains("://") => {
            let mut found: BTreeMap<String, String> = std::env::vars().collect();
            found.insert("BENTENG_ADMIN_URL".into(), site.clone());
            Ok(found)
        }
        Some(file) => {
            let text = std::fs::read_to_string(file).with_context(|| {
                format!("cannot read --site {file}; it is neither a URL nor a file of `benteng dev`")
            })?;
            Ok(parse_env_file(&text))
        }
        None => Ok(std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect()),
    }
}

/// Lines `KEY=value`; others are skipped.
pub(crate) fn parse_env_file(text: &str) -> BTreeMap<String, String> {
    let lines = text.lines().filter(|line| !line.trim_start().starts_with('#'));
    lines.filter_map(|line| line.split_once('=')).map(|(k, v)| (k.trim().to_owned(), v.to_owned())).collect()
}

/// How a command proves who calls it. From the environment alone: a command line is seen by all.
pub(crate) enum Login {
    /// `BENTENG_ADMIN_TOKEN`: a token of the site, or `ACCESS_KEY_ID:SECRET_ACCESS_KEY`.
    Token(String),
    /// `BENTENG_ADMIN_USER` and `BENTENG_ADMIN_PASSWORD`.
    Password { user: String, password: String },
}

impl Login {
    fn find(variables: &BTreeMap<String, String>) -> Result<Option<Login>> {
        let given = |name| variables.get(name).filter(|value| !value.is_empty()).cloned();
        if let Some(token) = given("BENTENG_ADMIN_TOKEN") {
            return Ok(Some(Login::Token(token)));
        }
        match (given("BENTENG_ADMIN_USER"), given("BENTENG_ADMIN_PASSWORD")) {
            (Some(user), Some(password)) => Ok(Some(Login::Password { user, password })),
            (None, None) => Ok(None),
            _ => Err(crate::usage(
                "set both BENTENG_ADMIN_USER and BENTENG_ADMIN_PASSWORD, or BENTENG_ADMIN_TOKEN",
            )),
        }
    }
}

impl Client {
    /// The site of the command line or the environment.
    pub(crate) fn find(global: &Global) -> Result<Client> {
        let variables = site_variables(global)?;
        let Some(url) = variables.get("BENTENG_ADMIN_URL").filter(|url| !url.is_empty()) else {
            return Err(crate::usage("which site? set BENTENG_ADMIN_URL, or give --site FILE|URL"));
        };
        Client::new(url, Login::find(&variables)?, global.ca.as_deref())
    }

    /// The admin API at `url`. `ca`: the only authority that is trusted, if given.
    pub(crate) fn new(url: &str, login: Option<Login>, ca: Option<&Path>) -> Result<Client> {
        let base = Url::parse(url).ok().filter(|url| !url.cannot_be_a_base());
        let base = base.ok_or_else(|| crate::usage(&format!("{url:?} is not the URL of an admin API")))?;
        let mut http = reqwest::Client::builder()
            .connect_timeout(CONNECT_WITHIN)
            .read_timeout(STALLED_AFTER)
            .redirect(reqwest::redirect::Policy::none())
            .user_agent(concat!("benteng/", env!("CARGO_PKG_VERSION")));
        if let Some(path) = ca {
            let pem = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
            let certs = reqwest::Certificate::from_pem_bundle(&pem)
                .with_context(|| format!("{} holds no PEM certificates", path.display()))?;
            http = http.tls_certs_only(certs);
        }
        Ok(Client { base, login, http: http.build().context("cannot set up the HTTP client")? })
    }

    /// Where the admin API is.
    pub(crate) fn base(&self) -> &str {
        self.base.as_str().trim_end_matches('/')
    }

    /// Whether it speaks TLS.
    pub(crate) fn is_tls(&self) -> bool {
        self.base.scheme() == "https"
    }

    /// The URL of `path` (segments, each encoded by itself) with a query.
    fn url(&self, path: &[&str], query: &[(&str, &str)]) -> Url {
        let mut url = self.base.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(["admin", "v1"]).extend(path);
        }
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        url
    }

    /// A request that the caller completes and hands to [`Client::send`].
    pub(crate) fn request(&self, method: Method, path: &[&str], query: &[(&str, &str)]) -> RequestBuilder {
        let request = self.http.request(method, self.url(path, query));
        match &self.login {
            Some(Login::Token(token)) => request.bearer_auth(token),
            Some(Login::Password { user, password }) => request.basic_auth(user, Some(password)),
            None => request,
        }
    }

    /// Sends a request; an answer other than success is an error with the site's own words.
    pub(crate) async fn send(&self, request: RequestBuilder) -> Result<Response> {
        let response = request.send().await.with_context(|| {
            format!("the site at {} does not answer; is it running? (`benteng site doctor` on another node may tell)", self.base)
        })?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let text = response.text().await.unwrap_or_default();
        let refused = match serde_json::from_str::<ErrorBody>(&text) {
            Ok(body) => {
                Refused { status: status.as_u16(), code: body.error.code, message: body.error.message }
            }
            Err(_) => {
                let message = format!("{} answers {status}; is that an admin API of Benteng?", self.base);
                Refused { status: status.as_u16(), code: String::new(), message }
            }
        };
        Err(refused.into())
    }

    /// GET of a JSON document.
    pub(crate) async fn get<T: DeserializeOwned>(&self, path: &[&str], query: &[(&str, &str)]) -> Result<T> {
        read(self.send(self.request(Method::GET, path, query)).await?).await
    }

    /// POST of a JSON document, answered by another.
    pub(crate) async fn post<T: DeserializeOwned>(&self, path: &[&str], body: &impl Serialize) -> Result<T> {
        read(self.send(self.request(Method::POST, path, &[]).json(body)).await?).await
    }

    /// DELETE.
    pub(crate) async fn delete(&self, path: &[&str], query: &[(&str, &str)]) -> Result<()> {
        self.send(self.request(Method::DELETE, path, query)).await?;
        Ok(())
    }

    /// DELETE, answered by a JSON document.
    pub(crate) async fn delete_for<T: DeserializeOwned>(
        &self,
        path: &[&str],
        query: &[(&str, &str)],
    ) -> Result<T> {
        read(self.send(self.request(Method::DELETE, path, query)).await?).await
    }

    /// Whether the node behind this URL serves.
    pub(crate) async fn is_ready(&self) -> bool {
        let mut url = self.base.clone();
        url.set_path("/health/ready");
        let asked = self.http.get(url).timeout(CONNECT_WITHIN).send().await;
        asked.is_ok_and(|response| response.status().is_success())
    }
}

async fn read<T: DeserializeOwned>(response: Response) -> Result<T> {
    let text = response.text().await.context("the answer broke off")?;
    match serde_json::from_str(&text) {
        Ok(value) => Ok(value),
        Err(e) => bail!(
            "the site's answer is not understood ({e}); command line and site may be of different versions"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_and_names_reach_the_site_as_they_are() {
        // As `main` does; another test may have been first.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = Client::new("http://127.0.0.1:1/base/", None, None);
        let Ok(client) = client else { panic!("a client for plain HTTP") };
        let url = client.url(&["buckets", "a b", "object"], &[("key", "x/../y//z&é")]);
        assert_eq!(
            url.as_str(),
            "http://127.0.0.1:1/base/admin/v1/buckets/a%20b/object?key=x%2F..%2Fy%2F%2Fz%26%C3%A9"
        );
    }

    #[test]
    fn env_files_are_read_line_by_line() {
        let found = parse_env_file("# comment\nA=1\nB=x=y\nnonsense\n");
        assert_eq!(
            found.into_iter().collect::<Vec<_>>(),
            [("A".into(), "1".into()), ("B".into(), "x=y".into())]
        );
    }
}
