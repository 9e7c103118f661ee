//! Requests of `--restart-node` to the site that runs: small files, so that a killed site leaves
//! no socket behind. A request is a file in `control/`; its answer lies beside it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use crate::files::{Readers, create_private_dir, hold, random_name, write_atomic};

/// Longer than the site gives a node to serve: its own words are better than ours.
const ANSWER_WITHIN: Duration = Duration::from_secs(110);
const LOOK_EVERY: Duration = Duration::from_millis(100);
const REQUEST: &str = "request";
const ANSWER: &str = "answer";

/// A node that is to be started again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Request {
    /// Its file's name, without its ending.
    id: String,
    /// The node.
    pub(super) node: u8,
}

#[derive(Serialize, Deserialize)]
struct Reply {
    error: Option<String>,
}

fn dir(data: &Path) -> PathBuf {
    data.join("control")
}

/// Asks the site that runs in `data` to start a node again; returns when it serves.
///
/// Errors: no site runs there; it cannot; it does not answer in time.
pub(super) async fn ask(data: &Path, node: u8) -> Result<()> {
    let none_runs = || format!("no `benteng dev` runs in {}; start it first", data.display());
    if !data.join("dev.lock").exists() || hold(&data.join("dev.lock"))?.is_some() {
        bail!(none_runs());
    }
    create_private_dir(&dir(data))?;
    let id = random_name();
    let (asked, answered) =
        (dir(data).join(&id).with_extension(REQUEST), dir(data).join(&id).with_extension(ANSWER));
    let request = Request { id, node };
    write_atomic(&asked, serde_json::to_string(&request)?.as_bytes(), Readers::Owner)?;
    let waiting = async {
        loop {
            if let Ok(text) = std::fs::read_to_string(&answered) {
                return serde_json::from_str::<Reply>(&text).context("the site's answer is not understood");
            }
            // The lock is free once the site is gone; then nobody will answer.
            if hold(&data.join("dev.lock"))?.is_some() {
                bail!("the site in {} ended before node {node} served", data.display());
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    };
    let reply = tokio::time::timeout(ANSWER_WITHIN, waiting).await;
    // Whatever came of it: nothing is left to be carried out later.
    let _ = std::fs::remove_file(&asked);
    let _ = std::fs::remove_file(&answered);
    let reply = reply
        .map_err(|_| anyhow::anyhow!("node {node} did not serve within {} s", ANSWER_WITHIN.as_secs()))??;
    match reply.error {
        None => Ok(()),
        Some(error) => bail!("node {node} was not started: {error}"),
    }
}

/// Requests that wait, in any order. What is no request is ignored.
pub(super) fn pending(data: &Path) -> Result<Vec<Request>> {
    let entries = match std::fs::read_dir(dir(data)) {
        Ok(entries) => entries,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(e).context("cannot look for requests"),
    };
    let mut out = Vec::new();
    for entry in entries.flatten() {
        let path = entry.path();
        let is_request = path.extension().is_some_and(|end| end == REQUEST);
        if !is_request || path.with_extension(ANSWER).exists() {
            continue;
        }
        let parsed =
            std::fs::read_to_string(&path).ok().and_then(|text| serde_json::from_str::<Request>(&text).ok());
        // The name comes from outside: only the one that it claims is answered.
        out.extend(parsed.filter(|request| path.file_stem().is_some_and(|stem| *stem == *request.id)));
    }
    Ok(out)
}

/// Answers a request.
pub(super) fn answer(data: &Path, request: &Request, outcome: &Result<()>) -> Result<()> {
    let reply = Reply { error: outcome.as_ref().err().map(|error| format!("{error:#}")) };
    let path = dir(data).join(&request.id).with_extension(ANSWER);
    write_atomic(&path, serde_json::to_string(&reply)?.as_bytes(), Readers::Owner)
}

/// Forgets requests and answers of an earlier life of the site.
pub(super) fn clear(data: &Path) {
    // Nothing there is as good as cleared.
    let _ = std::fs::remove_dir_all(dir(data));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn requests_are_answered_once_and_leave_nothing() {
        let data = tempfile::tempdir().expect("a temporary directory");
        assert!(ask(data.path(), 2).await.is_err(), "no site runs here");
        let held = hold(&data.path().join("dev.lock")).expect("lock").expect("free");
        let site = async {
            loop {
                if let Some(request) = pending(data.path()).expect("pending").into_iter().next() {
                    let outcome =
                        if request.node == 2 { Ok(()) } else { bail!("there is no node {}", request.node) };
                    answer(data.path(), &request, &outcome).expect("answer");
                    return Ok(());
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let (asked, served): (Result<()>, Result<()>) = tokio::join!(ask(data.path(), 2), site);
        assert!(asked.is_ok() && served.is_ok());
        assert_eq!(std::fs::read_dir(dir(data.path())).expect("listing").count(), 0);
        drop(held);
    }

    #[test]
    fn what_is_no_request_is_ignored() {
        let data = tempfile::tempdir().expect("a temporary directory");
        assert!(pending(data.path()).expect("no directory, no requests").is_empty());
        create_private_dir(&dir(data.path())).expect("directory");
        std::fs::write(dir(data.path()).join("x.request"), "not JSON").expect("write");
        std::fs::write(dir(data.path()).join("y.request"), r#"{"id":"../z","node":1}"#).expect("write");
        assert!(pending(data.path()).expect("pending").is_empty());
    }
}
