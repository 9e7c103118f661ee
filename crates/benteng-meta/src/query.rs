//! Read-only questions to a view of the state. Each costs what its answer holds, not what the table holds.

use benteng_host::{KvView, Visit, prefix_end};
use bytes::Bytes;

use crate::codec::{self, Versioned};
use crate::ids::*;
use crate::row::*;
use crate::{Error, Result, key};

/// The row at `key`.
pub fn get<T: Versioned>(view: &dyn KvView, key: &[u8]) -> Result<Option<T>> {
    view.get(key)?.map(|value| codec::decode(&value)).transpose()
}

/// Keys and rows that start with `prefix` and come after `after` (a whole key), at most `limit`.
pub fn page<T: Versioned>(
    view: &dyn KvView,
    prefix: &[u8],
    after: Option<&[u8]>,
    limit: usize,
) -> Result<Vec<(Bytes, T)>> {
    let from = after.map_or_else(|| prefix.to_vec(), |after| [after, &[0]].concat());
    let from = from.max(prefix.to_vec());
    let mut out = Vec::new();
    let mut failed: Option<Error> = None;
    if limit == 0 {
        return Ok(out);
    }
    view.scan(&from, &prefix_end(prefix), &mut |key, value| {
        match codec::decode(value) {
            Ok(row) => out.push((Bytes::copy_from_slice(key), row)),
            Err(e) => failed = Some(e),
        }
        if failed.is_some() || out.len() >= limit { Visit::Break(()) } else { Visit::Continue(()) }
    })?;
    failed.map_or(Ok(out), Err)
}

/// Every row of a small table.
pub fn all<T: Versioned>(view: &dyn KvView, table: key::Table) -> Result<Vec<(Bytes, T)>> {
    page(view, &key::table(table), None, usize::MAX)
}

/// The group's clock and counters.
pub fn clock(view: &dyn KvView) -> Result<ClockRow> {
    Ok(get(view, &key::clock())?.unwrap_or_default())
}

/// The site; `None` before it is formed.
pub fn site(view: &dyn KvView) -> Result<Option<SiteRow>> {
    get(view, &key::site())
}

/// All nodes ever, removed ones too.
pub fn nodes(view: &dyn KvView) -> Result<Vec<(NodeId, NodeRow)>> {
    let id = |key: &[u8]| key.last_chunk::<8>().map(|n| NodeId(u64::from_be_bytes(*n)));
    Ok(all::<NodeRow>(view, key::Table::Node)?
        .into_iter()
        .filter_map(|(k, row)| Some((id(&k)?, row)))
        .collect())
}

/// The placement of a group.
pub fn placement(view: &dyn KvView, group: PlacementGroup) -> Result<PlacementRow> {
    Ok(get(view, &key::placement(group))?.unwrap_or_default())
}

/// The placement of all groups, by number.
pub fn placements(view: &dyn KvView) -> Result<Vec<(PlacementGroup, PlacementRow)>> {
    let group = |key: &[u8]| key.last_chunk::<2>().map(|n| PlacementGroup(u16::from_be_bytes(*n)));
    let rows = all::<PlacementRow>(view, key::Table::Placement)?;
    Ok(rows.into_iter().filter_map(|(key, row)| Some((group(&key)?, row))).collect())
}

/// The command that changed a placement last. Two views of one site that agree in it hold the same placements;
/// `None` says nothing: the site is not formed, or an older binary formed it and none has changed since.
pub fn placements_changed(view: &dyn KvView) -> Result<Option<StateSeq>> {
    let row: Option<PlacementsChangedRow> = get(view, &key::placements_changed())?;
    Ok(row.map(|row| row.at))
}

/// The least floor of all living readers and the least removal of all stores that are not removed.
/// A node that never published holds both at zero; a voided floor holds nothing (O5).
pub fn floors(view: &dyn KvView) -> Result<(StateSeq, StateSeq)> {
    let (mut floor, mut removed) = (StateSeq(u64::MAX), StateSeq(u64::MAX));
    for (id, node) in nodes(view)? {
        if node.state == NodeState::Removed {
            continue;
        }
        let row: Option<FloorRow> = get(view, &key::floor(id))?;
        let reads = row.filter(|row| !row.void).map(|row| row.floor);
        floor = floor.min(reads.unwrap_or(if row.is_some() { StateSeq(u64::MAX) } else { StateSeq(0) }));
        removed = removed.min(row.map_or(StateSeq(0), |row| row.removed));
    }
    Ok((floor, removed))
}

/// A bucket by name.
pub fn bucket(view: &dyn KvView, name: &str) -> Result<Option<BucketRow>> {
    get(view, &key::bucket(name))
}

/// Buckets in order of their names, after `after`, that start with `prefix`, at most `limit`.
pub fn buckets(
    view: &dyn KvView,
    prefix: &str,
    after: Option<&str>,
    limit: usize,
) -> Result<Vec<(String, BucketRow)>> {
    let rows = page(view, &key::bucket(prefix), after.map(key::bucket).as_deref(), limit)?;
    let name = |key: &[u8]| String::from_utf8(key.get(1..)?.to_vec()).ok();
    Ok(rows.into_iter().filter_map(|(key, row)| Some((name(&key)?, row))).collect())
}

/// The current version of an object.
pub fn object(view: &dyn KvView, bucket: BucketId, key: &str) -> Result<Option<ObjectRow>> {
    get(view, &key::object(bucket, key.as_bytes()))
}

/// A blob.
pub fn blob(view: &dyn KvView, blob: BlobId) -> Result<Option<BlobRow>> {
    get(view, &key::blob(blob))
}

/// A part of an upload or of a completed upload.
pub fn part(view: &dyn KvView, blob: BlobId, number: PartNumber) -> Result<Option<PartRow>> {
    get(view, &key::part(blob, Some(number)))
}

/// Parts of an upload after number `after`, ascending, at most `limit`.
pub fn parts(
    view: &dyn KvView,
    blob: BlobId,
    after: u16,
    limit: usize,
) -> Result<Vec<(PartNumber, PartRow)>> {
    let after = key::part(blob, Some(PartNumber(after)));
    let rows = page(view, &key::part(blob, None), Some(&after), limit)?;
    let number = |key: &[u8]| key.last_chunk::<2>().map(|n| PartNumber(u16::from_be_bytes(*n)));
    Ok(rows.into_iter().filter_map(|(key, row)| Some((number(&key)?, row))).collect())
}

/// Whether a live row names the attempt: what stands between its chunks and removal (O1, C2).
pub fn names_attempt(view: &dyn KvView, blob: BlobId, number: PartNumber, attempt: Attempt) -> Result<bool> {
    if part(view, blob, number)?.is_some_and(|part| part.attempt == attempt) {
        return Ok(true);
    }
    if number != PartNumber(1) {
        return Ok(false);
    }
    let single = |row: BlobRow| matches!(row.body, Body::Single(part) if part.attempt == attempt);
    Ok(self::blob(view, blob)?.is_some_and(single))
}

/// One line of a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listed<T> {
    /// A row of its own.
    Row(String, T),
    /// All keys that share this prefix, up to and including the delimiter.
    Common(String),
}

impl<T> Listed<T> {
    /// The key or the common prefix: what the next page starts after.
    pub fn name(&self) -> &str {
        match self {
            Listed::Row(key, _) => key,
            Listed::Common(prefix) => prefix,
        }
    }
}

/// Where a listing goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum After<'a> {
    /// At the beginning.
    Start,
    /// After this key; keys of a group that this key lies in still form the group.
    Key(&'a str),
    /// After this line of an earlier page: a common prefix is passed as a whole.
    Line(&'a str),
}

/// A page of a bucket's objects in byte order of their keys.
///
/// `delimiter` folds keys into common prefixes; each costs one seek, whatever it holds.
/// Returns at most `limit` lines and whether more follow.
pub fn list_objects(
    view: &dyn KvView,
    bucket: BucketId,
    prefix: &str,
    delimiter: &str,
    after: After<'_>,
    limit: usize,
) -> Result<(Vec<Listed<ObjectRow>>, bool)> {
    let whole = key::object(bucket, prefix.as_bytes());
    let end = prefix_end(&whole);
    let row_key = |key: &[u8]| key::object(bucket, key).to_vec();
    let mut from = match after {
        After::Start => whole.to_vec(),
        After::Key(key) => [row_key(key.as_bytes()), vec![0]].concat(),
        After::Line(line) if is_common(line, prefix, delimiter) => prefix_end(&row_key(line.as_bytes())),
        After::Line(line) => [row_key(line.as_bytes()), vec![0]].concat(),
    }
    .max(whole.to_vec());
    let mut lines: Vec<Listed<ObjectRow>> = Vec::new();
    loop {
        // One seek: rows until a group begins, a page is full (one line more tells whether more follow), or the end.
        let mut group: Option<String> = None;
        let mut failed: Option<Error> = None;
        if !end.is_empty() && from >= end {
            break;
        }
        view.scan(&from, &end, &mut |row_key, value| {
            let Ok(key) = std::str::from_utf8(&row_key[key::OBJECT_PREFIX.min(row_key.len())..]) else {
                failed = Some(Error::Decode { what: ObjectRow::WHAT, why: "its key is not UTF-8".into() });
                return Visit::Break(());
            };
            let rest = key.get(prefix.len()..).unwrap_or_default();
            if !delimiter.is_empty()
                && let Some(at) = rest.find(delimiter)
            {
                group = Some(key[..prefix.len() + at + delimiter.len()].to_owned());
                return Visit::Break(());
            }
            match codec::decode(value) {
                Ok(row) => lines.push(Listed::Row(key.to_owned(), row)),
                Err(e) => failed = Some(e),
            }
            if failed.is_some() || lines.len() > limit { Visit::Break(()) } else { Visit::Continue(()) }
        })?;
        if let Some(e) = failed {
            return Err(e);
        }
        let Some(group) = group else { break };
        if lines.len() > limit {
            break;
        }
        from = prefix_end(&row_key(group.as_bytes()));
        lines.push(Listed::Common(group));
    }
    let more = lines.len() > limit;
    lines.truncate(limit);
    Ok((lines, more))
}

/// Whether a line is a common prefix: the first delimiter behind the prefix ends it. A key may
/// end in the delimiter without being one (prefix `/`, delimiter `//`, key `//`).
fn is_common(line: &str, prefix: &str, delimiter: &str) -> bool {
    let rest = line.strip_prefix(prefix).unwrap_or_default();
    !delimiter.is_empty() && rest.find(delimiter).is_some_and(|at| at + delimiter.len() == rest.len())
}

/// Uploads under way in a bucket, by key then id, whose key starts with `prefix`, after `after`.
pub fn uploads(
    view: &dyn KvView,
    bucket: BucketId,
    prefix: &str,
    after: Option<(&str, BlobId)>,
    limit: usize,
) -> Result<Vec<(String, BlobId, UploadRow)>> {
    let after = after.map(|(key, id)| key::upload(bucket, key.as_bytes(), id));
    let rows = page::<UploadRow>(view, &key::uploads(bucket, prefix.as_bytes()), after.as_deref(), limit)?;
    let split = |row_key: &[u8]| {
        let (key, id) = key::split_upload(row_key)?;
        Some((String::from_utf8(key.to_vec()).ok()?, id))
    };
    Ok(rows.into_iter().filter_map(|(k, row)| split(&k).map(|(key, id)| (key, id, row))).collect())
}

/// FNV-1a over every row of the state, in order: equal on all replicas at one sequence (I6).
pub fn state_hash(view: &dyn KvView) -> Result<u64> {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    let mut mix = |bytes: &[u8]| {
        for byte in bytes.len().to_be_bytes().iter().chain(bytes) {
            hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    };
    view.scan(&[], &[], &mut |key, value| {
        mix(key);
        mix(value);
        Visit::Continue(())
    })?;
    Ok(hash)
}

#[cfg(test)]
mod tests;
