//! The operations: each asks `authorize`, then the object layer, and fills in what s3s prints.

mod buckets; // create, head, list, delete, location
mod copy; // CopyObject, UploadPartCopy
mod listing; // ListObjects, both versions
mod objects; // put, get, head, delete
mod uploads; // multipart

#[cfg(debug_assertions)]
pub(crate) use uploads::listed_parts;

use benteng_identity::{Action, Resource, authorize};
use benteng_meta::ETag;
use benteng_objects::{Bucket, Objects};
use http::HeaderMap;
use s3s::dto::{self, Owner};
use s3s::{S3ErrorCode, S3Result};

use crate::call::Call;
use crate::fault::{self, custom, denied, fault, invalid};

/// What the operations work with.
pub(crate) struct Ops {
    pub(crate) objects: Objects,
    pub(crate) region: String,
}

impl Ops {
    /// Resolves a bucket for an action on it.
    ///
    /// A caller that could not even do it on a bucket of its own is denied before anything is
    /// looked up. `NoSuchBucket` is answered to whoever may ask at all, as AWS does: names are
    /// shared by all anyway.
    async fn bucket(&self, call: &Call, action: Action, name: &str) -> S3Result<Bucket> {
        authorize(&call.who, action, Resource::Bucket { name, owner: &call.who.name }).map_err(denied)?;
        let bucket = self.objects.bucket(name).await.map_err(fault::objects)?;
        authorize(&call.who, action, Resource::Bucket { name, owner: &bucket.owner }).map_err(denied)?;
        expect_owner(call, "x-amz-expected-bucket-owner", &bucket)?;
        Ok(bucket)
    }

    /// As [`Ops::bucket`], for an action on one object.
    async fn object(&self, call: &Call, action: Action, name: &str, key: &str) -> S3Result<Bucket> {
        let bucket = self.bucket(call, action, name).await?;
        check_key(key)?;
        let on = Resource::Object { bucket: name, owner: &bucket.owner, key };
        authorize(&call.who, action, on).map_err(denied)?;
        Ok(bucket)
    }
}

fn expect_owner(call: &Call, header: &str, bucket: &Bucket) -> S3Result<()> {
    let expected = call.headers.get(header).and_then(|value| value.to_str().ok());
    if expected.is_some_and(|expected| expected != bucket.owner) {
        return Err(fault(S3ErrorCode::AccessDenied, "Access Denied"));
    }
    Ok(())
}

fn check_key(key: &str) -> S3Result<()> {
    if !(1..=1024).contains(&key.len()) {
        return Err(fault(S3ErrorCode::KeyTooLongError, "Your key must have 1 to 1024 bytes"));
    }
    Ok(())
}

/// There are no versions yet: only the one called "null" can be asked for.
fn check_version(version: Option<&str>) -> S3Result<()> {
    match version {
        None | Some("" | "null") => Ok(()),
        Some(_) => Err(fault(S3ErrorCode::NoSuchVersion, "The specified version does not exist.")),
    }
}

/// Refuses what a writer asks for and would not get: keys of its own, lock, classes, ACLs.
fn check_wishes(headers: &HeaderMap) -> S3Result<()> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let not_here = |name: &str| {
        let message = format!("A header you provided implies functionality that is not implemented: {name}");
        fault(S3ErrorCode::NotImplemented, message)
    };
    for name in headers.keys().map(http::HeaderName::as_str) {
        if name.contains("server-side-encryption-customer") || name.starts_with("x-amz-object-lock-") {
            return Err(not_here(name));
        }
        if name.starts_with("x-amz-grant-") {
            return Err(fault(S3ErrorCode::AccessControlListNotSupported, "The bucket does not allow ACLs"));
        }
    }
    // Every body is encrypted; AES256 only says so.
    if text("x-amz-server-side-encryption").is_some_and(|value| value != "AES256") {
        return Err(not_here("x-amz-server-side-encryption"));
    }
    if text("x-amz-storage-class").is_some_and(|value| value != "STANDARD") {
        return Err(fault(S3ErrorCode::InvalidStorageClass, "The only storage class here is STANDARD."));
    }
    match text("x-amz-acl") {
        None | Some("private" | "bucket-owner-full-control" | "bucket-owner-read") => Ok(()),
        Some(_) => Err(fault(S3ErrorCode::AccessControlListNotSupported, "The bucket does not allow ACLs")),
    }
}

/// A page's size as a client asks for it.
fn page(asked: Option<i32>, what: &str, max: i32) -> S3Result<i32> {
    match asked {
        None => Ok(max),
        Some(n) if n < 0 => {
            Err(invalid(format!("Argument {what} must be an integer between 0 and 2147483647")))
        }
        Some(n) => Ok(n.min(max)),
    }
}

/// Whether keys are to be percent-encoded in a listing.
fn encodes(asked: Option<&dto::EncodingType>) -> S3Result<bool> {
    match asked.map(dto::EncodingType::as_str) {
        None | Some("") => Ok(false),
        Some(dto::EncodingType::URL) => Ok(true),
        Some(_) => Err(invalid("Invalid Encoding Method specified in Request")),
    }
}

fn etag(tag: &ETag) -> dto::ETag {
    dto::ETag::Strong(tag.to_string())
}

fn owner(name: &str) -> Owner {
    Owner { display_name: Some(name.to_owned()), id: Some(name.to_owned()) }
}

/// A length or a count as s3s carries it.
fn signed(length: u64) -> i64 {
    // Objects end at 5 TiB.
    i64::try_from(length).unwrap_or(i64::MAX)
}

fn encrypted() -> dto::ServerSideEncryption {
    dto::ServerSideEncryption::from_static(dto::ServerSideEncryption::AES256)
}

/// A conditional request met another writer twice in a row.
fn conflict() -> s3s::S3Error {
    custom(
        "ConditionalRequestConflict",
        http::StatusCode::CONFLICT,
        "The source changed while it was copied. Please retry.",
    )
}
