//! Signature Version 4: by header, by query, and chunk by chunk.

use ring::{digest, hmac};
use s3s::{S3ErrorCode, S3Result};
use time::{Date, Month, OffsetDateTime, PrimitiveDateTime, Time};
use zeroize::Zeroizing;

use super::canonical::{self, Reading};
use super::{Asked, Keys, Payload, SKEW_SECONDS, Verified, expired, find, mismatch};
use crate::fault::{fault, invalid};
use crate::names;

/// A presigned URL lives at most a week.
const EXPIRES_MAX: i64 = 7 * 24 * 3600;
/// SHA-256 of nothing.
const EMPTY: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/// `KEY/DATE/REGION/s3/aws4_request`.
struct Scope<'a> {
    key: &'a str,
    date: &'a str,
    region: &'a str,
    service: &'a str,
}

impl<'a> Scope<'a> {
    fn parse(text: &'a str) -> Option<Scope<'a>> {
        let (rest, terminal) = text.rsplit_once('/')?;
        let (rest, service) = rest.rsplit_once('/')?;
        let (rest, region) = rest.rsplit_once('/')?;
        let (key, date) = rest.rsplit_once('/')?;
        let digits = date.len() == 8 && date.bytes().all(|b| b.is_ascii_digit());
        // Any region is accepted: sites have no regions, and clients name whichever they were told.
        let whole =
            terminal == "aws4_request" && service == "s3" && !region.is_empty() && !key.is_empty() && digits;
        whole.then_some(Scope { key, date, region, service })
    }

    fn text(&self) -> String {
        format!("{}/{}/{}/aws4_request", self.date, self.region, self.service)
    }

    fn signing_key(&self, secret: &str) -> hmac::Key {
        let first = Zeroizing::new(format!("AWS4{secret}"));
        let mut key = hmac::Key::new(hmac::HMAC_SHA256, first.as_bytes());
        for part in [self.date, self.region, self.service, "aws4_request"] {
            key = hmac::Key::new(hmac::HMAC_SHA256, hmac::sign(&key, part.as_bytes()).as_ref());
        }
        key
    }
}

/// The signature by header.
pub(super) async fn by_header(
    asked: &Asked<'_>,
    text: &str,
    keys: &dyn Keys,
    now: i64,
) -> S3Result<Verified> {
    let malformed = || {
        let message = "The authorization header is malformed; it needs a Credential of service s3, SignedHeaders and a Signature.";
        fault(S3ErrorCode::AuthorizationHeaderMalformed, message)
    };
    let rest = text.strip_prefix("AWS4-HMAC-SHA256").ok_or_else(malformed)?;
    let (mut scope, mut signed, mut signature) = (None, None, None);
    for field in rest.split(',') {
        match field.trim().split_once('=') {
            Some(("Credential", value)) => scope = Scope::parse(value),
            Some(("SignedHeaders", value)) => signed = Some(value),
            Some(("Signature", value)) => signature = Some(value),
            _ => return Err(malformed()),
        }
    }
    let (scope, signed, signature) =
        scope.zip(signed).zip(signature).map(|((a, b), c)| (a, b, c)).ok_or_else(malformed)?;
    let date = match asked.header("x-amz-date")? {
        Some(date) => date.to_owned(),
        None => {
            let date = asked.header("date")?.and_then(names::parse_http_date).and_then(compact_date);
            date.ok_or_else(|| {
                let message = "AWS authentication requires a valid Date or x-amz-date header";
                fault(S3ErrorCode::AccessDenied, message)
            })?
        }
    };
    let at = parse_compact(&date).ok_or_else(|| {
        fault(S3ErrorCode::AccessDenied, "AWS authentication requires a valid x-amz-date header")
    })?;
    if (now - at).abs() > SKEW_SECONDS {
        return Err(fault(
            S3ErrorCode::RequestTimeTooSkewed,
            "The difference between the request time and the server's time is too large.",
        ));
    }
    if !date.starts_with(scope.date) {
        return Err(fault(
            S3ErrorCode::AuthorizationHeaderMalformed,
            "The date in the credential scope is not the date of x-amz-date.",
        ));
    }
    let payload = asked.header("x-amz-content-sha256")?.ok_or_else(|| {
        fault(S3ErrorCode::InvalidRequest, "Missing required header for this request: x-amz-content-sha256")
    })?;
    let pairs: Vec<(&str, &str)> = asked.pairs.iter().map(|(n, v, _)| (n.as_str(), v.as_str())).collect();
    check(asked, &Claim { scope, signed, signature, date: &date, payload, pairs: &pairs }, keys).await
}

/// The signature by query: a presigned URL.
pub(super) async fn by_query(asked: &Asked<'_>, keys: &dyn Keys, now: i64) -> S3Result<Verified> {
    let broken = |what: &str| fault(S3ErrorCode::AuthorizationQueryParametersError, what.to_owned());
    let need = |name: &'static str| {
        asked.query(name).ok_or_else(|| {
            broken(
                "Query-string authentication version 4 requires the X-Amz-Algorithm, X-Amz-Credential, \
                 X-Amz-Signature, X-Amz-Date, X-Amz-SignedHeaders, and X-Amz-Expires parameters.",
            )
        })
    };
    if need("X-Amz-Algorithm")? != "AWS4-HMAC-SHA256" {
        return Err(broken("X-Amz-Algorithm only supports \"AWS4-HMAC-SHA256\""));
    }
    let scope = Scope::parse(need("X-Amz-Credential")?).ok_or_else(|| {
        broken("Error parsing the X-Amz-Credential parameter; expecting KEY/DATE/REGION/s3/aws4_request")
    })?;
    let date = need("X-Amz-Date")?;
    let at = parse_compact(date)
        .ok_or_else(|| broken("X-Amz-Date must be in the ISO8601 Long Format yyyyMMdd'T'HHmmss'Z'"))?;
    let expires: i64 =
        need("X-Amz-Expires")?.parse().map_err(|_| broken("X-Amz-Expires should be a number"))?;
    if !(1..=EXPIRES_MAX).contains(&expires) {
        return Err(broken("X-Amz-Expires must be between 1 and 604800 seconds"));
    }
    if at > now + SKEW_SECONDS {
        let message = "The difference between the request time and the server's time is too large.";
        return Err(fault(S3ErrorCode::RequestTimeTooSkewed, message));
    }
    if now > at + expires {
        return Err(expired());
    }
    if !date.starts_with(scope.date) {
        return Err(broken("Invalid credential date; it must be the date of X-Amz-Date"));
    }
    let signed = need("X-Amz-SignedHeaders")?;
    let signature = need("X-Amz-Signature")?;
    // The hash counts only if the signer fixed it; else the body is free.
    let hash_signed = signed.split(';').any(|name| name == "x-amz-content-sha256");
    let header = asked.header("x-amz-content-sha256")?.filter(|_| hash_signed);
    let payload = header.or(asked.query("X-Amz-Content-Sha256")).unwrap_or("UNSIGNED-PAYLOAD");
    let pairs: Vec<(&str, &str)> = asked
        .pairs
        .iter()
        .filter(|(name, _, _)| name != "X-Amz-Signature")
        .map(|(n, v, _)| (n.as_str(), v.as_str()))
        .collect();
    check(asked, &Claim { scope, signed, signature, date, payload, pairs: &pairs }, keys).await
}

/// What a client claims to have signed.
struct Claim<'a> {
    scope: Scope<'a>,
    signed: &'a str,
    signature: &'a str,
    date: &'a str,
    payload: &'a str,
    pairs: &'a [(&'a str, &'a str)],
}

async fn check(asked: &Asked<'_>, claim: &Claim<'_>, keys: &dyn Keys) -> S3Result<Verified> {
    let mut signed: Vec<String> = claim.signed.split(';').map(str::to_ascii_lowercase).collect();
    signed.sort_unstable();
    all_signed(asked, &signed)?;
    let found = find(keys, claim.scope.key).await?;
    let key = claim.scope.signing_key(found.secret.expose());
    let given = hex::decode(claim.signature).map_err(|_| mismatch())?;
    let scope = claim.scope.text();
    let holds = Reading::ALL.into_iter().any(|reading| {
        let Some(request) = canonical::request(asked.parts, claim.pairs, &signed, claim.payload, reading)
        else {
            return false;
        };
        let hash = hex::encode(digest::digest(&digest::SHA256, &request));
        let text = format!("AWS4-HMAC-SHA256\n{}\n{scope}\n{hash}", claim.date);
        hmac::verify(&key, text.as_bytes(), &given).is_ok()
    });
    if !holds {
        return Err(mismatch());
    }
    let seed = ChunkSigner { key, date: claim.date.to_owned(), scope, previous: claim.signature.to_owned() };
    Ok(Verified { who: found.who, payload: payload(claim.payload, Some(seed))? })
}

/// The signature, in hex, of a request by header: what a client sends. `who`: its secret, and the date.
#[cfg(debug_assertions)]
pub(crate) fn signature_of(
    parts: &http::request::Parts,
    pairs: &[(&str, &str)],
    signed: &[String],
    (secret, date): (&str, &str),
) -> Option<String> {
    let scope = Scope { key: "", date: date.get(..8)?, region: "us-east-1", service: "s3" };
    let request = canonical::request(parts, pairs, signed, "UNSIGNED-PAYLOAD", Reading::ALL[0])?;
    let hash = hex::encode(digest::digest(&digest::SHA256, &request));
    let text = format!("AWS4-HMAC-SHA256\n{date}\n{}\n{hash}", scope.text());
    Some(hex::encode(hmac::sign(&scope.signing_key(secret), text.as_bytes())))
}

/// Every `x-amz-*` header must be signed: else whoever holds a presigned PUT could add
/// `x-amz-copy-source` and read what the signer may read.
fn all_signed(asked: &Asked<'_>, signed: &[String]) -> S3Result<()> {
    let names = asked.parts.headers.keys().map(http::HeaderName::as_str);
    let must = |name: &&str| {
        *name == "host"
            || name.starts_with("x-amz-") && !matches!(*name, "x-amz-content-sha256" | "x-amz-user-agent")
    };
    for name in names.filter(must) {
        if !signed.iter().any(|s| s == name) {
            let message = format!("There were headers present in the request which were not signed: {name}");
            return Err(fault(S3ErrorCode::AccessDenied, message));
        }
    }
    Ok(())
}

/// What an anonymous request says about its body.
pub(super) fn unsigned_payload(asked: &Asked<'_>) -> S3Result<Payload> {
    payload(asked.header("x-amz-content-sha256")?.unwrap_or("UNSIGNED-PAYLOAD"), None)
}

fn payload(text: &str, seed: Option<ChunkSigner>) -> S3Result<Payload> {
    match text {
        "UNSIGNED-PAYLOAD" => Ok(Payload::Unsigned),
        "STREAMING-UNSIGNED-PAYLOAD-TRAILER" => Ok(Payload::Chunked(None)),
        "STREAMING-AWS4-HMAC-SHA256-PAYLOAD" | "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER" => {
            Ok(Payload::Chunked(seed.map(Box::new)))
        }
        text if text.starts_with("STREAMING-") => {
            Err(fault(S3ErrorCode::NotImplemented, format!("{text} is not implemented.")))
        }
        text => {
            let mut hash = [0; 32];
            match hex::decode_to_slice(text, &mut hash) {
                Ok(()) => Ok(Payload::Hash(hash)),
                Err(_) => Err(invalid(
                    "x-amz-content-sha256 must be UNSIGNED-PAYLOAD, STREAMING-UNSIGNED-PAYLOAD-TRAILER, \
                     STREAMING-AWS4-HMAC-SHA256-PAYLOAD, STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER or a valid sha256 value.",
                )),
            }
        }
    }
}

/// Checks the chain of chunk signatures; each covers the one before it.
pub(crate) struct ChunkSigner {
    key: hmac::Key,
    date: String,
    scope: String,
    previous: String,
}

impl ChunkSigner {
    /// Whether `given` (hex) signs the chunk with this hash, as the next of the chain.
    pub(crate) fn chunk(&mut self, hash: &[u8], given: &str) -> bool {
        let hash = hex::encode(hash);
        let text = format!(
            "AWS4-HMAC-SHA256-PAYLOAD\n{}\n{}\n{}\n{EMPTY}\n{hash}",
            self.date, self.scope, self.previous
        );
        self.step(&text, given)
    }

    /// Whether `given` (hex) signs the trailers, as the last of the chain.
    pub(crate) fn trailer(&mut self, trailers: &str, given: &str) -> bool {
        let hash = hex::encode(digest::digest(&digest::SHA256, trailers.as_bytes()));
        let text =
            format!("AWS4-HMAC-SHA256-TRAILER\n{}\n{}\n{}\n{hash}", self.date, self.scope, self.previous);
        self.step(&text, given)
    }

    fn step(&mut self, text: &str, given: &str) -> bool {
        let holds =
            hex::decode(given).is_ok_and(|given| hmac::verify(&self.key, text.as_bytes(), &given).is_ok());
        self.previous = given.to_owned();
        holds
    }

    /// A signer as the golden test of AWS's documentation has it.
    #[cfg(any(test, debug_assertions))]
    pub(crate) fn for_test(secret: &str, date: &str, region: &str, seed: &str) -> ChunkSigner {
        let scope = Scope { key: "k", date: &date[..8], region, service: "s3" };
        ChunkSigner {
            key: scope.signing_key(secret),
            date: date.to_owned(),
            scope: scope.text(),
            previous: seed.to_owned(),
        }
    }
}

/// Reads `20130524T000000Z`, seconds since 1970.
fn parse_compact(text: &str) -> Option<i64> {
    let bytes = text.as_bytes();
    let shape = bytes.len() == 16 && text.is_ascii() && bytes[8] == b'T' && bytes[15] == b'Z';
    let number = |from: usize, to: usize| {
        let digits = text.get(from..to).filter(|_| shape)?;
        digits.bytes().all(|b| b.is_ascii_digit()).then(|| digits.parse::<u16>().ok())?
    };
    let small = |from: usize| number(from, from + 2).and_then(|n| u8::try_from(n).ok());
    let month = Month::try_from(small(4)?).ok()?;
    let date = Date::from_calendar_date(i32::from(number(0, 4)?), month, small(6)?).ok()?;
    let time = Time::from_hms(small(9)?, small(11)?, small(13)?).ok()?;
    Some(PrimitiveDateTime::new(date, time).assume_utc().unix_timestamp())
}

/// Writes seconds since 1970 as `20130524T000000Z`.
fn compact_date(seconds: i64) -> Option<String> {
    let at = OffsetDateTime::from_unix_timestamp(seconds).ok()?;
    let (hour, minute, second) = at.to_hms();
    let month = u8::from(at.month());
    Some(format!("{:04}{month:02}{:02}T{hour:02}{minute:02}{second:02}Z", at.year(), at.day()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compact_dates_read_back() {
        for (text, seconds) in [
            ("20130524T000000Z", Some(1_369_353_600)),
            ("20260230T000000Z", None),
            ("20130524T250000Z", None),
            ("20130524 000000Z", None),
            ("2013-5-24T0000Z0", None),
            ("", None),
        ] {
            assert_eq!(parse_compact(text), seconds, "{text}");
            if let Some(seconds) = seconds {
                assert_eq!(compact_date(seconds).as_deref(), Some(text));
            }
        }
    }

    #[test]
    fn scopes_of_any_region_but_only_of_s3_are_read() {
        for (text, ok) in [
            ("BTKEY/20130524/us-east-1/s3/aws4_request", true),
            ("BTKEY/20130524/mars/s3/aws4_request", true),
            ("BTKEY/20130524/us-east-1/sts/aws4_request", false),
            ("BTKEY/20130524//s3/aws4_request", false),
            ("/20130524/r/s3/aws4_request", false),
            ("BTKEY/2013052/r/s3/aws4_request", false),
            ("BTKEY/20130524/r/s3/aws4", false),
            ("", false),
        ] {
            assert_eq!(Scope::parse(text).is_some(), ok, "{text}");
        }
    }
}
