//! Journal records: each segment has a salt, and so a key, of its own; the nonce is the
//! number of the record in its segment (K1), which the journal never gives twice under one salt.

use bytes::{Bytes, BytesMut};
use uuid::Uuid;

use crate::aead::{Cipher, NONCE, hkdf_secret};
use crate::error::{Error, Result};
use crate::secret::SecretBytes32;
use crate::unseal::RootKey;

/// Bytes that sealing adds to a record.
pub const RECORD_OVERHEAD: usize = 16;

/// Makes the keys of the segments of one journal.
pub struct RecordKeys {
    journal: SecretBytes32,
}

impl RecordKeys {
    /// Keys for the journal `purpose` (`log`, `chunks`) of `store`.
    pub fn new(root: &RootKey, store: Uuid, purpose: &str) -> RecordKeys {
        let mut context = store.as_bytes().to_vec();
        context.extend_from_slice(purpose.as_bytes());
        RecordKeys { journal: root.derive("records", &context) }
    }

    /// The key of the segment with this salt: 32 fresh random bytes in the segment's header,
    /// drawn anew whenever a segment is created or recycled (K1).
    pub fn segment(&self, salt: &[u8; 32]) -> RecordKey {
        RecordKey { cipher: Cipher::new(&hkdf_secret(salt, self.journal.expose(), &[b"benteng/record/v1"])) }
    }
}

/// Key of one segment.
pub struct RecordKey {
    cipher: Cipher,
}

fn nonce(record: u64) -> [u8; NONCE] {
    let mut nonce = [0; NONCE];
    nonce[NONCE - 8..].copy_from_slice(&record.to_be_bytes());
    nonce
}

impl RecordKey {
    /// Seals record `record`; `aad` is what stands before it in plain (its header).
    /// K1: one number, one plaintext; a record that is written again gets a new number.
    pub fn seal(&self, record: u64, aad: &[u8], plain: &[u8]) -> Bytes {
        let mut out = BytesMut::with_capacity(plain.len() + RECORD_OVERHEAD);
        out.extend_from_slice(plain);
        self.seal_in_place(record, aad, out)
    }

    /// As [`RecordKey::seal`], without the copy where `plain` has [`RECORD_OVERHEAD`] bytes to spare.
    pub fn seal_in_place(&self, record: u64, aad: &[u8], mut plain: BytesMut) -> Bytes {
        let tag = self.cipher.seal(nonce(record), aad, &mut plain);
        plain.extend_from_slice(&tag);
        plain.freeze()
    }

    /// Opens a record; in place if `sealed` is the only handle of its buffer.
    ///
    /// Errors: `Record` if it does not authenticate: damage, another number, segment or header.
    pub fn open(&self, record: u64, aad: &[u8], sealed: Bytes) -> Result<Bytes> {
        let mut buffer = sealed.try_into_mut().unwrap_or_else(|shared| BytesMut::from(&shared[..]));
        let opened = self.cipher.open(nonce(record), aad, &mut buffer);
        let len = opened.map_err(|_| Error::Record { record })?.len();
        buffer.truncate(len);
        Ok(buffer.freeze())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)] // a test's panic is its verdict

    use benteng_host::real::SystemEntropy;
    use proptest::prelude::*;

    use super::*;

    fn keys(store: u128, purpose: &str) -> RecordKeys {
        RecordKeys::new(&RootKey::from_secret(SecretBytes32::new([7; 32])), Uuid::from_u128(store), purpose)
    }

    proptest! {
        #[test]
        fn a_record_survives_sealing(no: u64, aad: Vec<u8>, plain: Vec<u8>) {
            let key = keys(1, "log").segment(&[3; 32]);
            let sealed = key.seal(no, &aad, &plain);
            prop_assert_eq!(sealed.len(), plain.len() + RECORD_OVERHEAD);
            prop_assert_eq!(key.open(no, &aad, sealed.clone()).unwrap(), plain);
            prop_assert!(key.open(no ^ 1, &aad, sealed.clone()).is_err());
            prop_assert!(key.open(no, &[&aad[..], b"x"].concat(), sealed).is_err());
        }

        #[test]
        fn garbage_is_refused(no: u64, garbage: Vec<u8>) {
            let key = keys(1, "log").segment(&[3; 32]);
            prop_assert_eq!(key.open(no, b"", garbage.into()), Err(Error::Record { record: no }));
        }
    }

    #[test]
    fn i4_every_flipped_bit_and_every_truncation_is_refused() {
        let key = keys(1, "log").segment(&[3; 32]);
        let sealed = key.seal(9, b"header", b"an entry");
        for bit in 0..sealed.len() * 8 {
            let mut bad = sealed.to_vec();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(key.open(9, b"header", bad.into()), Err(Error::Record { record: 9 }), "bit {bit}");
        }
        for len in 0..sealed.len() {
            assert!(key.open(9, b"header", sealed.slice(..len)).is_err(), "cut to {len}");
        }
    }

    #[test]
    fn k1_segments_journals_and_stores_share_no_key() {
        let random = SystemEntropy::new();
        let salt = benteng_host::random_array(&random);
        let sealed = keys(1, "log").segment(&salt).seal(0, b"", b"same");
        let others = [
            keys(1, "log").segment(&benteng_host::random_array(&random)),
            keys(1, "chunks").segment(&salt),
            keys(2, "log").segment(&salt),
        ];
        for other in others {
            assert_ne!(other.seal(0, b"", b"same"), sealed);
            assert!(other.open(0, b"", sealed.clone()).is_err());
        }
    }

    #[test]
    fn format_v1_is_golden() {
        let sealed = keys(1, "log").segment(&[3; 32]).seal(1, b"aad", b"record");
        assert_eq!(hex::encode(sealed), "af5a4876e54ee4263079efa4886154001fac2bbc86cc");
    }
}
