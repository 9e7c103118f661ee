//! What the HTTP door asks of this node: who callers are, how the site is, letting nodes in.

mod auth; // bearer tokens, passwords, access keys
mod doctor; // checks, each with what to do
pub(crate) mod seed; // the administrator of a development site
mod status; // the object layer's view of the site, as the API shows it

use async_trait::async_trait;
use benteng_consensus::Group;
use benteng_host::{Host, random_array};
use benteng_http::api::{
    DoctorReport, JoinAnswer, JoinRequest, NewToken, NodeRemoved, NodeStatus, Peer, ScrubBegun, ScrubLine,
    ScrubRequest, ScrubStatus, SiteStatus, TokenRequest,
};
use benteng_http::{Admin, ApiError, Drain};
use benteng_meta::ids::{NodeId, SiteTime, StoreId};
use benteng_meta::{Answer, Command, Doors, JoinTokenRow, NodeRow, NodeState, Rejection, key, query};
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
        Ok(status.nodes.iter().map(|view| status::node(view, status.now, self.group.wall())).collect())
    }

    async fn drain(&self, node: u64, wanted: Drain) -> Result<NodeStatus, ApiError> {
        let state = match wanted {
            Drain::Away => NodeState::Draining,
            Drain::Back => NodeState::Active,
        };
        self.group.propose(Command::SetNodeState { node: NodeId(node), state }, None).await?;
        tracing::info!(node, ?state, "node state set");
        let found = self.nodes().await?.into_iter().find(|one| one.id == node);
        found.ok_or_else(|| Rejection::NoSuchNode(NodeId(node)).into())
    }

    async fn remove_node(&self, node: u64, accept_one_voter: bool) -> Result<NodeRemoved, ApiError> {
        // What nobody reaches is not waited for; what it alone holds keeps it in the site nevertheless.
        let lost = !self.objects.reaches(NodeId(node)).await;
        let command = Command::RemoveNode { node: NodeId(node), lost, accept_one_voter };
        self.group.propose(command, None).await?;
        tracing::warn!(node, lost, accept_one_voter, "node removed");
        let site = formed(query::site(self.group.read().await?.as_ref())?)?;
        Ok(NodeRemoved { node, copies: site.copies, copies_min: site.copies_min })
    }

    async fn scrub_status(&self) -> Result<ScrubStatus, ApiError> {
        let status = self.objects.status().await?;
        let members = status.nodes.iter().filter(|view| view.row.state != NodeState::Removed);
        let line = |view: &benteng_objects::NodeView| ScrubLine {
            node: view.node.0,
            name: view.row.name.clone(),
            scrub: status::scrub(view, status.now),
        };
        Ok(ScrubStatus { period_seconds: status.scrub_period, nodes: members.map(line).collect() })
    }

    async fn scrub(&self, request: ScrubRequest) -> Result<Vec<ScrubBegun>, ApiError> {
        let rows = query::nodes(self.group.read().await?.as_ref())?;
        let mut members = rows.iter().filter(|(_, row)| row.state != NodeState::Removed).map(|(id, _)| *id);
        if let Some(node) = request.node {
            let node = members.find(|id| id.0 == node).ok_or(Rejection::NoSuchNode(NodeId(node)))?;
            let pass = self.objects.scrub(node).await?;
            return Ok(vec![ScrubBegun { node: node.0, pass }]);
        }
        let mut begun = Vec::new();
        for node in members {
            match self.objects.scrub(node).await {
                Ok(pass) => begun.push(ScrubBegun { node: node.0, pass }),
                Err(e) => tracing::warn!(node = node.0, error = %e, "a node begins no scrub"),
            }
        }
        Ok(begun)
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
        if let Some(replaces) = request.replaces {
            let token: Option<JoinTokenRow> =
                query::get(view.as_ref(), &key::join_token(&hash(&request.token)))?;
            if token.is_some_and(|row| row.replaces != Some(NodeId(replaces))) {
                let text = format!(
                    "the token is not for a replacement of node {replaces}; make one: `benteng node add --replace {replaces}`"
                );
                return Err(ApiError::new(StatusCode::CONFLICT, "other_token", text));
            }
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
        let recovery_epoch = site.recovery_epoch;
        Ok(JoinAnswer {
            node: id.0,
            site: site.id.to_string(),
            ca: hex::encode(&site.ca),
            peers,
            recovery_epoch,
        })
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
            replaces: None,
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
