//! Faults: at random times, and aimed: armed on a probe, struck right after it.

mod members; // nodes that join, grow into their share, are drained and removed
mod rot; // bits that flip

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rand::RngExt;
use turmoil::Sim;

use self::members::{Changed, Members};
use self::rot::Rot;
use crate::jobs::Jobs;
use crate::plan::Plan;
use crate::probes::Probes;
use crate::site::{Site, name};
use crate::{DiskCall, Ending, SimRng};

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
    /// Messages between two nodes get lost at random: their streams stall for ever.
    Loss,
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
    /// A node is without power for so long that the log that it needs is purged.
    LongOutage,
    /// A node is lost with its disks; a fresh one takes its place.
    Replacement,
    /// A node joins a site that runs.
    Growth,
    /// A node is drained and removed.
    Drain,
    /// A stored bit flips.
    BitRot,
    /// A read or a write fails.
    FailedCall,
    /// A clock jumps by an hour, or to 2038.
    FarClock,
    /// Clients stop pausing.
    Burst,
}

impl Fault {
    /// The ones that strike at random.
    pub(crate) const AT_RANDOM: [Fault; 19] = [
        Fault::Kill,
        Fault::PowerLoss,
        Fault::SitePowerLoss,
        Fault::AimedPowerLoss,
        Fault::Partition,
        Fault::OneWay,
        Fault::Isolation,
        Fault::Hold,
        Fault::Loss,
        Fault::Slow,
        Fault::Pause,
        Fault::Clock,
        Fault::SlowDisk,
        Fault::FailedSync,
        Fault::FullDisk,
        Fault::LongOutage,
        Fault::FailedCall,
        Fault::FarClock,
        Fault::Burst,
    ];
}

/// Probes worth aiming at.
pub(crate) const AIMS: [&str; 17] = [
    "raft_vote_durable",
    "raft_append_durable",
    "chunk_durable",
    "client_answered",
    "part_committed",
    "proposal_settled",
    "hedge_won",
    "snapshot_page_installed",
    "snapshot_switched",
    "chunk_segment_copied_out",
    "journal_segment_recycled",
    "journal_torn_tail_cut",
    "orphans_removed",
    "placement_moved",
    "leadership_handed_over",
    "log_damage_purged",
    "strays_evicted",
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
    /// Who loses its power when the armed probe fires; 0: all.
    aim: Option<u64>,
    faults: Vec<Fault>,
    rot: Option<Rot>,
    members: Members,
    /// Clients look at it: no pauses while it is set.
    pub(crate) burst: Arc<AtomicBool>,
    burst_until: Option<Duration>,
    replace_at: Option<Duration>,
}

impl Nemesis {
    /// A nemesis with its part of the seed; the operator's commands go through `jobs`.
    pub(crate) fn new(rng: SimRng, probes: Probes, plan: &Plan, jobs: Jobs) -> Nemesis {
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
            faults: plan.faults.clone(),
            rot: plan.rot.map(Rot::of),
            members: Members::new(jobs),
            burst: Arc::default(),
            burst_until: None,
            replace_at: None,
        }
    }

    fn note(&mut self, fault: Fault, what: &str) {
        self.done.insert(fault);
        self.count += 1;
        self.probes.note(&format!("nemesis {fault:?} {what}"));
    }

    /// Work begins: a replacement that the plan knows is due so much later.
    pub(crate) fn begin(&mut self, now: Duration, plan: &Plan) {
        self.replace_at = plan.replace_after.map(|after| now + after);
        self.members.begin(now, plan);
    }

    /// Whether an operator has not ended yet what the plan has for him.
    pub(crate) fn is_busy(&self, site: &Site) -> bool {
        self.members.is_busy(site)
    }

    /// The operator's turn.
    fn change_members(&mut self, sim: &mut Sim<'_>, site: &Site, now: Duration) {
        let (calm, heard) = (self.down.is_empty(), (&mut self.rng, &self.probes));
        let Changed { joins, left } = self.members.turn(sim, site, now, calm, heard);
        if let Some(fresh) = joins {
            self.note(Fault::Growth, &name(fresh));
            self.down.push((fresh, now));
        }
        if let Some(node) = left {
            self.note(Fault::Drain, &name(node));
            self.down.retain(|(down, _)| *down != node);
        }
    }

    fn node(&mut self, site: &Site) -> u64 {
        let members = site.members();
        members[self.rng.random_range(0..members.len())]
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
            if node == 0 {
                self.power_off_all(sim, site, now);
            } else if site.members().contains(&node) && !self.is_down(node) {
                self.note(Fault::AimedPowerLoss, &name(node));
                self.power_off(sim, site, node, now);
            }
        }
        // Only while the others run: whose power is lost with everybody's may still wait for a copy.
        if self.replace_at.is_some_and(|at| at <= now) && self.down.is_empty() {
            self.replace_at = None;
            self.replace(sim, site, now);
        }
        self.change_members(sim, site, now);
        if strike {
            self.strike(sim, site, now);
        }
    }

    /// Nodes that stopped themselves (abort, panic) come back like crashed ones.
    fn revive(&mut self, sim: &mut Sim<'_>, site: &Site, now: Duration) {
        for node in site.members() {
            let Some(host) = site.machine(node) else { continue };
            if !self.is_down(node)
                && let Some(ending) = host.ending()
            {
                let damaged = host.disk.flips() > 0 || host.kv.flips() > 0;
                let refuses = matches!(ending, Ending::Returned(Err(_))) && damaged;
                if refuses && self.replaces_refused(sim, site, node, now) {
                    continue;
                }
                let why = format!("{} ended: {:?}", name(node), host.ending());
                self.probes.note(&why);
                site.kill(sim, node);
                let back = self.for_a_while(now, 200, 2000);
                self.down.push((node, back));
            }
        }
    }

    /// Whose log is damaged refuses to start (S3), and a fresh machine takes its place.
    fn replaces_refused(&mut self, sim: &mut Sim<'_>, site: &Site, node: u64, now: Duration) -> bool {
        sim.crash(name(node));
        let Some(fresh) = site.replace(node) else { return false };
        self.note(Fault::Replacement, &format!("{} by {}, which refused to start", name(node), name(fresh)));
        self.rot = None;
        let boots = self.for_a_while(now, 200, 4000);
        self.down.push((fresh, boots));
        true
    }

    fn power_off(&mut self, sim: &mut Sim<'_>, site: &Site, node: u64, now: Duration) {
        site.cut_power(sim, node);
        let back = self.for_a_while(now, 200, 4000);
        self.down.push((node, back));
    }

    /// A node burns down; a fresh machine takes its place.
    fn replace(&mut self, sim: &mut Sim<'_>, site: &Site, now: Duration) {
        let node = self.node(site);
        self.power_off(sim, site, node, now);
        self.down.retain(|(down, _)| *down != node);
        if let Some(fresh) = site.replace(node) {
            self.note(Fault::Replacement, &format!("{} by {}", name(node), name(fresh)));
            let boots = self.for_a_while(now, 200, 4000);
            self.down.push((fresh, boots));
        }
    }

    fn strike(&mut self, sim: &mut Sim<'_>, site: &Site, now: Duration) {
        let node = self.node(site);
        let members = site.members();
        let next = members.iter().position(|member| *member == node).unwrap_or(0) + 1;
        let other = members[next % members.len()];
        let Some(host) = site.machine(node) else { return };
        if let Some(flipped) = self.rot.as_mut().and_then(|rot| rot.strike(site, &self.probes, &mut self.rng))
        {
            self.note(Fault::BitRot, &flipped);
        }
        let fault = self.faults[self.rng.random_range(0..self.faults.len())];
        let alone =
            node == other && matches!(fault, Fault::Partition | Fault::OneWay | Fault::Hold | Fault::Loss);
        if (self.is_down(node) && fault != Fault::SitePowerLoss) || alone {
            return;
        }
        match fault {
            Fault::Kill => {
                self.note(fault, &name(node));
                site.kill(sim, node);
                let back = self.for_a_while(now, 100, 3000);
                self.down.push((node, back));
            }
            Fault::PowerLoss => {
                self.note(fault, &name(node));
                self.power_off(sim, site, node, now);
            }
            // Rarer than the others: the site is without service for seconds.
            Fault::SitePowerLoss if self.rng.random_bool(0.3) => self.power_off_all(sim, site, now),
            Fault::AimedPowerLoss => {
                let aim = AIMS[self.rng.random_range(0..AIMS.len())];
                let n = self.rng.random_range(1..20);
                self.probes.arm(aim, n);
                self.aim = Some(if self.rng.random_bool(0.2) { 0 } else { node });
            }
            Fault::Partition => {
                self.note(fault, &format!("{} {}", name(node), name(other)));
                sim.partition(name(node), name(other));
                let until = self.for_a_while(now, 300, 5000);
                self.cuts.push((node, other, until, fault));
            }
            Fault::OneWay => {
                self.note(fault, &format!("{} -> {}", name(node), name(other)));
                sim.partition_oneway(name(node), name(other));
                let until = self.for_a_while(now, 300, 5000);
                self.cuts.push((node, other, until, fault));
            }
            Fault::Isolation => {
                self.note(fault, &name(node));
                let until = self.for_a_while(now, 300, 6000);
                for other in members.into_iter().filter(|other| *other != node) {
                    sim.partition(name(node), name(other));
                    self.cuts.push((node, other, until, fault));
                }
            }
            Fault::Hold => {
                self.note(fault, &format!("{} {}", name(node), name(other)));
                sim.hold(name(node), name(other));
                let until = self.for_a_while(now, 200, 3000);
                self.cuts.push((node, other, until, fault));
            }
            Fault::Loss => {
                let rate = self.rng.random_range(0.01..0.2);
                self.note(fault, &format!("{} {} {rate:.3}", name(node), name(other)));
                sim.set_link_fail_rate(name(node), name(other), rate);
                let until = self.for_a_while(now, 200, 3000);
                self.cuts.push((node, other, until, fault));
            }
            Fault::Slow => {
                let latency = Duration::from_millis(self.rng.random_range(20..200));
                self.note(fault, &format!("{latency:?}"));
                sim.set_max_message_latency(latency);
                self.slow_until = Some(self.for_a_while(now, 500, 4000));
            }
            Fault::Pause => {
                self.note(fault, &name(node));
                host.gate.pause();
                let until = self.for_a_while(now, 100, 6000);
                self.paused.push((node, until));
            }
            Fault::Clock => {
                let jump = self.rng.random_range(-30_000_000..30_000_000_i64);
                self.note(fault, &format!("{} jumps {jump} us", name(node)));
                host.clock.jump_wall(jump);
            }
            Fault::SlowDisk => {
                let stall = Duration::from_millis(self.rng.random_range(50..2500));
                self.note(fault, &format!("{} {stall:?}", name(node)));
                host.disk.stall(stall);
            }
            Fault::FailedSync => {
                self.note(fault, &name(node));
                let n = self.rng.random_range(1..30);
                host.disk.fail(DiskCall::SyncData, n);
            }
            Fault::FailedCall => {
                let calls = [DiskCall::Read, DiskCall::Write, DiskCall::SyncDir];
                let call = calls[self.rng.random_range(0..calls.len())];
                self.note(fault, &format!("{} {call:?}", name(node)));
                let n = self.rng.random_range(1..30);
                host.disk.fail(call, n);
            }
            Fault::FarClock => {
                let hour = 3_600_000_000_i64;
                let jump = [-hour, hour, 12 * 365 * 24 * hour][self.rng.random_range(0..3)];
                self.note(fault, &format!("{} jumps {jump} us", name(node)));
                host.clock.jump_wall(jump);
            }
            Fault::Burst => {
                self.note(fault, "clients");
                self.burst.store(true, Ordering::Release);
                self.burst_until = Some(self.for_a_while(now, 300, 1500));
            }
            Fault::FullDisk => {
                // Now and then all of them: nothing but deletes and maintenance is taken then (O6).
                let struck = if self.rng.random_bool(0.2) { members } else { vec![node] };
                self.note(fault, &format!("{struck:?}"));
                let until = self.for_a_while(now, 500, 4000);
                for node in struck {
                    if let Some(host) = site.machine(node) {
                        host.disk.set_capacity(Some(0));
                        self.full.push((node, until));
                    }
                }
            }
            Fault::LongOutage if self.rng.random_bool(0.4) => {
                self.note(fault, &name(node));
                self.power_off(sim, site, node, now);
                let back = self.for_a_while(now, 6000, 20_000);
                for (_, due) in self.down.iter_mut().filter(|(down, _)| *down == node) {
                    *due = back;
                }
            }
            // Due at a time of the plan's.
            Fault::Replacement
            | Fault::Growth
            | Fault::Drain
            | Fault::SitePowerLoss
            | Fault::LongOutage
            | Fault::BitRot => {}
        }
    }

    fn recover(&mut self, sim: &mut Sim<'_>, site: &Site, now: Duration) {
        for (node, back) in std::mem::take(&mut self.down) {
            if back > now {
                self.down.push((node, back));
            } else {
                self.probes.note(&format!("{} boots", name(node)));
                site.boot(sim, node);
            }
        }
        for (a, b, until, fault) in std::mem::take(&mut self.cuts) {
            if until > now {
                self.cuts.push((a, b, until, fault));
            } else if fault == Fault::Hold {
                sim.release(name(a), name(b));
            } else if fault == Fault::Loss {
                sim.set_link_fail_rate(name(a), name(b), 0.0);
            } else {
                sim.repair(name(a), name(b));
            }
        }
        for (node, until) in std::mem::take(&mut self.paused) {
            if until > now {
                self.paused.push((node, until));
            } else if let Some(host) = site.machine(node) {
                host.gate.resume();
            }
        }
        for (node, until) in std::mem::take(&mut self.full) {
            if until > now {
                self.full.push((node, until));
            } else if let Some(host) = site.machine(node) {
                host.disk.set_capacity(None);
            }
        }
        if self.burst_until.is_some_and(|until| until <= now) {
            self.burst_until = None;
            self.burst.store(false, Ordering::Release);
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
        self.replace_at = None;
        self.rot = None;
        self.recover(sim, site, end);
    }

    /// All nodes lose their power at once, and boot a moment later.
    pub(crate) fn power_off_all(&mut self, sim: &mut Sim<'_>, site: &Site, now: Duration) {
        self.note(Fault::SitePowerLoss, "all");
        for node in site.members() {
            if self.is_down(node) {
                // Its process is gone already; its page cache goes now.
                if let Some(host) = site.machine(node) {
                    host.power_loss();
                }
            } else {
                self.power_off(sim, site, node, now);
            }
        }
    }
}
