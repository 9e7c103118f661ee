//! ListObjects, both versions.

use std::sync::Arc;

use benteng_identity::Action;
use benteng_meta::ObjectRow;
use benteng_meta::query::Listed;
use benteng_objects::{ListAfter, ListOptions, Page};
use s3s::dto::*;
use s3s::{S3Request, S3Response, S3Result};

use super::{Ops, encodes, etag, owner, page, signed};
use crate::call::Call;
use crate::fault::{self, invalid};
use crate::{checksum, names, token};

/// Lines of one page.
const LINES_MAX: i32 = 1000;

/// A page as both versions print it.
struct Lines {
    contents: Vec<Object>,
    common: Vec<CommonPrefix>,
    /// The last line, if more follow.
    next: Option<String>,
    count: usize,
}

impl Ops {
    pub(crate) async fn list_v1(
        &self,
        req: S3Request<ListObjectsInput>,
    ) -> S3Result<S3Response<ListObjectsOutput>> {
        let call = Call::of(&req, "ListObjects", Some(&req.input.bucket))?;
        let input = req.input;
        let marker = input.marker.clone().unwrap_or_default();
        // A marker may be a common prefix of an earlier page, which then is not shown again.
        let after = if marker.is_empty() { ListAfter::Start } else { ListAfter::Line(marker) };
        let max = page(input.max_keys, "max-keys", LINES_MAX)?;
        let encode = encodes(input.encoding_type.as_ref())?;
        let (prefix, delimiter) =
            (input.prefix.clone().unwrap_or_default(), input.delimiter.clone().unwrap_or_default());
        let options = ListOptions { prefix, delimiter, after, limit: usize::try_from(max).unwrap_or(0) };
        let lines = self.lines(&call, &input.bucket, &options, encode, true).await?;
        let shown = |text: Option<String>| text.map(|text| show(&text, encode));
        Ok(S3Response::new(ListObjectsOutput {
            name: Some(input.bucket),
            prefix: shown(Some(input.prefix.unwrap_or_default())),
            marker: shown(Some(input.marker.unwrap_or_default())),
            max_keys: Some(max),
            is_truncated: Some(lines.next.is_some()),
            next_marker: shown(lines.next),
            contents: Some(lines.contents),
            common_prefixes: Some(lines.common),
            delimiter: shown(input.delimiter.filter(|text| !text.is_empty())),
            encoding_type: input.encoding_type,
            request_charged: None,
        }))
    }

    pub(crate) async fn list_v2(
        &self,
        req: S3Request<ListObjectsV2Input>,
    ) -> S3Result<S3Response<ListObjectsV2Output>> {
        let call = Call::of(&req, "ListObjectsV2", Some(&req.input.bucket))?;
        let input = req.input;
        let after = match (input.continuation_token.as_deref(), input.start_after.as_deref()) {
            (Some(""), _) => return Err(invalid("The continuation token provided is incorrect")),
            (Some(text), _) => {
                let line = token::read(&input.bucket, text);
                ListAfter::Line(line.ok_or_else(|| invalid("The continuation token provided is incorrect"))?)
            }
            (None, None | Some("")) => ListAfter::Start,
            (None, Some(key)) => ListAfter::Key(key.to_owned()),
        };
        let max = page(input.max_keys, "max-keys", LINES_MAX)?;
        let encode = encodes(input.encoding_type.as_ref())?;
        let (prefix, delimiter) =
            (input.prefix.clone().unwrap_or_default(), input.delimiter.clone().unwrap_or_default());
        let options = ListOptions { prefix, delimiter, after, limit: usize::try_from(max).unwrap_or(0) };
        let owners = input.fetch_owner == Some(true);
        let lines = self.lines(&call, &input.bucket, &options, encode, owners).await?;
        let next = lines.next.as_deref().map(|line| token::make(&input.bucket, line));
        let shown = |text: Option<String>| text.map(|text| show(&text, encode));
        Ok(S3Response::new(ListObjectsV2Output {
            name: Some(input.bucket),
            prefix: shown(Some(input.prefix.unwrap_or_default())),
            max_keys: Some(max),
            // Keys plus common prefixes: what a client counts pages by.
            key_count: i32::try_from(lines.count).ok(),
            continuation_token: input.continuation_token,
            is_truncated: Some(lines.next.is_some()),
            next_continuation_token: next,
            contents: Some(lines.contents),
            common_prefixes: Some(lines.common),
            delimiter: shown(input.delimiter.filter(|text| !text.is_empty())),
            encoding_type: input.encoding_type,
            start_after: shown(input.start_after.filter(|text| !text.is_empty())),
            request_charged: None,
        }))
    }

    async fn lines(
        &self,
        call: &Arc<Call>,
        bucket: &str,
        options: &ListOptions,
        encode: bool,
        owners: bool,
    ) -> S3Result<Lines> {
        let bucket = self.bucket(call, Action::ListObjects, bucket).await?;
        let page = match options.limit {
            // Nothing was asked for; whether more would follow does not matter to anyone.
            0 => Page { lines: Vec::new(), more: false },
            _ => self.objects.list(&bucket, options).await.map_err(fault::objects)?,
        };
        let next = page.lines.last().filter(|_| page.more).map(|line| line.name().to_owned());
        let mut lines = Lines { contents: Vec::new(), common: Vec::new(), next, count: page.lines.len() };
        for line in page.lines {
            match line {
                Listed::Row(key, row) => {
                    let owner = owners.then(|| owner(&bucket.owner));
                    lines.contents.push(object(show(&key, encode), &row, owner));
                }
                Listed::Common(prefix) => {
                    lines.common.push(CommonPrefix { prefix: Some(show(&prefix, encode)) });
                }
            }
        }
        Ok(lines)
    }
}

fn show(text: &str, encode: bool) -> String {
    if encode { names::encode_path(text) } else { text.to_owned() }
}

fn object(key: String, row: &ObjectRow, owner: Option<Owner>) -> Object {
    Object {
        checksum_algorithm: row.checksum.map(|(kind, _)| vec![checksum::name(kind)]),
        checksum_type: row.checksum.map(|(_, composite)| checksum::type_name(composite)),
        e_tag: Some(etag(&row.etag)),
        key: Some(key),
        last_modified: Some(names::timestamp(row.modified)),
        owner,
        restore_status: None,
        size: Some(signed(row.size)),
        storage_class: Some(ObjectStorageClass::from_static(ObjectStorageClass::STANDARD)),
    }
}
