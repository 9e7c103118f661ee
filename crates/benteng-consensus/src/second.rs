//! With two nodes one vote decides, so a commit proves one disk only. Where the site promises two copies, a
//! command is answered when the log of a second node has it, too (S8).

use std::time::Duration;

use benteng_meta::ids::NodeId;
use benteng_meta::{Command, Envelope, codec, query};
use bytes::Bytes;
use openraft::async_runtime::WatchReceiver;

use crate::group::Inner;
use crate::types::Types;
use crate::wire::WireAnswer;

/// How long the second node is waited for: less than whoever forwarded the command waits.
const PATIENCE: Duration = Duration::from_millis(2500);

/// Turns answers of commands that only this node has into unknown ones.
pub(crate) async fn confirm(inner: &Inner, envelopes: &[Bytes], answers: &mut [WireAnswer]) {
    let newest = answers.iter().filter_map(|answer| match answer {
        WireAnswer::Applied { index, .. } => Some(*index),
        WireAnswer::NotLeader(_) | WireAnswer::Unknown(_) => None,
    });
    let Some(newest) = newest.max() else { return };
    let Err(why) = durable(inner, newest).await else { return };
    benteng_host::probe("second_node_not_durable");
    for (envelope, answer) in envelopes.iter().zip(answers) {
        if matches!(answer, WireAnswer::Applied { .. }) && !is_of_this_node(envelope) {
            *answer = WireAnswer::Unknown(why.clone());
        }
    }
}

/// What a node only says of itself is lost with it, and harms nobody: a node that starts while the second one
/// is away serves reads at least.
fn is_of_this_node(envelope: &Bytes) -> bool {
    let envelope = codec::decode::<Envelope>(envelope);
    envelope.is_ok_and(|envelope| {
        matches!(
            envelope.command,
            Command::StartGateway { .. } | Command::UpdateNode { .. } | Command::PublishFloor { .. }
        )
    })
}

/// Waits until the log of another member is durable up to `index`, if the site promises two copies and a
/// majority of the voters is fewer. Errors: what to do.
async fn durable(inner: &Inner, index: u64) -> Result<(), String> {
    let me = inner.me;
    // One node, or three voters: a majority is all that was promised.
    let few = |m: &openraft::RaftMetrics<Types>| {
        let membership = m.membership_config.membership();
        membership.nodes().count() > 1 && membership.voter_ids().count() < 3
    };
    let reached = move |m: &openraft::RaftMetrics<Types>| {
        let others = m.replication.iter().flatten().filter(|(node, _)| **node != me);
        let mut matched = others.filter_map(|(_, matched)| matched.as_ref());
        matched.any(|id| id.index >= index)
    };
    {
        let metrics = inner.raft.metrics();
        let now = metrics.borrow_watched();
        if !few(&now) || reached(&now) {
            return Ok(());
        }
    }
    // As of after the commands: one that accepted a single copy needs no second node any more.
    if copies_min(inner)? < 2 {
        return Ok(());
    }
    let waiting = inner.raft.wait(Some(PATIENCE));
    let done = waiting.metrics(move |m| !few(m) || reached(m), "a second node is durable (S8)").await;
    done.map(drop).map_err(|_| {
        let second = second(inner).map_or("the second node".to_owned(), |node| format!("node {node}"));
        format!(
            "{second} has not stored it, and a site of two nodes acknowledges what both have (S8); \
             start it, or take it out: `benteng node remove ID --accept-one-voter`"
        )
    })
}

fn copies_min(inner: &Inner) -> Result<u8, String> {
    let rows = inner.state.view().map_err(|e| e.to_string())?;
    let site = query::site(&rows).map_err(|e| e.to_string())?;
    Ok(site.map_or(1, |site| site.copies_min))
}

fn second(inner: &Inner) -> Option<NodeId> {
    let metrics = inner.raft.metrics().borrow_watched().clone();
    metrics.membership_config.membership().learner_ids().next()
}
