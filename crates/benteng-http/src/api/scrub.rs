//! Scrub: every stored byte, read again.

use serde::{Deserialize, Serialize};

/// How the scrub of a node stands.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeScrub {
    /// Full passes that have ended.
    pub passes: u64,
    /// When the pass under way began, RFC 3339; absent between two passes.
    pub started: Option<String>,
    /// Bytes that it has read.
    pub scrubbed_bytes: u64,
    /// Bytes that a pass reads.
    pub total_bytes: u64,
    /// When the last full pass ended, RFC 3339; absent if none has.
    pub last_finished: Option<String>,
    /// For how many seconds that is past.
    pub last_finished_seconds: Option<u64>,
    /// Chunks found damaged by any pass.
    pub damaged_found: u64,
    /// Damaged chunks whose place a good copy has taken.
    pub repaired: u64,
    /// Damaged chunks that are kept apart now.
    pub quarantined: u64,
    /// Segments of chunks found damaged around their chunks by any pass; they are cleaned.
    #[serde(default)]
    pub segments_damaged_found: u64,
    /// Segments of the Raft log found damaged by any pass.
    #[serde(default)]
    pub log_damaged_found: u64,
    /// Of those, the ones that are not purged yet.
    #[serde(default)]
    pub log_damaged: u64,
    /// How often the ordered store was found damaged and built anew.
    #[serde(default)]
    pub store_rebuilt: u64,
    /// Whether the pass under way was asked for: it goes at the full rate.
    pub asked: bool,
}

/// How the scrub of every node stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScrubStatus {
    /// Within how many seconds every stored byte is read again.
    pub period_seconds: u64,
    /// One line per node that is not removed.
    pub nodes: Vec<ScrubLine>,
}

/// A node in [`ScrubStatus`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScrubLine {
    /// Its id.
    pub node: u64,
    /// Its name.
    pub name: String,
    /// How its scrub stands; absent if it does not answer.
    pub scrub: Option<NodeScrub>,
}

/// Asks for a full scrub now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScrubRequest {
    /// The node; all that answer if absent.
    #[serde(default)]
    pub node: Option<u64>,
}

/// A full scrub has begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScrubBegun {
    /// The node.
    pub node: u64,
    /// It has ended when [`NodeScrub::passes`] is this or more.
    pub pass: u64,
}
