//! Users and access keys. What a role may do is decided above, in `benteng-identity`.

use super::{Now, Step};
use crate::row::*;
use crate::{Answer, Rejection, Result, Tx, key};

/// Length limit of user names in bytes.
const NAME_BYTES: usize = 128;
/// Access keys of one user.
const KEYS_MAX: usize = 100;

pub(super) fn create_user(tx: &mut Tx<'_>, name: &str, row: &UserRow, now: Now) -> Step<Answer> {
    if !is_user_name(name) {
        let why = format!("{name:?} is not a user name: 1 to 128 of a-z A-Z 0-9 . _ - @");
        return Err(Rejection::Invalid(why).into());
    }
    if tx.has(&key::user(name))? {
        return Err(Rejection::UserExists(name.to_owned()).into());
    }
    tx.put(key::user(name), &UserRow { created: now.at, ..row.clone() });
    Ok(Answer::Done)
}

pub(super) fn update_user(tx: &mut Tx<'_>, name: &str, row: &UserRow) -> Step<Answer> {
    let old: UserRow = tx.get(&key::user(name))?.ok_or_else(|| Rejection::NoSuchUser(name.to_owned()))?;
    if is_admin(&old) && !is_admin(row) {
        keep_an_admin(tx, name)?;
    }
    tx.put(key::user(name), &UserRow { created: old.created, ..row.clone() });
    Ok(Answer::Done)
}

pub(super) fn delete_user(tx: &mut Tx<'_>, name: &str) -> Step<Answer> {
    let row: UserRow = tx.get(&key::user(name))?.ok_or_else(|| Rejection::NoSuchUser(name.to_owned()))?;
    if is_admin(&row) {
        keep_an_admin(tx, name)?;
    }
    for id in keys_of(tx, name)? {
        tx.delete(key::access_key(&id));
        tx.delete(key::user_key(name, &id));
    }
    tx.delete(key::user(name));
    Ok(Answer::Done)
}

pub(super) fn create_access_key(
    tx: &mut Tx<'_>,
    id: &str,
    user: &str,
    secret: &str,
    now: Now,
) -> Step<Answer> {
    if !tx.has(&key::user(user))? {
        return Err(Rejection::NoSuchUser(user.to_owned()).into());
    }
    if id.is_empty() || id.len() > NAME_BYTES || !id.bytes().all(|b| b.is_ascii_alphanumeric()) {
        return Err(Rejection::Invalid(format!("{id:?} is not an access key id")).into());
    }
    if tx.has(&key::access_key(id))? {
        return Err(Rejection::AccessKeyExists(id.to_owned()).into());
    }
    if keys_of(tx, user)?.len() >= KEYS_MAX {
        return Err(Rejection::Invalid(format!("user {user:?} has {KEYS_MAX} access keys already")).into());
    }
    let row = AccessKeyRow { user: user.to_owned(), secret: secret.to_owned(), created: now.at };
    tx.put(key::access_key(id), &row);
    tx.put(key::user_key(user, id), &Mark);
    Ok(Answer::Done)
}

pub(super) fn delete_access_key(tx: &mut Tx<'_>, id: &str) -> Step<Answer> {
    let row: AccessKeyRow =
        tx.take(key::access_key(id))?.ok_or_else(|| Rejection::NoSuchAccessKey(id.to_owned()))?;
    tx.delete(key::user_key(&row.user, id));
    Ok(Answer::Done)
}

fn is_admin(row: &UserRow) -> bool {
    !row.disabled && row.roles.contains(&Role::Admin)
}

/// A site without an administrator could never be administered again.
fn keep_an_admin(tx: &Tx<'_>, leaving: &str) -> Step<()> {
    let prefix = key::table(key::Table::User);
    let users = tx.range::<UserRow>(&prefix, &benteng_host::prefix_end(&prefix), usize::MAX)?;
    let leaving_key = key::user(leaving);
    if users.iter().any(|(key, row)| *key != leaving_key && is_admin(row)) {
        return Ok(());
    }
    Err(Rejection::LastAdmin(leaving.to_owned()).into())
}

fn keys_of(tx: &Tx<'_>, user: &str) -> Result<Vec<String>> {
    let prefix = key::user_key(user, "");
    let rows = tx.range::<Mark>(&prefix, &benteng_host::prefix_end(&prefix), usize::MAX)?;
    let id = |key: &[u8]| String::from_utf8(key.get(prefix.len()..)?.to_vec()).ok();
    Ok(rows.iter().filter_map(|(key, Mark)| id(key)).collect())
}

/// Whether a name may be a user's: no character that a protocol or a shell treats specially.
fn is_user_name(name: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-' | b'@');
    (1..=NAME_BYTES).contains(&name.len()) && name.bytes().all(allowed)
}
