//! The SQL door (floor 8): the PostgreSQL wire protocol over `benteng-lake`.
//!
//! Down: [`PgDoor`] accepts -> `startup` (TLS, SCRAM, one lake session per connection) ->
//! `connection` (messages) -> `statement` (what is asked) -> `benteng_lake::LakeSession`.
//! Back: batches -> `output` (PostgreSQL's types and headings) -> `wire` -> the client, at
//! the client's pace (I7).
//!
//! Not here: what a query may read (`benteng-lake` asks `authorize`), Flight SQL, COPY and
//! everything that writes (later steps; refused with a word on what to use instead).

mod binary; // parameters in binary format, before the libraries read them
mod cancel; // which connection a cancel request means
mod catalog; // pg_catalog and the functions that clients ask for
mod connection; // one client: messages in, answers out
mod door; // accepts, bounds and stops connections
mod error; // SQLSTATE of everything that can go wrong
#[cfg(debug_assertions)]
pub mod fuzz; // what parsers must bear; none in a release build
mod output; // rows as PostgreSQL sends them
mod portal; // statements and portals of a connection
mod scram; // SCRAM-SHA-256, server side
mod settings; // SET and SHOW
mod startup; // from the first byte to a session
mod statement; // what a text asks for
mod wire; // messages of the protocol on a socket

pub use door::{Error, Logins, Options, PgDoor};
