//! The handle that doors use. Whoever calls has asked `benteng_identity::authorize` before.

use std::sync::Arc;

use benteng_meta::ids::*;
use benteng_meta::query::Listed;
use benteng_meta::{
    Checksum, ChecksumKind, Condition, DeleteKey, Described, ObjectRow, Rejection, UploadRow, UsageRow,
};

use crate::core::Core;
use crate::get::Purpose;
use crate::read::Ahead;
use crate::upload::UploadName;
use crate::{
    BodyIn, Bucket, CopySource, GetOptions, Got, ListOptions, ListedPart, Page, PartLine, PutDone,
    PutOptions, Result, SiteStatus, UploadLine, UploadOptions, bucket, get, put, status, upload,
};

/// The object layer of this node. Cheap to clone; any node serves any request.
///
/// Every call may be dropped at any point: a write that was not proposed leaves nothing but
/// chunks that are removed later (O1); one that was is decided by the state.
#[derive(Clone)]
pub struct Objects {
    core: Arc<Core>,
}

impl Objects {
    pub(crate) fn new(core: Arc<Core>) -> Objects {
        Objects { core }
    }

    /// Resolves a bucket: the local replica first, a read index on a miss.
    pub async fn bucket(&self, name: &str) -> Result<Bucket> {
        bucket::resolve(&self.core, name).await
    }

    /// Buckets in order of name after `after` that start with `prefix`.
    pub async fn buckets(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<Page<Bucket>> {
        bucket::all(&self.core, prefix, after, limit).await
    }

    /// Creates a bucket. `Rejected(BucketTaken { owner })` if the name is taken.
    pub async fn create_bucket(&self, name: &str, owner: &str) -> Result<Bucket> {
        bucket::create(&self.core, name, owner).await
    }

    /// Deletes an empty bucket; uploads under way in it are aborted first.
    pub async fn delete_bucket(&self, name: &str) -> Result<()> {
        bucket::delete(&self.core, name).await
    }

    /// Exact counters of a bucket.
    pub async fn usage(&self, bucket: &Bucket) -> Result<UsageRow> {
        bucket::usage(&self.core, bucket).await
    }

    /// Stores an object; returns once it is durable and visible through every node (I1, I2).
    pub async fn put(
        &self,
        bucket: &Bucket,
        key: &str,
        options: PutOptions,
        body: BodyIn,
    ) -> Result<PutDone> {
        Box::pin(put::put(&self.core, bucket, key, options, body)).await
    }

    /// Reads an object. A range or part that is asked for is resolved against the version read.
    pub async fn get(&self, bucket: &Bucket, key: &str, options: GetOptions) -> Result<Got> {
        let opened = get::open(&self.core, bucket, key, &options, Purpose::Answer, Ahead::One);
        let got = Box::pin(opened).await?;
        metrics::counter!("benteng_objects_gets_total").increment(1);
        Ok(got)
    }

    /// As [`Objects::get`], without the bytes.
    pub async fn head(&self, bucket: &Bucket, key: &str, options: GetOptions) -> Result<Got> {
        get::head(&self.core, bucket, key, &options).await
    }

    /// Deletes objects; one result per key, in order. More than 1000 keys take several commands.
    pub async fn delete(
        &self,
        bucket: &Bucket,
        keys: Vec<DeleteKey>,
    ) -> Result<Vec<std::result::Result<(), Rejection>>> {
        bucket::delete_objects(&self.core, bucket, keys).await
    }

    /// A page of a bucket's objects.
    pub async fn list(&self, bucket: &Bucket, options: &ListOptions) -> Result<Page<Listed<ObjectRow>>> {
        bucket::list(&self.core, bucket, options).await
    }

    /// Copies an object by moving its bytes; `described: None` keeps what the source says (COPY directive).
    pub async fn copy(
        &self,
        from: CopySource,
        to: &Bucket,
        key: &str,
        described: Option<Described>,
        condition: Condition,
        checksum: Option<ChecksumKind>,
    ) -> Result<PutDone> {
        Box::pin(put::copy(&self.core, from, to, key, described, condition, checksum)).await
    }

    /// Begins an upload.
    pub async fn create_upload(
        &self,
        bucket: &Bucket,
        key: &str,
        owner: &str,
        options: UploadOptions,
    ) -> Result<BlobId> {
        upload::create(&self.core, bucket, key, owner, options).await
    }

    /// Stores a part; its row is committed before this returns (O1). Of `options` the condition and description are not used.
    pub async fn put_part(
        &self,
        bucket: &Bucket,
        key: &str,
        upload: BlobId,
        number: PartNumber,
        options: PutOptions,
        body: BodyIn,
    ) -> Result<PutDone> {
        let name = UploadName { bucket, key, upload };
        Box::pin(upload::put_part(&self.core, name, number, options, body)).await
    }

    /// Stores a part that is copied from an object.
    pub async fn copy_part(
        &self,
        from: CopySource,
        bucket: &Bucket,
        key: &str,
        upload: BlobId,
        number: PartNumber,
    ) -> Result<PutDone> {
        Box::pin(upload::copy_part(&self.core, from, UploadName { bucket, key, upload }, number)).await
    }

    /// Turns the listed parts into the object. A repeated call is answered alike for 24 h.
    /// `whole`: the checksum of the whole object, if the client sends it.
    pub async fn complete_upload(
        &self,
        bucket: &Bucket,
        key: &str,
        upload: BlobId,
        parts: Vec<ListedPart>,
        whole: Option<Checksum>,
        condition: Condition,
    ) -> Result<PutDone> {
        upload::complete(&self.core, UploadName { bucket, key, upload }, parts, whole, condition).await
    }

    /// Gives an upload up.
    pub async fn abort_upload(&self, bucket: &Bucket, key: &str, upload: BlobId) -> Result<()> {
        upload::abort(&self.core, UploadName { bucket, key, upload }).await
    }

    /// An upload under way.
    pub async fn upload(&self, bucket: &Bucket, key: &str, upload: BlobId) -> Result<UploadRow> {
        upload::upload(&self.core, UploadName { bucket, key, upload }).await
    }

    /// Parts of an upload after number `after`.
    pub async fn list_parts(
        &self,
        bucket: &Bucket,
        key: &str,
        upload: BlobId,
        after: u16,
        limit: usize,
    ) -> Result<Page<PartLine>> {
        upload::list_parts(&self.core, UploadName { bucket, key, upload }, after, limit).await
    }

    /// Uploads under way whose key starts with `prefix`, by key then id, after `after`.
    pub async fn list_uploads(
        &self,
        bucket: &Bucket,
        prefix: &str,
        after: Option<(&str, BlobId)>,
        limit: usize,
    ) -> Result<Page<UploadLine>> {
        upload::list_uploads(&self.core, bucket, prefix, after, limit).await
    }

    /// How the site is, from committed facts and what this node sees of the others.
    ///
    /// Errors: `State` if the local replica cannot be read. Without a quorum the answer is
    /// what this node knows, and says so.
    pub async fn status(&self) -> Result<SiteStatus> {
        status::status(&self.core).await
    }
}
