//! Status, doctor, nodes, join tokens, join.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::routing::{get, post};
use axum::{Json, Router};
use benteng_identity::{Action, Resource};

use super::json;
use crate::api::{DoctorReport, JoinAnswer, NewToken, NodeStatus, SiteStatus};
use crate::caller::Caller;
use crate::{Admin, ApiError};

type Node = State<Arc<dyn Admin>>;

pub(super) fn routes(admin: Arc<dyn Admin>) -> Router {
    Router::new()
        .route("/site/status", get(status))
        .route("/site/doctor", get(doctor))
        .route("/nodes", get(nodes))
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

async fn create_token(State(admin): Node, caller: Caller, body: Body) -> Result<Json<NewToken>, ApiError> {
    caller.may(Action::ManageNodes, Resource::Site)?;
    Ok(Json(admin.create_token(json(body).await?).await?))
}

/// No caller here: a node that joins has nothing but its token.
async fn join(State(admin): Node, body: Body) -> Result<Json<JoinAnswer>, ApiError> {
    Ok(Json(admin.join(json(body).await?).await?))
}
