//! The operations as s3s wants them. What is not here answers `NotImplemented`, by s3s's own defaults.

use benteng_objects::Objects;
use s3s::dto::*;
use s3s::{S3, S3Request, S3Response, S3Result};

use crate::ops::Ops;

/// The operations that we have.
pub(crate) struct Operations(Ops);

impl Operations {
    pub(crate) fn new(objects: Objects, region: String) -> Operations {
        Operations(Ops { objects, region })
    }
}

macro_rules! operations {
    ($($name:ident: $input:ident => $output:ident = $ours:ident;)*) => {
        #[async_trait::async_trait]
        impl S3 for Operations {
            $(
                async fn $name(&self, req: S3Request<$input>) -> S3Result<S3Response<$output>> {
                    self.0.$ours(req).await
                }
            )*
        }
    };
}

operations! {
    create_bucket: CreateBucketInput => CreateBucketOutput = create_bucket;
    head_bucket: HeadBucketInput => HeadBucketOutput = head_bucket;
    delete_bucket: DeleteBucketInput => DeleteBucketOutput = delete_bucket;
    get_bucket_location: GetBucketLocationInput => GetBucketLocationOutput = location;
    get_bucket_versioning: GetBucketVersioningInput => GetBucketVersioningOutput = versioning;
    list_buckets: ListBucketsInput => ListBucketsOutput = list_buckets;
    list_objects: ListObjectsInput => ListObjectsOutput = list_v1;
    list_objects_v2: ListObjectsV2Input => ListObjectsV2Output = list_v2;
    put_object: PutObjectInput => PutObjectOutput = put;
    get_object: GetObjectInput => GetObjectOutput = get;
    head_object: HeadObjectInput => HeadObjectOutput = head;
    delete_object: DeleteObjectInput => DeleteObjectOutput = delete;
    delete_objects: DeleteObjectsInput => DeleteObjectsOutput = delete_many;
    copy_object: CopyObjectInput => CopyObjectOutput = copy;
    create_multipart_upload: CreateMultipartUploadInput => CreateMultipartUploadOutput = create_upload;
    upload_part: UploadPartInput => UploadPartOutput = put_part;
    upload_part_copy: UploadPartCopyInput => UploadPartCopyOutput = copy_part;
    complete_multipart_upload: CompleteMultipartUploadInput => CompleteMultipartUploadOutput = complete;
    abort_multipart_upload: AbortMultipartUploadInput => AbortMultipartUploadOutput = abort;
    list_parts: ListPartsInput => ListPartsOutput = list_parts;
    list_multipart_uploads: ListMultipartUploadsInput => ListMultipartUploadsOutput = list_uploads;
}
