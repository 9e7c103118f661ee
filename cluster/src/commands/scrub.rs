//! `scrub run|status`.

use std::time::Duration;

use anyhow::{Result, bail};
use benteng_http::api::{NodeScrub, ScrubBegun, ScrubLine, ScrubRequest, ScrubStatus};

use super::node::find;
use crate::cli::{Global, ScrubVerb};
use crate::client::Client;
use crate::output::{bytes, duration, plain, progress, result, table};

/// Between two looks at a scrub that is waited for.
const TURN: Duration = Duration::from_millis(500);
/// Looks in a row at which a node does not answer, until it is not waited for any more.
const SILENT_MAX: u32 = 120;

pub(crate) async fn run(global: &Global, verb: ScrubVerb) -> Result<()> {
    let client = Client::find(global)?;
    match verb {
        ScrubVerb::Status => {
            let status: ScrubStatus = client.get(&["scrub"], &[]).await?;
            result(global.output, &status, status_table)
        }
        ScrubVerb::Run { node, wait } => {
            let node = match node {
                Some(node) => Some(find(&client, &node).await?),
                None => None,
            };
            let begun: Vec<ScrubBegun> = client.post(&["scrub"], &ScrubRequest { node }).await?;
            if !wait {
                return result(global.output, &begun, |begun| {
                    format!("{} nodes read every byte again; `benteng scrub status` follows\n", begun.len())
                });
            }
            let status = ended(global, &client, &begun).await?;
            result(global.output, &status, status_table)
        }
    }
}

/// Waits until every pass that was begun has ended.
async fn ended(global: &Global, client: &Client, begun: &[ScrubBegun]) -> Result<ScrubStatus> {
    let bar = progress(global.output, 0, "bytes");
    let mut silent = 0;
    loop {
        let mut status: ScrubStatus = client.get(&["scrub"], &[]).await?;
        status.nodes.retain(|line| begun.iter().any(|one| one.node == line.node));
        let (mut read, mut total, mut left) = (0, 0, 0);
        let mut mute = None;
        for one in begun {
            match status.nodes.iter().find(|line| line.node == one.node).map(|line| &line.scrub) {
                Some(Some(scrub)) => {
                    let over = scrub.passes >= one.pass;
                    read += if over { scrub.total_bytes } else { scrub.scrubbed_bytes };
                    total += scrub.total_bytes;
                    left += u32::from(!over);
                }
                Some(None) => mute = Some(one.node),
                None => bail!("node {} was removed while it scrubbed", one.node),
            }
        }
        bar.set_length(total);
        bar.set_position(read);
        silent = if mute.is_some() { silent + 1 } else { 0 };
        match mute {
            None if left == 0 => {
                bar.finish_and_clear();
                return Ok(status);
            }
            Some(node) if silent > SILENT_MAX => {
                bail!("node {node} does not answer any more; its scrub is not waited for")
            }
            None | Some(_) => tokio::time::sleep(TURN).await,
        }
    }
}

fn status_table(status: &ScrubStatus) -> String {
    let rows: Vec<Vec<String>> = status.nodes.iter().map(row).collect();
    let header = [
        "id",
        "name",
        "pass",
        "read",
        "of",
        "last finished",
        "damaged",
        "repaired",
        "kept apart",
        "segments",
        "log",
        "state",
    ];
    format!(
        "{}\nEvery byte is read again within {}. Segments, log: found damaged, and mended; state: how often it was built anew.\n",
        table(&header, &rows),
        duration(status.period_seconds)
    )
}

fn row(line: &ScrubLine) -> Vec<String> {
    let name = [line.node.to_string(), plain(&line.name)];
    let Some(scrub) = &line.scrub else {
        let unknown = ["no answer", "?", "?", "?", "?", "?", "?", "?", "?", "?"].map(str::to_owned);
        return name.into_iter().chain(unknown).collect();
    };
    let NodeScrub { scrubbed_bytes, total_bytes, damaged_found, repaired, quarantined, .. } = scrub;
    let log = match (scrub.log_damaged_found, scrub.log_damaged) {
        (found, 0) => found.to_string(),
        (found, left) => format!("{found}, {left} left"),
    };
    let pass = match (&scrub.started, scrub.asked) {
        (Some(_), true) => "at full rate",
        (Some(_), false) => "in its time",
        (None, _) => "-",
    };
    let last = scrub.last_finished_seconds.map_or("never".to_owned(), |ago| format!("{} ago", duration(ago)));
    let rest = [
        pass.to_owned(),
        bytes(*scrubbed_bytes),
        bytes(*total_bytes),
        last,
        damaged_found.to_string(),
        repaired.to_string(),
        quarantined.to_string(),
        scrub.segments_damaged_found.to_string(),
        log,
        scrub.store_rebuilt.to_string(),
    ];
    name.into_iter().chain(rest).collect()
}
