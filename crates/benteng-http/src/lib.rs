//! The HTTP door (floor 8): health, metrics and the admin API. Handlers only: they read a
//! request, ask [`benteng_identity::authorize`], call a lower floor and write JSON.
//!
//! Down: `door` (socket, TLS, connection) -> `caller` (who asks) -> `routes` ->
//! [`Admin`], `benteng_objects`, `benteng_identity`.
//! Back: `error` turns what failed into `{"error": {"code", "message"}}` and a status.
//! `api` holds every body that goes over the wire; the command line reads the same types.
//!
//! Not here: what the site's status is made of (the node implements [`Admin`]).

mod admin; // what this door asks of its node
pub mod api; // bodies of requests and answers
mod caller; // who asks: bearer tokens, passwords
mod door; // socket, TLS, connections, stopping
mod error; // what failed, as a status and a body
#[cfg(debug_assertions)]
pub mod fuzz; // what parsers must bear; none in a release build
mod routes; // paths and their handlers

pub use admin::{Admin, AdminAuth, Credential, Drain, Readiness, Services};
pub use door::{HttpDoor, Options};
pub use error::{ApiError, Error};
