//! Scripted scenarios: one process each. All of them together must reach the probes that are left to them.

use std::collections::BTreeMap;
use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, bail};
use benteng_sim::scenario::{self, Scenario};
use benteng_sim::{FORBIDDEN_PROBES, SCRIPTED_PROBES};

use crate::Args;
use crate::pool::{Ended, Pool};

/// A scenario takes seconds.
pub(crate) const HANG: Duration = Duration::from_secs(240);

/// The scenario of that name.
pub(crate) fn named(name: &str) -> Result<Scenario> {
    match scenario::all().into_iter().find(|scenario| scenario.name == name) {
        Some(scenario) => Ok(scenario),
        None => bail!("there is no scenario {name}; `tools/sim --scenarios` names all"),
    }
}

/// Arguments of the process of one scenario.
pub(crate) fn one(scenario: &Scenario, seed: u64) -> Vec<String> {
    vec!["--script".to_owned(), scenario.name.to_owned(), "--from".to_owned(), seed.to_string()]
}

/// What a scenario's process says.
pub(crate) fn line(broken: &Result<(), String>, probes: &BTreeMap<String, u64>) -> String {
    let broken = broken.as_ref().err().map(|why| why.replace(['\t', '\n'], " ")).unwrap_or_default();
    let probes: Vec<&str> = probes.keys().map(String::as_str).collect();
    format!("verdict\t{broken}\t{}", probes.join(","))
}

fn fields(text: &str) -> Option<(&str, &str)> {
    text.lines().find_map(|line| line.strip_prefix("verdict\t"))?.split_once('\t')
}

/// What a scenario's process said was broken; empty: nothing.
pub(crate) fn broken(text: &str) -> String {
    match fields(text) {
        Some((broken, _)) => broken.to_owned(),
        None => format!("the run ended without a verdict: {}", text.trim()),
    }
}

/// Plays all scenarios whose name begins with `prefix`.
pub(crate) fn play(prefix: &str, args: &Args) -> Result<ExitCode> {
    let scenarios: Vec<Scenario> =
        scenario::all().into_iter().filter(|scenario| scenario.name.starts_with(prefix)).collect();
    if scenarios.is_empty() {
        bail!("no scenario's name begins with {prefix}");
    }
    let mut pool = Pool::new(args.jobs, HANG)?;
    let mut out = std::io::stdout().lock();
    let (mut next, mut failed) = (0, 0);
    let mut reached: BTreeMap<String, &str> = BTreeMap::new();
    while next < scenarios.len() || !pool.is_idle() {
        while pool.has_room() && next < scenarios.len() {
            pool.start(next, &one(&scenarios[next], args.from))?;
            next += 1;
        }
        let Some(Ended { run, text, seconds }) = pool.wait()? else { continue };
        let (name, broken) = (scenarios[run].name, broken(&text));
        for probe in fields(&text).into_iter().flat_map(|(_, probes)| probes.split(',')) {
            reached.entry(probe.to_owned()).or_insert(name);
        }
        match broken.is_empty() {
            true => writeln!(out, "{name}: held, {seconds:.1} s")?,
            false => {
                failed += 1;
                writeln!(out, "{name}: BROKEN: {broken}")?;
            }
        }
    }
    for probe in FORBIDDEN_PROBES {
        if let Some(by) = reached.get(*probe) {
            failed += 1;
            writeln!(out, "{by}: BROKEN: only a broken promise reaches {probe}")?;
        }
    }
    // Some of the scenarios reach some of them.
    let missed = SCRIPTED_PROBES.iter().filter(|probe| prefix.is_empty() && !reached.contains_key(**probe));
    for probe in missed {
        failed += 1;
        writeln!(out, "BROKEN: no scenario has reached {probe}")?;
    }
    writeln!(out, "{} scenarios, {} probes, {failed} violations", scenarios.len(), reached.len())?;
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
