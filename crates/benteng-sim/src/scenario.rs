//! Scripted scenarios: histories that random faults seldom or never make, one for each "else" of the rules.
//! Each is named for its rule and says which planted bugs it must catch.

mod commands; // C: what comes twice, late, past its deadline; clocks
mod honest; // I: copies, conditions, damage; K: nonces
mod journal; // J: torn tails, damage, failed syncs, recycling
mod members; // S8, O2: nodes that come and go, and who acts in their names
mod nth; // J6, O6: the N-th operation fails, for every N
mod objects; // O: parts, fences, moves, readers, room
mod raft; // S: votes, leases, start-up checks, damage
mod room; // J6, I7: a journal that waits for room, a peer that reads nothing
mod rot; // I4: what rots at rest
mod snapshots; // S4, S5, S9: snapshots under crash

use benteng_host::planted::Bug;

use crate::plan::Plan;
use crate::probes::Probes;
use crate::stage::{Played, Stage};

/// One scripted history.
#[derive(Clone, Copy)]
pub struct Scenario {
    /// Its name, which begins with its rule.
    pub name: &'static str,
    /// The bugs that it must catch.
    pub catches: &'static [Bug],
    plan: fn() -> Plan,
    play: fn(&mut Stage) -> Played,
}

impl Scenario {
    const fn new(name: &'static str, catches: &'static [Bug], play: fn(&mut Stage) -> Played) -> Scenario {
        Scenario { name, catches, plan: Plan::calm, play }
    }

    const fn with(self, plan: fn() -> Plan) -> Scenario {
        Scenario { plan, ..self }
    }

    /// Plays it from `seed`; the error is what was broken. One process plays one scenario.
    pub fn play(&self, seed: u64, probes: &Probes) -> Result<(), String> {
        let mut stage = Stage::new(seed, &(self.plan)(), probes);
        let played = stage.form().and_then(|()| (self.play)(&mut stage));
        if played.is_ok() && probes.facts(|facts| facts.entries()) == 0 {
            return Err("the nodes stated no facts: nobody would see what they break".to_owned());
        }
        // What was seen first explains what followed.
        match stage.watch.violations.into_iter().next() {
            Some(first) => Err(first),
            None => played,
        }
    }
}

/// All of them.
pub fn all() -> Vec<Scenario> {
    let all = [
        journal::ALL,
        raft::ALL,
        snapshots::ALL,
        commands::ALL,
        objects::ALL,
        honest::ALL,
        members::ALL,
        rot::ALL,
        room::ALL,
    ];
    all.into_iter().flatten().copied().collect()
}

/// Those in which the N-th operation of a device fails, for every N: too long to be played with the others.
pub fn nth_failures() -> Vec<Scenario> {
    nth::ALL.to_vec()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn scenarios_are_named_for_their_rules_each_once() {
        let names: BTreeSet<&str> = all().iter().map(|scenario| scenario.name).collect();
        assert_eq!(names.len(), all().len());
        for name in names {
            let mut letters = name.chars();
            let (rule, number) = (letters.next(), letters.next());
            assert!(rule.is_some_and(|c| "ijskco".contains(c)), "{name}");
            assert!(number.is_some_and(|c| c.is_ascii_digit()) && letters.next() == Some('_'), "{name}");
        }
    }
}
