//! Role x action: the one decision. The table below and `docs/roles.md` are held equal by a test.

use benteng_meta::Role;

use crate::{Action, Principal, Resource};

/// What a role may do with an action.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Grant {
    /// Nothing.
    No,
    /// On what the caller owns.
    Own,
    /// On everything.
    All,
}

/// A caller may not do what it asked for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{principal:?} may not {action} on {resource}; an administrator grants roles with `benteng user`")]
pub struct Denied {
    /// Who asked.
    pub principal: String,
    /// For what.
    pub action: Action,
    /// On what, as people read it.
    pub resource: String,
}

/// Decides whether `who` may do `action` on `on`. Every door calls this, for everything it does.
///
/// Pure, and deny by default: a principal without roles, an action that does not fit the
/// resource and anything not granted in the table are [`Denied`].
pub fn authorize(who: &Principal, action: Action, on: Resource<'_>) -> Result<(), Denied> {
    let best = who.roles.iter().map(|role| grant(*role, action)).max().unwrap_or(Grant::No);
    let allowed = action.fits(on)
        && match best {
            Grant::No => false,
            Grant::Own => match on.owner() {
                // Nobody owns nothing: a bucket whose owner is called "anonymous" is not everybody's.
                Some(owner) => owner == who.name && !who.is_anonymous(),
                None => action.is_scoped_on_site(),
            },
            Grant::All => true,
        };
    if allowed {
        return Ok(());
    }
    Err(Denied { principal: who.name.clone(), action, resource: on.to_string() })
}

/// What a role may do with an action: one cell of the table in `docs/roles.md`.
pub fn grant(role: Role, action: Action) -> Grant {
    use Action as A;
    use Grant::{All, No, Own};
    match role {
        Role::Admin => All,
        Role::Sistem => match action {
            A::ListBuckets
            | A::CreateBucket
            | A::DeleteBucket
            | A::HeadBucket
            | A::ListObjects
            | A::GetObject
            | A::PutObject
            | A::DeleteObject
            | A::ListUploads
            | A::AbortUpload
            | A::ManageKeys => Own,
            A::RunSql | A::ReadSystemTables | A::ReadStatus | A::ManageNodes | A::ManageUsers => No,
        },
        Role::Walidata => match action {
            A::ListBuckets
            | A::HeadBucket
            | A::ListObjects
            | A::GetObject
            | A::PutObject
            | A::DeleteObject
            | A::ListUploads
            | A::AbortUpload
            | A::RunSql
            | A::ReadSystemTables
            | A::ReadStatus => All,
            A::CreateBucket | A::DeleteBucket | A::ManageKeys => Own,
            A::ManageNodes | A::ManageUsers => No,
        },
        Role::Produsen => match action {
            A::ListBuckets
            | A::CreateBucket
            | A::DeleteBucket
            | A::HeadBucket
            | A::ListObjects
            | A::GetObject
            | A::PutObject
            | A::DeleteObject
            | A::ListUploads
            | A::AbortUpload
            | A::RunSql
            | A::ReadSystemTables
            | A::ManageKeys => Own,
            A::ReadStatus | A::ManageNodes | A::ManageUsers => No,
        },
        // What is granted to an analyst comes with policies; until then, only what it owns, which
        // is what an administrator handed over to it.
        Role::Analis => match action {
            A::ListBuckets
            | A::HeadBucket
            | A::ListObjects
            | A::GetObject
            | A::RunSql
            | A::ReadSystemTables
            | A::ManageKeys => Own,
            A::CreateBucket
            | A::DeleteBucket
            | A::PutObject
            | A::DeleteObject
            | A::ListUploads
            | A::AbortUpload
            | A::ReadStatus
            | A::ManageNodes
            | A::ManageUsers => No,
        },
        Role::Operator | Role::Jaringan => match action {
            A::ListBuckets
            | A::CreateBucket
            | A::DeleteBucket
            | A::HeadBucket
            | A::ListObjects
            | A::GetObject
            | A::PutObject
            | A::DeleteObject
            | A::ListUploads
            | A::AbortUpload
            | A::RunSql
            | A::ReadSystemTables
            | A::ManageKeys => Own,
            A::ReadStatus => All,
            A::ManageNodes | A::ManageUsers => No,
        },
        Role::Auditor => match action {
            A::ReadStatus => All,
            A::ManageKeys => Own,
            A::ListBuckets
            | A::CreateBucket
            | A::DeleteBucket
            | A::HeadBucket
            | A::ListObjects
            | A::GetObject
            | A::PutObject
            | A::DeleteObject
            | A::ListUploads
            | A::AbortUpload
            | A::RunSql
            | A::ReadSystemTables
            | A::ManageNodes
            | A::ManageUsers => No,
        },
        Role::Publik => No,
    }
}

#[cfg(test)]
mod tests;
