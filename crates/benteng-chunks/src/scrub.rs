//! Reads every byte again: bit rot is found before the last good copy is gone (I4).

use std::ops::ControlFlow;

use benteng_host::planted::{Bug, planted};
use benteng_meta::ids::ChunkId;

use crate::error::Error;
use crate::store::Store;

/// What one call of [`Store::scrub`] did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scrubbed {
    /// Where to go on; `None`: the end was reached.
    pub next: Option<ChunkId>,
    /// Chunks verified.
    pub chunks: u64,
    /// Bytes read.
    pub bytes: u64,
    /// Corrupt chunks, quarantined now or before.
    pub corrupt: Vec<ChunkId>,
}

/// Chunks looked up at once.
const PAGE: usize = 64;

impl Store {
    /// Verifies chunks in the order of their ids, from behind `after` on, until about
    /// `budget_bytes` are read (at least one chunk). The caller sets the pace.
    pub async fn scrub(&self, after: Option<ChunkId>, budget_bytes: u64) -> Result<Scrubbed, Error> {
        let mut done = Scrubbed { next: after, ..Scrubbed::default() };
        loop {
            let mut page = Vec::new();
            self.index.list(done.next, &mut |id, live| {
                page.push((id, live.header.frames(), live.header.len));
                if page.len() < PAGE { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
            })?;
            if page.is_empty() {
                done.next = None;
                return Ok(done);
            }
            for (id, frames, len) in page {
                let frames = if planted(Bug::ScrubBlind) { 0..0 } else { 0..frames };
                match self.read(id, frames).await {
                    Ok(_) => {}
                    Err(Error::Corrupt { .. }) => done.corrupt.push(id),
                    // Removed meanwhile.
                    Err(Error::NotFound { .. }) => {}
                    Err(e) => return Err(e),
                }
                done.next = Some(id);
                done.chunks += 1;
                done.bytes += u64::from(len);
                if done.bytes >= budget_bytes {
                    return Ok(done);
                }
            }
        }
    }
}
