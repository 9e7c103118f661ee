//! Scripted scenarios: one process each.

use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, bail};
use benteng_sim::scenario::{self, Scenario};

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
pub(crate) fn line(broken: &Result<(), String>) -> String {
    let broken = broken.as_ref().err().map(|why| why.replace(['\t', '\n'], " ")).unwrap_or_default();
    format!("verdict\t{broken}")
}

/// What a scenario's process said was broken; empty: nothing.
pub(crate) fn broken(text: &str) -> String {
    match text.lines().find_map(|line| line.strip_prefix("verdict\t")) {
        Some(broken) => broken.to_owned(),
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
    while next < scenarios.len() || !pool.is_idle() {
        while pool.has_room() && next < scenarios.len() {
            pool.start(next, &one(&scenarios[next], args.from))?;
            next += 1;
        }
        let Some(Ended { run, text, seconds }) = pool.wait()? else { continue };
        let (name, broken) = (scenarios[run].name, broken(&text));
        match broken.is_empty() {
            true => writeln!(out, "{name}: held, {seconds:.1} s")?,
            false => {
                failed += 1;
                writeln!(out, "{name}: BROKEN: {broken}")?;
            }
        }
    }
    writeln!(out, "{} scenarios, {failed} violations", scenarios.len())?;
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
