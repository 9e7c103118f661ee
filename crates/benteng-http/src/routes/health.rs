//! Liveness, readiness, metrics.

use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Extension, Router};
use benteng_identity::{Action, Resource};
use http::{HeaderMap, StatusCode, header};

use crate::caller::{Caller, Gate};
use crate::{ApiError, Readiness, Services};

/// Version 0.0.4 of Prometheus' text format.
const METRICS_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

pub(super) fn routes(services: &Services) -> Router {
    let ready = services.ready.clone();
    let metrics = services.metrics.clone();
    let open = services.metrics_open;
    Router::new()
        // The process answers: nothing else is asked, so that a slow disk does not get it killed.
        .route("/health/live", get(async || "live\n"))
        .route("/health/ready", get(async move || readiness(ready())))
        .route(
            "/metrics",
            get(async move |Extension(gate): Extension<Gate>, headers: HeaderMap| {
                if !open {
                    Caller(gate.principal(&headers).await?).may(Action::ReadStatus, Resource::Site)?;
                }
                Ok::<_, ApiError>(([(header::CONTENT_TYPE, METRICS_TYPE)], metrics()))
            }),
        )
}

fn readiness(state: Readiness) -> Response {
    match state {
        Readiness::Ready => (StatusCode::OK, "ready\n").into_response(),
        Readiness::NotReady(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")).into_response(),
    }
}
