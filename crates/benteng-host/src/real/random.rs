//! The operating system's entropy, through ring.

use ring::rand::{SecureRandom, SystemRandom};

use crate::Random;

/// `getrandom(2)`.
pub struct SystemEntropy {
    source: SystemRandom,
}

impl SystemEntropy {
    /// Opens the source.
    pub fn new() -> SystemEntropy {
        SystemEntropy { source: SystemRandom::new() }
    }
}

impl Default for SystemEntropy {
    fn default() -> SystemEntropy {
        SystemEntropy::new()
    }
}

impl Random for SystemEntropy {
    fn fill(&self, out: &mut [u8]) {
        if self.source.fill(out).is_err() {
            // Without entropy every nonce and id would repeat.
            tracing::error!("the machine gives no entropy: getrandom failed; check the kernel's log");
            std::process::abort();
        }
    }
}
