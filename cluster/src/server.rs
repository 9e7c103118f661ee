//! One node, from start to stop: `server`, `node-child`, and their preparation by `init` and `join`.

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use benteng_host::real;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;

use crate::admin::Privileged;
use crate::cli::Global;
use crate::client::Client;
use crate::config::{self, Config};
use crate::files::{create_private_dir, hold};
use crate::formation::{self, Formation};
use crate::node::{Ended, Node};
use crate::{log, output, unseal};

/// A node that does not stop within this is left to the end of the process: its disk tells the rest.
const STOP_WITHIN: Duration = Duration::from_secs(10);

/// Another process runs as this node; whoever restarts services must not restart this one.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Superseded(String);

/// Who runs the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// An operator or systemd.
    Server,
    /// `benteng dev`, whose end ends the node.
    Child,
}

/// Runs one node until it is told to stop.
pub(crate) async fn run(file: &Path, mode: Mode) -> Result<ExitCode> {
    if mode == Mode::Child {
        // Before anything else: a parent that dies from here on takes us with it.
        nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL)
            .context("cannot bind to the parent")?;
    }
    let config = config::load(Some(file))?;
    log::init(&config.log.filter, config.log.format, Some(config.node.name.clone()))?;
    // Signals first: one that comes during a long start must not kill an open store.
    let stop = Stop::new(mode)?;
    match serve(&config, mode, stop).await {
        Ok(()) => Ok(ExitCode::SUCCESS),
        Err(error) => {
            tracing::error!(error = format!("{error:#}"), "node does not run");
            Err(error)
        }
    }
}

async fn serve(config: &Config, mode: Mode, mut stop: Stop) -> Result<()> {
    let Some(formation) = Formation::load(config)? else {
        bail!(
            "{} belongs to no site yet; run `benteng init` for a new one, or `benteng join` for one that is there",
            config.node.data_dir.display()
        );
    };
    create_private_dir(&config.node.data_dir)?;
    let Some(_held) = hold(&config.node.data_dir.join("lock"))? else {
        bail!("another process runs the node in {}; stop it first", config.node.data_dir.display());
    };
    let root = unseal::open(config)?;
    formation.check_root(&root)?;
    let privileged = match mode {
        Mode::Server => Privileged::Bootstrap,
        Mode::Child => Privileged::Dev,
    };
    raise_descriptors(config.limits.connections);
    tracing::info!(node = formation.node, site = %formation.site, version = env!("CARGO_PKG_VERSION"), "node starts");
    let node = tokio::select! {
        biased;
        why = stop.wanted() => {
            tracing::info!(why, "node stops before it served");
            return Ok(());
        }
        node = Box::pin(Node::start(config, root, formation, privileged)) => node?,
    };
    let doors = node.doors();
    tracing::info!(s3 = doors.s3, http = doors.http, sql = doors.sql, rpc = doors.rpc, "node serves");
    let why = tokio::select! {
        biased;
        why = stop.wanted() => why,
        ended = node.failed() => {
            node.stop().await;
            match ended {
                Ended::Failed(why) => bail!("{why}"),
                Ended::Superseded(why) => return Err(Superseded(why).into()),
            }
        }
    };
    tracing::info!(why, "node stops");
    if tokio::time::timeout(STOP_WITHIN, node.stop()).await.is_err() {
        tracing::warn!("node did not stop in time; the log is replayed at the next start");
    }
    Ok(())
}

/// Sockets and files of a node are many more than the thousand that a shell allows by default: what the machine
/// allows at most is taken, and said if that is too little.
fn raise_descriptors(connections: u32) {
    let raised = getrlimit(Resource::RLIMIT_NOFILE).and_then(|(soft, hard)| {
        if soft < hard {
            setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
        }
        Ok(hard)
    });
    // S3 and HTTP, the tables of the ordered store, and journals, peers and queries.
    let wanted = 2 * u64::from(connections) + 2048;
    match raised {
        Ok(most) if most >= wanted => {}
        Ok(most) => tracing::warn!(
            most,
            wanted,
            "this machine allows few open files; raise the limit (LimitNOFILE) or lower limits.connections"
        ),
        Err(error) => tracing::warn!(%error, "the limit of open files cannot be raised"),
    }
}

/// Everything that asks a node to stop.
struct Stop {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
    hangup: tokio::signal::unix::Signal,
    /// Ends with the parent's end of our standard input; none for a node that has no parent.
    parent: Option<oneshot::Receiver<()>>,
}

impl Stop {
    fn new(mode: Mode) -> Result<Stop> {
        let on = |kind| signal(kind).context("cannot listen to signals");
        Ok(Stop {
            terminate: on(SignalKind::terminate())?,
            interrupt: on(SignalKind::interrupt())?,
            hangup: on(SignalKind::hangup())?,
            parent: match mode {
                Mode::Server => None,
                Mode::Child => Some(parent()?),
            },
        })
    }

    /// Waits until somebody wants the node to stop; says who.
    async fn wanted(&mut self) -> &'static str {
        let parent_gone = async {
            match &mut self.parent {
                // It never sends: that the other side is gone is the news.
                Some(parent) => {
                    let _ = parent.await;
                }
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
            _ = self.hangup.recv() => "SIGHUP",
            () = parent_gone => "parent ended",
        }
    }
}

/// Waits for the parent's end on a thread of its own: a read that nobody answers would hold up the end
/// of the runtime, which a node waits for.
fn parent() -> Result<oneshot::Receiver<()>> {
    let (alive, gone) = oneshot::channel();
    let watch = move || {
        // The parent holds the other end of our standard input and writes nothing.
        let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
        drop(alive);
    };
    std::thread::Builder::new()
        .name("benteng-parent".into())
        .spawn(watch)
        .context("cannot watch the parent")?;
    Ok(gone)
}

/// `benteng init`.
pub(crate) fn init(file: &Path) -> Result<()> {
    let config = config::load(Some(file))?;
    let host = real::host();
    let root = unseal::open_or_create(&config, &host)?;
    let formed = formation::init(&config, &root, &host)?;
    let own_certificate = !config.tls.cert_file.as_os_str().is_empty();
    let (ca, note) = match (config.speaks_tls(&config.listen.http), own_certificate) {
        (false, _) => (String::new(), ""),
        (true, false) => (format!("BENTENG_CA_FILE={} ", formation::ca_file(&config).display()), ""),
        // The doors show the certificate of tls.cert_file: the site's own authority says nothing of it.
        (true, true) => (
            String::new(),
            "   (The doors show tls.cert_file: set BENTENG_CA_FILE to its authority, unless the machine trusts it.)\n\n",
        ),
    };
    output::print(&format!(
        "Site {} is prepared; this is its first node.\n\n\
         1. Keep a copy of the root key in a safe place, away from the nodes: without it every byte is lost.\n\
         2. Start the node:  benteng server --config {}\n\
         3. Create the first administrator with the token below; it is void once there is one:\n\n   \
         {ca}BENTENG_ADMIN_URL={} BENTENG_ADMIN_TOKEN={} benteng user create NAME --role admin\n\n\
         {note}4. From then on commands take BENTENG_ADMIN_USER and BENTENG_ADMIN_PASSWORD from the environment.\n",
        formed.site,
        file.display(),
        admin_url(&config),
        *Privileged::Bootstrap.token(&root),
    ))
}

/// `benteng recover`.
pub(crate) async fn recover(file: &Path, accept_loss: bool) -> Result<()> {
    let config = config::load(Some(file))?;
    log::init(&config.log.filter, config.log.format, Some(config.node.name.clone()))?;
    let Some(formation) = Formation::load(&config)? else {
        bail!("{} belongs to no site; there is nothing to recover", config.node.data_dir.display());
    };
    if !accept_loss {
        bail!(
            "recovery makes node {} the only one of its site: what only the other nodes have is lost for good, \
             and they never come back but by `benteng join --replace`. Only if a majority of the nodes is lost \
             for good: say it again with --accept-loss",
            formation.node
        );
    }
    let Some(_held) = hold(&config.node.data_dir.join("lock"))? else {
        bail!("the node in {} runs; stop it first", config.node.data_dir.display());
    };
    let root = unseal::open(&config)?;
    formation.check_root(&root)?;
    let node = formation.node;
    let epoch = crate::node::recover(&config, unseal::open(&config)?, &formation).await?;
    formation.keep_epoch(&config, &root, epoch)?;
    output::print(&format!(
        "Node {node} is the only node of its site now (recovery epoch {epoch}). Start it:  benteng server --config {}\n\
         Then `benteng site doctor` says what is lost, and `benteng node add` brings the site back to three nodes.\n\
         The other nodes are refused from now on: wipe their disks before they join again.\n",
        file.display()
    ))
}

fn admin_url(config: &Config) -> String {
    let scheme = if config.speaks_tls(&config.listen.http) { "https" } else { "http" };
    format!("{scheme}://{}", config.advertised(&config.listen.http))
}

/// `benteng join`.
pub(crate) async fn join(global: &Global, file: &Path, token: String, replaces: Option<u64>) -> Result<()> {
    let config = config::load(Some(file))?;
    let token = if token == "-" {
        std::io::read_to_string(std::io::stdin()).context("cannot read the token from standard input")?
    } else {
        token
    };
    let root = unseal::open(&config)?;
    let client = Client::find(global)?;
    let formed = formation::join(&config, &root, &client, token.trim(), replaces).await?;
    output::print(&format!(
        "This is node {} of site {} now. Start it:  benteng server --config {}\n",
        formed.node,
        formed.site,
        file.display()
    ))
}
