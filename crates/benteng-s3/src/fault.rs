//! Every error -> S3 code: one `match` without `_` per kind of error.

use benteng_identity::Denied;
use benteng_meta::Rejection;
use benteng_objects::{BODY_RATE_MIN, BodyError, Error};
use http::{HeaderMap, HeaderValue, StatusCode};
use s3s::{S3Error, S3ErrorCode};

use crate::names;

/// An error of S3's, with a text for people.
pub(crate) fn fault(code: S3ErrorCode, message: impl Into<std::borrow::Cow<'static, str>>) -> S3Error {
    S3Error::with_message(code, message)
}

/// An error whose code s3s does not know.
pub(crate) fn custom(
    code: &'static str,
    status: StatusCode,
    message: impl Into<std::borrow::Cow<'static, str>>,
) -> S3Error {
    let mut error = fault(S3ErrorCode::Custom(code.into()), message);
    error.set_status_code(status);
    error
}

/// `InvalidArgument` with a text.
pub(crate) fn invalid(message: impl Into<std::borrow::Cow<'static, str>>) -> S3Error {
    fault(S3ErrorCode::InvalidArgument, message)
}

/// A caller may not do it. The text does not say why: that would tell what exists.
pub(crate) fn denied(_: Denied) -> S3Error {
    fault(S3ErrorCode::AccessDenied, "Access Denied")
}

/// The site cannot be asked now.
pub(crate) fn unavailable(why: &str) -> S3Error {
    fault(S3ErrorCode::ServiceUnavailable, format!("{why}. Please reduce your request rate or retry."))
}

/// An answer of the object layer.
pub(crate) fn objects(error: Error) -> S3Error {
    let text = error.to_string();
    match error {
        Error::Rejected(rejection) => rejected(&rejection),
        Error::NotModified { etag, modified } => {
            let mut out = fault(S3ErrorCode::NotModified, "Not Modified");
            let mut headers = HeaderMap::new();
            if let Ok(tag) = HeaderValue::try_from(format!("\"{etag}\"")) {
                headers.insert(http::header::ETAG, tag);
            }
            if let Ok(date) = HeaderValue::try_from(names::http_date(modified)) {
                headers.insert(http::header::LAST_MODIFIED, date);
            }
            out.set_headers(headers);
            out
        }
        Error::RangeUnsatisfiable { size } => {
            let mut out = fault(S3ErrorCode::InvalidRange, "The requested range is not satisfiable");
            let mut headers = HeaderMap::new();
            if let Ok(range) = HeaderValue::try_from(format!("bytes */{size}")) {
                headers.insert(http::header::CONTENT_RANGE, range);
            }
            headers.insert(http::header::CONTENT_TYPE, HeaderValue::from_static("application/xml"));
            out.set_headers(headers);
            out
        }
        Error::Body(error) => body(&error),
        Error::Length { declared, got } => {
            let message = format!("You declared {declared} bytes, the body has {got}");
            fault(S3ErrorCode::IncompleteBody, message)
        }
        Error::Digest { what, sent, computed } => fault(
            S3ErrorCode::BadDigest,
            format!("The {what} you specified ({sent}) did not match what we received ({computed})."),
        ),
        Error::TooLarge { limit } => fault(
            S3ErrorCode::EntityTooLarge,
            format!("Your proposed upload exceeds the maximum of {limit} bytes"),
        ),
        Error::Full => custom("InsufficientStorage", StatusCode::INSUFFICIENT_STORAGE, text),
        Error::Unavailable { .. } => {
            fault(S3ErrorCode::SlowDown, format!("Please reduce your request rate: {text}"))
        }
        Error::Unknown { .. } => fault(S3ErrorCode::ServiceUnavailable, text),
        Error::Unreadable { .. } | Error::Key(_) | Error::State(_) => internal(&text),
        Error::Invalid(message) => fault(S3ErrorCode::InvalidRequest, message),
    }
}

/// An answer of the state.
pub(crate) fn rejected(rejection: &Rejection) -> S3Error {
    let text = rejection.to_string();
    match rejection {
        Rejection::Site { .. }
        | Rejection::DeadlinePassed
        | Rejection::GatewaySuperseded(_)
        | Rejection::Refused => unavailable(&text),
        Rejection::InvalidBucketName(_) => {
            fault(S3ErrorCode::InvalidBucketName, "The specified bucket is not valid.")
        }
        Rejection::NoSuchBucket => fault(S3ErrorCode::NoSuchBucket, "The specified bucket does not exist"),
        // Whose it is only `create_bucket` may tell, to the owner.
        Rejection::BucketTaken { .. } => fault(
            S3ErrorCode::BucketAlreadyExists,
            "The requested bucket name is not available. Please select a different name and try again.",
        ),
        Rejection::BucketNotEmpty => {
            fault(S3ErrorCode::BucketNotEmpty, "The bucket you tried to delete is not empty")
        }
        Rejection::InvalidKey => fault(S3ErrorCode::KeyTooLongError, "Your key must have 1 to 1024 bytes"),
        Rejection::NoSuchKey => fault(S3ErrorCode::NoSuchKey, "The specified key does not exist."),
        Rejection::PreconditionFailed => fault(
            S3ErrorCode::PreconditionFailed,
            "At least one of the pre-conditions you specified did not hold",
        ),
        Rejection::NoSuchUpload => fault(
            S3ErrorCode::NoSuchUpload,
            "The specified upload does not exist. The upload ID may be invalid, or the upload may have been \
             aborted or completed.",
        ),
        Rejection::InvalidPart(_) => fault(
            S3ErrorCode::InvalidPart,
            format!("One or more of the specified parts could not be found: {text}"),
        ),
        Rejection::InvalidPartOrder => fault(
            S3ErrorCode::InvalidPartOrder,
            "The list of parts was not in ascending order. Parts must be ordered by part number.",
        ),
        Rejection::PartTooSmall { .. } => fault(
            S3ErrorCode::EntityTooSmall,
            format!("Your proposed upload is smaller than the minimum allowed size: {text}"),
        ),
        Rejection::KeyDestroyed(_) => fault(S3ErrorCode::AccessDenied, text),
        // None of these can answer an S3 request; if one does, that is our bug.
        Rejection::NoSuchNode(_)
        | Rejection::NodeNameTaken(_)
        | Rejection::InvalidToken
        | Rejection::NoSuchUser(_)
        | Rejection::UserExists(_)
        | Rejection::LastAdmin(_)
        | Rejection::NoSuchAccessKey(_)
        | Rejection::AccessKeyExists(_) => internal(&text),
        Rejection::Invalid(message) => fault(S3ErrorCode::InvalidRequest, message.clone()),
        Rejection::Full => custom("InsufficientStorage", StatusCode::INSUFFICIENT_STORAGE, text),
    }
}

/// A request body that broke off.
pub(crate) fn body(error: &BodyError) -> S3Error {
    match error {
        BodyError::Incomplete => fault(
            S3ErrorCode::IncompleteBody,
            "You did not provide the number of bytes specified by the Content-Length HTTP header.",
        ),
        BodyError::Signature => fault(
            S3ErrorCode::SignatureDoesNotMatch,
            "The request signature we calculated does not match the signature you provided.",
        ),
        BodyError::Coding(why) => {
            fault(S3ErrorCode::InvalidRequest, format!("The aws-chunked body is broken: {why}"))
        }
        BodyError::Slow(seconds) => fault(
            S3ErrorCode::RequestTimeout,
            format!(
                "Your socket connection to the server was not read from or written to within the timeout \
                 period: fewer than {BODY_RATE_MIN} bytes a second came for {seconds} s."
            ),
        ),
    }
}

/// The payload is not what `x-amz-content-sha256` says.
pub(crate) fn sha256_mismatch() -> S3Error {
    custom(
        "XAmzContentSHA256Mismatch",
        StatusCode::BAD_REQUEST,
        "The provided 'x-amz-content-sha256' header does not match what was computed.",
    )
}

/// A look-up of credentials failed.
pub(crate) fn identity(error: &benteng_identity::Error) -> S3Error {
    if error.is_retryable() { unavailable(&error.to_string()) } else { internal(&error.to_string()) }
}

/// Our fault: logged here with its reason, answered without it.
pub(crate) fn internal(why: &str) -> S3Error {
    tracing::error!(why, "request failed");
    fault(S3ErrorCode::InternalError, "We encountered an internal error. Please try again.")
}

#[cfg(test)]
mod tests {
    use benteng_meta::ids::*;
    use benteng_meta::{ChecksumKind, ETag};

    use super::*;

    /// The status and code that a client sees.
    fn seen(error: &S3Error) -> (u16, String) {
        (error.status_code().map_or(0, |s| s.as_u16()), error.code().as_str().to_owned())
    }

    #[test]
    fn every_rejection_has_its_code() {
        let part = PartNumber(3);
        for (rejection, status, code) in [
            (Rejection::Site { formed: false }, 503, "ServiceUnavailable"),
            (Rejection::DeadlinePassed, 503, "ServiceUnavailable"),
            (Rejection::GatewaySuperseded(NodeId(1)), 503, "ServiceUnavailable"),
            (Rejection::Refused, 503, "ServiceUnavailable"),
            (Rejection::InvalidBucketName("X".into()), 400, "InvalidBucketName"),
            (Rejection::NoSuchBucket, 404, "NoSuchBucket"),
            (Rejection::BucketTaken { owner: "siti".into() }, 409, "BucketAlreadyExists"),
            (Rejection::BucketNotEmpty, 409, "BucketNotEmpty"),
            (Rejection::InvalidKey, 400, "KeyTooLongError"),
            (Rejection::NoSuchKey, 404, "NoSuchKey"),
            (Rejection::PreconditionFailed, 412, "PreconditionFailed"),
            (Rejection::NoSuchUpload, 404, "NoSuchUpload"),
            (Rejection::InvalidPart(part), 400, "InvalidPart"),
            (Rejection::InvalidPartOrder, 400, "InvalidPartOrder"),
            (Rejection::PartTooSmall { number: part, size: 1, minimum: 2 }, 400, "EntityTooSmall"),
            (Rejection::KeyDestroyed(KekVersion(1)), 403, "AccessDenied"),
            (Rejection::NoSuchUser("budi".into()), 500, "InternalError"),
            (Rejection::Invalid("no".into()), 400, "InvalidRequest"),
            (Rejection::Full, 507, "InsufficientStorage"),
        ] {
            assert_eq!(seen(&rejected(&rejection)), (status, code.to_owned()), "{rejection:?}");
        }
    }

    #[test]
    fn every_answer_of_the_object_layer_has_its_code() {
        let etag = ETag { md5: [7; 16], parts: Some(2) };
        let chunk =
            ChunkId { blob: BlobId::default(), part: PartNumber(1), attempt: Attempt(1), sequence: 0 };
        let digest = Error::Digest { what: "CRC32", sent: "AAAAAA==".into(), computed: "AAAAAQ==".into() };
        assert_eq!(ChecksumKind::Crc32 as u8, 0);
        for (error, status, code) in [
            (Error::Rejected(Rejection::NoSuchKey), 404, "NoSuchKey"),
            (Error::NotModified { etag, modified: SiteTime(0) }, 304, "NotModified"),
            (Error::RangeUnsatisfiable { size: 10 }, 416, "InvalidRange"),
            (Error::Body(BodyError::Incomplete), 400, "IncompleteBody"),
            (Error::Body(BodyError::Signature), 403, "SignatureDoesNotMatch"),
            (Error::Body(BodyError::Coding("x".into())), 400, "InvalidRequest"),
            (Error::Body(BodyError::Slow(30)), 400, "RequestTimeout"),
            (Error::Length { declared: 2, got: 1 }, 400, "IncompleteBody"),
            (digest, 400, "BadDigest"),
            (Error::TooLarge { limit: 5 }, 400, "EntityTooLarge"),
            (Error::Full, 507, "InsufficientStorage"),
            (Error::Unavailable { why: "x".into() }, 503, "SlowDown"),
            (Error::Unknown { why: "x".into() }, 503, "ServiceUnavailable"),
            (Error::Unreadable { chunk, why: "x".into() }, 500, "InternalError"),
            (Error::Invalid("x".into()), 400, "InvalidRequest"),
        ] {
            let name = error.to_string();
            assert_eq!(seen(&objects(error)), (status, code.to_owned()), "{name}");
        }
        assert_eq!(seen(&sha256_mismatch()), (400, "XAmzContentSHA256Mismatch".to_owned()));
    }

    #[test]
    fn a_304_carries_tag_and_date() {
        let error = Error::NotModified { etag: ETag { md5: [0xab; 16], parts: None }, modified: SiteTime(0) };
        let out = objects(error);
        let headers = out.headers().expect("a 304 has headers");
        assert_eq!(headers[http::header::ETAG], format!("\"{}\"", "ab".repeat(16)));
        assert_eq!(headers[http::header::LAST_MODIFIED], "Thu, 01 Jan 1970 00:00:00 GMT");
    }
}
