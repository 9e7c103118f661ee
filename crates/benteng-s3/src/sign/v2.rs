//! Presigned URLs of Signature Version 2: boto3 still makes them in us-east-1. By header it is
//! refused: it signs neither the body nor most headers.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::hmac;
use s3s::{S3ErrorCode, S3Result};

use super::{Asked, Keys, Payload, Verified, expired, find, mismatch};
use crate::fault::fault;

/// Parameters that are part of the resource, in the order of the standard.
const SUB_RESOURCES: &[&str] = &[
    "acl",
    "cors",
    "delete",
    "lifecycle",
    "location",
    "logging",
    "notification",
    "partNumber",
    "policy",
    "requestPayment",
    "response-cache-control",
    "response-content-disposition",
    "response-content-encoding",
    "response-content-language",
    "response-content-type",
    "response-expires",
    "restore",
    "tagging",
    "torrent",
    "uploadId",
    "uploads",
    "versionId",
    "versioning",
    "versions",
    "website",
];

/// The signature by query.
pub(super) async fn by_query(asked: &Asked<'_>, keys: &dyn Keys, now: i64) -> S3Result<Verified> {
    let need = |name: &str| {
        let message =
            "Query-string authentication requires the Signature, Expires and AWSAccessKeyId parameters";
        asked.query(name).ok_or_else(|| fault(S3ErrorCode::AccessDenied, message))
    };
    let expires_text = need("Expires")?;
    let expires: i64 = expires_text.parse().map_err(|_| {
        fault(
            S3ErrorCode::AccessDenied,
            format!("Invalid date (should be seconds since epoch): {expires_text}"),
        )
    })?;
    if now > expires {
        return Err(expired());
    }
    let found = find(keys, need("AWSAccessKeyId")?).await?;
    let given = STANDARD.decode(need("Signature")?).map_err(|_| mismatch())?;
    let text = string_to_sign(asked, expires_text);
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, found.secret.expose().as_bytes());
    hmac::verify(&key, &text, &given).map_err(|_| mismatch())?;
    Ok(Verified { who: found.who, payload: Payload::Unsigned })
}

fn string_to_sign(asked: &Asked<'_>, expires: &str) -> Vec<u8> {
    let parts = asked.parts;
    let mut out = Vec::with_capacity(256);
    out.extend_from_slice(parts.method.as_str().as_bytes());
    out.push(b'\n');
    for name in ["content-md5", "content-type"] {
        // Clients that cannot send headers carry them in the query; they are signed all the same.
        let value =
            parts.headers.get(name).map(|value| value.as_bytes()).or(asked.query(name).map(str::as_bytes));
        out.extend_from_slice(value.unwrap_or_default().trim_ascii());
        out.push(b'\n');
    }
    out.extend_from_slice(expires.as_bytes());
    out.push(b'\n');
    let mut amz: Vec<(String, Vec<u8>)> = Vec::new();
    for name in parts.headers.keys().filter(|name| name.as_str().starts_with("x-amz-")) {
        let values: Vec<&[u8]> =
            parts.headers.get_all(name).iter().map(|value| value.as_bytes().trim_ascii()).collect();
        amz.push((name.as_str().to_owned(), values.join(&b","[..])));
    }
    for (name, value, _) in asked.pairs {
        let name = name.to_ascii_lowercase();
        if name.starts_with("x-amz-") && !parts.headers.contains_key(&name) {
            amz.push((name, value.as_bytes().to_vec()));
        }
    }
    amz.sort_unstable();
    for (name, value) in amz {
        out.extend_from_slice(name.as_bytes());
        out.push(b':');
        out.extend_from_slice(&value);
        out.push(b'\n');
    }
    if let Some(bucket) = asked.bucket {
        out.push(b'/');
        out.extend_from_slice(bucket.as_bytes());
    }
    out.extend_from_slice(parts.uri.path().as_bytes());
    let mut sub: Vec<(&str, &str)> = asked
        .pairs
        .iter()
        .filter(|(name, _, _)| SUB_RESOURCES.contains(&name.as_str()))
        .map(|(name, value, _)| (name.as_str(), value.as_str()))
        .collect();
    sub.sort_unstable();
    for (i, (name, value)) in sub.into_iter().enumerate() {
        out.push(if i == 0 { b'?' } else { b'&' });
        out.extend_from_slice(name.as_bytes());
        if !value.is_empty() {
            out.push(b'=');
            out.extend_from_slice(value.as_bytes());
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_the_documentation_is_signed_alike() {
        // "Query String Request Authentication Alternative", Amazon S3 developer guide.
        let uri = "/photos/puppy.jpg?AWSAccessKeyId=AKIAIOSFODNN7EXAMPLE&Signature=NpgCjnDzrM%2BWFzoENXmpNDUsSn8%3D\
                   &Expires=1175139620";
        let request = http::Request::get(uri)
            .header("host", "johnsmith.s3.amazonaws.com")
            .body(())
            .expect("it is a request");
        let (parts, ()) = request.into_parts();
        let pairs = crate::names::query_pairs(parts.uri.query().unwrap_or_default()).expect("it decodes");
        let asked = Asked { parts: &parts, pairs: &pairs, bucket: Some("johnsmith") };
        let text = string_to_sign(&asked, "1175139620");
        assert_eq!(String::from_utf8_lossy(&text), "GET\n\n\n1175139620\n/johnsmith/photos/puppy.jpg");
        let key =
            hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, b"wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY");
        assert_eq!(STANDARD.encode(hmac::sign(&key, &text)), "NpgCjnDzrM+WFzoENXmpNDUsSn8=");
    }
}
