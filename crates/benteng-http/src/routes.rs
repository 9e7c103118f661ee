//! Paths and their handlers; what every request goes through on its way.

mod buckets; // buckets and the objects in them
mod health; // liveness, readiness, metrics
mod people; // users and access keys
mod site; // status, doctor, nodes, join

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Router};
use benteng_host::{Random, random_u64};
use bytes::Bytes;
use futures::FutureExt;
use http::{HeaderName, HeaderValue, StatusCode};
use serde::de::DeserializeOwned;
use tracing::Instrument;

use crate::caller::Gate;
use crate::{ApiError, Services};

/// Bytes of a JSON request body; none of ours comes near.
const JSON_MAX: usize = 64 * 1024;
/// Lines of one page of a listing.
const PAGE_MAX: usize = 1000;
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Every path of the door.
pub(crate) fn router(services: &Services, random: Arc<dyn Random>) -> Router {
    let gate = Gate::new(services.auth.clone());
    let admin = Router::new()
        .merge(site::routes(services.admin.clone()))
        .merge(buckets::routes(services.objects.clone()))
        .merge(people::routes(services.identity.clone(), random.clone()));
    finish(health::routes(services).nest("/admin/v1", admin), gate, random)
}

/// Adds what every request goes through.
fn finish(router: Router, gate: Gate, random: Arc<dyn Random>) -> Router {
    router
        .fallback(async || ApiError::not_found("no such path; the admin API lies under /admin/v1"))
        .method_not_allowed_fallback(async || {
            ApiError::new(
                StatusCode::METHOD_NOT_ALLOWED,
                "method_not_allowed",
                "the path does not take this method",
            )
        })
        .layer(Extension(gate))
        .layer(from_fn_with_state(random, around))
}

/// Gives the request an id, counts it, and turns a panic of its handler into a 500.
async fn around(State(random): State<Arc<dyn Random>>, request: Request, next: Next) -> Response {
    let id = format!("{:016x}", random_u64(random.as_ref()));
    let span = tracing::info_span!("http", request = %id, method = %request.method());
    let answered = AssertUnwindSafe(next.run(request)).catch_unwind().instrument(span).await;
    let mut response = answered.unwrap_or_else(|_| {
        // The panic hook has logged why.
        metrics::counter!("benteng_http_panics_total").increment(1);
        ApiError::internal("the request met a defect; the node's log says which").into_response()
    });
    if let Ok(value) = HeaderValue::from_str(&id) {
        response.headers_mut().insert(REQUEST_ID, value);
    }
    let status = response.status().as_str().to_owned();
    metrics::counter!("benteng_http_requests_total", "status" => status).increment(1);
    response
}

/// Reads a JSON body of at most [`JSON_MAX`] bytes.
async fn json<T: DeserializeOwned>(body: axum::body::Body) -> Result<T, ApiError> {
    let bytes: Bytes = axum::body::to_bytes(body, JSON_MAX).await.map_err(|_| {
        ApiError::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "too_large",
            format!("the body broke off or exceeds {JSON_MAX} bytes"),
        )
    })?;
    serde_json::from_slice(&bytes)
        .map_err(|e| ApiError::bad_request(format!("the body is not the JSON expected here: {e}")))
}

/// The limit of a page: what was asked for, within bounds.
fn page_limit(asked: Option<usize>) -> usize {
    asked.unwrap_or(PAGE_MAX).clamp(1, PAGE_MAX)
}

#[cfg(test)]
mod tests;
