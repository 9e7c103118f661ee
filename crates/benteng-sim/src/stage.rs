//! The stage of a scripted scenario: a site, hands for its machines, and a client that does one thing after
//! another as it is told.

use std::future::Future;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use benteng_consensus::View;
use benteng_host::Host;
use benteng_meta::ids::NodeId;
use benteng_meta::{Command, query};
use benteng_objects::Node;
use turmoil::Sim;

use crate::door::{Ask, Say};
use crate::jobs::{Jobs, Ticket};
use crate::plan::Plan;
use crate::probes::Probes;
use crate::site::{Site, name};
use crate::standing::{Standing, audit};
use crate::watch::Watch;
use crate::{Ending, SimHost, SimRng, door, stream};

/// What a script ends with: an error is a broken rule.
pub(crate) type Played = Result<(), String>;

/// Formats a broken rule.
macro_rules! broken {
    ($($arg:tt)*) => { return Err(format!($($arg)*)) };
}
pub(crate) use broken;

/// A site under a script's hands.
pub(crate) struct Stage {
    pub(crate) sim: Sim<'static>,
    pub(crate) site: Site,
    pub(crate) probes: Probes,
    pub(crate) watch: Watch,
    pub(crate) rng: SimRng,
    jobs: Jobs,
    client: Arc<OnceLock<Host>>,
}

impl Stage {
    /// A stage whose site is not formed yet.
    pub(crate) fn new(seed: u64, plan: &Plan, probes: &Probes) -> Stage {
        let mut sim = turmoil::Builder::new()
            .simulation_duration(Duration::from_secs(24 * 3600))
            .tick_duration(plan.tick)
            .min_message_latency(Duration::from_millis(1))
            .max_message_latency(Duration::from_millis(4))
            .tcp_capacity(4096)
            .ephemeral_ports(1024..=65535)
            .rng_seed(seed)
            .build();
        let site = Site::new(&mut sim, seed, plan);
        let (jobs, client) = (Jobs::default(), Arc::new(OnceLock::new()));
        let machine = SimHost::new("clients", seed);
        let (queue, known) = (jobs.clone(), client.clone());
        sim.client("clients", async move {
            let host = machine.boot();
            // Set once: this machine boots once.
            let _ = known.set(host.clone());
            queue.run(host).await;
            Ok(())
        });
        let (watch, rng) = (Watch::new(probes.clone()), stream(seed, "script"));
        Stage { sim, site, probes: probes.clone(), watch, rng, jobs, client }
    }

    /// One step of time.
    pub(crate) fn step(&mut self) -> Played {
        self.sim.step().map_err(|e| format!("the simulation failed: {e}"))?;
        let now = self.sim.elapsed();
        self.watch.look(&self.site, now);
        match self.watch.violations.first() {
            Some(first) => Err(first.clone()),
            None => Ok(()),
        }
    }

    /// Lets `time` pass.
    pub(crate) fn pass(&mut self, time: Duration) -> Played {
        let end = self.sim.elapsed() + time;
        while self.sim.elapsed() < end {
            self.step()?;
        }
        Ok(())
    }

    /// Lets milliseconds pass.
    pub(crate) fn ms(&mut self, n: u64) -> Played {
        self.pass(Duration::from_millis(n))
    }

    /// Goes on until `holds`; it must within `seconds`.
    pub(crate) fn until(
        &mut self,
        what: &str,
        seconds: u64,
        mut holds: impl FnMut(&Stage) -> bool,
    ) -> Played {
        let end = self.sim.elapsed() + Duration::from_secs(seconds);
        while !holds(self) {
            if self.sim.elapsed() > end {
                broken!("not within {seconds} s: {what}");
            }
            self.step()?;
        }
        Ok(())
    }

    /// Forms the site, with as many copies as it has nodes, and a bucket.
    pub(crate) fn form(&mut self) -> Played {
        self.until("the site is formed", 60, |stage| stage.site.formed())?;
        self.stands_for(self.site.members().len())?;
        // The change of votes goes by a joint configuration: until that is over the founder is needed.
        self.ms(2000)?;
        let put = Ask::Put { key: "pertama".into(), value: 1, len: 20, create: false, tag: None, pause: 0 };
        for _ in 0..50 {
            if matches!(self.ask(1, put.clone())?, Some(Say::Put(_))) {
                let copies = self.site.members().len().min(2);
                self.probes.facts(|facts| facts.expect_copies(copies));
                return Ok(());
            }
        }
        broken!("the formed site takes no write")
    }

    /// Waits until every group has as many holders as there are nodes, three at most, and one or three vote.
    fn stands_for(&mut self, nodes: usize) -> Played {
        let copies = u8::try_from(nodes.min(3)).unwrap_or(3);
        self.until("every group has its holders", 90, |stage| {
            stage.is_whole()
                && stage.site.running().iter().all(|node| {
                    let view = node.group().local().ok();
                    let site = view.and_then(|view| query::site(&*view).ok().flatten());
                    site.is_some_and(|site| site.copies == copies)
                })
        })?;
        let voters = if nodes < 3 { 1 } else { 3 };
        self.until("the seats of the voters are taken", 60, |stage| {
            stage.site.running().iter().all(|node| node.group().status().voters.len() == voters)
        })
    }

    /// A machine joins the site; waits until it has its share. Returns its number.
    pub(crate) fn grow(&mut self) -> Result<u64, String> {
        let fresh = self.site.join().ok_or("no machine stands by")?;
        self.boot(fresh)?;
        self.until("the new node serves", 60, |stage| stage.site.node(fresh).is_some())?;
        self.stands_for(self.site.members().len())?;
        Ok(fresh)
    }

    /// Proposes a command through `node`.
    pub(crate) fn propose(&mut self, node: u64, command: Command) -> Result<Result<(), String>, String> {
        let group = self.node(node)?.group().clone();
        self.run(async move { group.propose(command, None).await.map(drop).map_err(|e| e.to_string()) })
    }

    /// Takes a node out of the site for good, as an operator does who has drained it.
    pub(crate) fn remove(&mut self, by: u64, node: u64) -> Played {
        let remove = Command::RemoveNode { node: NodeId(node), lost: false, accept_one_voter: false };
        self.propose(by, remove)?.map_err(|why| format!("node {node} is not removed: {why}"))?;
        self.site.leave(&mut self.sim, node);
        Ok(())
    }

    /// How often a probe was reached.
    pub(crate) fn count(&self, probe: &str) -> u64 {
        self.probes.counts().get(probe).copied().unwrap_or(0)
    }

    /// Goes on until a probe was reached once more than `before`.
    pub(crate) fn reaches(&mut self, probe: &str, before: u64, seconds: u64) -> Played {
        self.until(probe, seconds, |stage| stage.count(probe) > before)
    }

    /// Begins something on the client's machine.
    pub(crate) fn begin<T, F>(&mut self, work: F) -> Result<Ticket<T>, String>
    where
        T: Send + 'static,
        F: Future<Output = T> + Send + 'static,
    {
        let ticket = self.jobs.begin(work);
        self.step()?;
        Ok(ticket)
    }

    /// Waits for it.
    pub(crate) fn finish<T>(&mut self, ticket: &Ticket<T>, seconds: u64) -> Result<T, String> {
        self.until("what the client waits for", seconds, |_| ticket.is_done())?;
        ticket.take().ok_or_else(|| "its end was taken already".to_owned())
    }

    /// Runs something on the client's machine to its end.
    pub(crate) fn run<T, F>(&mut self, work: F) -> Result<T, String>
    where
        T: Send + 'static,
        F: Future<Output = T> + Send + 'static,
    {
        let ticket = self.begin(work)?;
        self.finish(&ticket, 60)
    }

    /// The client's machine.
    pub(crate) fn client(&mut self) -> Result<Host, String> {
        while self.client.get().is_none() {
            self.step()?;
        }
        self.client.get().cloned().ok_or_else(|| "the client's machine has not booted".to_owned())
    }

    /// Begins to ask `node` something.
    pub(crate) fn start(&mut self, node: u64, ask: Ask) -> Result<Ticket<Option<Say>>, String> {
        let host = self.client()?;
        let patience = Duration::from_secs(600);
        self.begin(async move {
            let dialogue = Box::pin(door::question(&host, name(node), ask));
            benteng_host::timeout(&*host.clock, patience, dialogue).await.ok().flatten()
        })
    }

    /// Asks `node` something; `None`: no answer came.
    pub(crate) fn ask(&mut self, node: u64, ask: Ask) -> Result<Option<Say>, String> {
        let ticket = self.start(node, ask)?;
        self.until("an answer", 60, |_| ticket.is_done())?;
        match ticket.take().flatten() {
            Some(Say::Wrong(what)) => Err(what),
            said => Ok(said),
        }
    }

    /// Writes through `node`; it must be done, within a few tries.
    pub(crate) fn put(&mut self, node: u64, key: &str, value: u64, len: usize) -> Played {
        let ask = Ask::Put { key: key.to_owned(), value, len, create: false, tag: None, pause: 0 };
        let mut said = None;
        for _ in 0..40 {
            said = self.ask(node, ask.clone())?;
            if matches!(said, Some(Say::Put(_))) {
                return Ok(());
            }
            self.ms(250)?;
        }
        broken!("{key} cannot be written through node {node}: {said:?}")
    }

    /// Reads through `node`; it must hold `value`.
    pub(crate) fn reads(&mut self, node: u64, key: &str, value: u64) -> Played {
        let mut said = None;
        for _ in 0..40 {
            said = self.ask(node, Ask::Get { key: key.to_owned(), pause: 0 })?;
            match &said {
                Some(Say::Got(Some((found, _)))) if *found == value => return Ok(()),
                Some(Say::Got(other)) => broken!("{key} holds {other:?} through node {node}, not {value}"),
                _ => self.ms(250)?,
            }
        }
        broken!("{key} cannot be read through node {node}: {said:?}")
    }

    /// The machine of a node.
    pub(crate) fn machine(&self, node: u64) -> Result<Arc<SimHost>, String> {
        self.site.machine(node).cloned().ok_or_else(|| format!("there is no {}", name(node)))
    }

    /// A running node.
    pub(crate) fn node(&self, node: u64) -> Result<Arc<Node>, String> {
        self.site.node(node).ok_or_else(|| format!("{} does not run", name(node)))
    }

    /// A running node's state as it is now.
    pub(crate) fn view(&self, node: u64) -> Result<View, String> {
        self.node(node)?.group().local().map_err(|e| e.to_string())
    }

    /// The leader, once there is one that a majority knows.
    pub(crate) fn leader(&mut self) -> Result<u64, String> {
        self.until("a leader", 30, |stage| stage.known_leader().is_some())?;
        self.known_leader().ok_or_else(|| "no leader".to_owned())
    }

    fn known_leader(&self) -> Option<u64> {
        let running = self.site.running();
        let said: Vec<u64> = running.iter().filter_map(|node| node.group().leader()).map(|id| id.0).collect();
        said.iter().copied().find(|one| {
            said.iter().filter(|other| *other == one).count() >= 2 && self.site.node(*one).is_some()
        })
    }

    /// A node that is not the leader, and the third.
    pub(crate) fn followers(&mut self) -> Result<(u64, u64, u64), String> {
        let leader = self.leader()?;
        let others: Vec<u64> = self.site.members().into_iter().filter(|node| *node != leader).collect();
        match others[..] {
            [one, other] => Ok((leader, one, other)),
            _ => broken!("the site has {} nodes beside its leader", others.len()),
        }
    }

    /// A process dies and is started again.
    pub(crate) fn restart(&mut self, node: u64) -> Played {
        self.site.kill(&mut self.sim, node);
        self.boot(node)
    }

    /// A process dies.
    pub(crate) fn kill(&mut self, node: u64) {
        self.site.kill(&mut self.sim, node);
    }

    /// A machine loses its power.
    pub(crate) fn cut_power(&mut self, node: u64) {
        self.site.cut_power(&mut self.sim, node);
    }

    /// All machines lose their power, and boot.
    pub(crate) fn cut_all_power(&mut self) -> Played {
        let nodes = self.site.members();
        nodes.iter().for_each(|node| self.site.cut_power(&mut self.sim, *node));
        nodes.iter().for_each(|node| self.site.boot(&mut self.sim, *node));
        self.step()
    }

    /// A machine boots.
    pub(crate) fn boot(&mut self, node: u64) -> Played {
        self.site.boot(&mut self.sim, node);
        self.step()
    }

    /// Waits until `node` ends by itself; says how. It must not start until then.
    pub(crate) fn ends(&mut self, node: u64, seconds: u64) -> Result<Ending, String> {
        self.watch.expected.insert(node);
        let machine = self.machine(node)?;
        self.until(&format!("{} ends by itself", name(node)), seconds, |_| machine.ending().is_some())?;
        machine.ending().ok_or_else(|| "it ended".to_owned())
    }

    /// `node` must refuse to start, and say that it is to be replaced (S3).
    pub(crate) fn refuses(&mut self, node: u64) -> Played {
        match self.ends(node, 30)? {
            Ending::Returned(Err(why)) => {
                self.probes.note(&format!("{} refuses: {why}", name(node)));
                Ok(())
            }
            other => broken!("{} should refuse to start, but: {other:?}", name(node)),
        }
    }

    /// A fresh machine takes the place of `node`, which is gone.
    pub(crate) fn replace(&mut self, node: u64) -> Result<u64, String> {
        self.cut_power(node);
        let fresh = self.site.replace(node).ok_or("no machine stands by")?;
        self.boot(fresh)?;
        Ok(fresh)
    }

    /// Cuts `node` off from all others.
    pub(crate) fn isolate(&mut self, node: u64) {
        for other in self.site.members().into_iter().filter(|other| *other != node) {
            self.sim.partition(name(node), name(other));
        }
    }

    /// Ends [`Stage::isolate`].
    pub(crate) fn rejoin(&mut self, node: u64) {
        for other in self.site.members().into_iter().filter(|other| *other != node) {
            self.sim.repair(name(node), name(other));
        }
    }

    fn standings(&self) -> Option<Vec<Standing>> {
        self.site.running().iter().map(|node| Standing::of(node)).collect()
    }

    fn is_whole(&self) -> bool {
        // A thousand rows on each node: not at each step.
        if self.sim.elapsed().as_millis() % 40 != 0 {
            return false;
        }
        Standing::is_one(&self.site.running(), self.site.members().len())
    }

    /// The site comes to rest: one state on all replicas, every group in its place, no copy missing (I1, I6).
    pub(crate) fn converges(&mut self) -> Played {
        if let Err(why) = self.until("one state everywhere, no copy missing", 60, Stage::is_whole) {
            broken!("{why}; {:?}", self.standings());
        }
        match audit(&self.site.running())?.into_iter().next() {
            Some(first) => Err(first),
            None => Ok(()),
        }
    }
}
