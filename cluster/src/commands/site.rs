//! `site status|doctor`.

use std::process::ExitCode;

use anyhow::Result;
use benteng_http::api::{DoctorReport, Health, Level, SiteStatus};

use super::node::nodes_table;
use crate::cli::{Global, SiteVerb};
use crate::client::Client;
use crate::output::{bytes, duration, pairs, plain, result, table};

pub(crate) async fn site(global: &Global, verb: SiteVerb) -> Result<ExitCode> {
    let client = Client::find(global)?;
    match verb {
        SiteVerb::Status => {
            let status: SiteStatus = client.get(&["site", "status"], &[]).await?;
            result(global.output, &status, status_table)?;
            Ok(ExitCode::SUCCESS)
        }
        SiteVerb::Doctor => {
            let report: DoctorReport = client.get(&["site", "doctor"], &[]).await?;
            result(global.output, &report, doctor_table)?;
            Ok(if report.well { ExitCode::SUCCESS } else { ExitCode::FAILURE })
        }
    }
}

fn status_table(status: &SiteStatus) -> String {
    let health = match status.health {
        Health::Healthy => "healthy",
        Health::Degraded => "degraded",
        Health::Unavailable => "unavailable",
    };
    let survives = if status.survives_one_loss { "yes" } else { "NO" };
    let short = match status.oldest_short_seconds {
        Some(age) => format!("{}, the oldest for {age} s", status.chunks_short),
        None => status.chunks_short.to_string(),
    };
    let short = match (status.chunks_no_copy, status.chunks_one_copy) {
        (0, 0) => short,
        (0, one) => format!("{short}; {one} have one copy left"),
        (none, one) => format!("{short}; {one} have one copy left, {none} have NONE"),
    };
    let ends = status.repair_ends_seconds.map_or("-".to_owned(), |s| format!("in {}", duration(s)));
    let moving = match status.groups_moving {
        0 => "0".to_owned(),
        n => format!(
            "{n} of {}; {} of {} copies filled",
            status.groups, status.copies_filled, status.copies_to_fill
        ),
    };
    let mut out = pairs(&[
        ("site", format!("{} ({})", plain(&status.name), status.site)),
        ("health", health.into()),
        ("survives the loss of a node", survives.into()),
        ("copies", format!("{}, acknowledged at {}", status.copies, status.copies_min)),
        ("objects", format!("{}, {}", status.objects, bytes(status.bytes))),
        ("chunks short of copies", short),
        ("placement groups moving", moving),
        ("repair and moves end", ends),
        ("leader", status.leader.map_or("unknown".into(), |id| format!("node {id}"))),
        ("commands applied", status.sequence.to_string()),
        ("site time", status.site_time.clone()),
        ("answered by", format!("node {}, version {}", status.node, status.version)),
    ]);
    for note in &status.notes {
        out.push_str(&format!("note: {}\n", plain(note)));
    }
    out.push('\n');
    out.push_str(&nodes_table(&status.nodes));
    out
}

fn doctor_table(report: &DoctorReport) -> String {
    let rows = report.findings.iter().map(|finding| {
        let level = match finding.level {
            Level::Ok => "ok",
            Level::Warning => "warning",
            Level::Problem => "PROBLEM",
        };
        vec![level.into(), plain(&finding.check), plain(&finding.message), plain(&finding.advice)]
    });
    table(&["", "check", "found", "do"], &rows.collect::<Vec<_>>())
}
