//! One copy of a chunk on one node, here or elsewhere: the same calls for both.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use benteng_consensus::Group;
use benteng_host::{Clock, Mono};
use benteng_keys::{FRAME_CIPHER, Sealed, frame_crcs_match};
use benteng_meta::codec;
use benteng_meta::codec::Versioned;
use benteng_meta::ids::*;
use benteng_rpc::{Lane, Request, Rpc};
use bytes::Bytes;

use crate::compare::Digest;
use crate::disk::Disk;
use crate::fence;
use crate::wire::{self, Report, Vitals, method, refused};

/// A node that refused a chunk for want of room is not asked again for so long, unless it is needed.
const FULL_FOR: Duration = Duration::from_secs(2);

/// A chunk as it is stored: ciphertext, its checksums, who wrote it. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Chunk {
    /// Its id.
    pub(crate) id: ChunkId,
    /// Who wrote it.
    pub(crate) origin: Origin,
    /// Ciphertext bytes of a full frame.
    pub(crate) frame_bytes: u32,
    /// CRC32C of each frame.
    pub(crate) frame_crcs: Vec<u32>,
    /// Ciphertext.
    pub(crate) bytes: Bytes,
}

impl Chunk {
    /// What a gateway has just sealed.
    pub(crate) fn new(sealed: Sealed, origin: Origin) -> Chunk {
        let id = sealed.chunk;
        let frame_bytes = u32::try_from(FRAME_CIPHER).unwrap_or(u32::MAX);
        let frame_crcs = sealed.frame_crcs.clone();
        Chunk { id, origin, frame_bytes, frame_crcs, bytes: sealed.into_bytes() }
    }
}

/// Why one copy could not be written or read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CopyError {
    /// It is not there.
    #[error("it is not there")]
    Missing,
    /// It is there and damaged.
    #[error("it is damaged")]
    Damaged,
    /// The disk is full (O6).
    #[error("the disk is full")]
    Full,
    /// The writer's incarnation is over (I9).
    #[error("a newer incarnation of the gateway is committed")]
    Superseded,
    /// The reader's floor was voided (O5).
    #[error("the reader's floor was voided")]
    Voided,
    /// The node did not answer, or its store failed.
    #[error("{0}")]
    Failed(String),
}

/// The copies on all nodes.
#[derive(Clone)]
pub(crate) struct Copies {
    me: NodeId,
    disk: Disk,
    rpc: Arc<Rpc>,
    group: Group,
    /// Recovery epoch as this node knows it (S7).
    epoch: Arc<AtomicU64>,
    /// Nodes that refused a chunk for want of room, and when (O6).
    full: Arc<Mutex<BTreeMap<NodeId, Mono>>>,
    clock: Arc<dyn Clock>,
}

impl Copies {
    /// Seen from `me`.
    pub(crate) fn new(me: NodeId, disk: Disk, rpc: Arc<Rpc>, group: Group, clock: Arc<dyn Clock>) -> Copies {
        let epoch = Arc::new(AtomicU64::new(group.epoch()));
        Copies { me, disk, rpc, group, epoch, full: Arc::default(), clock }
    }

    /// This node's own store.
    pub(crate) fn disk(&self) -> &Disk {
        &self.disk
    }

    /// The recovery epoch that calls carry.
    pub(crate) fn epoch(&self) -> &AtomicU64 {
        &self.epoch
    }

    /// Whether a node is worth asking.
    pub(crate) fn up(&self, node: NodeId) -> bool {
        node == self.me || self.rpc.up(node)
    }

    /// Whether a node is worth writing to: one that is full counts as known to be down (O6).
    pub(crate) fn takes(&self, node: NodeId) -> bool {
        let full = self.full.lock().unwrap_or_else(PoisonError::into_inner);
        let refused = full.get(&node).is_some_and(|at| self.clock.now().since(*at) < FULL_FOR);
        drop(full);
        !refused && self.up(node)
    }

    /// Keeps a copy on `node`; returns on which disks it is durable.
    pub(crate) async fn put(
        &self,
        node: NodeId,
        chunk: Chunk,
        deadline: Duration,
    ) -> Result<StoreId, CopyError> {
        let done = self.put_on(node, chunk, deadline).await;
        let mut full = self.full.lock().unwrap_or_else(PoisonError::into_inner);
        match &done {
            Err(CopyError::Full) => drop(full.insert(node, self.clock.now())),
            Ok(_) => drop(full.remove(&node)),
            Err(_) => {}
        }
        drop(full);
        done
    }

    async fn put_on(&self, node: NodeId, chunk: Chunk, deadline: Duration) -> Result<StoreId, CopyError> {
        if node == self.me {
            fence::may_write(&self.group, chunk.origin)?;
            self.disk.append(chunk).await?;
            return Ok(self.disk.id());
        }
        let (id, origin, frame_bytes) = (chunk.id, chunk.origin, chunk.frame_bytes);
        let put = wire::Put { id, origin, frame_bytes, frame_crcs: chunk.frame_crcs };
        let parts = self.call(node, method::PUT, &put, vec![chunk.bytes], deadline).await?;
        Ok(answer::<wire::PutAnswer>(node, &parts)?.store)
    }

    /// Reads whole frames from the copy on `node`.
    pub(crate) async fn read(
        &self,
        node: NodeId,
        id: ChunkId,
        frames: Range<u32>,
        reader: Origin,
        deadline: Duration,
    ) -> Result<Bytes, CopyError> {
        if node == self.me {
            fence::may_read(&self.group, node, reader.incarnation)?;
            return self.disk.read(id, frames).await;
        }
        let read = wire::Read { id, start: frames.start, end: frames.end, reader: reader.incarnation };
        let mut parts = self.call(node, method::READ, &read, Vec::new(), deadline).await?;
        match (parts.pop(), parts.is_empty()) {
            (Some(bytes), true) => Ok(bytes),
            _ => Err(CopyError::Failed(format!("node {node} answered a read with no bytes"))),
        }
    }

    /// Fetches the whole copy on `node` as it is stored, and holds it against its checksums (I4).
    pub(crate) async fn fetch(
        &self,
        node: NodeId,
        id: ChunkId,
        deadline: Duration,
    ) -> Result<Chunk, CopyError> {
        if node == self.me {
            return self.disk.fetch(id).await;
        }
        let parts = self.call(node, method::FETCH, &wire::Fetch { id }, Vec::new(), deadline).await?;
        let put: wire::Put = answer(node, &parts)?;
        let bytes = parts.get(1).cloned().unwrap_or_default();
        if put.id != id || !frame_crcs_match(&bytes, &put.frame_crcs) {
            return Err(CopyError::Damaged);
        }
        let wire::Put { origin, frame_bytes, frame_crcs, .. } = put;
        Ok(Chunk { id, origin, frame_bytes, frame_crcs, bytes })
    }

    /// Forgets chunks of this gateway's own incarnation that nothing names.
    pub(crate) async fn forget(
        &self,
        node: NodeId,
        incarnation: Incarnation,
        ids: Vec<ChunkId>,
        deadline: Duration,
    ) -> Result<(), CopyError> {
        if node == self.me {
            let ids = fence::forgettable(&self.group, &self.disk, node, incarnation, ids)?;
            return self.disk.remove(ids).await;
        }
        let forget = wire::Forget { incarnation, ids };
        self.call(node, method::FORGET, &forget, Vec::new(), deadline).await.map(|_| ())
    }

    /// How another node's store and loops are.
    pub(crate) async fn report(
        &self,
        node: NodeId,
        deadline: Duration,
    ) -> Result<(Report, Option<Vitals>), CopyError> {
        let nothing = wire::Stat { ids: Vec::new() };
        let parts = self.call(node, method::REPORT, &nothing, Vec::new(), deadline).await?;
        let vitals = parts.get(1).and_then(|part| codec::decode(part).ok());
        Ok((answer(node, &parts)?, vitals))
    }

    /// Begins a full scrub on another node. Returns how many passes will have ended with it.
    pub(crate) async fn scrub(&self, node: NodeId, deadline: Duration) -> Result<u64, CopyError> {
        let nothing = wire::Stat { ids: Vec::new() };
        let parts = self.call(node, method::SCRUB, &nothing, Vec::new(), deadline).await?;
        Ok(answer::<wire::ScrubBegun>(node, &parts)?.pass)
    }

    /// Which of these chunks a node has, in good state as far as it knows.
    pub(crate) async fn stat(
        &self,
        node: NodeId,
        ids: Vec<ChunkId>,
        deadline: Duration,
    ) -> Result<Vec<bool>, CopyError> {
        let asked = ids.len();
        let parts = self.call(node, method::STAT, &wire::Stat { ids }, Vec::new(), deadline).await?;
        let present = answer::<wire::StatAnswer>(node, &parts)?.present;
        if present.len() != asked {
            return Err(CopyError::Failed(format!(
                "node {node} answers for {} of {asked} chunks",
                present.len()
            )));
        }
        Ok(present)
    }

    /// Digests of what a node has of these groups, in their order.
    pub(crate) async fn digests(
        &self,
        node: NodeId,
        groups: Vec<PlacementGroup>,
        deadline: Duration,
    ) -> Result<Vec<Digest>, CopyError> {
        let asked = groups.len();
        let digests = wire::Digests { groups };
        let parts = self.call(node, method::DIGESTS, &digests, Vec::new(), deadline).await?;
        let digests = answer::<wire::DigestsAnswer>(node, &parts)?.digests;
        if digests.len() != asked {
            return Err(CopyError::Failed(format!(
                "node {node} answers for {} of {asked} groups",
                digests.len()
            )));
        }
        Ok(digests)
    }

    /// A page of the good chunks that a node has of these groups, and where to go on.
    pub(crate) async fn list_of(
        &self,
        node: NodeId,
        groups: Vec<PlacementGroup>,
        after: Option<ChunkId>,
        deadline: Duration,
    ) -> Result<(Vec<ChunkId>, Option<ChunkId>), CopyError> {
        let list = wire::ListOf { groups, after };
        let parts = self.call(node, method::LIST, &list, Vec::new(), deadline).await?;
        let wire::ListAnswer { ids, next } = answer(node, &parts)?;
        // In order and behind what was there: else the merge would never end.
        let ordered =
            ids.is_sorted() && after.is_none_or(|after| ids.iter().chain(&next).all(|id| *id > after));
        if !ordered {
            return Err(CopyError::Failed(format!("node {node} lists chunks out of order")));
        }
        Ok((ids, next))
    }

    async fn call<T: Versioned>(
        &self,
        node: NodeId,
        method: u16,
        message: &T,
        mut bytes: Vec<Bytes>,
        deadline: Duration,
    ) -> Result<Vec<Bytes>, CopyError> {
        bytes.insert(0, codec::encode(message));
        let epoch = self.epoch.load(Ordering::Relaxed);
        let request = Request { method, group: GroupId::MAIN, epoch, parts: bytes };
        match self.rpc.call(node, Lane::Chunks, request, deadline).await {
            Ok(reply) => Ok(reply.parts),
            Err(benteng_rpc::Error::Refused { code, message, .. }) => Err(match code {
                refused::MISSING => CopyError::Missing,
                refused::DAMAGED => CopyError::Damaged,
                refused::FULL => CopyError::Full,
                refused::SUPERSEDED => CopyError::Superseded,
                refused::VOIDED => CopyError::Voided,
                _ => CopyError::Failed(format!("node {node}: {message}")),
            }),
            Err(e) => Err(CopyError::Failed(e.to_string())),
        }
    }
}

fn answer<T: Versioned>(node: NodeId, parts: &[Bytes]) -> Result<T, CopyError> {
    let first = parts.first().ok_or_else(|| CopyError::Failed(format!("node {node} answered nothing")))?;
    codec::decode(first).map_err(|e| CopyError::Failed(format!("node {node}: {e}")))
}
