//! The handle that doors use. Whoever calls has asked `benteng_identity::authorize` before.

use benteng_meta::query::Listed;
use benteng_meta::{Checksum, Condition, DeleteKey, Described, ETag, ObjectRow, Rejection, UploadRow, UsageRow};
use benteng_meta::ids::*;

use crate::*;

/// The object layer of this node. Cheap to clone; any node serves any request.
#[derive(Clone)]
pub struct Objects {}

#[allow(unused_variables, clippy::unimplemented)]
impl Objects {
    /// Resolves a bucket: the local replica first, a read index on a miss.
    pub async fn bucket(&self, name: &str) -> Result<Bucket> { unimplemented!() }
    /// Buckets in order of name after `after` that start with `prefix`.
    pub async fn buckets(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<Page<Bucket>> { unimplemented!() }
    /// Creates a bucket. `Rejected(BucketTaken { owner })` if the name is taken.
    pub async fn create_bucket(&self, name: &str, owner: &str) -> Result<Bucket> { unimplemented!() }
    /// Deletes an empty bucket; uploads under way in it are aborted first.
    pub async fn delete_bucket(&self, name: &str) -> Result<()> { unimplemented!() }
    /// Exact counters of a bucket.
    pub async fn usage(&self, bucket: &Bucket) -> Result<UsageRow> { unimplemented!() }

    /// Stores an object; returns once it is durable and visible through every node (I1, I2).
    pub async fn put(&self, bucket: &Bucket, key: &str, options: PutOptions, body: BodyIn) -> Result<PutDone> { unimplemented!() }
    /// Reads an object.
    pub async fn get(&self, bucket: &Bucket, key: &str, options: GetOptions) -> Result<Got> { unimplemented!() }
    /// As [`Objects::get`], without the bytes.
    pub async fn head(&self, bucket: &Bucket, key: &str, options: GetOptions) -> Result<Got> { unimplemented!() }
    /// Deletes objects; one result per key, in order.
    pub async fn delete(&self, bucket: &Bucket, keys: Vec<DeleteKey>) -> Result<Vec<std::result::Result<(), Rejection>>> { unimplemented!() }
    /// A page of a bucket's objects.
    pub async fn list(&self, bucket: &Bucket, options: &ListOptions) -> Result<Page<Listed<ObjectRow>>> { unimplemented!() }
    /// Copies an object by moving its bytes; `described: None` keeps what the source says (COPY directive).
    pub async fn copy(&self, from: CopySource, to: &Bucket, key: &str, described: Option<Described>, condition: Condition, checksum: Option<benteng_meta::ChecksumKind>) -> Result<PutDone> { unimplemented!() }

    /// Begins an upload.
    pub async fn create_upload(&self, bucket: &Bucket, key: &str, owner: &str, options: UploadOptions) -> Result<BlobId> { unimplemented!() }
    /// Stores a part; its row is committed before this returns (O1). Of `options` the condition and description are not used.
    pub async fn put_part(&self, bucket: &Bucket, key: &str, upload: BlobId, number: PartNumber, options: PutOptions, body: BodyIn) -> Result<PutDone> { unimplemented!() }
    /// Stores a part that is copied from an object.
    pub async fn copy_part(&self, from: CopySource, bucket: &Bucket, key: &str, upload: BlobId, number: PartNumber) -> Result<PutDone> { unimplemented!() }
    /// Turns the listed parts into the object. A repeated call is answered alike for 24 h.
    /// `whole`: the checksum of the whole object, if the client sends it.
    pub async fn complete_upload(&self, bucket: &Bucket, key: &str, upload: BlobId, parts: Vec<ListedPart>, whole: Option<Checksum>, condition: Condition) -> Result<PutDone> { unimplemented!() }
    /// Gives an upload up.
    pub async fn abort_upload(&self, bucket: &Bucket, key: &str, upload: BlobId) -> Result<()> { unimplemented!() }
    /// An upload under way.
    pub async fn upload(&self, bucket: &Bucket, key: &str, upload: BlobId) -> Result<UploadRow> { unimplemented!() }
    /// Parts of an upload after number `after`.
    pub async fn list_parts(&self, bucket: &Bucket, key: &str, upload: BlobId, after: u16, limit: usize) -> Result<Page<PartLine>> { unimplemented!() }
    /// Uploads under way whose key starts with `prefix`, by key then id, after `after`.
    pub async fn list_uploads(&self, bucket: &Bucket, prefix: &str, after: Option<(&str, BlobId)>, limit: usize) -> Result<Page<UploadLine>> { unimplemented!() }
}

#[allow(dead_code)]
fn _tag(e: &ETag) -> String { e.to_string() }
