//! Keys and sealing: from the site's root key down to the frames on the disks (I5, I4, rules K).
//!
//! Down: [`RootKey`] -> KEK versions ([`Keyring`]) -> [`BucketKey`] -> [`Dek`] per blob ->
//! [`PartKey`] per attempt -> [`Sealer`] -> [`Sealed`] chunks. Beside it: root -> values of
//! the ordered store ([`ValueSealer`]), journal records ([`RecordKeys`]), the site's
//! certificates ([`SiteCa`]), development credentials.
//! Back: [`Opener`], [`ValueOpener`], [`RecordKey::open`], with the same keys.
//!
//! ring does AEAD, HKDF and HMAC; argon2 the passphrase; rcgen the certificates. Our copies
//! of secrets are wiped on drop; ring's expanded key schedules are not (it offers no way).
//! Every byte layout here stands in `docs/formats-keys.md`.
//!
//! Not here: where keys are stored (`benteng-meta`), salts and their files
//! (`benteng-consensus`), TLS (`benteng-rpc`), who may unseal (`benteng-identity`).

mod aead; // AES-256-GCM and HKDF, the one way we call ring
mod ca; // the site's certificate authority and node certificates
mod dev; // credentials of `benteng dev`, derived from the root key
mod error; // what can go wrong, and what to do about it
mod frames; // bodies: parts into sealed chunks of frames, and back
#[cfg(debug_assertions)]
pub mod fuzz; // what parsers must bear; none in a release build
mod layout; // arithmetic of parts, chunks and frames
mod records; // journal records: one salt per segment, nonce = record number
mod secret; // 32 secret bytes that wipe themselves
mod unseal; // the root key: key file and passphrase
mod values; // values of the ordered store: compressed, then sealed
mod wrap; // keys under keys

pub use ca::{NodeCert, SiteCa, StoredCa, Validity, node_name, parse_node_name};
pub use dev::DevCredential;
pub use error::{Error, Result};
pub use frames::{Last, Opener, Sealed, Sealer, frame_crcs_match};
pub use layout::{
    CHUNK_CIPHER_MAX, CHUNK_FRAMES, CHUNK_PLAIN, FRAME_CIPHER, FRAME_PLAIN, PartLayout, Piece, TAG,
};
pub use records::{RECORD_OVERHEAD, RecordKey, RecordKeys};
pub use secret::SecretBytes32;
pub use unseal::{Cost, RootKey, SealedRoot};
pub use values::{VALUE_OVERHEAD, ValueOpener, ValueSealer};
pub use wrap::{BucketKey, Dek, Kek, Keyring, PartKey, WrappedKey};
