//! A node whose state is missing, unreadable or older than what its log has purged takes a snapshot from a peer
//! *before* Raft starts (S5): openraft would take the hole for a mistake of ours, or start from nothing.

use std::time::Duration;

use benteng_host::{Host, sleep};
use benteng_meta::ids::{GroupId, NodeId};
use benteng_rpc::Rpc;
use openraft::storage::{RaftLogReader, RaftLogStorage};

use crate::log::LogStore;
use crate::snapshot;
use crate::state::{Standing, State};
use crate::types::LogId;
use crate::{Error, Result};

/// Between two rounds over all peers: after a power cut of the site they may come later.
const PAUSE: Duration = Duration::from_secs(1);
/// Rounds between two words about it.
const ROUNDS_TOLD: u32 = 10;

/// Fills `state` from the first peer whose state reaches what the log here has purged.
///
/// `why`: what is wrong with the state. Waits until a peer answers.
/// Errors: nobody else is known; the machine.
pub(crate) async fn from_peers(
    host: &Host,
    rpc: &Rpc,
    peers: &[NodeId],
    of: (GroupId, u64),
    state: &State,
    log: &mut LogStore,
    why: &str,
) -> Result<()> {
    let io = |e: std::io::Error| Error::Stopped(format!("the Raft log cannot be read: {e}"));
    let purged = log.get_log_state().await.map_err(io)?.last_purged_log_id;
    let peers: Vec<NodeId> = peers.iter().copied().filter(|peer| *peer != rpc.me()).collect();
    if peers.is_empty() {
        return Err(Error::Stopped(format!(
            "S5: {why}, and no other node of the site is known: a site of one node has only its backup"
        )));
    }
    tracing::warn!(why, "the state is rebuilt: a snapshot is taken from a peer before raft starts");
    for round in 0_u32.. {
        let mut said = Vec::new();
        for peer in &peers {
            match fetch(rpc, *peer, of, state, purged).await {
                Ok(standing) => {
                    let last = standing.last;
                    settle(log, last).await.map_err(io)?;
                    benteng_host::probe("state_restored_from_peer");
                    tracing::info!(from = peer.0, log_index = last.map(|id| id.index), "state restored");
                    return Ok(());
                }
                Err(why) => said.push(format!("node {peer}: {why}")),
            }
        }
        if round % ROUNDS_TOLD == 0 {
            tracing::warn!(peers = said.join("; "), "no peer gives a snapshot yet; the node waits for one");
        }
        sleep(&*host.clock, PAUSE).await;
    }
    Err(Error::Stopped("no peer gave a snapshot".to_owned()))
}

/// Takes a snapshot of one peer and switches to it.
async fn fetch(
    rpc: &Rpc,
    peer: NodeId,
    of: (GroupId, u64),
    state: &State,
    purged: Option<LogId>,
) -> std::result::Result<Standing, String> {
    let (fresh, meta) = snapshot::fetch(rpc, state, peer, of, None).await?;
    let meta = crate::types::SnapshotMeta::try_from(meta)?;
    if meta.last_log_id.is_none() {
        return Err("it has no state either".to_owned());
    }
    if meta.last_log_id.map(|id| id.index) < purged.map(|id| id.index) {
        return Err("its state is older than what is purged here".to_owned());
    }
    let standing = Standing { last: meta.last_log_id, membership: meta.last_membership, switched: true };
    state.switch(fresh, standing.clone()).await.map_err(|e| e.to_string())?;
    Ok(standing)
}

/// Cuts entries off that contradict the snapshot: what it covers is committed, so they never were.
async fn settle(log: &mut LogStore, last: Option<LogId>) -> std::io::Result<()> {
    let Some(last) = last else { return Ok(()) };
    let found = log.try_get_log_entries(last.index..=last.index).await?;
    if found.first().is_some_and(|entry| entry.log_id != last) {
        let before = last.index.saturating_sub(1);
        let kept = log.try_get_log_entries(before..=before).await?;
        let purged = log.get_log_state().await?.last_purged_log_id;
        log.truncate_after(kept.first().map(|entry| entry.log_id).or(purged)).await?;
    }
    Ok(())
}
