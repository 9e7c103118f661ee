//! What a store refuses because the state says so (I9, O5), and what it lets its writer forget.

use benteng_consensus::Group;
use benteng_host::planted::{Bug, planted};
use benteng_host::probe;
use benteng_meta::ids::*;
use benteng_meta::{FloorRow, GatewayRow, key, query};

use crate::copy::CopyError;
use crate::disk::Disk;

#[expect(clippy::needless_pass_by_value, reason = "shaped for map_err")]
fn unreadable(e: impl ToString) -> CopyError {
    CopyError::Failed(e.to_string())
}

/// A superseded gateway writes nothing more (I9). One that this node has not heard of yet may:
/// the commit decides.
pub(crate) fn may_write(group: &Group, origin: Origin) -> Result<(), CopyError> {
    let view = group.local().map_err(unreadable)?;
    let row: Option<GatewayRow> = query::get(&*view, &key::gateway(origin.node)).map_err(unreadable)?;
    if row.is_some_and(|row| row.incarnation > origin.incarnation) {
        probe("store_refused_superseded");
        return Err(CopyError::Superseded);
    }
    Ok(())
}

/// A reader whose floor was voided, or who was started again since, reads what may be removed
/// by now (O5).
pub(crate) fn may_read(group: &Group, node: NodeId, reader: Incarnation) -> Result<(), CopyError> {
    let view = group.local().map_err(unreadable)?;
    let row: Option<FloorRow> = query::get(&*view, &key::floor(node)).map_err(unreadable)?;
    let passed = |row: FloorRow| row.incarnation > reader || (row.incarnation == reader && row.void);
    if row.is_some_and(passed) && !planted(Bug::VoidedReaderServed) {
        probe("store_refused_voided");
        return Err(CopyError::Voided);
    }
    Ok(())
}

/// Of `ids`, those that `node` may have forgotten at its word: written by this very incarnation
/// of it, and named by no row that is known here.
pub(crate) fn forgettable(
    group: &Group,
    disk: &Disk,
    node: NodeId,
    incarnation: Incarnation,
    ids: Vec<ChunkId>,
) -> Result<Vec<ChunkId>, CopyError> {
    let view = group.local().map_err(unreadable)?;
    let mut out = Vec::with_capacity(ids.len());
    for id in ids {
        let own =
            disk.stat(id)?.is_some_and(|origin| origin.node == node && origin.incarnation == incarnation);
        if own && !query::names_attempt(&*view, id.blob, id.part, id.attempt).map_err(unreadable)? {
            out.push(id);
        }
    }
    Ok(out)
}
