//! Many seeds: one process each, and what they add up to.

use std::collections::BTreeMap;
use std::io::Write;
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};
use benteng_sim::{FORBIDDEN_PROBES, PROBES, Report};

use crate::Args;
use crate::pool::{Ended, Pool};

/// A seed that takes longer (most take seconds) is taken for one that spins.
const HANG: Duration = Duration::from_secs(10 * 60);
/// From so many seeds on each probe of the list must have been reached.
const PROBING: u64 = 100;

/// A report as tab-separated fields: what the parent reads back.
pub(crate) fn line(report: &Report) -> String {
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

/// What a seed's process said was broken; empty: nothing.
pub(crate) fn violations(text: &str) -> String {
    let found = text.lines().find_map(|line| line.strip_prefix("report\t"));
    match found.and_then(|line| line.split('\t').nth(7)) {
        Some(violations) => violations.to_owned(),
        None => format!("the run ended without a report: {}", text.trim()),
    }
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
        let [_, entries, operations, acknowledged, faults, kinds, probes, _] = fields[..] else {
            self.violations.push((seed, violations(text)));
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
            if FORBIDDEN_PROBES.contains(&probe.0) {
                self.violations.push((seed, format!("only a broken promise reaches {}", probe.0)));
            }
            *self.probes.entry(probe.0.to_owned()).or_default() += number(probe.1);
        }
        let broken = violations(text);
        if !broken.is_empty() {
            self.violations.push((seed, broken));
        }
    }

    /// Rare branches that no seed has reached.
    fn missed(&self) -> Vec<&'static str> {
        PROBES.iter().copied().filter(|probe| !self.probes.contains_key(*probe)).collect()
    }
}

/// `A..B`, half-open.
fn range(seeds: &str) -> Result<(u64, u64)> {
    let (from, to) = seeds.split_once("..").context("seeds are written A..B, half-open")?;
    Ok((from.parse()?, to.parse()?))
}

/// Arguments of the process of one seed.
pub(crate) fn one(seed: u64, args: &Args) -> Vec<String> {
    vec!["--one".to_owned(), seed.to_string(), "--work".to_owned(), args.work.to_string()]
}

/// Two replays of a seed are equal, byte for byte, or the simulation is none.
pub(crate) fn twice(seeds: &str, args: &Args) -> Result<ExitCode> {
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

/// Runs the seeds and says what they found.
pub(crate) fn many(seeds: &str, args: &Args) -> Result<ExitCode> {
    let (from, to) = range(seeds)?;
    let mut pool = Pool::new(args.jobs, HANG)?;
    let bar = indicatif::ProgressBar::new(to.saturating_sub(from));
    let mut sum = Sum::default();
    let mut next = from;
    while next < to || !pool.is_idle() {
        while pool.has_room() && next < to {
            pool.start(usize::try_from(next)?, &one(next, args))?;
            next += 1;
        }
        let Some(Ended { run, text, .. }) = pool.wait()? else { continue };
        let (seed, before) = (run as u64, sum.violations.len());
        sum.add(seed, &text);
        for (seed, violation) in &sum.violations[before..] {
            bar.suspend(|| writeln!(std::io::stdout(), "seed {seed}: {violation}"))?;
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    say(&sum)
}

fn say(sum: &Sum) -> Result<ExitCode> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "probes: {}", joined(&sum.probes))?;
    writeln!(out, "kinds of fault, by seeds: {}", joined(&sum.kinds))?;
    if !sum.thin.is_empty() {
        writeln!(out, "seeds that do not count (under 500 answers or six kinds of fault): {:?}", sum.thin)?;
    }
    let missed = sum.missed();
    let blind = sum.seeds >= PROBING && !missed.is_empty();
    if !missed.is_empty() {
        let verdict = if blind { "no seed has reached" } else { "not reached by so few seeds" };
        writeln!(out, "{verdict}: {}", missed.join(", "))?;
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
    let good = sum.violations.is_empty() && sum.thin.is_empty() && !blind;
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn joined(counts: &BTreeMap<String, u64>) -> String {
    counts.iter().map(|(name, n)| format!("{name} {n}")).collect::<Vec<_>>().join(", ")
}
