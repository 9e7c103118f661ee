//! CopyObject, UploadPartCopy.

use benteng_identity::Action;
use benteng_meta::{Condition, Described, Match, Rejection};
use benteng_objects::{AskedRange, Bucket, CopySource, Error, GetOptions};
use s3s::dto::{self, *};
use s3s::{S3Error, S3ErrorCode, S3Request, S3Response, S3Result};

use super::uploads::{part_number, upload_id};
use super::{Ops, check_key, check_version, check_wishes, conflict, encrypted, etag, expect_owner};
use crate::call::{BODY_MAX, Call};
use crate::checksum::{self, set_checksum};
use crate::condition::parse_range;
use crate::fault::{self, fault, invalid};
use crate::{described, names};

/// A copy whose source changes between two looks is begun again so often.
const ATTEMPTS: usize = 3;

/// Which description the copy gets.
enum Wanted {
    /// All of the source's.
    Source,
    /// All of the request's.
    Request(Described),
    /// Headers and metadata of one, tags of the other.
    Mixed {
        /// What the request gives.
        request: Described,
        /// Whether the tags are the request's (else the rest is).
        tags: bool,
    },
}

impl Ops {
    pub(crate) async fn copy(
        &self,
        req: S3Request<CopyObjectInput>,
    ) -> S3Result<S3Response<CopyObjectOutput>> {
        let call = Call::of(&req, "CopyObject", Some(&req.input.bucket))?;
        let input = req.input;
        let to = self.object(&call, Action::PutObject, &input.bucket, &input.key).await?;
        check_wishes(&call.headers)?;
        let from = self.source(&call, &input.copy_source).await?;
        let metadata =
            replaces(input.metadata_directive.as_ref().map(MetadataDirective::as_str), "metadata")?;
        let tags = replaces(input.tagging_directive.as_ref().map(TaggingDirective::as_str), "tagging")?;
        if from.bucket.id == to.id && from.key == input.key && !metadata && !tags {
            let message = "This copy request is illegal because it is trying to copy an object to itself without \
                           changing the object's metadata, storage class, website redirect location or encryption \
                           attributes.";
            return Err(fault(S3ErrorCode::InvalidRequest, message));
        }
        let algorithm =
            input.checksum_algorithm.as_ref().map(|name| checksum::kind(name.as_str())).transpose()?;
        let request = described::take(&call.headers, input.metadata, input.tagging.as_ref())?;
        let wanted = match (metadata, tags) {
            (false, false) => Wanted::Source,
            (true, true) => Wanted::Request(request),
            (_, tags) => Wanted::Mixed { request, tags },
        };
        let condition = call.conditions.read.tags.clone();
        let done = self.copy_described(&from, &to, &input.key, wanted, condition, algorithm).await?;
        let mut result = CopyObjectResult {
            checksum_type: done.checksum.as_ref().map(|sum| checksum::type_name(sum.composite.is_some())),
            e_tag: Some(etag(&done.etag)),
            last_modified: Some(names::timestamp(done.modified)),
            ..Default::default()
        };
        set_checksum!(result, &done.checksum);
        Ok(S3Response::new(CopyObjectOutput {
            copy_object_result: Some(result),
            server_side_encryption: Some(encrypted()),
            ..Default::default()
        }))
    }

    async fn copy_described(
        &self,
        from: &CopySource,
        to: &Bucket,
        key: &str,
        wanted: Wanted,
        condition: Condition,
        algorithm: Option<benteng_meta::ChecksumKind>,
    ) -> S3Result<benteng_objects::PutDone> {
        for _ in 0..ATTEMPTS {
            let mut from = from.clone();
            let options = GetOptions { condition: from.condition.clone(), ..GetOptions::default() };
            let source = self.objects.head(&from.bucket, &from.key, options).await.map_err(of_source)?;
            if source.size > BODY_MAX {
                let message = "The specified copy source is larger than the maximum allowable size for a copy source: \
                               5368709120";
                return Err(fault(S3ErrorCode::InvalidRequest, message));
            }
            let described = match &wanted {
                Wanted::Source => None,
                Wanted::Request(request) => Some(request.clone()),
                Wanted::Mixed { request, tags: true } => {
                    Some(Described { tags: request.tags.clone(), ..source.described })
                }
                Wanted::Mixed { request, tags: false } => {
                    Some(Described { tags: source.described.tags, ..request.clone() })
                }
            };
            // What was looked at is what is copied: else one version's tags could meet another's bytes.
            from.condition.tags.if_match = Some(Match::Tags(vec![source.etag]));
            match self.objects.copy(from, to, key, described, condition.clone(), algorithm).await {
                // Without a condition of the client's only the source can have failed it.
                Err(Error::Rejected(Rejection::PreconditionFailed)) if condition == Condition::default() => {}
                other => return other.map_err(of_source),
            }
        }
        Err(conflict())
    }

    pub(crate) async fn copy_part(
        &self,
        req: S3Request<UploadPartCopyInput>,
    ) -> S3Result<S3Response<UploadPartCopyOutput>> {
        let call = Call::of(&req, "UploadPartCopy", Some(&req.input.bucket))?;
        let input = req.input;
        let to = self.object(&call, Action::PutObject, &input.bucket, &input.key).await?;
        check_wishes(&call.headers)?;
        let (upload, number) = (upload_id(&input.upload_id)?, part_number(input.part_number)?);
        let mut from = self.source(&call, &input.copy_source).await?;
        if let Some(text) = &input.copy_source_range {
            let Some(AskedRange::Between(first, last)) = parse_range(text) else {
                let message = "The x-amz-copy-source-range value must be of the form bytes=first-last where first \
                               and last are the zero-based offsets of the first and last bytes to copy";
                return Err(invalid(message));
            };
            // Unlike a GET, a copy must get all that it asks for: a shorter part would go unnoticed.
            let options = GetOptions { condition: from.condition.clone(), ..GetOptions::default() };
            let source = self.objects.head(&from.bucket, &from.key, options).await.map_err(of_source)?;
            if last >= source.size {
                return Err(of_source(Error::RangeUnsatisfiable { size: source.size }));
            }
            // What was measured is what is copied.
            from.condition.tags.if_match = Some(Match::Tags(vec![source.etag]));
            from.range = Some(AskedRange::Between(first, last));
        }
        let done = self.objects.copy_part(from, &to, &input.key, upload, number).await.map_err(of_source)?;
        let mut result = CopyPartResult {
            e_tag: Some(etag(&done.etag)),
            last_modified: Some(names::timestamp(done.modified)),
            ..Default::default()
        };
        set_checksum!(result, &done.checksum);
        Ok(S3Response::new(UploadPartCopyOutput {
            copy_part_result: Some(result),
            server_side_encryption: Some(encrypted()),
            ..Default::default()
        }))
    }

    /// The source of a copy, if the caller may read it.
    async fn source(&self, call: &Call, source: &dto::CopySource) -> S3Result<CopySource> {
        let (bucket, key, version) = match source {
            dto::CopySource::Bucket { bucket, key, version_id } => (bucket, key, version_id),
            dto::CopySource::AccessPoint { .. } | dto::CopySource::Outpost { .. } => {
                return Err(fault(S3ErrorCode::NotImplemented, "Access points are not implemented."));
            }
        };
        check_version(version.as_deref())?;
        check_key(key)?;
        let bucket = self.source_bucket(call, bucket, key).await?;
        let condition = call.conditions.source.clone();
        Ok(CopySource { bucket, key: key.to_string(), range: None, condition })
    }

    async fn source_bucket(&self, call: &Call, name: &str, key: &str) -> S3Result<Bucket> {
        use benteng_identity::{Resource, authorize};
        let own = Resource::Bucket { name, owner: &call.who.name };
        authorize(&call.who, Action::GetObject, own).map_err(fault::denied)?;
        let bucket = self.objects.bucket(name).await.map_err(fault::objects)?;
        let on = Resource::Object { bucket: name, owner: &bucket.owner, key };
        authorize(&call.who, Action::GetObject, on).map_err(fault::denied)?;
        expect_owner(call, "x-amz-source-expected-bucket-owner", &bucket)?;
        Ok(bucket)
    }
}

/// Whether a directive says REPLACE.
fn replaces(directive: Option<&str>, what: &str) -> S3Result<bool> {
    match directive {
        None | Some("" | MetadataDirective::COPY) => Ok(false),
        Some(MetadataDirective::REPLACE) => Ok(true),
        Some(_) => Err(invalid(format!("Unknown {what} directive."))),
    }
}

/// An error of a copy: what a read answers with 304 or 416 has other codes here.
fn of_source(error: Error) -> S3Error {
    match error {
        Error::NotModified { .. } => fault::rejected(&Rejection::PreconditionFailed),
        Error::RangeUnsatisfiable { size } => {
            invalid(format!("Range specified is not valid for source object of size: {size}"))
        }
        other => fault::objects(other),
    }
}
