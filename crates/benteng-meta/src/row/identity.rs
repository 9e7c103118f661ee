//! Users, access keys and the built-in roles.

use std::fmt;
use std::str::FromStr;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::codec::Versioned;
use crate::ids::*;

/// A built-in role (design §7). What each may do stands in `benteng-identity`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Role {
    /// Everything.
    Admin,
    /// An OPD's application: creates buckets, full control of its own, nothing of others'.
    Sistem,
    /// The city's data steward.
    Walidata,
    /// A data producer, scoped to its OPD.
    Produsen,
    /// Analyst: reads what is granted to it, runs SQL.
    Analis,
    /// Operator of the command centre.
    Operator,
    /// Network operator.
    Jaringan,
    /// Reads audit and status, no data.
    Auditor,
    /// Anonymous.
    Publik,
}

impl Role {
    /// All roles, in the order of the table in the docs.
    pub const ALL: [Role; 9] = [
        Role::Admin,
        Role::Sistem,
        Role::Walidata,
        Role::Produsen,
        Role::Analis,
        Role::Operator,
        Role::Jaringan,
        Role::Auditor,
        Role::Publik,
    ];

    /// The name that people type.
    pub fn name(self) -> &'static str {
        match self {
            Role::Admin => "admin",
            Role::Sistem => "sistem",
            Role::Walidata => "walidata",
            Role::Produsen => "produsen",
            Role::Analis => "analis",
            Role::Operator => "operator",
            Role::Jaringan => "jaringan",
            Role::Auditor => "auditor",
            Role::Publik => "publik",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Role {
    type Err = ParseIdError;
    fn from_str(s: &str) -> Result<Role, ParseIdError> {
        let found = Role::ALL.into_iter().find(|role| role.name() == s);
        found.ok_or_else(|| ParseIdError { kind: "role", text: s.to_owned() })
    }
}

/// SCRAM-SHA-256 verifier of a password (RFC 5802): never the password itself.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scram {
    /// Salt, 16 bytes.
    pub salt: Bytes,
    /// PBKDF2 rounds.
    pub iterations: u32,
    /// `SaltedPassword`, 32 bytes; lets the PostgreSQL door prove knowledge both ways.
    pub salted_password: Bytes,
}

impl fmt::Debug for Scram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Scram(hidden)")
    }
}

/// A user or service account.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserRow {
    /// Built-in roles it holds.
    pub roles: Vec<Role>,
    /// The agency it belongs to, for roles that are scoped to one.
    pub opd: Option<String>,
    /// Password for SQL and HTTP; `None`: cannot log in by password.
    pub scram: Option<Scram>,
    /// A disabled user is refused everywhere.
    pub disabled: bool,
    /// When it was created.
    pub created: SiteTime,
}
impl Versioned for UserRow {
    const WHAT: &'static str = "user";
}

/// An access key. The secret must be known to check signatures; the row is sealed on disk.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccessKeyRow {
    /// Whose it is.
    pub user: String,
    /// The secret half.
    pub secret: String,
    /// When it was created.
    pub created: SiteTime,
}

impl fmt::Debug for AccessKeyRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AccessKeyRow").field("user", &self.user).finish_non_exhaustive()
    }
}
impl Versioned for AccessKeyRow {
    const WHAT: &'static str = "access key";
}
