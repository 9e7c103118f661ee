//! `x-amz-checksum-*` in and out: headers, trailers, `Content-MD5`.

use std::sync::PoisonError;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use benteng_meta::{Checksum, ChecksumKind};
use benteng_objects::SentChecksum;
use bytes::Bytes;
use crc_fast::{CrcAlgorithm, checksum};
use http::HeaderMap;
use ring::digest;
use s3s::dto::{ChecksumAlgorithm, ChecksumType};
use s3s::{S3ErrorCode, S3Result};

use crate::body::Trailers;
use crate::fault::fault;

/// Every algorithm.
pub(crate) const KINDS: [ChecksumKind; 5] = [
    ChecksumKind::Crc32,
    ChecksumKind::Crc32c,
    ChecksumKind::Crc64Nvme,
    ChecksumKind::Sha1,
    ChecksumKind::Sha256,
];

/// Sets the field of a checksum on an output of s3s.
macro_rules! set_checksum {
    ($out:expr, $checksum:expr) => {
        if let Some(checksum) = $checksum {
            let shown = Some($crate::checksum::show(checksum));
            match checksum.kind {
                benteng_meta::ChecksumKind::Crc32 => $out.checksum_crc32 = shown,
                benteng_meta::ChecksumKind::Crc32c => $out.checksum_crc32c = shown,
                benteng_meta::ChecksumKind::Crc64Nvme => $out.checksum_crc64nvme = shown,
                benteng_meta::ChecksumKind::Sha1 => $out.checksum_sha1 = shown,
                benteng_meta::ChecksumKind::Sha256 => $out.checksum_sha256 = shown,
            }
        }
    };
}
pub(crate) use set_checksum;

/// S3's name of an algorithm.
pub(crate) fn name(kind: ChecksumKind) -> ChecksumAlgorithm {
    ChecksumAlgorithm::from_static(match kind {
        ChecksumKind::Crc32 => ChecksumAlgorithm::CRC32,
        ChecksumKind::Crc32c => ChecksumAlgorithm::CRC32C,
        ChecksumKind::Crc64Nvme => ChecksumAlgorithm::CRC64NVME,
        ChecksumKind::Sha1 => ChecksumAlgorithm::SHA1,
        ChecksumKind::Sha256 => ChecksumAlgorithm::SHA256,
    })
}

/// The header that carries a checksum.
pub(crate) fn header(kind: ChecksumKind) -> &'static str {
    match kind {
        ChecksumKind::Crc32 => "x-amz-checksum-crc32",
        ChecksumKind::Crc32c => "x-amz-checksum-crc32c",
        ChecksumKind::Crc64Nvme => "x-amz-checksum-crc64nvme",
        ChecksumKind::Sha1 => "x-amz-checksum-sha1",
        ChecksumKind::Sha256 => "x-amz-checksum-sha256",
    }
}

/// S3's name of how a checksum is made.
pub(crate) fn type_name(composite: bool) -> ChecksumType {
    ChecksumType::from_static(if composite { ChecksumType::COMPOSITE } else { ChecksumType::FULL_OBJECT })
}

/// An algorithm by S3's name.
pub(crate) fn kind(text: &str) -> S3Result<ChecksumKind> {
    let found = KINDS.into_iter().find(|kind| name(*kind).as_str().eq_ignore_ascii_case(text));
    found.ok_or_else(|| {
        let message = "Checksum algorithm provided is unsupported. Please try again with any of the valid types: \
                       [CRC32, CRC32C, CRC64NVME, SHA1, SHA256]";
        fault(S3ErrorCode::InvalidRequest, message)
    })
}

fn length(kind: ChecksumKind) -> usize {
    match kind {
        ChecksumKind::Crc32 | ChecksumKind::Crc32c => 4,
        ChecksumKind::Crc64Nvme => 8,
        ChecksumKind::Sha1 => 20,
        ChecksumKind::Sha256 => 32,
    }
}

/// As S3 writes it: base64, and "-N" for a composite one.
pub(crate) fn show(checksum: &Checksum) -> String {
    let text = STANDARD.encode(&checksum.value);
    match checksum.composite {
        Some(parts) => format!("{text}-{parts}"),
        None => text,
    }
}

/// Reads what [`show`] writes.
pub(crate) fn read(kind: ChecksumKind, text: &str) -> S3Result<Checksum> {
    let (text, composite) = match text.trim().split_once('-') {
        Some((text, parts)) => (text, parts.parse().ok().map(Some)),
        None => (text.trim(), Some(None)),
    };
    let value = STANDARD.decode(text).ok().filter(|value| value.len() == length(kind));
    let (value, composite) = value.zip(composite).ok_or_else(|| {
        fault(S3ErrorCode::InvalidRequest, format!("Value for {} header is invalid.", header(kind)))
    })?;
    Ok(Checksum { kind, value: value.into(), composite })
}

/// The checksum among the fields of a listed part, in the order of the algorithms.
pub(crate) fn of_fields(fields: [Option<&String>; 5]) -> S3Result<Option<Checksum>> {
    let given = KINDS.into_iter().zip(fields).find_map(|(kind, text)| text.map(|text| (kind, text)));
    given.map(|(kind, text)| read(kind, text)).transpose()
}

/// The checksum that headers give for a whole object.
pub(crate) fn of_headers(headers: &HeaderMap) -> S3Result<Option<Checksum>> {
    let mut found = None;
    for kind in KINDS {
        let Some(value) = headers.get(header(kind)) else { continue };
        if found.is_some() {
            return Err(fault(S3ErrorCode::InvalidRequest, "Expecting a single x-amz-checksum- header"));
        }
        found = Some(read(kind, value.to_str().unwrap_or_default())?);
    }
    Ok(found)
}

/// What the client sends along with a body: a header, a trailer, only an algorithm, or nothing.
pub(crate) fn sent(headers: &HeaderMap, trailers: &Trailers) -> S3Result<SentChecksum> {
    let announced: Vec<&str> = headers
        .get_all("x-amz-trailer")
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .filter(|name| !name.is_empty())
        .collect();
    let mut in_trailer = None;
    for name in announced {
        let known = KINDS.into_iter().find(|kind| header(*kind).eq_ignore_ascii_case(name));
        match known.filter(|_| in_trailer.is_none()) {
            Some(kind) => in_trailer = Some(kind),
            None => {
                let message = "The value specified in the x-amz-trailer header is not supported";
                return Err(fault(S3ErrorCode::InvalidRequest, message));
            }
        }
    }
    let in_header = of_headers(headers)?;
    match (in_header, in_trailer) {
        (Some(_), Some(_)) => {
            Err(fault(S3ErrorCode::InvalidRequest, "Expecting a single x-amz-checksum- header"))
        }
        (Some(checksum), None) if checksum.composite.is_some() => {
            Err(fault(S3ErrorCode::InvalidRequest, "A body has no composite checksum."))
        }
        (Some(checksum), None) => Ok(SentChecksum::Header(checksum)),
        (None, Some(kind)) => {
            let trailers = Trailers::clone(trailers);
            Ok(SentChecksum::Trailer(kind, Box::new(move || from_trailer(&trailers, header(kind)))))
        }
        (None, None) => {
            let algorithm =
                headers.get("x-amz-sdk-checksum-algorithm").or(headers.get("x-amz-checksum-algorithm"));
            match algorithm.and_then(|value| value.to_str().ok()) {
                Some(name) => Ok(SentChecksum::Kind(kind(name)?)),
                None => Ok(SentChecksum::None),
            }
        }
    }
}

/// The decoded value of a trailer. One that is not base64 equals no checksum.
fn from_trailer(trailers: &Trailers, header: &str) -> Option<Bytes> {
    let trailers = trailers.lock().unwrap_or_else(PoisonError::into_inner);
    let value = trailers.iter().find(|(name, _)| name == header).map(|(_, value)| value.as_str())?;
    Some(STANDARD.decode(value).unwrap_or_default().into())
}

/// `Content-MD5`, decoded.
pub(crate) fn content_md5(headers: &HeaderMap) -> S3Result<Option<[u8; 16]>> {
    let Some(value) = headers.get("content-md5") else { return Ok(None) };
    let decoded = value.to_str().ok().and_then(|text| STANDARD.decode(text.trim()).ok());
    let md5 = decoded.and_then(|bytes| <[u8; 16]>::try_from(bytes).ok());
    md5.map(Some)
        .ok_or_else(|| fault(S3ErrorCode::InvalidDigest, "The Content-MD5 you specified is not valid."))
}

/// Checks a body that is held whole (XML) against whatever the headers say about it.
/// Returns whether they said anything.
pub(crate) fn check_whole(headers: &HeaderMap, body: &[u8]) -> S3Result<bool> {
    use md5::Digest as _;
    let wrong = |what: &str| {
        fault(S3ErrorCode::BadDigest, format!("The {what} you specified did not match what we received."))
    };
    let md5 = content_md5(headers)?;
    if md5.is_some_and(|md5| md5::Md5::digest(body)[..] != md5) {
        return Err(wrong("Content-MD5"));
    }
    let sent = of_headers(headers)?;
    if let Some(sent) = &sent
        && compute(sent.kind, body) != sent.value
    {
        return Err(wrong(name(sent.kind).as_str()));
    }
    Ok(md5.is_some() || sent.is_some())
}

fn compute(kind: ChecksumKind, body: &[u8]) -> Bytes {
    let crc32 = |algorithm| {
        let [_, _, _, _, sum @ ..] = checksum(algorithm, body).to_be_bytes();
        Bytes::copy_from_slice(&sum)
    };
    match kind {
        ChecksumKind::Crc32 => crc32(CrcAlgorithm::Crc32IsoHdlc),
        ChecksumKind::Crc32c => crc32(CrcAlgorithm::Crc32Iscsi),
        ChecksumKind::Crc64Nvme => {
            Bytes::copy_from_slice(&checksum(CrcAlgorithm::Crc64Nvme, body).to_be_bytes())
        }
        ChecksumKind::Sha1 => {
            Bytes::copy_from_slice(digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, body).as_ref())
        }
        ChecksumKind::Sha256 => Bytes::copy_from_slice(digest::digest(&digest::SHA256, body).as_ref()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| (name.parse().expect("a name"), value.parse().expect("a value")))
            .collect()
    }

    fn code<T>(got: S3Result<T>) -> String {
        got.err().map_or_else(|| "fine".to_owned(), |e| e.code().as_str().to_owned())
    }

    #[test]
    fn whole_bodies_are_checked_by_every_algorithm() {
        // Check values of "123456789", as the algorithms' definitions give them.
        for (header, value) in [
            ("content-md5", "JfnnlDI7RTiF9RgfG2JNCw=="),
            ("x-amz-checksum-crc32", "y/Q5Jg=="),
            ("x-amz-checksum-crc32c", "4waSgw=="),
            ("x-amz-checksum-crc64nvme", "rosUhgp5mIg="),
            ("x-amz-checksum-sha1", "98O8HYCOBHMq32eZZczDTKeuNEE="),
            ("x-amz-checksum-sha256", "FeKw08M4keuw8e9gnsQZQgwg4yDOlMZfvIwzEkSOsiU="),
        ] {
            let sent = headers(&[(header, value)]);
            assert!(matches!(check_whole(&sent, b"123456789"), Ok(true)), "{header}");
            assert_eq!(code(check_whole(&sent, b"12345678")), "BadDigest", "{header}");
        }
        assert_eq!(code(check_whole(&headers(&[("content-md5", "JfnnlDI7RThdFgo=")]), b"")), "InvalidDigest");
        assert!(matches!(check_whole(&headers(&[]), b"x"), Ok(false)));
    }

    #[test]
    fn a_body_has_one_checksum_in_one_place() {
        let trailers = Trailers::default();
        let seen = |pairs: &[(&'static str, &str)]| match sent(&headers(pairs), &trailers) {
            Ok(SentChecksum::None) => "none".to_owned(),
            Ok(SentChecksum::Kind(kind)) => format!("kind {kind:?}"),
            Ok(SentChecksum::Header(sum)) => format!("header {:?}", sum.kind),
            Ok(SentChecksum::Trailer(kind, _)) => format!("trailer {kind:?}"),
            Err(e) => e.code().as_str().to_owned(),
        };
        let crc = ("x-amz-checksum-crc32", "AAAAAA==");
        for (pairs, wanted) in [
            (vec![], "none"),
            (vec![crc], "header Crc32"),
            (vec![crc, ("x-amz-sdk-checksum-algorithm", "CRC32")], "header Crc32"),
            (vec![("x-amz-sdk-checksum-algorithm", "sha256")], "kind Sha256"),
            (vec![("x-amz-sdk-checksum-algorithm", "CRC99")], "InvalidRequest"),
            (vec![("x-amz-trailer", "x-amz-checksum-crc64nvme")], "trailer Crc64Nvme"),
            (vec![("x-amz-trailer", "x-amz-checksum-crc32,x-amz-checksum-sha1")], "InvalidRequest"),
            (vec![("x-amz-trailer", "x-amz-meta-a")], "InvalidRequest"),
            (vec![crc, ("x-amz-trailer", "x-amz-checksum-crc32")], "InvalidRequest"),
            (vec![crc, ("x-amz-checksum-sha1", "AAAA")], "InvalidRequest"),
            (vec![("x-amz-checksum-crc32", "AAAAAA==-2")], "InvalidRequest"),
            (vec![("x-amz-checksum-crc32", "AAAA")], "InvalidRequest"),
            (vec![("x-amz-checksum-crc32", "?")], "InvalidRequest"),
        ] {
            assert_eq!(seen(&pairs), wanted, "{pairs:?}");
        }
    }

    #[test]
    fn a_trailer_is_there_only_once_it_came() {
        let trailers = Trailers::default();
        let announced = headers(&[("x-amz-trailer", "x-amz-checksum-crc32")]);
        let fetch = || match sent(&announced, &trailers) {
            Ok(SentChecksum::Trailer(_, fetch)) => fetch(),
            _ => panic!("it is announced as a trailer"),
        };
        assert_eq!(fetch(), None);
        trailers.lock().expect("nobody panicked").push(("x-amz-checksum-crc32".into(), "AAAAAQ==".into()));
        assert_eq!(fetch(), Some(Bytes::from_static(&[0, 0, 0, 1])));
    }

    #[test]
    fn composite_checksums_read_back() {
        let sum = read(ChecksumKind::Crc32c, "AAAAAQ==-12").expect("it is composite");
        assert_eq!((sum.composite, show(&sum).as_str()), (Some(12), "AAAAAQ==-12"));
        assert!(read(ChecksumKind::Crc32c, "AAAAAQ==-x").is_err());
    }
}
