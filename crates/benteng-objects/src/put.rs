//! PUT of an object, and COPY, which is a GET that feeds one.

use std::sync::Arc;

use benteng_host::random_array;
use benteng_meta::ids::*;
use benteng_meta::{
    Answer, ChecksumKind, Command, Condition, Described, ETag, NewBody, PutObject, Rejection,
};
use futures::StreamExt;

use crate::commit::{PartFacts, commit_chunks};
use crate::core::Core;
use crate::get::{Purpose, open};
use crate::keyring::Keys;
use crate::read::Ahead;
use crate::write::{Incoming, Place, Stored, StoredBytes, store_body};
use crate::{
    BodyError, BodyIn, Bucket, CopySource, Error, GetOptions, Got, PutDone, PutOptions, Result, SentChecksum,
    bucket,
};

/// Stores an object.
pub(crate) async fn put(
    core: &Arc<Core>,
    to: &Bucket,
    key: &str,
    options: PutOptions,
    body: BodyIn,
) -> Result<PutDone> {
    let PutOptions { described, condition, content_md5, checksum, length } = options;
    let default_kind = ChecksumKind::Crc64Nvme;
    let incoming = Incoming { body, length, content_md5, checksum, default_kind };
    store(core, to, key, described, condition, incoming).await
}

async fn store(
    core: &Arc<Core>,
    to: &Bucket,
    key: &str,
    described: Described,
    condition: Condition,
    incoming: Incoming,
) -> Result<PutDone> {
    // Refused before the body is read; apply decides again.
    if !(1..=1024).contains(&key.len()) {
        return Err(Rejection::InvalidKey.into());
    }
    let (bucket_key, kek) = bucket::fresh_key(core, to).await?;
    let random = &*core.host.random;
    let blob = BlobId::from_random(random_array(random));
    let (dek, wrapped) = Keys::new_dek(&bucket_key, blob, random);
    let place = Place { dek: &dek, part: PartNumber(1), inline: Some(core.limits.inline) };
    let Stored { size, md5, checksum, bytes } = store_body(core, &place, incoming).await?;

    let etag = ETag { md5, parts: None };
    let make = |body| {
        Command::PutObject(Box::new(PutObject {
            bucket: to.id,
            key: key.to_owned(),
            blob,
            condition: condition.clone(),
            dek: wrapped.clone(),
            kek,
            etag,
            size,
            checksum: Some(checksum.clone()),
            described: described.clone(),
            body,
        }))
    };
    let modified = match bytes {
        StoredBytes::Inline(sealed) => match core.group.propose(make(NewBody::Inline(sealed)), None).await? {
            Answer::Committed(at) => at,
            other => return Err(Error::Unknown { why: format!("the commit answered {other:?}") }),
        },
        StoredBytes::Chunks(stored) => {
            let part = PartNumber(1);
            let facts = PartFacts { blob, part, size, md5, checksum: Some(checksum.clone()) };
            commit_chunks(core, &facts, stored, |part| make(NewBody::Chunks(part))).await?
        }
    };
    metrics::counter!("benteng_objects_puts_total").increment(1);
    metrics::counter!("benteng_objects_put_bytes_total").increment(size);
    Ok(PutDone { etag, checksum: Some(checksum), modified })
}

/// Opens the source of a copy and turns it into a body.
pub(crate) async fn open_source(core: &Arc<Core>, from: CopySource) -> Result<(Got, BodyIn, u64)> {
    let CopySource { bucket, key, range, condition } = from;
    let options = GetOptions { range, part: None, condition };
    let mut got = open(core, &bucket, &key, &options, Purpose::Source, Ahead::None).await?;
    let length = got.range.map_or(got.size, |range| range.end - range.start);
    let body = std::mem::replace(&mut got.body, Box::pin(futures::stream::empty()));
    // The reader says in its log why it broke off; the writer only needs to know that it did.
    let body = body.map(|piece| piece.map_err(|_| BodyError::Incomplete));
    Ok((got, Box::pin(body), length))
}

/// A source that broke off is our trouble, not the client's.
pub(crate) fn source_failed(error: Error) -> Error {
    match error {
        Error::Body(_) => {
            Error::Unavailable { why: "the source of the copy cannot be read to its end".to_owned() }
        }
        error => error,
    }
}

/// Copies an object.
pub(crate) async fn copy(
    core: &Arc<Core>,
    from: CopySource,
    to: &Bucket,
    key: &str,
    described: Option<Described>,
    condition: Condition,
    checksum: Option<ChecksumKind>,
) -> Result<PutDone> {
    let (got, body, length) = open_source(core, from).await?;
    // The algorithm of the source is kept; a composite value is not, since the copy has one part.
    let of_source = got.checksum.as_ref().map(|checksum| checksum.kind);
    let default_kind = checksum.or(of_source).unwrap_or(ChecksumKind::Crc64Nvme);
    let described = described.unwrap_or(got.described);
    let (content_md5, length) = (None, Some(length));
    let incoming = Incoming { body, length, content_md5, checksum: SentChecksum::None, default_kind };
    store(core, to, key, described, condition, incoming).await.map_err(source_failed)
}
