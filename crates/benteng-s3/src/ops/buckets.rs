//! Create, head, list, delete, location, versioning.

use std::sync::Arc;

use benteng_identity::{Action, Resource, authorize};
use benteng_meta::Rejection;
use benteng_objects::Error;
use http::HeaderValue;
use s3s::dto::*;
use s3s::{S3ErrorCode, S3Request, S3Response, S3Result};

use super::{Ops, check_wishes, owner, page};
use crate::call::Call;
use crate::fault::{self, denied, fault, invalid};
use crate::{names, token};

/// Name in place of a bucket's under which tokens of bucket listings are summed: not a bucket name.
const BUCKETS: &str = "/";
/// Buckets of one page.
const BUCKETS_MAX: i32 = 10_000;

impl Ops {
    pub(crate) async fn create_bucket(
        &self,
        req: S3Request<CreateBucketInput>,
    ) -> S3Result<S3Response<CreateBucketOutput>> {
        let name = &req.input.bucket;
        let call = Call::of(&req, "CreateBucket", Some(name))?;
        authorize(&call.who, Action::CreateBucket, Resource::Bucket { name, owner: &call.who.name })
            .map_err(denied)?;
        check_wishes(&call.headers)?;
        if req.input.object_lock_enabled_for_bucket == Some(true) {
            return Err(fault(S3ErrorCode::NotImplemented, "Object lock is not implemented."));
        }
        match self.objects.create_bucket(name, &call.who.name).await {
            Ok(_) => {}
            Err(Error::Rejected(Rejection::BucketTaken { owner })) if owner == call.who.name => {
                let message =
                    "Your previous request to create the named bucket succeeded and you already own it.";
                return Err(fault(S3ErrorCode::BucketAlreadyOwnedByYou, message));
            }
            Err(e) => return Err(fault::objects(e)),
        }
        Ok(S3Response::new(CreateBucketOutput { location: Some(format!("/{name}")) }))
    }

    pub(crate) async fn head_bucket(
        &self,
        req: S3Request<HeadBucketInput>,
    ) -> S3Result<S3Response<HeadBucketOutput>> {
        let call = Call::of(&req, "HeadBucket", Some(&req.input.bucket))?;
        self.bucket(&call, Action::HeadBucket, &req.input.bucket).await?;
        Ok(S3Response::new(HeadBucketOutput {
            bucket_region: Some(self.region.clone()),
            ..Default::default()
        }))
    }

    pub(crate) async fn delete_bucket(
        &self,
        req: S3Request<DeleteBucketInput>,
    ) -> S3Result<S3Response<DeleteBucketOutput>> {
        let call = Call::of(&req, "DeleteBucket", Some(&req.input.bucket))?;
        self.bucket(&call, Action::DeleteBucket, &req.input.bucket).await?;
        self.objects.delete_bucket(&req.input.bucket).await.map_err(fault::objects)?;
        Ok(S3Response::new(DeleteBucketOutput {}))
    }

    pub(crate) async fn location(
        &self,
        req: S3Request<GetBucketLocationInput>,
    ) -> S3Result<S3Response<GetBucketLocationOutput>> {
        let call = Call::of(&req, "GetBucketLocation", Some(&req.input.bucket))?;
        self.bucket(&call, Action::HeadBucket, &req.input.bucket).await?;
        // The first region has no name in this answer.
        let named = (self.region != "us-east-1").then(|| BucketLocationConstraint::from(self.region.clone()));
        Ok(S3Response::new(GetBucketLocationOutput { location_constraint: named }))
    }

    /// Versions come later: a bucket was never configured, which is an empty configuration.
    pub(crate) async fn versioning(
        &self,
        req: S3Request<GetBucketVersioningInput>,
    ) -> S3Result<S3Response<GetBucketVersioningOutput>> {
        let call = Call::of(&req, "GetBucketVersioning", Some(&req.input.bucket))?;
        self.bucket(&call, Action::HeadBucket, &req.input.bucket).await?;
        Ok(S3Response::new(GetBucketVersioningOutput::default()))
    }

    pub(crate) async fn list_buckets(
        &self,
        req: S3Request<ListBucketsInput>,
    ) -> S3Result<S3Response<ListBucketsOutput>> {
        let call = Call::of(&req, "ListBuckets", None)?;
        authorize(&call.who, Action::ListBuckets, Resource::Site).map_err(denied)?;
        let prefix = req.input.prefix.clone().unwrap_or_default();
        let max = usize::try_from(page(req.input.max_buckets, "max-buckets", BUCKETS_MAX)?).unwrap_or(0);
        let mut after = match req.input.continuation_token.as_deref() {
            None | Some("") => None,
            Some(text) => {
                let line = token::read(BUCKETS, text);
                Some(line.ok_or_else(|| invalid("The continuation token provided is incorrect"))?)
            }
        };
        let (buckets, more) = self.visible_buckets(&call, &prefix, &mut after, max).await?;
        let next = after.filter(|_| more).map(|line| token::make(BUCKETS, &line));
        let output = ListBucketsOutput {
            buckets: Some(buckets),
            continuation_token: next,
            owner: Some(owner(&call.who.name)),
            prefix: req.input.prefix.clone(),
        };
        let mut response = S3Response::new(output);
        response.headers.insert(http::header::CONTENT_TYPE, HeaderValue::from_static("application/xml"));
        Ok(response)
    }

    /// A page of the buckets that the caller may see, and whether more follow. `after` moves to its last line.
    async fn visible_buckets(
        &self,
        call: &Arc<Call>,
        prefix: &str,
        after: &mut Option<String>,
        max: usize,
    ) -> S3Result<(Vec<Bucket>, bool)> {
        let mut seen = after.clone();
        let mut out = Vec::new();
        loop {
            let page = self.objects.buckets(prefix, seen.as_deref(), 1000).await.map_err(fault::objects)?;
            for bucket in page.lines {
                seen = Some(bucket.name.clone());
                let on = Resource::Bucket { name: &bucket.name, owner: &bucket.owner };
                if authorize(&call.who, Action::ListBuckets, on).is_err() {
                    continue;
                }
                // One line more than fits tells that more follow.
                if out.len() == max {
                    return Ok((out, max > 0));
                }
                *after = Some(bucket.name.clone());
                out.push(Bucket {
                    bucket_region: Some(self.region.clone()),
                    creation_date: Some(names::timestamp(bucket.created)),
                    name: Some(bucket.name),
                });
            }
            if !page.more {
                return Ok((out, false));
            }
        }
    }
}
