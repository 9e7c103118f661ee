//! Whole simulated sites: `--seeds A..B` one process per seed, `--scenarios` one per scripted history,
//! `--planted` bugs that must be caught, `--replay` one run with its trace.
//! One run is one process, since libraries keep process-wide state.

mod planted; // bugs that must be caught
mod pool; // processes, a few at a time
mod scripts; // scenarios
mod seeds; // many seeds, and what they add up to

use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use benteng_sim::{Probes, Scale};
use clap::Parser;
use tracing_subscriber::layer::SubscriberExt;

/// Simulated sites under faults.
#[derive(Parser)]
#[command(name = "sim", about = "Runs whole simulated sites and holds them to their promises")]
struct Args {
    /// Seeds to run, half-open: `0..60`.
    #[arg(long, conflicts_with_all = ["replay", "one"])]
    seeds: Option<String>,
    /// Replays each of the seeds twice and holds the two traces against each other.
    #[arg(long, requires = "seeds")]
    twice: bool,
    /// Plays the scripted scenarios, or those whose name begins so.
    #[arg(long, value_name = "NAME", num_args = 0..=1, default_missing_value = "")]
    scenarios: Option<String>,
    /// Plants bugs, one at a time, and holds scenarios and seeds to catching each.
    #[arg(long)]
    planted: bool,
    /// The bugs to plant, separated by commas; all if not given.
    #[arg(long, requires = "planted")]
    bugs: Option<String>,
    /// Seeds that may be tried until a planted bug is caught.
    #[arg(long, default_value_t = 200, requires = "planted")]
    tries: u64,
    /// Plants only what a scenario must catch; no seeds.
    #[arg(long, requires = "planted")]
    scripts_only: bool,
    /// Runs one seed, or the scenario of that name; standard output is its trace alone.
    #[arg(long, conflicts_with = "one", value_name = "SEED|NAME")]
    replay: Option<String>,
    /// Runs one seed and prints its report as one line (what `--seeds` starts for each seed).
    #[arg(long, hide = true)]
    one: Option<u64>,
    /// Plays one scenario and prints its verdict as one line (what `--scenarios` starts for each).
    #[arg(long, hide = true)]
    script: Option<String>,
    /// Seed of a scenario.
    #[arg(long, default_value_t = 1)]
    from: u64,
    /// The bug that is planted in this process.
    #[arg(long, value_name = "BUG")]
    bug: Option<String>,
    /// Seconds of work under faults, in simulated time.
    #[arg(long, default_value_t = 40)]
    work: u64,
    /// Processes at once; 0: one per core.
    #[arg(long, default_value_t = 0)]
    jobs: usize,
}

fn main() -> Result<ExitCode> {
    let args = Args::parse();
    if let Some(name) = &args.bug {
        benteng_host::planted::plant(planted::named(name)?).map_err(|why| anyhow!(why))?;
    }
    let scale = Scale { work: Duration::from_secs(args.work), ..Scale::default() };
    if let Some(seeds) = &args.seeds {
        return if args.twice { seeds::twice(seeds, &args) } else { seeds::many(seeds, &args) };
    }
    if let Some(prefix) = &args.scenarios {
        return scripts::play(prefix, &args);
    }
    if args.planted {
        return planted::catch(&args);
    }
    if let Some(what) = &args.replay {
        return replay(what, &args, scale);
    }
    if let Some(seed) = args.one {
        let report = benteng_sim::run(seed, scale, &listen(false)?);
        writeln!(std::io::stdout(), "{}", seeds::line(&report))?;
        return Ok(ExitCode::SUCCESS);
    }
    if let Some(name) = &args.script {
        let probes = listen(false)?;
        let verdict = scripts::named(name)?.play(args.from, &probes);
        writeln!(std::io::stdout(), "{}", scripts::line(&verdict, &probes.counts()))?;
        return Ok(ExitCode::SUCCESS);
    }
    bail!("say --seeds A..B, --scenarios [NAME], --planted or --replay SEED|NAME")
}

/// Runs a seed or a scenario and prints all that was heard.
fn replay(what: &str, args: &Args, scale: Scale) -> Result<ExitCode> {
    let probes = listen(true)?;
    let (trace, broken) = match what.parse::<u64>() {
        Ok(seed) => {
            let report = benteng_sim::run(seed, scale, &probes);
            (report.trace, report.violations)
        }
        Err(_) => {
            let verdict = scripts::named(what)?.play(args.from, &probes);
            (probes.take_trace(), verdict.err().into_iter().collect())
        }
    };
    let mut out = std::io::stdout().lock();
    trace.iter().try_for_each(|line| writeln!(out, "{line}"))?;
    broken.iter().try_for_each(|violation| writeln!(out, "VIOLATION {violation}"))?;
    Ok(if broken.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Hears what the software says in this process.
fn listen(trace: bool) -> Result<Probes> {
    let probes = Probes::default();
    if trace {
        probes.keep_trace();
    }
    let subscriber = tracing_subscriber::registry().with(probes.clone());
    tracing::subscriber::set_global_default(subscriber).context("another subscriber is installed")?;
    Ok(probes)
}
