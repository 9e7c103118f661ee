//! Makes this node's copy of a chunk good: verbatim from a peer, only what is authentic by its
//! checksums (I4). Repair and filling stand on it.

use std::time::Duration;

use benteng_host::{probe, sleep};
use benteng_meta::ids::*;

use crate::authentic;
use crate::copy::CopyError;
use crate::core::Core;
use crate::layout::Layout;

/// How long a peer may take for a whole chunk.
const FETCH: Duration = Duration::from_secs(10);

/// What became of a copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Healed {
    /// It was here and good.
    Good,
    /// It was copied.
    Copied,
    /// It was copied, and took the place of a damaged one.
    Mended,
    /// Nothing names the chunk any more, or it belongs elsewhere by now.
    Unwanted,
    /// No peer could give it.
    Stuck,
}

/// How much is known against the copy here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Suspicion {
    /// Nothing: being here is enough.
    None,
    /// Somebody found it wrong: it is read again and held against a peer's.
    Wrong,
}

/// Makes the copy of `chunk` on this node good.
///
/// Errors: the disk's.
pub(crate) async fn heal(core: &Core, chunk: ChunkId, suspicion: Suspicion) -> Result<Healed, CopyError> {
    if wanted(core, chunk)? != Wanted::Here {
        return Ok(Healed::Unwanted);
    }
    let failed = |e: crate::Error| CopyError::Failed(e.to_string());
    // Died meanwhile, or its key did: then nobody wants it.
    let Some(judge) = authentic::judge(core, chunk).map_err(failed)? else { return Ok(Healed::Unwanted) };
    let disk = core.copies.disk();
    if is_good_here(core, chunk, &judge, suspicion).await? {
        return Ok(Healed::Good);
    }
    let damaged = disk.is_quarantined(chunk)?;
    for node in sources(core, chunk)? {
        let theirs = match core.copies.fetch(node, chunk, FETCH).await {
            Ok(theirs) => theirs,
            Err(e) => {
                tracing::debug!(%chunk, node = node.0, error = %e, "a peer has no good copy either");
                continue;
            }
        };
        if !judge.is_authentic(core, &theirs).await? {
            probe("peer_copy_did_not_authenticate");
            not_authentic(chunk, node);
            core.findings.add(node, chunk);
            continue;
        }
        let bytes = theirs.bytes.len();
        disk.append(theirs).await?;
        pace(core, bytes).await;
        // Died meanwhile: the removal of the dead may have passed already, so it is taken back here.
        if wanted(core, chunk)? == Wanted::Nowhere {
            probe("healed_in_vain");
            disk.remove(vec![chunk]).await?;
            return Ok(Healed::Unwanted);
        }
        if damaged {
            core.scrubbing.mended();
            return Ok(Healed::Mended);
        }
        return Ok(Healed::Copied);
    }
    Ok(Healed::Stuck)
}

/// Whether the copy here may stay. One that was found wrong is read again and must authenticate: good
/// checksums prove only that it is what was written here. A wrong one is kept apart.
async fn is_good_here(
    core: &Core,
    chunk: ChunkId,
    judge: &authentic::Judge,
    suspicion: Suspicion,
) -> Result<bool, CopyError> {
    // What counts as being here is not given up to others at the same time.
    let _stays = core.strays.hold().await;
    let disk = core.copies.disk();
    if disk.stat(chunk)?.is_none() {
        return Ok(false);
    }
    match suspicion {
        Suspicion::None => Ok(true),
        Suspicion::Wrong => match disk.fetch(chunk).await {
            Ok(own) if judge.is_authentic(core, &own).await? => Ok(true),
            Ok(_) => {
                probe("own_copy_did_not_authenticate");
                not_authentic(chunk, core.me);
                disk.doubt(chunk).await?;
                Ok(false)
            }
            // Reading it has quarantined it.
            Err(_) => Ok(false),
        },
    }
}

fn not_authentic(chunk: ChunkId, node: NodeId) {
    metrics::counter!("benteng_objects_copies_not_authentic_total").increment(1);
    tracing::error!(%chunk, node = node.0, "a stored copy with good checksums does not authenticate");
}

/// Who wants a chunk.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wanted {
    /// A live row names it and this node is to hold it.
    Here,
    /// A live row names it; others hold it.
    Elsewhere,
    /// No live row names it, and none will again.
    Nowhere,
}

fn wanted(core: &Core, chunk: ChunkId) -> Result<Wanted, CopyError> {
    let failed = |e: &dyn std::fmt::Display| CopyError::Failed(e.to_string());
    let view = core.group.local().map_err(|e| failed(&e))?;
    let named = benteng_meta::query::names_attempt(&*view, chunk.blob, chunk.part, chunk.attempt);
    if !named.map_err(|e| failed(&e))? {
        return Ok(Wanted::Nowhere);
    }
    let layout = Layout::of(&*view).map_err(|e| failed(&e))?;
    let holders = layout.writable(&*view, chunk).map_err(|e| failed(&e))?;
    Ok(if holders.contains(&core.me) { Wanted::Here } else { Wanted::Elsewhere })
}

/// Damaged copies that are looked at by their rows; of more than these all are taken for wanted.
const LOOK_MAX: usize = 1000;

/// The damaged copies on this node that are to be made good. One that no live row names waits for its removal
/// like any other: nobody can repair it, and the site lacks nothing.
pub(crate) fn to_mend(core: &Core) -> Vec<ChunkId> {
    let mut damaged = core.copies.disk().quarantined();
    let mut looked = 0;
    damaged.retain(|chunk| {
        looked += 1;
        // What cannot be told is said.
        looked > LOOK_MAX || wanted(core, *chunk).map_or(true, |wanted| wanted == Wanted::Here)
    });
    damaged
}

/// Peers that may have a copy: holders first, then whoever else is up.
fn sources(core: &Core, chunk: ChunkId) -> Result<Vec<NodeId>, CopyError> {
    let failed = |e: &dyn std::fmt::Display| CopyError::Failed(e.to_string());
    let view = core.group.local().map_err(|e| failed(&e))?;
    let layout = Layout::of(&*view).map_err(|e| failed(&e))?;
    let mut nodes = layout.writable(&*view, chunk).map_err(|e| failed(&e))?;
    let others: Vec<NodeId> = layout.nodes.keys().copied().filter(|node| !nodes.contains(node)).collect();
    nodes.extend(others);
    nodes.retain(|node| *node != core.me && core.copies.up(*node));
    Ok(nodes)
}

/// Keeps this worker's share of the rate.
async fn pace(core: &Core, bytes: usize) {
    let share = core.limits.repair_rate / u64::try_from(core.limits.repair_parallel).unwrap_or(1).max(1);
    let micros = u64::try_from(bytes).unwrap_or(u64::MAX).saturating_mul(1_000_000) / share.max(1);
    sleep(&*core.host.clock, Duration::from_micros(micros)).await;
}
