//! The administrator of a development site: its user and access key, derived from the root key.

use std::time::Duration;

use anyhow::{Context, Result};
use benteng_identity::{Error, Identity};
use benteng_keys::RootKey;
use benteng_meta::{Rejection, Role};

use super::auth::ADMIN;

/// How long to wait before the next try.
const PAUSE: Duration = Duration::from_secs(1);

/// Makes the administrator and its access key, if they are not there.
///
/// Errors: the site cannot be asked now.
pub(crate) async fn once(identity: &Identity, root: &RootKey) -> Result<()> {
    let credential = root.dev_credential(ADMIN);
    let user = identity.principal(ADMIN).await.context("cannot look for the development administrator")?;
    if user.is_none() {
        let made = identity.create_user(ADMIN, vec![Role::Admin], None, Some(&credential.password)).await;
        ignore_existing(made).context("cannot create the development administrator")?;
    }
    let id = &credential.access_key_id;
    if identity.access_key(id).await.context("cannot look for the development key")?.is_none() {
        let made = identity.create_known_key(ADMIN, id, &credential.secret_access_key).await;
        ignore_existing(made).context("cannot create the development key")?;
    }
    Ok(())
}

/// Another node of the site may do the same at the same time.
fn ignore_existing(made: Result<(), Error>) -> Result<(), Error> {
    match made {
        Err(error)
            if matches!(
                error.rejection(),
                Some(Rejection::UserExists(_) | Rejection::AccessKeyExists(_))
            ) =>
        {
            Ok(())
        }
        other => other,
    }
}

/// As [`once`], until it is done: for a node that opened its doors before its site was there.
pub(crate) async fn until_done(identity: Identity, root: std::sync::Arc<RootKey>) {
    while let Err(error) = once(&identity, &root).await {
        tracing::debug!(error = format!("{error:#}"), "development administrator not made yet");
        tokio::time::sleep(PAUSE).await;
    }
}
