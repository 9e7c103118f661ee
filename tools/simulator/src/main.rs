//! Runs whole sites from seeds: `--seeds A..B` one process per seed, `--replay SEED` one with its trace.
//! One seed is one process, since libraries keep process-wide state.

use std::collections::BTreeMap;
use std::io::Write;
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use benteng_sim::{Probes, Report, Scale};
use clap::Parser;
use tracing_subscriber::layer::SubscriberExt;

/// Simulated sites under faults.
#[derive(Parser)]
#[command(name = "sim", about = "Runs whole simulated sites from seeds and holds them to their promises")]
struct Args {
    /// Seeds to run, half-open: `0..60`.
    #[arg(long, conflicts_with_all = ["replay", "one"])]
    seeds: Option<String>,
    /// Replays each of the seeds twice and holds the two traces against each other.
    #[arg(long, requires = "seeds")]
    twice: bool,
    /// Runs one seed; standard output is its trace alone.
    #[arg(long, conflicts_with = "one")]
    replay: Option<u64>,
    /// Runs one seed and prints its report as one line (what `--seeds` starts for each seed).
    #[arg(long, hide = true)]
    one: Option<u64>,
    /// Seconds of work under faults, in simulated time.
    #[arg(long, default_value_t = 60)]
    work: u64,
    /// Processes at once; 0: one per core.
    #[arg(long, default_value_t = 0)]
    jobs: usize,
}

/// A seed that takes longer (most take seconds) is taken for one that spins.
const HANG: Duration = Duration::from_secs(10 * 60);

fn main() -> Result<ExitCode> {
    let args = Args::parse();
    let scale = Scale { work: Duration::from_secs(args.work), ..Scale::default() };
    match (&args.seeds, args.replay, args.one) {
        (Some(seeds), None, None) if args.twice => twice(seeds, &args),
        (Some(seeds), None, None) => many(seeds, &args),
        (None, Some(seed), None) => {
            let report = simulate(seed, scale, true)?;
            let mut out = std::io::stdout().lock();
            for line in &report.trace {
                writeln!(out, "{line}")?;
            }
            for violation in &report.violations {
                writeln!(out, "VIOLATION {violation}")?;
            }
            Ok(if report.violations.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
        }
        (None, None, Some(seed)) => {
            let report = simulate(seed, scale, false)?;
            writeln!(std::io::stdout(), "{}", line(&report))?;
            Ok(ExitCode::SUCCESS)
        }
        _ => bail!("say --seeds A..B or --replay SEED"),
    }
}

fn simulate(seed: u64, scale: Scale, trace: bool) -> Result<Report> {
    let probes = Probes::default();
    if trace {
        probes.keep_trace();
    }
    let subscriber = tracing_subscriber::registry().with(probes.clone());
    tracing::subscriber::set_global_default(subscriber).context("another subscriber is installed")?;
    Ok(benteng_sim::run(seed, scale, &probes))
}

/// A report as tab-separated fields: what `--seeds` reads back.
fn line(report: &Report) -> String {
    let probes: Vec<String> = report.probes.iter().map(|(name, n)| format!("{name}={n}")).collect();
    let kinds: Vec<String> = report.kinds.iter().map(|kind| format!("{kind:?}")).collect();
    let violations: Vec<String> = report.violations.iter().map(|v| v.replace(['\t', '\n'], " ")).collect();
    format!(
        "report\t{}\t{}\t{}\t{}\t{}\t{}\t{}\t{}",
        report.seed,
        report.entries,
        report.operations,
        report.acknowledged,
        report.faults,
        kinds.join(","),
        probes.join(","),
        violations.join(" || ")
    )
}

#[derive(Default)]
struct Sum {
    seeds: u64,
    thin: Vec<u64>,
    entries: u64,
    operations: u64,
    acknowledged: u64,
    faults: u64,
    kinds: BTreeMap<String, u64>,
    probes: BTreeMap<String, u64>,
    violations: Vec<(u64, String)>,
}

impl Sum {
    fn add(&mut self, seed: u64, text: &str) {
        self.seeds += 1;
        let found = text.lines().find_map(|line| line.strip_prefix("report\t"));
        let fields: Vec<&str> = found.map(|line| line.split('\t').collect()).unwrap_or_default();
        let [_, entries, operations, acknowledged, faults, kinds, probes, violations] = fields[..] else {
            self.violations.push((seed, format!("the run ended without a report: {}", text.trim())));
            return;
        };
        let number = |text: &str| text.parse::<u64>().unwrap_or(0);
        self.entries += number(entries);
        self.operations += number(operations);
        self.acknowledged += number(acknowledged);
        self.faults += number(faults);
        let kinds: Vec<&str> = kinds.split(',').filter(|k| !k.is_empty()).collect();
        let counts = number(acknowledged) >= 500 && kinds.len() >= 6 && kinds.contains(&"SitePowerLoss");
        if !counts {
            self.thin.push(seed);
        }
        for kind in kinds {
            *self.kinds.entry(kind.to_owned()).or_default() += 1;
        }
        for probe in probes.split(',').filter_map(|p| p.split_once('=')) {
            *self.probes.entry(probe.0.to_owned()).or_default() += number(probe.1);
        }
        if !violations.is_empty() {
            self.violations.push((seed, violations.to_owned()));
        }
    }
}

fn range(seeds: &str) -> Result<(u64, u64)> {
    let (from, to) = seeds.split_once("..").context("seeds are written A..B, half-open")?;
    Ok((from.parse()?, to.parse()?))
}

/// Two replays of a seed are equal, byte for byte, or the simulation is none.
fn twice(seeds: &str, args: &Args) -> Result<ExitCode> {
    let (from, to) = range(seeds)?;
    let me = std::env::current_exe().context("cannot find this program")?;
    let replay = |seed: u64| {
        Command::new(&me)
            .args(["--replay", &seed.to_string(), "--work", &args.work.to_string()])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .context("cannot start a seed")
    };
    let bar = indicatif::ProgressBar::new(to.saturating_sub(from));
    let mut differ = Vec::new();
    for seed in from..to {
        let (one, other) = (replay(seed)?, replay(seed)?);
        // Both pipes are read at once: a full one would hold its process up.
        let other = std::thread::spawn(move || other.wait_with_output());
        let one = one.wait_with_output()?.stdout;
        let other = other.join().map_err(|_| anyhow::anyhow!("reading a replay panicked"))??.stdout;
        if one != other || one.is_empty() {
            differ.push(seed);
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    let mut out = std::io::stdout().lock();
    writeln!(out, "{} seeds replayed twice, {} differ: {differ:?}", to - from, differ.len())?;
    Ok(if differ.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn many(seeds: &str, args: &Args) -> Result<ExitCode> {
    let (from, to) = range(seeds)?;
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let jobs = if args.jobs == 0 { cores } else { args.jobs };
    let me = std::env::current_exe().context("cannot find this program")?;
    let bar = indicatif::ProgressBar::new(to.saturating_sub(from));
    let mut sum = Sum::default();
    let mut running: Vec<(u64, Instant, Child)> = Vec::new();
    let mut next = from;
    while next < to || !running.is_empty() {
        while running.len() < jobs && next < to {
            let child = Command::new(&me)
                .args(["--one", &next.to_string(), "--work", &args.work.to_string()])
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .context("cannot start a seed")?;
            running.push((next, Instant::now(), child));
            next += 1;
        }
        let mut ended = None;
        for (at, (_, since, child)) in running.iter_mut().enumerate() {
            if child.try_wait()?.is_some() {
                ended = Some(at);
            } else if since.elapsed() > HANG {
                // A spinning node holds the whole simulation up: a verdict like any other.
                child.kill()?;
                ended = Some(at);
            }
        }
        let Some(at) = ended else {
            std::thread::sleep(Duration::from_millis(20));
            continue;
        };
        let (seed, _, child) = running.swap_remove(at);
        let output = child.wait_with_output()?;
        let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
        if !output.status.success() {
            text = format!("{}: {}", output.status, String::from_utf8_lossy(&output.stderr));
        }
        let before = sum.violations.len();
        sum.add(seed, &text);
        for (seed, violation) in &sum.violations[before..] {
            bar.suspend(|| writeln!(std::io::stdout(), "seed {seed}: {violation}"))?;
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    let mut out = std::io::stdout().lock();
    writeln!(out, "probes: {}", joined(&sum.probes))?;
    writeln!(out, "kinds of fault, by seeds: {}", joined(&sum.kinds))?;
    if !sum.thin.is_empty() {
        writeln!(out, "seeds that do not count (under 500 answers or six kinds of fault): {:?}", sum.thin)?;
    }
    writeln!(
        out,
        "{} seeds, {} log entries, {} operations ({} answered), {} faults, {} probes, {} violations",
        sum.seeds,
        sum.entries,
        sum.operations,
        sum.acknowledged,
        sum.faults,
        sum.probes.len(),
        sum.violations.len()
    )?;
    let good = sum.violations.is_empty() && sum.thin.is_empty();
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn joined(counts: &BTreeMap<String, u64>) -> String {
    counts.iter().map(|(name, n)| format!("{name} {n}")).collect::<Vec<_>>().join(", ")
}
