//! The verbs of the command line that talk to a site.

pub(crate) mod bucket;
pub(crate) mod node;
pub(crate) mod object;
pub(crate) mod people;
pub(crate) mod scrub;
pub(crate) mod site;
pub(crate) mod sql;
mod sql_shell; // lines into statements, and what is typed
mod sql_tls; // TLS to the SQL door

use anyhow::Result;
use benteng_http::api::Page;
use serde::de::DeserializeOwned;

use crate::client::Client;

/// All lines of a listing, page by page, handed to `each` as they come.
async fn pages<T: DeserializeOwned>(
    client: &Client,
    path: &[&str],
    query: &[(&str, &str)],
    mut each: impl FnMut(Vec<T>) -> Result<()>,
) -> Result<()> {
    let mut after: Option<String> = None;
    loop {
        let mut query = query.to_vec();
        if let Some(after) = &after {
            query.push(("after", after));
        }
        let page: Page<T> = client.get(path, &query).await?;
        each(page.lines)?;
        match page.next {
            Some(next) => after = Some(next),
            None => return Ok(()),
        }
    }
}

/// As [`pages`], for tables that are small.
async fn all<T: DeserializeOwned>(client: &Client, path: &[&str]) -> Result<Vec<T>> {
    let mut out = Vec::new();
    pages(client, path, &[], |mut lines| {
        out.append(&mut lines);
        Ok(())
    })
    .await?;
    Ok(out)
}
