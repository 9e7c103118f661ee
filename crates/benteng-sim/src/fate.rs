//! Abort in a simulation: the process stops where it is, the driver crashes its host.

use std::convert::Infallible;
use std::sync::Arc;

use benteng_host::{Fate, Fut};

use crate::Gate;

/// Stops the host at its gate.
pub struct SimFate {
    gate: Arc<Gate>,
}

impl SimFate {
    /// Aborts by stopping `gate`.
    pub fn new(gate: Arc<Gate>) -> SimFate {
        SimFate { gate }
    }
}

impl Fate for SimFate {
    fn abort(&self, why: &str) -> Fut<Infallible> {
        tracing::debug!(why, "simulated node aborts");
        self.gate.stop(format!("abort: {why}"));
        Box::pin(std::future::pending())
    }
}
