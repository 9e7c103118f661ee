//! The binary (floor 9): configuration, the wiring of a node, `benteng dev`, the command line.
//! The one place that knows everybody; it holds no logic of its own.
//!
//! `cli` reads the command line; `server` runs a node that `node` wires; `dev` runs a whole site
//! of such nodes; `commands` and `client` talk to a site; `admin` answers them.

mod admin; // what the HTTP door asks of this node
mod bench; // load on an S3 endpoint
mod cli; // the command line
mod client; // the admin API from the outside
mod commands; // the verbs that talk to a site
mod config; // the configuration of a node
mod dev; // a whole site for development
mod files; // small files: whole, durable, private
mod formation; // how a node comes to be one
mod judge; // the clock by which signatures and certificates are judged
mod log; // logs and panics
mod node; // the wiring of a node
mod observe; // metrics of the process
mod output; // what commands print
mod renewal; // certificates before they end
mod server; // one node, from start to stop
mod tls; // certificates of the doors
mod unseal; // where the root key comes from

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::{CommandFactory, Parser};
use tokio::runtime::{Builder, Runtime};

use crate::cli::{Cli, ConfigVerb, Noun};

/// Bodies of some KiB come and go by the thousand a second: glibc's allocator joins and splits its free
/// memory for each. RocksDB's memory comes from here, too. Not in test builds: under libfaketime, which sets
/// the clocks of nodes in tests, jemalloc asks for the time before the library can answer, and waits for ever.
#[cfg(not(debug_assertions))]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Exit code of a command that failed.
const FAILED: u8 = 1;
/// Exit code of a command that was not understood.
const USAGE: u8 = 2;
/// Exit code of a node that another process runs; `ops/benteng.service` does not start it again.
const SUPERSEDED: u8 = 3;

/// How long work that is left in threads may go on when a command is done: a read of standard input
/// that nobody answers must not hold up the end of the process.
const LINGER: Duration = Duration::from_millis(300);
/// The same for a node. RocksDB aborts a process that ends while a thread is still inside it.
const NODE_LINGER: Duration = Duration::from_secs(10);

/// A command line that cannot be meant; ends with exit code 2.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Usage(String);

/// An error of usage.
pub(crate) fn usage(message: &str) -> anyhow::Error {
    Usage(message.to_owned()).into()
}

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are no failures; clap knows which is which, and its exit codes are ours.
            let code = u8::try_from(error.exit_code()).unwrap_or(USAGE);
            let _ = error.print();
            return ExitCode::from(code);
        }
    };
    match start(cli) {
        Ok(code) => code,
        Err(error) => {
            output::say(&format!("error: {error:#}"));
            ExitCode::from(match &error {
                error if error.is::<Usage>() => USAGE,
                error if error.is::<server::Superseded>() => SUPERSEDED,
                _ => FAILED,
            })
        }
    }
}

fn start(cli: Cli) -> Result<ExitCode> {
    // All TLS of this process is rustls on ring. It can only be there already if this ran twice.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = runtime(&cli)?;
    let linger = match cli.noun {
        Noun::Server(_) | Noun::NodeChild(_) => NODE_LINGER,
        _ => LINGER,
    };
    let outcome = runtime.block_on(Box::pin(run(cli)));
    runtime.shutdown_timeout(linger);
    outcome
}

/// The threads of a node are its configuration's to say; a command has those of the machine. Load takes half of
/// the cores: what it is put on may need the others.
fn runtime(cli: &Cli) -> Result<Runtime> {
    let workers = match &cli.noun {
        Noun::Server(args) | Noun::NodeChild(args) => config::load(Some(&args.config))?.limits.workers,
        Noun::Bench(bench::BenchVerb::S3(_)) => half_of_the_cores(),
        _ => 0,
    };
    let mut builder = match workers {
        // One thread that is the process's own: nothing is handed from core to core.
        1 => Builder::new_current_thread(),
        _ => Builder::new_multi_thread(),
    };
    if let Some(workers) = usize::try_from(workers).ok().filter(|workers| *workers > 1) {
        builder.worker_threads(workers);
    }
    builder.enable_all().build().context("cannot start the runtime")
}

fn half_of_the_cores() -> u32 {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    u32::try_from(cores / 2).unwrap_or(1).max(1)
}

async fn run(cli: Cli) -> Result<ExitCode> {
    let global = cli.global;
    match cli.noun {
        Noun::Dev(args) => dev::run(args).await,
        Noun::Server(args) => server::run(&args.config, server::Mode::Server).await,
        Noun::NodeChild(args) => server::run(&args.config, server::Mode::Child).await,
        Noun::Init(args) => server::init(&args.config).map(done),
        Noun::Join(args) => server::join(&global, &args.config, args.token, args.replace).await.map(done),
        Noun::Recover(args) => server::recover(&args.config, args.accept_loss).await.map(done),
        Noun::Config(ConfigVerb::Defaults) => output::print(&config::commented_defaults()).map(done),
        Noun::Config(ConfigVerb::Check { file }) => {
            config::load(Some(&file))?;
            output::done(global.output, &format!("{} is a configuration", file.display())).map(done)
        }
        Noun::Site(verb) => commands::site::site(&global, verb).await,
        Noun::Node(verb) => commands::node::run(&global, verb).await.map(done),
        Noun::Scrub(verb) => commands::scrub::run(&global, verb).await.map(done),
        Noun::Bucket(verb) => commands::bucket::run(&global, verb).await.map(done),
        Noun::Object(verb) => commands::object::run(&global, verb).await.map(done),
        Noun::User(verb) => commands::people::user(&global, verb).await.map(done),
        Noun::Key(verb) => commands::people::key(&global, verb).await.map(done),
        Noun::Sql(args) => commands::sql::run(&global, args).await,
        Noun::Bench(verb) => bench::run(&global, verb).await,
        Noun::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "benteng", &mut script);
            output::print(&String::from_utf8_lossy(&script)).map(done)
        }
    }
}

fn done((): ()) -> ExitCode {
    ExitCode::SUCCESS
}
