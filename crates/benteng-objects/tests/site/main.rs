//! Whole sites of real nodes in one process, over the machine's own seams: what the object
//! layer promises, held end to end.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests may ask the machine and may panic")]

mod harness; // a site of up to five nodes in a temporary directory
mod healing; // nodes that are down, wiped, replaced
mod moving; // nodes are drained and removed; damage that checksums do not see
mod multipart; // uploads
mod objects; // put, get, list, delete, copy
