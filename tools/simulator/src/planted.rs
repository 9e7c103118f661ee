//! Planted bugs: each must be caught, by a scenario that names it or else by a seed. Each try is a process.

use std::collections::{BTreeMap, VecDeque};
use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, bail};
use benteng_host::planted::Bug;
use benteng_sim::scenario;

use crate::pool::{Ended, Pool};
use crate::{Args, scripts, seeds};

/// A bug may make a run spin; that is a catch.
const HANG: Duration = Duration::from_secs(300);
/// A scenario is played from so many seeds.
const SCRIPT_TRIES: u64 = 3;

/// The bug of that name.
pub(crate) fn named(name: &str) -> Result<Bug> {
    match Bug::ALL.iter().find(|bug| bug.name() == name) {
        Some(bug) => Ok(*bug),
        None => bail!("there is no planted bug {name}; `tools/sim --planted` lists all"),
    }
}

/// What caught a bug.
struct Caught {
    by: String,
    said: String,
    tries: u64,
}

/// One try at one bug.
struct Try {
    bug: Bug,
    by: String,
    number: u64,
    args: Vec<String>,
    script: bool,
}

impl Try {
    fn of(bug: Bug, by: String, number: u64, mut args: Vec<String>, script: bool) -> Try {
        args.extend(["--bug".to_owned(), bug.name().to_owned()]);
        Try { bug, by, number, args, script }
    }

    fn broken(&self, text: &str) -> String {
        if self.script { scripts::broken(text) } else { seeds::violations(text) }
    }
}

/// Tries until each bug is caught once, or its tries are used up.
fn run(tries: &[Try], args: &Args, caught: &mut BTreeMap<Bug, Caught>) -> Result<()> {
    let mut pool = Pool::new(args.jobs, HANG)?;
    let mut waiting: VecDeque<usize> = (0..tries.len()).collect();
    let bar = indicatif::ProgressBar::new_spinner();
    loop {
        while pool.has_room()
            && let Some(at) = waiting.pop_front()
        {
            if !caught.contains_key(&tries[at].bug) {
                bar.set_message(format!("{} by {}", tries[at].bug.name(), tries[at].by));
                pool.start(at, &tries[at].args)?;
            }
        }
        let Some(Ended { run, text, .. }) = pool.wait()? else { break };
        let one = &tries[run];
        let said = one.broken(&text);
        if !said.is_empty() {
            let found = || Caught { by: one.by.clone(), said, tries: one.number };
            caught.entry(one.bug).or_insert_with(found);
        }
        bar.tick();
    }
    bar.finish_and_clear();
    Ok(())
}

/// Runs the bugs and prints the table; fails if one is not caught.
pub(crate) fn catch(args: &Args) -> Result<ExitCode> {
    if !cfg!(debug_assertions) {
        bail!("a release build holds no planted bugs; run without --release");
    }
    let bugs: Vec<Bug> = match &args.bugs {
        Some(names) => names.split(',').map(|name| named(name.trim())).collect::<Result<_>>()?,
        None => Bug::ALL.to_vec(),
    };
    let mut caught = BTreeMap::new();
    let mut tries = Vec::new();
    for number in 1..=SCRIPT_TRIES {
        for bug in &bugs {
            for scenario in scenario::all().iter().filter(|scenario| scenario.catches.contains(bug)) {
                let script = scripts::one(scenario, number);
                tries.push(Try::of(*bug, scenario.name.to_owned(), number, script, true));
            }
        }
    }
    run(&tries, args, &mut caught)?;
    for bug in bugs.iter().filter(|_| !args.scripts_only) {
        if !caught.contains_key(bug) {
            let one = |seed| Try::of(*bug, format!("seed {seed}"), seed, seeds::one(seed, args), false);
            let tries: Vec<Try> = (1..=args.tries).map(one).collect();
            run(&tries, args, &mut caught)?;
        }
    }
    say(&bugs, &caught, args)
}

fn say(bugs: &[Bug], caught: &BTreeMap<Bug, Caught>, args: &Args) -> Result<ExitCode> {
    let mut out = std::io::stdout().lock();
    let mut missed = 0;
    for bug in bugs {
        let scripted = scenario::all().iter().any(|scenario| scenario.catches.contains(bug));
        match caught.get(bug) {
            Some(Caught { by, said, tries }) => {
                let said: String = said.chars().take(90).collect();
                writeln!(out, "{:3} {:24} {by}, try {tries}: {said}", bug.rule(), bug.name())?;
            }
            None if args.scripts_only && !scripted => {
                writeln!(out, "{:3} {:24} left to seeds", bug.rule(), bug.name())?;
            }
            None => {
                missed += 1;
                writeln!(out, "{:3} {:24} NOT CAUGHT", bug.rule(), bug.name())?;
            }
        }
    }
    writeln!(out, "{} planted bugs, {} caught, {missed} not caught", bugs.len(), caught.len())?;
    Ok(if missed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
