//! Who asks: the principal of a request, from its `Authorization` header.

use std::sync::Arc;

use axum::extract::FromRequestParts;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use benteng_identity::{Action, Principal, Resource, authorize};
use http::request::Parts;
use http::{HeaderMap, StatusCode, header};
use tokio::sync::Semaphore;
use zeroize::Zeroizing;

use crate::{AdminAuth, ApiError, Credential};

/// Credentials that are checked at one time: a password costs 10 ms of a core, and guessing
/// must not take all cores. Further ones wait.
const CHECKS_MAX: usize = 4;
/// Longer headers are refused unread.
const HEADER_MAX: usize = 4096;

/// Checks credentials; held by the router.
#[derive(Clone)]
pub(crate) struct Gate {
    auth: Arc<dyn AdminAuth>,
    checks: Arc<Semaphore>,
}

impl Gate {
    pub(crate) fn new(auth: Arc<dyn AdminAuth>) -> Gate {
        Gate { auth, checks: Arc::new(Semaphore::new(CHECKS_MAX)) }
    }

    /// The principal of a request; one without `Authorization` is anonymous.
    ///
    /// Errors: 400 for a header that does not parse; 401 for a credential that proves nothing.
    pub(crate) async fn principal(&self, headers: &HeaderMap) -> Result<Principal, ApiError> {
        let Some(credential) = credential(headers)? else { return Ok(Principal::anonymous()) };
        let _turn = self.checks.acquire().await.map_err(|_| ApiError::unavailable("the door is closing"))?;
        match self.auth.principal(credential).await? {
            Some(principal) => Ok(principal),
            None => {
                metrics::counter!("benteng_http_logins_refused_total").increment(1);
                Err(unauthenticated("the token, or the user name and password, are wrong"))
            }
        }
    }
}

fn unauthenticated(message: &str) -> ApiError {
    ApiError::new(StatusCode::UNAUTHORIZED, "unauthenticated", message)
}

/// Reads the `Authorization` header.
pub(crate) fn credential(headers: &HeaderMap) -> Result<Option<Credential>, ApiError> {
    let bad = || ApiError::bad_request("the Authorization header is neither `Bearer TOKEN` nor `Basic …`");
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() || value.len() > HEADER_MAX {
        return Err(bad());
    }
    let (scheme, rest) = value.to_str().map_err(|_| bad())?.split_once(' ').ok_or_else(bad)?;
    let rest = rest.trim();
    if scheme.eq_ignore_ascii_case("bearer") && !rest.is_empty() {
        return Ok(Some(Credential::Bearer(Zeroizing::new(rest.to_owned()))));
    }
    if scheme.eq_ignore_ascii_case("basic") {
        let plain = Zeroizing::new(STANDARD.decode(rest).map_err(|_| bad())?);
        let text = std::str::from_utf8(&plain).map_err(|_| bad())?;
        let (user, password) = text.split_once(':').ok_or_else(bad)?;
        let password = Zeroizing::new(password.to_owned());
        return Ok(Some(Credential::Basic { user: user.to_owned(), password }));
    }
    Err(bad())
}

/// The caller of a request. Every handler asks it before it does anything.
pub(crate) struct Caller(pub(crate) Principal);

impl Caller {
    /// Lets the caller do `action` on `on`, or fails: 401 for nobody, 403 for somebody.
    pub(crate) fn may(&self, action: Action, on: Resource<'_>) -> Result<(), ApiError> {
        match authorize(&self.0, action, on) {
            Ok(()) => Ok(()),
            Err(_) if self.0.is_anonymous() => Err(unauthenticated(
                "send a credential: `Authorization: Bearer TOKEN`, or user and password by Basic",
            )),
            Err(denied) => Err(denied.into()),
        }
    }
}

impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Caller, ApiError> {
        let gate = parts.extensions.get::<Gate>().cloned();
        let gate = gate.ok_or_else(|| ApiError::internal("the router holds no gate"))?;
        Ok(Caller(gate.principal(&parts.headers).await?))
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn read(value: &str) -> String {
        let mut headers = HeaderMap::new();
        headers.insert(
            header::AUTHORIZATION,
            HeaderValue::from_str(value).expect("test values are visible ASCII"),
        );
        match credential(&headers) {
            Ok(Some(Credential::Bearer(token))) => format!("bearer {}", *token),
            Ok(Some(Credential::Basic { user, password })) => format!("basic {user} {}", *password),
            Ok(None) => "none".into(),
            Err(e) => format!("{} {}", e.status.as_u16(), e.code),
        }
    }

    #[test]
    fn authorization_headers_are_read_or_refused() {
        let check = |header: &str, expected: &str| assert_eq!(read(header), expected, "{header}");
        check("Bearer abc", "bearer abc");
        check("bearer   abc ", "bearer abc");
        check("Basic YWRtaW46cGE6c3M=", "basic admin pa:ss");
        check("Basic YWRtaW4=", "400 bad_request"); // no colon
        check("Basic ????", "400 bad_request");
        check("Basic /////w==", "400 bad_request"); // not UTF-8
        check("Bearer ", "400 bad_request");
        check("Bearer", "400 bad_request");
        check("Digest x", "400 bad_request");
        check(&format!("Bearer {}", "a".repeat(5000)), "400 bad_request");
        assert!(matches!(credential(&HeaderMap::new()), Ok(None)));
        let mut two = HeaderMap::new();
        two.append(header::AUTHORIZATION, HeaderValue::from_static("Bearer a"));
        two.append(header::AUTHORIZATION, HeaderValue::from_static("Bearer b"));
        assert!(credential(&two).is_err(), "two headers are two answers to who asks");
    }
}
