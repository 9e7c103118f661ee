//! Continuation tokens: opaque to clients, checked by us.
//!
//! base64url of: version (1 byte) | CRC-32C over bucket, NUL and line (4 bytes, big-endian) | line.
//! The line is the last key or common prefix that was given. Nothing secret is in it; the sum
//! keeps a token of another bucket, or a mangled one, from silently skipping keys.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use crc_fast::{CrcAlgorithm, checksum};

const VERSION: u8 = 1;

/// The token after which a listing of `bucket` goes on behind `line`.
pub(crate) fn make(bucket: &str, line: &str) -> String {
    let mut bytes = vec![VERSION];
    bytes.extend_from_slice(&sum(bucket, line));
    bytes.extend_from_slice(line.as_bytes());
    URL_SAFE_NO_PAD.encode(bytes)
}

/// The line of a token; `None` if we did not make it for this bucket.
pub(crate) fn read(bucket: &str, token: &str) -> Option<String> {
    let bytes = URL_SAFE_NO_PAD.decode(token).ok()?;
    let (version, rest) = bytes.split_first()?;
    let (given, line) = rest.split_first_chunk::<4>()?;
    let line = std::str::from_utf8(line).ok()?;
    (*version == VERSION && *given == sum(bucket, line)).then(|| line.to_owned())
}

fn sum(bucket: &str, line: &str) -> [u8; 4] {
    let text = [bucket.as_bytes(), &[0], line.as_bytes()].concat();
    let [_, _, _, _, sum @ ..] = checksum(CrcAlgorithm::Crc32Iscsi, &text).to_be_bytes();
    sum
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_token_reads_back_for_its_bucket_only(bucket in "[a-z]{3,10}", line in ".{0,60}") {
            let token = make(&bucket, &line);
            prop_assert_eq!(read(&bucket, &token), Some(line));
            prop_assert_eq!(read("another-bucket", &token), None);
        }

        #[test]
        fn garbage_is_no_token(token in ".{0,60}") {
            prop_assert_eq!(read("bucket", &token), None);
        }
    }

    #[test]
    fn a_flipped_character_is_noticed() {
        let token = make("bucket", "some/key");
        for at in 0..token.len() {
            let mut bytes = token.clone().into_bytes();
            bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
            let flipped = String::from_utf8(bytes).expect("it stays ASCII");
            if flipped != token {
                assert_ne!(read("bucket", &flipped).as_deref(), Some("some/key"), "{at}");
            }
        }
    }

    #[test]
    fn the_token_of_version_1_is_golden() {
        assert_eq!(make("bucket", "a/ü"), GOLDEN);
        assert_eq!(read("bucket", GOLDEN).as_deref(), Some("a/ü"));
    }

    /// Tokens outlive a rolling upgrade: one made by an old node is read by a new one.
    const GOLDEN: &str = "ARMSEIthL8O8";
}
