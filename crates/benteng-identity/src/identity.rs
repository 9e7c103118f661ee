//! The handle that doors use: look-ups on the local replica, changes by command.

use benteng_consensus::{Group, View};
use benteng_host::{Host, compute, random_array};
use benteng_meta::ids::SiteTime;
use benteng_meta::{AccessKeyRow, Command, Mark, Role, Scram, UserRow, key, query};
use bytes::Bytes;
use zeroize::Zeroizing;

use crate::{ANONYMOUS, Error, ITERATIONS_DEFAULT, Principal, Result, Secret, make_scram, scram};

/// Access key ids are this and so many letters: 90 bits.
const ID_PREFIX: &str = "BT";
const ID_RANDOM: usize = 18;
const ID_LETTERS: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
/// Letters of secrets: none that a shell, a URL or an env file would need quoted.
const SECRET_LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.";

/// Users and access keys of the site as this node sees them. Cheap to clone.
///
/// Look-ups ask the local replica first, so that a request costs no round trip; what they do not
/// find is asked again at a read index. A key that was deleted or a user that was disabled
/// through another node is refused here as soon as this replica has applied it.
#[derive(Clone)]
pub struct Identity {
    group: Group,
    host: Host,
}

/// A user as it is shown: without its password verifier.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// Its name.
    pub name: String,
    /// Its roles.
    pub roles: Vec<Role>,
    /// The agency it belongs to.
    pub opd: Option<String>,
    /// Whether it can log in by password.
    pub has_password: bool,
    /// A disabled user is refused everywhere.
    pub disabled: bool,
    /// When it was created.
    pub created: SiteTime,
}

/// What [`Identity::update_user`] changes; `None` leaves as it is.
#[derive(Clone, Default)]
pub struct UserChange {
    /// New roles.
    pub roles: Option<Vec<Role>>,
    /// New agency; `Some(None)`: none.
    pub opd: Option<Option<String>>,
    /// New password.
    pub password: Option<Secret>,
    /// Whether it is disabled.
    pub disabled: Option<bool>,
}

/// A new access key: the only time that its secret is shown.
pub struct NewKey {
    /// Public half.
    pub id: String,
    /// Secret half.
    pub secret: Secret,
}

/// An access key as it is listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessKey {
    /// Public half.
    pub id: String,
    /// Whose it is.
    pub user: String,
    /// When it was created.
    pub created: SiteTime,
}

impl Identity {
    /// The identities that `group` holds.
    pub fn new(group: Group, host: Host) -> Identity {
        Identity { group, host }
    }

    /// Whose access key this is, and its secret, with which the door checks the signature.
    /// `None`: there is no such key, or its user is disabled. What is no id of a key is not looked for: a user
    /// who logs in by name is told apart at once, also while the site has no quorum to ask.
    pub async fn access_key(&self, id: &str) -> Result<Option<(Principal, Secret)>> {
        if !is_key_id(id) {
            return Ok(None);
        }
        self.find(|view| {
            let Some(row) = query::get::<AccessKeyRow>(view, &key::access_key(id))? else { return Ok(None) };
            let secret = Secret::new(row.secret);
            Ok(enabled(view, &row.user)?.map(|user| (principal(&row.user, &user), secret)))
        })
        .await
    }

    /// A user and the verifier of its password, for doors that speak SCRAM-SHA-256.
    /// `None`: no such user, it is disabled, or has no password.
    pub async fn scram(&self, user: &str) -> Result<Option<(Principal, Scram)>> {
        self.find(|view| {
            let Some(row) = enabled(view, user)? else { return Ok(None) };
            let who = principal(user, &row);
            Ok(row.scram.map(|scram| (who, scram)))
        })
        .await
    }

    /// Checks a password; `None` if it is wrong or the user cannot log in. Takes as long either way.
    /// The derivation runs on `Tasks::blocking`.
    pub async fn password(&self, user: &str, password: &str) -> Result<Option<Principal>> {
        let found = self.scram(user).await?;
        let (who, verifier) = match found {
            Some((who, verifier)) => (Some(who), verifier),
            // An unknown user costs the same, so that time does not tell which names exist.
            None => {
                let nothing = Bytes::from_static(&[0; 32]);
                let salt = nothing.slice(..16);
                (None, Scram { salt, iterations: ITERATIONS_DEFAULT, salted_password: nothing })
            }
        };
        let password = Zeroizing::new(password.to_owned());
        let right =
            compute(self.host.tasks.as_ref(), "password check", move || scram::verify(&password, &verifier))
                .await?;
        Ok(who.filter(|_| right))
    }

    /// A user by name; `None` if there is none or it is disabled.
    pub async fn principal(&self, user: &str) -> Result<Option<Principal>> {
        self.find(|view| Ok(enabled(view, user)?.map(|row| principal(user, &row)))).await
    }

    /// Creates a user; without a password it can use only access keys.
    ///
    /// Errors: `ReservedName`, `NoRole`, `BadPassword`; `Site(Rejected(UserExists | Invalid))`.
    pub async fn create_user(
        &self,
        name: &str,
        roles: Vec<Role>,
        opd: Option<String>,
        password: Option<&str>,
    ) -> Result<()> {
        if name == ANONYMOUS {
            return Err(Error::ReservedName(name.to_owned()));
        }
        check_roles(name, &roles)?;
        let scram = match password {
            Some(password) => Some(self.derive(password).await?),
            None => None,
        };
        // `apply` sets the time of creation.
        let row = UserRow { roles, opd, scram, disabled: false, created: SiteTime(0) };
        self.command(Command::CreateUser { name: name.to_owned(), row }).await
    }

    /// Changes a user. Two changes at once: the later one wins as a whole.
    ///
    /// Errors: as [`Identity::create_user`]; `NoSuchUser`; `LastAdmin` if no enabled administrator would be left.
    pub async fn update_user(&self, name: &str, change: UserChange) -> Result<()> {
        let password = match &change.password {
            Some(password) => Some(self.derive(password.expose()).await?),
            None => None,
        };
        let view = self.group.read().await?;
        let missing =
            || benteng_consensus::Error::Rejected(benteng_meta::Rejection::NoSuchUser(name.to_owned()));
        let old: UserRow = query::get(view.as_ref(), &key::user(name))?.ok_or_else(missing)?;
        let row = UserRow {
            roles: change.roles.unwrap_or(old.roles),
            opd: change.opd.unwrap_or(old.opd),
            scram: password.or(old.scram),
            disabled: change.disabled.unwrap_or(old.disabled),
            created: old.created,
        };
        check_roles(name, &row.roles)?;
        self.command(Command::UpdateUser { name: name.to_owned(), row }).await
    }

    /// Deletes a user and its access keys. Buckets that it owns stay, administrators reach them.
    pub async fn delete_user(&self, name: &str) -> Result<()> {
        self.command(Command::DeleteUser { name: name.to_owned() }).await
    }

    /// Users in order of name after `after`, at most `limit`, as of now.
    pub async fn list_users(&self, after: Option<&str>, limit: usize) -> Result<Vec<User>> {
        let view = self.group.read().await?;
        let prefix = key::table(key::Table::User);
        let rows = query::page::<UserRow>(view.as_ref(), &prefix, after.map(key::user).as_deref(), limit)?;
        let name = |row_key: &[u8]| String::from_utf8(row_key.get(prefix.len()..)?.to_vec()).ok();
        let shown = |(row_key, row): (Bytes, UserRow)| {
            Some(User {
                name: name(&row_key)?,
                roles: row.roles,
                opd: row.opd,
                has_password: row.scram.is_some(),
                disabled: row.disabled,
                created: row.created,
            })
        };
        Ok(rows.into_iter().filter_map(shown).collect())
    }

    /// Creates an access key for a user: 20 and 40 characters, 90 and 240 bits.
    pub async fn create_key(&self, user: &str) -> Result<NewKey> {
        let id = format!("{ID_PREFIX}{}", *self.letters::<ID_RANDOM>(ID_LETTERS));
        let secret = Secret::new(self.letters::<40>(SECRET_LETTERS).to_string());
        self.create_known_key(user, &id, secret.expose()).await?;
        Ok(NewKey { id, secret })
    }

    /// Creates an access key that is known already (development credentials).
    /// Answers `Site(Rejected(AccessKeyExists))` if the id is taken, even by the same user. Errors: `BadKey`, also
    /// for an id that is not of the form of [`Identity::create_key`]'s.
    pub async fn create_known_key(&self, user: &str, id: &str, secret: &str) -> Result<()> {
        if !is_key_id(id)
            || !(16..=128).contains(&secret.len())
            || !secret.bytes().all(|b| b.is_ascii_graphic())
        {
            return Err(Error::BadKey(id.to_owned()));
        }
        let (id, user, secret) = (id.to_owned(), user.to_owned(), secret.to_owned());
        self.command(Command::CreateAccessKey { id, user, secret }).await
    }

    /// Deletes an access key.
    pub async fn delete_key(&self, id: &str) -> Result<()> {
        self.command(Command::DeleteAccessKey { id: id.to_owned() }).await
    }

    /// The user whose access key this is, as of now; `None` if there is no such key. A disabled user's too.
    pub async fn key_owner(&self, id: &str) -> Result<Option<String>> {
        let view = self.group.read().await?;
        Ok(query::get::<AccessKeyRow>(view.as_ref(), &key::access_key(id))?.map(|row| row.user))
    }

    /// Access keys of a user, as of now, in order of their ids.
    pub async fn list_keys(&self, user: &str) -> Result<Vec<AccessKey>> {
        let view = self.group.read().await?;
        let prefix = key::user_key(user, "");
        let mut out = Vec::new();
        for (row_key, Mark) in query::page::<Mark>(view.as_ref(), &prefix, None, usize::MAX)? {
            let id =
                row_key.get(prefix.len()..).map(<[u8]>::to_vec).and_then(|id| String::from_utf8(id).ok());
            let Some(id) = id else { continue };
            if let Some(row) = query::get::<AccessKeyRow>(view.as_ref(), &key::access_key(&id))? {
                out.push(AccessKey { id, user: row.user, created: row.created });
            }
        }
        Ok(out)
    }

    /// Asks the local replica, and if that knows nothing a state that is surely current:
    /// a user that was just created through another node is known here at once.
    async fn find<T>(
        &self,
        look: impl Fn(&dyn benteng_host::KvView) -> benteng_meta::Result<Option<T>>,
    ) -> Result<Option<T>> {
        let local: View = self.group.local()?;
        if let Some(found) = look(local.as_ref())? {
            return Ok(Some(found));
        }
        let current = self.group.read().await?;
        Ok(look(current.as_ref())?)
    }

    async fn derive(&self, password: &str) -> Result<Scram> {
        if !scram::is_settable(password) {
            return Err(Error::BadPassword);
        }
        let salt = random_array(self.host.random.as_ref());
        let password = Zeroizing::new(password.to_owned());
        let work = move || make_scram(&password, salt, ITERATIONS_DEFAULT);
        Ok(compute(self.host.tasks.as_ref(), "password derivation", work).await?)
    }

    async fn command(&self, command: Command) -> Result<()> {
        // No gateway's life bounds these: they write no chunks.
        self.group.propose(command, None).await?;
        Ok(())
    }

    /// `N` random letters. The alphabets have 32 and 64, so the remainder is even.
    fn letters<const N: usize>(&self, alphabet: &[u8]) -> Zeroizing<String> {
        let bytes = Zeroizing::new(random_array::<N>(self.host.random.as_ref()));
        Zeroizing::new(bytes.iter().map(|b| char::from(alphabet[usize::from(*b) % alphabet.len()])).collect())
    }
}

/// Whether a text has the form of an access key id.
fn is_key_id(text: &str) -> bool {
    text.strip_prefix(ID_PREFIX)
        .is_some_and(|rest| rest.len() == ID_RANDOM && rest.bytes().all(|b| ID_LETTERS.contains(&b)))
}

fn enabled(view: &dyn benteng_host::KvView, user: &str) -> benteng_meta::Result<Option<UserRow>> {
    Ok(query::get::<UserRow>(view, &key::user(user))?.filter(|row| !row.disabled))
}

fn principal(name: &str, row: &UserRow) -> Principal {
    Principal { name: name.to_owned(), roles: row.roles.clone(), opd: row.opd.clone() }
}

fn check_roles(name: &str, roles: &[Role]) -> Result<()> {
    if roles.iter().all(|role| *role == Role::Publik) {
        return Err(Error::NoRole(name.to_owned()));
    }
    Ok(())
}
