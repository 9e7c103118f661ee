//! GET and HEAD: look up at a read index, hold conditions, resolve the range, read.

use std::ops::Range;
use std::sync::Arc;

use benteng_host::{KvView, probe};
use benteng_keys::Dek;
use benteng_meta::ids::*;
use benteng_meta::{BlobRow, Body, ObjectRow, Rejection, query};
use bytes::Bytes;

use crate::core::Core;
use crate::keyring::Keys;
use crate::read::{Ahead, Reading, Segment};
use crate::{BodyOut, Bucket, ByteRange, Error, GetOptions, Got, Result, bucket, range};

/// How often an object whose chunks are gone is looked up again (O5).
const LOOKUPS: usize = 3;

/// An object as a view shows it, and what of it is asked for.
pub(crate) struct Found {
    pub(crate) object: ObjectRow,
    pub(crate) blob: BlobRow,
    pub(crate) range: Option<ByteRange>,
    dek: Dek,
    source: Source,
}

enum Source {
    Inline(Bytes, Range<u64>),
    Chunks(Vec<Segment>),
}

/// What the conditions of a request are held to.
#[derive(Clone, Copy)]
pub(crate) enum Purpose {
    /// An answer: what has not changed is a 304.
    Answer,
    /// A copy: what has not changed is a 412.
    Source,
}

/// Looks an object up. Errors: `NoSuchBucket`, `NoSuchKey`, those of [`range::check`] and
/// [`range::resolve`], `Key`.
pub(crate) fn look_up(
    core: &Core,
    view: &dyn KvView,
    of: &Bucket,
    key: &str,
    options: &GetOptions,
    purpose: Purpose,
) -> Result<Found> {
    let (bucket_key, _) = bucket::open_key(core, view, of)?;
    let object = query::object(view, of.id, key)?.ok_or(Rejection::NoSuchKey)?;
    match purpose {
        Purpose::Answer => range::check(&options.condition, &object)?,
        Purpose::Source => range::check_source(&options.condition, &object)?,
    }
    let unreadable =
        || benteng_meta::Error::Decode { what: "object", why: format!("blob {} is not there", object.blob) };
    let blob = query::blob(view, object.blob)?.ok_or_else(unreadable)?;
    let range = asked_range(options, &blob)?;
    let whole = ByteRange { start: 0, end: blob.size };
    let source = source(view, object.blob, &blob, range.unwrap_or(whole))?;
    let dek = Keys::blob_dek(&bucket_key, object.blob, &blob)?;
    Ok(Found { object, blob, range, dek, source })
}

fn asked_range(options: &GetOptions, blob: &BlobRow) -> Result<Option<ByteRange>> {
    match (options.range, options.part) {
        (None, None) => Ok(None),
        (Some(_), Some(_)) => Err(Error::Invalid("a range and a part number exclude each other".to_owned())),
        (Some(asked), None) => range::resolve(asked, blob.size).map(Some),
        (None, Some(number)) => part_range(blob, number).map(Some),
    }
}

/// Where a part lies. What was not uploaded in parts is its own part 1.
fn part_range(blob: &BlobRow, number: u16) -> Result<ByteRange> {
    if let Body::Multipart(parts) = &blob.body {
        let mut start = 0_u64;
        for (part, size) in parts {
            let end = start.saturating_add(*size);
            if part.0 == number {
                return Ok(ByteRange { start, end });
            }
            start = end;
        }
    } else if number == 1 {
        return Ok(ByteRange { start: 0, end: blob.size });
    }
    Err(Error::RangeUnsatisfiable { size: blob.size })
}

fn source(view: &dyn KvView, id: BlobId, blob: &BlobRow, range: ByteRange) -> Result<Source> {
    match &blob.body {
        Body::Inline(sealed) => Ok(Source::Inline(sealed.clone(), range.start..range.end)),
        Body::Single(row) => {
            let segment = Segment { number: PartNumber(1), row: row.clone(), range: range.start..range.end };
            Ok(Source::Chunks(vec![segment]))
        }
        Body::Multipart(parts) => {
            let mut segments = Vec::new();
            for (number, within) in overlapping(parts, range) {
                let missing = || benteng_meta::Error::Decode {
                    what: "blob",
                    why: format!("part {number} of blob {id} is not there"),
                };
                let row = query::part(view, id, number)?.ok_or_else(missing)?;
                segments.push(Segment { number, row, range: within });
            }
            Ok(Source::Chunks(segments))
        }
    }
}

/// The parts that `range` touches, and which of their own bytes.
fn overlapping(parts: &[(PartNumber, u64)], range: ByteRange) -> Vec<(PartNumber, Range<u64>)> {
    let mut start = 0_u64;
    let mut out = Vec::new();
    for (number, size) in parts {
        let end = start.saturating_add(*size);
        let (from, to) = (range.start.max(start), range.end.min(end));
        if from < to {
            out.push((*number, from - start..to - start));
        }
        start = end;
    }
    out
}

fn got(found: &Found, body: BodyOut) -> Got {
    let parts = match &found.blob.body {
        // 10,000 parts at most.
        Body::Multipart(parts) => u16::try_from(parts.len()).ok(),
        Body::Inline(_) | Body::Single(_) => None,
    };
    Got {
        size: found.object.size,
        etag: found.object.etag,
        modified: found.object.modified,
        checksum: found.blob.checksum.clone(),
        described: found.blob.described.clone(),
        parts,
        range: found.range,
        body,
    }
}

pub(crate) async fn head(core: &Core, of: &Bucket, key: &str, options: &GetOptions) -> Result<Got> {
    let view = core.group.read().await?;
    let found = look_up(core, &*view, of, key, options, Purpose::Answer)?;
    Ok(got(&found, Box::pin(futures::stream::empty())))
}

/// Opens an object for reading; the first bytes are there when this returns.
pub(crate) async fn open(
    core: &Arc<Core>,
    of: &Bucket,
    key: &str,
    options: &GetOptions,
    purpose: Purpose,
    ahead: Ahead,
) -> Result<Got> {
    let mut tries = 0;
    loop {
        // The floor first: from here on nothing that the view shows is removed (O5).
        let floor = core.hold_floor();
        let view = core.group.read().await?;
        let mut found = look_up(core, &*view, of, key, options, purpose)?;
        drop(view);
        let source = std::mem::replace(&mut found.source, Source::Chunks(Vec::new()));
        let segments = match source {
            Source::Inline(sealed, within) => {
                let plain = found.dek.open_inline(&sealed)?;
                return Ok(got(&found, inline(&plain, within)?));
            }
            Source::Chunks(segments) => segments,
        };
        let mut reading = Reading::new(core, floor, found.object.blob, &found.dek, segments, ahead)?;
        tries += 1;
        match reading.begin().await {
            Ok(()) => return Ok(got(&found, reading.into_stream())),
            // Overwritten or deleted since, most likely.
            Err(Error::Unreadable { .. }) if tries < LOOKUPS => probe("looked_up_again"),
            Err(e) => return Err(e),
        }
    }
}

fn inline(plain: &Bytes, within: Range<u64>) -> Result<BodyOut> {
    let at = |n: u64| usize::try_from(n).unwrap_or(usize::MAX).min(plain.len());
    let bytes = plain.slice(at(within.start)..at(within.end).max(at(within.start)));
    if u64::try_from(bytes.len()).ok() != within.end.checked_sub(within.start) {
        // I4: shorter than its row says.
        let why = format!("an inline body has {} bytes, its row says more", plain.len());
        return Err(benteng_meta::Error::Decode { what: "blob", why }.into());
    }
    let piece = (!bytes.is_empty()).then_some(Ok(bytes));
    Ok(Box::pin(futures::stream::iter(piece)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_range_is_the_sum_of_its_shares_of_parts(
            sizes in proptest::collection::vec(0_u64..20, 1..8), a in 0_u64..160, b in 0_u64..160,
        ) {
            let parts: Vec<(PartNumber, u64)> =
                sizes.iter().enumerate().map(|(i, size)| (PartNumber(1 + 2 * i as u16), *size)).collect();
            let total: u64 = sizes.iter().sum();
            let (start, end) = (a.min(b).min(total), a.max(b).min(total));
            let bytes = |number: PartNumber, within: Range<u64>| within.map(move |n| (number, n)).collect::<Vec<_>>();
            let whole: Vec<_> = parts.iter().flat_map(|(number, size)| bytes(*number, 0..*size)).collect();
            let shares = overlapping(&parts, ByteRange { start, end });
            let read: Vec<_> = shares.into_iter().flat_map(|(number, within)| bytes(number, within)).collect();
            prop_assert_eq!(read.as_slice(), &whole[start as usize..end as usize]);
        }
    }

    #[test]
    fn a_part_is_found_by_its_number_and_nothing_else() {
        let blob = |body| BlobRow {
            bucket: BucketId::default(),
            key: String::new(),
            size: 30,
            dek: Bytes::new(),
            checksum: None,
            described: Default::default(),
            body,
        };
        let parts = blob(Body::Multipart(vec![(PartNumber(2), 10), (PartNumber(7), 20)]));
        let check = |blob: &BlobRow, number, expected: Option<(u64, u64)>| {
            assert_eq!(part_range(blob, number).ok().map(|r| (r.start, r.end)), expected, "part {number}");
        };
        check(&parts, 2, Some((0, 10)));
        check(&parts, 7, Some((10, 30)));
        check(&parts, 1, None);
        let whole = blob(Body::Inline(Bytes::new()));
        check(&whole, 1, Some((0, 30)));
        check(&whole, 2, None);
        check(&whole, 0, None);
    }
}
