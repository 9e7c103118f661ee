//! The types that openraft is instantiated with.

use std::fmt;

use benteng_meta::Outcome;
use benteng_meta::ids::{NodeId, SiteTime};
use bytes::Bytes;
use openraft::impls::leader_id_std;

use crate::runtime::HostRuntime;

/// A command on its way into the log: stamped by the leader, encoded by its gateway.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Proposal {
    /// Site time at the leader (C4); takes the place of the envelope's own stamp.
    pub(crate) stamp: SiteTime,
    /// The encoded `benteng_meta::Envelope`.
    pub(crate) envelope: Bytes,
}

impl fmt::Debug for Proposal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Never the contents: they hold keys and small bodies (I5).
        write!(f, "Proposal({} bytes at {})", self.envelope.len(), self.stamp)
    }
}

impl fmt::Display for Proposal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

/// What applying an entry gives back to its proposer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Applied {
    /// The entry held no command.
    Nothing,
    /// The command's answer.
    Outcome(Box<Outcome>),
}

/// Where a member is reached: `host:port` of its RPC door.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Address(pub(crate) String);

openraft::declare_raft_types!(
    /// Standard Raft: one leader per term.
    pub(crate) Types:
        D = Proposal,
        R = Applied,
        NodeId = NodeId,
        Node = Address,
        Term = u64,
        LeaderId = leader_id_std::LeaderId<u64, NodeId>,
        AsyncRuntime = HostRuntime,
);

pub(crate) type LogId = openraft::type_config::alias::LogIdOf<Types>;
pub(crate) type Vote = openraft::type_config::alias::VoteOf<Types>;
pub(crate) type Entry = openraft::type_config::alias::EntryOf<Types>;
pub(crate) type EntryPayload = openraft::type_config::alias::EntryPayloadOf<Types>;
pub(crate) type Membership = openraft::Membership<NodeId, Address>;
pub(crate) type StoredMembership = openraft::type_config::alias::StoredMembershipOf<Types>;
pub(crate) type SnapshotMeta = openraft::type_config::alias::SnapshotMetaOf<Types>;
