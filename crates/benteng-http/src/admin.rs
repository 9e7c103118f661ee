//! What this door asks of its node.

use std::sync::Arc;

use async_trait::async_trait;
use benteng_identity::{Identity, Principal};
use benteng_objects::Objects;
use zeroize::Zeroizing;

use crate::ApiError;
use crate::api::{
    DoctorReport, JoinAnswer, JoinRequest, NewToken, NodeRemoved, NodeStatus, ScrubBegun, ScrubRequest,
    ScrubStatus, SiteStatus, TokenRequest,
};

/// The node behind the door. Callers have been authorized before; `join` alone proves itself by its token.
#[async_trait]
pub trait Admin: Send + Sync {
    /// How the site is, as of now, from committed facts and what this node sees.
    async fn status(&self) -> Result<SiteStatus, ApiError>;
    /// Checks the site and says what to do about each finding.
    async fn doctor(&self) -> Result<DoctorReport, ApiError>;
    /// Nodes of the site, removed ones too.
    async fn nodes(&self) -> Result<Vec<NodeStatus>, ApiError>;
    /// Drains a node, or calls it back; answers how it is then.
    async fn drain(&self, node: u64, wanted: Drain) -> Result<NodeStatus, ApiError>;
    /// Removes a node for good; refused while it holds what others lack.
    async fn remove_node(&self, node: u64, accept_one_voter: bool) -> Result<NodeRemoved, ApiError>;
    /// How the scrub of every node stands.
    async fn scrub_status(&self) -> Result<ScrubStatus, ApiError>;
    /// Begins a full scrub of one node, or of all that answer.
    async fn scrub(&self, request: ScrubRequest) -> Result<Vec<ScrubBegun>, ApiError>;
    /// Makes a join token; it is shown once.
    async fn create_token(&self, request: TokenRequest) -> Result<NewToken, ApiError>;
    /// Lets a node in; a token serves once.
    async fn join(&self, request: JoinRequest) -> Result<JoinAnswer, ApiError>;
}

/// Whether a node is to hold chunks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Drain {
    /// Its placement groups move away, and its vote.
    Away,
    /// It takes part again.
    Back,
}

/// What a caller brings to prove who it is. Wiped on drop.
pub enum Credential {
    /// `Authorization: Bearer …`
    Bearer(Zeroizing<String>),
    /// `Authorization: Basic …`
    Basic {
        /// User name, or the public half of an access key.
        user: String,
        /// Password, or the secret half.
        password: Zeroizing<String>,
    },
}

/// Tells who a caller is.
#[async_trait]
pub trait AdminAuth: Send + Sync {
    /// The principal that the credential proves; `None` if it proves none. Secrets are compared in constant time.
    async fn principal(&self, credential: Credential) -> Result<Option<Principal>, ApiError>;
}

/// Whether the node serves requests now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Readiness {
    /// It does.
    Ready,
    /// It does not, for this reason.
    NotReady(String),
}

/// Everything the handlers reach. Cheap to clone.
#[derive(Clone)]
pub struct Services {
    /// The node.
    pub admin: Arc<dyn Admin>,
    /// Who callers are.
    pub auth: Arc<dyn AdminAuth>,
    /// The object layer.
    pub objects: Objects,
    /// Users and access keys.
    pub identity: Identity,
    /// Whether the node serves.
    pub ready: Arc<dyn Fn() -> Readiness + Send + Sync>,
    /// Metrics in the text format of Prometheus.
    pub metrics: Arc<dyn Fn() -> String + Send + Sync>,
    /// Whether `/metrics` answers callers without a credential.
    pub metrics_open: bool,
}
