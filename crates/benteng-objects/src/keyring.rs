//! The keys of buckets and blobs as the rows hold them: key-encryption keys are loaded from
//! their rows when they are first needed.

use benteng_host::{KvView, Random};
use benteng_keys::{BucketKey, Dek, Keyring, RootKey, WrappedKey};
use benteng_meta::ids::*;
use benteng_meta::{BlobRow, BucketRow, KekRow, Rejection, key, query};
use bytes::Bytes;

use crate::Result;

/// Keys of an unsealed node.
pub(crate) struct Keys {
    ring: Keyring,
}

impl Keys {
    /// Under `root`.
    pub(crate) fn new(root: &RootKey) -> Keys {
        Keys { ring: Keyring::new(RootKey::from_secret(root.secret().clone())) }
    }

    /// A first key-encryption key, wrapped, for the command that forms the site.
    pub(crate) fn new_kek(&self, version: KekVersion, random: &dyn Random) -> Bytes {
        self.ring.generate_kek(version, random).to_bytes().into()
    }

    fn load(&self, view: &dyn KvView, version: KekVersion) -> Result<()> {
        let row: Option<KekRow> = query::get(view, &key::kek(version))?;
        let wrapped = row.and_then(|row| row.wrapped).ok_or(Rejection::KeyDestroyed(version))?;
        Ok(self.ring.load(version, &WrappedKey::from_bytes(&wrapped)?)?)
    }

    /// The newest key-encryption key that the site has, loaded.
    fn newest(&self, view: &dyn KvView) -> Result<KekVersion> {
        let rows = query::all::<KekRow>(view, key::Table::Kek)?;
        let version = |key: &[u8]| key.last_chunk::<4>().map(|n| KekVersion(u32::from_be_bytes(*n)));
        let usable = rows.iter().rev().filter(|(_, row)| row.wrapped.is_some());
        let newest = usable.filter_map(|(key, _)| version(key)).next();
        let newest = newest.ok_or(Rejection::KeyDestroyed(KekVersion(0)))?;
        self.load(view, newest)?;
        Ok(newest)
    }

    /// A new bucket key, wrapped, and the version it is wrapped under.
    pub(crate) fn new_bucket_key(
        &self,
        view: &dyn KvView,
        bucket: BucketId,
        random: &dyn Random,
    ) -> Result<(Bytes, KekVersion)> {
        let kek = self.newest(view)?;
        let (_, wrapped) = self.ring.generate_bucket_key(kek, bucket, random)?;
        Ok((wrapped.to_bytes().into(), kek))
    }

    /// The key of a bucket.
    pub(crate) fn bucket_key(&self, view: &dyn KvView, row: &BucketRow) -> Result<BucketKey> {
        let wrapped = WrappedKey::from_bytes(&row.key)?;
        match self.ring.open_bucket_key(row.id, &wrapped) {
            Err(benteng_keys::Error::UnknownKek { version }) => {
                self.load(view, version)?;
                Ok(self.ring.open_bucket_key(row.id, &wrapped)?)
            }
            opened => Ok(opened?),
        }
    }

    /// A new data key for `blob`, and its wrapped form.
    pub(crate) fn new_dek(key: &BucketKey, blob: BlobId, random: &dyn Random) -> (Dek, Bytes) {
        let (dek, wrapped) = key.generate_dek(blob, random);
        (dek, wrapped.to_bytes().into())
    }

    /// Opens a wrapped data key.
    pub(crate) fn dek(key: &BucketKey, blob: BlobId, wrapped: &[u8]) -> Result<Dek> {
        Ok(key.open_dek(blob, &WrappedKey::from_bytes(wrapped)?)?)
    }

    /// The data key of a blob.
    pub(crate) fn blob_dek(key: &BucketKey, id: BlobId, row: &BlobRow) -> Result<Dek> {
        Keys::dek(key, id, &row.dek)
    }
}
