//! `node list|add|drain|undrain|remove`.

use std::time::Duration;

use anyhow::{Result, bail};
use benteng_http::api::{NewToken, NodeRemoved, NodeStatus, TokenRequest};

use crate::cli::{Global, NodeVerb};
use crate::client::Client;
use crate::output::{bytes, plain, print, progress, result, table};

/// Between two looks at a drain that is waited for.
const TURN: Duration = Duration::from_millis(500);

pub(crate) async fn run(global: &Global, verb: NodeVerb) -> Result<()> {
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
                     benteng join --config /etc/benteng/benteng.toml --site {}{}{} --token {}\n  \
                     benteng server --config /etc/benteng/benteng.toml\n\n\
                     The token serves once, within {valid} minutes.\n",
                    if client.is_tls() {
                        " and the site's ca.pem (a node has it in its data_dir)"
                    } else {
                        ""
                    },
                    client.base(),
                    if client.is_tls() { " --ca ca.pem" } else { "" },
                    replace.map_or(String::new(), |old| format!(" --replace {old}")),
                    token.token,
                )),
            }
        }
        NodeVerb::Drain { node, wait } => {
            let id = find(&client, &node).await?;
            let mut status: NodeStatus = client.post(&["nodes", &id.to_string(), "drain"], &()).await?;
            if wait {
                status = drained(global, &client, status).await?;
            }
            result(global.output, &status, |status| format!("{}\n", drain_text(status)))
        }
        NodeVerb::Undrain { node } => {
            let id = find(&client, &node).await?;
            let status: NodeStatus = client.post(&["nodes", &id.to_string(), "undrain"], &()).await?;
            result(global.output, &status, |status| format!("node {} takes part again\n", status.id))
        }
        NodeVerb::Remove { node, accept_one_voter } => {
            let id = find(&client, &node).await?;
            let query = [("accept_one_voter", if accept_one_voter { "true" } else { "false" })];
            let removed: NodeRemoved = client.delete_for(&["nodes", &id.to_string()], &query).await?;
            result(global.output, &removed, |removed| {
                format!(
                    "node {} is removed for good; stop it and wipe its disks. The site keeps {} copies, \
                     acknowledged at {}\n",
                    removed.node, removed.copies, removed.copies_min
                )
            })
        }
    }
}

/// The id of a node that is given by id or name.
pub(super) async fn find(client: &Client, node: &str) -> Result<u64> {
    if let Ok(id) = node.parse() {
        return Ok(id);
    }
    let nodes: Vec<NodeStatus> = client.get(&["nodes"], &[]).await?;
    let named = nodes.iter().find(|one| one.name == node && one.state != "removed");
    match named {
        Some(one) => Ok(one.id),
        None => bail!("no node is named {}; `benteng node list` shows them", plain(node)),
    }
}

/// `drained` is a draining node that holds nothing any more and has no vote.
fn state(node: &NodeStatus) -> String {
    if is_drained(node) { "drained".to_owned() } else { node.state.clone() }
}

fn is_drained(node: &NodeStatus) -> bool {
    node.state == "draining" && node.groups == 0 && node.role.as_deref() == Some("learner")
}

fn drain_text(node: &NodeStatus) -> String {
    let id = node.id;
    match node.groups {
        _ if is_drained(node) => {
            format!("node {id} is drained: `benteng node remove {id}` takes it out for good")
        }
        0 => {
            format!("node {id} holds no chunks any more; its vote goes to another node when one can take it")
        }
        groups => format!(
            "node {id} is draining: {groups} placement groups are left; `benteng site status` follows"
        ),
    }
}

/// Waits until a node is drained; says what it waits for.
async fn drained(global: &Global, client: &Client, mut status: NodeStatus) -> Result<NodeStatus> {
    let bar = progress(global.output, status.groups, "groups");
    let most = status.groups;
    while !is_drained(&status) {
        bar.set_position(most.saturating_sub(status.groups));
        tokio::time::sleep(TURN).await;
        let nodes: Vec<NodeStatus> = client.get(&["nodes"], &[]).await?;
        let Some(now) = nodes.into_iter().find(|node| node.id == status.id) else {
            bail!("node {} is not there any more", status.id);
        };
        status = now;
        if status.state != "draining" {
            bail!("node {} is {} now; nobody drains it any more", status.id, status.state);
        }
    }
    bar.finish_and_clear();
    Ok(status)
}

pub(super) fn nodes_table(nodes: &[NodeStatus]) -> String {
    let rows = nodes.iter().map(|node| {
        let reachable = node.reachable.map_or("?", |reachable| if reachable { "yes" } else { "NO" });
        let free = node
            .disk
            .map_or("?".into(), |disk| format!("{} of {}", bytes(disk.free_bytes), bytes(disk.total_bytes)));
        vec![
            node.id.to_string(),
            plain(&node.name),
            plain(&node.zone),
            state(node),
            node.groups.to_string(),
            node.role.clone().unwrap_or_else(|| "?".into()),
            reachable.into(),
            free,
            plain(&node.http),
        ]
    });
    table(
        &["id", "name", "zone", "state", "groups", "role", "reached", "disk free", "http"],
        &rows.collect::<Vec<_>>(),
    )
}
