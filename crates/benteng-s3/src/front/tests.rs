//! The front over a real HTTP connection, with operations of the test's own behind it.

use std::sync::Mutex;

use benteng_identity::{Principal, Role, Secret};
use benteng_objects::{BodyError, Error};
use hyper_util::rt::TokioIo;
use ring::hmac;
use s3s::dto::{GetObjectInput, GetObjectOutput, PutObjectInput, PutObjectOutput};
use s3s::service::S3ServiceBuilder;
use s3s::{S3, S3Request, S3Response};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

use super::*;

#[test]
fn xml_is_escaped_and_errors_carry_the_request_id() {
    for (body, wanted) in [
        ("<a>\u{1}\r\n</a>", "<a>&#x1;&#xD;\n</a>"),
        ("<a>ü\t</a>", "<a>ü\t</a>"),
        ("<Error><Code>X</Code></Error>", "<Error><Code>X</Code><RequestId>ID</RequestId></Error>"),
    ] {
        assert_eq!(finish_xml(Bytes::from(body), "ID"), wanted);
    }
    assert_eq!(error_code(b"<?xml?><Error><Code>NoSuchKey</Code>").as_deref(), Some("NoSuchKey"));
    assert_eq!(error_code(b"<ListBucketResult>"), None);
}

#[test]
fn signed_parameters_stand_for_headers_only_in_presigned_urls() {
    let run = |query: &str| {
        let pairs = names::query_pairs(query).expect("it decodes");
        let mut headers = HeaderMap::new();
        headers.insert("x-amz-meta-b", HeaderValue::from_static("header"));
        promote(&pairs, &mut headers);
        let get = |name: &str| headers.get(name).map(|v| v.to_str().unwrap_or_default().to_owned());
        (get("x-amz-meta-a"), get("x-amz-meta-b"), get("x-amz-date"), get("content-type"))
    };
    let b = Some("header".to_owned());
    let presigned = "X-Amz-Signature=s&X-Amz-Date=d&x-amz-meta-a=1&x-amz-meta-b=2&content-type=text%2Fplain";
    assert_eq!(run(presigned), (Some("1".into()), b.clone(), None, Some("text/plain".into())));
    assert_eq!(run("x-amz-meta-a=1"), (None, b, None, None));
}

#[test]
fn the_signature_is_gone_and_the_rest_stays_as_it_was() {
    let uri: Uri =
        "/b//k%2F..?X-Amz-Signature=s&partNumber=1&uploadId=a%2Bb&Expires=3".parse().expect("a URI");
    let query = uri.query().unwrap_or_default().to_owned();
    let pairs = names::query_pairs(&query).expect("it decodes");
    let got = without_signature(&uri, &pairs).expect("it stays a URI");
    assert_eq!(got.to_string(), "/b//k%2F..?partNumber=1&uploadId=a%2Bb");
}

const SECRET: &str = "0123456789012345678901234567890123456789";

struct OneKey;

#[async_trait::async_trait]
impl Keys for OneKey {
    async fn access_key(&self, id: &str) -> benteng_identity::Result<Option<(Principal, Secret)>> {
        let who = Principal { name: "budi".into(), roles: vec![Role::Sistem], opd: None };
        Ok((id == "KEY").then(|| (who, Secret::new(SECRET.into()))))
    }
}

/// PUT reads its body and keeps what came of it; GET gives ten bytes of a hundred, then fails.
#[derive(Clone, Default)]
struct Fake {
    came: Arc<Mutex<Vec<Result<usize, String>>>>,
}

#[async_trait::async_trait]
impl S3 for Fake {
    async fn put_object(&self, req: S3Request<PutObjectInput>) -> S3Result<S3Response<PutObjectOutput>> {
        let call = Call::of(&req, "PutObject", Some("bucket"))?;
        if req.input.key == "refused" {
            return Err(fault(S3ErrorCode::AccessDenied, "no"));
        }
        assert_ne!(req.input.key, "panic", "this panic belongs to the test");
        let (_, mut body) = call.body()?;
        let mut length = 0;
        while let Some(piece) = body.next().await {
            match piece {
                Ok(piece) => length += piece.len(),
                Err(e) => {
                    self.came.lock().expect("nobody panics").push(Err(e.to_string()));
                    return Err(fault::objects(Error::Body(e)));
                }
            }
        }
        self.came.lock().expect("nobody panics").push(Ok(length));
        Ok(S3Response::new(PutObjectOutput::default()))
    }

    async fn get_object(&self, req: S3Request<GetObjectInput>) -> S3Result<S3Response<GetObjectOutput>> {
        let call = Call::of(&req, "GetObject", Some("bucket"))?;
        let good = futures::stream::once(async { Ok(Bytes::from_static(b"0123456789")) });
        let key = req.input.key.clone();
        let bad = futures::stream::once(async { Err(Error::Unavailable { why: "the test says so".into() }) });
        match key.as_str() {
            "fails" => call.answer_with(Box::pin(good.chain(bad))),
            // "short": ends cleanly, ninety bytes early.
            _ => call.answer_with(Box::pin(good)),
        }
        let content_length = Some(if key == "whole" { 10 } else { 100 });
        Ok(S3Response::new(GetObjectOutput { content_length, ..Default::default() }))
    }
}

/// A connection to a front in front of `fake`.
fn connect(fake: Fake) -> DuplexStream {
    let host = benteng_host::real::host();
    let service = S3ServiceBuilder::new(fake).build();
    let hosts = Hosts::new(&["localhost".into()]).expect("it is a host name");
    let idle = Duration::from_millis(300);
    let front = Arc::new(Front::new(service, Arc::new(OneKey), hosts, host, idle, "http"));
    let (near, far) = tokio::io::duplex(64 << 10);
    let service = hyper::service::service_fn(move |request| {
        let front = Arc::clone(&front);
        async move {
            let busy = benteng_host::Seats::new(1).take().await.busy();
            Ok::<_, std::convert::Infallible>(front.handle(request, busy).await)
        }
    });
    tokio::spawn(async move {
        // Broken connections are what these tests are about.
        let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(far), service).await;
    });
    near
}

/// A request line that is signed (Signature Version 2, by query).
fn signed(method: &str, key: &str) -> String {
    let text = format!("{method}\n\n\n4102444800\n/bucket/{key}");
    let key_of = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, SECRET.as_bytes());
    let signature = base64::Engine::encode(
        &base64::engine::general_purpose::STANDARD,
        hmac::sign(&key_of, text.as_bytes()),
    );
    let signature = names::encode(&signature);
    format!(
        "{method} /bucket/{key}?AWSAccessKeyId=KEY&Expires=4102444800&Signature={signature} HTTP/1.1\r\nHost: 127.0.0.1\r\n"
    )
}

/// Sends `head` and `body` and reads until the server closes or `enough` came.
async fn talk(stream: &mut DuplexStream, head: &str, body: &[u8], enough: &str) -> String {
    let head = format!("{head}\r\n");
    stream.write_all(head.as_bytes()).await.expect("the server reads heads");
    // A server that has refused the request may read the rest or close; both are tested by what it says.
    let _ = stream.write_all(body).await;
    let mut seen = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let read = stream.read(&mut buffer);
        match tokio::time::timeout(Duration::from_secs(5), read).await.expect("the server answers") {
            Ok(0) | Err(_) => break,
            Ok(n) => seen.extend_from_slice(&buffer[..n]),
        }
        if String::from_utf8_lossy(&seen).contains(enough) {
            break;
        }
    }
    String::from_utf8_lossy(&seen).into_owned()
}

#[tokio::test]
async fn i4_an_answer_that_fails_midway_never_ends_cleanly() {
    for key in ["fails", "short"] {
        let mut stream = connect(Fake::default());
        let seen = talk(&mut stream, &signed("GET", key), b"", "no such text").await;
        if seen.is_empty() {
            // It failed before the head was flushed: a connection that ends without an answer.
            continue;
        }
        assert!(seen.starts_with("HTTP/1.1 200") && seen.contains("content-length: 100"), "{key}: {seen}");
        let (_, body) = seen.split_once("\r\n\r\n").expect("the head ends");
        assert!(body.len() <= 10, "{key}: ninety bytes are missing and the connection is closed: {seen}");
    }
    let mut stream = connect(Fake::default());
    let seen = talk(&mut stream, &signed("GET", "whole"), b"", "0123456789").await;
    assert!(seen.ends_with("0123456789"), "{seen}");
}

#[tokio::test]
async fn a_refused_upload_is_never_asked_for() {
    let head = |key: &str| format!("{}Expect: 100-continue\r\nContent-Length: 5\r\n", signed("PUT", key));
    let mut stream = connect(Fake::default());
    let seen = talk(&mut stream, &head("refused"), b"", "</Error>").await;
    assert!(seen.starts_with("HTTP/1.1 403") && !seen.contains("100 Continue"), "{seen}");
    assert!(seen.to_lowercase().contains("connection: close"), "the body may still come: {seen}");
    let fake = Fake::default();
    let mut stream = connect(fake.clone());
    let seen = talk(&mut stream, &head("welcome"), b"", "100 Continue").await;
    assert!(seen.starts_with("HTTP/1.1 100"), "{seen}");
    stream.write_all(b"hello").await.expect("the server reads");
    let seen = talk(&mut stream, "", b"", "x-amz-request-id").await;
    assert!(seen.contains("HTTP/1.1 200"), "{seen}");
    assert_eq!(*fake.came.lock().expect("nobody panics"), [Ok(5)]);
}

#[tokio::test]
async fn a_refused_body_is_read_on_and_the_connection_kept() {
    let mut stream = connect(Fake::default());
    let body = vec![7; 1 << 20];
    let head = format!("{}Content-Length: {}\r\n", signed("PUT", "refused"), body.len());
    let seen = talk(&mut stream, &head, &body, "</Error>").await;
    assert!(seen.starts_with("HTTP/1.1 403") && !seen.contains("connection: close"), "{seen}");
    let seen = talk(&mut stream, &signed("GET", "whole"), b"", "0123456789").await;
    assert!(seen.starts_with("HTTP/1.1 200"), "{seen}");
}

#[tokio::test]
async fn broken_bodies_have_their_codes() {
    let length = "Content-Length: 9\r\n";
    for (head, body, close, code) in [
        (length.to_owned(), &b"four"[..], true, "IncompleteBody"),
        (length.to_owned(), b"four", false, "RequestTimeout"),
        ("Transfer-Encoding: chunked\r\n".to_owned(), b"0\r\n\r\n", false, "MissingContentLength"),
        ("Content-Length: 5368709121\r\nExpect: 100-continue\r\n".to_owned(), b"", false, "EntityTooLarge"),
        (format!("{length}Content-Encoding: aws-chunked\r\n"), b"zz\r\n12345", false, "InvalidRequest"),
    ] {
        let mut stream = connect(Fake::default());
        let head = format!("{}{head}", signed("PUT", "k"));
        let seen = if close {
            stream.write_all(format!("{head}\r\n").as_bytes()).await.expect("the server reads");
            stream.write_all(body).await.expect("the server reads");
            stream.shutdown().await.expect("our side closes");
            talk_on(&mut stream).await
        } else {
            talk(&mut stream, &head, body, "</Error>").await
        };
        assert!(seen.contains(&format!("<Code>{code}</Code>")), "{code}: {seen}");
        assert!(seen.contains("<RequestId>"), "{code}: {seen}");
    }
}

#[tokio::test]
async fn i7_a_body_that_trickles_ends_with_request_timeout() {
    let mut stream = connect(Fake::default());
    let head = format!("{}Content-Length: 1000000\r\n\r\n", signed("PUT", "k"));
    stream.write_all(head.as_bytes()).await.expect("the server reads heads");
    let (mut reader, mut writer) = tokio::io::split(stream);
    let trickle = async {
        // Never idle, never fast enough: 100 bytes a second at the most.
        while writer.write_all(b"x").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let mut seen = String::new();
    let read = reader.read_to_string(&mut seen);
    let both = futures::future::join(read, trickle);
    let (read, ()) = tokio::time::timeout(Duration::from_secs(60), both).await.expect("it is given up");
    read.expect("the server answers");
    assert!(seen.contains("<Code>RequestTimeout</Code>"), "{seen}");
}

/// Reads until the server closes.
async fn talk_on(stream: &mut DuplexStream) -> String {
    let mut seen = String::new();
    stream.read_to_string(&mut seen).await.expect("the server answers");
    seen
}

#[tokio::test]
async fn a_panic_ends_its_request_alone() {
    let mut stream = connect(Fake::default());
    let head = format!("{}Content-Length: 0\r\n", signed("PUT", "panic"));
    let seen = talk(&mut stream, &head, b"", "</Error>").await;
    assert!(seen.starts_with("HTTP/1.1 500") && seen.contains("InternalError"), "{seen}");
    let seen = talk(&mut stream, &signed("GET", "whole"), b"", "0123456789").await;
    assert!(seen.starts_with("HTTP/1.1 200"), "{seen}");
}

#[tokio::test]
async fn i5_nobody_gets_nothing_and_learns_nothing() {
    for target in [
        "GET /",
        "GET /bucket/k",
        "GET /bucket?policy",
        "DELETE /bucket",
        "PATCH /bucket/k",
        "GET /bucket?made-up",
    ] {
        let mut stream = connect(Fake::default());
        let seen =
            talk(&mut stream, &format!("{target} HTTP/1.1\r\nHost: 127.0.0.1\r\n"), b"", "</Error>").await;
        // What the fake does not have is NotImplemented to a user, and denied to nobody.
        let answered = seen.starts_with("HTTP/1.1 403") || target == "GET /bucket/k";
        assert!(answered, "{target}: {seen}");
    }
}

#[test]
fn body_errors_say_what_happened() {
    assert_eq!(fault::body(&BodyError::Slow(1)).code(), &S3ErrorCode::RequestTimeout);
}
