//! Text that wipes itself. No `Debug`, no `Display`, no `==` that leaks by time.

use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

/// A secret text (the secret half of an access key), wiped on drop.
///
/// It does not print:
/// ```compile_fail
/// let secret = benteng_identity::Secret::new("shh".into());
/// println!("{secret:?}");
/// ```
#[derive(Clone)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Takes the text over.
    pub fn new(text: String) -> Secret {
        Secret(Zeroizing::new(text))
    }

    /// The text; whoever copies it wipes the copy.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Whether both are the same, in time that depends only on their lengths.
    pub fn same_as(&self, other: &str) -> bool {
        self.0.as_bytes().ct_eq(other.as_bytes()).into()
    }
}
