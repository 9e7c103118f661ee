//! One seed, one run: form a site, let clients work while the nemesis strikes, heal, take the
//! power from the whole site, and hold what is left against what clients were told.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use benteng_meta::query;
use rand::RngExt;
use turmoil::Sim;

use crate::history::Operation;
use crate::nemesis::{Fault, Nemesis};
use crate::probes::Probes;
use crate::site::{Site, name};
use crate::workload::{Client, Record};
use crate::{SimHost, linear, stream};

/// How large a run is.
#[derive(Clone, Copy, Debug)]
pub struct Scale {
    /// Nodes of the site.
    pub nodes: u64,
    /// Clients.
    pub clients: u32,
    /// Keys that they share.
    pub keys: usize,
    /// How long clients work while faults strike.
    pub work: Duration,
}

impl Default for Scale {
    fn default() -> Scale {
        Scale { nodes: 3, clients: 6, keys: 12, work: Duration::from_secs(60) }
    }
}

/// What a run found.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// The seed.
    pub seed: u64,
    /// Operations that clients asked for.
    pub operations: u64,
    /// Operations that were answered.
    pub acknowledged: u64,
    /// Faults.
    pub faults: u64,
    /// Kinds of fault.
    pub kinds: BTreeSet<Fault>,
    /// Probes that were reached, and how often.
    pub probes: BTreeMap<String, u64>,
    /// Broken promises.
    pub violations: Vec<String>,
    /// Every line, if it was asked for.
    pub trace: Vec<String>,
}

/// Runs one seed. A process runs one seed only: libraries keep process-wide state.
pub fn run(seed: u64, scale: Scale, probes: &Probes) -> Report {
    let mut rng = stream(seed, "run");
    let tick = [1, 2, 5][rng.random_range(0..3_usize)];
    let mut sim = turmoil::Builder::new()
        .simulation_duration(Duration::from_secs(24 * 3600))
        .tick_duration(Duration::from_millis(tick))
        .min_message_latency(Duration::from_millis(1))
        .max_message_latency(Duration::from_millis(5))
        .tcp_capacity(4096)
        .ephemeral_ports(1024..=65535)
        .rng_seed(seed)
        .build();
    let site = Site::new(&mut sim, seed, scale.nodes);
    let record = Record::default();
    let stop = Arc::new(AtomicBool::new(false));
    let read = Arc::new(AtomicBool::new(false));
    let done = Arc::new(AtomicBool::new(false));
    let clients = SimHost::new("clients", seed);
    spawn_clients(&mut sim, &clients, seed, scale, &record, (&stop, &read, &done));
    let mut driver = Driver {
        nemesis: Nemesis::new(stream(seed, "nemesis"), probes.clone()),
        violations: Vec::new(),
        next: Duration::ZERO,
        rng,
    };
    driver.form(&mut sim, &site);
    if driver.violations.is_empty() {
        driver.work(&mut sim, &site, scale.work);
        driver.nemesis.heal(&mut sim, &site);
        driver.settle(&mut sim, &site, Duration::from_secs(20));
        let now = sim.elapsed();
        driver.nemesis.power_off_all(&mut sim, &site, now);
        driver.settle(&mut sim, &site, Duration::from_secs(20));
        stop.store(true, Ordering::Release);
        driver.settle(&mut sim, &site, Duration::from_secs(10));
        read.store(true, Ordering::Release);
        driver.until(&mut sim, &site, "every key is read", Duration::from_secs(120), || {
            done.load(Ordering::Acquire)
        });
        driver.converge(&mut sim, &site);
    }
    let mut violations = driver.violations;
    violations.extend(record.violations());
    violations.extend(judge(&record.operations()));
    Report {
        seed,
        operations: record.operations().len() as u64,
        acknowledged: record.acknowledged(),
        faults: driver.nemesis.count,
        kinds: driver.nemesis.done.clone(),
        probes: probes.counts(),
        violations,
        trace: probes.take_trace(),
    }
}

fn spawn_clients(
    sim: &mut Sim<'_>,
    machine: &Arc<SimHost>,
    seed: u64,
    scale: Scale,
    record: &Record,
    (stop, read, done): (&Arc<AtomicBool>, &Arc<AtomicBool>, &Arc<AtomicBool>),
) {
    let (machine, record) = (machine.clone(), record.clone());
    let (stop, read, done) = (stop.clone(), read.clone(), done.clone());
    sim.client("clients", async move {
        let host = machine.boot();
        let client = |number: u32| Client {
            number,
            nodes: (1..=scale.nodes).map(name).collect(),
            keys: scale.keys,
            rng: stream(seed, &format!("client-{number}")),
            record: record.clone(),
            next: 0,
            pause: Duration::from_millis(120),
        };
        let working = (1..=scale.clients).map(|number| {
            let stop = stop.clone();
            client(number).run(host.clone(), move || stop.load(Ordering::Acquire))
        });
        futures::future::join_all(working).await;
        while !read.load(Ordering::Acquire) {
            benteng_host::sleep(&*host.clock, Duration::from_millis(50)).await;
        }
        // Through every node: they must agree.
        for node in 0..usize::try_from(scale.nodes).unwrap_or(0) {
            client(1000).read_all(&host, node).await;
        }
        done.store(true, Ordering::Release);
        std::future::pending::<()>().await;
        Ok(())
    });
}

struct Driver {
    nemesis: Nemesis,
    violations: Vec<String>,
    next: Duration,
    rng: crate::SimRng,
}

impl Driver {
    fn step(&mut self, sim: &mut Sim<'_>, site: &Site, strikes: bool) {
        if let Err(e) = sim.step() {
            self.violations.push(format!("the simulation failed: {e}"));
        }
        let now = sim.elapsed();
        let due = strikes && now >= self.next;
        if due {
            self.next = now + Duration::from_millis(self.rng.random_range(200..2500));
        }
        self.nemesis.turn(sim, site, now, due);
        for (node, host) in &site.hosts {
            // A panic is a verdict: nothing a client or a fault does may cause one.
            if matches!(host.ending(), Some(crate::Ending::Panicked)) {
                self.violations.push(format!("{} panicked", name(*node)));
            }
        }
    }

    fn until(
        &mut self,
        sim: &mut Sim<'_>,
        site: &Site,
        what: &str,
        within: Duration,
        holds: impl Fn() -> bool,
    ) {
        let end = sim.elapsed() + within;
        while !holds() {
            if sim.elapsed() > end || !self.violations.is_empty() {
                self.violations.push(format!("standstill: not within {within:?} of healing: {what}"));
                return;
            }
            self.step(sim, site, false);
        }
    }

    fn form(&mut self, sim: &mut Sim<'_>, site: &Site) {
        self.until(sim, site, "the site is formed", Duration::from_secs(60), || site.formed());
        self.settle(sim, site, Duration::from_secs(5));
    }

    fn work(&mut self, sim: &mut Sim<'_>, site: &Site, work: Duration) {
        let end = sim.elapsed() + work;
        while sim.elapsed() < end && self.violations.is_empty() {
            self.step(sim, site, true);
        }
    }

    fn settle(&mut self, sim: &mut Sim<'_>, site: &Site, time: Duration) {
        let end = sim.elapsed() + time;
        while sim.elapsed() < end && self.violations.is_empty() {
            self.step(sim, site, false);
        }
    }

    /// All replicas hold one state (I6), and the site says that no copy is missing.
    fn converge(&mut self, sim: &mut Sim<'_>, site: &Site) {
        let states = || -> Option<Vec<(u64, u64)>> {
            let running = site.shared.running.lock().unwrap_or_else(PoisonError::into_inner);
            let mut states = Vec::new();
            for node in running.values() {
                let view = node.group().local().ok()?;
                let clock = query::clock(&*view).ok()?;
                states.push((clock.seq.0, clock.chunks_short));
            }
            Some(states)
        };
        let whole = || {
            states().is_some_and(|states| {
                states.len() == site.hosts.len() && states.iter().all(|s| s.1 == 0 && s.0 == states[0].0)
            })
        };
        self.until(sim, site, "replicas at one sequence, no copy missing", Duration::from_secs(120), whole);
        let running = site.shared.running.lock().unwrap_or_else(PoisonError::into_inner);
        let hashes: BTreeSet<u64> =
            running.values().filter_map(|n| query::state_hash(&*n.group().local().ok()?).ok()).collect();
        if self.violations.is_empty() && hashes.len() != 1 {
            self.violations.push(format!("I6: replicas at one sequence hold {} states", hashes.len()));
        }
    }
}

/// Every key's operations must have an order that explains all answers (I1, I2).
fn judge(operations: &[Operation]) -> Vec<String> {
    let mut keys: BTreeMap<&str, Vec<Operation>> = BTreeMap::new();
    for operation in operations {
        keys.entry(&operation.key).or_default().push(operation.clone());
    }
    keys.into_iter()
        .filter_map(|(key, ops)| {
            linear::check(&ops).err().map(|why| format!("I2: {key} is not linearizable: {why}"))
        })
        .collect()
}
