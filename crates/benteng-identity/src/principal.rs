//! Who calls.

use benteng_meta::Role;

/// The name of a caller that did not log in. No user may bear it.
pub const ANONYMOUS: &str = "anonymous";

/// A caller: a user that proved who it is, or nobody.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Principal {
    /// User name; [`ANONYMOUS`] without a login.
    pub name: String,
    /// Its built-in roles. Without any, everything is denied.
    pub roles: Vec<Role>,
    /// The agency it belongs to.
    pub opd: Option<String>,
}

impl Principal {
    /// A caller without a login.
    pub fn anonymous() -> Principal {
        Principal { name: ANONYMOUS.to_owned(), roles: vec![Role::Publik], opd: None }
    }

    /// Whether nobody logged in.
    pub fn is_anonymous(&self) -> bool {
        self.name == ANONYMOUS
    }
}
