//! Membership changes: one at a time, never interleaved (design §4).

use std::collections::{BTreeMap, BTreeSet};

use benteng_meta::ids::NodeId;
use openraft::ChangeMembers;
use openraft::async_runtime::WatchReceiver;

use crate::group::Inner;
use crate::types::Address;
use crate::{Error, Result};

impl Inner {
    pub(crate) async fn set_members(
        &self,
        voters: BTreeSet<NodeId>,
        learners: BTreeSet<NodeId>,
        addresses: &BTreeMap<NodeId, String>,
    ) -> Result<()> {
        // Two callers would leave a joint configuration behind.
        let _turn = self.members.lock().await;
        let address = |node: &NodeId| addresses.get(node).map(|a| Address(a.clone()));
        let wanted: BTreeMap<NodeId, Address> =
            voters.iter().chain(&learners).filter_map(|node| Some((*node, address(node)?))).collect();
        if let Some(lost) = voters.iter().find(|node| !wanted.contains_key(node)) {
            return Err(Error::Stopped(format!("node {lost} should vote, but its address is not known")));
        }
        let (now_nodes, now_voters) = self.membership();
        let fresh: BTreeMap<_, _> =
            wanted.iter().filter(|(n, _)| !now_nodes.contains_key(n)).map(|(n, a)| (*n, a.clone())).collect();
        let moved: BTreeMap<_, _> = wanted
            .iter()
            .filter(|(n, a)| now_nodes.get(n).is_some_and(|old| old != *a))
            .map(|(n, a)| (*n, a.clone()))
            .collect();
        if !fresh.is_empty() {
            self.change(ChangeMembers::AddNodes(fresh), true).await?;
        }
        if !moved.is_empty() {
            self.change(ChangeMembers::SetNodes(moved), true).await?;
        }
        if now_voters != voters {
            // Whoever loses the vote stays a learner until the next step.
            self.change(ChangeMembers::ReplaceAllVoters(voters), true).await?;
        }
        let (now_nodes, _) = self.membership();
        let gone: BTreeSet<NodeId> = now_nodes.keys().filter(|n| !wanted.contains_key(n)).copied().collect();
        if !gone.is_empty() {
            self.change(ChangeMembers::RemoveNodes(gone), true).await?;
        }
        Ok(())
    }

    fn membership(&self) -> (BTreeMap<NodeId, Address>, BTreeSet<NodeId>) {
        let metrics = self.raft.metrics().borrow_watched().clone();
        let membership = metrics.membership_config.membership();
        let nodes = membership.nodes().map(|(id, node)| (*id, node.clone())).collect();
        (nodes, membership.voter_ids().collect())
    }

    async fn change(&self, change: ChangeMembers<NodeId, Address>, retain: bool) -> Result<()> {
        let shown = format!("{change:?}");
        match self.raft.change_membership(change, retain).await {
            Ok(_) => {
                tracing::info!(change = shown, "membership changed");
                Ok(())
            }
            Err(e) => {
                Err(Error::Unavailable { waited_ms: 0, why: format!("membership change {shown}: {e}") })
            }
        }
    }
}
