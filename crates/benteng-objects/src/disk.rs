//! This node's own chunk store, as the rest of the crate sees it: the one file that knows
//! the types of `benteng_chunks`.

use std::ops::Range;
use std::sync::Arc;

use benteng_chunks::Store;
use benteng_meta::ids::*;
use bytes::Bytes;

use crate::copy::{Chunk, CopyError};

/// The store of this node.
#[derive(Clone)]
pub(crate) struct Disk(pub(crate) Arc<Store>);

/// How full it is.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Fill {
    /// Size of the disk, bytes.
    pub(crate) total: u64,
    /// Free on it, bytes.
    pub(crate) free: u64,
    /// Chunks kept.
    pub(crate) chunks: u64,
    /// Their ciphertext, bytes.
    pub(crate) bytes: u64,
    /// Whether it takes no chunks for want of room (O6).
    pub(crate) under_reserve: bool,
}

impl Fill {
    /// How much of the disk is used, in percent.
    pub(crate) fn used_percent(&self) -> u64 {
        100 - self.free.saturating_mul(100).checked_div(self.total).unwrap_or(100).min(100)
    }
}

fn said(id: ChunkId, error: benteng_chunks::Error) -> CopyError {
    use benteng_chunks::Error as E;
    match error {
        // What was removed is looked up again, like what never was here (O5).
        E::NotFound { .. } | E::Removed { .. } => CopyError::Missing,
        E::Corrupt { .. } => CopyError::Damaged,
        E::Full { .. } => CopyError::Full,
        e if e.is_retryable() => CopyError::Full,
        e => CopyError::Failed(format!("chunk {id}: {e}")),
    }
}

#[expect(clippy::needless_pass_by_value, reason = "shaped for map_err")]
fn failed(error: benteng_chunks::Error) -> CopyError {
    CopyError::Failed(error.to_string())
}

impl Disk {
    /// Its id.
    pub(crate) fn id(&self) -> StoreId {
        self.0.id()
    }

    /// Keeps a chunk; returns once it is durable.
    pub(crate) async fn append(&self, chunk: Chunk) -> Result<(), CopyError> {
        let id = chunk.id;
        let new = benteng_chunks::NewChunk {
            id,
            origin: chunk.origin,
            frame_bytes: chunk.frame_bytes,
            frame_crcs: chunk.frame_crcs,
            bytes: vec![chunk.bytes],
        };
        self.0.append(new).await.map_err(|e| said(id, e))
    }

    /// Whole frames of a chunk, their checksums verified.
    pub(crate) async fn read(&self, id: ChunkId, frames: Range<u32>) -> Result<Bytes, CopyError> {
        self.0.read(id, frames).await.map_err(|e| said(id, e))
    }

    /// A whole chunk with its header, its checksums verified.
    pub(crate) async fn fetch(&self, id: ChunkId) -> Result<Chunk, CopyError> {
        let header = self.0.header(id).await.map_err(|e| said(id, e))?;
        let frames = u32::try_from(header.frame_crcs.len()).unwrap_or(u32::MAX);
        let bytes = self.read(id, 0..frames).await?;
        let (origin, frame_bytes, frame_crcs) = (header.origin, header.frame_bytes, header.frame_crcs);
        Ok(Chunk { id, origin, frame_bytes, frame_crcs, bytes })
    }

    /// Who wrote a chunk that is here and not quarantined.
    pub(crate) fn stat(&self, id: ChunkId) -> Result<Option<Origin>, CopyError> {
        let info = self.0.stat(id).map_err(failed)?;
        Ok(info.filter(|info| !info.quarantined).map(|info| info.origin))
    }

    /// Chunks after `after` in order of their ids.
    pub(crate) fn list(
        &self,
        after: Option<ChunkId>,
        limit: usize,
    ) -> Result<Vec<(ChunkId, Origin)>, CopyError> {
        let listed = self.0.list(after, limit).map_err(failed)?;
        Ok(listed.into_iter().map(|(id, info)| (id, info.origin)).collect())
    }

    /// Of the next `limit` chunks after `after`: those that are not damaged; and the last of them, if there is one.
    pub(crate) fn good(
        &self,
        after: Option<ChunkId>,
        limit: usize,
    ) -> Result<(Vec<ChunkId>, Option<ChunkId>), CopyError> {
        let listed = self.0.list(after, limit).map_err(failed)?;
        let last = listed.last().map(|(id, _)| *id);
        let good = listed.into_iter().filter(|(_, info)| !info.quarantined);
        Ok((good.map(|(id, _)| id).collect(), last))
    }

    /// Removes chunks for good: their ids are refused from now on.
    pub(crate) async fn remove(&self, ids: Vec<ChunkId>) -> Result<(), CopyError> {
        for id in &ids {
            let attempt = || u128::from(id.attempt.0) << 16 | u128::from(id.part.0);
            benteng_host::witness("removed", id.blob.0.as_u128(), attempt);
        }
        self.0.remove(ids).await.map_err(failed)
    }

    /// Gives chunks up that others hold; their ids may come back.
    pub(crate) async fn evict(&self, ids: Vec<ChunkId>) -> Result<(), CopyError> {
        self.0.evict(ids).await.map_err(failed)
    }

    /// Keeps a chunk apart whose checksums are good and that does not authenticate.
    pub(crate) async fn doubt(&self, id: ChunkId) -> Result<(), CopyError> {
        self.0.doubt(id).await.map_err(|e| said(id, e))
    }

    /// Whether a damaged copy of it is kept apart here.
    pub(crate) fn is_quarantined(&self, id: ChunkId) -> Result<bool, CopyError> {
        Ok(self.0.stat(id).map_err(failed)?.is_some_and(|info| info.quarantined))
    }

    /// What was kept under `name`; it may be older after a crash.
    pub(crate) fn note(&self, name: &str) -> Result<Option<Bytes>, CopyError> {
        self.0.note(name).map_err(failed)
    }

    /// Keeps a few bytes under `name`.
    pub(crate) async fn keep_note(&self, name: &str, note: Bytes) -> Result<(), CopyError> {
        self.0.keep_note(name, note).await.map_err(failed)
    }

    /// Gives room back that removed chunks took. Returns whether there may be more: a segment that
    /// could not go, since a removal of its chunks is still being written, would be tried in vain at once.
    pub(crate) async fn clean(&self) -> Result<bool, CopyError> {
        Ok(self.0.clean().await.map_err(failed)?.released_bytes > 0)
    }

    /// Reads `budget` bytes of chunks after `after` again; says where to go on (`None`: at the
    /// beginning) and what is damaged.
    pub(crate) async fn scrub(
        &self,
        after: Option<ChunkId>,
        budget: u64,
    ) -> Result<benteng_chunks::Scrubbed, CopyError> {
        self.0.scrub(after, budget).await.map_err(failed)
    }

    /// Reads what stands around the chunks of the first segment behind `after` again.
    pub(crate) async fn scrub_segment(
        &self,
        after: u64,
    ) -> Result<benteng_chunks::SegmentScrubbed, CopyError> {
        self.0.scrub_segment(after).await.map_err(failed)
    }

    /// Looks at the device now; appends look by themselves.
    pub(crate) async fn look(&self) -> Result<(), CopyError> {
        self.0.look().await.map_err(failed)
    }

    /// How full it is.
    pub(crate) fn fill(&self) -> Fill {
        let usage = self.0.usage();
        let (total, free) = (usage.device_total, usage.device_free);
        let under_reserve = usage.under_reserve;
        Fill { total, free, chunks: usage.chunks, bytes: usage.live_bytes, under_reserve }
    }

    /// Chunks that are damaged and kept apart.
    pub(crate) fn quarantined(&self) -> Vec<ChunkId> {
        self.0.quarantined()
    }
}
