//! What failed: of the door itself, and of a request, as a status and a body.

use axum::Json;
use axum::response::{IntoResponse, Response};
use benteng_identity::Denied;
use benteng_meta::Rejection;
use http::{HeaderValue, StatusCode, header};

use crate::api::{ErrorBody, ErrorDetail};

/// The door could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address cannot be listened on.
    #[error("the HTTP door cannot listen on {addr}: {source}; free the address or set `listen.http`")]
    Listen {
        /// The address.
        addr: String,
        /// The machine's answer.
        source: benteng_host::Error,
    },
}

/// A request failed: an HTTP status, a code for programs, a message for people.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ApiError {
    /// HTTP status.
    pub status: StatusCode,
    /// For programs; constant text.
    pub code: &'static str,
    /// For people: what failed, on what, what to do.
    pub message: String,
}

impl ApiError {
    /// An error of this status, code and message.
    #[expect(clippy::needless_pass_by_value, reason = "texts and errors are given away, whatever they are")]
    pub fn new(status: StatusCode, code: &'static str, message: impl ToString) -> ApiError {
        ApiError { status, code, message: message.to_string() }
    }

    /// The request contradicts itself or cannot be read (400).
    pub fn bad_request(message: impl ToString) -> ApiError {
        ApiError::new(StatusCode::BAD_REQUEST, "bad_request", message)
    }

    /// Nothing is there (404).
    pub fn not_found(message: impl ToString) -> ApiError {
        ApiError::new(StatusCode::NOT_FOUND, "not_found", message)
    }

    /// The node cannot serve it now; the same request may succeed later (503).
    pub fn unavailable(message: impl ToString) -> ApiError {
        ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", message)
    }

    /// A defect of ours or damage (500).
    pub fn internal(message: impl ToString) -> ApiError {
        ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", message)
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        if self.status.is_server_error() {
            // The one place where a failed request of this door is logged.
            tracing::warn!(status = self.status.as_u16(), code = self.code, error = %self.message, "request failed");
        }
        let body = ErrorBody { error: ErrorDetail { code: self.code.to_owned(), message: self.message } };
        let mut response = (self.status, Json(body)).into_response();
        if self.status == StatusCode::UNAUTHORIZED {
            let how = HeaderValue::from_static("Basic realm=\"benteng\", charset=\"UTF-8\"");
            response.headers_mut().insert(header::WWW_AUTHENTICATE, how);
        }
        if self.status == StatusCode::SERVICE_UNAVAILABLE {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}

impl From<Denied> for ApiError {
    fn from(denied: Denied) -> ApiError {
        ApiError::new(StatusCode::FORBIDDEN, "denied", denied)
    }
}

impl From<Rejection> for ApiError {
    fn from(rejection: Rejection) -> ApiError {
        use Rejection as R;
        let (status, code) = match &rejection {
            R::NoSuchBucket => (StatusCode::NOT_FOUND, "no_such_bucket"),
            R::NoSuchKey => (StatusCode::NOT_FOUND, "no_such_object"),
            R::NoSuchUpload => (StatusCode::NOT_FOUND, "no_such_upload"),
            R::NoSuchNode(_) => (StatusCode::NOT_FOUND, "no_such_node"),
            R::NoSuchUser(_) => (StatusCode::NOT_FOUND, "no_such_user"),
            R::NoSuchAccessKey(_) => (StatusCode::NOT_FOUND, "no_such_key"),
            R::BucketTaken { .. } => (StatusCode::CONFLICT, "bucket_taken"),
            R::BucketNotEmpty => (StatusCode::CONFLICT, "bucket_not_empty"),
            R::NodeNameTaken(_) => (StatusCode::CONFLICT, "node_name_taken"),
            R::UserExists(_) => (StatusCode::CONFLICT, "user_exists"),
            R::AccessKeyExists(_) => (StatusCode::CONFLICT, "key_exists"),
            R::LastAdmin(_) => (StatusCode::CONFLICT, "last_admin"),
            R::KeyDestroyed(_) => (StatusCode::CONFLICT, "key_destroyed"),
            R::PreconditionFailed => (StatusCode::PRECONDITION_FAILED, "precondition_failed"),
            R::InvalidToken => (StatusCode::FORBIDDEN, "invalid_token"),
            R::InvalidBucketName(_) => (StatusCode::BAD_REQUEST, "invalid_bucket_name"),
            R::InvalidKey => (StatusCode::BAD_REQUEST, "invalid_key"),
            R::InvalidPart(_) | R::InvalidPartOrder | R::PartTooSmall { .. } => {
                (StatusCode::BAD_REQUEST, "invalid_part")
            }
            R::Invalid(_) => (StatusCode::BAD_REQUEST, "invalid"),
            R::Full => (StatusCode::INSUFFICIENT_STORAGE, "full"),
            R::Site { .. } => (StatusCode::SERVICE_UNAVAILABLE, "site"),
            R::DeadlinePassed | R::Refused | R::GatewaySuperseded(_) => {
                (StatusCode::SERVICE_UNAVAILABLE, "unavailable")
            }
        };
        ApiError::new(status, code, rejection)
    }
}

impl From<benteng_consensus::Error> for ApiError {
    fn from(error: benteng_consensus::Error) -> ApiError {
        use benteng_consensus::Error as E;
        match error {
            E::Rejected(rejection) => rejection.into(),
            E::Unavailable { .. } | E::Stopped(_) => ApiError::unavailable(error),
            E::Unknown { .. } => ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "outcome_unknown", error),
            E::State(_) => ApiError::internal(error),
        }
    }
}

impl From<benteng_meta::Error> for ApiError {
    fn from(error: benteng_meta::Error) -> ApiError {
        ApiError::internal(error)
    }
}

impl From<benteng_identity::Error> for ApiError {
    fn from(error: benteng_identity::Error) -> ApiError {
        use benteng_identity::Error as E;
        match error {
            E::Site(error) => error.into(),
            E::State(_) => ApiError::internal(error),
            E::ReservedName(_) | E::NoRole(_) | E::BadPassword | E::BadKey(_) => ApiError::bad_request(error),
            E::Derivation(_) => ApiError::unavailable(error),
        }
    }
}

impl From<benteng_objects::Error> for ApiError {
    fn from(error: benteng_objects::Error) -> ApiError {
        use benteng_objects::Error as E;
        let (status, code) = match error {
            E::Rejected(rejection) => return rejection.into(),
            E::NotModified { .. } => (StatusCode::NOT_MODIFIED, "not_modified"),
            E::RangeUnsatisfiable { .. } => (StatusCode::RANGE_NOT_SATISFIABLE, "range"),
            E::Body(_) => (StatusCode::BAD_REQUEST, "body"),
            E::Length { .. } => (StatusCode::BAD_REQUEST, "length"),
            E::Digest { .. } => (StatusCode::BAD_REQUEST, "digest"),
            E::Invalid(_) => (StatusCode::BAD_REQUEST, "invalid"),
            E::TooLarge { .. } => (StatusCode::PAYLOAD_TOO_LARGE, "too_large"),
            E::Full => (StatusCode::INSUFFICIENT_STORAGE, "full"),
            E::Unavailable { .. } => (StatusCode::SERVICE_UNAVAILABLE, "unavailable"),
            E::Unknown { .. } => (StatusCode::SERVICE_UNAVAILABLE, "outcome_unknown"),
            E::Unreadable { .. } => (StatusCode::INTERNAL_SERVER_ERROR, "unreadable"),
            E::Key(_) => (StatusCode::INTERNAL_SERVER_ERROR, "key"),
            E::State(_) => (StatusCode::INTERNAL_SERVER_ERROR, "internal"),
        };
        ApiError::new(status, code, error)
    }
}
