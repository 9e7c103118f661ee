//! Reads every stored byte again within its time; what fails its checksums is queued for repair (I4).

use std::sync::Arc;
use std::time::Duration;

use benteng_host::{probe, sleep};

use crate::core::Core;
use crate::loops::alive;

/// Between two slices.
const PAUSE: Duration = Duration::from_secs(10);
/// Least bytes of a slice: one chunk.
const SLICE_MIN: u64 = 5 << 20;

/// Scrubs for ever.
pub(crate) async fn run(core: Arc<Core>) {
    alive(&core).await;
    let mut after = None;
    loop {
        sleep(&*core.host.clock, PAUSE).await;
        let disk = core.copies.disk();
        let slices = (core.limits.scrub.as_secs() / PAUSE.as_secs()).max(1);
        let budget = (disk.fill().bytes / slices).max(SLICE_MIN);
        match disk.scrub(after, budget).await {
            Ok((next, damaged)) => {
                after = next;
                // The store keeps them apart; what it kept apart before this process began counts as well.
                for chunk in damaged.into_iter().chain(disk.quarantined()) {
                    probe("scrub_found_damage");
                    core.findings.add(core.me, chunk);
                }
            }
            Err(e) => tracing::warn!(error = %e, "a slice of the scrub failed; it goes on"),
        }
        loop {
            match disk.clean().await {
                Ok(true) => {}
                Ok(false) => break,
                Err(e) => {
                    tracing::warn!(error = %e, "room of removed chunks is not given back now");
                    break;
                }
            }
        }
    }
}
