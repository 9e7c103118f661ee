//! Keys under keys: root -> KEK versions -> bucket keys -> data keys (DEKs).
//!
//! Each wrap is AES-256-GCM with a random nonce; the AAD names what is wrapped and for
//! whom, so that a wrapped key moved to another row does not open; a key-check value stands
//! beside it. The key that wraps is itself derived per wrapped thing, so random nonces never
//! come near their limit, whatever the number of objects in a bucket. Rotation only re-wraps.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use benteng_host::{Random, random_array};
use benteng_meta::ids::{Attempt, BlobId, BucketId, KekVersion, PartNumber};
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::aead::{Cipher, NONCE, hkdf, hkdf_secret};
use crate::error::{Error, Result};
use crate::secret::{SecretBytes32, same_bytes};
use crate::unseal::RootKey;

const WRAP_VERSION: u8 = 1;
const WRAP_SALT: &[u8] = b"benteng/wrap/v1";
const PART_INFO: &[u8] = b"benteng/part/v1";
const INLINE_SALT: &[u8] = b"benteng/inline/v1";
const INLINE_VERSION: u8 = 1;

/// A key under another key, with all that is needed to open it but the latter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WrappedKey {
    version: u8,
    /// The KEK version that wraps a bucket key; 0 where the wrapping key has no version.
    under: KekVersion,
    nonce: [u8; NONCE],
    ciphertext: [u8; 32],
    tag: [u8; 16],
    check: [u8; 8],
}

impl WrappedKey {
    /// The KEK version under which a bucket key lies; 0 for other keys.
    pub fn under(&self) -> KekVersion {
        self.under
    }

    /// Tells one key from another without revealing either.
    pub fn check_value(&self) -> [u8; 8] {
        self.check
    }

    /// Versioned bytes, 70 to 74.
    pub fn to_bytes(&self) -> Vec<u8> {
        postcard::to_stdvec(self).expect("a struct of fixed arrays and numbers always encodes")
    }

    /// Reads [`WrappedKey::to_bytes`] back; authenticity shows only when it is opened.
    ///
    /// Errors: `Version`; `Unwrap` if the bytes are no wrapped key.
    pub fn from_bytes(bytes: &[u8]) -> Result<WrappedKey> {
        match bytes.first() {
            Some(&version) if version != WRAP_VERSION => return Err(version_error(version)),
            _ => {}
        }
        match postcard::take_from_bytes::<WrappedKey>(bytes) {
            Ok((wrapped, [])) => Ok(wrapped),
            _ => Err(Error::Unwrap { what: "key" }),
        }
    }
}

fn version_error(version: u8) -> Error {
    Error::Version { what: "a wrapped key", version, known: WRAP_VERSION }
}

/// What a wrapped key is, and whose: its AAD.
pub(crate) struct Owner {
    /// For people: stands in errors.
    pub(crate) what: &'static str,
    /// For machines: never changes.
    pub(crate) kind: u8,
    /// The KEK version in bytes, the bucket, the blob or the site.
    pub(crate) id: [u8; 16],
    /// The KEK version that wraps, 0 if none.
    pub(crate) under: KekVersion,
}

impl Owner {
    fn kek(version: KekVersion) -> Owner {
        let mut id = [0; 16];
        id[12..].copy_from_slice(&version.0.to_be_bytes());
        Owner { what: "key-encryption key", kind: 1, id, under: KekVersion(0) }
    }

    fn bucket(bucket: BucketId, under: KekVersion) -> Owner {
        Owner { what: "bucket key", kind: 2, id: *bucket.0.as_bytes(), under }
    }

    fn dek(blob: BlobId) -> Owner {
        Owner { what: "data key", kind: 3, id: *blob.0.as_bytes(), under: KekVersion(0) }
    }

    /// version | kind | id | KEK version: 22 bytes.
    fn aad(&self) -> [u8; 22] {
        let mut aad = [0; 22];
        aad[0] = WRAP_VERSION;
        aad[1] = self.kind;
        aad[2..18].copy_from_slice(&self.id);
        aad[18..].copy_from_slice(&self.under.0.to_be_bytes());
        aad
    }

    /// The cipher that wraps this owner's key under `kek`.
    fn cipher(&self, kek: &SecretBytes32) -> Cipher {
        Cipher::new(&hkdf_secret(WRAP_SALT, kek.expose(), &[&self.aad()]))
    }
}

fn check_of(key: &SecretBytes32) -> [u8; 8] {
    let mut out = [0; 8];
    hkdf(WRAP_SALT, key.expose(), &[b"check"], &mut out);
    out
}

pub(crate) fn wrap(
    kek: &SecretBytes32,
    owner: &Owner,
    key: &SecretBytes32,
    random: &dyn Random,
) -> WrappedKey {
    let nonce = random_array(random);
    // Encrypted in place: what remains in the array is ciphertext.
    let mut ciphertext = *key.expose();
    let tag = owner.cipher(kek).seal(nonce, &owner.aad(), &mut ciphertext);
    WrappedKey { version: WRAP_VERSION, under: owner.under, nonce, ciphertext, tag, check: check_of(key) }
}

pub(crate) fn unwrap(kek: &SecretBytes32, owner: &Owner, wrapped: &WrappedKey) -> Result<SecretBytes32> {
    if wrapped.version != WRAP_VERSION {
        return Err(version_error(wrapped.version));
    }
    if wrapped.under != owner.under {
        return Err(Error::Unwrap { what: owner.what });
    }
    let mut buffer = zeroize::Zeroizing::new([0; 48]);
    buffer[..32].copy_from_slice(&wrapped.ciphertext);
    buffer[32..].copy_from_slice(&wrapped.tag);
    let plain = owner
        .cipher(kek)
        .open(wrapped.nonce, &owner.aad(), &mut buffer[..])
        .map_err(|_| Error::Unwrap { what: owner.what })?;
    let mut key = SecretBytes32::new([0; 32]);
    key.expose_mut().copy_from_slice(plain);
    if !same_bytes(&check_of(&key), &wrapped.check) {
        return Err(Error::Check { what: owner.what });
    }
    Ok(key)
}

/// One version of the site's key-encryption key.
pub struct Kek {
    /// Its version, from 1.
    pub version: KekVersion,
    key: SecretBytes32,
}

/// The root key and the loaded KEK versions of an unsealed node. Shared; all methods take `&self`.
pub struct Keyring {
    root: RootKey,
    keks: RwLock<BTreeMap<KekVersion, Arc<Kek>>>,
}

impl Keyring {
    /// A keyring that knows no KEK yet.
    pub fn new(root: RootKey) -> Keyring {
        Keyring { root, keks: RwLock::default() }
    }

    /// The root key.
    pub fn root(&self) -> &RootKey {
        &self.root
    }

    /// A new KEK under the root key. It is not loaded: that happens when the command that
    /// carries it is applied, since another proposer may win the version.
    pub fn generate_kek(&self, version: KekVersion, random: &dyn Random) -> WrappedKey {
        let key = SecretBytes32::generate(random);
        wrap(self.root.secret(), &Owner::kek(version), &key, random)
    }

    /// Loads a KEK version; the same one again is no error.
    ///
    /// Errors: `Unwrap`, `Check`, `Version`; `KekConflict` if another key has this version.
    pub fn load(&self, version: KekVersion, wrapped: &WrappedKey) -> Result<()> {
        let key = unwrap(self.root.secret(), &Owner::kek(version), wrapped)?;
        let mut keks = self.keks.write().unwrap_or_else(PoisonError::into_inner);
        match keks.get(&version) {
            Some(known) if !known.key.same_as(&key) => Err(Error::KekConflict { version }),
            Some(_) => Ok(()),
            None => {
                keks.insert(version, Arc::new(Kek { version, key }));
                Ok(())
            }
        }
    }

    /// Forgets a destroyed version; what it wraps opens no more.
    pub fn forget(&self, version: KekVersion) {
        self.keks.write().unwrap_or_else(PoisonError::into_inner).remove(&version);
    }

    /// The newest loaded version.
    pub fn newest(&self) -> Option<KekVersion> {
        self.keks.read().unwrap_or_else(PoisonError::into_inner).keys().next_back().copied()
    }

    fn kek(&self, version: KekVersion) -> Result<Arc<Kek>> {
        let keks = self.keks.read().unwrap_or_else(PoisonError::into_inner);
        keks.get(&version).cloned().ok_or(Error::UnknownKek { version })
    }

    /// A new key for `bucket`, and its wrapped form under `kek`.
    ///
    /// Errors: `UnknownKek`.
    pub fn generate_bucket_key(
        &self,
        kek: KekVersion,
        bucket: BucketId,
        random: &dyn Random,
    ) -> Result<(BucketKey, WrappedKey)> {
        let kek = self.kek(kek)?;
        let key = SecretBytes32::generate(random);
        let wrapped = wrap(&kek.key, &Owner::bucket(bucket, kek.version), &key, random);
        Ok((BucketKey { key }, wrapped))
    }

    /// Opens the key of `bucket`.
    ///
    /// Errors: `UnknownKek`; `Unwrap` if it is damaged or another bucket's; `Check`, `Version`.
    pub fn open_bucket_key(&self, bucket: BucketId, wrapped: &WrappedKey) -> Result<BucketKey> {
        let kek = self.kek(wrapped.under)?;
        let key = unwrap(&kek.key, &Owner::bucket(bucket, kek.version), wrapped)?;
        Ok(BucketKey { key })
    }

    /// The same bucket key under KEK version `to`.
    ///
    /// Errors: as [`Keyring::open_bucket_key`].
    pub fn rewrap(
        &self,
        bucket: BucketId,
        wrapped: &WrappedKey,
        to: KekVersion,
        random: &dyn Random,
    ) -> Result<WrappedKey> {
        let BucketKey { key } = self.open_bucket_key(bucket, wrapped)?;
        let kek = self.kek(to)?;
        Ok(wrap(&kek.key, &Owner::bucket(bucket, to), &key, random))
    }
}

/// Key of a bucket: wraps the data keys of its blobs. Destroying all wrapped forms of it shreds the bucket.
#[derive(Clone)]
pub struct BucketKey {
    key: SecretBytes32,
}

impl BucketKey {
    /// The key that a client brings for one request (SSE-C) in the place of a bucket's.
    pub fn of_customer(key: SecretBytes32) -> BucketKey {
        BucketKey { key }
    }

    /// A new data key for `blob`, and its wrapped form.
    pub fn generate_dek(&self, blob: BlobId, random: &dyn Random) -> (Dek, WrappedKey) {
        let key = SecretBytes32::generate(random);
        let wrapped = wrap(&self.key, &Owner::dek(blob), &key, random);
        (Dek { key, blob }, wrapped)
    }

    /// Opens the data key of `blob`.
    ///
    /// Errors: `Unwrap` if it is damaged or another blob's; `Check`, `Version`.
    pub fn open_dek(&self, blob: BlobId, wrapped: &WrappedKey) -> Result<Dek> {
        let key = unwrap(&self.key, &Owner::dek(blob), wrapped)?;
        Ok(Dek { key, blob })
    }
}

/// Data key of one blob.
#[derive(Clone)]
pub struct Dek {
    key: SecretBytes32,
    blob: BlobId,
}

impl Dek {
    /// The blob it belongs to.
    pub fn blob(&self) -> BlobId {
        self.blob
    }

    /// The key of one attempt at one part. `salt`: 32 random bytes drawn for the attempt and
    /// stored with the part, so that no two attempts share a key, whatever their numbers.
    pub fn part_key(&self, part: PartNumber, attempt: Attempt, salt: &[u8; 32]) -> PartKey {
        let info: [&[u8]; 3] = [PART_INFO, &part.0.to_be_bytes(), &attempt.0.to_be_bytes()];
        let mut out = zeroize::Zeroizing::new([0; 39]);
        hkdf(salt, self.key.expose(), &info, &mut out[..]);
        let mut key = SecretBytes32::new([0; 32]);
        let mut prefix = [0; 7];
        key.expose_mut().copy_from_slice(&out[..32]);
        prefix.copy_from_slice(&out[32..]);
        PartKey { key, prefix }
    }

    /// Seals a body that rides in its blob row: version | nonce | ciphertext | tag.
    ///
    /// The nonce is an HMAC of the body (synthetic), so that even two bodies under one data
    /// key do not share one; equal bodies under one key look equal, which tells nothing new.
    pub fn seal_inline(&self, plain: &[u8]) -> Bytes {
        let (cipher, mac) = self.inline_keys();
        let digest = ring::hmac::sign(&mac, plain);
        let mut nonce = [0; NONCE];
        nonce.copy_from_slice(&digest.as_ref()[..NONCE]);
        let mut out = Vec::with_capacity(plain.len() + Dek::INLINE_OVERHEAD);
        out.push(INLINE_VERSION);
        out.extend_from_slice(&nonce);
        out.extend_from_slice(plain);
        let tag = cipher.seal(nonce, &self.inline_aad(), &mut out[1 + NONCE..]);
        out.extend_from_slice(&tag);
        out.into()
    }

    /// Bytes that [`Dek::seal_inline`] adds.
    pub const INLINE_OVERHEAD: usize = 1 + NONCE + 16;

    /// Opens [`Dek::seal_inline`].
    ///
    /// Errors: `Version`; `Inline` if it does not authenticate (damage, or another blob's).
    pub fn open_inline(&self, sealed: &[u8]) -> Result<Bytes> {
        let damaged = Error::Inline { blob: self.blob };
        let (&version, rest) = sealed.split_first().ok_or(damaged.clone())?;
        if version != INLINE_VERSION {
            return Err(Error::Version { what: "an inline body", version, known: INLINE_VERSION });
        }
        let (nonce, ciphertext) = rest.split_first_chunk::<NONCE>().ok_or(damaged.clone())?;
        let mut buffer = ciphertext.to_vec();
        let (cipher, _) = self.inline_keys();
        let len = cipher.open(*nonce, &self.inline_aad(), &mut buffer).map_err(|_| damaged)?.len();
        buffer.truncate(len);
        Ok(buffer.into())
    }

    fn inline_keys(&self) -> (Cipher, ring::hmac::Key) {
        let cipher = Cipher::new(&hkdf_secret(INLINE_SALT, self.key.expose(), &[b"aead"]));
        let mac = hkdf_secret(INLINE_SALT, self.key.expose(), &[b"nonce"]);
        (cipher, ring::hmac::Key::new(ring::hmac::HMAC_SHA256, mac.expose()))
    }

    fn inline_aad(&self) -> [u8; 17] {
        let mut aad = [INLINE_VERSION; 17];
        aad[1..].copy_from_slice(self.blob.0.as_bytes());
        aad
    }
}

/// Key and nonce prefix of one attempt at one part: one `Sealer`, any number of `Opener`s.
#[derive(Clone)]
pub struct PartKey {
    pub(crate) key: SecretBytes32,
    pub(crate) prefix: [u8; 7],
}

#[cfg(test)]
mod tests;
