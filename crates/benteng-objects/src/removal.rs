//! Removes from this node's disks what is dead, once every reader's floor has passed it (O4, O5,
//! I8), and says so; the leader forgets the rows when all stores have.

use std::sync::{Mutex, PoisonError};

use benteng_host::planted::{Bug, planted};
use benteng_host::{KvView, Mono, Visit, prefix_end, probe};
use benteng_meta::codec;
use benteng_meta::ids::*;
use benteng_meta::{Command, DeadBlobRow, DeadPartRow, FloorRow, SiteRow, key, query};

use crate::core::Core;
use crate::{Error, Result};

/// Dead rows looked at per round, and chunks per removal.
const PAGE: usize = 200;
const REMOVE_MAX: usize = 256;
/// Dead blobs looked at per round.
const BLOBS_MAX: usize = 10_000;

/// What this node has removed and published.
#[derive(Default)]
pub(crate) struct Removal {
    done: Mutex<Done>,
}

#[derive(Clone, Copy, Default)]
struct Done {
    /// Everything dead at or before this is gone from the store. Begins at what was published.
    removed: StateSeq,
    published_at: Option<Mono>,
}

/// A dead attempt, from its row.
struct Dead {
    seq: StateSeq,
    blob: BlobId,
    part: PartNumber,
    attempt: Attempt,
    chunks: u32,
    at: SiteTime,
}

impl Removal {
    fn done(&self) -> Done {
        *self.done.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One round: remove a page of what may go, then publish if that helps anybody.
    ///
    /// Returns whether there is more to remove. Errors: the disk's, or what proposing gives.
    pub(crate) async fn round(&self, core: &Core) -> Result<bool> {
        // Only a living gateway has a floor that means something.
        let origin = core.gateway.origin()?;
        let view = core.group.local()?;
        let Some(site) = query::site(&*view)? else { return Ok(false) };
        let row: Option<FloorRow> = query::get(&*view, &key::floor(core.me))?;
        let Some(row) = row.filter(|row| row.incarnation == origin.incarnation && !row.void) else {
            return Ok(false);
        };
        let mut done = self.done();
        done.removed = done.removed.max(row.removed);
        let (removed, more) = remove_page(core, &*view, &site, done.removed).await?;
        done.removed = removed;

        let floor = core.floors.oldest(|| core.group.applied());
        let now = core.host.clock.now();
        let overdue = done.published_at.is_none_or(|at| now.since(at) >= core.limits.floor_renewal);
        let waited_for = |after: StateSeq, upto: StateSeq| any_dead(&*view, after, upto);
        let moved = floor > row.floor && crate::strays::any_waits(core, &*view, row.floor)?;
        if overdue || moved || waited_for(row.floor, floor)? || waited_for(row.removed, removed)? {
            drop(view);
            let (node, incarnation) = (core.me, origin.incarnation);
            let command = Command::PublishFloor { node, incarnation, floor, removed };
            core.group.propose(command, None).await?;
            done.published_at = Some(now);
        }
        *self.done.lock().unwrap_or_else(PoisonError::into_inner) = done;
        Ok(more)
    }
}

/// Removes what died after `removed` and may go. Returns the new `removed` and whether more waits.
async fn remove_page(
    core: &Core,
    view: &dyn KvView,
    site: &SiteRow,
    removed: StateSeq,
) -> Result<(StateSeq, bool)> {
    let (mut floor, _) = query::floors(view)?;
    if planted(Bug::FloorsIgnored) {
        floor = query::clock(view)?.seq;
    }
    if floor <= removed {
        return Ok((removed, false));
    }
    let disk = core.copies.disk();
    let hurry = disk.fill().used_percent() >= core.limits.removal_hurry_percent;
    let now = core.group.site_time();
    let ripe = |at: SiteTime| hurry || at.0.saturating_add(site.removal_delay) <= now.0;
    // Blobs have no chunks of their own, but their keys are kept as long (O4).
    let upto = match oldest_unripe_blob(view, removed, floor, &ripe)? {
        Some(seq) => StateSeq(seq.0.saturating_sub(1)),
        None => floor,
    };
    let dead = dead_parts(view, removed, upto, PAGE)?;
    let full = dead.len() == PAGE;
    let mut ids = Vec::new();
    let mut passed = upto;
    for row in &dead {
        if !ripe(row.at) {
            passed = StateSeq(row.seq.0.saturating_sub(1));
            break;
        }
        if query::names_attempt(view, row.blob, row.part, row.attempt)? {
            // I8: a dead mark on a live attempt. Nothing is removed any more until a person has looked.
            probe("dead_mark_on_live_attempt");
            metrics::counter!("benteng_objects_dead_marks_on_live_attempts_total").increment(1);
            tracing::error!(blob = %row.blob, part = row.part.0, "I8: a live attempt is marked dead; removal stops here");
            debug_assert!(
                false,
                "C2: attempt {:016x} of blob {} is live and marked dead",
                row.attempt.0, row.blob
            );
            passed = StateSeq(row.seq.0.saturating_sub(1));
            break;
        }
        let Dead { blob, part, attempt, chunks, .. } = *row;
        ids.extend((0..chunks).map(|sequence| ChunkId { blob, part, attempt, sequence }));
        if full {
            // The next page may hold more of this sequence.
            passed = StateSeq(row.seq.0.saturating_sub(1));
        }
    }
    if full && passed <= removed {
        // One command buried more than a page: go on within its sequence, without passing it.
        return remove_sequence(core, view, &dead).await.map(|seq| (seq, true));
    }
    remove(core, &ids).await?;
    Ok((passed.max(removed), full))
}

/// A command that buried thousands of parts: all rows of its sequence. Returns the sequence.
async fn remove_sequence(core: &Core, view: &dyn KvView, first: &[Dead]) -> Result<StateSeq> {
    let seq = first.first().map_or(StateSeq(0), |row| row.seq);
    let all = dead_parts(view, StateSeq(seq.0.saturating_sub(1)), seq, usize::MAX)?;
    for row in all {
        let Dead { blob, part, attempt, chunks, .. } = row;
        let ids: Vec<ChunkId> =
            (0..chunks).map(|sequence| ChunkId { blob, part, attempt, sequence }).collect();
        remove(core, &ids).await?;
    }
    Ok(seq)
}

async fn remove(core: &Core, ids: &[ChunkId]) -> Result<()> {
    let disk = core.copies.disk();
    for ids in ids.chunks(REMOVE_MAX) {
        let failed =
            |e: crate::copy::CopyError| Error::Unavailable { why: format!("chunks cannot be removed: {e}") };
        disk.remove(ids.to_vec()).await.map_err(failed)?;
        metrics::counter!("benteng_objects_chunks_removed_total").increment(ids.len() as u64);
    }
    Ok(())
}

/// Dead attempts of `after..=upto` in order of their death, at most `limit`.
fn dead_parts(view: &dyn KvView, after: StateSeq, upto: StateSeq, limit: usize) -> Result<Vec<Dead>> {
    let mut out = Vec::new();
    let mut failed = None;
    let (from, to) =
        (key::after_seq(key::Table::DeadPart, after), key::after_seq(key::Table::DeadPart, upto));
    if from >= to {
        return Ok(out);
    }
    view.scan(&from, &to, &mut |row_key, value| {
        match dead(row_key, value) {
            Ok(row) => out.push(row),
            Err(e) => failed = Some(e),
        }
        if failed.is_some() || out.len() >= limit { Visit::Break(()) } else { Visit::Continue(()) }
    })
    .map_err(benteng_meta::Error::from)?;
    failed.map_or(Ok(out), Err)
}

fn dead(row_key: &[u8], value: &[u8]) -> Result<Dead> {
    let malformed =
        || benteng_meta::Error::Decode { what: "dead part", why: "its key is malformed".to_owned() };
    let (seq, blob) = key::split_seq(row_key).ok_or_else(malformed)?;
    let rest = row_key.get(25..).ok_or_else(malformed)?;
    let (part, rest) = rest.split_first_chunk::<2>().ok_or_else(malformed)?;
    let (attempt, _) = rest.split_first_chunk::<8>().ok_or_else(malformed)?;
    let row: DeadPartRow = codec::decode(value)?;
    Ok(Dead {
        seq,
        blob: BlobId(uuid::Uuid::from_bytes(blob)),
        part: PartNumber(u16::from_be_bytes(*part)),
        attempt: Attempt(u64::from_be_bytes(*attempt)),
        chunks: row.chunks,
        at: row.at,
    })
}

/// Attempts that wait in the dead rows of `view`: orphans are looked for among the others.
pub(crate) fn waiting(view: &dyn KvView, of: &mut dyn FnMut(BlobId, PartNumber, Attempt)) -> Result<()> {
    let table = key::table(key::Table::DeadPart);
    let mut failed = None;
    view.scan(&table, &prefix_end(&table), &mut |row_key, value| match dead(row_key, value) {
        Ok(row) => {
            of(row.blob, row.part, row.attempt);
            Visit::Continue(())
        }
        Err(e) => {
            failed = Some(e);
            Visit::Break(())
        }
    })
    .map_err(benteng_meta::Error::from)?;
    failed.map_or(Ok(()), Err)
}

/// The first blob of `after..=upto` that must stay. Death times grow with the sequence.
fn oldest_unripe_blob(
    view: &dyn KvView,
    after: StateSeq,
    upto: StateSeq,
    ripe: &dyn Fn(SiteTime) -> bool,
) -> Result<Option<StateSeq>> {
    let (from, to) =
        (key::after_seq(key::Table::DeadBlob, after), key::after_seq(key::Table::DeadBlob, upto));
    let (mut found, mut failed, mut seen) = (None, None, 0);
    if from >= to {
        return Ok(None);
    }
    view.scan(&from, &to, &mut |row_key, value| {
        seen += 1;
        match (key::split_seq(row_key), codec::decode::<DeadBlobRow>(value)) {
            // Enough for one round: what lies behind waits for the next.
            (Some((seq, _)), Ok(row)) if !ripe(row.at) || seen > BLOBS_MAX => found = Some(seq),
            (_, Ok(_)) => {}
            (_, Err(e)) => failed = Some(e),
        }
        if found.is_some() || failed.is_some() { Visit::Break(()) } else { Visit::Continue(()) }
    })
    .map_err(benteng_meta::Error::from)?;
    failed.map_or(Ok(found), |e| Err(e.into()))
}

/// Whether anything died within `after..=upto`.
pub(crate) fn any_dead(view: &dyn KvView, after: StateSeq, upto: StateSeq) -> Result<bool> {
    let mut any = false;
    for table in [key::Table::DeadPart, key::Table::DeadBlob] {
        let (from, to) = (key::after_seq(table, after), key::after_seq(table, upto));
        if from < to {
            view.scan(&from, &to, &mut |_, _| {
                any = true;
                Visit::Break(())
            })
            .map_err(benteng_meta::Error::from)?;
        }
    }
    Ok(any)
}
