//! `abort(3)`.

use std::convert::Infallible;

use crate::{Fate, Fut};

/// Aborts the process.
pub struct ProcessAbort;

impl Fate for ProcessAbort {
    fn abort(&self, why: &str) -> Fut<Infallible> {
        tracing::error!(why, "node stops at once: going on would break a promise");
        std::process::abort()
    }
}
