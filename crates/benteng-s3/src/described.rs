//! Headers that are stored with an object, in and out.

use benteng_meta::{Described, SystemHeaders};
use http::header::{CONTENT_ENCODING, EXPIRES};
use http::{HeaderMap, HeaderName, HeaderValue};
use s3s::dto::{Metadata, TaggingHeader};
use s3s::{S3ErrorCode, S3Result};

use crate::fault::fault;
use crate::names;

/// All user metadata of an object together, names and values.
const METADATA_MAX: usize = 2048;

/// Reads what a writer says beside the bytes.
pub(crate) fn take(
    headers: &HeaderMap,
    metadata: Option<Metadata>,
    tagging: Option<&TaggingHeader>,
) -> S3Result<Described> {
    let text = |name: HeaderName| {
        // Not `to_str`: a file name in Content-Disposition may well be UTF-8.
        let value = headers.get(name).and_then(|value| std::str::from_utf8(value.as_bytes()).ok());
        value.filter(|value| !value.is_empty()).map(str::to_owned)
    };
    let mut user: Vec<(String, String)> = metadata.unwrap_or_default().into_iter().collect();
    user.sort_unstable();
    if user.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>() > METADATA_MAX {
        let message = "Your metadata headers exceed the maximum allowed metadata size";
        return Err(fault(S3ErrorCode::MetadataTooLarge, message));
    }
    Ok(Described {
        system: SystemHeaders {
            content_type: text(http::header::CONTENT_TYPE),
            content_encoding: text(CONTENT_ENCODING).and_then(|value| without_aws_chunked(&value)),
            content_language: text(http::header::CONTENT_LANGUAGE),
            content_disposition: text(http::header::CONTENT_DISPOSITION),
            cache_control: text(http::header::CACHE_CONTROL),
            expires: text(EXPIRES),
            website_redirect: text(HeaderName::from_static("x-amz-website-redirect-location")),
        },
        user,
        tags: tagging.map(|text| tags(text)).transpose()?.unwrap_or_default(),
    })
}

/// `Content-Encoding` without the token that only describes the transfer; `None` if nothing is left.
pub(crate) fn without_aws_chunked(value: &str) -> Option<String> {
    let kept: Vec<&str> = value
        .split(',')
        .map(str::trim)
        .filter(|token| !token.is_empty() && !token.eq_ignore_ascii_case("aws-chunked"))
        .collect();
    (!kept.is_empty()).then(|| kept.join(","))
}

/// Whether the headers say that the body is aws-chunked, whatever the payload hash says.
pub(crate) fn says_aws_chunked(headers: &HeaderMap) -> bool {
    let tokens = headers.get_all(CONTENT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    let mut tokens = tokens.flat_map(|value| value.split(','));
    tokens.any(|token| token.trim().eq_ignore_ascii_case("aws-chunked"))
        || headers.contains_key("x-amz-decoded-content-length")
}

/// Reads `x-amz-tagging`: `a=1&b=2`, at most ten, each name once.
fn tags(text: &str) -> S3Result<Vec<(String, String)>> {
    let bad = |message: &'static str| fault(S3ErrorCode::InvalidTag, message);
    let mut tags: Vec<(String, String)> = Vec::new();
    let pairs = names::query_pairs(text).map_err(|_| bad("The tags are not URL-encoded UTF-8"))?;
    for (name, value, _) in pairs {
        let long = name.chars().count() > 128 || value.chars().count() > 256;
        if name.is_empty() || long {
            return Err(bad("A tag has a name of 1 to 128 characters and a value of at most 256"));
        }
        if tags.iter().any(|(known, _)| *known == name) {
            return Err(bad("Cannot provide multiple Tags with the same key"));
        }
        tags.push((name, value));
    }
    if tags.len() > 10 {
        return Err(bad("Object tags cannot be greater than 10"));
    }
    Ok(tags)
}

/// Puts the stored headers on the answer of a GET or HEAD.
pub(crate) fn put(system: SystemHeaders, headers: &mut HeaderMap) {
    let pairs = [
        (
            http::header::CONTENT_TYPE,
            Some(system.content_type.unwrap_or_else(|| "binary/octet-stream".to_owned())),
        ),
        (CONTENT_ENCODING, system.content_encoding),
        (http::header::CONTENT_LANGUAGE, system.content_language),
        (http::header::CONTENT_DISPOSITION, system.content_disposition),
        (http::header::CACHE_CONTROL, system.cache_control),
        (EXPIRES, system.expires),
        (HeaderName::from_static("x-amz-website-redirect-location"), system.website_redirect),
    ];
    for (name, value) in pairs {
        // They came as header values; what would not go out again did not come in.
        if let Some(value) = value.and_then(|value| HeaderValue::from_bytes(value.as_bytes()).ok()) {
            headers.insert(name, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_transfer_token_is_not_stored() {
        for (value, kept) in [
            ("aws-chunked", None),
            ("", None),
            (",", None),
            ("gzip", Some("gzip")),
            ("aws-chunked,gzip", Some("gzip")),
            ("gzip, AWS-Chunked , br", Some("gzip,br")),
        ] {
            assert_eq!(without_aws_chunked(value).as_deref(), kept, "{value}");
        }
    }

    #[test]
    fn tags_are_decoded_and_bounded() {
        let ok = tags("a=1&b%20c=d+e&f").expect("they are tags");
        assert_eq!(ok, [("a", "1"), ("b c", "d e"), ("f", "")].map(|(a, b)| (a.to_owned(), b.to_owned())));
        let many: Vec<String> = (0..11).map(|n| format!("k{n}=v")).collect();
        for bad in ["a=1&a=2", "=1", "a=%ff", many.join("&").as_str(), &format!("{}=1", "k".repeat(129))] {
            assert!(tags(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn stored_headers_go_out_as_they_came() {
        let mut headers = HeaderMap::new();
        headers.insert(EXPIRES, "whenever".parse().expect("a value"));
        headers.insert(CONTENT_ENCODING, "aws-chunked".parse().expect("a value"));
        let described = take(&headers, None, None).expect("it is small");
        assert_eq!(described.system.expires.as_deref(), Some("whenever"));
        assert_eq!(described.system.content_encoding, None);
        let mut out = HeaderMap::new();
        put(described.system, &mut out);
        assert_eq!(out[EXPIRES], "whenever");
        assert_eq!(out[http::header::CONTENT_TYPE], "binary/octet-stream");
        assert!(!out.contains_key(CONTENT_ENCODING));
    }
}
