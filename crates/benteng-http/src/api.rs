//! Bodies of requests and answers, as JSON. Fields are only ever added.

mod scrub; // reading every byte again

use benteng_meta::ids::SiteTime;
use serde::{Deserialize, Serialize};

pub use scrub::*;

/// Site time as RFC 3339 in UTC, with microseconds; the number itself if no calendar names it.
pub fn rfc3339(at: SiteTime) -> String {
    let text = time::OffsetDateTime::from_unix_timestamp_nanos(i128::from(at.0) * 1000)
        .ok()
        .and_then(|at| at.format(&time::format_description::well_known::Rfc3339).ok());
    text.unwrap_or_else(|| at.to_string())
}

/// How the site is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SiteStatus {
    /// Id of the site.
    pub site: String,
    /// Its name.
    pub name: String,
    /// Version of the node that answers.
    pub version: String,
    /// Id of the node that answers.
    pub node: u64,
    /// One word for all of it.
    pub health: Health,
    /// Whether every acknowledged write survives the loss of any one node (I1).
    pub survives_one_loss: bool,
    /// Copies of each chunk that are wanted.
    pub copies: u8,
    /// Copies without which nothing is acknowledged.
    pub copies_min: u8,
    /// The leader of the metadata, if this node knows one.
    pub leader: Option<u64>,
    /// Commands applied so far.
    pub sequence: u64,
    /// Site time, RFC 3339.
    pub site_time: String,
    /// Objects of all buckets.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Chunks that have fewer good copies than they should, from committed facts; 0 when healthy.
    pub chunks_short: u64,
    /// For how long the oldest of them does, seconds; absent when none does.
    pub oldest_short_seconds: Option<u64>,
    /// Of them: chunks with one good copy left.
    #[serde(default)]
    pub chunks_one_copy: u64,
    /// Of them: chunks without any good copy on the nodes that should hold them.
    #[serde(default)]
    pub chunks_no_copy: u64,
    /// In how many seconds repair and moves end at their present pace; absent when nothing is to be
    /// copied, or when a node that should copy does not answer.
    #[serde(default)]
    pub repair_ends_seconds: Option<u64>,
    /// Within how many seconds every stored byte is read again.
    #[serde(default)]
    pub scrub_period_seconds: u64,
    /// Placement groups that are being moved or filled.
    pub groups_moving: u64,
    /// Placement groups that have fewer holders than `copies` and are not being moved; 0 when healthy.
    pub groups_short: u64,
    /// Placement groups of the site.
    pub groups: u64,
    /// Of the copies of groups that moves need: how many are filled.
    pub copies_filled: u64,
    /// Of the copies of groups that moves need: how many there are.
    pub copies_to_fill: u64,
    /// Nodes that are not removed.
    pub nodes: Vec<NodeStatus>,
    /// What a person should know.
    pub notes: Vec<String>,
}

/// One word for the state of a site.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Health {
    /// All nodes are there, no copy is missing.
    Healthy,
    /// Requests are served, something needs repair.
    Degraded,
    /// Requests are not served.
    Unavailable,
}

/// A node of the site.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NodeStatus {
    /// Its id.
    pub id: u64,
    /// Its name.
    pub name: String,
    /// Its failure domain.
    pub zone: String,
    /// `active`, `draining` or `removed`.
    pub state: String,
    /// `leader`, `voter` or `learner`; absent if the answering node does not know.
    pub role: Option<String>,
    /// Placement groups that it holds or is to hold; a draining node with none is drained.
    #[serde(default)]
    pub groups: u64,
    /// How its scrub stands; absent if it does not answer.
    #[serde(default)]
    pub scrub: Option<NodeScrub>,
    /// Whether the answering node reaches it; absent if it did not try.
    pub reachable: Option<bool>,
    /// Its disk and store; absent if it does not answer.
    pub disk: Option<DiskStatus>,
    /// On the leader: log entries by which it is behind.
    pub lag: Option<u64>,
    /// By how many seconds its clock is ahead of a majority's; absent if that is not known.
    #[serde(default)]
    pub clock_off_seconds: Option<i64>,
    /// In how many seconds the first of its certificates ends; absent if it does not answer.
    #[serde(default)]
    pub certificates_end_seconds: Option<i64>,
    /// Node-to-node address.
    pub rpc: String,
    /// S3 address.
    pub s3: String,
    /// HTTP address.
    pub http: String,
    /// SQL address.
    pub sql: String,
    /// When it joined, RFC 3339.
    pub joined: String,
}

/// A node's disk and what lies on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskStatus {
    /// Size in bytes.
    pub total_bytes: u64,
    /// Free bytes.
    pub free_bytes: u64,
    /// Chunks in the store.
    pub chunks: u64,
    /// Their ciphertext, bytes.
    pub chunk_bytes: u64,
    /// Damaged chunks that are kept apart.
    pub quarantined: u64,
}

/// A node was removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeRemoved {
    /// The node.
    pub node: u64,
    /// Copies of each chunk that are wanted from now on.
    pub copies: u8,
    /// Copies without which nothing is acknowledged from now on.
    pub copies_min: u8,
}

/// What the doctor found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DoctorReport {
    /// Whether nothing needs a person.
    pub well: bool,
    /// One line per check.
    pub findings: Vec<Finding>,
}

/// The result of one check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// How bad it is.
    pub level: Level,
    /// What was checked.
    pub check: String,
    /// What was found.
    pub message: String,
    /// What to do; empty if nothing.
    pub advice: String,
}

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// Nothing to do.
    Ok,
    /// It heals by itself, or will hurt later.
    Warning,
    /// A person must act.
    Problem,
}

/// Asks for a join token.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenRequest {
    /// How long it is valid, seconds; one hour if absent.
    #[serde(default)]
    pub valid_seconds: Option<u32>,
    /// The node that the joiner replaces.
    #[serde(default)]
    pub replaces: Option<u64>,
}

/// A join token: the only time that it is shown.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewToken {
    /// The token.
    pub token: String,
    /// How long it is valid, seconds.
    pub valid_seconds: u32,
}

/// A node asks to be let in. It keeps no secret of the site: it brings the root key itself.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JoinRequest {
    /// The token.
    pub token: String,
    /// Its name.
    pub name: String,
    /// Its failure domain.
    pub zone: String,
    /// Node-to-node address, `host:port`.
    pub rpc: String,
    /// S3 address.
    pub s3: String,
    /// HTTP address.
    pub http: String,
    /// SQL address.
    pub sql: String,
    /// Flight SQL address.
    pub flight: String,
    /// Key-check value of the joiner's root key, hex: another root key is refused before the token is used.
    pub root_check: String,
    /// The node that the joiner means to replace; a token for anything else is refused and not used up.
    #[serde(default)]
    pub replaces: Option<u64>,
}

/// A node was let in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JoinAnswer {
    /// Its id.
    pub node: u64,
    /// The site.
    pub site: String,
    /// The site's certificate authority as it is stored, hex; its key is under the root key.
    pub ca: String,
    /// Other nodes to ask.
    pub peers: Vec<Peer>,
    /// The site's recovery epoch: requests between nodes carry it.
    #[serde(default)]
    pub recovery_epoch: u64,
}

/// Where a node is reached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peer {
    /// Its id.
    pub node: u64,
    /// Node-to-node address.
    pub rpc: String,
}

/// A bucket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BucketInfo {
    /// Its name.
    pub name: String,
    /// Its id.
    pub id: String,
    /// The user that owns it.
    pub owner: String,
    /// When it was created, RFC 3339.
    pub created: String,
    /// Objects in it; absent in listings.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub objects: Option<u64>,
    /// Bytes of those objects; absent in listings.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
}

/// Creates a bucket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BucketRequest {
    /// Its name.
    pub name: String,
    /// Its owner; the caller if absent.
    #[serde(default)]
    pub owner: Option<String>,
}

/// A page of a listing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Page<T> {
    /// Its lines.
    pub lines: Vec<T>,
    /// What to pass as `after` for the next page; absent on the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// A line of a listing of objects.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObjectLine {
    /// Key, or common prefix.
    pub key: String,
    /// Whether it stands for all keys with that prefix.
    #[serde(default)]
    pub prefix: bool,
    /// Length in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// Entity tag.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub etag: Option<String>,
    /// When it was committed, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub modified: Option<String>,
}

/// An object without its bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObjectInfo {
    /// Its bucket.
    pub bucket: String,
    /// Its key.
    pub key: String,
    /// Length in bytes.
    pub bytes: u64,
    /// Entity tag.
    pub etag: String,
    /// When it was committed, RFC 3339.
    pub modified: String,
    /// Media type, if it has one.
    pub content_type: Option<String>,
    /// Parts, if it was written in parts.
    pub parts: Option<u16>,
}

/// A stored object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PutAnswer {
    /// Entity tag.
    pub etag: String,
    /// When it was committed, RFC 3339.
    pub modified: String,
}

/// A user.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserInfo {
    /// Its name.
    pub name: String,
    /// Its roles.
    pub roles: Vec<String>,
    /// Its agency.
    pub opd: Option<String>,
    /// Whether it can log in by password.
    pub has_password: bool,
    /// A disabled user is refused everywhere.
    pub disabled: bool,
    /// When it was created, RFC 3339.
    pub created: String,
}

/// Creates a user.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UserRequest {
    /// Its name.
    pub name: String,
    /// Its roles, at least one.
    pub roles: Vec<String>,
    /// Its agency.
    #[serde(default)]
    pub opd: Option<String>,
    /// Its password; generated and answered if absent.
    #[serde(default)]
    pub password: Option<String>,
}

/// A created user.
#[derive(Clone, Serialize, Deserialize)]
pub struct UserAnswer {
    /// Its name.
    pub name: String,
    /// Its roles.
    pub roles: Vec<String>,
    /// The generated password: the only time that it is shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<String>,
}

/// Creates an access key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyRequest {
    /// Whose it is; the caller if absent.
    #[serde(default)]
    pub user: Option<String>,
}

/// A created access key: the only time that its secret is shown.
#[derive(Clone, Serialize, Deserialize)]
pub struct KeyAnswer {
    /// Public half.
    pub access_key_id: String,
    /// Secret half.
    pub secret_access_key: String,
    /// Whose it is.
    pub user: String,
}

/// An access key as it is listed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyInfo {
    /// Public half.
    pub access_key_id: String,
    /// Whose it is.
    pub user: String,
    /// When it was created, RFC 3339.
    pub created: String,
}

/// Something failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorBody {
    /// What.
    pub error: ErrorDetail,
}

/// What failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorDetail {
    /// For programs; the HTTP status says the kind.
    pub code: String,
    /// For people.
    pub message: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn site_times_read_as_calendar_times() {
        let check = |micros: i64, text: &str| assert_eq!(rfc3339(SiteTime(micros)), text);
        check(0, "1970-01-01T00:00:00Z");
        check(1_700_000_000_123_456, "2023-11-14T22:13:20.123456Z");
        // No calendar of ours names it: the number, never a panic.
        check(i64::MAX, "9223372036854775807");
        check(i64::MIN, "-9223372036854775808");
    }

    #[test]
    fn requests_refuse_fields_they_do_not_know() {
        assert!(serde_json::from_str::<TokenRequest>(r#"{"valid_second": 5}"#).is_err());
        assert_eq!(serde_json::from_str::<TokenRequest>("{}").ok(), Some(TokenRequest::default()));
    }
}
