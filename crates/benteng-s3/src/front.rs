//! What happens to a request before and after s3s: signature, names, body; request id, log.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use benteng_host::{Busy, Host, random_array};
use bytes::Bytes;
use futures::{FutureExt, StreamExt};
use http::header::{CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, EXPECT, HOST, SERVER};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri};
use hyper::body::Incoming;
use s3s::service::S3Service;
use s3s::{Body, S3Error, S3ErrorCode, S3Result};
use tokio::sync::Semaphore;

use crate::answer::{Answer, Record};
use crate::body::Intake;
use crate::call::{Call, Note};
use crate::checksum;
use crate::condition::Conditions;
use crate::fault::{self, fault, internal};
use crate::names::{self, Hosts};
use crate::sign::{self, Keys};
use crate::xml;

/// Largest XML body: 1000 keys of 1024 bytes, each byte written as `&#x1F;`, fit.
const XML_MAX: u64 = 8 << 20;
/// XML of all requests together, in KiB; more wait.
const XML_BUDGET_KIB: usize = 64 << 10;
/// Headers that are ours to read; s3s would refuse what AWS takes, or do what is done already.
pub(crate) const TAKEN: [&str; 11] = [
    "authorization",
    "cache-control",
    "content-disposition",
    "content-encoding",
    "content-language",
    "content-type",
    "expires",
    "x-amz-content-sha256",
    "x-amz-decoded-content-length",
    "x-amz-trailer",
    "x-amz-security-token",
];

/// The way from a request to an answer. One for the door.
pub(crate) struct Front {
    service: S3Service,
    keys: Arc<dyn Keys>,
    hosts: Hosts,
    host: Host,
    idle: Duration,
    scheme: &'static str,
    xml: Semaphore,
}

/// What s3s answered, with the call that it belongs to.
type Served = (Response<Body>, Option<Arc<Call>>);

impl Front {
    /// `idle`: how long a body may give nothing; `scheme`: `http` or `https`.
    pub(crate) fn new(
        service: S3Service,
        keys: Arc<dyn Keys>,
        hosts: Hosts,
        host: Host,
        idle: Duration,
        scheme: &'static str,
    ) -> Front {
        Front { service, keys, hosts, host, idle, scheme, xml: Semaphore::new(XML_BUDGET_KIB) }
    }

    /// Answers a request; its connection counts as used until the answer is sent. Never fails: what goes wrong
    /// is an answer.
    pub(crate) async fn handle(&self, request: Request<Incoming>, busy: Busy) -> Response<Answer> {
        let id = hex::encode_upper(random_array::<8>(self.host.random.as_ref()));
        let note = Arc::new(Note::new(id, self.host.clock.now()));
        let (parts, incoming) = request.into_parts();
        let waits = parts.headers.contains_key(EXPECT);
        let intake = Intake::new(incoming, Arc::clone(&self.host.clock), self.idle);
        let serve = self.serve(parts, &intake, &note);
        let served = match AssertUnwindSafe(serve).catch_unwind().await {
            Ok(served) => served,
            // The panic hook has said what and where; this request ends, the node goes on.
            Err(_) => {
                metrics::counter!("benteng_s3_panics_total").increment(1);
                Err(internal("the request panicked"))
            }
        };
        let (response, call) = served.unwrap_or_else(|error| (render(error), None));
        let keep = intake.drain(waits).await;
        let mut response = self.finish(response, call.as_deref(), note, intake, busy);
        if !keep {
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }

    async fn serve(&self, mut parts: Parts, intake: &Arc<Intake>, note: &Arc<Note>) -> S3Result<Served> {
        let named =
            parts.headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default().to_owned();
        let bucket = self.hosts.bucket(&named);
        let query = parts.uri.query().unwrap_or_default().to_owned();
        let pairs = names::query_pairs(&query)?;
        let now = self.host.clock.wall();
        let verified = sign::verify(&parts, &pairs, bucket.as_deref(), self.keys.as_ref(), now).await?;
        note.principal(&verified.who.name);
        let anonymous = verified.who.is_anonymous();
        promote(&pairs, &mut parts.headers);
        let path = parts.uri.path();
        let key = if bucket.is_some() {
            path.get(1..)
        } else {
            path.get(1..).and_then(|p| Some(p.split_once('/')?.1))
        };
        let has_key = key.is_some_and(|key| !key.is_empty());
        check_operation(&parts, &pairs, has_key).map_err(|e| if anonymous { not_for_nobody() } else { e })?;
        let headers = parts.headers.clone();
        let conditions = Conditions::take(&mut parts.headers)?;
        for name in TAKEN {
            parts.headers.remove(name);
        }
        parts.uri = without_signature(&parts.uri, &pairs)?;
        let origin = format!("{}://{named}", self.scheme);
        let (intake, note) = (Arc::clone(intake), Arc::clone(note));
        let call =
            Arc::new(Call::new(verified.who, verified.payload, conditions, headers, origin, intake, note));
        parts.extensions.insert(Arc::clone(&call));
        // Bodies of objects go around s3s; XML is read here, checked, and handed over whole.
        let xml = parts.method == Method::POST || parts.method == Method::PUT && !has_key;
        if xml && anonymous {
            // No role of nobody's allows any of these; reading its body first would be a gift.
            return Err(not_for_nobody());
        }
        let (body, _budget) = if xml { self.read_xml(&call, &pairs).await? } else { (Bytes::new(), None) };
        parts.headers.insert(CONTENT_LENGTH, HeaderValue::from(body.len()));
        let request = Request::from_parts(parts, Body::from(body));
        let response = self.service.call(request).await;
        let response = response.map_err(|e| internal(&format!("s3s could not answer: {e:?}")))?;
        if anonymous && response.status() == StatusCode::NOT_IMPLEMENTED {
            return Err(not_for_nobody());
        }
        Ok((response, Some(call)))
    }

    /// Reads an XML body whole; the second value holds its share of the budget.
    async fn read_xml(
        &self,
        call: &Call,
        pairs: &[(String, String, &str)],
    ) -> S3Result<(Bytes, Option<tokio::sync::SemaphorePermit<'_>>)> {
        let chunked = call.headers.contains_key(http::header::TRANSFER_ENCODING);
        let length = call
            .headers
            .get(CONTENT_LENGTH)
            .and_then(|value| value.to_str().ok()?.trim().parse::<u64>().ok());
        let length = match length {
            Some(length) => length,
            None if chunked => {
                let message = "You must provide the Content-Length HTTP header.";
                return Err(fault(S3ErrorCode::MissingContentLength, message));
            }
            None => 0,
        };
        if length > XML_MAX {
            return Err(fault(S3ErrorCode::MaxMessageLengthExceeded, "Your request was too big."));
        }
        let kib = u32::try_from(length.div_ceil(1024)).unwrap_or(u32::MAX);
        // Never closed, so this only waits.
        let permit = self.xml.acquire_many(kib).await.ok();
        let (mut stream, _) = call.intake.open(call.whole_plan());
        let mut body = Vec::with_capacity(usize::try_from(length).unwrap_or_default());
        while let Some(piece) = stream.next().await {
            body.extend_from_slice(&piece.map_err(|e| fault::body(&e))?);
        }
        drop(stream);
        let checked = checksum::check_whole(&call.headers, &body)?;
        if let Some((code, at)) = xml::foreign(&body) {
            // A parser that lets it pass would delete a key that no answer in XML can name.
            let message = format!(
                "The XML you provided holds character U+{code:04X} at byte {at}, which XML 1.0 cannot carry. \
                 Nothing was done; keys with such characters are deleted one by one, by DELETE."
            );
            return Err(fault(S3ErrorCode::MalformedXML, message));
        }
        if pairs.iter().any(|(name, _, _)| name == "delete") && !checked {
            // Whoever deletes a thousand keys by a body that arrived damaged cannot undo it.
            let message = "Missing required header for this request: Content-MD5 OR x-amz-checksum-*";
            return Err(fault(S3ErrorCode::InvalidRequest, message));
        }
        Ok((Bytes::from(body), permit))
    }

    /// Puts request id, length and record on an answer.
    fn finish(
        &self,
        response: Response<Body>,
        call: Option<&Call>,
        note: Arc<Note>,
        intake: Arc<Intake>,
        busy: Busy,
    ) -> Response<Answer> {
        let (mut parts, body) = response.into_parts();
        let mut bytes = body.bytes().unwrap_or_default();
        let mut code = error_code(&bytes).unwrap_or_default();
        if intake.mismatch() && code == "SignatureDoesNotMatch" {
            let (changed, body) = render(fault::sha256_mismatch()).into_parts();
            (parts, bytes) = (changed, body.bytes().unwrap_or_default());
            code = error_code(&bytes).unwrap_or_default();
        }
        let stream = call.and_then(Call::take_answer);
        let text = parts.headers.get(CONTENT_TYPE).is_some_and(|value| value == "application/xml");
        if stream.is_none() && text {
            bytes = finish_xml(bytes, &note.id);
        }
        if parts.status == StatusCode::OK && call.is_some_and(Call::is_partial) {
            parts.status = StatusCode::PARTIAL_CONTENT;
        }
        if parts.status == StatusCode::NOT_MODIFIED {
            code = "NotModified".to_owned();
            bytes = Bytes::new();
            parts.headers.remove(CONTENT_TYPE);
        }
        if let Ok(id) = HeaderValue::try_from(note.id.as_str()) {
            parts.headers.insert(HeaderName::from_static("x-amz-request-id"), id);
        }
        parts.headers.insert(SERVER, HeaderValue::from_static("Benteng"));
        let length = match &stream {
            Some(_) => {
                parts.headers.get(CONTENT_LENGTH).and_then(|n| n.to_str().ok()?.parse().ok()).unwrap_or(0)
            }
            None => bytes.len() as u64,
        };
        let clock = Arc::clone(&self.host.clock);
        let status = parts.status.as_u16();
        let record = Record { note, intake, clock, status, code, length, bytes_out: 0, _busy: busy };
        let answer = match stream {
            Some(stream) => Answer::stream(stream, length, record),
            None => Answer::whole(bytes, record),
        };
        Response::from_parts(parts, answer)
    }
}

pub(crate) fn check_operation(
    parts: &Parts,
    pairs: &[(String, String, &str)],
    has_key: bool,
) -> S3Result<()> {
    let form = parts.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    if parts.method == Method::POST && form.is_some_and(|form| form.starts_with("multipart/form-data")) {
        return Err(fault(S3ErrorCode::NotImplemented, "Uploads by HTML form are not implemented."));
    }
    for name in ["x-amz-write-offset-bytes", "x-amz-rename-source"] {
        if parts.headers.contains_key(name) {
            let message =
                format!("A header you provided implies functionality that is not implemented: {name}");
            return Err(fault(S3ErrorCode::NotImplemented, message));
        }
    }
    names::check_query(&parts.method, pairs, has_key)
}

fn not_for_nobody() -> S3Error {
    fault(S3ErrorCode::AccessDenied, "Access Denied")
}

/// Parameters of presigned URLs that stand for headers become headers: signers that cannot
/// make the client send a header carry it in the (signed) query.
pub(crate) fn promote(pairs: &[(String, String, &str)], headers: &mut HeaderMap) {
    let presigned = pairs.iter().any(|(name, _, _)| name == "X-Amz-Signature" || name == "Signature");
    for (name, value, _) in pairs.iter().filter(|_| presigned) {
        let name = name.to_ascii_lowercase();
        let stands = name.starts_with("x-amz-") && !is_signature(&name)
            || name == "content-type"
            || name == "content-md5";
        let parsed = HeaderName::try_from(&name).ok().zip(HeaderValue::from_bytes(value.as_bytes()).ok());
        if let Some((name, value)) = parsed.filter(|_| stands)
            && !headers.contains_key(&name)
        {
            headers.insert(name, value);
        }
    }
}

/// Whether a parameter (in lower case) is part of the signature.
fn is_signature(name: &str) -> bool {
    matches!(
        name,
        "x-amz-algorithm"
            | "x-amz-credential"
            | "x-amz-date"
            | "x-amz-expires"
            | "x-amz-signedheaders"
            | "x-amz-signature"
            | "x-amz-security-token"
            | "x-amz-content-sha256"
            | "signature"
            | "awsaccesskeyid"
            | "expires"
    )
}

/// The path and query without what s3s would check once more.
pub(crate) fn without_signature(uri: &Uri, pairs: &[(String, String, &str)]) -> S3Result<Uri> {
    let kept: Vec<&str> = pairs
        .iter()
        .filter(|(name, _, _)| !is_signature(&name.to_ascii_lowercase()))
        .map(|(_, _, raw)| *raw)
        .collect();
    let path = uri.path();
    let text = if kept.is_empty() { path.to_owned() } else { format!("{path}?{}", kept.join("&")) };
    text.parse().map_err(|_| fault(S3ErrorCode::InvalidURI, "Couldn't parse the specified URI."))
}

fn render(error: S3Error) -> Response<Body> {
    error.to_http_response().unwrap_or_else(|_| {
        // Only a failure to write XML into memory leads here.
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
        response
    })
}

/// The code of an error document.
fn error_code(body: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(body.get(..body.len().min(512))?).ok()?;
    let (_, rest) = text.split_once("<Error><Code>")?;
    Some(rest.split_once("</Code>")?.0.to_owned())
}

/// Adds the request id to an error document, and escapes what XML parsers would change or
/// refuse: keys may hold any character, and s3s escapes markup only.
fn finish_xml(body: Bytes, id: &str) -> Bytes {
    let raw = |b: &u8| matches!(b, 0..0x20) && !matches!(b, b'\n' | b'\t');
    let error = body.ends_with(b"</Error>");
    if !error && !body.iter().any(raw) {
        return body;
    }
    let mut out = Vec::with_capacity(body.len() + 128);
    for byte in &body {
        if raw(byte) {
            out.extend_from_slice(format!("&#x{byte:X};").as_bytes());
        } else {
            out.push(*byte);
        }
    }
    if error {
        out.truncate(out.len() - "</Error>".len());
        out.extend_from_slice(format!("<RequestId>{id}</RequestId></Error>").as_bytes());
    }
    out.into()
}

#[cfg(test)]
mod tests;
