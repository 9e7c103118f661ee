//! Multipart uploads. A part's row is committed before UploadPart answers; completion looks at
//! rows only (O1), and is remembered for a day (L4).

use std::sync::Arc;

use benteng_host::planted::{Bug, planted};
use benteng_host::{KvView, random_array};
use benteng_meta::ids::*;
use benteng_meta::{
    Answer, Checksum, ChecksumKind, Command, CompleteUpload, CompletedRow, Condition, ETag, PartRow,
    Rejection, UploadChecksum, UploadRow, key, query,
};
use bytes::Bytes;

use crate::commit::{PartFacts, commit_chunks};
use crate::core::Core;
use crate::digest::{compare, composite, full_object, kind_name, md5_of_md5s};
use crate::keyring::Keys;
use crate::put::{open_source, source_failed};
use crate::write::{Incoming, Place, Stored, StoredBytes, store_body};
use crate::{
    BodyIn, Bucket, CopySource, Error, ListedPart, Page, PartLine, PutDone, PutOptions, Result, SentChecksum,
    UploadLine, UploadOptions, bucket,
};

/// What names an upload.
#[derive(Clone, Copy)]
pub(crate) struct UploadName<'a> {
    pub(crate) bucket: &'a Bucket,
    pub(crate) key: &'a str,
    pub(crate) upload: BlobId,
}

impl UploadName<'_> {
    fn row(&self, view: &dyn KvView) -> Result<UploadRow> {
        let row_key = key::upload(self.bucket.id, self.key.as_bytes(), self.upload);
        Ok(query::get(view, &row_key)?.ok_or(Rejection::NoSuchUpload)?)
    }
}

/// Begins an upload.
pub(crate) async fn create(
    core: &Core,
    of: &Bucket,
    key: &str,
    owner: &str,
    options: UploadOptions,
) -> Result<BlobId> {
    match options.checksum {
        Some(UploadChecksum { kind: ChecksumKind::Crc64Nvme, composite: true }) => {
            return Err(Error::Invalid("CRC64NVME is a FULL_OBJECT checksum".to_owned()));
        }
        Some(UploadChecksum {
            kind: kind @ (ChecksumKind::Sha1 | ChecksumKind::Sha256),
            composite: false,
        }) => {
            return Err(Error::Invalid(format!("{} is a COMPOSITE checksum", kind_name(kind))));
        }
        _ => {}
    }
    let random = &*core.host.random;
    let (bucket_key, kek) = bucket::fresh_key(core, of).await?;
    let upload = BlobId::from_random(random_array(random));
    let (_, dek) = Keys::new_dek(&bucket_key, upload, random);
    let UploadOptions { described, checksum } = options;
    let row = UploadRow { owner: owner.to_owned(), created: SiteTime(0), dek, described, checksum };
    let (key, row) = (key.to_owned(), Box::new(row));
    core.group.propose(Command::CreateUpload { bucket: of.id, key, upload, row, kek }, None).await?;
    Ok(upload)
}

/// Stores a part.
pub(crate) async fn put_part(
    core: &Arc<Core>,
    name: UploadName<'_>,
    number: PartNumber,
    options: PutOptions,
    body: BodyIn,
) -> Result<PutDone> {
    let row = find(core, name).await?;
    let sent = match &options.checksum {
        SentChecksum::None => None,
        SentChecksum::Kind(kind) | SentChecksum::Trailer(kind, _) => Some(*kind),
        SentChecksum::Header(checksum) => Some(checksum.kind),
    };
    if let (Some(asked), Some(sent)) = (row.checksum, sent)
        && asked.kind != sent
    {
        let (asked, sent) = (kind_name(asked.kind), kind_name(sent));
        return Err(Error::Invalid(format!(
            "the upload was created with {asked}, the part came with {sent}"
        )));
    }
    let PutOptions { content_md5, checksum, length, .. } = options;
    let default_kind = row.checksum.map_or(ChecksumKind::Crc64Nvme, |asked| asked.kind);
    let incoming = Incoming { body, length, content_md5, checksum, default_kind };
    store(core, name, number, &row, incoming).await
}

/// Stores a part that is read from an object.
pub(crate) async fn copy_part(
    core: &Arc<Core>,
    from: CopySource,
    name: UploadName<'_>,
    number: PartNumber,
) -> Result<PutDone> {
    let row = find(core, name).await?;
    let (_, body, length) = open_source(core, from).await?;
    let default_kind = row.checksum.map_or(ChecksumKind::Crc64Nvme, |asked| asked.kind);
    let checksum = SentChecksum::None;
    let incoming = Incoming { body, length: Some(length), content_md5: None, checksum, default_kind };
    store(core, name, number, &row, incoming).await.map_err(source_failed)
}

/// The upload: as the local replica knows it, else at a read index.
async fn find(core: &Core, name: UploadName<'_>) -> Result<UploadRow> {
    match name.row(&*core.group.local()?) {
        Err(Error::Rejected(Rejection::NoSuchUpload)) => name.row(&*core.group.read().await?),
        found => found,
    }
}

async fn store(
    core: &Arc<Core>,
    name: UploadName<'_>,
    number: PartNumber,
    row: &UploadRow,
    incoming: Incoming,
) -> Result<PutDone> {
    if !benteng_meta::apply::PART_NUMBERS.contains(&number.0) {
        return Err(Error::Invalid(format!("part number {number} is not within 1 to 10000")));
    }
    let (bucket_key, _) = bucket::fresh_key(core, name.bucket).await?;
    let dek = Keys::dek(&bucket_key, name.upload, &row.dek)?;
    let place = Place { dek: &dek, part: number, inline: None };
    let Stored { size, md5, checksum, bytes } = store_body(core, &place, incoming).await?;
    let StoredBytes::Chunks(stored) = bytes else {
        return Err(Error::Invalid("a part is stored in chunks".to_owned()));
    };
    let facts = PartFacts { blob: name.upload, part: number, size, md5, checksum: Some(checksum.clone()) };
    if planted(Bug::PartRowLater) {
        drop(stored);
        return Ok(PutDone {
            etag: ETag { md5, parts: None },
            checksum: Some(checksum),
            modified: SiteTime(0),
        });
    }
    let modified = commit_chunks(core, &facts, stored, |part| Command::PutPart {
        bucket: name.bucket.id,
        key: name.key.to_owned(),
        upload: name.upload,
        number,
        part: Box::new(part),
    });
    let modified = modified.await?;
    metrics::counter!("benteng_objects_parts_total").increment(1);
    metrics::counter!("benteng_objects_put_bytes_total").increment(size);
    Ok(PutDone { etag: ETag { md5, parts: None }, checksum: Some(checksum), modified })
}

/// The object's checksum from those of its parts; `None` if they do not make one.
fn whole_checksum(asked: Option<UploadChecksum>, parts: &[&PartRow]) -> Result<Option<Checksum>> {
    let kinds: Vec<Option<ChecksumKind>> =
        parts.iter().map(|row| row.checksum.as_ref().map(|c| c.kind)).collect();
    let first = kinds.first().copied().flatten();
    let asked = asked.or_else(|| {
        // Nobody asked: what all parts have in common.
        let kind = first?;
        Some(UploadChecksum { kind, composite: kind != ChecksumKind::Crc64Nvme })
    });
    let Some(UploadChecksum { kind, composite: is_composite }) = asked else { return Ok(None) };
    if kinds.iter().any(|of_part| *of_part != Some(kind)) {
        return Ok(None);
    }
    let sums: Vec<(Bytes, u64)> =
        parts.iter().filter_map(|row| Some((row.checksum.as_ref()?.value.clone(), row.size))).collect();
    if is_composite {
        return Ok(Some(composite(kind, &sums)));
    }
    full_object(kind, &sums).map(Some).ok_or_else(|| {
        Error::Invalid(format!("the {} checksums of the parts do not combine", kind_name(kind)))
    })
}

/// Completes an upload.
pub(crate) async fn complete(
    core: &Core,
    name: UploadName<'_>,
    parts: Vec<ListedPart>,
    whole: Option<Checksum>,
    condition: Condition,
) -> Result<PutDone> {
    let view = core.group.read().await?;
    bucket::row(&*view, name.bucket)?;
    if parts.is_empty() || !parts.is_sorted_by(|a, b| a.number < b.number) {
        return Err(Rejection::InvalidPartOrder.into());
    }
    let count = u16::try_from(parts.len()).map_err(|_| Rejection::InvalidPartOrder)?;
    let etag = ETag { md5: md5_of_md5s(parts.iter().map(|part| &part.etag.md5)), parts: Some(count) };
    let row = match name.row(&*view) {
        Ok(row) => row,
        Err(Error::Rejected(Rejection::NoSuchUpload)) => return completed(&*view, name, etag),
        Err(e) => return Err(e),
    };
    let mut rows: Vec<(PartNumber, PartRow)> = Vec::with_capacity(parts.len());
    for part in &parts {
        let row = query::part(&*view, name.upload, part.number)?;
        let is_it = |row: &PartRow| {
            row.md5 == part.etag.md5
                && part.etag.parts.is_none()
                && part.checksum.as_ref().is_none_or(|sent| {
                    row.checksum.as_ref().is_some_and(|c| c.kind == sent.kind && c.value == sent.value)
                })
        };
        let row = row.filter(is_it).ok_or(Rejection::InvalidPart(part.number))?;
        rows.push((part.number, row));
    }
    drop(view);
    let checksum = whole_checksum(row.checksum, &rows.iter().map(|(_, row)| row).collect::<Vec<_>>())?;
    if let Some(sent) = whole {
        let computed = checksum.as_ref().filter(|computed| computed.kind == sent.kind);
        compare(kind_name(sent.kind), &sent.value, computed.map_or(&[][..], |computed| &computed.value))?;
    }
    let command = CompleteUpload {
        bucket: name.bucket.id,
        key: name.key.to_owned(),
        upload: name.upload,
        parts: rows.iter().map(|(number, row)| (*number, row.attempt)).collect(),
        etag,
        checksum,
        condition,
    };
    match core.group.propose(Command::CompleteUpload(Box::new(command)), None).await? {
        Answer::Completed { etag, checksum, at } => Ok(PutDone { etag, checksum, modified: at }),
        other => Err(Error::Unknown { why: format!("the completion answered {other:?}") }),
    }
}

/// The answer to a completion that is repeated (L4).
fn completed(view: &dyn KvView, name: UploadName<'_>, etag: ETag) -> Result<PutDone> {
    let done: Option<CompletedRow> = query::get(view, &key::completed(name.upload))?;
    let same =
        |done: &CompletedRow| done.bucket == name.bucket.id && done.key == name.key && done.etag == etag;
    let done = done.filter(same).ok_or(Rejection::NoSuchUpload)?;
    Ok(PutDone { etag: done.etag, checksum: done.checksum, modified: done.at })
}

/// Gives an upload up.
pub(crate) async fn abort(core: &Core, name: UploadName<'_>) -> Result<()> {
    let (bucket, key, upload) = (name.bucket.id, name.key.to_owned(), name.upload);
    core.group.propose(Command::AbortUpload { bucket, key, upload }, None).await?;
    Ok(())
}

/// An upload under way.
pub(crate) async fn upload(core: &Core, name: UploadName<'_>) -> Result<UploadRow> {
    let view = core.group.read().await?;
    bucket::row(&*view, name.bucket)?;
    name.row(&*view)
}

/// Parts of an upload.
pub(crate) async fn list_parts(
    core: &Core,
    name: UploadName<'_>,
    after: u16,
    limit: usize,
) -> Result<Page<PartLine>> {
    let view = core.group.read().await?;
    bucket::row(&*view, name.bucket)?;
    name.row(&*view)?;
    let rows = query::parts(&*view, name.upload, after, limit.saturating_add(1))?;
    let line = |(number, row): (PartNumber, PartRow)| PartLine {
        number,
        size: row.size,
        etag: ETag { md5: row.md5, parts: None },
        checksum: row.checksum,
        modified: row.modified,
    };
    Ok(bucket::page(rows.into_iter().map(line).collect(), limit))
}

/// Uploads under way in a bucket.
pub(crate) async fn list_uploads(
    core: &Core,
    of: &Bucket,
    prefix: &str,
    after: Option<(&str, BlobId)>,
    limit: usize,
) -> Result<Page<UploadLine>> {
    let view = core.group.read().await?;
    bucket::row(&*view, of)?;
    let rows = query::uploads(&*view, of.id, prefix, after, limit.saturating_add(1))?;
    let line = |(key, upload, row): (String, BlobId, UploadRow)| UploadLine {
        key,
        upload,
        owner: row.owner,
        created: row.created,
        checksum: row.checksum,
    };
    Ok(bucket::page(rows.into_iter().map(line).collect(), limit))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Digests;

    fn part(kind: Option<ChecksumKind>, bytes: &[u8]) -> PartRow {
        let checksum = kind.map(|kind| {
            let mut digests = Digests::new(kind);
            digests.update(bytes);
            digests.finish().1
        });
        PartRow {
            attempt: Attempt(1),
            salt: [0; 32],
            size: bytes.len() as u64,
            md5: [0; 16],
            checksum,
            modified: SiteTime(0),
        }
    }

    #[test]
    fn the_checksum_of_the_whole_follows_the_upload_then_the_parts() {
        use ChecksumKind::*;
        let full = |kind| Some(UploadChecksum { kind, composite: false });
        let comp = |kind| Some(UploadChecksum { kind, composite: true });
        // What the whole gets: its kind, and whether it is composite.
        let check = |asked, kinds: &[Option<ChecksumKind>], expected: Option<(ChecksumKind, bool)>| {
            let rows: Vec<PartRow> = kinds.iter().map(|kind| part(*kind, b"12345")).collect();
            let whole = whole_checksum(asked, &rows.iter().collect::<Vec<_>>()).expect("they combine");
            assert_eq!(whole.map(|c| (c.kind, c.composite.is_some())), expected, "{asked:?} {kinds:?}");
        };
        check(full(Crc32), &[Some(Crc32), Some(Crc32)], Some((Crc32, false)));
        check(comp(Crc32), &[Some(Crc32), Some(Crc32)], Some((Crc32, true)));
        check(comp(Sha256), &[Some(Sha256)], Some((Sha256, true)));
        check(full(Crc64Nvme), &[Some(Crc64Nvme)], Some((Crc64Nvme, false)));
        // Nobody asked.
        check(None, &[Some(Crc64Nvme), Some(Crc64Nvme)], Some((Crc64Nvme, false)));
        check(None, &[Some(Sha1), Some(Sha1)], Some((Sha1, true)));
        check(None, &[Some(Crc32), Some(Crc32c)], None);
        check(None, &[None, Some(Crc32)], None);
        // A part without the checksum that was asked for.
        check(full(Crc32), &[Some(Crc32), None], None);
    }
}
