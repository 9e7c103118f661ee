//! Why a look-up or a change failed.

use benteng_host::TaskFailed;
use benteng_meta::Rejection;

/// Result of a look-up or a change.
pub type Result<T> = std::result::Result<T, Error>;

/// A look-up or a change of users and keys failed. Nothing has changed, unless
/// [`benteng_consensus::Error::Unknown`] says otherwise.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The site could not be asked, or said no ([`Error::rejection`]).
    #[error(transparent)]
    Site(#[from] benteng_consensus::Error),
    /// The local state cannot be read.
    #[error(transparent)]
    State(#[from] benteng_meta::Error),
    /// The name stands for callers without a login.
    #[error("{0:?} stands for callers without a login; choose another user name")]
    ReservedName(String),
    /// A user without a role could do nothing, and one with `publik` is nobody.
    #[error("user {0:?} needs at least one role other than publik")]
    NoRole(String),
    /// The password cannot be used over every door.
    #[error("the password must be {min} to {max} printable ASCII characters", min = crate::scram::PASSWORD_MIN, max = crate::scram::PASSWORD_MAX)]
    BadPassword,
    /// A secret that no client could send, or an id that is none.
    #[error(
        "access key {0:?}: an id is BT and 18 of A-Z and 2-7, a secret 16 to 128 printable ASCII characters"
    )]
    BadKey(String),
    /// The key derivation did not end; the node logs why.
    #[error("the password could not be checked: {0}")]
    Derivation(#[from] TaskFailed),
}

impl Error {
    /// What the state answered, if it said no.
    pub fn rejection(&self) -> Option<&Rejection> {
        match self {
            Error::Site(benteng_consensus::Error::Rejected(rejection)) => Some(rejection),
            _ => None,
        }
    }

    /// Whether the same request may succeed later, unchanged.
    pub fn is_retryable(&self) -> bool {
        match self {
            Error::Site(e) => e.is_retryable(),
            Error::Derivation(_) => true,
            Error::State(_)
            | Error::ReservedName(_)
            | Error::NoRole(_)
            | Error::BadPassword
            | Error::BadKey(_) => false,
        }
    }
}
