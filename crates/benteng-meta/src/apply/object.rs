//! Buckets, PUT and DELETE of objects. Preconditions are decided here and nowhere else.

use benteng_host::planted::{Bug, planted};
use bytes::Bytes;

use super::{Now, Step, removal, topology};
use crate::ids::*;
use crate::row::*;
use crate::{Answer, Condition, DeleteKey, Match, NewBody, PutObject, Rejection, Result, Tx, key};

/// Length limits of an object key in bytes (S3).
const KEY_BYTES: std::ops::RangeInclusive<usize> = 1..=1024;
/// Keys in one DELETE (S3).
const DELETE_KEYS_MAX: usize = 1000;

pub(super) fn create_bucket(
    tx: &mut Tx<'_>,
    name: &str,
    id: BucketId,
    owner: &str,
    wrapped: &Bytes,
    kek: KekVersion,
    now: Now,
) -> Step<Answer> {
    if !is_bucket_name(name) {
        return Err(Rejection::InvalidBucketName(name.to_owned()).into());
    }
    let taken: Option<BucketRow> = tx.get(&key::bucket(name))?;
    if let Some(taken) = taken {
        return Err(Rejection::BucketTaken { owner: taken.owner }.into());
    }
    usable_kek(tx, kek)?;
    let row = BucketRow { id, owner: owner.to_owned(), created: now.at, key: wrapped.clone(), kek };
    tx.put(key::bucket(name), &row);
    tx.put(key::usage(id), &UsageRow::default());
    Ok(Answer::Committed(now.at))
}

pub(super) fn delete_bucket(tx: &mut Tx<'_>, name: &str) -> Step<Answer> {
    let row: BucketRow = tx.get(&key::bucket(name))?.ok_or(Rejection::NoSuchBucket)?;
    let usage: UsageRow = tx.get(&key::usage(row.id))?.unwrap_or_default();
    if usage.objects > 0 || usage.uploads > 0 {
        return Err(Rejection::BucketNotEmpty.into());
    }
    tx.delete(key::bucket(name));
    tx.delete(key::usage(row.id));
    Ok(Answer::Done)
}

pub(super) fn put(tx: &mut Tx<'_>, put: &PutObject, now: Now) -> Step<Answer> {
    assert!(!planted(Bug::ApplyAsserts) || KEY_BYTES.contains(&put.key.len()), "I6: a key of a wrong length");
    valid_key(&put.key)?;
    let mut usage = usage_of(tx, put.bucket)?;
    usable_kek(tx, put.kek)?;
    let row_key = key::object(put.bucket, put.key.as_bytes());
    let current: Option<ObjectRow> = tx.get(&row_key)?;
    check(&put.condition, current.as_ref())?;
    if tx.has(&key::blob(put.blob))? {
        return Err(Rejection::Invalid(format!("blob {} is there already", put.blob)).into());
    }

    let body = match &put.body {
        NewBody::Inline(sealed) => Body::Inline(sealed.clone()),
        NewBody::Chunks(part) => {
            let number = PartNumber(1);
            if let Some(replace) = topology::count_copies(tx, put.blob, number, part, now)? {
                if planted(Bug::ReplaceIsRefusal) {
                    return Err(Rejection::Invalid("too few copies".to_owned()).into());
                }
                return Ok(Answer::Replace(replace));
            }
            Body::Single(topology::part_row(part, now))
        }
    };
    if let Some(old) = &current {
        removal::bury_blob(tx, old.blob, now)?;
        usage.objects = usage.objects.saturating_sub(1);
        usage.bytes = usage.bytes.saturating_sub(old.size);
    }
    usage.objects += 1;
    usage.bytes = usage.bytes.saturating_add(put.size);
    tx.put(key::usage(put.bucket), &usage);
    let blob = BlobRow {
        bucket: put.bucket,
        key: put.key.clone(),
        size: put.size,
        dek: put.dek.clone(),
        checksum: put.checksum.clone(),
        described: put.described.clone(),
        body,
    };
    let object = ObjectRow {
        blob: put.blob,
        size: put.size,
        etag: put.etag,
        modified: now.at,
        seq: now.seq,
        checksum: put.checksum.as_ref().map(|c| (c.kind, c.composite.is_some())),
    };
    tx.put(key::blob(put.blob), &blob);
    tx.put(row_key, &object);
    Ok(Answer::Committed(now.at))
}

pub(super) fn delete(tx: &mut Tx<'_>, bucket: BucketId, keys: &[DeleteKey], now: Now) -> Step<Answer> {
    if keys.len() > DELETE_KEYS_MAX {
        return Err(Rejection::Invalid(format!("{} keys in one DELETE, at most 1000", keys.len())).into());
    }
    let mut usage = usage_of(tx, bucket)?;
    let mut results = Vec::with_capacity(keys.len());
    for delete in keys {
        results.push(delete_one(tx, bucket, delete, &mut usage, now)?);
    }
    tx.put(key::usage(bucket), &usage);
    Ok(Answer::Deleted(results))
}

fn delete_one(
    tx: &mut Tx<'_>,
    bucket: BucketId,
    delete: &DeleteKey,
    usage: &mut UsageRow,
    now: Now,
) -> Result<std::result::Result<(), Rejection>> {
    if !KEY_BYTES.contains(&delete.key.len()) {
        return Ok(Err(Rejection::InvalidKey));
    }
    let row_key = key::object(bucket, delete.key.as_bytes());
    let current: Option<ObjectRow> = tx.get(&row_key)?;
    match (&current, &delete.if_match) {
        (None, Some(_)) => return Ok(Err(Rejection::NoSuchKey)),
        // Deleting what is not there is a success in S3.
        (None, None) => return Ok(Ok(())),
        (Some(row), Some(tags)) if !tags.matches(&row.etag) => return Ok(Err(Rejection::PreconditionFailed)),
        (Some(_), _) => {}
    }
    if let Some(row) = current {
        removal::bury_blob(tx, row.blob, now)?;
        tx.delete(row_key);
        usage.objects = usage.objects.saturating_sub(1);
        usage.bytes = usage.bytes.saturating_sub(row.size);
    }
    Ok(Ok(()))
}

/// The counters of a bucket that is there; they are its proof of life (the fence is its uuid, O2).
pub(super) fn usage_of(tx: &Tx<'_>, bucket: BucketId) -> Step<UsageRow> {
    Ok(tx.get(&key::usage(bucket))?.ok_or(Rejection::NoSuchBucket)?)
}

pub(super) fn usable_kek(tx: &Tx<'_>, version: KekVersion) -> Step<()> {
    let row: Option<KekRow> = tx.get(&key::kek(version))?;
    match row {
        Some(row) if row.wrapped.is_some() => Ok(()),
        _ => Err(Rejection::KeyDestroyed(version).into()),
    }
}

pub(super) fn valid_key(key: &str) -> Step<()> {
    if KEY_BYTES.contains(&key.len()) { Ok(()) } else { Err(Rejection::InvalidKey.into()) }
}

/// Holds a condition against the current version. `If-Match` on nothing is 404, as AWS answers.
pub(super) fn check(condition: &Condition, current: Option<&ObjectRow>) -> Step<()> {
    if planted(Bug::PreconditionForgotten) {
        return Ok(());
    }
    if let Some(tags) = &condition.if_match {
        let row = current.ok_or(Rejection::NoSuchKey)?;
        if !tags.matches(&row.etag) {
            return Err(Rejection::PreconditionFailed.into());
        }
    }
    let refused = |tags: &Match| current.is_some_and(|row| tags.matches(&row.etag));
    if condition.if_none_match.as_ref().is_some_and(refused) {
        return Err(Rejection::PreconditionFailed.into());
    }
    Ok(())
}

/// Whether S3 allows the name: 3 to 63 of `a-z 0-9 . -`, ends alphanumeric, no `..`, no IPv4 form.
/// Source: Amazon S3 User Guide, "General purpose bucket naming rules".
pub fn is_bucket_name(name: &str) -> bool {
    let bytes = name.as_bytes();
    let alphanumeric = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let ends = bytes.first().is_some_and(alphanumeric) && bytes.last().is_some_and(alphanumeric);
    (3..=63).contains(&bytes.len())
        && ends
        && bytes.iter().all(|b| alphanumeric(b) || *b == b'.' || *b == b'-')
        && !["..", ".-", "-."].iter().any(|pair| name.contains(pair))
        && name.parse::<std::net::Ipv4Addr>().is_err()
        && !name.starts_with("xn--")
        && !name.ends_with("-s3alias")
}
