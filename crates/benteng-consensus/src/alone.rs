//! After the loss of a majority for good: the survivor's log names it the only member from now on (S7). What
//! its log holds counts as committed; what only the lost ones acknowledged is lost, and the operator has said so.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use benteng_meta::ids::NodeId;
use openraft::impls::leader_id_std;
use openraft::storage::{RaftLogReader, RaftLogStorage, RaftLogStorageExt};

use crate::log::LogStore;
use crate::types::{Address, Entry, EntryPayload, LogId, Membership, Vote};
use crate::wire::WireLogId;

/// Appends the membership of one, under a term of its own. Raft has not started.
pub(crate) async fn go_on(log: &mut LogStore, me: NodeId, address: &str) -> io::Result<()> {
    let found = log.get_log_state().await?;
    let vote = log.read_vote().await?.map_or(0, |vote: Vote| vote.leader_id.term);
    let last = found.last_log_id.or(found.last_purged_log_id);
    let term = vote.max(last.map_or(0, |id| *id.leader_id)) + 1;
    let leader_id = leader_id_std::LeaderId { term, voted_for: me };
    log.save_vote(&Vote { leader_id, committed: false }).await?;
    let nodes = BTreeMap::from([(me, Address(address.to_owned()))]);
    let membership = Membership::new(vec![BTreeSet::from([me])], nodes).map_err(io::Error::other)?;
    let index = last.map_or(0, |id| id.index + 1);
    let log_id = LogId::from(WireLogId { term, index });
    let entry = Entry { log_id, payload: EntryPayload::Membership(membership) };
    log.blocking_append([entry]).await.map_err(io::Error::other)?;
    tracing::warn!(term, log_index = index, "this node is the only member from now on");
    Ok(())
}
