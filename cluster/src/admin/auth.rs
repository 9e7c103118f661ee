//! Who callers of the admin API are: a privileged token derived from the root key, an access
//! key, or a user's password.

use async_trait::async_trait;
use benteng_http::{AdminAuth, ApiError, Credential};
use benteng_identity::{Identity, Principal};
use benteng_keys::RootKey;
use benteng_meta::Role;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

/// The user that a privileged token stands for.
pub(crate) const ADMIN: &str = "admin";
/// Users that are looked at for an administrator.
const USERS_PAGE: usize = 200;

/// What the holder of the root key may do without being a user.
pub(crate) enum Privileged {
    /// In `benteng dev`: the derived token is the administrator's for good.
    Dev,
    /// On a server: it is one only until the first administrator exists.
    Bootstrap,
}

impl Privileged {
    /// The token; whoever holds the root key can derive it again.
    pub(crate) fn token(&self, root: &RootKey) -> Zeroizing<String> {
        let name = match self {
            Privileged::Dev => ADMIN,
            Privileged::Bootstrap => "bootstrap",
        };
        Zeroizing::new(root.dev_credential(name).admin_token.to_string())
    }
}

/// Tells callers apart.
pub(crate) struct Auth {
    identity: Identity,
    privileged: Privileged,
    token: Zeroizing<String>,
}

impl Auth {
    pub(crate) fn new(identity: Identity, privileged: Privileged, root: &RootKey) -> Auth {
        let token = privileged.token(root);
        Auth { identity, privileged, token }
    }

    async fn holder_of_root(&self) -> Result<Option<Principal>, ApiError> {
        let admin = Principal { name: ADMIN.to_owned(), roles: vec![Role::Admin], opd: None };
        match self.privileged {
            Privileged::Dev => Ok(Some(admin)),
            Privileged::Bootstrap => Ok((!self.has_admin().await?).then_some(admin)),
        }
    }

    /// Whether an administrator could log in.
    async fn has_admin(&self) -> Result<bool, ApiError> {
        let mut after: Option<String> = None;
        loop {
            let users = self.identity.list_users(after.as_deref(), USERS_PAGE).await?;
            if users.iter().any(|user| !user.disabled && user.roles.contains(&Role::Admin)) {
                return Ok(true);
            }
            after = match users.last() {
                Some(last) if users.len() == USERS_PAGE => Some(last.name.clone()),
                _ => return Ok(false),
            };
        }
    }

    /// The user whose access key this is.
    async fn by_key(&self, id: &str, secret: &str) -> Result<Option<Principal>, ApiError> {
        let found = self.identity.access_key(id).await?;
        Ok(found.filter(|(_, known)| known.same_as(secret)).map(|(principal, _)| principal))
    }
}

#[async_trait]
impl AdminAuth for Auth {
    async fn principal(&self, credential: Credential) -> Result<Option<Principal>, ApiError> {
        match credential {
            Credential::Bearer(token) => {
                if bool::from(token.as_bytes().ct_eq(self.token.as_bytes())) {
                    return self.holder_of_root().await;
                }
                match token.split_once(':') {
                    Some((id, secret)) => self.by_key(id, secret).await,
                    None => Ok(None),
                }
            }
            Credential::Basic { user, password } => {
                // A user may be named like a key; its password is tried where no key matches.
                if let Some(principal) = self.by_key(&user, &password).await? {
                    return Ok(Some(principal));
                }
                Ok(self.identity.password(&user, &password).await?)
            }
        }
    }
}
