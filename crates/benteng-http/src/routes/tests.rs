//! Requests through the router, with a node that answers from memory.

use async_trait::async_trait;
use axum::body::Body;
use axum::routing::get;
use benteng_identity::Principal;
use benteng_meta::Role;
use http::Request;
use http_body_util::BodyExt;

use super::*;
use crate::api::*;
use crate::{Admin, AdminAuth, Credential, Drain};

struct FakeNode;

#[async_trait]
impl Admin for FakeNode {
    async fn status(&self) -> Result<SiteStatus, ApiError> {
        Err(ApiError::unavailable("no quorum"))
    }
    async fn doctor(&self) -> Result<DoctorReport, ApiError> {
        Ok(DoctorReport { well: true, findings: Vec::new() })
    }
    async fn nodes(&self) -> Result<Vec<NodeStatus>, ApiError> {
        panic!("a defect")
    }
    async fn drain(&self, node: u64, wanted: Drain) -> Result<NodeStatus, ApiError> {
        let code = if wanted == Drain::Away { "away" } else { "back" };
        Err(ApiError::new(StatusCode::IM_A_TEAPOT, code, node))
    }
    async fn remove_node(&self, node: u64, accept_one_voter: bool) -> Result<NodeRemoved, ApiError> {
        Ok(NodeRemoved { node, copies: if accept_one_voter { 2 } else { 3 }, copies_min: 2 })
    }
    async fn scrub_status(&self) -> Result<ScrubStatus, ApiError> {
        Ok(ScrubStatus { period_seconds: 9, nodes: Vec::new() })
    }
    async fn scrub(&self, request: ScrubRequest) -> Result<Vec<ScrubBegun>, ApiError> {
        Ok(vec![ScrubBegun { node: request.node.unwrap_or(0), pass: 4 }])
    }
    async fn create_token(&self, request: TokenRequest) -> Result<NewToken, ApiError> {
        Ok(NewToken { token: "t".into(), valid_seconds: request.valid_seconds.unwrap_or(3600) })
    }
    async fn join(&self, request: JoinRequest) -> Result<JoinAnswer, ApiError> {
        assert_eq!(request.token, "t", "only the token of this test reaches here");
        Err(benteng_meta::Rejection::InvalidToken.into())
    }
}

struct FakeAuth;

#[async_trait]
impl AdminAuth for FakeAuth {
    async fn principal(&self, credential: Credential) -> Result<Option<Principal>, ApiError> {
        let Credential::Bearer(token) = credential else { return Ok(None) };
        let role = token.parse::<Role>().ok();
        Ok(role.map(|role| Principal { name: "x".into(), roles: vec![role], opd: None }))
    }
}

fn app() -> Router {
    let defect = Router::new().route("/site/defect", get(async || -> &'static str { panic!("a defect") }));
    let admin = site::routes(Arc::new(FakeNode)).merge(defect);
    finish(
        Router::new().nest("/admin/v1", admin),
        Gate::new(Arc::new(FakeAuth)),
        Arc::new(benteng_host::real::SystemEntropy::new()),
    )
}

async fn ask(method: &str, path: &str, token: Option<&str>, body: impl Into<Body>) -> (u16, String) {
    let mut request = Request::builder().method(method).uri(path);
    if let Some(token) = token {
        request = request.header("authorization", format!("Bearer {token}"));
    }
    let request = request.body(body.into()).expect("the test's own request is well formed");
    let mut app = app();
    let response = tower_call(&mut app, request).await;
    assert!(response.headers().contains_key(REQUEST_ID), "every answer carries the id of its request");
    let status = response.status().as_u16();
    let body = response.into_body().collect().await.expect("bodies of errors are short").to_bytes();
    let text = String::from_utf8(body.to_vec()).expect("answers are UTF-8");
    if status >= 400 {
        let error: ErrorBody = serde_json::from_str(&text).expect("errors are JSON of one shape");
        return (status, error.error.code);
    }
    (status, text)
}

async fn tower_call(app: &mut Router, request: Request<Body>) -> Response {
    use hyper::service::Service;
    let service = hyper_util::service::TowerToHyperService::new(app.clone());
    service.call(request).await.expect("the router's own error type has no values")
}

#[tokio::test]
async fn requests_are_answered_by_the_rules() {
    let check = async |method: &str, path: &str, token: Option<&str>, body: &str, expected: (u16, &str)| {
        let (status, code) = ask(method, path, token, body.to_owned()).await;
        assert_eq!((status, code.as_str()), expected, "{method} {path} as {token:?}");
    };
    let doctor = (200, r#"{"well":true,"findings":[]}"#);
    check("GET", "/admin/v1/site/doctor", Some("admin"), "", doctor).await;
    check("GET", "/admin/v1/site/doctor", Some("auditor"), "", doctor).await;
    check("GET", "/admin/v1/site/doctor", Some("sistem"), "", (403, "denied")).await;
    check("GET", "/admin/v1/site/doctor", None, "", (401, "unauthenticated")).await;
    check("GET", "/admin/v1/site/doctor", Some("wrong"), "", (401, "unauthenticated")).await;
    check("GET", "/admin/v1/site/status", Some("admin"), "", (503, "unavailable")).await;
    check("GET", "/admin/v1/nothing", Some("admin"), "", (404, "not_found")).await;
    check("DELETE", "/admin/v1/site/doctor", Some("admin"), "", (405, "method_not_allowed")).await;
    check("POST", "/admin/v1/tokens", Some("auditor"), "{}", (403, "denied")).await;
    check("POST", "/admin/v1/tokens", Some("admin"), "{", (400, "bad_request")).await;
    check("POST", "/admin/v1/tokens", Some("admin"), r#"{"valid": 1}"#, (400, "bad_request")).await;
    check("POST", "/admin/v1/tokens", Some("admin"), "{}", (200, r#"{"token":"t","valid_seconds":3600}"#))
        .await;
    check("POST", "/admin/v1/tokens", Some("admin"), &" ".repeat(JSON_MAX + 1), (413, "too_large")).await;
    check("POST", "/admin/v1/nodes/3/drain", Some("admin"), "", (418, "away")).await;
    check("POST", "/admin/v1/nodes/3/undrain", Some("admin"), "", (418, "back")).await;
    check("POST", "/admin/v1/nodes/3/drain", Some("operator"), "", (403, "denied")).await;
    check("DELETE", "/admin/v1/nodes/3", Some("auditor"), "", (403, "denied")).await;
    let removed = (200, r#"{"node":3,"copies":3,"copies_min":2}"#);
    check("DELETE", "/admin/v1/nodes/3", Some("admin"), "", removed).await;
    let removed = (200, r#"{"node":3,"copies":2,"copies_min":2}"#);
    check("DELETE", "/admin/v1/nodes/3?accept_one_voter=true", Some("admin"), "", removed).await;
    check("GET", "/admin/v1/scrub", Some("operator"), "", (200, r#"{"period_seconds":9,"nodes":[]}"#)).await;
    check("POST", "/admin/v1/scrub", Some("operator"), "{}", (403, "denied")).await;
    check("POST", "/admin/v1/scrub", Some("admin"), r#"{"node":2}"#, (200, r#"[{"node":2,"pass":4}]"#)).await;
    check("POST", "/admin/v1/join", None, "{}", (400, "bad_request")).await;
    let join = r#"{"token":"t","name":"n","zone":"z","rpc":"","s3":"","http":"","sql":"","flight":"","root_check":""}"#;
    check("POST", "/admin/v1/join", None, join, (403, "invalid_token")).await;
}

#[tokio::test]
async fn panics_end_their_request_with_an_error() {
    assert_eq!(ask("GET", "/admin/v1/site/defect", None, "").await, (500, "internal".into()));
    assert_eq!(ask("GET", "/admin/v1/nodes", Some("admin"), "").await, (500, "internal".into()));
}
