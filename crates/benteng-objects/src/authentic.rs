//! Whether a stored copy is what its writer sealed: checksums can lie, authentication cannot (I4).
//! Every node has the keys, so repair copies only what authenticates.

use std::sync::Arc;

use benteng_host::{KvView, compute, prefix_end};
use benteng_keys::Opener;
use benteng_meta::ids::*;
use benteng_meta::{BlobRow, Body, BucketRow, PartRow, UploadRow, codec, key, query};
use bytes::Bytes;

use crate::Result;
use crate::copy::{Chunk, CopyError};
use crate::core::Core;
use crate::keyring::Keys;

/// Chunks beyond this are opened on the pool.
const OFFLOAD: usize = 64 << 10;

/// What opens the chunks of one attempt.
pub(crate) struct Judge(Arc<Opener>);

/// What judges copies of `chunk`; `None`: no live row names it.
///
/// Errors: the state cannot be read, or a key is destroyed.
pub(crate) fn judge(core: &Core, chunk: ChunkId) -> Result<Option<Judge>> {
    let view = core.group.local()?;
    let Some(row) = part(&*view, chunk)? else { return Ok(None) };
    let Some((bucket, dek)) = wrapped_key(&*view, chunk.blob)? else { return Ok(None) };
    let buckets = query::all::<BucketRow>(&*view, key::Table::Bucket)?;
    let Some((_, bucket)) = buckets.into_iter().find(|(_, row)| row.id == bucket) else { return Ok(None) };
    let key = core.keys.bucket_key(&*view, &bucket)?;
    let key = Keys::dek(&key, chunk.blob, &dek)?.part_key(chunk.part, row.attempt, &row.salt);
    let opener = Opener::new(key, chunk.blob, chunk.part, row.attempt, row.size);
    Ok(Some(Judge(Arc::new(opener))))
}

fn part(view: &dyn KvView, chunk: ChunkId) -> Result<Option<PartRow>> {
    let own = |part: &PartRow| part.attempt == chunk.attempt;
    if let Some(part) = query::part(view, chunk.blob, chunk.part)?.filter(own) {
        return Ok(Some(part));
    }
    let single = query::blob(view, chunk.blob)?.and_then(|row| match row.body {
        Body::Single(part) if chunk.part == PartNumber(1) => Some(part),
        Body::Single(_) | Body::Inline(_) | Body::Multipart(_) => None,
    });
    Ok(single.filter(own))
}

/// The bucket of a blob, or of an upload under way, and its wrapped key.
fn wrapped_key(view: &dyn KvView, blob: BlobId) -> Result<Option<(BucketId, Bytes)>> {
    if let Some(BlobRow { bucket, dek, .. }) = query::blob(view, blob)? {
        return Ok(Some((bucket, dek)));
    }
    // Uploads are found by bucket and key; those under way are few.
    let table = key::table(key::Table::Upload);
    let (mut found, mut failed) = (None, None);
    view.scan(&table, &prefix_end(&table), &mut |row_key, value| {
        if key::split_upload(row_key).is_none_or(|(_, upload)| upload != blob) {
            return benteng_host::Visit::Continue(());
        }
        let bucket = row_key.get(1..17).and_then(|id| id.first_chunk::<16>());
        match (bucket, codec::decode::<UploadRow>(value)) {
            (Some(id), Ok(row)) => found = Some((BucketId(uuid::Uuid::from_bytes(*id)), row.dek)),
            (None, _) => {}
            (_, Err(e)) => failed = Some(e),
        }
        benteng_host::Visit::Break(())
    })
    .map_err(benteng_meta::Error::from)?;
    failed.map_or(Ok(found), |e| Err(e.into()))
}

impl Judge {
    /// Whether all frames of a copy authenticate.
    pub(crate) async fn is_authentic(
        &self,
        core: &Core,
        copy: &Chunk,
    ) -> std::result::Result<bool, CopyError> {
        let (opener, sequence, bytes) = (self.0.clone(), copy.id.sequence, copy.bytes.clone());
        let len = bytes.len();
        let open = move || {
            let plain = opener.open_frames(sequence, 0, bytes);
            let wanted = opener.layout().chunk_plain(sequence);
            plain.is_ok_and(|plain| plain.len() == wanted)
        };
        if len <= OFFLOAD {
            return Ok(open());
        }
        compute(&*core.host.tasks, "authenticate", open).await.map_err(|e| CopyError::Failed(e.to_string()))
    }
}
