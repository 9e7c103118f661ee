//! `benteng dev`: a whole site in the foreground, every node a child process with its own
//! directory. The parent forms the site, writes `endpoints.env`, and ends all with itself.

mod child; // one node's process
mod control; // requests of `--restart-node` to the site that runs
mod demo; // the sample data and the query over it
mod endpoints; // endpoints.env
mod ports; // which ports the nodes have
mod site; // the directory: root key, configurations, formation
mod watch; // looks after the nodes once they serve

use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use tokio::signal::unix::{SignalKind, signal};

use crate::cli::DevArgs;
use crate::config::LogFormat;
use crate::files::{create_private_dir, hold};
use crate::{log, output};
use site::Site;

/// Runs a site until it is told to stop, or asks one that runs to start a node again.
pub(crate) async fn run(args: DevArgs) -> Result<ExitCode> {
    if let Some(index) = args.restart_node {
        control::ask(&args.data, index).await?;
        output::print(&format!("node {index} serves\n"))?;
        return Ok(ExitCode::SUCCESS);
    }
    log::init("info", LogFormat::Auto, Some("dev".into()))?;
    create_private_dir(&args.data)?;
    let data =
        std::fs::canonicalize(&args.data).with_context(|| format!("cannot enter {}", args.data.display()))?;
    let Some(_held) = hold(&data.join("dev.lock"))? else {
        bail!("a site runs in {} already; stop it, or choose another --data", data.display());
    };
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen to signals")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen to signals")?;
    let mut hangup = signal(SignalKind::hangup()).context("cannot listen to signals")?;
    let mut site = Site::open(&data, args.nodes, args.base_port)?;
    let outcome = {
        let living = live(&mut site, &args);
        tokio::select! {
            biased;
            _ = terminate.recv() => Ok(()),
            _ = interrupt.recv() => Ok(()),
            _ = hangup.recv() => Ok(()),
            outcome = living => outcome,
        }
    };
    site.stop().await;
    outcome.map(|()| ExitCode::SUCCESS)
}

/// Brings the site up and looks after it; returns only with an error.
async fn live(site: &mut Site, args: &DevArgs) -> Result<()> {
    site.start().await?;
    output::print(&site.summary())?;
    if args.demo {
        output::print(&demo::run(site).await?)?;
    }
    output::print("ready\n")?;
    watch::run(site, args.supervise).await
}
