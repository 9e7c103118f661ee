//! 32 secret bytes that wipe themselves. No `Debug`, no `Display`, no `==` that leaks by time.

use benteng_host::{Random, random_array};
use subtle::ConstantTimeEq;
use zeroize::{Zeroize, ZeroizeOnDrop};

/// A secret of 32 bytes, wiped on drop.
///
/// It does not print:
/// ```compile_fail
/// let secret = benteng_keys::SecretBytes32::new([1; 32]);
/// println!("{secret:?}");
/// ```
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct SecretBytes32([u8; 32]);

impl SecretBytes32 {
    /// Takes the bytes over. The caller's own copy, if any, is his to wipe.
    pub fn new(bytes: [u8; 32]) -> SecretBytes32 {
        SecretBytes32(bytes)
    }

    /// 32 bytes of `random`.
    pub(crate) fn generate(random: &dyn Random) -> SecretBytes32 {
        let mut bytes = random_array(random);
        let secret = SecretBytes32(bytes);
        bytes.zeroize();
        secret
    }

    /// The bytes; whoever copies them wipes the copy.
    pub fn expose(&self) -> &[u8; 32] {
        &self.0
    }

    /// For filling in place.
    pub(crate) fn expose_mut(&mut self) -> &mut [u8; 32] {
        &mut self.0
    }

    /// Whether both hold the same bytes, in time that does not depend on them.
    pub fn same_as(&self, other: &SecretBytes32) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

/// Compares two byte strings in time that depends only on their lengths.
pub(crate) fn same_bytes(a: &[u8], b: &[u8]) -> bool {
    a.ct_eq(b).into()
}
