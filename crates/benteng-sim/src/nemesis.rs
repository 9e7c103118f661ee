//! Faults: at random times, and aimed: armed on a probe, struck right after it.

use std::collections::BTreeSet;
use std::time::Duration;

use rand::RngExt;
use turmoil::Sim;

use crate::probes::Probes;
use crate::site::{Site, name};
use crate::{DiskCall, SimRng};

/// Kinds of fault; a seed counts with at least six of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Fault {
    /// A node's process dies.
    Kill,
    /// A node loses its power: what was not synced may be gone or torn.
    PowerLoss,
    /// All nodes lose their power.
    SitePowerLoss,
    /// A node loses its power right after a probe.
    AimedPowerLoss,
    /// Two nodes cannot reach each other.
    Partition,
    /// One direction between two nodes is cut.
    OneWay,
    /// A node is cut off from all others.
    Isolation,
    /// Messages between two nodes are held back for a while.
    Hold,
    /// Messages take long.
    Slow,
    /// A node's process stands still.
    Pause,
    /// A node's clock runs fast or slow, or jumps.
    Clock,
    /// A node's disk stands still for a while.
    SlowDisk,
    /// A sync fails.
    FailedSync,
    /// A node's disk is full.
    FullDisk,
}

/// Probes worth aiming at.
const AIMS: [&str; 6] = [
    "raft_vote_durable",
    "raft_append_durable",
    "chunk_durable",
    "client_answered",
    "proposal_settled",
    "snapshot_switched",
];

/// Strikes a site; every fault ends by itself or by [`Nemesis::heal`].
pub(crate) struct Nemesis {
    rng: SimRng,
    probes: Probes,
    /// What was done so far.
    pub done: BTreeSet<Fault>,
    /// How many faults.
    pub count: u64,
    down: Vec<(u64, Duration)>,
    cuts: Vec<(u64, u64, Duration, Fault)>,
    paused: Vec<(u64, Duration)>,
    full: Vec<(u64, Duration)>,
    slow_until: Option<Duration>,
    aim: Option<u64>,
}

impl Nemesis {
    /// A nemesis with its part of the seed.
    pub(crate) fn new(rng: SimRng, probes: Probes) -> Nemesis {
        Nemesis {
            rng,
            probes,
            done: BTreeSet::new(),
            count: 0,
            down: Vec::new(),
            cuts: Vec::new(),
            paused: Vec::new(),
            full: Vec::new(),
            slow_until: None,
            aim: None,
        }
    }

    fn note(&mut self, fault: Fault, what: &str) {
        self.done.insert(fault);
        self.count += 1;
        self.probes.note(&format!("nemesis {fault:?} {what}"));
    }

    fn node(&mut self, site: &Site) -> u64 {
        self.rng.random_range(1..=site.hosts.len() as u64)
    }

    fn for_a_while(&mut self, now: Duration, from_ms: u64, to_ms: u64) -> Duration {
        now + Duration::from_millis(self.rng.random_range(from_ms..to_ms))
    }

    fn is_down(&self, node: u64) -> bool {
        self.down.iter().any(|(down, _)| *down == node)
    }

    /// One turn: ends what is over, boots who is due, strikes now and then.
    pub(crate) fn turn(&mut self, sim: &mut Sim<'_>, site: &Site, now: Duration, strike: bool) {
        self.recover(sim, site, now);
        self.revive(sim, site, now);
        if let Some(node) = self.aim
            && self.probes.fired()
        {
            self.aim = None;
            if !self.is_down(node) {
                self.note(Fault::AimedPowerLoss, &name(node));
                self.power_off(sim, site, node, now);
            }
        }
        if strike && self.rng.random_bool(0.7) {
            self.strike(sim, site, now);
        }
    }

    /// Nodes that stopped themselves (abort, panic) come back like crashed ones.
    fn revive(&mut self, sim: &mut Sim<'_>, site: &Site, now: Duration) {
        for (node, host) in &site.hosts {
            if !self.is_down(*node) && host.ending().is_some() {
                let why = format!("{} ended: {:?}", name(*node), host.ending());
                self.probes.note(&why);
                sim.crash(name(*node));
                host.kill();
                let back = self.for_a_while(now, 200, 2000);
                self.down.push((*node, back));
            }
        }
    }

    fn power_off(&mut self, sim: &mut Sim<'_>, site: &Site, node: u64, now: Duration) {
        // turmoil says goodbye with a FIN; a machine without power does not.
        for other in site.hosts.keys().filter(|other| **other != node) {
            sim.partition(name(node), name(*other));
        }
        sim.crash(name(node));
        for other in site.hosts.keys().filter(|other| **other != node) {
            sim.repair(name(node), name(*other));
        }
        if let Some(host) = site.hosts.get(&node) {
            host.power_loss();
        }
        let back = self.for_a_while(now, 200, 4000);
        self.down.push((node, back));
    }

    fn strike(&mut self, sim: &mut Sim<'_>, site: &Site, now: Duration) {
        let node = self.node(site);
        let other = node % site.hosts.len() as u64 + 1;
        let Some(host) = site.hosts.get(&node) else { return };
        if self.is_down(node) {
            return;
        }
        match self.rng.random_range(0..15_u32) {
            0 | 1 => {
                self.note(Fault::Kill, &name(node));
                sim.crash(name(node));
                host.kill();
                let back = self.for_a_while(now, 100, 3000);
                self.down.push((node, back));
            }
            2 => {
                self.note(Fault::PowerLoss, &name(node));
                self.power_off(sim, site, node, now);
            }
            3 | 4 => {
                let aim = AIMS[self.rng.random_range(0..AIMS.len())];
                let n = self.rng.random_range(1..20);
                self.probes.arm(aim, n);
                self.aim = Some(node);
            }
            5 => {
                self.note(Fault::Partition, &format!("{} {}", name(node), name(other)));
                sim.partition(name(node), name(other));
                let until = self.for_a_while(now, 300, 5000);
                self.cuts.push((node, other, until, Fault::Partition));
            }
            6 => {
                self.note(Fault::OneWay, &format!("{} -> {}", name(node), name(other)));
                sim.partition_oneway(name(node), name(other));
                let until = self.for_a_while(now, 300, 5000);
                self.cuts.push((node, other, until, Fault::OneWay));
            }
            7 => {
                self.note(Fault::Isolation, &name(node));
                let until = self.for_a_while(now, 300, 6000);
                for other in site.hosts.keys().filter(|other| **other != node) {
                    sim.partition(name(node), name(*other));
                    self.cuts.push((node, *other, until, Fault::Isolation));
                }
            }
            8 => {
                self.note(Fault::Hold, &format!("{} {}", name(node), name(other)));
                sim.hold(name(node), name(other));
                let until = self.for_a_while(now, 200, 3000);
                self.cuts.push((node, other, until, Fault::Hold));
            }
            9 => {
                let latency = Duration::from_millis(self.rng.random_range(20..200));
                self.note(Fault::Slow, &format!("{latency:?}"));
                sim.set_max_message_latency(latency);
                self.slow_until = Some(self.for_a_while(now, 500, 4000));
            }
            10 => {
                self.note(Fault::Pause, &name(node));
                host.gate.pause();
                let until = self.for_a_while(now, 100, 6000);
                self.paused.push((node, until));
            }
            11 => {
                let jump = self.rng.random_range(-30_000_000..30_000_000_i64);
                self.note(Fault::Clock, &format!("{} jumps {jump} us", name(node)));
                host.clock.jump_wall(jump);
            }
            12 => {
                let stall = Duration::from_millis(self.rng.random_range(50..2500));
                self.note(Fault::SlowDisk, &format!("{} {stall:?}", name(node)));
                host.disk.stall(stall);
            }
            13 => {
                self.note(Fault::FailedSync, &name(node));
                let n = self.rng.random_range(1..30);
                host.disk.fail(DiskCall::SyncData, n);
            }
            _ => {
                self.note(Fault::FullDisk, &name(node));
                host.disk.set_capacity(Some(0));
                let until = self.for_a_while(now, 500, 4000);
                self.full.push((node, until));
            }
        }
    }

    fn recover(&mut self, sim: &mut Sim<'_>, site: &Site, now: Duration) {
        for (node, back) in std::mem::take(&mut self.down) {
            if back > now {
                self.down.push((node, back));
            } else {
                self.probes.note(&format!("{} boots", name(node)));
                if let Some(host) = site.hosts.get(&node) {
                    host.gate.reopen();
                }
                sim.bounce(name(node));
            }
        }
        for (a, b, until, fault) in std::mem::take(&mut self.cuts) {
            if until > now {
                self.cuts.push((a, b, until, fault));
            } else if fault == Fault::Hold {
                sim.release(name(a), name(b));
            } else {
                sim.repair(name(a), name(b));
            }
        }
        for (node, until) in std::mem::take(&mut self.paused) {
            if until > now {
                self.paused.push((node, until));
            } else if let Some(host) = site.hosts.get(&node) {
                host.gate.resume();
            }
        }
        for (node, until) in std::mem::take(&mut self.full) {
            if until > now {
                self.full.push((node, until));
            } else if let Some(host) = site.hosts.get(&node) {
                host.disk.set_capacity(None);
            }
        }
        if self.slow_until.is_some_and(|until| until <= now) {
            self.slow_until = None;
            sim.set_max_message_latency(Duration::from_millis(5));
        }
    }

    /// Ends every fault at once; nodes that are down boot.
    pub(crate) fn heal(&mut self, sim: &mut Sim<'_>, site: &Site) {
        let end = Duration::MAX;
        self.aim = None;
        self.recover(sim, site, end);
    }

    /// All nodes lose their power at once, and boot a moment later.
    pub(crate) fn power_off_all(&mut self, sim: &mut Sim<'_>, site: &Site, now: Duration) {
        self.note(Fault::SitePowerLoss, "all");
        self.down.clear();
        for node in site.hosts.keys() {
            self.power_off(sim, site, *node, now);
        }
    }
}
