//! One seed, one run: form a site, let clients work while the nemesis strikes, heal, take the
//! power from the whole site, and hold what is left against what clients were told.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use benteng_meta::query;
use benteng_objects::Node;
use rand::RngExt;
use turmoil::Sim;

use crate::history::Operation;
use crate::jobs::Jobs;
use crate::nemesis::{Fault, Nemesis};
use crate::plan::Plan;
use crate::probes::Probes;
use crate::site::{Seats, Site, name};
use crate::standing::{Standing, audit, is_sound};
use crate::watch::Watch;
use crate::workload::{Client, Record};
use crate::{SimHost, linear, stream};

/// How large a run is.
#[derive(Clone, Copy, Debug)]
pub struct Scale {
    /// Clients.
    pub clients: u32,
    /// Keys that they share.
    pub keys: usize,
    /// How long clients work while faults strike.
    pub work: Duration,
}

impl Default for Scale {
    fn default() -> Scale {
        Scale { clients: 6, keys: 12, work: Duration::from_secs(40) }
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
    /// Log entries that were held against each other.
    pub entries: u64,
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
    let plan = Plan::draw(&mut stream(seed, "plan"), scale.work);
    probes.note(&format!("{plan:?}"));
    let mut sim = turmoil::Builder::new()
        .simulation_duration(Duration::from_secs(24 * 3600))
        .tick_duration(plan.tick)
        .min_message_latency(Duration::from_millis(1))
        .max_message_latency(Duration::from_millis(5))
        .tcp_capacity(4096)
        .ephemeral_ports(1024..=65535)
        .rng_seed(seed)
        .build();
    let site = Site::new(&mut sim, seed, &plan);
    let record = Record::default();
    let stop = Arc::new(AtomicBool::new(false));
    let read = Arc::new(AtomicBool::new(false));
    let done = Arc::new(AtomicBool::new(false));
    let clients = SimHost::new("clients", seed);
    let jobs = Jobs::default();
    let nemesis = Nemesis::new(stream(seed, "nemesis"), probes.clone(), &plan, jobs.clone());
    let asking = Asking {
        seed,
        scale,
        seats: site.seats.clone(),
        pause: plan.pause,
        burst: nemesis.burst.clone(),
        record: record.clone(),
        jobs: jobs.clone(),
    };
    spawn_clients(&mut sim, &clients, asking, (&stop, &read, &done));
    let mut driver = Driver {
        nemesis,
        probes: probes.clone(),
        watch: Watch::new(probes.clone()),
        next: Duration::ZERO,
        lull: plan.lull,
        rng: stream(seed, "run"),
        two_copies: TwoCopies::default(),
        jobs,
    };
    driver.form(&mut sim, &site);
    if driver.watch.violations.is_empty() {
        let now = sim.elapsed();
        driver.nemesis.begin(now, &plan);
        driver.work(&mut sim, &site, scale.work);
        driver.nemesis.heal(&mut sim, &site);
        // Clients go on meanwhile: what heals must serve.
        driver.settle(&mut sim, &site, Duration::from_secs(8));
        let now = sim.elapsed();
        driver.nemesis.power_off_all(&mut sim, &site, now);
        driver.settle(&mut sim, &site, Duration::from_secs(10));
        stop.store(true, Ordering::Release);
        driver.settle(&mut sim, &site, Duration::from_secs(2));
        read.store(true, Ordering::Release);
        driver.until(&mut sim, &site, "every key is read", Duration::from_secs(120), || {
            done.load(Ordering::Acquire)
        });
        driver.converge(&mut sim, &site);
        if plan.rot.is_some() && driver.watch.violations.is_empty() {
            driver.scrub_all(&mut sim, &site);
            driver.until(&mut sim, &site, "no copy is damaged", Duration::from_secs(60), || {
                site.running().iter().all(|node| node.store().quarantined().is_empty())
            });
            for machine in site.members().into_iter().filter_map(|node| site.machine(node)) {
                machine.disk.set_read_latency(Duration::ZERO..=Duration::ZERO);
            }
            driver.until(&mut sim, &site, "no log and no state is damaged", Duration::from_secs(60), || {
                let members = site.members();
                let rotten = |node: &u64| site.machine(*node).is_some_and(|machine| machine.kv.is_rotten());
                !members.iter().any(rotten) && site.running().iter().all(|node| is_sound(node))
            });
            driver.converge(&mut sim, &site);
        }
    }
    let mut violations = driver.watch.violations;
    if violations.is_empty() && probes.facts(|facts| facts.entries()) == 0 {
        violations.push("the nodes stated no facts: nobody would see what they break".to_owned());
    }
    violations.extend(record.violations());
    violations.extend(judge(&record.operations()));
    Report {
        seed,
        entries: probes.facts(|facts| facts.entries()),
        operations: record.operations().len() as u64,
        acknowledged: record.acknowledged(),
        faults: driver.nemesis.count,
        kinds: driver.nemesis.done.clone(),
        probes: probes.counts(),
        violations,
        trace: probes.take_trace(),
    }
}

/// What the clients of a run are given.
struct Asking {
    seed: u64,
    scale: Scale,
    seats: Seats,
    pause: Duration,
    burst: Arc<AtomicBool>,
    record: Record,
    jobs: Jobs,
}

fn spawn_clients(
    sim: &mut Sim<'_>,
    machine: &Arc<SimHost>,
    asking: Asking,
    (stop, read, done): (&Arc<AtomicBool>, &Arc<AtomicBool>, &Arc<AtomicBool>),
) {
    let machine = machine.clone();
    let (stop, read, done) = (stop.clone(), read.clone(), done.clone());
    sim.client("clients", async move {
        let host = machine.boot();
        let _jobs = host.tasks.spawn("operator", Box::pin(asking.jobs.clone().run(host.clone())));
        let client = |number: u32| Client {
            number,
            seats: asking.seats.clone(),
            keys: asking.scale.keys,
            rng: stream(asking.seed, &format!("client-{number}")),
            record: asking.record.clone(),
            next: 0,
            pause: asking.pause,
            burst: asking.burst.clone(),
        };
        let working = (1..=asking.scale.clients).map(|number| {
            let stop = stop.clone();
            client(number).run(host.clone(), move || stop.load(Ordering::Acquire))
        });
        futures::future::join_all(working).await;
        while !read.load(Ordering::Acquire) {
            benteng_host::sleep(&*host.clock, Duration::from_millis(50)).await;
        }
        // Through every node: they must agree.
        for node in 0..asking.seats.count() {
            client(1000).read_all(&host, node).await;
        }
        done.store(true, Ordering::Release);
        std::future::pending::<()>().await;
        Ok(())
    });
}

/// Between two looks at whether something holds.
const LOOK: Duration = Duration::from_millis(50);
/// Readings of all replicas: a row that rotted makes one of them begin anew, each time another one at most.
const AUDITS: usize = 5;

struct Driver {
    nemesis: Nemesis,
    probes: Probes,
    watch: Watch,
    next: Duration,
    lull: Duration,
    rng: crate::SimRng,
    two_copies: TwoCopies,
    jobs: Jobs,
}

/// Since when two copies are promised; the checker asks for them once nothing of before is under way any more.
#[derive(Default)]
struct TwoCopies {
    look: Duration,
    since: Option<Duration>,
    asked_for: bool,
}

/// Longer than any answer takes.
const ANSWERED: Duration = Duration::from_secs(10);

impl TwoCopies {
    fn look(&mut self, site: &Site, probes: &Probes, now: Duration) {
        if self.asked_for || now < self.look {
            return;
        }
        self.look = now + Duration::from_secs(1);
        let promised = |node: &Arc<Node>| {
            let site = node.group().local().ok().and_then(|view| query::site(&*view).ok().flatten());
            site.is_some_and(|site| site.copies_min >= 2)
        };
        if self.since.is_none() && site.running().iter().any(promised) {
            self.since = Some(now);
        }
        if self.since.is_some_and(|since| now >= since + ANSWERED) {
            self.asked_for = true;
            probes.facts(|facts| facts.expect_copies(2));
        }
    }
}

impl Driver {
    fn step(&mut self, sim: &mut Sim<'_>, site: &Site, strikes: bool) {
        if let Err(e) = sim.step() {
            self.watch.violations.push(format!("the simulation failed: {e}"));
        }
        let now = sim.elapsed();
        self.watch.look(site, now);
        self.two_copies.look(site, &self.probes, now);
        let due = strikes && now >= self.next;
        if due {
            self.next = now + self.rng.random_range(Duration::from_millis(200)..self.lull);
        }
        self.nemesis.turn(sim, site, now, due);
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
        let mut look = Duration::ZERO;
        loop {
            // Often enough, and not at each step: what is looked at may be a thousand rows.
            if sim.elapsed() >= look {
                if holds() {
                    return;
                }
                look = sim.elapsed() + LOOK;
            }
            if !self.watch.violations.is_empty() {
                return;
            }
            if sim.elapsed() > end {
                self.watch.violations.push(format!("standstill: not within {within:?} of healing: {what}"));
                return;
            }
            self.step(sim, site, false);
        }
    }

    fn form(&mut self, sim: &mut Sim<'_>, site: &Site) {
        self.until(sim, site, "the site is formed", Duration::from_secs(60), || site.formed());
        self.settle(sim, site, Duration::from_secs(5));
        // A smaller one promises two copies some time after it has grown.
        let copies = if site.members().len() < 3 { 1 } else { 2 };
        self.probes.facts(|facts| facts.expect_copies(copies));
    }

    fn work(&mut self, sim: &mut Sim<'_>, site: &Site, work: Duration) {
        let end = sim.elapsed() + work;
        while sim.elapsed() < end && self.watch.violations.is_empty() {
            self.step(sim, site, true);
        }
    }

    fn settle(&mut self, sim: &mut Sim<'_>, site: &Site, time: Duration) {
        let end = sim.elapsed() + time;
        while sim.elapsed() < end && self.watch.violations.is_empty() {
            self.step(sim, site, false);
        }
    }

    /// Every node reads every byte again; what is damaged is made good. One whose state is damaged begins anew, and
    /// is asked again.
    fn scrub_all(&mut self, sim: &mut Sim<'_>, site: &Site) {
        for node in site.members() {
            let mut passed = None;
            let end = sim.elapsed() + Duration::from_secs(120);
            while self.watch.violations.is_empty() {
                let asked = site.node(node).map(|node| {
                    self.jobs.begin(async move {
                        node.objects().scrub(node.me()).await.map_err(|e| e.to_string())
                    })
                });
                self.settle(sim, site, Duration::from_secs(1));
                if let Some(Ok(pass)) = asked.and_then(|asked| asked.take()) {
                    passed = Some(pass);
                }
                let ended = |pass: u64| site.node(node).is_some_and(|node| node.scrubbed() >= pass);
                for _ in 0..20 {
                    if passed.is_none_or(ended) {
                        break;
                    }
                    self.settle(sim, site, Duration::from_millis(500));
                }
                if passed.is_some_and(ended) {
                    break;
                }
                if sim.elapsed() > end {
                    self.watch.violations.push(format!("standstill: {} does not end its scrub", name(node)));
                }
            }
        }
    }

    /// All replicas hold one state (I6), and the site says that no copy is missing.
    ///
    /// Reading all of a replica may be the first read of a row that rotted: its node builds its state anew
    /// (S6), and is read again after that.
    fn converge(&mut self, sim: &mut Sim<'_>, site: &Site) {
        let mut unread = None;
        for _ in 0..AUDITS {
            self.stand_whole(sim, site);
            if !self.watch.violations.is_empty() {
                return;
            }
            match audit(&site.running()) {
                Ok(violations) => {
                    self.watch.violations.extend(violations);
                    return self.watch.hold_all_removals(site);
                }
                Err(why) => unread = Some(why),
            }
            self.settle(sim, site, Duration::from_secs(5));
        }
        self.watch.violations.extend(unread);
    }

    /// Whatever an operator has begun must end once no fault is in its way.
    fn until_idle(&mut self, sim: &mut Sim<'_>, site: &Site) {
        let end = sim.elapsed() + Duration::from_secs(120);
        while self.nemesis.is_busy(site) && self.watch.violations.is_empty() {
            if sim.elapsed() > end {
                self.watch
                    .violations
                    .push("standstill: nodes that join or leave do not get there".to_owned());
            }
            self.step(sim, site, false);
        }
    }

    fn stand_whole(&mut self, sim: &mut Sim<'_>, site: &Site) {
        self.until_idle(sim, site);
        let members = site.members().len();
        let standing = || -> Vec<String> {
            site.running()
                .iter()
                .map(|node| format!("{} {:?}", name(node.me().0), Standing::of(node)))
                .collect()
        };
        let whole = || Standing::is_one(&site.running(), members);
        let what = "replicas at one sequence, every group in its place, no copy missing";
        self.until(sim, site, what, Duration::from_secs(120), whole);
        if !whole() {
            self.watch.violations.push(standing().join("; "));
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
