//! Users and access keys.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::routing::{delete, get};
use axum::{Json, Router};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use benteng_host::{Random, random_array};
use benteng_identity::{Action, Identity, Resource, User};
use benteng_meta::Role;
use http::StatusCode;
use serde::Deserialize;
use zeroize::Zeroizing;

use super::{json, page_limit};
use crate::ApiError;
use crate::api::{KeyAnswer, KeyInfo, KeyRequest, Page, UserAnswer, UserInfo, UserRequest, rfc3339};
use crate::caller::Caller;

#[derive(Clone)]
struct People {
    identity: Identity,
    random: Arc<dyn Random>,
}

pub(super) fn routes(identity: Identity, random: Arc<dyn Random>) -> Router {
    Router::new()
        .route("/users", get(list_users).post(create_user))
        .route("/users/{user}", delete(delete_user))
        .route("/keys", get(list_keys).post(create_key))
        .route("/keys/{id}", delete(delete_key))
        .with_state(People { identity, random })
}

#[derive(Deserialize)]
struct UsersQuery {
    after: Option<String>,
    limit: Option<usize>,
}

#[derive(Deserialize)]
struct KeysQuery {
    user: Option<String>,
}

fn user_info(user: User) -> UserInfo {
    UserInfo {
        name: user.name,
        roles: user.roles.iter().map(Role::to_string).collect(),
        opd: user.opd,
        has_password: user.has_password,
        disabled: user.disabled,
        created: rfc3339(user.created),
    }
}

async fn list_users(
    State(People { identity, .. }): State<People>,
    caller: Caller,
    Query(query): Query<UsersQuery>,
) -> Result<Json<Page<UserInfo>>, ApiError> {
    caller.may(Action::ManageUsers, Resource::Site)?;
    let limit = page_limit(query.limit);
    let users = identity.list_users(query.after.as_deref(), limit).await?;
    let next = users.last().filter(|_| users.len() == limit).map(|user| user.name.clone());
    Ok(Json(Page { lines: users.into_iter().map(user_info).collect(), next }))
}

async fn create_user(
    State(People { identity, random }): State<People>,
    caller: Caller,
    body: Body,
) -> Result<(StatusCode, Json<UserAnswer>), ApiError> {
    let request: UserRequest = json(body).await?;
    caller.may(Action::ManageUsers, Resource::User(&request.name))?;
    let roles = request.roles.iter().map(|role| parse_role(role)).collect::<Result<Vec<Role>, _>>()?;
    let given = request.password.map(Zeroizing::new);
    let generated = if given.is_some() { None } else { Some(password(random.as_ref())) };
    let password = given.as_ref().or(generated.as_ref()).map(|text| text.as_str());
    identity.create_user(&request.name, roles, request.opd, password).await?;
    let password = generated.map(|text| text.to_string());
    Ok((StatusCode::CREATED, Json(UserAnswer { name: request.name, roles: request.roles, password })))
}

fn parse_role(text: &str) -> Result<Role, ApiError> {
    text.parse().map_err(|_| {
        let all: Vec<&str> = Role::ALL.iter().map(|role| role.name()).collect();
        ApiError::bad_request(format!("there is no role {text:?}; there are {}", all.join(", ")))
    })
}

/// 18 random bytes as 24 characters that no shell or URL needs quoted.
fn password(random: &dyn Random) -> Zeroizing<String> {
    let bytes = Zeroizing::new(random_array::<18>(random));
    Zeroizing::new(URL_SAFE_NO_PAD.encode(*bytes))
}

async fn delete_user(
    State(People { identity, .. }): State<People>,
    caller: Caller,
    Path(user): Path<String>,
) -> Result<StatusCode, ApiError> {
    caller.may(Action::ManageUsers, Resource::User(&user))?;
    identity.delete_user(&user).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn list_keys(
    State(People { identity, .. }): State<People>,
    caller: Caller,
    Query(query): Query<KeysQuery>,
) -> Result<Json<Vec<KeyInfo>>, ApiError> {
    let user = query.user.unwrap_or_else(|| caller.0.name.clone());
    caller.may(Action::ManageKeys, Resource::User(&user))?;
    let keys = identity.list_keys(&user).await?;
    let shown = keys.into_iter().map(|key| KeyInfo {
        access_key_id: key.id,
        user: key.user,
        created: rfc3339(key.created),
    });
    Ok(Json(shown.collect()))
}

async fn create_key(
    State(People { identity, .. }): State<People>,
    caller: Caller,
    body: Body,
) -> Result<(StatusCode, Json<KeyAnswer>), ApiError> {
    let request: KeyRequest = json(body).await?;
    let user = request.user.unwrap_or_else(|| caller.0.name.clone());
    caller.may(Action::ManageKeys, Resource::User(&user))?;
    let key = identity.create_key(&user).await?;
    let answer = KeyAnswer { access_key_id: key.id, secret_access_key: key.secret.expose().to_owned(), user };
    Ok((StatusCode::CREATED, Json(answer)))
}

async fn delete_key(
    State(People { identity, .. }): State<People>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<StatusCode, ApiError> {
    let owner = identity.key_owner(&id).await?;
    // A key that is not there is denied like another's, except to those who may see all.
    caller.may(Action::ManageKeys, owner.as_deref().map_or(Resource::Site, Resource::User))?;
    identity.delete_key(&id).await?;
    Ok(StatusCode::NO_CONTENT)
}
