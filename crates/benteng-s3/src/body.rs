//! Request bodies on their way in: transfer coding, payload hash, idle time.
//!
//! Nothing is held: each piece that hyper gives is passed on, and a wrong hash or signature
//! turns the end of the body into an error, so that the object layer commits nothing.

mod chunked; // aws-chunked, as a state machine without I/O
mod intake; // the stream that the object layer reads

pub(crate) use chunked::Chunked;
pub(crate) use intake::{Intake, Plan, Trailers};
