//! Multipart: create, part, complete, abort, list parts, list uploads.

use benteng_identity::Action;
use benteng_meta::ids::{BlobId, PartNumber};
use benteng_meta::{ChecksumKind, Rejection, UploadChecksum};
use benteng_objects::{ListedPart, UploadLine, UploadOptions};
use s3s::dto::*;
use s3s::{S3ErrorCode, S3Request, S3Response, S3Result};

use super::{Ops, check_wishes, encodes, encrypted, etag, owner, page, signed};
use crate::call::Call;
use crate::checksum::{self, set_checksum};
use crate::fault::{self, fault, invalid};
use crate::{described, names, xml};

/// Parts of an upload, and lines of a page.
const PARTS_MAX: usize = 10_000;
const LINES_MAX: i32 = 1000;
/// No upload of a key sorts behind this id.
const LAST_ID: BlobId = BlobId(uuid::Uuid::max());

/// Reads a part number, 1 to 10,000.
pub(super) fn part_number(number: i32) -> S3Result<PartNumber> {
    let number = u16::try_from(number).ok().filter(|n| (1..=10_000).contains(n)).map(PartNumber);
    number.ok_or_else(|| invalid("Part number must be an integer between 1 and 10000, inclusive"))
}

/// Reads an upload id; whatever is not one names no upload.
pub(super) fn upload_id(text: &str) -> S3Result<BlobId> {
    text.parse().map_err(|_| fault::rejected(&Rejection::NoSuchUpload))
}

impl Ops {
    pub(crate) async fn create_upload(
        &self,
        req: S3Request<CreateMultipartUploadInput>,
    ) -> S3Result<S3Response<CreateMultipartUploadOutput>> {
        let call = Call::of(&req, "CreateMultipartUpload", Some(&req.input.bucket))?;
        let input = req.input;
        let bucket = self.object(&call, Action::PutObject, &input.bucket, &input.key).await?;
        check_wishes(&call.headers)?;
        let algorithm = input.checksum_algorithm.as_ref().map(ChecksumAlgorithm::as_str);
        let checksum = upload_checksum(algorithm, input.checksum_type.as_ref().map(ChecksumType::as_str))?;
        let described = described::take(&call.headers, input.metadata, input.tagging.as_ref())?;
        let options = UploadOptions { described, checksum };
        let upload = self.objects.create_upload(&bucket, &input.key, &call.who.name, options).await;
        let upload = upload.map_err(fault::objects)?;
        Ok(S3Response::new(CreateMultipartUploadOutput {
            bucket: Some(input.bucket),
            checksum_algorithm: checksum.map(|sum| checksum::name(sum.kind)),
            checksum_type: checksum.map(|sum| checksum::type_name(sum.composite)),
            key: xml::echo(input.key),
            server_side_encryption: Some(encrypted()),
            upload_id: Some(upload.to_string()),
            ..Default::default()
        }))
    }

    pub(crate) async fn put_part(
        &self,
        req: S3Request<UploadPartInput>,
    ) -> S3Result<S3Response<UploadPartOutput>> {
        let call = Call::of(&req, "UploadPart", Some(&req.input.bucket))?;
        let input = req.input;
        let bucket = self.object(&call, Action::PutObject, &input.bucket, &input.key).await?;
        check_wishes(&call.headers)?;
        let (upload, number) = (upload_id(&input.upload_id)?, part_number(input.part_number)?);
        let (options, body) = call.body()?;
        let done = self.objects.put_part(&bucket, &input.key, upload, number, options, body).await;
        let done = done.map_err(fault::objects)?;
        let mut out = UploadPartOutput {
            e_tag: Some(etag(&done.etag)),
            server_side_encryption: Some(encrypted()),
            ..Default::default()
        };
        set_checksum!(out, &done.checksum);
        Ok(S3Response::new(out))
    }

    pub(crate) async fn complete(
        &self,
        req: S3Request<CompleteMultipartUploadInput>,
    ) -> S3Result<S3Response<CompleteMultipartUploadOutput>> {
        let call = Call::of(&req, "CompleteMultipartUpload", Some(&req.input.bucket))?;
        let input = req.input;
        let bucket = self.object(&call, Action::PutObject, &input.bucket, &input.key).await?;
        let upload = upload_id(&input.upload_id)?;
        let listed = input.multipart_upload.and_then(|upload| upload.parts).unwrap_or_default();
        let parts = listed_parts(listed)?;
        let whole = of_whole(&call)?;
        if let Some(size) = input.mpu_object_size {
            self.check_size(&bucket, &input.key, upload, &parts, size).await?;
        }
        let condition = call.conditions.read.tags.clone();
        let done = self.objects.complete_upload(&bucket, &input.key, upload, parts, whole, condition).await;
        let done = done.map_err(fault::objects)?;
        let location = format!("{}/{}/{}", call.origin, input.bucket, names::encode_path(&input.key));
        let mut out = CompleteMultipartUploadOutput {
            bucket: Some(input.bucket),
            checksum_type: done.checksum.as_ref().map(|sum| checksum::type_name(sum.composite.is_some())),
            e_tag: Some(etag(&done.etag)),
            key: xml::echo(input.key),
            location: Some(location),
            server_side_encryption: Some(encrypted()),
            ..Default::default()
        };
        set_checksum!(out, &done.checksum);
        Ok(S3Response::new(out))
    }

    /// `x-amz-mp-object-size`: the client says how long the whole must be.
    async fn check_size(
        &self,
        bucket: &benteng_objects::Bucket,
        key: &str,
        upload: BlobId,
        parts: &[ListedPart],
        size: i64,
    ) -> S3Result<()> {
        let (mut after, mut total) = (0, 0_u64);
        loop {
            let page = self.objects.list_parts(bucket, key, upload, after, 1000).await;
            let page = match page {
                Ok(page) => page,
                // Completed already, perhaps by the same request: completion knows.
                Err(benteng_objects::Error::Rejected(Rejection::NoSuchUpload)) => return Ok(()),
                Err(e) => return Err(fault::objects(e)),
            };
            for line in &page.lines {
                after = line.number.0;
                if parts.binary_search_by_key(&line.number, |part| part.number).is_ok() {
                    total = total.saturating_add(line.size);
                }
            }
            if !page.more {
                break;
            }
        }
        if signed(total) != size {
            let message = format!(
                "The provided 'x-amz-mp-object-size' header does not match the {total} bytes of the parts"
            );
            return Err(fault(S3ErrorCode::InvalidRequest, message));
        }
        Ok(())
    }

    pub(crate) async fn abort(
        &self,
        req: S3Request<AbortMultipartUploadInput>,
    ) -> S3Result<S3Response<AbortMultipartUploadOutput>> {
        let call = Call::of(&req, "AbortMultipartUpload", Some(&req.input.bucket))?;
        let input = req.input;
        let bucket = self.object(&call, Action::AbortUpload, &input.bucket, &input.key).await?;
        let upload = upload_id(&input.upload_id)?;
        self.objects.abort_upload(&bucket, &input.key, upload).await.map_err(fault::objects)?;
        Ok(S3Response::new(AbortMultipartUploadOutput::default()))
    }

    pub(crate) async fn list_parts(
        &self,
        req: S3Request<ListPartsInput>,
    ) -> S3Result<S3Response<ListPartsOutput>> {
        let call = Call::of(&req, "ListParts", Some(&req.input.bucket))?;
        let input = req.input;
        let bucket = self.object(&call, Action::ListUploads, &input.bucket, &input.key).await?;
        let upload = upload_id(&input.upload_id)?;
        let max = page(input.max_parts, "max-parts", LINES_MAX)?;
        let marker = input.part_number_marker.unwrap_or(0);
        let after =
            u16::try_from(marker).map_err(|_| invalid("part-number-marker must be between 0 and 65535"))?;
        let row = self.objects.upload(&bucket, &input.key, upload).await.map_err(fault::objects)?;
        let limit = usize::try_from(max).unwrap_or(0);
        let lines = self
            .objects
            .list_parts(&bucket, &input.key, upload, after, limit)
            .await
            .map_err(fault::objects)?;
        let next = lines.lines.last().filter(|_| lines.more).map(|line| i32::from(line.number.0));
        let part = |line: benteng_objects::PartLine| {
            let mut out = Part {
                e_tag: Some(etag(&line.etag)),
                last_modified: Some(names::timestamp(line.modified)),
                part_number: Some(i32::from(line.number.0)),
                size: Some(signed(line.size)),
                ..Default::default()
            };
            set_checksum!(out, &line.checksum);
            out
        };
        Ok(S3Response::new(ListPartsOutput {
            bucket: Some(input.bucket),
            checksum_algorithm: row.checksum.map(|sum| checksum::name(sum.kind)),
            checksum_type: row.checksum.map(|sum| checksum::type_name(sum.composite)),
            initiator: Some(initiator(&row.owner)),
            is_truncated: Some(lines.more),
            key: xml::echo(input.key),
            max_parts: Some(max),
            next_part_number_marker: next,
            owner: Some(owner(&bucket.owner)),
            part_number_marker: Some(marker),
            parts: Some(lines.lines.into_iter().map(part).collect()),
            storage_class: Some(StorageClass::from_static(StorageClass::STANDARD)),
            upload_id: Some(input.upload_id),
            ..Default::default()
        }))
    }

    pub(crate) async fn list_uploads(
        &self,
        req: S3Request<ListMultipartUploadsInput>,
    ) -> S3Result<S3Response<ListMultipartUploadsOutput>> {
        let call = Call::of(&req, "ListMultipartUploads", Some(&req.input.bucket))?;
        let input = req.input;
        let bucket = self.bucket(&call, Action::ListUploads, &input.bucket).await?;
        let max = page(input.max_uploads, "max-uploads", LINES_MAX)?;
        let encode = encodes(input.encoding_type.as_ref())?;
        let (prefix, delimiter) =
            (input.prefix.clone().unwrap_or_default(), input.delimiter.clone().unwrap_or_default());
        let id = input.upload_id_marker.as_deref().filter(|text| !text.is_empty());
        let id = id.map(|text| text.parse().map_err(|_| invalid("Invalid uploadId marker"))).transpose()?;
        let marker = input.key_marker.clone().filter(|key| !key.is_empty());
        let after = marker.map(|key| after_marker(key, id, &prefix, &delimiter));
        let limit = usize::try_from(max).unwrap_or(0);
        let folded = self.fold_uploads(&bucket, &prefix, &delimiter, after, limit).await?;
        let shown = |text: String| if encode { names::encode_path(&text) } else { text };
        let upload = |line: UploadLine| MultipartUpload {
            checksum_algorithm: line.checksum.map(|sum| checksum::name(sum.kind)),
            checksum_type: line.checksum.map(|sum| checksum::type_name(sum.composite)),
            initiated: Some(names::timestamp(line.created)),
            initiator: Some(initiator(&line.owner)),
            key: Some(shown(line.key)),
            owner: Some(owner(&bucket.owner)),
            storage_class: Some(StorageClass::from_static(StorageClass::STANDARD)),
            upload_id: Some(line.upload.to_string()),
        };
        let next = folded.last.filter(|_| folded.more);
        let common = |prefix: String| CommonPrefix { prefix: Some(shown(prefix)) };
        Ok(S3Response::new(ListMultipartUploadsOutput {
            bucket: Some(input.bucket),
            common_prefixes: Some(folded.common.into_iter().map(common).collect()),
            delimiter: input.delimiter.filter(|text| !text.is_empty()).map(shown),
            encoding_type: input.encoding_type,
            is_truncated: Some(folded.more),
            key_marker: Some(shown(input.key_marker.unwrap_or_default())),
            max_uploads: Some(max),
            next_key_marker: next.as_ref().map(|(key, _)| shown(key.clone())),
            next_upload_id_marker: next.and_then(|(_, id)| id).map(|id| id.to_string()),
            prefix: Some(shown(prefix)),
            request_charged: None,
            upload_id_marker: input.upload_id_marker,
            uploads: Some(folded.uploads.into_iter().map(upload).collect()),
        }))
    }

    /// A page of uploads with keys folded at the delimiter. Each group costs one look, whatever it holds.
    async fn fold_uploads(
        &self,
        bucket: &benteng_objects::Bucket,
        prefix: &str,
        delimiter: &str,
        mut after: Option<(String, BlobId)>,
        limit: usize,
    ) -> S3Result<Folded> {
        let mut folded = Folded::default();
        if limit == 0 {
            return Ok(folded);
        }
        'pages: loop {
            let from = after.as_ref().map(|(key, id)| (key.as_str(), *id));
            let page = self.objects.list_uploads(bucket, prefix, from, 1000).await.map_err(fault::objects)?;
            for line in page.lines {
                if folded.uploads.len() + folded.common.len() == limit {
                    folded.more = true;
                    return Ok(folded);
                }
                match group(&line.key, prefix, delimiter) {
                    Some(group) => {
                        after = Some((behind(&group), LAST_ID));
                        folded.last = Some((group.clone(), None));
                        folded.common.push(group);
                        continue 'pages;
                    }
                    None => {
                        after = Some((line.key.clone(), line.upload));
                        folded.last = Some((line.key.clone(), Some(line.upload)));
                        folded.uploads.push(line);
                    }
                }
            }
            if !page.more {
                return Ok(folded);
            }
        }
    }
}

/// A page of uploads.
#[derive(Default)]
struct Folded {
    uploads: Vec<UploadLine>,
    common: Vec<String>,
    /// Key and id of the last line; a common prefix has no id.
    last: Option<(String, Option<BlobId>)>,
    more: bool,
}

/// The common prefix that a key belongs to.
fn group(key: &str, prefix: &str, delimiter: &str) -> Option<String> {
    let rest = key.strip_prefix(prefix).filter(|_| !delimiter.is_empty())?;
    let at = rest.find(delimiter)?;
    Some(key[..prefix.len() + at + delimiter.len()].to_owned())
}

/// A key that sorts behind all keys of a group: the group's name filled up to the longest key with
/// the greatest character.
fn behind(group: &str) -> String {
    let room = 1024_usize.saturating_sub(group.len()) / char::MAX.len_utf8();
    let mut key = group.to_owned();
    key.extend(std::iter::repeat_n(char::MAX, room));
    key
}

/// Where a listing goes on behind its markers.
fn after_marker(key: String, id: Option<BlobId>, prefix: &str, delimiter: &str) -> (String, BlobId) {
    match (id, group(&key, prefix, delimiter)) {
        (Some(id), _) => (key, id),
        // The marker is the common prefix that an earlier page ended with.
        (None, Some(group)) if group == key => (behind(&group), LAST_ID),
        (None, _) => (key, LAST_ID),
    }
}

fn initiator(name: &str) -> Initiator {
    Initiator { display_name: Some(name.to_owned()), id: Some(name.to_owned()) }
}

/// The checksum of the whole that the client sends with its completion.
fn of_whole(call: &Call) -> S3Result<Option<benteng_meta::Checksum>> {
    let whole = checksum::of_headers(&call.headers)?;
    let wanted = call.headers.get("x-amz-checksum-type").and_then(|value| value.to_str().ok());
    let composite = whole.as_ref().is_some_and(|sum| sum.composite.is_some());
    if let (Some(_), Some(wanted)) = (&whole, wanted)
        && wanted != checksum::type_name(composite).as_str()
    {
        let message = "The x-amz-checksum-type header is not the type of the checksum you provided.";
        return Err(fault(S3ErrorCode::InvalidRequest, message));
    }
    Ok(whole)
}

/// The checksum of an upload: CRC64NVME covers the whole, SHA is made of the parts' sums, and for
/// CRC32 and CRC32C the client chooses.
fn upload_checksum(algorithm: Option<&str>, kind: Option<&str>) -> S3Result<Option<UploadChecksum>> {
    let composite = match kind {
        None | Some("") => None,
        Some(ChecksumType::COMPOSITE) => Some(true),
        Some(ChecksumType::FULL_OBJECT) => Some(false),
        Some(_) => {
            return Err(fault(
                S3ErrorCode::InvalidRequest,
                "Value for x-amz-checksum-type header is invalid.",
            ));
        }
    };
    let Some(algorithm) = algorithm.filter(|name| !name.is_empty()) else {
        return match composite {
            None => Ok(None),
            Some(_) => {
                let message = "The x-amz-checksum-type header can only be used with the x-amz-checksum-algorithm header.";
                Err(fault(S3ErrorCode::InvalidRequest, message))
            }
        };
    };
    let kind = checksum::kind(algorithm)?;
    let (default, fixed) = match kind {
        ChecksumKind::Crc64Nvme => (false, true),
        ChecksumKind::Sha1 | ChecksumKind::Sha256 => (true, true),
        ChecksumKind::Crc32 | ChecksumKind::Crc32c => (true, false),
    };
    let composite = composite.unwrap_or(default);
    if fixed && composite != default {
        let message = format!(
            "The {} checksum type cannot be used with the {} checksum algorithm.",
            checksum::type_name(composite).as_str(),
            checksum::name(kind).as_str()
        );
        return Err(fault(S3ErrorCode::InvalidRequest, message));
    }
    Ok(Some(UploadChecksum { kind, composite }))
}

/// The parts as a completion lists them.
pub(crate) fn listed_parts(listed: Vec<CompletedPart>) -> S3Result<Vec<ListedPart>> {
    if listed.is_empty() || listed.len() > PARTS_MAX {
        let message = "The XML you provided was not well-formed or did not validate against our published schema: \
                       1 to 10000 parts.";
        return Err(fault(S3ErrorCode::MalformedXML, message));
    }
    let part = |part: CompletedPart| {
        let malformed = || fault(S3ErrorCode::MalformedXML, "A part needs its PartNumber and ETag.");
        let number = part_number(part.part_number.ok_or_else(malformed)?)?;
        let tag = part.e_tag.as_ref().ok_or_else(malformed)?;
        // A tag that we never gave is a part that is not there.
        let etag = tag.value().parse().map_err(|_| fault::rejected(&Rejection::InvalidPart(number)))?;
        let checksum = checksum::of_fields([
            part.checksum_crc32.as_ref(),
            part.checksum_crc32c.as_ref(),
            part.checksum_crc64nvme.as_ref(),
            part.checksum_sha1.as_ref(),
            part.checksum_sha256.as_ref(),
        ])?;
        Ok(ListedPart { number, etag, checksum })
    };
    listed.into_iter().map(part).collect()
}

#[cfg(test)]
mod tests;
