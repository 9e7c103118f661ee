//! The end of the process, as a seam: the simulator turns it into the crash of one host.

use std::convert::Infallible;

use crate::Fut;

/// Ends the process when going on would break a promise.
pub trait Fate: Send + Sync {
    /// Logs `why` and ends the process at once, without clean-up. In the simulator the host
    /// is crashed and the future never completes.
    fn abort(&self, why: &str) -> Fut<Infallible>;
}
