//! Room on the disks (O6): a node under its reserve gives leadership up and does not stand while others can;
//! where a majority is, the leader takes only deletes and maintenance. All of it returns by itself. The last
//! reserve is the ballast: a file that gives its room to journal and state when nothing else is left.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use benteng_host::{Host, Mono, Open, probe, sleep};
use benteng_meta::ids::NodeId;

use crate::core::Core;

/// Between two looks, in rounds of the housekeeping.
const EVERY: u32 = 4;
/// How long another node may take to say how its disk is.
const ASK: Duration = Duration::from_secs(1);
/// Without a leader for so long even a node without room stands: deletes need a leader, too.
const LEADERLESS: Duration = Duration::from_secs(10);
const BALLAST: &str = "ballast";
/// Bytes of the ballast.
const BALLAST_BYTES: u64 = 32 << 20;
/// It is given up below this share of the device, in thousandths, and laid down above that one.
const BALLAST_STOP: u64 = 10;
const BALLAST_RESUME: u64 = 100;

/// Watches for ever.
pub(crate) async fn run(core: Arc<Core>, dir: PathBuf) {
    let mut seen = core.host.clock.now();
    let mut said = false;
    loop {
        sleep(&*core.host.clock, core.limits.idle * EVERY).await;
        if let Err(e) = core.copies.disk().look().await {
            tracing::warn!(error = %e, "the disk does not say how full it is");
        }
        let full = core.copies.disk().fill().under_reserve;
        if full != said {
            said = full;
            if full {
                tracing::error!(
                    "the disk is under its reserve: this node takes no chunks; delete objects or add room"
                );
            } else {
                tracing::info!("the disk has room again: this node takes chunks");
            }
        }
        metrics::gauge!("benteng_disk_under_reserve").set(if full { 1.0 } else { 0.0 });
        seen = stand(&core, full, seen);
        if core.group.is_leader() {
            lead(&core, full).await;
        } else {
            // Should it be elected: until it has asked the others it takes what it has room for itself.
            core.group.set_full(full);
        }
        ballast(&core.host, &dir, core.copies.disk().fill().free, core.copies.disk().fill().total).await;
    }
}

/// Whether this node stands for election. Returns when a leader was seen last.
fn stand(core: &Core, full: bool, seen: Mono) -> Mono {
    let now = core.host.clock.now();
    let led = core.group.leader().is_some();
    let leaderless = !led && now.since(seen) >= LEADERLESS;
    core.group.set_standing(!full || leaderless);
    if led { now } else { seen }
}

/// The leader's part: hand over if another voter has room, and take what needs none if a majority has none.
async fn lead(core: &Core, full: bool) {
    let voters = core.group.status().voters;
    let others = voters.iter().copied().filter(|node| *node != core.me);
    let report = |node| async move { core.copies.report(node, ASK).await.ok().map(|(report, _)| report) };
    let asked = others.map(|node| async move { (node, report(node).await) });
    let reports = futures::future::join_all(asked).await;
    // Who does not answer is not known to be full.
    let without =
        reports.iter().filter(|(_, report)| report.as_ref().is_some_and(|report| report.under_reserve));
    let without = without.count() + usize::from(full);
    let majority = without * 2 > voters.len();
    if majority {
        probe("only_deletes_are_taken");
    }
    metrics::gauge!("benteng_site_takes_only_deletes").set(if majority { 1.0 } else { 0.0 });
    core.group.set_full(majority);
    if !full {
        return;
    }
    let with_room = |report: &crate::Report| !report.under_reserve;
    let next = reports.into_iter().find_map(|(node, report)| report.filter(with_room).map(|_| node));
    if let Some(next) = next {
        hand_over(core, next).await;
    }
}

async fn hand_over(core: &Core, next: NodeId) {
    probe("full_leader_hands_over");
    tracing::warn!(to = next.0, "the disk is under its reserve; leadership goes to a node with room");
    if let Err(e) = core.group.hand_over(next).await {
        tracing::warn!(error = %e, "leadership was not handed over; it is tried again");
    }
}

/// Lays the ballast down while there is plenty of room, and gives it up when there is next to none.
async fn ballast(host: &Host, dir: &Path, free: u64, total: u64) {
    let path = dir.join(BALLAST);
    let share = u128::from(free) * 1000 / u128::from(total.max(1));
    let laid = host.disk.open(&path, Open::Read).await.is_ok();
    let outcome = if laid && share < u128::from(BALLAST_STOP) {
        probe("ballast_given_up");
        tracing::error!(free, "the disk is all but full: the ballast is given up for journal and state");
        host.disk.remove(&path).await
    } else if !laid && share > u128::from(BALLAST_RESUME) && free > 4 * BALLAST_BYTES {
        lay(host, dir, &path).await
    } else {
        return;
    };
    if let Err(e) = outcome {
        tracing::warn!(error = %e, "the ballast stays as it is");
    }
}

async fn lay(host: &Host, dir: &Path, path: &Path) -> benteng_host::Result<()> {
    let file = host.disk.open(path, Open::CreateNew).await?;
    // Allocated, not written: nobody reads it.
    file.allocate(0, BALLAST_BYTES).await?;
    host.disk.sync_dir(dir).await
}
