//! Put, get, head, delete.

use benteng_identity::{Action, Resource, authorize};
use benteng_meta::{DeleteKey, Rejection};
use benteng_objects::{Error, GetOptions, Got};
use http::{HeaderMap, HeaderName, HeaderValue};
use s3s::dto::{self, *};
use s3s::{S3Error, S3ErrorCode, S3Request, S3Response, S3Result};

use super::{Ops, check_key, check_version, check_wishes, encrypted, etag, signed};
use crate::call::Call;
use crate::checksum::{self, set_checksum};
use crate::condition::parse_tags;
use crate::fault::{self, fault, invalid};
use crate::{described, names};

/// Keys of one DeleteObjects.
const KEYS_MAX: usize = 1000;

impl Ops {
    pub(crate) async fn put(&self, req: S3Request<PutObjectInput>) -> S3Result<S3Response<PutObjectOutput>> {
        let call = Call::of(&req, "PutObject", Some(&req.input.bucket))?;
        let input = req.input;
        let bucket = self.object(&call, Action::PutObject, &input.bucket, &input.key).await?;
        check_wishes(&call.headers)?;
        let described = described::take(&call.headers, input.metadata, input.tagging.as_ref())?;
        let (mut options, body) = call.body()?;
        options.described = described;
        options.condition = call.conditions.read.tags.clone();
        let done = self.objects.put(&bucket, &input.key, options, body).await.map_err(fault::objects)?;
        let mut out = PutObjectOutput {
            e_tag: Some(etag(&done.etag)),
            checksum_type: done.checksum.as_ref().map(|sum| checksum::type_name(sum.composite.is_some())),
            server_side_encryption: Some(encrypted()),
            ..Default::default()
        };
        set_checksum!(out, &done.checksum);
        Ok(S3Response::new(out))
    }

    pub(crate) async fn get(&self, req: S3Request<GetObjectInput>) -> S3Result<S3Response<GetObjectOutput>> {
        let call = Call::of(&req, "GetObject", Some(&req.input.bucket))?;
        let input = req.input;
        check_version(input.version_id.as_deref())?;
        let bucket = self.object(&call, Action::GetObject, &input.bucket, &input.key).await?;
        let options = read_options(&call, input.part_number)?;
        let got = self.objects.get(&bucket, &input.key, options).await;
        let got = got.map_err(|e| hide_missing(&call, &bucket, e))?;
        let mut headers = HeaderMap::new();
        let wants_sum = input.checksum_mode.is_some_and(|mode| mode.as_str() == ChecksumMode::ENABLED);
        describe(&got, wants_sum, &mut headers);
        for (name, value) in overrides(&req.uri)? {
            headers.insert(name, value);
        }
        let (length, range) = served(&got);
        call.answer_with(got.body);
        let out = GetObjectOutput {
            content_length: Some(signed(length)),
            content_range: range,
            metadata: Some(got.described.user.into_iter().collect()),
            ..Default::default()
        };
        Ok(S3Response::with_headers(out, headers))
    }

    pub(crate) async fn head(
        &self,
        req: S3Request<HeadObjectInput>,
    ) -> S3Result<S3Response<HeadObjectOutput>> {
        let call = Call::of(&req, "HeadObject", Some(&req.input.bucket))?;
        let input = req.input;
        check_version(input.version_id.as_deref())?;
        let bucket = self.object(&call, Action::GetObject, &input.bucket, &input.key).await?;
        let options = read_options(&call, input.part_number)?;
        let got = self.objects.head(&bucket, &input.key, options).await;
        let got = got.map_err(|e| hide_missing(&call, &bucket, e))?;
        let mut headers = HeaderMap::new();
        let wants_sum = input.checksum_mode.is_some_and(|mode| mode.as_str() == ChecksumMode::ENABLED);
        describe(&got, wants_sum, &mut headers);
        for (name, value) in overrides(&req.uri)? {
            headers.insert(name, value);
        }
        let (length, range) = served(&got);
        if range.is_some() {
            call.answer_partial();
        }
        let out = HeadObjectOutput {
            content_length: Some(signed(length)),
            content_range: range,
            metadata: Some(got.described.user.into_iter().collect()),
            ..Default::default()
        };
        Ok(S3Response::with_headers(out, headers))
    }

    pub(crate) async fn delete(
        &self,
        req: S3Request<DeleteObjectInput>,
    ) -> S3Result<S3Response<DeleteObjectOutput>> {
        let call = Call::of(&req, "DeleteObject", Some(&req.input.bucket))?;
        let input = req.input;
        check_version(input.version_id.as_deref())?;
        for name in ["x-amz-if-match-last-modified-time", "x-amz-if-match-size", "x-amz-mfa"] {
            if call.headers.contains_key(name) {
                let message =
                    format!("A header you provided implies functionality that is not implemented: {name}");
                return Err(fault(S3ErrorCode::NotImplemented, message));
            }
        }
        let bucket = self.object(&call, Action::DeleteObject, &input.bucket, &input.key).await?;
        let if_match = call.conditions.read.tags.if_match.clone();
        let deleted = self.objects.delete(&bucket, vec![DeleteKey { key: input.key, if_match }]).await;
        match deleted.map_err(fault::objects)?.into_iter().next() {
            Some(Err(rejection)) => Err(fault::rejected(&rejection)),
            Some(Ok(())) | None => Ok(S3Response::new(DeleteObjectOutput::default())),
        }
    }

    pub(crate) async fn delete_many(
        &self,
        req: S3Request<DeleteObjectsInput>,
    ) -> S3Result<S3Response<DeleteObjectsOutput>> {
        let call = Call::of(&req, "DeleteObjects", Some(&req.input.bucket))?;
        let input = req.input;
        let bucket = self.bucket(&call, Action::DeleteObject, &input.bucket).await?;
        if !(1..=KEYS_MAX).contains(&input.delete.objects.len()) {
            let message = "The XML you provided was not well-formed or did not validate against our published schema: \
                           1 to 1000 objects.";
            return Err(fault(S3ErrorCode::MalformedXML, message));
        }
        let quiet = input.delete.quiet == Some(true);
        let (mut deleted, mut errors, mut keys) = (Vec::new(), Vec::new(), Vec::new());
        for object in input.delete.objects {
            match deletable(&call, &bucket, &object) {
                Ok(key) => keys.push(key),
                Err(e) => errors.push(entry(object.key, &e)),
            }
        }
        let names: Vec<String> = keys.iter().map(|key| key.key.clone()).collect();
        let results = match keys.is_empty() {
            true => Vec::new(),
            false => self.objects.delete(&bucket, keys).await.map_err(fault::objects)?,
        };
        for (key, result) in names.into_iter().zip(results) {
            match result {
                Ok(()) if quiet => {}
                Ok(()) => deleted.push(DeletedObject { key: Some(key), ..Default::default() }),
                Err(rejection) => errors.push(entry(key, &fault::rejected(&rejection))),
            }
        }
        Ok(S3Response::new(DeleteObjectsOutput {
            deleted: Some(deleted),
            errors: Some(errors),
            request_charged: None,
        }))
    }
}

/// One key of a DeleteObjects, if it may be deleted at all.
fn deletable(
    call: &Call,
    bucket: &benteng_objects::Bucket,
    object: &ObjectIdentifier,
) -> S3Result<DeleteKey> {
    check_version(object.version_id.as_deref())?;
    check_key(&object.key)?;
    let on = Resource::Object { bucket: &bucket.name, owner: &bucket.owner, key: &object.key };
    authorize(&call.who, Action::DeleteObject, on).map_err(fault::denied)?;
    if object.last_modified_time.is_some() || object.size.is_some() {
        return Err(fault(S3ErrorCode::NotImplemented, "Conditions on time and size are not implemented."));
    }
    let if_match = match &object.e_tag {
        None => None,
        Some(tag) => Some(
            parse_tags(tag.value()).ok_or_else(|| invalid("The ETag of an object is not an entity tag."))?,
        ),
    };
    Ok(DeleteKey { key: object.key.clone(), if_match })
}

fn entry(key: String, error: &S3Error) -> dto::Error {
    dto::Error {
        code: Some(error.code().as_str().to_owned()),
        key: Some(key),
        message: error.message().map(str::to_owned),
        version_id: None,
    }
}

/// A missing key is told only to those who may list: to others it would tell what exists.
fn hide_missing(call: &Call, bucket: &benteng_objects::Bucket, error: Error) -> S3Error {
    let missing = matches!(error, Error::Rejected(Rejection::NoSuchKey));
    let on = Resource::Bucket { name: &bucket.name, owner: &bucket.owner };
    match authorize(&call.who, Action::ListObjects, on) {
        Err(denied) if missing => fault::denied(denied),
        Err(_) | Ok(()) => fault::objects(error),
    }
}

fn read_options(call: &Call, part: Option<i32>) -> S3Result<GetOptions> {
    let part = match part {
        None => None,
        Some(number) => Some(super::uploads::part_number(number)?.0),
    };
    if part.is_some() && call.conditions.range.is_some() {
        let message = "Cannot specify both Range header and partNumber query parameter";
        return Err(fault(S3ErrorCode::InvalidRequest, message));
    }
    Ok(GetOptions { range: call.conditions.range, part, condition: call.conditions.read.clone() })
}

/// Bytes that are served, and their `Content-Range`. An empty range (part 1 of an empty object)
/// has none: HTTP cannot write it.
fn served(got: &Got) -> (u64, Option<String>) {
    match got.range {
        None => (got.size, None),
        Some(range) if range.start >= range.end => (0, None),
        Some(range) => (range.end - range.start, Some(format!("bytes {range}/{}", got.size))),
    }
}

/// The headers of a GET and a HEAD.
fn describe(got: &Got, wants_sum: bool, headers: &mut HeaderMap) {
    described::put(got.described.system.clone(), headers);
    let mut set = |name: &'static str, value: String| {
        if let Ok(value) = HeaderValue::try_from(value) {
            headers.insert(HeaderName::from_static(name), value);
        }
    };
    set("accept-ranges", "bytes".to_owned());
    set("etag", format!("\"{}\"", got.etag));
    set("last-modified", names::http_date(got.modified));
    set("x-amz-server-side-encryption", "AES256".to_owned());
    if let Some(parts) = got.parts {
        set("x-amz-mp-parts-count", parts.to_string());
    }
    if !got.described.tags.is_empty() {
        set("x-amz-tagging-count", got.described.tags.len().to_string());
    }
    // A sum over the whole would be taken for one over the part that is served.
    if let Some(sum) = got.checksum.as_ref().filter(|_| wants_sum && got.range.is_none()) {
        set(checksum::header(sum.kind), checksum::show(sum));
        set("x-amz-checksum-type", checksum::type_name(sum.composite.is_some()).as_str().to_owned());
    }
}

/// `response-*` parameters: headers that the client wants to see instead.
fn overrides(uri: &http::Uri) -> S3Result<Vec<(HeaderName, HeaderValue)>> {
    let mut out = Vec::new();
    for (name, value, _) in names::query_pairs(uri.query().unwrap_or_default())? {
        let known = matches!(
            name.as_str(),
            "response-content-type"
                | "response-content-language"
                | "response-expires"
                | "response-cache-control"
                | "response-content-disposition"
                | "response-content-encoding"
        );
        if let Some(header) = name.strip_prefix("response-").filter(|_| known) {
            let pair = HeaderName::try_from(header).ok().zip(HeaderValue::from_bytes(value.as_bytes()).ok());
            out.push(pair.ok_or_else(|| invalid(format!("The value of {name} is not a header value.")))?);
        }
    }
    Ok(out)
}
