//! Buckets: resolve, list, create, delete; deletes and listings within one.

use std::sync::Arc;

use benteng_host::{KvView, random_array};
use benteng_keys::BucketKey;
use benteng_meta::ids::*;
use benteng_meta::query::{After, Listed};
use benteng_meta::{Answer, BucketRow, Command, DeleteKey, ObjectRow, Rejection, UsageRow, key, query};

use crate::core::Core;
use crate::{Bucket, Error, ListAfter, ListOptions, Page, Result};

/// Uploads that are aborted per look at the state when a bucket is deleted.
const ABORT_PAGE: usize = 100;
/// Keys of one DELETE command.
const DELETE_MAX: usize = 1000;

fn bucket(name: &str, row: BucketRow) -> Bucket {
    Bucket { name: name.to_owned(), id: row.id, owner: row.owner, created: row.created }
}

/// The row of a bucket in `view`. Errors: `NoSuchBucket`, also if the name is another bucket's by now.
pub(crate) fn row(view: &dyn KvView, bucket: &Bucket) -> Result<BucketRow> {
    let row = query::bucket(view, &bucket.name)?.filter(|row| row.id == bucket.id);
    Ok(row.ok_or(Rejection::NoSuchBucket)?)
}

/// The key of a bucket, and the version that wraps it.
pub(crate) fn open_key(core: &Core, view: &dyn KvView, bucket: &Bucket) -> Result<(BucketKey, KekVersion)> {
    let row = row(view, bucket)?;
    Ok((core.keys.bucket_key(view, &row)?, row.kek))
}

/// As [`open_key`], from the local replica; from a read index if that does not know the bucket.
pub(crate) async fn fresh_key(core: &Core, bucket: &Bucket) -> Result<(BucketKey, KekVersion)> {
    match open_key(core, &*core.group.local()?, bucket) {
        Err(Error::Rejected(Rejection::NoSuchBucket)) => open_key(core, &*core.group.read().await?, bucket),
        opened => opened,
    }
}

pub(crate) async fn resolve(core: &Core, name: &str) -> Result<Bucket> {
    if let Some(row) = query::bucket(&*core.group.local()?, name)? {
        return Ok(bucket(name, row));
    }
    // It may have been created through another node a moment ago.
    let row = query::bucket(&*core.group.read().await?, name)?;
    Ok(bucket(name, row.ok_or(Rejection::NoSuchBucket)?))
}

pub(crate) async fn all(
    core: &Core,
    prefix: &str,
    after: Option<&str>,
    limit: usize,
) -> Result<Page<Bucket>> {
    let view = core.group.read().await?;
    let rows = query::buckets(&*view, prefix, after, limit.saturating_add(1))?;
    Ok(page(rows.into_iter().map(|(name, row)| bucket(&name, row)).collect(), limit))
}

/// Cuts the line that only tells whether more follow.
pub(crate) fn page<T>(mut lines: Vec<T>, limit: usize) -> Page<T> {
    // A page of no lines would go on for ever.
    let more = limit > 0 && lines.len() > limit;
    lines.truncate(limit);
    Page { lines, more }
}

pub(crate) async fn create(core: &Core, name: &str, owner: &str) -> Result<Bucket> {
    let random = &*core.host.random;
    let id = BucketId::from_random(random_array(random));
    // Apply decides; only the newest key version comes from this state, and a newcomer's may have none yet.
    let (key, kek) = core.keys.new_bucket_key(&*core.group.read().await?, id, random)?;
    let (name, owner) = (name.to_owned(), owner.to_owned());
    let command = Command::CreateBucket { name: name.clone(), id, owner: owner.clone(), key, kek };
    match core.group.propose(command, None).await? {
        Answer::Committed(created) => Ok(Bucket { name, id, owner, created }),
        other => Err(Error::Unknown { why: format!("the creation of bucket {name} answered {other:?}") }),
    }
}

pub(crate) async fn delete(core: &Core, name: &str) -> Result<()> {
    let view = core.group.read().await?;
    let row = query::bucket(&*view, name)?.ok_or(Rejection::NoSuchBucket)?;
    let usage: UsageRow = query::get(&*view, &key::usage(row.id))?.unwrap_or_default();
    // Nothing is aborted for a deletion that cannot be.
    if usage.objects > 0 {
        return Err(Rejection::BucketNotEmpty.into());
    }
    drop(view);
    loop {
        let uploads = query::uploads(&*core.group.local()?, row.id, "", None, ABORT_PAGE)?;
        let full = uploads.len() == ABORT_PAGE;
        for (key, upload, _) in uploads {
            let command = Command::AbortUpload { bucket: row.id, key, upload };
            match core.group.propose(command, None).await {
                Ok(_) | Err(benteng_consensus::Error::Rejected(Rejection::NoSuchUpload)) => {}
                Err(e) => return Err(e.into()),
            }
        }
        if !full {
            break;
        }
    }
    core.group.propose(Command::DeleteBucket { name: name.to_owned() }, None).await?;
    Ok(())
}

pub(crate) async fn usage(core: &Core, bucket: &Bucket) -> Result<UsageRow> {
    let row: Option<UsageRow> = query::get(&*core.group.read().await?, &key::usage(bucket.id))?;
    Ok(row.ok_or(Rejection::NoSuchBucket)?)
}

pub(crate) async fn list(
    core: &Core,
    bucket: &Bucket,
    options: &ListOptions,
) -> Result<Page<Listed<ObjectRow>>> {
    let view = core.group.read().await?;
    row(&*view, bucket)?;
    if options.limit == 0 {
        return Ok(Page { lines: Vec::new(), more: false });
    }
    let after = match &options.after {
        ListAfter::Start => After::Start,
        ListAfter::Key(key) => After::Key(key),
        ListAfter::Line(line) => After::Line(line),
    };
    let ListOptions { prefix, delimiter, limit, .. } = options;
    let (lines, more) = query::list_objects(&*view, bucket.id, prefix, delimiter, after, *limit)?;
    Ok(Page { lines, more })
}

pub(crate) async fn delete_objects(
    core: &Arc<Core>,
    bucket: &Bucket,
    keys: Vec<DeleteKey>,
) -> Result<Vec<std::result::Result<(), Rejection>>> {
    let mut results = Vec::with_capacity(keys.len());
    for keys in keys.chunks(DELETE_MAX) {
        let command = Command::DeleteObjects { bucket: bucket.id, keys: keys.to_vec() };
        match core.group.propose(command, None).await? {
            Answer::Deleted(of_these) => results.extend(of_these),
            other => return Err(Error::Unknown { why: format!("the deletion answered {other:?}") }),
        }
    }
    Ok(results)
}
