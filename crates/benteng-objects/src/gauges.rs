//! What this node knows of missing copies, moves and its scrub, as gauges: the same figures as `site status`,
//! for whoever looks at dashboards.

use std::sync::atomic::Ordering;

use benteng_meta::query;

use crate::Result;
use crate::core::Core;

/// Sets them all. Errors: the local state cannot be read.
pub(crate) fn set(core: &Core) -> Result<()> {
    let view = core.group.local()?;
    let short = query::clock(&*view)?.chunks_short;
    let moving = core.places.of(&*view)?.iter().filter(|(_, row)| row.target.is_some()).count();
    drop(view);
    let scrub = core.scrubbing.report(core.copies.disk().fill().bytes, &core.group.status());
    let now = core.group.site_time();
    let since = scrub.last_ended.map(|at| now.0.saturating_sub(at.0).max(0) / 1_000_000);
    let gauges = [
        ("benteng_site_chunks_short", short as f64),
        ("benteng_site_groups_moving", moving as f64),
        ("benteng_objects_chunks_to_fill", core.progress.to_fill.load(Ordering::Relaxed) as f64),
        ("benteng_objects_chunks_copied_per_minute", core.progress.per_minute(core.host.clock.now()) as f64),
        ("benteng_objects_chunks_quarantined", crate::heal::to_mend(core).len() as f64),
        ("benteng_objects_scrub_bytes", scrub.bytes as f64),
        ("benteng_objects_scrub_bytes_total", scrub.total as f64),
    ];
    for (name, value) in gauges {
        metrics::gauge!(name).set(value);
    }
    if let Some(since) = since {
        metrics::gauge!("benteng_objects_scrub_finished_seconds_ago").set(since as f64);
    }
    let seconds = crate::status::own_repair_seconds(core)?;
    metrics::gauge!("benteng_objects_repair_ends_seconds").set(seconds as f64);
    Ok(())
}
