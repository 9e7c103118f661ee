//! Multipart uploads. A part's row is committed before UploadPart answers; completion checks rows only (O1).

use super::{Now, Step, object, removal, topology};
use crate::ids::*;
use crate::row::*;
use crate::{Answer, CompleteUpload, NewPart, Rejection, Tx, key};

/// Smallest size of a part that is not the last (S3): 5 MiB.
pub const PART_BYTES_MIN: u64 = 5 << 20;
/// Largest size of an object (S3): 5 TiB.
const OBJECT_BYTES_MAX: u64 = 5 << 40;
/// How long a completion is remembered (L4), microseconds.
pub const COMPLETED_KEPT: i64 = 24 * 3600 * 1_000_000;
/// Part numbers (S3).
pub const PART_NUMBERS: std::ops::RangeInclusive<u16> = 1..=10_000;

pub(super) fn create(
    tx: &mut Tx<'_>,
    bucket: BucketId,
    key: &str,
    upload: BlobId,
    row: &UploadRow,
    kek: KekVersion,
    now: Now,
) -> Step<Answer> {
    object::valid_key(key)?;
    let mut usage = object::usage_of(tx, bucket)?;
    object::usable_kek(tx, kek)?;
    let row_key = key::upload(bucket, key.as_bytes(), upload);
    if tx.has(&row_key)? || tx.has(&key::blob(upload))? {
        return Err(Rejection::Invalid(format!("upload {upload} is there already")).into());
    }
    usage.uploads += 1;
    tx.put(key::usage(bucket), &usage);
    tx.put(row_key, &UploadRow { created: now.at, ..row.clone() });
    forget_completions(tx, now)?;
    Ok(Answer::Committed(now.at))
}

pub(super) fn put_part(
    tx: &mut Tx<'_>,
    (bucket, key, upload): (BucketId, &str, BlobId),
    number: PartNumber,
    part: &NewPart,
    now: Now,
) -> Step<Answer> {
    if !PART_NUMBERS.contains(&number.0) {
        return Err(Rejection::Invalid(format!("part number {number} is not within 1 to 10000")).into());
    }
    if !tx.has(&key::upload(bucket, key.as_bytes(), upload))? {
        return Err(Rejection::NoSuchUpload.into());
    }
    let row_key = key::part(upload, Some(number));
    let old: Option<PartRow> = tx.get(&row_key)?;
    if old.as_ref().is_some_and(|old| old.attempt == part.attempt) {
        return Err(Rejection::Invalid(format!("attempt {:016x} is there already", part.attempt.0)).into());
    }
    if let Some(replace) = topology::count_copies(tx, upload, number, part, now)? {
        return Ok(Answer::Replace(replace));
    }
    if let Some(old) = old {
        removal::bury_part(tx, upload, number, old, now)?;
    }
    tx.put(row_key, &topology::part_row(part, now));
    Ok(Answer::Committed(now.at))
}

pub(super) fn complete(tx: &mut Tx<'_>, complete: &CompleteUpload, now: Now) -> Step<Answer> {
    let CompleteUpload { bucket, key, upload, .. } = complete;
    let mut usage = object::usage_of(tx, *bucket)?;
    let upload_key = key::upload(*bucket, key.as_bytes(), *upload);
    let Some(row) = tx.get::<UploadRow>(&upload_key)? else {
        // Answered alike to a repeated completion of the same parts (L4).
        let done: Option<CompletedRow> = tx.get(&key::completed(*upload))?;
        return match done {
            Some(done) if done.bucket == *bucket && done.key == *key && done.etag == complete.etag => {
                Ok(Answer::Completed { etag: done.etag, checksum: done.checksum, at: done.at })
            }
            _ => Err(Rejection::NoSuchUpload.into()),
        };
    };
    let object_key = key::object(*bucket, key.as_bytes());
    let current: Option<ObjectRow> = tx.get(&object_key)?;
    object::check(&complete.condition, current.as_ref())?;
    let (parts, size) = listed_parts(tx, complete)?;

    bury_unlisted(tx, *upload, &parts, now)?;
    if let Some(old) = &current {
        removal::bury_blob(tx, old.blob, now)?;
        usage.objects = usage.objects.saturating_sub(1);
        usage.bytes = usage.bytes.saturating_sub(old.size);
    }
    usage.objects += 1;
    usage.bytes = usage.bytes.saturating_add(size);
    usage.uploads = usage.uploads.saturating_sub(1);
    tx.put(key::usage(*bucket), &usage);
    tx.delete(upload_key);
    let blob = BlobRow {
        bucket: *bucket,
        key: key.clone(),
        size,
        dek: row.dek,
        checksum: complete.checksum.clone(),
        described: row.described,
        body: Body::Multipart(parts),
    };
    let object = ObjectRow {
        blob: *upload,
        size,
        etag: complete.etag,
        modified: now.at,
        seq: now.seq,
        checksum: complete.checksum.as_ref().map(|c| (c.kind, c.composite.is_some())),
    };
    let done = CompletedRow {
        bucket: *bucket,
        key: key.clone(),
        etag: complete.etag,
        checksum: complete.checksum.clone(),
        at: now.at,
    };
    tx.put(key::blob(*upload), &blob);
    tx.put(object_key, &object);
    tx.put(key::completed(*upload), &done);
    tx.put(key::completed_order(now.seq, *upload), &Mark);
    forget_completions(tx, now)?;
    Ok(Answer::Completed { etag: complete.etag, checksum: complete.checksum.clone(), at: now.at })
}

/// The parts that the client listed, each checked against its row, and the size of the whole.
fn listed_parts(tx: &Tx<'_>, complete: &CompleteUpload) -> Step<(Vec<(PartNumber, u64)>, u64)> {
    if complete.parts.is_empty() || !complete.parts.is_sorted_by(|a, b| a.0 < b.0) {
        return Err(Rejection::InvalidPartOrder.into());
    }
    let mut parts = Vec::with_capacity(complete.parts.len());
    let mut size = 0_u64;
    for (i, (number, attempt)) in complete.parts.iter().enumerate() {
        let row: Option<PartRow> = tx.get(&key::part(complete.upload, Some(*number)))?;
        let row = row.filter(|row| row.attempt == *attempt).ok_or(Rejection::InvalidPart(*number))?;
        let last = i + 1 == complete.parts.len();
        if !last && row.size < PART_BYTES_MIN {
            let too_small =
                Rejection::PartTooSmall { number: *number, size: row.size, minimum: PART_BYTES_MIN };
            return Err(too_small.into());
        }
        size = size.saturating_add(row.size);
        parts.push((*number, row.size));
    }
    if size > OBJECT_BYTES_MAX {
        return Err(Rejection::Invalid(format!("the object would have {size} bytes, at most 5 TiB")).into());
    }
    Ok((parts, size))
}

/// Frees exactly the parts that the completion did not name (I8).
fn bury_unlisted(tx: &mut Tx<'_>, upload: BlobId, listed: &[(PartNumber, u64)], now: Now) -> Step<()> {
    for (number, row) in parts_of(tx, upload)? {
        if listed.binary_search_by_key(&number, |(n, _)| *n).is_err() {
            tx.delete(key::part(upload, Some(number)));
            removal::bury_part(tx, upload, number, row, now)?;
        }
    }
    Ok(())
}

pub(super) fn abort(tx: &mut Tx<'_>, bucket: BucketId, key: &str, upload: BlobId, now: Now) -> Step<Answer> {
    let mut usage = object::usage_of(tx, bucket)?;
    let row_key = key::upload(bucket, key.as_bytes(), upload);
    tx.take::<UploadRow>(row_key)?.ok_or(Rejection::NoSuchUpload)?;
    for (number, row) in parts_of(tx, upload)? {
        tx.delete(key::part(upload, Some(number)));
        removal::bury_part(tx, upload, number, row, now)?;
    }
    usage.uploads = usage.uploads.saturating_sub(1);
    tx.put(key::usage(bucket), &usage);
    Ok(Answer::Done)
}

/// All part rows of an upload or blob, ascending: 10,000 at most by the range of part numbers.
pub(super) fn parts_of(tx: &Tx<'_>, blob: BlobId) -> crate::Result<Vec<(PartNumber, PartRow)>> {
    let prefix = key::part(blob, None);
    let rows = tx.range::<PartRow>(&prefix, &benteng_host::prefix_end(&prefix), usize::MAX)?;
    let number = |key: &[u8]| key.last_chunk::<2>().map(|n| PartNumber(u16::from_be_bytes(*n)));
    Ok(rows.into_iter().filter_map(|(key, row)| Some((number(&key)?, row))).collect())
}

/// Forgets completions older than a day, two per call.
fn forget_completions(tx: &mut Tx<'_>, now: Now) -> Step<()> {
    let mut clock: ClockRow = tx.get(&key::clock())?.unwrap_or_default();
    let from = key::from_seq(key::Table::CompletedOrder, clock.queues.completions);
    let end = benteng_host::prefix_end(&key::table(key::Table::CompletedOrder));
    for (order, Mark) in tx.range(&from, &end, 2)? {
        let Some((seq, id)) = key::split_seq(&order) else { continue };
        let row_key = key::completed(BlobId(uuid::Uuid::from_bytes(id)));
        let row: Option<CompletedRow> = tx.get(&row_key)?;
        if row.is_some_and(|row| row.at.0.saturating_add(COMPLETED_KEPT) >= now.at.0) {
            break;
        }
        tx.delete(row_key);
        tx.delete(order);
        clock.queues.completions = seq;
    }
    tx.put(key::clock(), &clock);
    Ok(())
}
