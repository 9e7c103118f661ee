//! Status, doctor, nodes and their draining, scrub, join tokens, join.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::routing::{delete, get, post};
use axum::{Json, Router};
use benteng_identity::{Action, Resource};
use serde::Deserialize;

use super::json;
use crate::api::{
    DoctorReport, JoinAnswer, NewToken, NodeRemoved, NodeStatus, ScrubBegun, ScrubStatus, SiteStatus,
};
use crate::caller::Caller;
use crate::{Admin, ApiError, Drain};

type Node = State<Arc<dyn Admin>>;

pub(super) fn routes(admin: Arc<dyn Admin>) -> Router {
    Router::new()
        .route("/site/status", get(status))
        .route("/site/doctor", get(doctor))
        .route("/nodes", get(nodes))
        .route("/nodes/{node}", delete(remove))
        .route("/nodes/{node}/drain", post(drain))
        .route("/nodes/{node}/undrain", post(undrain))
        .route("/scrub", get(scrub_status).post(scrub))
        .route("/tokens", post(create_token))
        .route("/join", post(join))
        .with_state(admin)
}

async fn status(State(admin): Node, caller: Caller) -> Result<Json<SiteStatus>, ApiError> {
    caller.may(Action::ReadStatus, Resource::Site)?;
    Ok(Json(admin.status().await?))
}

async fn doctor(State(admin): Node, caller: Caller) -> Result<Json<DoctorReport>, ApiError> {
    caller.may(Action::ReadStatus, Resource::Site)?;
    Ok(Json(admin.doctor().await?))
}

async fn nodes(State(admin): Node, caller: Caller) -> Result<Json<Vec<NodeStatus>>, ApiError> {
    caller.may(Action::ReadStatus, Resource::Site)?;
    Ok(Json(admin.nodes().await?))
}

async fn drain(
    State(admin): Node,
    caller: Caller,
    Path(node): Path<u64>,
) -> Result<Json<NodeStatus>, ApiError> {
    caller.may(Action::ManageNodes, Resource::Site)?;
    Ok(Json(admin.drain(node, Drain::Away).await?))
}

async fn undrain(
    State(admin): Node,
    caller: Caller,
    Path(node): Path<u64>,
) -> Result<Json<NodeStatus>, ApiError> {
    caller.may(Action::ManageNodes, Resource::Site)?;
    Ok(Json(admin.drain(node, Drain::Back).await?))
}

/// How a node is removed.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Removal {
    /// Fewer than three voters may be left (S8).
    #[serde(default)]
    accept_one_voter: bool,
}

async fn remove(
    State(admin): Node,
    caller: Caller,
    Path(node): Path<u64>,
    Query(how): Query<Removal>,
) -> Result<Json<NodeRemoved>, ApiError> {
    caller.may(Action::ManageNodes, Resource::Site)?;
    Ok(Json(admin.remove_node(node, how.accept_one_voter).await?))
}

async fn scrub_status(State(admin): Node, caller: Caller) -> Result<Json<ScrubStatus>, ApiError> {
    caller.may(Action::ReadStatus, Resource::Site)?;
    Ok(Json(admin.scrub_status().await?))
}

async fn scrub(State(admin): Node, caller: Caller, body: Body) -> Result<Json<Vec<ScrubBegun>>, ApiError> {
    caller.may(Action::ManageNodes, Resource::Site)?;
    Ok(Json(admin.scrub(json(body).await?).await?))
}

async fn create_token(State(admin): Node, caller: Caller, body: Body) -> Result<Json<NewToken>, ApiError> {
    caller.may(Action::ManageNodes, Resource::Site)?;
    Ok(Json(admin.create_token(json(body).await?).await?))
}

/// No caller here: a node that joins has nothing but its token.
async fn join(State(admin): Node, body: Body) -> Result<Json<JoinAnswer>, ApiError> {
    Ok(Json(admin.join(json(body).await?).await?))
}
