//! `site status|doctor`, `node list|add`.

use std::process::ExitCode;

use anyhow::Result;
use benteng_http::api::{DoctorReport, Health, Level, NewToken, NodeStatus, SiteStatus, TokenRequest};

use crate::cli::{Global, NodeVerb, SiteVerb};
use crate::client::Client;
use crate::output::{bytes, pairs, plain, print, result, table};

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

fn nodes_table(nodes: &[NodeStatus]) -> String {
    let rows = nodes.iter().map(|node| {
        let reachable = node.reachable.map_or("?", |reachable| if reachable { "yes" } else { "NO" });
        let free = node
            .disk
            .map_or("?".into(), |disk| format!("{} of {}", bytes(disk.free_bytes), bytes(disk.total_bytes)));
        vec![
            node.id.to_string(),
            plain(&node.name),
            plain(&node.zone),
            node.state.clone(),
            node.role.clone().unwrap_or_else(|| "?".into()),
            reachable.into(),
            free,
            plain(&node.http),
        ]
    });
    table(&["id", "name", "zone", "state", "role", "reached", "disk free", "http"], &rows.collect::<Vec<_>>())
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

pub(crate) async fn node(global: &Global, verb: NodeVerb) -> Result<()> {
    let client = Client::find(global)?;
    match verb {
        NodeVerb::List => {
            let nodes: Vec<NodeStatus> = client.get(&["nodes"], &[]).await?;
            result(global.output, &nodes, |nodes| nodes_table(nodes))
        }
        NodeVerb::Add { replace, valid } => {
            let request = TokenRequest { valid_seconds: Some(valid * 60), replaces: replace };
            let token: NewToken = client.post(&["tokens"], &request).await?;
            match global.output {
                crate::cli::Output::Json => print(&format!("{}\n", serde_json::to_string_pretty(&token)?)),
                crate::cli::Output::Table | crate::cli::Output::Csv => print(&format!(
                    "On the new node, with the site's root key in place{}:\n\n  \
                     benteng join --config /etc/benteng/benteng.toml --site {}{} --token {}\n  \
                     benteng server --config /etc/benteng/benteng.toml\n\n\
                     The token serves once, within {valid} minutes.\n",
                    if client.is_tls() {
                        " and the site's ca.pem (a node has it in its data_dir)"
                    } else {
                        ""
                    },
                    client.base(),
                    if client.is_tls() { " --ca ca.pem" } else { "" },
                    token.token,
                )),
            }
        }
    }
}
