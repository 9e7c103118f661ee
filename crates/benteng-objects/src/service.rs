//! What this node's store answers to other nodes: methods 100 to 199.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use benteng_host::Fut;
use benteng_keys::{CHUNK_CIPHER_MAX, FRAME_CIPHER};
use benteng_meta::codec;
use benteng_meta::codec::Versioned;
use benteng_meta::ids::NodeId;
use benteng_rpc::{Inbound, Lane, Outbound, Refusal, Reply, Request, Service};
use bytes::Bytes;
use tokio::sync::Semaphore;

use crate::compare;
use crate::copy::{Chunk, CopyError};
use crate::core::Core;
use crate::fence;
use crate::wire::{self, method, refused};

/// Requests of other nodes that touch the disk at once; more wait in their connection's task.
const PARALLEL: usize = 64;

/// The store as other nodes reach it.
pub(crate) struct StoreService {
    core: Arc<Core>,
    parallel: Arc<Semaphore>,
}

impl StoreService {
    /// Answers from `core`'s store.
    pub(crate) fn new(core: Arc<Core>) -> StoreService {
        StoreService { core, parallel: Arc::new(Semaphore::new(PARALLEL)) }
    }
}

#[expect(clippy::needless_pass_by_value, reason = "shaped for map_err")]
fn bad(why: impl ToString) -> Refusal {
    Refusal::new(refused::BAD, why.to_string())
}

impl From<CopyError> for Refusal {
    fn from(e: CopyError) -> Refusal {
        let code = match &e {
            CopyError::Missing => refused::MISSING,
            CopyError::Damaged => refused::DAMAGED,
            CopyError::Full => refused::FULL,
            CopyError::Superseded => refused::SUPERSEDED,
            CopyError::Voided => refused::VOIDED,
            CopyError::Failed(_) => refused::FAILED,
        };
        Refusal::new(code, e.to_string())
    }
}

fn decode<T: Versioned>(parts: &[Bytes]) -> Result<T, Refusal> {
    codec::decode(parts.first().ok_or_else(|| bad("the message is empty"))?).map_err(bad)
}

impl Service for StoreService {
    fn call(&self, from: NodeId, _lane: Lane, request: Request) -> Fut<Result<Reply, Refusal>> {
        let (core, parallel) = (self.core.clone(), self.parallel.clone());
        Box::pin(async move {
            let epoch = core.copies.epoch().load(Ordering::Relaxed);
            if request.epoch != epoch {
                let why = format!("recovery epoch {} is not this site's {epoch} (S7)", request.epoch);
                return Err(Refusal::new(refused::EPOCH, why));
            }
            let _place =
                parallel.acquire().await.map_err(|e| Refusal::new(refused::FAILED, e.to_string()))?;
            let parts = answer(&core, from, request).await?;
            Ok(Reply::ok(parts))
        })
    }

    fn stream(&self, _: NodeId, _: Request, _: Inbound, _: Outbound) -> Fut<()> {
        // No method of ours streams: dropping the handles resets it.
        Box::pin(async {})
    }
}

async fn answer(core: &Core, from: NodeId, request: Request) -> Result<Vec<Bytes>, Refusal> {
    let disk = core.copies.disk();
    match request.method {
        method::PUT => {
            let put: wire::Put = decode(&request.parts)?;
            let bytes = request.parts.get(1).cloned().unwrap_or_default();
            if bytes.is_empty() || bytes.len() > CHUNK_CIPHER_MAX || !is_frame(put.frame_bytes) {
                return Err(bad(format!("{} bytes are no chunk", bytes.len())));
            }
            // A gateway writes its own chunks; repair fetches, it never sends.
            if put.origin.node != from {
                return Err(bad(format!("node {from} writes as node {}", put.origin.node)));
            }
            fence::may_write(&core.group, put.origin)?;
            let wire::Put { id, origin, frame_bytes, frame_crcs } = put;
            disk.append(Chunk { id, origin, frame_bytes, frame_crcs, bytes }).await?;
            Ok(vec![codec::encode(&wire::PutAnswer { store: disk.id() })])
        }
        method::READ => {
            let read: wire::Read = decode(&request.parts)?;
            fence::may_read(&core.group, from, read.reader)?;
            Ok(vec![disk.read(read.id, read.start..read.end).await?])
        }
        method::FETCH => {
            let wire::Fetch { id } = decode(&request.parts)?;
            let Chunk { origin, frame_bytes, frame_crcs, bytes, .. } = disk.fetch(id).await?;
            Ok(vec![codec::encode(&wire::Put { id, origin, frame_bytes, frame_crcs }), bytes])
        }
        method::STAT => {
            let wire::Stat { ids } = decode(&request.parts)?;
            bounded(ids.len())?;
            let present =
                ids.iter().map(|id| Ok(disk.stat(*id)?.is_some())).collect::<Result<_, CopyError>>()?;
            Ok(vec![codec::encode(&wire::StatAnswer { present })])
        }
        method::FORGET => {
            let wire::Forget { incarnation, ids } = decode(&request.parts)?;
            bounded(ids.len())?;
            let ids = fence::forgettable(&core.group, disk, from, incarnation, ids)?;
            disk.remove(ids).await?;
            Ok(Vec::new())
        }
        method::SCRUB => {
            let pass = core.scrubbing.begin(core.group.site_time());
            Ok(vec![codec::encode(&wire::ScrubBegun { pass })])
        }
        method::DIGESTS => {
            let wire::Digests { groups } = decode(&request.parts)?;
            of_site(groups.len())?;
            let digests = compare::digests(core, &groups).await?;
            Ok(vec![codec::encode(&wire::DigestsAnswer { digests })])
        }
        method::LIST => {
            let wire::ListOf { groups, after } = decode(&request.parts)?;
            of_site(groups.len())?;
            let (ids, next) = compare::list(core, &groups.into_iter().collect(), after)?;
            Ok(vec![codec::encode(&wire::ListAnswer { ids, next })])
        }
        method::REPORT => Ok(vec![codec::encode(&core.report()), codec::encode(&core.vitals())]),
        other => Err(bad(format!("there is no method {other}"))),
    }
}

fn is_frame(bytes: u32) -> bool {
    usize::try_from(bytes).is_ok_and(|n| n == FRAME_CIPHER)
}

fn of_site(groups: usize) -> Result<(), Refusal> {
    let all = usize::from(benteng_meta::ids::PlacementGroup::COUNT);
    if groups > all { Err(bad(format!("{groups} placement groups, there are {all}"))) } else { Ok(()) }
}

fn bounded(ids: usize) -> Result<(), Refusal> {
    if ids > wire::IDS_MAX { Err(bad(format!("{ids} chunks in one message, at most 1000"))) } else { Ok(()) }
}
