//! Everything openraft (floor 3): the log store on the journal, the state machine on the
//! ordered store, snapshots, membership, [`Group::propose`] and [`Group::read`].
//! The only crate that names openraft.

mod error; // why a proposal or a read failed
mod group; // the handle that the floors above use

pub use error::{Error, Result};
pub use group::{Group, View};
