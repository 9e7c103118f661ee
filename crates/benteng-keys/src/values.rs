//! Values of the ordered store: compressed where it pays, then sealed (K1).
//!
//! A value is: version u8 | number of its salt u32 | nonce 96 bits | ciphertext | tag, all
//! big-endian; AAD = the full key, so a value opens under its own key only. Inside the
//! ciphertext: flag u8 (0 raw, 1 LZ4 block behind the plain length u32) | body.
//! No nonce comes from a log position: every process start and every snapshot installation
//! draws a salt of its own, and the nonce counts within it (K1).

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use benteng_meta::ids::StoreId;
use bytes::Bytes;

use crate::aead::{Cipher, NONCE, hkdf_secret};
use crate::error::{Error, Result};
use crate::secret::SecretBytes32;
use crate::unseal::RootKey;

const VALUE_VERSION: u8 = 1;
const HEADER: usize = 1 + 4 + NONCE;
const RAW: u8 = 0;
const LZ4: u8 = 1;
/// Below this length LZ4 gains nothing over its own length field.
const COMPRESS_MIN: usize = 64;
/// No value of the metadata comes near; more is damage that happens to authenticate.
const PLAIN_MAX: usize = 256 * 1024 * 1024;
/// A byte of an LZ4 block stands for so many at most.
const LZ4_RATIO_MAX: usize = 255;

/// Bytes that sealing adds to a value that does not compress.
pub const VALUE_OVERHEAD: usize = HEADER + 1 + 16;

/// The secret under the root for one store and purpose; salts are mixed in behind it.
fn store_secret(root: &RootKey, store: StoreId, purpose: &str) -> SecretBytes32 {
    let mut context = store.0.as_bytes().to_vec();
    context.extend_from_slice(purpose.as_bytes());
    root.derive("values", &context)
}

fn cipher(store: &SecretBytes32, salt: &[u8; 32]) -> Cipher {
    Cipher::new(&hkdf_secret(salt, store.expose(), &[b"benteng/value/v1"]))
}

/// Seals the values that one process (or one snapshot installation) writes. Shared; `&self`.
pub struct ValueSealer {
    cipher: Cipher,
    salt_number: u32,
    /// The nonce: a counter of this process from 0 (K1). 64 of its 96 bits are enough for ever.
    counter: AtomicU64,
}

impl ValueSealer {
    /// Seals under the salt number `salt_number`.
    ///
    /// K1: `salt` must be 32 fresh random bytes, durable *before* the first call of
    /// [`ValueSealer::seal`], and used for one `ValueSealer` in all time: its counter starts at 0.
    pub fn new(
        root: &RootKey,
        store: StoreId,
        purpose: &str,
        salt_number: u32,
        salt: [u8; 32],
    ) -> ValueSealer {
        let cipher = cipher(&store_secret(root, store, purpose), &salt);
        ValueSealer { cipher, salt_number, counter: AtomicU64::new(0) }
    }

    /// The number of the salt that the values carry.
    pub fn salt_number(&self) -> u32 {
        self.salt_number
    }

    /// Seals `plain` for `key`.
    pub fn seal(&self, key: &[u8], plain: &[u8]) -> Bytes {
        let count = self.counter.fetch_add(1, Ordering::Relaxed);
        assert!(count < u64::MAX, "K1: the nonce counter of salt {} is used up", self.salt_number);
        let mut nonce = [0; NONCE];
        nonce[NONCE - 8..].copy_from_slice(&count.to_be_bytes());

        let mut out = Vec::with_capacity(plain.len() + VALUE_OVERHEAD);
        out.push(VALUE_VERSION);
        out.extend_from_slice(&self.salt_number.to_be_bytes());
        out.extend_from_slice(&nonce);
        pack(plain, &mut out);
        let tag = self.cipher.seal(nonce, key, &mut out[HEADER..]);
        out.extend_from_slice(&tag);
        out.into()
    }
}

/// Appends flag and body.
pub(crate) fn pack(plain: &[u8], out: &mut Vec<u8>) {
    if let (true, Ok(len)) = (plain.len() >= COMPRESS_MIN, u32::try_from(plain.len())) {
        let packed = lz4_flex::block::compress(plain);
        if packed.len() + 4 < plain.len() {
            out.push(LZ4);
            out.extend_from_slice(&len.to_be_bytes());
            out.extend_from_slice(&packed);
            return;
        }
    }
    out.push(RAW);
    out.extend_from_slice(plain);
}

/// Reads flag and body back; `None` if they are not what `pack` writes.
pub(crate) fn unpack(packed: Vec<u8>) -> Option<Bytes> {
    match *packed.first()? {
        RAW => Some(Bytes::from(packed).slice(1..)),
        LZ4 => {
            let (len, body) = packed[1..].split_first_chunk::<4>()?;
            // The length is room that is made before anything is unpacked: no more than the body can fill.
            let len_max = body.len().saturating_mul(LZ4_RATIO_MAX).min(PLAIN_MAX);
            let len = usize::try_from(u32::from_be_bytes(*len)).ok().filter(|&len| len <= len_max)?;
            let plain = lz4_flex::block::decompress(body, len).ok()?;
            (plain.len() == len).then(|| plain.into())
        }
        _ => None,
    }
}

/// Opens the values of one store, whichever process wrote them: knows a key per salt. Shared; `&self`.
pub struct ValueOpener {
    store: SecretBytes32,
    salts: RwLock<HashMap<u32, Arc<Cipher>>>,
}

impl ValueOpener {
    /// Opens values of `store` and `purpose`; knows no salt yet.
    pub fn new(root: &RootKey, store: StoreId, purpose: &str) -> ValueOpener {
        ValueOpener { store: store_secret(root, store, purpose), salts: RwLock::default() }
    }

    /// Makes the salt with this number known.
    pub fn add(&self, salt_number: u32, salt: &[u8; 32]) {
        let cipher = Arc::new(cipher(&self.store, salt));
        self.salts.write().unwrap_or_else(PoisonError::into_inner).insert(salt_number, cipher);
    }

    /// Opens a value that was sealed for `key`.
    ///
    /// Errors: `Version`, `UnknownSalt`, and `Value` if it does not authenticate: each means
    /// that this node's state is damaged (S6), never that a request is wrong.
    pub fn open(&self, key: &[u8], sealed: &[u8]) -> Result<Bytes> {
        let damaged = Error::Value { len: sealed.len() };
        let (&version, rest) = sealed.split_first().ok_or(damaged.clone())?;
        if version != VALUE_VERSION {
            return Err(Error::Version { what: "a stored value", version, known: VALUE_VERSION });
        }
        let (number, rest) = rest.split_first_chunk::<4>().ok_or(damaged.clone())?;
        let number = u32::from_be_bytes(*number);
        let (nonce, ciphertext) = rest.split_first_chunk::<NONCE>().ok_or(damaged.clone())?;
        let cipher = {
            let salts = self.salts.read().unwrap_or_else(PoisonError::into_inner);
            salts.get(&number).cloned().ok_or(Error::UnknownSalt { number })?
        };
        let mut buffer = ciphertext.to_vec();
        let len = cipher.open(*nonce, key, &mut buffer).map_err(|_| damaged.clone())?.len();
        buffer.truncate(len);
        unpack(buffer).ok_or(damaged)
    }
}

#[cfg(test)]
mod tests;
