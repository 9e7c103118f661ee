//! AES-256-GCM and HKDF-SHA256: the one way we call ring.

use crc_fast::{CrcAlgorithm, Digest};
use ring::aead::{self, AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use ring::hkdf;

use crate::secret::SecretBytes32;

/// Bytes of a GCM nonce.
pub(crate) const NONCE: usize = 12;

/// AEAD refused: the bytes, the nonce, the key or the AAD are not the ones sealed.
pub(crate) struct Refused;

/// An expanded AES-256-GCM key.
pub(crate) struct Cipher(LessSafeKey);

impl Cipher {
    pub(crate) fn new(key: &SecretBytes32) -> Cipher {
        let key =
            UnboundKey::new(&AES_256_GCM, key.expose()).expect("AES-256-GCM takes 32 bytes, and they are");
        Cipher(LessSafeKey::new(key))
    }

    /// Encrypts `in_out` in place and returns the tag.
    pub(crate) fn seal(&self, nonce: [u8; NONCE], aad: &[u8], in_out: &mut [u8]) -> [u8; 16] {
        // K1: no nonce comes twice under a key; the simulator holds all of them against each other.
        benteng_host::witness("sealed", 0, || {
            let nothing = Nonce::assume_unique_for_key([0xff; NONCE]);
            let print = self.0.seal_in_place_separate_tag(nothing, Aad::empty(), &mut []);
            let print = print.map(|tag| tag.as_ref().to_vec()).unwrap_or_default();
            let sum = |parts: &[&[u8]]| {
                let mut digest = Digest::new(CrcAlgorithm::Crc64Nvme);
                parts.iter().for_each(|part| digest.update(part));
                digest.finalize()
            };
            u128::from(sum(&[&print, &nonce])) << 64 | u128::from(sum(&[aad, in_out]))
        });
        let tag = self
            .0
            .seal_in_place_separate_tag(Nonce::assume_unique_for_key(nonce), Aad::from(aad), in_out)
            .expect("GCM refuses only beyond 64 GiB, and no caller has such a buffer");
        tag.as_ref().try_into().expect("a GCM tag has 16 bytes")
    }

    /// Opens ciphertext and tag at the end of `in_out`, whole; returns the plaintext, at its start.
    pub(crate) fn open<'a>(
        &self,
        nonce: [u8; NONCE],
        aad: &[u8],
        in_out: &'a mut [u8],
    ) -> Result<&'a mut [u8], Refused> {
        self.open_within(nonce, aad, in_out, 0)
    }

    /// As [`Cipher::open`], with the ciphertext beginning at `from`; the plaintext is moved to the start.
    pub(crate) fn open_within<'a>(
        &self,
        nonce: [u8; NONCE],
        aad: &[u8],
        in_out: &'a mut [u8],
        from: usize,
    ) -> Result<&'a mut [u8], Refused> {
        if in_out.len() < from + aead::MAX_TAG_LEN {
            return Err(Refused);
        }
        self.0
            .open_within(Nonce::assume_unique_for_key(nonce), Aad::from(aad), in_out, from..)
            .map_err(|_| Refused)
    }
}

struct Len(usize);

impl hkdf::KeyType for Len {
    fn len(&self) -> usize {
        self.0
    }
}

/// HKDF-SHA256 into `out`, at most 255 * 32 bytes.
pub(crate) fn hkdf(salt: &[u8], secret: &[u8], info: &[&[u8]], out: &mut [u8]) {
    hkdf::Salt::new(hkdf::HKDF_SHA256, salt)
        .extract(secret)
        .expand(info, Len(out.len()))
        .and_then(|okm| okm.fill(out))
        .expect("HKDF refuses only beyond 8160 bytes, and no caller asks for that");
}

/// HKDF-SHA256 into a secret of 32 bytes.
pub(crate) fn hkdf_secret(salt: &[u8], secret: &[u8], info: &[&[u8]]) -> SecretBytes32 {
    let mut out = SecretBytes32::new([0; 32]);
    hkdf(salt, secret, info, out.expose_mut());
    out
}
