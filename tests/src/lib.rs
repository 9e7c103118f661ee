//! Tests of the house as a whole. `tests/tidy.rs` holds its order; the folders beside it hold
//! black-box tests against the real binary, by user, run by `tools/test`.
