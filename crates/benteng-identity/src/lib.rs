//! Principals, credentials, and the one function that decides: [`authorize`] (floor 4).
//! Deny by default (I5, I10).
//!
//! A door first asks who calls ([`Identity::access_key`], [`Identity::scram`],
//! [`Identity::password`]), then [`authorize`] for each thing that is touched.
//! Down: [`Identity::create_user`] … -> `benteng_consensus` -> `benteng_meta::apply`.
//! Back: `benteng_meta::query` on the local replica, on a miss at a read index.
//!
//! Not here: policies, groups and OIDC (a later issue adds them to [`authorize`]),
//! signatures of protocols (each door's).

mod action; // what can be asked for, and on what
mod authorize; // role x action: the one decision
mod error; // why a look-up or a change failed
mod identity; // the handle that doors use
mod principal; // who calls
mod scram; // password verifiers
mod secret; // text that wipes itself

pub use action::{Action, Resource};
pub use authorize::{Denied, Grant, authorize, grant};
pub use benteng_meta::{Role, Scram};
pub use error::{Error, Result};
pub use identity::{AccessKey, Identity, NewKey, User, UserChange};
pub use principal::{ANONYMOUS, Principal};
pub use scram::{ITERATIONS_DEFAULT, ITERATIONS_MIN, make_scram};
pub use secret::Secret;
