//! The site: its constants, clock, nodes, keys, gateways, floors and placement.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::codec::{self, Versioned};
use crate::ids::*;

/// The site as a whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SiteRow {
    /// Drawn at `init`.
    pub id: SiteId,
    /// For people.
    pub name: String,
    /// When it was formed.
    pub created: SiteTime,
    /// Copies of each chunk that are wanted.
    pub copies: u8,
    /// Durable copies without which no write is acknowledged.
    pub copies_min: u8,
    /// The next node id; ids are never reused.
    pub next_node: NodeId,
    /// How long dead chunks are kept after all floors have passed (O5), microseconds.
    pub removal_delay: i64,
    /// Grows by one with each `recover --accept-loss` (S7).
    pub recovery_epoch: u64,
    /// The site's certificate authority, its private key wrapped under the root key.
    pub ca: Bytes,
    /// Key-check value of the root key.
    pub root_check: Bytes,
    /// An operator accepted fewer than three voters (S8); ends when there are three nodes again.
    pub one_voter: bool,
}
impl Versioned for SiteRow {
    const WHAT: &'static str = "site";
    const VERSION: u8 = 2;

    fn older(version: u8, body: &[u8]) -> Option<Result<SiteRow, String>> {
        (version == 1).then(|| codec::whole::<SiteRowV1>(body).map(SiteRow::from))
    }
}

/// The site before fewer than three voters could be accepted.
#[derive(Deserialize)]
struct SiteRowV1 {
    id: SiteId,
    name: String,
    created: SiteTime,
    copies: u8,
    copies_min: u8,
    next_node: NodeId,
    removal_delay: i64,
    recovery_epoch: u64,
    ca: Bytes,
    root_check: Bytes,
}

impl From<SiteRowV1> for SiteRow {
    fn from(old: SiteRowV1) -> SiteRow {
        SiteRow {
            id: old.id,
            name: old.name,
            created: old.created,
            copies: old.copies,
            copies_min: old.copies_min,
            next_node: old.next_node,
            removal_delay: old.removal_delay,
            recovery_epoch: old.recovery_epoch,
            ca: old.ca,
            root_check: old.root_check,
            one_voter: false,
        }
    }
}

/// The group's clock and counters; rewritten by every command.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClockRow {
    /// Commands applied so far (S9).
    pub seq: StateSeq,
    /// Stamp of the last one: site time never goes back.
    pub now: SiteTime,
    /// Answers that are remembered (C1).
    pub answers: u64,
    /// Answers that fell out of the window by number before their time.
    pub answers_crowded_out: u64,
    /// Chunks with missing copies (rows of the repair queue).
    pub chunks_short: u64,
    /// Where each queue begins: a scan from its first key would pass the marks of all that has left it.
    pub queues: Queues,
}
impl Versioned for ClockRow {
    const WHAT: &'static str = "clock";
    const VERSION: u8 = 2;

    fn older(version: u8, body: &[u8]) -> Option<Result<ClockRow, String>> {
        (version == 1).then(|| {
            let (seq, now, answers, answers_crowded_out, chunks_short) = codec::whole(body)?;
            let queues = Queues::default();
            Ok(ClockRow { seq, now, answers, answers_crowded_out, chunks_short, queues })
        })
    }
}

/// For each table that is ordered by sequence and emptied from its front: no row stands before this.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Queues {
    /// Answers in the order in which they are forgotten.
    pub answers: StateSeq,
    /// Completed uploads, likewise.
    pub completions: StateSeq,
    /// Dead parts and blobs.
    pub dead: StateSeq,
}

/// What a node is to the site.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum NodeState {
    /// Holds chunks and takes part.
    Active,
    /// Still serves; its placement groups are being moved away.
    Draining,
    /// Gone for good; its id is never used again.
    Removed,
}

/// Addresses of a node's doors, `host:port`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Doors {
    /// Node-to-node RPC.
    pub rpc: String,
    /// S3.
    pub s3: String,
    /// Admin API, metrics and the rest of HTTP.
    pub http: String,
    /// PostgreSQL wire protocol.
    pub sql: String,
    /// Arrow Flight SQL.
    pub flight: String,
}

/// A node of the site.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeRow {
    /// For people; unique among nodes that are not removed.
    pub name: String,
    /// Failure domain; copies are spread over zones.
    pub zone: String,
    /// Where it is reached.
    pub doors: Doors,
    /// Its disks; a chunk copy is named as (node, store).
    pub store: StoreId,
    /// What it is to the site.
    pub state: NodeState,
    /// When it joined.
    pub joined: SiteTime,
}
impl Versioned for NodeRow {
    const WHAT: &'static str = "node";
}

/// Who holds the chunks of a placement group.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlacementRow {
    /// Nodes that hold every chunk of the group (but for rows of the repair queue).
    pub current: Vec<NodeId>,
    /// During a move: the nodes that are to hold it. Writes go to both lists.
    pub target: Option<Vec<NodeId>>,
    /// Nodes of `target` that have copied all that was there when the move began.
    pub filled: Vec<NodeId>,
    /// The state sequence at which the move began; without a target: at which the last one ended.
    pub since: StateSeq,
}
impl Versioned for PlacementRow {
    const WHAT: &'static str = "placement";
}

/// When a placement changed last: whoever has read all of them need not read them again before it moves on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlacementsChangedRow {
    /// The state sequence of the command.
    pub at: StateSeq,
}
impl Versioned for PlacementsChangedRow {
    const WHAT: &'static str = "change of placements";
}

impl PlacementRow {
    /// Every node that a new chunk of the group is written to, each once.
    pub fn writable(&self) -> Vec<NodeId> {
        let mut nodes = self.current.clone();
        for node in self.target.iter().flatten() {
            if !nodes.contains(node) {
                nodes.push(*node);
            }
        }
        nodes
    }
}

/// The living gateway process of a node (O1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GatewayRow {
    /// The newest incarnation; older ones never complete a write (I9).
    pub incarnation: Incarnation,
    /// The state sequence at which it was committed.
    pub began: StateSeq,
}
impl Versioned for GatewayRow {
    const WHAT: &'static str = "gateway";
}

/// What a node has published about its readers and its removals (O4, O5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FloorRow {
    /// The reader's incarnation.
    pub incarnation: Incarnation,
    /// No read of this incarnation uses a state older than this.
    pub floor: StateSeq,
    /// All chunks dead at or before this are gone from the node's store.
    pub removed: StateSeq,
    /// When it was published.
    pub at: SiteTime,
    /// Voided: not renewed for too long, the incarnation's reads are refused by stores.
    pub void: bool,
}
impl Versioned for FloorRow {
    const WHAT: &'static str = "floor";
}

/// A token that lets one node join, once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JoinTokenRow {
    /// Not accepted at or after this.
    pub expires: SiteTime,
    /// The node that used it.
    pub used_by: Option<NodeId>,
    /// The node that the joiner replaces, if the token was made for that.
    pub replaces: Option<NodeId>,
}
impl Versioned for JoinTokenRow {
    const WHAT: &'static str = "join token";
}

/// A key-encryption key, wrapped under the root key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KekRow {
    /// `benteng_keys::WrappedKey` in its own versioned form; `None` once destroyed.
    pub wrapped: Option<Bytes>,
    /// When it was made.
    pub created: SiteTime,
}
impl Versioned for KekRow {
    const WHAT: &'static str = "key-encryption key";
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec;

    #[test]
    fn a_clock_of_the_first_version_is_read_with_queues_that_begin_at_their_first_key() {
        let fields = (StateSeq(7), SiteTime(11), 3_u64, 2_u64, 1_u64);
        let old = postcard::to_extend(&fields, vec![1]).expect("it fits a vector");
        let expected = ClockRow {
            seq: StateSeq(7),
            now: SiteTime(11),
            answers: 3,
            answers_crowded_out: 2,
            chunks_short: 1,
            queues: Queues::default(),
        };
        assert_eq!(codec::decode::<ClockRow>(&old).expect("version 1 is read"), expected);
        assert_eq!(codec::decode::<ClockRow>(&codec::encode(&expected)).expect("and version 2"), expected);
        let unknown = [&[3][..], &old[1..]].concat();
        assert!(codec::decode::<ClockRow>(&unknown).is_err(), "a version of the future is not guessed at");
    }
}
