//! `user create|list|delete`, `key create|list|delete`.

use std::io::BufRead;

use anyhow::{Context, Result};
use benteng_http::api::{KeyAnswer, KeyInfo, KeyRequest, UserAnswer, UserInfo, UserRequest};

use super::all;
use crate::cli::{Global, KeyVerb, UserVerb};
use crate::client::Client;
use crate::output::{done, pairs, plain, result, table};

pub(crate) async fn user(global: &Global, verb: UserVerb) -> Result<()> {
    let client = Client::find(global)?;
    match verb {
        UserVerb::Create { name, roles, opd, password_stdin } => {
            let password = if password_stdin { Some(first_line()?) } else { None };
            let request = UserRequest { name, roles, opd, password };
            let user: UserAnswer = client.post(&["users"], &request).await?;
            result(global.output, &user, |user| {
                let mut lines = vec![("user", plain(&user.name)), ("roles", user.roles.join(", "))];
                if let Some(password) = &user.password {
                    lines.push(("SQL password (shown this once)", password.clone()));
                }
                pairs(&lines)
            })
        }
        UserVerb::List => {
            let users: Vec<UserInfo> = all(&client, &["users"]).await?;
            result(global.output, &users, |users| {
                let rows = users.iter().map(|user| {
                    vec![
                        plain(&user.name),
                        user.roles.join(", "),
                        plain(user.opd.as_deref().unwrap_or_default()),
                        if user.has_password { "yes" } else { "no" }.into(),
                        if user.disabled { "yes" } else { "no" }.into(),
                        user.created.clone(),
                    ]
                });
                table(&["name", "roles", "opd", "password", "disabled", "created"], &rows.collect::<Vec<_>>())
            })
        }
        UserVerb::Delete { name } => {
            client.delete(&["users", &name], &[]).await?;
            done(global.output, &format!("user {} deleted, and its access keys", plain(&name)))
        }
    }
}

fn first_line() -> Result<String> {
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line).context("cannot read the password from standard input")?;
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}

pub(crate) async fn key(global: &Global, verb: KeyVerb) -> Result<()> {
    let client = Client::find(global)?;
    match verb {
        KeyVerb::Create { user } => {
            let key: KeyAnswer = client.post(&["keys"], &KeyRequest { user }).await?;
            result(global.output, &key, |key| {
                pairs(&[
                    ("user", plain(&key.user)),
                    ("access key id", key.access_key_id.clone()),
                    ("secret access key (shown this once)", key.secret_access_key.clone()),
                ])
            })
        }
        KeyVerb::List { user } => {
            let query: Vec<(&str, &str)> = user.as_deref().map(|user| ("user", user)).into_iter().collect();
            let keys: Vec<KeyInfo> = client.get(&["keys"], &query).await?;
            result(global.output, &keys, |keys| {
                let rows =
                    keys.iter().map(|k| vec![k.access_key_id.clone(), plain(&k.user), k.created.clone()]);
                table(&["access key id", "user", "created"], &rows.collect::<Vec<_>>())
            })
        }
        KeyVerb::Delete { id } => {
            client.delete(&["keys", &id], &[]).await?;
            done(global.output, &format!("access key {} deleted", plain(&id)))
        }
    }
}
