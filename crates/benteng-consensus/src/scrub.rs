//! Reads what this node keeps for the group again (I4): its log, and the ordered store with the state. Whoever calls
//! sets the pace. What is damaged is said and mended: the log is purged beyond it, the store is built anew (S6).

use benteng_host::planted::{Bug, planted};
use benteng_host::{Verified, probe};
use bytes::Bytes;

use crate::group::Group;
use crate::log::LogScrubbed;
use crate::{Error, Result};

impl Group {
    /// Reads the first segment of the log behind number `after`.
    ///
    /// Errors: `Stopped`, the disk does not read.
    pub async fn scrub_log(&self, after: u64) -> Result<LogScrubbed> {
        let read = self.inner.log.scrub_next(after).await;
        read.map_err(|e| Error::Stopped(format!("the Raft log cannot be read again: {e}")))
    }

    /// Reads the ordered store behind the key `after` until about `budget` bytes.
    ///
    /// A damaged one is given up where other nodes have the state: the process ends, and the next start builds it
    /// anew from log, chunk store and peers (S6). A site of one node goes on with it as long as it can be read.
    /// Errors: `State`, the disk does not read, or the only store there is is damaged.
    pub async fn scrub_store(&self, after: Option<Bytes>, budget: u64) -> Result<Verified> {
        if planted(Bug::ScrubBlind) {
            return Ok(Verified::default());
        }
        let e = match self.inner.state.verify(after, budget).await {
            Ok(done) => return Ok(done),
            Err(e) => e,
        };
        if e.source.kind() == std::io::ErrorKind::InvalidData {
            probe("store_damage_found");
            let status = self.status();
            if status.voters.union(&status.learners).any(|node| *node != self.inner.me) {
                self.inner.state.store_is_damaged();
                let why = self.inner.machine.rebuild(&e).await;
                tracing::error!(error = %why, "the damaged store is built anew at the next start");
            } else {
                tracing::error!(
                    error = %e,
                    "the ordered store is damaged, and this site has no other node: back the site up and restore it"
                );
            }
        }
        Err(benteng_meta::Error::from(e).into())
    }
}
