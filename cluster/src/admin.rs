//! What the HTTP door asks of this node: who callers are, how the site is, letting nodes in.

mod auth; // bearer tokens, passwords, access keys
mod doctor; // checks, each with what to do
pub(crate) mod seed; // the administrator of a development site
mod status; // the object layer's view of the site, as the API shows it

use async_trait::async_trait;
use benteng_consensus::Group;
use benteng_host::{Host, random_array};
use benteng_http::api::{
    DoctorReport, JoinAnswer, JoinRequest, NewToken, NodeStatus, Peer, SiteStatus, TokenRequest,
};
use benteng_http::{Admin, ApiError};
use benteng_meta::ids::{NodeId, SiteTime, StoreId};
use benteng_meta::{Answer, Command, Doors, NodeRow, NodeState, Rejection, query};
use benteng_objects::Objects;
use http::StatusCode;

pub(crate) use auth::{ADMIN, Auth, Privileged};

/// How long a join token is valid if nobody says otherwise.
const TOKEN_SECONDS: u32 = 3600;
const TOKEN_SECONDS_MAX: u32 = 7 * 24 * 3600;
/// Names of nodes and zones, addresses: longer ones are refused.
const TEXT_MAX: usize = 255;

/// The node as the HTTP door sees it. Cheap to clone.
#[derive(Clone)]
pub(crate) struct NodeAdmin {
    /// This node.
    pub(crate) me: NodeId,
    /// The metadata.
    pub(crate) group: Group,
    /// The object layer, which knows how the site is.
    pub(crate) objects: Objects,
    /// The machine.
    pub(crate) host: Host,
}

fn formed<T>(row: Option<T>) -> Result<T, ApiError> {
    row.ok_or_else(|| Rejection::Site { formed: false }.into())
}

#[async_trait]
impl Admin for NodeAdmin {
    async fn status(&self) -> Result<SiteStatus, ApiError> {
        Ok(status::site(self.me, &self.group, self.objects.status().await?))
    }

    async fn doctor(&self) -> Result<DoctorReport, ApiError> {
        Ok(doctor::report(&self.status().await?))
    }

    async fn nodes(&self) -> Result<Vec<NodeStatus>, ApiError> {
        let status = self.objects.status().await?;
        Ok(status.nodes.iter().map(status::node).collect())
    }

    async fn create_token(&self, request: TokenRequest) -> Result<NewToken, ApiError> {
        let valid_seconds = request.valid_seconds.unwrap_or(TOKEN_SECONDS);
        if !(1..=TOKEN_SECONDS_MAX).contains(&valid_seconds) {
            return Err(ApiError::bad_request(format!(
                "a token is valid for 1 to {TOKEN_SECONDS_MAX} seconds"
            )));
        }
        let token = format!("btjoin-{}", hex::encode(random_array::<32>(self.host.random.as_ref())));
        let command = Command::CreateJoinToken {
            hash: hash(&token),
            valid: i64::from(valid_seconds) * 1_000_000,
            replaces: request.replaces.map(NodeId),
        };
        self.group.propose(command, None).await?;
        tracing::info!(valid_seconds, replaces = ?request.replaces, "join token made");
        Ok(NewToken { token, valid_seconds })
    }

    async fn join(&self, request: JoinRequest) -> Result<JoinAnswer, ApiError> {
        let view = self.group.read().await?;
        let site = formed(query::site(view.as_ref())?)?;
        // Before the token is used up: a node with another root key could read nothing here.
        if hex::encode(&site.root_check) != request.root_check.to_ascii_lowercase() {
            let text = "the joiner has another root key than this site; copy the site's key file to it first";
            return Err(ApiError::new(StatusCode::CONFLICT, "other_root_key", text));
        }
        let node = node_row(&request)?;
        let name = node.name.clone();
        let command = Command::AddNode { node, token: hash(&request.token) };
        let Answer::Node(id) = self.group.propose(command, None).await? else {
            return Err(ApiError::internal("the metadata answered a join with something else"));
        };
        tracing::info!(node = %id, name, "node joined");
        let members = query::nodes(view.as_ref())?.into_iter();
        let peers = members.filter(|(other, row)| *other != id && row.state != NodeState::Removed);
        let peers = peers.map(|(other, row)| Peer { node: other.0, rpc: row.doors.rpc }).collect();
        Ok(JoinAnswer { node: id.0, site: site.id.to_string(), ca: hex::encode(&site.ca), peers })
    }
}

/// SHA-256 of a token: the site keeps no token that could be used.
fn hash(token: &str) -> [u8; 32] {
    let digest = ring::digest::digest(&ring::digest::SHA256, token.as_bytes());
    let mut out = [0; 32];
    out.copy_from_slice(digest.as_ref());
    out
}

/// The row of a joining node; texts of others are bounded before they are replicated.
fn node_row(request: &JoinRequest) -> Result<NodeRow, ApiError> {
    let texts = [
        &request.name,
        &request.zone,
        &request.rpc,
        &request.s3,
        &request.http,
        &request.sql,
        &request.flight,
    ];
    let fits =
        |text: &&String| !text.is_empty() && text.len() <= TEXT_MAX && !text.chars().any(char::is_control);
    if !texts.iter().all(fits) {
        let text = format!(
            "name, zone and addresses of a node have 1 to {TEXT_MAX} bytes without control characters"
        );
        return Err(ApiError::bad_request(text));
    }
    Ok(NodeRow {
        name: request.name.clone(),
        zone: request.zone.clone(),
        doors: Doors {
            rpc: request.rpc.clone(),
            s3: request.s3.clone(),
            http: request.http.clone(),
            sql: request.sql.clone(),
            flight: request.flight.clone(),
        },
        // Told by the node itself once its disks are open.
        store: StoreId::default(),
        state: NodeState::Active,
        // `apply` sets it.
        joined: SiteTime(0),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request() -> JoinRequest {
        let text = |text: &str| text.to_owned();
        JoinRequest {
            token: text("t"),
            name: text("node-2"),
            zone: text("a"),
            rpc: text("h:1"),
            s3: text("h:2"),
            http: text("h:3"),
            sql: text("h:4"),
            flight: text("h:5"),
            root_check: String::new(),
        }
    }

    #[test]
    fn rows_of_joiners_are_bounded() {
        let row = node_row(&request()).expect("a proper request");
        assert_eq!(
            (row.name.as_str(), row.store, row.doors.http.as_str()),
            ("node-2", StoreId::default(), "h:3")
        );
        let check = |change: fn(&mut JoinRequest)| {
            let mut request = request();
            change(&mut request);
            assert_eq!(node_row(&request).expect_err("refused").status, StatusCode::BAD_REQUEST);
        };
        check(|r| r.name = "x".repeat(TEXT_MAX + 1));
        check(|r| r.name = String::new());
        check(|r| r.zone = "a\u{1b}[2J".into());
    }

    #[test]
    fn tokens_are_kept_as_their_sha_256() {
        let expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(hex::encode(hash("abc")), expected);
    }
}
