//! Sealing of bodies. The caller brings the cipher; the journal brings what makes nonces
//! unique (K1): a fresh salt for each segment, durable before its first use, and the
//! record's number within the segment.

use std::sync::Arc;

use bytes::Bytes;

/// Makes the cipher of one segment from its salt.
pub trait SegmentCipher: Send + Sync {
    /// The cipher for the segment with this salt; the same salt gives the same key.
    fn segment(&self, salt: &[u8; 32]) -> Arc<dyn RecordCipher>;
}

/// Seals and opens the bodies of one segment; the nonce is the record's number.
pub trait RecordCipher: Send + Sync {
    /// Seals `plain`; the result is `overhead()` bytes longer.
    fn seal(&self, record: u64, aad: &[u8], plain: &[u8]) -> Bytes;
    /// Opens what `seal` made for the same record and the same additional data.
    fn open(&self, record: u64, aad: &[u8], sealed: Bytes) -> Result<Bytes, Unauthentic>;
    /// Bytes by which sealing lengthens a body.
    fn overhead(&self) -> usize;
}

/// A sealed body is not what was sealed: other key, other record, or changed bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the record's body fails authentication")]
pub struct Unauthentic;

/// No sealing: for journals whose bodies are ciphertext already and whose own records
/// (segment lists) are no secret.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoCipher;

impl SegmentCipher for NoCipher {
    fn segment(&self, _salt: &[u8; 32]) -> Arc<dyn RecordCipher> {
        Arc::new(NoCipher)
    }
}

impl RecordCipher for NoCipher {
    fn seal(&self, _record: u64, _aad: &[u8], plain: &[u8]) -> Bytes {
        Bytes::copy_from_slice(plain)
    }

    fn open(&self, _record: u64, _aad: &[u8], sealed: Bytes) -> Result<Bytes, Unauthentic> {
        Ok(sealed)
    }

    fn overhead(&self) -> usize {
        0
    }
}
