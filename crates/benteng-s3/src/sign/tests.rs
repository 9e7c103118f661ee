//! Signatures of AWS's documentation hold here; anything that is not what was signed does not.

use std::collections::HashMap;

use benteng_identity::Role;
use http::Request;

use super::*;

const ID: &str = "AKIAIOSFODNN7EXAMPLE";
const SECRET: &str = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";
/// 20130524T000000Z.
const NOW: i64 = 1_369_353_600;

struct OneKey;

#[async_trait::async_trait]
impl Keys for OneKey {
    async fn access_key(&self, id: &str) -> benteng_identity::Result<Option<(Principal, Secret)>> {
        let who = Principal { name: "budi".into(), roles: vec![Role::Sistem], opd: None };
        Ok((id == ID).then(|| (who, Secret::new(SECRET.into()))))
    }
}

/// What `verify` says: the caller's name, or the code of the refusal.
fn verdict(request: Request<()>, now: i64) -> Result<String, String> {
    let (parts, ()) = request.into_parts();
    let pairs = crate::names::query_pairs(parts.uri.query().unwrap_or_default()).expect("the query decodes");
    let run = verify(&parts, &pairs, None, &OneKey, Wall(now * 1_000_000));
    match futures::executor::block_on(run) {
        Ok(verified) => Ok(verified.who.name),
        Err(e) => Err(e.code().as_str().to_owned()),
    }
}

/// "GET Object" of "Examples: Signature Calculations", with changes.
fn get(change: &[(&str, Option<&str>)]) -> Request<()> {
    let credential = format!("{ID}/20130524/us-east-1/s3/aws4_request");
    let signature = "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41";
    let authorization = format!(
        "AWS4-HMAC-SHA256 Credential={credential},SignedHeaders=host;range;x-amz-content-sha256;x-amz-date,Signature={signature}"
    );
    let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    let mut headers: HashMap<&str, String> = HashMap::from([
        ("host", "examplebucket.s3.amazonaws.com".to_owned()),
        ("range", "bytes=0-9".to_owned()),
        ("x-amz-content-sha256", empty.to_owned()),
        ("x-amz-date", "20130524T000000Z".to_owned()),
        ("authorization", authorization),
    ]);
    for (name, value) in change {
        match value {
            Some(value) => headers.insert(name, (*value).to_owned()),
            None => headers.remove(name),
        };
    }
    let mut request = Request::get("/test.txt");
    for (name, value) in headers {
        request = request.header(name, value);
    }
    request.body(()).expect("it is a request")
}

#[test]
fn the_documented_get_is_accepted_and_nothing_else() {
    let budi = || Ok("budi".to_owned());
    let refused = |code: &str| Err(code.to_owned());
    let v2 = "AWS AKIAIOSFODNN7EXAMPLE:frJIUN8DYpKDtOLCwo//yllqDzg=";
    for (change, now, wanted) in [
        (vec![], NOW, budi()),
        (vec![], NOW + 15 * 60, budi()),
        (vec![], NOW + 15 * 60 + 1, refused("RequestTimeTooSkewed")),
        (vec![], NOW - 15 * 60 - 1, refused("RequestTimeTooSkewed")),
        (vec![("range", Some("bytes=0-10"))], NOW, refused("SignatureDoesNotMatch")),
        (vec![("host", Some("other.s3.amazonaws.com"))], NOW, refused("SignatureDoesNotMatch")),
        (vec![("x-amz-date", Some("20130524T000001Z"))], NOW, refused("SignatureDoesNotMatch")),
        (vec![("x-amz-date", Some("20130523T235959Z"))], NOW, refused("AuthorizationHeaderMalformed")),
        (vec![("x-amz-date", Some("soon"))], NOW, refused("AccessDenied")),
        (vec![("x-amz-content-sha256", Some("UNSIGNED-PAYLOAD"))], NOW, refused("SignatureDoesNotMatch")),
        (vec![("x-amz-content-sha256", None)], NOW, refused("InvalidRequest")),
        (vec![("x-amz-copy-source", Some("/other/key"))], NOW, refused("AccessDenied")),
        (vec![("x-amz-security-token", Some("t"))], NOW, refused("InvalidToken")),
        (vec![("authorization", None)], NOW, Ok("anonymous".to_owned())),
        (vec![("authorization", Some(v2))], NOW, refused("InvalidRequest")),
        (vec![("authorization", Some("Basic abc"))], NOW, refused("InvalidArgument")),
        (vec![("authorization", Some("AWS4-HMAC-SHA256 x"))], NOW, refused("AuthorizationHeaderMalformed")),
        (vec![("authorization", Some("AWS4-HMAC-SHA256"))], NOW, refused("AuthorizationHeaderMalformed")),
    ] {
        assert_eq!(verdict(get(&change), now), wanted, "{change:?} at {now}");
    }
}

#[test]
fn the_documented_presigned_url_is_accepted_until_it_expires() {
    let signature = "aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404";
    let url = |expires: &str, signature: &str| {
        format!(
            "/test.txt?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential={ID}%2F20130524%2Fus-east-1%2Fs3%2Faws4_request\
             &X-Amz-Date=20130524T000000Z&X-Amz-Expires={expires}&X-Amz-SignedHeaders=host&X-Amz-Signature={signature}"
        )
    };
    let ask = |url: &str, header: Option<(&str, &str)>| {
        let mut request = Request::get(url).header("host", "examplebucket.s3.amazonaws.com");
        if let Some((name, value)) = header {
            request = request.header(name, value);
        }
        request.body(()).expect("it is a request")
    };
    let copy = Some(("x-amz-copy-source", "/other/key"));
    let free = Some(("x-amz-content-sha256", "UNSIGNED-PAYLOAD"));
    let twice = Some(("authorization", "AWS4-HMAC-SHA256 x"));
    for (url, header, now, wanted) in [
        (url("86400", signature), None, NOW, Ok("budi")),
        (url("86400", signature), free, NOW, Ok("budi")),
        (url("86400", signature), None, NOW + 86_400, Ok("budi")),
        (url("86400", signature), None, NOW + 86_401, Err("AccessDenied")),
        (url("86400", signature), None, NOW - 901, Err("RequestTimeTooSkewed")),
        (url("86401", signature), None, NOW, Err("SignatureDoesNotMatch")),
        (url("604801", signature), None, NOW, Err("AuthorizationQueryParametersError")),
        (url("0", signature), None, NOW, Err("AuthorizationQueryParametersError")),
        (url("86400", "00"), None, NOW, Err("SignatureDoesNotMatch")),
        (url("86400", "zz"), None, NOW, Err("SignatureDoesNotMatch")),
        (url("86400", signature), copy, NOW, Err("AccessDenied")),
        (url("86400", signature), twice, NOW, Err("InvalidArgument")),
        (url("86400", signature).replace(ID, "AKIANOBODY"), None, NOW, Err("InvalidAccessKeyId")),
    ] {
        let got = verdict(ask(&url, header), now);
        assert_eq!(got, wanted.map(str::to_owned).map_err(str::to_owned), "{url} {header:?} at {now}");
    }
}
