//! Entropy. ring's own source is sealed and cannot be replaced, so ids, salts and jitter come from here.

/// A source of cryptographically strong bytes (in the simulator: of the seed's).
pub trait Random: Send + Sync {
    /// Fills `out`. A machine without entropy aborts: no caller can go on without it.
    fn fill(&self, out: &mut [u8]);
}

/// `N` random bytes.
pub fn random_array<const N: usize>(random: &dyn Random) -> [u8; N] {
    let mut out = [0; N];
    random.fill(&mut out);
    out
}

/// A random 64-bit number.
pub fn random_u64(random: &dyn Random) -> u64 {
    u64::from_le_bytes(random_array(random))
}
