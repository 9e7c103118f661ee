//! Hosts, paths, queries and dates: what the request line names.

use std::net::{IpAddr, SocketAddr};

use benteng_meta::ids::SiteTime;
use http::Method;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use s3s::dto::Timestamp;
use s3s::host::{S3Host, VirtualHost};
use s3s::{S3ErrorCode, S3Result};
use time::OffsetDateTime;

use crate::fault::{fault, invalid};

/// What RFC 3986 calls unreserved stays; the rest is encoded.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');
/// As above, and slashes stay.
const RESERVED_IN_PATH: &AsciiSet = &RESERVED.remove(b'/');

/// Percent-encodes a query name or value.
pub(crate) fn encode(text: &str) -> String {
    utf8_percent_encode(text, RESERVED).to_string()
}

/// Percent-encodes a path or a key: slashes stay.
pub(crate) fn encode_path(text: &str) -> String {
    utf8_percent_encode(text, RESERVED_IN_PATH).to_string()
}

/// Percent-decodes once; "+" stays "+".
pub(crate) fn decode(text: &str) -> S3Result<String> {
    let decoded = percent_decode_str(text).decode_utf8();
    decoded.map(|text| text.into_owned()).map_err(|_| fault(S3ErrorCode::InvalidURI, "The URI is not UTF-8."))
}

/// The pairs of a query, decoded ("+" is a space there), with the raw text of each.
pub(crate) fn query_pairs(query: &str) -> S3Result<Vec<(String, String, &str)>> {
    let pairs = query.split('&').filter(|pair| !pair.is_empty()).map(|raw| {
        let (name, value) = raw.split_once('=').unwrap_or((raw, ""));
        Ok((decode(&name.replace('+', "%20"))?, decode(&value.replace('+', "%20"))?, raw))
    });
    pairs.collect()
}

/// The base domains below which a host names a bucket.
#[derive(Clone, Debug)]
pub(crate) struct Hosts(Vec<String>);

impl Hosts {
    /// Takes base domains; `None` names the one that is not a host name.
    pub(crate) fn new(domains: &[String]) -> Result<Hosts, String> {
        let label =
            |label: &str| !label.is_empty() && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        for domain in domains {
            if !domain.split('.').all(label) {
                return Err(domain.clone());
            }
        }
        let mut domains: Vec<String> = domains.iter().map(|domain| domain.to_ascii_lowercase()).collect();
        // The longest first: below "s3.example" and "example", a.s3.example is bucket "a", not "a.s3".
        domains.sort_by_key(|domain| std::cmp::Reverse(domain.len()));
        Ok(Hosts(domains))
    }

    /// The bucket that a `Host` header names; `None`: the path names it.
    pub(crate) fn bucket(&self, host: &str) -> Option<String> {
        if host.parse::<SocketAddr>().is_ok() || host.parse::<IpAddr>().is_ok() {
            return None;
        }
        let name = host.rsplit_once(':').map_or(host, |(name, _)| name).to_ascii_lowercase();
        if self.0.contains(&name) {
            return None;
        }
        let below =
            |domain: &String| name.strip_suffix(domain.as_str())?.strip_suffix('.').map(str::to_owned);
        self.0.iter().find_map(below).filter(|bucket| !bucket.is_empty())
    }
}

impl S3Host for Hosts {
    /// An unknown host is no error: behind a proxy or a NAT any name may lead here, path style.
    fn parse_host_header<'a>(&'a self, host: &'a str) -> S3Result<VirtualHost<'a>> {
        let found = VirtualHost::new(host);
        Ok(match self.bucket(host) {
            Some(bucket) => found.with_bucket(bucket),
            None => found,
        })
    }
}

/// Site time as s3s prints it.
pub(crate) fn timestamp(at: SiteTime) -> Timestamp {
    Timestamp::from(date(at))
}

fn date(at: SiteTime) -> OffsetDateTime {
    // Out of `time`'s range lies only what no site's clock shows.
    OffsetDateTime::from_unix_timestamp_nanos(i128::from(at.0) * 1000).unwrap_or(OffsetDateTime::UNIX_EPOCH)
}

/// Site time as HTTP dates are written (RFC 9110 §5.6.7).
pub(crate) fn http_date(at: SiteTime) -> String {
    let at = date(at);
    let day = &at.weekday().to_string()[..3];
    let month = &at.month().to_string()[..3];
    let (hour, minute, second) = at.to_hms();
    format!("{day}, {:02} {month} {:04} {hour:02}:{minute:02}:{second:02} GMT", at.day(), at.year())
}

/// Reads an HTTP date, whole seconds since 1970; `None` if it is not one.
pub(crate) fn parse_http_date(text: &str) -> Option<i64> {
    let format = &time::format_description::well_known::Rfc2822;
    OffsetDateTime::parse(text.trim(), format).ok().map(OffsetDateTime::unix_timestamp)
}

/// Sub-resources that are operations of S3 which we do not have yet.
const NOT_YET: &[&str] = &[
    "accelerate",
    "acl",
    "analytics",
    "attributes",
    "cors",
    "encryption",
    "intelligent-tiering",
    "inventory",
    "legal-hold",
    "lifecycle",
    "logging",
    "metadataTable",
    "metrics",
    "notification",
    "object-lock",
    "ownershipControls",
    "policy",
    "policyStatus",
    "publicAccessBlock",
    "replication",
    "requestPayment",
    "restore",
    "retention",
    "select",
    "session",
    "tagging",
    "torrent",
    "versions",
    "website",
];
/// Sub-resources that we have on buckets only: on an object s3s would take them for the plain operation.
const OF_BUCKETS: &[&str] = &["delete", "location", "versioning"];
/// Parameters that may be empty.
const MAY_BE_EMPTY: &[&str] = &[
    "continuation-token",
    "delimiter",
    "encoding-type",
    "fetch-owner",
    "key-marker",
    "marker",
    "prefix",
    "start-after",
    "upload-id-marker",
    "uploads",
    "versionId",
    "x-id",
];

/// Refuses queries that s3s would take for another operation than the client means: a bare
/// `?name` that it does not know, it takes for the plain GET, PUT or DELETE (I8).
pub(crate) fn check_query(method: &Method, pairs: &[(String, String, &str)], has_key: bool) -> S3Result<()> {
    let has = |wanted: &str| pairs.iter().any(|(name, _, _)| name == wanted);
    for (name, value, _) in pairs {
        let name = name.as_str();
        let ours = OF_BUCKETS.contains(&name) && !has_key || MAY_BE_EMPTY.contains(&name);
        let bare = value.is_empty() && !ours && !name.starts_with("response-") && !name.starts_with("X-Amz-");
        if bare || NOT_YET.contains(&name) || has_key && OF_BUCKETS.contains(&name) {
            let message = format!("The sub-resource {name:?} is not implemented here.");
            return Err(fault(S3ErrorCode::NotImplemented, message));
        }
    }
    if has("uploads") && has_key && *method != Method::POST {
        return Err(fault(
            S3ErrorCode::NotImplemented,
            "Uploads of an object cannot be listed; list those of the bucket.",
        ));
    }
    if *method == Method::PUT && has_key && has("uploadId") != has("partNumber") {
        return Err(invalid("An upload of a part needs both uploadId and partNumber."));
    }
    if *method == Method::PUT && has("versionId") {
        return Err(invalid("This operation does not accept a version-id."));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_name_buckets_below_base_domains_only() {
        let hosts = Hosts::new(&["localhost".into(), "s3.localhost".into()]).expect("both are host names");
        for (host, bucket) in [
            ("localhost:7400", None),
            ("127.0.0.1:7400", None),
            ("[::1]:7400", None),
            ("data.localhost:7400", Some("data")),
            ("Data.LOCALHOST", Some("data")),
            ("a.b.s3.localhost", Some("a.b")),
            ("s3.localhost", None),
            ("notlocalhost", None),
            (".localhost", None),
            ("proxy.example:80", None),
        ] {
            assert_eq!(hosts.bucket(host).as_deref(), bucket, "{host}");
        }
        assert_eq!(Hosts::new(&["no spaces".into()]).expect_err("it has a space"), "no spaces");
    }

    #[test]
    fn http_dates_read_back() {
        for seconds in [0, 784_111_777, 1_767_225_599, 4_102_444_800] {
            let text = http_date(SiteTime(seconds * 1_000_000));
            assert_eq!(parse_http_date(&text), Some(seconds), "{text}");
        }
        assert_eq!(http_date(SiteTime(784_111_777_000_000)), "Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(parse_http_date("yesterday"), None);
    }

    #[test]
    fn i8_a_query_that_means_something_else_neither_writes_nor_deletes() {
        let check = |method: &Method, query: &str, key: bool| {
            let pairs = query_pairs(query).expect("it decodes");
            check_query(method, &pairs, key).map_err(|e| e.code().as_str().to_owned())
        };
        for (method, query, key, wanted) in [
            (Method::PUT, "", true, Ok(())),
            (Method::PUT, "x-id=PutObject", true, Ok(())),
            (Method::PUT, "renameObject", true, Err("NotImplemented")),
            (Method::PUT, "tagging", true, Err("NotImplemented")),
            (Method::DELETE, "policy=", false, Err("NotImplemented")),
            (Method::GET, "location", true, Err("NotImplemented")),
            (Method::GET, "location", false, Ok(())),
            (Method::POST, "delete", false, Ok(())),
            (Method::POST, "uploads", true, Ok(())),
            (Method::GET, "uploads", true, Err("NotImplemented")),
            (Method::DELETE, "lifecycle", true, Err("NotImplemented")),
            (Method::DELETE, "abac", false, Err("NotImplemented")),
            (Method::PUT, "uploadId=1", true, Err("InvalidArgument")),
            (Method::PUT, "partNumber=1", true, Err("InvalidArgument")),
            (Method::PUT, "partNumber=1&uploadId=2", true, Ok(())),
            (Method::GET, "prefix=&delimiter=", false, Ok(())),
            (Method::GET, "partNumber=1", true, Ok(())),
            (Method::PUT, "versionId=3", true, Err("InvalidArgument")),
        ] {
            assert_eq!(check(&method, query, key), wanted.map_err(str::to_owned), "{method} ?{query}");
        }
    }

    #[test]
    fn plus_is_a_space_in_queries_and_itself_in_paths() {
        let pairs = query_pairs("a=b+c%2Bd&e").expect("it decodes");
        assert_eq!(pairs[0].1, "b c+d");
        assert_eq!((pairs[1].0.as_str(), pairs[1].1.as_str()), ("e", ""));
        assert_eq!(decode("a+b%2Bc").expect("it decodes"), "a+b+c");
        assert!(decode("%ff").is_err());
    }
}
