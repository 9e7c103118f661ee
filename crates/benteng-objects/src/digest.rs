//! Digests of bodies: MD5 for the entity tag and the checksums of S3; how those of parts
//! make the checksum of the whole.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use benteng_meta::{Checksum, ChecksumKind};
use bytes::Bytes;
use crc_fast::CrcAlgorithm;
use md5::{Digest as _, Md5};

use crate::{Error, Result};

/// The name that S3 gives the algorithm.
pub(crate) fn kind_name(kind: ChecksumKind) -> &'static str {
    match kind {
        ChecksumKind::Crc32 => "CRC32",
        ChecksumKind::Crc32c => "CRC32C",
        ChecksumKind::Crc64Nvme => "CRC64NVME",
        ChecksumKind::Sha1 => "SHA1",
        ChecksumKind::Sha256 => "SHA256",
    }
}

/// The CRC behind a kind and its width in bytes; `None` for the hashes.
fn crc_of(kind: ChecksumKind) -> Option<(CrcAlgorithm, usize)> {
    match kind {
        ChecksumKind::Crc32 => Some((CrcAlgorithm::Crc32IsoHdlc, 4)),
        ChecksumKind::Crc32c => Some((CrcAlgorithm::Crc32Iscsi, 4)),
        ChecksumKind::Crc64Nvme => Some((CrcAlgorithm::Crc64Nvme, 8)),
        ChecksumKind::Sha1 | ChecksumKind::Sha256 => None,
    }
}

/// Big-endian bytes of a CRC of `width` bytes.
fn crc_bytes(value: u64, width: usize) -> Bytes {
    Bytes::copy_from_slice(&value.to_be_bytes()[8 - width..])
}

enum Sum {
    Crc(crc_fast::Digest, usize),
    Sha(ring::digest::Context),
}

/// A checksum in the making.
pub(crate) struct Summer {
    kind: ChecksumKind,
    sum: Sum,
}

impl Summer {
    /// Of nothing yet.
    pub(crate) fn new(kind: ChecksumKind) -> Summer {
        let sum = match (crc_of(kind), kind) {
            (Some((algorithm, width)), _) => Sum::Crc(crc_fast::Digest::new(algorithm), width),
            // S3 offers it, so clients may ask for it; nothing of ours rests on SHA-1.
            (None, ChecksumKind::Sha1) => {
                Sum::Sha(ring::digest::Context::new(&ring::digest::SHA1_FOR_LEGACY_USE_ONLY))
            }
            (None, _) => Sum::Sha(ring::digest::Context::new(&ring::digest::SHA256)),
        };
        Summer { kind, sum }
    }

    /// Goes on with `bytes`.
    pub(crate) fn update(&mut self, bytes: &[u8]) {
        match &mut self.sum {
            Sum::Crc(digest, _) => digest.update(bytes),
            Sum::Sha(context) => context.update(bytes),
        }
    }

    /// The value, big-endian.
    pub(crate) fn finish(self) -> Checksum {
        let value = match self.sum {
            Sum::Crc(digest, width) => crc_bytes(digest.finalize(), width),
            Sum::Sha(context) => Bytes::copy_from_slice(context.finish().as_ref()),
        };
        Checksum { kind: self.kind, value, composite: None }
    }
}

/// MD5 and checksum of a body, in one pass.
pub(crate) struct Digests {
    md5: Md5,
    sum: Summer,
}

impl Digests {
    /// Of nothing yet.
    pub(crate) fn new(kind: ChecksumKind) -> Digests {
        Digests { md5: Md5::new(), sum: Summer::new(kind) }
    }

    /// Goes on with `bytes`.
    pub(crate) fn update(&mut self, bytes: &[u8]) {
        self.md5.update(bytes);
        self.sum.update(bytes);
    }

    /// MD5 and checksum.
    pub(crate) fn finish(self) -> ([u8; 16], Checksum) {
        (self.md5.finalize().into(), self.sum.finish())
    }
}

/// MD5 of the concatenated MD5s of parts: the tag of a multipart object.
pub(crate) fn md5_of_md5s<'a>(parts: impl Iterator<Item = &'a [u8; 16]>) -> [u8; 16] {
    let mut md5 = Md5::new();
    parts.for_each(|part| md5.update(part));
    md5.finalize().into()
}

/// COMPOSITE checksum: the checksum of the parts' checksums, one after another.
pub(crate) fn composite(kind: ChecksumKind, parts: &[(Bytes, u64)]) -> Checksum {
    let mut sum = Summer::new(kind);
    parts.iter().for_each(|(value, _)| sum.update(value));
    // 10,000 parts at most.
    Checksum { composite: u16::try_from(parts.len()).ok(), ..sum.finish() }
}

/// FULL_OBJECT checksum from those of the parts and their sizes in bytes; only CRCs combine.
pub(crate) fn full_object(kind: ChecksumKind, parts: &[(Bytes, u64)]) -> Option<Checksum> {
    let (algorithm, width) = crc_of(kind)?;
    let mut whole: Option<u64> = None;
    for (value, size) in parts {
        if value.len() != width {
            return None;
        }
        let part = value.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte));
        whole = Some(match whole {
            None => part,
            Some(before) if *size == 0 => before,
            Some(before) => crc_fast::checksum_combine(algorithm, before, part, *size),
        });
    }
    let value = crc_bytes(whole?, width);
    Some(Checksum { kind, value, composite: None })
}

/// Compares what a client sent with what its bytes give.
pub(crate) fn compare(what: &'static str, sent: &[u8], computed: &[u8]) -> Result<()> {
    if sent == computed {
        return Ok(());
    }
    Err(Error::Digest { what, sent: BASE64.encode(sent), computed: BASE64.encode(computed) })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sum(kind: ChecksumKind, bytes: &[u8]) -> Bytes {
        let mut digests = Digests::new(kind);
        digests.update(bytes);
        digests.finish().1.value
    }

    #[test]
    fn checksums_are_those_that_s3_names() {
        let check =
            |kind, expected: &str| assert_eq!(hex::encode(sum(kind, b"123456789")), expected, "{kind:?}");
        check(ChecksumKind::Crc32, "cbf43926");
        check(ChecksumKind::Crc32c, "e3069283");
        check(ChecksumKind::Crc64Nvme, "ae8b14860a799888");
        check(ChecksumKind::Sha1, "f7c3bc1d808e04732adf679965ccc34ca7ae3441");
        check(ChecksumKind::Sha256, "15e2b0d3c33891ebb0f1ef609ec419420c20e320ce94c65fbc8c3312448eb225");
        let mut digests = Digests::new(ChecksumKind::Crc32);
        digests.update(b"");
        assert_eq!(hex::encode(digests.finish().0), "d41d8cd98f00b204e9800998ecf8427e");
    }

    #[test]
    fn a_wrong_digest_says_what_was_sent_and_what_came() {
        let error = compare("CRC32", &[0; 4], &[1; 4]).expect_err("they differ");
        assert!(matches!(error, Error::Digest { what: "CRC32", .. }), "{error}");
        assert!(compare("CRC32", &[1; 4], &[1; 4]).is_ok());
    }

    #[test]
    fn hashes_do_not_combine() {
        assert_eq!(full_object(ChecksumKind::Sha256, &[(Bytes::from_static(&[0; 32]), 1)]), None);
        assert_eq!(full_object(ChecksumKind::Crc32, &[(Bytes::from_static(&[0; 3]), 1)]), None);
        assert_eq!(full_object(ChecksumKind::Crc32, &[]), None);
    }

    proptest! {
        #[test]
        fn crcs_of_parts_combine_into_that_of_the_whole(
            parts in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..300), 1..6),
        ) {
            let whole = parts.concat();
            for kind in [ChecksumKind::Crc32, ChecksumKind::Crc32c, ChecksumKind::Crc64Nvme] {
                let sums: Vec<(Bytes, u64)> =
                    parts.iter().map(|part| (sum(kind, part), part.len() as u64)).collect();
                let combined = full_object(kind, &sums).expect("CRCs combine");
                prop_assert_eq!(combined.value, sum(kind, &whole));
            }
        }
    }
}
