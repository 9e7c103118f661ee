//! Looks after the nodes once they serve: says who ended, starts them again when asked to.
//! Nodes are started side by side: when all are down, none serves before a majority is back.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use super::control::{self, Request};
use super::site::{READY_WITHIN, Site};

/// How often children and requests are looked at.
const TICK: Duration = Duration::from_millis(100);
/// How long `--supervise` waits before it starts a node again; doubled while it keeps dying.
const RESTART_AFTER: Duration = Duration::from_secs(1);
const RESTART_AFTER_MAX: Duration = Duration::from_secs(30);

/// A node on its way up.
struct Starting {
    index: u8,
    /// Who asked; `None`: supervision.
    request: Option<Request>,
    until: Instant,
}

/// Looks after the site for good; returns only with an error.
pub(super) async fn run(site: &mut Site, supervise: bool) -> Result<()> {
    let mut starting: Vec<Starting> = Vec::new();
    let mut supervision = Supervision::default();
    loop {
        tokio::time::sleep(TICK).await;
        for index in site.newly_dead()? {
            tracing::warn!(node = index, "node ended; `benteng dev --restart-node` starts it again");
            if supervise {
                supervision.ended(index);
            }
        }
        for index in supervision.due() {
            begin(site, index, None, &mut starting).await?;
        }
        for request in control::pending(site.dir())? {
            if !starting.iter().any(|node| node.request.as_ref() == Some(&request)) {
                begin(site, request.node, Some(request), &mut starting).await?;
            }
        }
        let mut waiting = Vec::new();
        for node in std::mem::take(&mut starting) {
            match look(site, &node).await {
                Ok(false) => waiting.push(node),
                Ok(true) => {
                    supervision.served(node.index);
                    let written = site.write_endpoints();
                    finish(site, &node, &written)?;
                }
                Err(error) => finish(site, &node, &Err(error))?,
            }
        }
        starting = waiting;
    }
}

/// Starts a node; what fails at once is answered at once.
async fn begin(
    site: &mut Site,
    index: u8,
    request: Option<Request>,
    starting: &mut Vec<Starting>,
) -> Result<()> {
    let node = Starting { index, request, until: Instant::now() + READY_WITHIN };
    match site.begin_restart(index).await {
        Ok(()) => {
            starting.push(node);
            Ok(())
        }
        Err(error) => finish(site, &node, &Err(error)),
    }
}

/// Whether a node serves by now.
async fn look(site: &mut Site, node: &Starting) -> Result<bool> {
    if site.comes_up(node.index).await? {
        return Ok(true);
    }
    if Instant::now() > node.until {
        bail!(
            "node {} does not serve after {} s; its log above says why",
            node.index,
            READY_WITHIN.as_secs()
        );
    }
    Ok(false)
}

/// Tells whoever asked what came of it.
fn finish(site: &Site, node: &Starting, outcome: &Result<()>) -> Result<()> {
    match outcome {
        Ok(()) => tracing::info!(node = node.index, "node serves again"),
        Err(error) => {
            tracing::error!(node = node.index, error = format!("{error:#}"), "node was not started again");
        }
    }
    match &node.request {
        Some(request) => control::answer(site.dir(), request, outcome),
        None => Ok(()),
    }
}

/// When `--supervise` starts which node again.
#[derive(Default)]
struct Supervision {
    due: BTreeMap<u8, Instant>,
    pause: BTreeMap<u8, Duration>,
}

impl Supervision {
    /// A node ended: it is started again after a pause, twice as long each time it does not come to serve.
    fn ended(&mut self, index: u8) {
        let pause = self.pause.entry(index).or_insert(RESTART_AFTER);
        self.due.insert(index, Instant::now() + *pause);
        *pause = (*pause * 2).min(RESTART_AFTER_MAX);
    }

    fn served(&mut self, index: u8) {
        self.pause.remove(&index);
    }

    /// Nodes whose pause is over.
    fn due(&mut self) -> Vec<u8> {
        let now = Instant::now();
        let due: Vec<u8> = self.due.iter().filter(|(_, at)| **at <= now).map(|(index, _)| *index).collect();
        for index in &due {
            self.due.remove(index);
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_that_keep_dying_are_started_ever_later() {
        let mut supervision = Supervision::default();
        let mut pauses = Vec::new();
        for _ in 0..7 {
            let before = Instant::now();
            supervision.ended(2);
            pauses.push((supervision.due[&2] - before).as_secs());
        }
        assert_eq!(pauses, [1, 2, 4, 8, 16, 30, 30]);
        assert!(supervision.due().is_empty(), "not before its time");
        supervision.served(2);
        supervision.ended(2);
        assert!(supervision.due[&2] <= Instant::now() + RESTART_AFTER, "one that served begins anew");
    }
}
