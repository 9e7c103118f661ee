//! Who signed the request: SigV4 by header and by query, SigV2 by query only.
//!
//! Done here and not by s3s: the identity is looked up once, unsigned `x-amz-*` headers are
//! refused, SigV2 by header is refused, and headers that s3s reads too strictly can be mended
//! once the signature over them is checked.
//! Source: AWS "Signature Version 4 signing process", "Signing and authenticating REST requests" (V2).

mod canonical; // what is signed, byte for byte
mod v2; // presigned URLs of Signature Version 2
mod v4; // Signature Version 4

use benteng_host::Wall;
use benteng_identity::{Identity, Principal, Secret};
use http::request::Parts;
use s3s::{S3Error, S3ErrorCode, S3Result};

use crate::fault::{self, fault, invalid};

pub(crate) use v4::ChunkSigner;
#[cfg(debug_assertions)]
pub(crate) use v4::signature_of;

/// How far a client's clock may be off, seconds.
const SKEW_SECONDS: i64 = 15 * 60;

/// What the signature says about the body.
pub(crate) enum Payload {
    /// Nothing.
    Unsigned,
    /// SHA-256 of the body as sent.
    Hash([u8; 32]),
    /// aws-chunked; `Some`: each chunk is signed.
    Chunked(Option<Box<ChunkSigner>>),
}

/// A request whose signature holds, or that has none.
pub(crate) struct Verified {
    /// Who asks.
    pub(crate) who: Principal,
    /// What the signature says about the body.
    pub(crate) payload: Payload,
}

/// Where access keys are looked up.
#[async_trait::async_trait]
pub(crate) trait Keys: Send + Sync {
    /// Whose key this is and its secret; `None`: there is no such key.
    async fn access_key(&self, id: &str) -> benteng_identity::Result<Option<(Principal, Secret)>>;
}

#[async_trait::async_trait]
impl Keys for Identity {
    async fn access_key(&self, id: &str) -> benteng_identity::Result<Option<(Principal, Secret)>> {
        Identity::access_key(self, id).await
    }
}

/// A key and what is to be checked with it.
struct Found {
    who: Principal,
    secret: Secret,
}

/// Checks the signature of a request. `bucket`: the one that the host names; `pairs`: the decoded query.
///
/// Errors: as AWS answers them; nothing of the body was read.
pub(crate) async fn verify(
    parts: &Parts,
    pairs: &[(String, String, &str)],
    bucket: Option<&str>,
    keys: &dyn Keys,
    now: Wall,
) -> S3Result<Verified> {
    let asked = Asked { parts, pairs, bucket };
    let header = asked.header("authorization")?;
    let by_v4 = asked.query("X-Amz-Algorithm").or(asked.query("X-Amz-Signature")).is_some();
    let by_v2 = asked.query("Signature").is_some() && asked.query("AWSAccessKeyId").is_some();
    if usize::from(header.is_some()) + usize::from(by_v4) + usize::from(by_v2) > 1 {
        return Err(invalid(
            "Only one auth mechanism allowed; only the X-Amz-Algorithm query parameter, Signature query string \
             parameter or the Authorization header should be specified",
        ));
    }
    let token = asked.header("x-amz-security-token")?.or(asked.query("X-Amz-Security-Token"));
    if token.is_some_and(|token| !token.is_empty()) {
        return Err(fault(
            S3ErrorCode::InvalidToken,
            "The provided token is malformed or otherwise invalid.",
        ));
    }
    let seconds = now.0.div_euclid(1_000_000);
    if by_v4 {
        return v4::by_query(&asked, keys, seconds).await;
    }
    if by_v2 {
        return v2::by_query(&asked, keys, seconds).await;
    }
    match header {
        None => Ok(Verified { who: Principal::anonymous(), payload: v4::unsigned_payload(&asked)? }),
        Some(text) if text.starts_with("AWS4-HMAC-SHA256") => {
            v4::by_header(&asked, text, keys, seconds).await
        }
        Some(text) if text.starts_with("AWS ") => Err(fault(
            S3ErrorCode::InvalidRequest,
            "The authorization mechanism you have provided is not supported. Please use AWS4-HMAC-SHA256.",
        )),
        Some(text) if text.starts_with("AWS4-") => {
            Err(fault(S3ErrorCode::NotImplemented, "Only AWS4-HMAC-SHA256 is implemented."))
        }
        Some(_) => Err(invalid("Unsupported Authorization Type")),
    }
}

/// The parts of a request that are signed.
struct Asked<'a> {
    parts: &'a Parts,
    pairs: &'a [(String, String, &'a str)],
    bucket: Option<&'a str>,
}

impl<'a> Asked<'a> {
    /// The first query value of a name.
    fn query(&self, name: &str) -> Option<&'a str> {
        self.pairs.iter().find(|(n, _, _)| n == name).map(|(_, value, _)| value.as_str())
    }

    /// The only value of a header, as text.
    fn header(&self, name: &str) -> S3Result<Option<&'a str>> {
        let mut values = self.parts.headers.get_all(name).iter();
        let Some(value) = values.next() else { return Ok(None) };
        let text = value.to_str().ok().filter(|_| values.next().is_none());
        text.map(Some).ok_or_else(|| invalid(format!("The {name} header is given twice or is not text.")))
    }
}

async fn find(keys: &dyn Keys, id: &str) -> S3Result<Found> {
    let found = keys.access_key(id).await.map_err(|e| fault::identity(&e))?;
    let (who, secret) = found.ok_or_else(|| {
        fault(
            S3ErrorCode::InvalidAccessKeyId,
            "The AWS Access Key Id you provided does not exist in our records.",
        )
    })?;
    Ok(Found { who, secret })
}

fn mismatch() -> S3Error {
    fault(
        S3ErrorCode::SignatureDoesNotMatch,
        "The request signature we calculated does not match the signature you provided. Check your key and \
         signing method.",
    )
}

fn expired() -> S3Error {
    fault(S3ErrorCode::AccessDenied, "Request has expired")
}

#[cfg(test)]
mod tests;
