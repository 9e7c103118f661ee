//! The replicated data model: rows, commands, and `apply`, a pure function of
//! (state, command) (I6): no clock, no randomness, no I/O beyond the rows it reads.
//!
//! Down: `consensus` decodes an [`Envelope`] -> [`apply`] reads through a [`Tx`] and
//! writes into it -> `consensus` writes the transaction's batch.
//! Back: gateways read rows through [`query`] on a view at a read index.
//!
//! A rejection is an answer ([`Rejection`]); an [`Error`] means that the state itself
//! could not be read, which no replica may turn into an answer (S6).
//! Not here: sealing of values (`keys`), the log (`consensus`), placement of bytes (`objects`).

mod answer; // what a command comes to
pub mod apply; // one command against one transaction
pub mod codec; // versioned encoding of rows and commands
mod command; // what can be asked of the state
mod error; // the state cannot be read
#[cfg(debug_assertions)]
pub mod fuzz; // what parsers must bear, and samples of every form; none in a release build
pub mod ids; // newtypes of every id
pub mod key; // keys of the ordered store, by table
pub mod placement; // who should hold a placement group: balanced, zone-aware, few moves
pub mod query; // read-only questions: look-ups and listings
pub mod row; // what the tables hold
mod tx; // uncommitted changes over a view

pub use answer::*;
pub use command::*;
pub use error::{Error, Result};
pub use row::*;
pub use tx::Tx;

#[cfg(test)]
mod tests;
