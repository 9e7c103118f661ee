//! The root key and the two ways to keep it: a key file for unattended start, and a
//! passphrase through Argon2id. The caller reads and writes the files (new ones `CreateNew`,
//! mode 0600); here is only what stands in them.

use argon2::{Algorithm, Argon2, Params, Version};
use benteng_host::{Random, random_array};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::aead::{Cipher, NONCE, hkdf, hkdf_secret};
use crate::error::{Error, Result};
use crate::secret::{SecretBytes32, same_bytes};

/// Separates everything under the root key from any other use of the same bytes.
const ROOT_SALT: &[u8] = b"benteng/root/v1";
const FILE_HEADER: &str = "benteng-root-key v1";
const SEALED_HEADER: &str = "benteng-sealed-root v1";
const SEALED_VERSION: u8 = 1;
const SEALED_AAD: &[u8] = b"benteng/sealed-root/v1";

/// The root of all keys of a site: 32 bytes, in memory only. Wiped on drop, never printed.
#[derive(Clone)]
pub struct RootKey(SecretBytes32);

impl RootKey {
    /// A new root key of `random`.
    pub fn generate(random: &dyn Random) -> RootKey {
        RootKey(SecretBytes32::generate(random))
    }

    /// The root key of these bytes (a peer handed them over, or shares were joined).
    pub fn from_secret(secret: SecretBytes32) -> RootKey {
        RootKey(secret)
    }

    /// The bytes, for handing them to a peer over mTLS.
    pub fn secret(&self) -> &SecretBytes32 {
        &self.0
    }

    /// The key for `purpose` (at most 255 bytes) and `context`: HKDF-SHA256. Different
    /// (purpose, context) pairs give independent keys.
    pub fn derive(&self, purpose: &str, context: &[u8]) -> SecretBytes32 {
        let mut out = SecretBytes32::new([0; 32]);
        self.expand(purpose, context, out.expose_mut());
        out
    }

    /// As [`RootKey::derive`], for outputs of other lengths.
    pub(crate) fn expand(&self, purpose: &str, context: &[u8], out: &mut [u8]) {
        // The length in front keeps ("ab", "c") and ("a", "bc") apart.
        let len = u8::try_from(purpose.len()).expect("purposes are short names in our own code");
        hkdf(ROOT_SALT, self.0.expose(), &[&[len], purpose.as_bytes(), context], out);
    }

    /// Tells one root key from another without revealing either.
    pub fn check_value(&self) -> [u8; 16] {
        let mut out = [0; 16];
        self.expand("check", b"", &mut out);
        out
    }

    /// Contents of the key file: a version line, 64 hex characters, the check value.
    pub fn to_file_text(&self) -> Zeroizing<String> {
        let key = Zeroizing::new(hex::encode(self.0.expose()));
        Zeroizing::new(format!("{FILE_HEADER}\n{}\ncheck {}\n", *key, hex::encode(self.check_value())))
    }

    /// Reads [`RootKey::to_file_text`] back.
    ///
    /// Errors: `KeyFile` if the text is another or damaged; a flipped character never gives another key.
    pub fn from_file_text(text: &str) -> Result<RootKey> {
        let bad = |reason| Error::KeyFile { reason };
        let mut lines = text.lines();
        if lines.next().map(str::trim_end) != Some(FILE_HEADER) {
            return Err(bad("the first line is not `benteng-root-key v1`"));
        }
        let key = lines.next().ok_or(bad("the key line is missing"))?.trim_end();
        let check = lines.next().ok_or(bad("the check line is missing"))?.trim_end();
        if lines.any(|rest| !rest.trim().is_empty()) {
            return Err(bad("there is text behind the check line"));
        }
        let mut secret = SecretBytes32::new([0; 32]);
        hex::decode_to_slice(key, secret.expose_mut())
            .map_err(|_| bad("the key is not 64 hex characters"))?;
        let mut stored = [0; 16];
        let check = check.strip_prefix("check ").ok_or(bad("the third line is not a check value"))?;
        hex::decode_to_slice(check, &mut stored)
            .map_err(|_| bad("the check value is not 32 hex characters"))?;
        let root = RootKey(secret);
        if !same_bytes(&root.check_value(), &stored) {
            return Err(bad("the key does not match its check value"));
        }
        Ok(root)
    }
}

/// What one guess at the passphrase costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cost {
    /// Memory in KiB.
    pub memory_kib: u32,
    /// Passes over the memory.
    pub passes: u32,
    /// Lanes.
    pub lanes: u32,
}

impl Default for Cost {
    /// 64 MiB, three passes, one lane: the second recommendation of RFC 9106 §4, one lane.
    fn default() -> Cost {
        Cost { memory_kib: 64 * 1024, passes: 3, lanes: 1 }
    }
}

impl Cost {
    /// Stored parameters come from a file: beyond this they would only exhaust the machine.
    const MAX: Cost = Cost { memory_kib: 4 * 1024 * 1024, passes: 64, lanes: 64 };

    fn params(self) -> Result<Params> {
        let refused = Error::Cost { memory_kib: self.memory_kib, passes: self.passes, lanes: self.lanes };
        let max = Cost::MAX;
        if self.memory_kib > max.memory_kib || self.passes > max.passes || self.lanes > max.lanes {
            return Err(refused);
        }
        Params::new(self.memory_kib, self.passes, self.lanes, Some(32)).map_err(|_| refused)
    }
}

/// The root key under a passphrase; may lie on any disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SealedRoot {
    version: u8,
    cost: Cost,
    salt: [u8; 16],
    nonce: [u8; NONCE],
    ciphertext: [u8; 32],
    tag: [u8; 16],
    check: [u8; 16],
}

impl SealedRoot {
    /// Seals `root` under `passphrase`. Takes a core for long (64 MiB, ~0.2 s): run it on
    /// [`benteng_host::Tasks::blocking`].
    ///
    /// Errors: `Cost`, if Argon2id refuses the parameters.
    pub fn seal(root: &RootKey, passphrase: &str, random: &dyn Random, cost: Cost) -> Result<SealedRoot> {
        let salt = random_array(random);
        let nonce = random_array(random);
        let kek = stretch(passphrase, &salt, cost)?;
        let mut key = Zeroizing::new(*root.0.expose());
        let tag = Cipher::new(&kek).seal(nonce, SEALED_AAD, &mut *key);
        let check = root.check_value();
        Ok(SealedRoot { version: SEALED_VERSION, cost, salt, nonce, ciphertext: *key, tag, check })
    }

    /// Opens the root key. As costly as [`SealedRoot::seal`].
    ///
    /// Errors: `WrongPassphrase` (or damage, which AEAD cannot tell apart), `Version`, `Cost`, `Check`.
    pub fn open(&self, passphrase: &str) -> Result<RootKey> {
        if self.version != SEALED_VERSION {
            return Err(version_error(self.version));
        }
        let kek = stretch(passphrase, &self.salt, self.cost)?;
        let mut sealed = Zeroizing::new([0; 48]);
        sealed[..32].copy_from_slice(&self.ciphertext);
        sealed[32..].copy_from_slice(&self.tag);
        let plain = Cipher::new(&kek)
            .open(self.nonce, SEALED_AAD, &mut sealed[..])
            .map_err(|_| Error::WrongPassphrase)?;
        let mut secret = SecretBytes32::new([0; 32]);
        secret.expose_mut().copy_from_slice(plain);
        let root = RootKey(secret);
        if !same_bytes(&root.check_value(), &self.check) {
            return Err(Error::Check { what: "root key" });
        }
        Ok(root)
    }

    /// The check value of the key inside, readable without the passphrase.
    pub fn check_value(&self) -> [u8; 16] {
        self.check
    }

    /// Versioned bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        postcard::to_stdvec(self).expect("a struct of fixed arrays and numbers always encodes")
    }

    /// Reads [`SealedRoot::to_bytes`] back. Errors: `SealedRoot`, `Version`.
    pub fn from_bytes(bytes: &[u8]) -> Result<SealedRoot> {
        match bytes.first() {
            None => return Err(Error::SealedRoot { reason: "it is empty" }),
            Some(&version) if version != SEALED_VERSION => return Err(version_error(version)),
            Some(_) => {}
        }
        match postcard::take_from_bytes::<SealedRoot>(bytes) {
            Ok((sealed, [])) => Ok(sealed),
            Ok(_) => Err(Error::SealedRoot { reason: "there are bytes behind its end" }),
            Err(_) => Err(Error::SealedRoot { reason: "it does not parse" }),
        }
    }

    /// Text for a file or for paper: a version line, then the bytes in hex.
    pub fn to_text(&self) -> String {
        format!("{SEALED_HEADER}\n{}\n", hex::encode(self.to_bytes()))
    }

    /// Reads [`SealedRoot::to_text`] back. Errors: `SealedRoot`, `Version`.
    pub fn from_text(text: &str) -> Result<SealedRoot> {
        let body = text
            .trim()
            .strip_prefix(SEALED_HEADER)
            .ok_or(Error::SealedRoot { reason: "the first line is not `benteng-sealed-root v1`" })?;
        let bytes = hex::decode(body.trim())
            .map_err(|_| Error::SealedRoot { reason: "the second line is not hex" })?;
        SealedRoot::from_bytes(&bytes)
    }
}

fn version_error(version: u8) -> Error {
    Error::Version { what: "the sealed root key", version, known: SEALED_VERSION }
}

/// Argon2id, then HKDF, so that the passphrase's key serves this purpose only.
fn stretch(passphrase: &str, salt: &[u8; 16], cost: Cost) -> Result<SecretBytes32> {
    let refused = Error::Cost { memory_kib: cost.memory_kib, passes: cost.passes, lanes: cost.lanes };
    let argon = Argon2::new(Algorithm::Argon2id, Version::V0x13, cost.params()?);
    let mut out = Zeroizing::new([0; 32]);
    argon.hash_password_into(passphrase.as_bytes(), salt, &mut *out).map_err(|_| refused)?;
    Ok(hkdf_secret(SEALED_AAD, &*out, &[b"passphrase"]))
}

#[cfg(test)]
mod tests;
