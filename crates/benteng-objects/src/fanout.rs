//! One sealed chunk to all the nodes that are to hold it, in parallel. Durable copies are
//! counted, never assumed: below the minimum nothing is acknowledged (I1).

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use benteng_host::{probe, sleep};
use benteng_meta::ids::*;
use futures::StreamExt;
use futures::stream::FuturesUnordered;

use crate::copy::{Chunk, CopyError};
use crate::core::Core;
use crate::layout::Layout;
use crate::{Error, Result};

/// Pause before a copy that failed is tried again, as long as the minimum is not reached.
const RETRY: Duration = Duration::from_millis(100);

/// Durable copies of one chunk: on which node, on which disks.
pub(crate) type Durable = BTreeMap<NodeId, StoreId>;

/// Writes `chunk` to the nodes of its placement group that do not hold it yet.
///
/// Takes what is durable already, returns that and what was added. Complete when all copies
/// are durable; with the minimum after `hedge`, or at once if the rest is known to be down.
/// Errors: `Full`, `Unavailable` if the minimum is not reached within the deadline.
/// Cancellation: copies may exist.
pub(crate) async fn fan_out(core: &Core, chunk: &Chunk, mut durable: Durable) -> Result<Durable> {
    let clock = &*core.host.clock;
    let mut hedge = sleep(clock, core.limits.hedge);
    let mut deadline = sleep(clock, core.limits.copy_deadline);
    let mut hedged = false;
    let mut said: BTreeMap<NodeId, CopyError> = BTreeMap::new();
    loop {
        // Asked anew in each round: the placement may have moved under a slow write.
        let view = core.group.local()?;
        let layout = Layout::of(&*view)?;
        let wanted: BTreeSet<NodeId> = layout.writable(&*view, chunk.id)?.into_iter().collect();
        drop(view);
        let held = |durable: &Durable| durable.keys().filter(|node| wanted.contains(node)).count();
        let lacking = wanted.iter().copied().filter(|node| !durable.contains_key(node));
        let (up, down): (Vec<NodeId>, Vec<NodeId>) = lacking.partition(|node| core.copies.takes(*node));
        let short_without_the_down = held(&durable) + up.len() < layout.copies_min;
        let ask = up.into_iter().chain(down.into_iter().filter(|_| short_without_the_down));
        let mut pending: FuturesUnordered<_> = ask
            .map(|node| {
                let put = core.copies.put(node, chunk.clone(), core.limits.copy_deadline);
                async move { (node, put.await) }
            })
            .collect();
        while !pending.is_empty() {
            let enough = held(&durable) >= layout.copies_min;
            if hedged && enough {
                probe("hedge_won");
                metrics::counter!("benteng_objects_hedged_writes_total").increment(1);
                return Ok(durable);
            }
            tokio::select! {
                biased;
                Some((node, result)) = pending.next() => match result {
                    Ok(store) => { durable.insert(node, store); }
                    Err(CopyError::Superseded) => {
                        let why = "this gateway was started again elsewhere".to_owned();
                        return Err(Error::Unavailable { why });
                    }
                    Err(e) => { said.insert(node, e); }
                },
                () = &mut hedge, if !hedged => hedged = true,
                () = &mut deadline => return Err(too_few(chunk.id, held(&durable), layout.copies_min, &said)),
            }
        }
        if held(&durable) >= layout.copies_min {
            return Ok(durable);
        }
        tokio::select! {
            biased;
            () = &mut deadline => return Err(too_few(chunk.id, held(&durable), layout.copies_min, &said)),
            () = sleep(clock, RETRY) => {}
        }
    }
}

fn too_few(chunk: ChunkId, held: usize, wanted: usize, said: &BTreeMap<NodeId, CopyError>) -> Error {
    metrics::counter!("benteng_objects_copies_too_few_total").increment(1);
    if said.values().any(|e| *e == CopyError::Full) {
        return Error::Full;
    }
    let each: Vec<String> = said.iter().map(|(node, e)| format!("node {node}: {e}")).collect();
    let why = format!("chunk {chunk} reached {held} of {wanted} needed copies ({})", each.join("; "));
    Error::Unavailable { why }
}
