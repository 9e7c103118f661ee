//! Signatures of requests that nobody signed, and of the same requests once they are signed.

use benteng_host::Wall;
use benteng_identity::{Principal, Role, Secret};
use http::header::AUTHORIZATION;
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue};
use ring::digest::{SHA256, digest};

use crate::names;
use crate::sign::{self, Keys};

/// 20130524T000000Z.
const NOW: i64 = 1_369_353_600;
const ID: &str = "BTKEY";

/// One key whose secret depends on the request, so that no input can hold its own signature.
struct Unguessable(String);

#[async_trait::async_trait]
impl Keys for Unguessable {
    async fn access_key(&self, _: &str) -> benteng_identity::Result<Option<(Principal, Secret)>> {
        let who = Principal { name: "budi".into(), roles: vec![Role::Sistem], opd: None };
        Ok(Some((who, Secret::new(self.0.clone()))))
    }
}

/// Who a request is from; `None`: it is refused.
fn verdict(parts: &Parts, keys: &dyn Keys) -> Option<Principal> {
    let query = parts.uri.query().unwrap_or_default().to_owned();
    let pairs = names::query_pairs(&query).ok()?;
    let run = sign::verify(parts, &pairs, None, keys, Wall(NOW * 1_000_000));
    futures::executor::block_on(run).ok().map(|verified| verified.who)
}

/// A request as text, with a signature by header, by query, of version 2, or none: nobody but the nameless
/// gets in; signed by its key it is taken; and not any more once its path is another.
pub fn signature(bytes: &[u8]) {
    let Some(request) = super::request(bytes) else { return };
    let (mut parts, _) = request.into_parts();
    let keys = Unguessable(hex::encode(digest(&SHA256, bytes)));
    if let Some(who) = verdict(&parts, &keys) {
        assert!(who.is_anonymous(), "I5: {} got in without a signature", who.name);
    }
    let Some(signed) = sign_by_header(&mut parts, &keys.0) else { return };
    assert!(signed.is_some_and(|who| who.name == "budi"), "a signed request is refused: {parts:?}");
    let Ok(other) = format!("{}x", parts.uri.path()).parse() else { return };
    parts.uri = other;
    assert!(verdict(&parts, &keys).is_none(), "a signature holds for another path");
}

/// Signs a request as clients do and returns whom it is taken to be from; `None`: no client could sign it.
fn sign_by_header(parts: &mut Parts, secret: &str) -> Option<Option<Principal>> {
    let query = parts.uri.query().unwrap_or_default().to_owned();
    let pairs = names::query_pairs(&query).ok()?;
    // Another way of signing stands in the query, or a token that is refused.
    let other = ["X-Amz-Algorithm", "X-Amz-Signature", "Signature", "X-Amz-Security-Token"];
    if pairs.iter().any(|(name, _, _)| other.contains(&name.as_str())) {
        return None;
    }
    parts.headers.remove("x-amz-security-token");
    let mut set = |name: &'static str, value: &'static str| {
        parts.headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    };
    set("x-amz-date", "20130524T000000Z");
    set("x-amz-content-sha256", "UNSIGNED-PAYLOAD");
    parts.headers.remove(AUTHORIZATION);
    let mut signed: Vec<String> = parts.headers.keys().map(|name| name.as_str().to_owned()).collect();
    signed.sort_unstable();
    let plain: Vec<(&str, &str)> =
        pairs.iter().map(|(name, value, _)| (name.as_str(), value.as_str())).collect();
    let signature = sign::signature_of(parts, &plain, &signed, (secret, "20130524T000000Z"))?;
    let text = format!(
        "AWS4-HMAC-SHA256 Credential={ID}/20130524/us-east-1/s3/aws4_request,SignedHeaders={},Signature={signature}",
        signed.join(";")
    );
    let value = HeaderValue::from_str(&text).ok()?;
    let headers: &mut HeaderMap = &mut parts.headers;
    headers.insert(AUTHORIZATION, value);
    Some(verdict(parts, &Unguessable(secret.to_owned())))
}
