//! What the parsers of this door must bear, as plain functions for the fuzzer in `tests/fuzz`. Compiled with
//! debug assertions only: no release holds any of it. A panic is a find.

mod signed; // signatures: nobody guesses one, and a right one holds

use benteng_objects::BodyError;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request};
use s3s::dto::{CompletedMultipartUpload, CreateBucketConfiguration, Delete};
use s3s::service::{S3Service, S3ServiceBuilder};
use s3s::{Body, S3};

use crate::body::{Chunked, Trailers};
use crate::condition::{Conditions, parse_range, parse_tags};
use crate::names::{self, Hosts};
use crate::sign::ChunkSigner;
use crate::{checksum, described, front, ops, token, xml};

pub use signed::signature;

/// A request as text: a line `METHOD URI`, headers, an empty line, the body. `None`: it is no request that
/// hyper would let through.
fn request(bytes: &[u8]) -> Option<Request<Bytes>> {
    let at = bytes.windows(2).position(|pair| pair == b"\n\n").unwrap_or(bytes.len());
    let (head, body) = (bytes.get(..at)?, bytes.get(at + 2..).unwrap_or_default());
    let mut lines = head.split(|byte| *byte == b'\n');
    let first = std::str::from_utf8(lines.next()?).ok()?;
    let (method, uri) = first.split_once(' ')?;
    let mut out = Request::builder().method(method).uri(uri);
    for line in lines {
        let at = line.iter().position(|byte| *byte == b':')?;
        let value = HeaderValue::from_bytes(line.get(at + 1..)?.trim_ascii()).ok()?;
        out = out.header(HeaderName::from_bytes(line.get(..at)?).ok()?, value);
    }
    let out = out.body(Bytes::copy_from_slice(body)).ok()?;
    // Whatever comes over a socket has a path.
    out.uri().path().starts_with('/').then_some(out)
}

/// Operations that none is there: s3s routes and parses, and that is all.
struct Nothing;
impl S3 for Nothing {}

/// A whole request, as `front` sees it and as s3s does behind it.
pub fn whole_request(bytes: &[u8]) {
    let Some(request) = request(bytes) else { return };
    let (mut parts, body) = request.into_parts();
    let query = parts.uri.query().unwrap_or_default().to_owned();
    let Ok(pairs) = names::query_pairs(&query) else { return };
    let host = parts.headers.get("host").and_then(|host| host.to_str().ok()).unwrap_or_default().to_owned();
    let hosts = Hosts::new(&["localhost".to_owned()]).expect("it is a host name");
    let bucket = hosts.bucket(&host);
    assert!(bucket.is_none_or(|bucket| !bucket.is_empty()));
    front::promote(&pairs, &mut parts.headers);
    let has_key =
        parts.uri.path().get(1..).and_then(|p| p.split_once('/')).is_some_and(|(_, k)| !k.is_empty());
    if front::check_operation(&parts, &pairs, has_key).is_err() {
        return;
    }
    if Conditions::take(&mut parts.headers).is_err() {
        return;
    }
    for name in front::TAKEN {
        parts.headers.remove(name);
    }
    let Ok(uri) = front::without_signature(&parts.uri, &pairs) else { return };
    parts.uri = uri;
    let is_xml = parts.method == Method::POST || parts.method == Method::PUT && !has_key;
    let body = if is_xml { body } else { Bytes::new() };
    parts.headers.insert(http::header::CONTENT_LENGTH, HeaderValue::from(body.len()));
    let service: S3Service = {
        let mut builder = S3ServiceBuilder::new(Nothing);
        builder.set_host(hosts);
        builder.build()
    };
    let answered = futures::executor::block_on(service.call(Request::from_parts(parts, Body::from(body))));
    if let Ok(response) = answered {
        assert!(!response.status().is_success(), "an operation that is not there succeeded");
    }
}

/// Data and trailers of a body.
type Decoded = (Vec<u8>, Vec<(String, String)>);

/// What a body of aws-chunked comes to, or why it is refused.
fn decoded(mut chunked: Chunked, wire: &[u8], piece: usize) -> Result<Decoded, String> {
    let why = |e: BodyError| format!("{e:?}");
    let mut out = Vec::new();
    for piece in wire.chunks(piece.max(1)) {
        let mut input = Bytes::copy_from_slice(piece);
        while let Some(data) = chunked.push(&mut input).map_err(why)? {
            out.extend_from_slice(&data);
        }
    }
    assert!(out.len() <= wire.len(), "data that did not come");
    Ok((out, chunked.finish().map_err(why)?))
}

/// Bodies with `aws-chunked`: the first byte says how the socket cut them. Unsigned ones mean the same however
/// they are cut; of signed ones none is taken whose signatures nobody made.
pub fn chunked(bytes: &[u8]) {
    let Some((piece, wire)) = bytes.split_first() else { return };
    let whole = decoded(Chunked::new(None), wire, wire.len());
    assert_eq!(
        whole,
        decoded(Chunked::new(None), wire, usize::from(*piece) + 1),
        "a body depends on its pieces"
    );
    // Trailers are bounded, and a line end of two bytes lengthens them.
    if let Ok((data, trailers)) = whole
        && wire.len() < 8 << 10
    {
        let mut again = format!("{:x}\r\n", data.len()).into_bytes();
        again.extend_from_slice(&data);
        again.extend_from_slice(if data.is_empty() { b"" } else { b"\r\n0\r\n" });
        for (name, value) in &trailers {
            again.extend_from_slice(format!("{name}:{value}\r\n").as_bytes());
        }
        again.extend_from_slice(b"\r\n");
        assert_eq!(
            decoded(Chunked::new(None), &again, 7),
            Ok((data, trailers)),
            "a body changes when it is sent again"
        );
    }
    let signer = ChunkSigner::for_test("nobody knows", "20130524T000000Z", "us-east-1", &"0".repeat(64));
    let signed = decoded(Chunked::new(Some(Box::new(signer))), wire, usize::from(*piece) + 1);
    assert!(signed.is_err(), "a body that nobody signed is taken: {signed:?}");
}

fn read<T: for<'a> s3s::xml::Deserialize<'a>>(body: &[u8]) -> Option<T> {
    let mut reader = s3s::xml::Deserializer::new(body);
    let read = T::deserialize(&mut reader).ok()?;
    reader.expect_eof().ok().map(|()| read)
}

/// XML bodies: of a DELETE of many keys, of a completion, of a bucket's creation.
pub fn documents(bytes: &[u8]) {
    let foreign = xml::foreign(bytes);
    if let Some((_, at)) = foreign {
        assert!(at < bytes.len());
    }
    if let Some(delete) = read::<Delete>(bytes)
        && foreign.is_none()
    {
        for object in delete.objects {
            assert!(xml::echo(object.key).is_some(), "I8: a key passed that no answer can name");
        }
    }
    if let Some(listed) = read::<CompletedMultipartUpload>(bytes)
        && let Ok(parts) = ops::listed_parts(listed.parts.unwrap_or_default())
    {
        assert!(parts.iter().all(|part| (1..=10_000).contains(&part.number.0)));
    }
    let _ = read::<CreateBucketConfiguration>(bytes);
}

/// Names, queries, dates, tokens, tags: the first byte says which.
pub fn texts(bytes: &[u8]) {
    let Some((which, rest)) = bytes.split_first() else { return };
    let Ok(text) = std::str::from_utf8(rest) else { return };
    match which {
        0 => {
            if let Ok(name) = names::decode(text) {
                assert_eq!(names::decode(&names::encode(&name)).expect("it was encoded"), name);
                assert_eq!(names::decode(&names::encode_path(&name)).expect("it was encoded"), name);
            }
        }
        1 => {
            let Ok(pairs) = names::query_pairs(text) else { return };
            let again: Vec<String> = pairs
                .iter()
                .map(|(name, value, _)| format!("{}={}", names::encode(name), names::encode(value)))
                .collect();
            let again = again.join("&");
            let once_more = names::query_pairs(&again).expect("it was encoded");
            assert!(pairs.iter().zip(&once_more).all(|(a, b)| (&a.0, &a.1) == (&b.0, &b.1)));
            for method in [Method::GET, Method::PUT, Method::POST, Method::DELETE] {
                for has_key in [true, false] {
                    let _ = names::check_query(&method, &pairs, has_key);
                }
            }
        }
        2 => {
            if let Some(seconds) = names::parse_http_date(text)
                && (0..=253_402_300_799).contains(&seconds)
            {
                let at = benteng_meta::ids::SiteTime(seconds * 1_000_000);
                assert_eq!(names::parse_http_date(&names::http_date(at)), Some(seconds));
            }
        }
        3 => {
            if let Some(line) = token::read("bucket", text) {
                assert_eq!(token::read("bucket", &token::make("bucket", &line)), Some(line));
            }
            assert_eq!(token::read("bucket", &token::make("bucket", text)).as_deref(), Some(text));
        }
        4 => {
            let tagging = text.to_owned();
            if let Ok(described) = described::take(&HeaderMap::new(), None, Some(&tagging)) {
                assert!(described.tags.len() <= 10);
            }
            let _ = described::without_aws_chunked(text);
        }
        _ => {
            if let Ok(hosts) = Hosts::new(&[text.to_owned()]) {
                assert_eq!(hosts.bucket(text), None);
                assert_eq!(hosts.bucket(&format!("arsip.{text}")).as_deref(), Some("arsip"));
            }
            let hosts = Hosts::new(&["localhost".to_owned()]).expect("it is a host name");
            assert!(hosts.bucket(text).is_none_or(|bucket| !bucket.is_empty()));
        }
    }
}

/// Range, lists of tags, conditional headers and checksums: the first byte picks a size or a header.
pub fn headers(bytes: &[u8]) {
    let Some((which, rest)) = bytes.split_first() else { return };
    if let Ok(text) = std::str::from_utf8(rest) {
        if let Some(asked) = parse_range(text) {
            for size in [0, 1, u64::from(*which), 1 << 40, u64::MAX] {
                benteng_objects::fuzz::asked_range(asked, size);
            }
        }
        let _ = parse_tags(text);
        for kind in checksum::KINDS {
            if let Ok(sum) = checksum::read(kind, text) {
                let again = checksum::read(kind, &checksum::show(&sum));
                assert!(again.is_ok_and(|again| again == sum), "a checksum changes when it is shown");
            }
        }
    }
    const NAMES: [&str; 22] = [
        "range",
        "if-match",
        "if-none-match",
        "if-modified-since",
        "if-unmodified-since",
        "if-range",
        "x-amz-copy-source-if-match",
        "x-amz-copy-source-if-none-match",
        "x-amz-copy-source-if-modified-since",
        "x-amz-copy-source-if-unmodified-since",
        "content-md5",
        "x-amz-checksum-crc32",
        "x-amz-checksum-crc32c",
        "x-amz-checksum-crc64nvme",
        "x-amz-checksum-sha1",
        "x-amz-checksum-sha256",
        "x-amz-trailer",
        "x-amz-sdk-checksum-algorithm",
        "content-encoding",
        "x-amz-decoded-content-length",
        "content-disposition",
        "content-type",
    ];
    let mut headers = HeaderMap::new();
    let (mut at, mut body) = (usize::from(*which), &b""[..]);
    for line in rest.split(|byte| *byte == b'\n').take(64) {
        body = line;
        if let Ok(value) = HeaderValue::from_bytes(line) {
            headers.append(NAMES[at % NAMES.len()], value);
        }
        at += 1;
    }
    let _ = checksum::of_headers(&headers);
    let _ = checksum::check_whole(&headers, body);
    let _ = checksum::sent(&headers, &Trailers::default());
    let _ = described::says_aws_chunked(&headers);
    if let Ok(described) = described::take(&headers, None, None) {
        let mut out = HeaderMap::new();
        described::put(described.system.clone(), &mut out);
        let again = described::take(&out, None, None).expect("it was taken once");
        assert_eq!(again.system.content_disposition, described.system.content_disposition);
    }
    if Conditions::take(&mut headers).is_ok() {
        // If-Range without a range means nothing, and s3s does not know it.
        headers.remove("if-range");
        assert!(headers.keys().all(|name| !name.as_str().contains("if-")), "a condition is left for s3s");
    }
}
