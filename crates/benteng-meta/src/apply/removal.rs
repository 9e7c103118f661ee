//! What nothing names any more: buried under the sequence of its death, forgotten when every
//! reader's floor has passed it and every store has removed it (I8, O4, O5, C2).

use benteng_host::planted::{Bug, planted};

use super::{Now, Step, topology, upload};
use crate::ids::*;
use crate::row::*;
use crate::{Answer, Command, NewBody, Rejection, Result, Tx, key};

/// Plain bytes of a chunk; the number of chunks of a part follows from its size.
pub const CHUNK_BYTES: u64 = 4 << 20;
/// Dead rows that one command forgets.
const FORGET_MAX: usize = 1000;

/// How many chunks a part of `size` plain bytes has.
pub fn chunks_of(size: u64) -> u32 {
    u32::try_from(size.div_ceil(CHUNK_BYTES)).unwrap_or(u32::MAX)
}

/// Moves the blob row and its part rows to the dead: older readers still need them (O4).
pub(super) fn bury_blob(tx: &mut Tx<'_>, blob: BlobId, now: Now) -> Result<()> {
    let Some(row) = tx.take::<BlobRow>(key::blob(blob))? else { return Ok(()) };
    if let Body::Single(part) = &row.body {
        bury_part(tx, blob, PartNumber(1), part.clone(), now)?;
    }
    if let Body::Multipart(_) = &row.body {
        for (number, part) in upload::parts_of(tx, blob)? {
            tx.delete(key::part(blob, Some(number)));
            bury_part(tx, blob, number, part, now)?;
        }
    }
    tx.put(key::dead_blob(now.seq, blob), &DeadBlobRow { blob: row, at: now.at });
    Ok(())
}

/// Marks the chunks of a part dead. The caller has taken its row away.
pub(super) fn bury_part(
    tx: &mut Tx<'_>,
    blob: BlobId,
    number: PartNumber,
    part: PartRow,
    now: Now,
) -> Result<()> {
    let chunks = chunks_of(part.size);
    topology::cancel_repair(tx, blob, number, part.attempt, chunks)?;
    let row_key = key::dead_part(now.seq, blob, number, part.attempt);
    tx.put(row_key, &DeadPartRow { chunks, part: Some(part), at: now.at });
    Ok(())
}

/// Marks the chunks of an attempt dead, unless a row names it at this moment (C2).
pub(super) fn bury_attempt(
    tx: &mut Tx<'_>,
    blob: BlobId,
    number: PartNumber,
    attempt: Attempt,
    chunks: u32,
    now: Now,
) -> Result<()> {
    if chunks == 0 || (!planted(Bug::RefusalBuriesLive) && is_named(tx, blob, number, attempt)?) {
        return Ok(());
    }
    let row = DeadPartRow { part: None, chunks, at: now.at };
    tx.put(key::dead_part(now.seq, blob, number, attempt), &row);
    Ok(())
}

/// Whether a live row names the attempt.
pub(crate) fn is_named(tx: &Tx<'_>, blob: BlobId, number: PartNumber, attempt: Attempt) -> Result<bool> {
    let part: Option<PartRow> = tx.get(&key::part(blob, Some(number)))?;
    if part.is_some_and(|part| part.attempt == attempt) {
        return Ok(true);
    }
    let row: Option<BlobRow> = tx.get(&key::blob(blob))?;
    let single = |row: BlobRow| matches!(row.body, Body::Single(part) if part.attempt == attempt);
    Ok(number == PartNumber(1) && row.is_some_and(single))
}

/// The chunks of a rejected command are dead: they are never proposed again (C2).
pub(super) fn bury_refused(tx: &mut Tx<'_>, command: &Command, now: Now) -> Result<()> {
    match command {
        Command::PutObject(put) => match &put.body {
            NewBody::Chunks(part) => {
                let chunks = chunks_of(part.size);
                bury_attempt(tx, put.blob, PartNumber(1), part.attempt, chunks, now)
            }
            NewBody::Inline(_) => Ok(()),
        },
        Command::PutPart { upload, number, part, .. } => {
            bury_attempt(tx, *upload, *number, part.attempt, chunks_of(part.size), now)
        }
        _ => Ok(()),
    }
}

pub(super) fn publish_floor(
    tx: &mut Tx<'_>,
    node: NodeId,
    incarnation: Incarnation,
    floor: StateSeq,
    removed: StateSeq,
    now: Now,
) -> Step<Answer> {
    let gateway: Option<GatewayRow> = tx.get(&key::gateway(node))?;
    if gateway.is_none_or(|g| g.incarnation != incarnation) {
        return Err(Rejection::GatewaySuperseded(node).into());
    }
    let old: Option<FloorRow> = tx.get(&key::floor(node))?;
    if let Some(old) = old.filter(|old| old.incarnation == incarnation) {
        if old.void {
            // Stores refuse this incarnation's reads already; it must start anew.
            return Err(Rejection::GatewaySuperseded(node).into());
        }
        if floor < old.floor {
            return Err(Rejection::Invalid(format!("floor of node {node} would go back")).into());
        }
    }
    let removed = removed.max(old.map_or(StateSeq(0), |old| old.removed));
    tx.put(key::floor(node), &FloorRow { incarnation, floor, removed, at: now.at, void: false });
    Ok(Answer::Done)
}

pub(super) fn void_floor(tx: &mut Tx<'_>, node: NodeId, incarnation: Incarnation) -> Step<Answer> {
    let row: Option<FloorRow> = tx.get(&key::floor(node))?;
    if let Some(row) = row.filter(|row| row.incarnation == incarnation) {
        tx.put(key::floor(node), &FloorRow { void: true, ..row });
    }
    Ok(Answer::Done)
}

/// Drops dead rows up to what every store has removed and every living reader has passed.
pub(super) fn forget_dead(tx: &mut Tx<'_>, upto: StateSeq) -> Step<Answer> {
    let (floor, removed) = crate::query::floors(tx)?;
    if upto > floor || upto > removed {
        let why = format!("dead rows up to {upto} are in use: floors {floor}, removed {removed}");
        return Err(Rejection::Invalid(why).into());
    }
    let mut clock: ClockRow = tx.get(&key::clock())?.unwrap_or_default();
    let mut gone = upto;
    for table in [key::Table::DeadPart, key::Table::DeadBlob] {
        let (from, to) = (key::from_seq(table, clock.queues.dead), key::after_seq(table, upto));
        let mut keys = Vec::new();
        benteng_host::KvView::scan(tx, &from, &to, &mut |key, _| {
            keys.push(bytes::Bytes::copy_from_slice(key));
            if keys.len() < FORGET_MAX {
                benteng_host::Visit::Continue(())
            } else {
                benteng_host::Visit::Break(())
            }
        })
        .map_err(crate::Error::from)?;
        if keys.len() == FORGET_MAX {
            // The rest of the last sequence may still be there.
            gone = keys.last().and_then(|key| key::split_seq(key)).map_or(gone, |(seq, _)| gone.min(seq));
        }
        for key in keys {
            tx.delete(key);
        }
    }
    clock.queues.dead = clock.queues.dead.max(gone);
    tx.put(key::clock(), &clock);
    Ok(Answer::Done)
}
