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
    BodyIn, Bucket, CopySource, Error, GetOptions, Got, ListOptions, ListedPart, Page, PartLine, PutDone,
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
    /// Errors: `Rejected(NoSuchBucket)`, `Unavailable` without a quorum.
    pub async fn bucket(&self, name: &str) -> Result<Bucket> {
        bucket::resolve(&self.core, name).await
    }

    /// At most `limit` buckets whose name starts with `prefix`, in order of name from behind `after` on (I2).
    /// Errors: `Unavailable` without a quorum.
    pub async fn buckets(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<Page<Bucket>> {
        bucket::all(&self.core, prefix, after, limit).await
    }

    /// Creates a bucket of `owner`, with a key of its own.
    /// Errors: `Rejected(BucketTaken | InvalidBucketName)`, `Unavailable`, `Unknown`.
    pub async fn create_bucket(&self, name: &str, owner: &str) -> Result<Bucket> {
        bucket::create(&self.core, name, owner).await
    }

    /// Deletes an empty bucket; uploads under way in it are aborted first.
    /// Errors: `Rejected(NoSuchBucket | BucketNotEmpty)`, `Unavailable`, `Unknown`.
    pub async fn delete_bucket(&self, name: &str) -> Result<()> {
        bucket::delete(&self.core, name).await
    }

    /// Exact counters of a bucket: objects, and their bytes as clients stored them.
    /// Errors: `Rejected(NoSuchBucket)`, `Unavailable`.
    pub async fn usage(&self, bucket: &Bucket) -> Result<UsageRow> {
        bucket::usage(&self.core, bucket).await
    }

    /// Stores an object of up to 5 GiB; returns once it is durable and visible through every node (I1, I2).
    /// The body streams: at most two chunks of 4 MiB of a request are in memory.
    ///
    /// Errors: `Body`, `Length`, `Digest`, `TooLarge`: the client's fault, nothing is visible.
    /// `Rejected(NoSuchBucket | InvalidKey | PreconditionFailed | NoSuchKey)`. `Full`, `Unavailable`: not stored, retry.
    /// `Unknown`: it may have been stored; read before writing again.
    /// Cancellation: dropped before the commit, nothing is visible; chunks already written are removed later (O1).
    pub async fn put(
        &self,
        bucket: &Bucket,
        key: &str,
        options: PutOptions,
        body: BodyIn,
    ) -> Result<PutDone> {
        Box::pin(put::put(&self.core, bucket, key, options, body)).await
    }

    /// Reads an object. A range or part that is asked for is resolved against the version read; the bytes are of that
    /// version to the end, even if it is overwritten or deleted meanwhile (O5), for up to 12 h.
    ///
    /// Errors: `Rejected(NoSuchBucket | NoSuchKey | PreconditionFailed)`, `NotModified`, `RangeUnsatisfiable`,
    /// `Unavailable`; in the stream as well `Unreadable`: never other bytes than were written (I4).
    pub async fn get(&self, bucket: &Bucket, key: &str, options: GetOptions) -> Result<Got> {
        let opened = get::open(&self.core, bucket, key, &options, Purpose::Answer, Ahead::One);
        let got = Box::pin(opened).await?;
        metrics::counter!("benteng_objects_gets_total").increment(1);
        Ok(got)
    }

    /// As [`Objects::get`], without the bytes. Errors: as there, `Unreadable` excepted.
    pub async fn head(&self, bucket: &Bucket, key: &str, options: GetOptions) -> Result<Got> {
        get::head(&self.core, bucket, key, &options).await
    }

    /// Deletes objects; one result per key, in order. More than 1000 keys take several commands. A key that is not
    /// there is no error, unless a condition names it.
    /// Errors: `Rejected(NoSuchBucket)`, `Unavailable`; `Unknown`: some or all may be gone.
    pub async fn delete(
        &self,
        bucket: &Bucket,
        keys: Vec<DeleteKey>,
    ) -> Result<Vec<std::result::Result<(), Rejection>>> {
        bucket::delete_objects(&self.core, bucket, keys).await
    }

    /// A page of a bucket's objects in the order of their keys' bytes (I2). Cost follows the page, not the bucket.
    /// Errors: `Rejected(NoSuchBucket)`, `Unavailable`.
    pub async fn list(&self, bucket: &Bucket, options: &ListOptions) -> Result<Page<Listed<ObjectRow>>> {
        bucket::list(&self.core, bucket, options).await
    }

    /// Copies an object by moving its bytes; `described: None` keeps what the source says (COPY directive).
    /// Errors: those of [`Objects::get`] for the source and of [`Objects::put`] for the target.
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

    /// Begins an upload in parts; returns its id.
    /// Errors: `Rejected(NoSuchBucket | InvalidKey)`, `Unavailable`, `Unknown`.
    pub async fn create_upload(
        &self,
        bucket: &Bucket,
        key: &str,
        owner: &str,
        options: UploadOptions,
    ) -> Result<BlobId> {
        upload::create(&self.core, bucket, key, owner, options).await
    }

    /// Stores a part of up to 5 GiB; its row is committed before this returns (O1). The same number again replaces the
    /// part. Of `options` the condition and description are not used.
    /// Errors: as [`Objects::put`], and `Rejected(NoSuchUpload)`.
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
    /// Errors: those of [`Objects::get`] for the source and of [`Objects::put_part`].
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
    ///
    /// Errors: `Rejected(NoSuchUpload | InvalidPart | InvalidPartOrder | PartTooSmall | PreconditionFailed)`, `Digest`,
    /// `Unavailable`: the upload stands as before. `Unknown`: the object may be there; call again.
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

    /// Gives an upload up; its parts are removed. Errors: `Rejected(NoSuchUpload)`, `Unavailable`, `Unknown`.
    pub async fn abort_upload(&self, bucket: &Bucket, key: &str, upload: BlobId) -> Result<()> {
        upload::abort(&self.core, UploadName { bucket, key, upload }).await
    }

    /// An upload under way. Errors: `Rejected(NoSuchUpload)`, `Unavailable`.
    pub async fn upload(&self, bucket: &Bucket, key: &str, upload: BlobId) -> Result<UploadRow> {
        upload::upload(&self.core, UploadName { bucket, key, upload }).await
    }

    /// At most `limit` parts of an upload after number `after`. Errors: `Rejected(NoSuchUpload)`, `Unavailable`.
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

    /// At most `limit` uploads under way whose key starts with `prefix`, by key then id, from behind `after` on.
    /// Errors: `Rejected(NoSuchBucket)`, `Unavailable`.
    pub async fn list_uploads(
        &self,
        bucket: &Bucket,
        prefix: &str,
        after: Option<(&str, BlobId)>,
        limit: usize,
    ) -> Result<Page<UploadLine>> {
        upload::list_uploads(&self.core, bucket, prefix, after, limit).await
    }

    /// Begins a full scrub of a node. Returns how many of its full passes will have ended with it.
    /// Errors: `Unavailable`, if the node does not answer.
    pub async fn scrub(&self, node: NodeId) -> Result<u64> {
        if node == self.core.me {
            return Ok(self.core.scrubbing.begin(self.core.group.site_time()));
        }
        let begun = self.core.copies.scrub(node, std::time::Duration::from_secs(2)).await;
        begun.map_err(|e| Error::Unavailable { why: format!("node {node} begins no scrub: {e}") })
    }

    /// Whether a node answers this one.
    pub async fn reaches(&self, node: NodeId) -> bool {
        let deadline = std::time::Duration::from_secs(2);
        node == self.core.me || self.core.copies.report(node, deadline).await.is_ok()
    }

    /// How the site is, from committed facts and what this node sees of the others.
    ///
    /// Errors: `State` if the local replica cannot be read. Without a quorum the answer is
    /// what this node knows, and says so.
    pub async fn status(&self) -> Result<SiteStatus> {
        status::status(&self.core).await
    }
}
