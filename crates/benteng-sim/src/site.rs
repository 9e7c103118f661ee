//! A site of simulated nodes: how each boots, and what the driver may do to it.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use benteng_chunks::StoreOptions;
use benteng_consensus::GroupOptions;
use benteng_host::{Host, Mono};
use benteng_keys::RootKey;
use benteng_meta::ids::{NodeId, SiteId};
use benteng_meta::{Command, Doors, NodeRow, NodeState, query};
use benteng_objects::{Limits, NewSite, Node, NodeOptions};
use benteng_rpc::PlainHello;
use turmoil::Sim;
use uuid::Uuid;

use crate::plan::Plan;
use crate::{SimHost, SimRandom, door, stream};

/// Port of node-to-node RPC.
const RPC: u16 = 7404;
/// Machines of a simulation: three seats, and one that takes a lost or a drained node's place.
const MACHINES: u64 = 4;

/// Name of a node's host.
pub(crate) fn name(node: u64) -> String {
    format!("node-{node}")
}

/// Where a node's RPC listens.
pub(crate) fn address(node: u64) -> String {
    format!("{}:{RPC}", name(node))
}

/// Join tokens of the simulation: the node's number and the time of the try.
fn token(node: u64, at: u128) -> [u8; 32] {
    let mut token = [7; 32];
    token[..8].copy_from_slice(&node.to_be_bytes());
    token[8..24].copy_from_slice(&at.to_be_bytes());
    token
}

/// Who sits on each of the site's seats; clients ask seats.
#[derive(Clone)]
pub(crate) struct Seats(Arc<Mutex<Vec<u64>>>);

impl Seats {
    fn lock(&self) -> MutexGuard<'_, Vec<u64>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.lock().len()
    }

    /// Name of the host of a seat.
    pub(crate) fn name(&self, seat: usize) -> Option<String> {
        self.lock().get(seat).map(|node| name(*node))
    }
}

/// What the nodes of one site share across their boots.
pub(crate) struct Shared {
    root: Arc<RootKey>,
    plan: Plan,
    /// Nodes whose row exists: they start as members.
    joined: Mutex<BTreeSet<u64>>,
    /// Whom a fresh node replaces.
    replaces: Mutex<BTreeMap<u64, u64>>,
    /// The running nodes, for the checkers.
    running: Mutex<BTreeMap<u64, Arc<Node>>>,
    /// Recovery epochs of nodes that have another than 0.
    epochs: Mutex<BTreeMap<u64, u64>>,
}

impl Shared {
    fn epoch(&self, node: u64) -> u64 {
        self.epochs.lock().unwrap_or_else(PoisonError::into_inner).get(&node).copied().unwrap_or(0)
    }
}

/// The site as the driver sees it.
pub(crate) struct Site {
    /// Machines by node, lost ones and those that stand by included.
    machines: BTreeMap<u64, Arc<SimHost>>,
    /// Who belongs to the site now.
    pub(crate) seats: Seats,
    shared: Arc<Shared>,
    /// The machine that joins next: numbers are the ids that the site allocates.
    next: Cell<u64>,
    /// Nodes without a process.
    down: RefCell<BTreeSet<u64>>,
}

impl Site {
    /// Adds the machines to the simulation; the plan's founders run.
    pub(crate) fn new(sim: &mut Sim<'_>, seed: u64, plan: &Plan) -> Site {
        let nodes = plan.founders;
        let entropy = SimRandom::new(stream(seed, "site"));
        let shared = Arc::new(Shared {
            root: Arc::new(RootKey::generate(&entropy)),
            plan: plan.clone(),
            joined: Mutex::default(),
            replaces: Mutex::default(),
            running: Mutex::default(),
            epochs: Mutex::default(),
        });
        let mut machines = BTreeMap::new();
        for node in 1..=MACHINES {
            let machine = SimHost::new(&name(node), seed);
            machine.kv.set_latency(plan.kv_write.clone(), plan.kv_flush.clone());
            machine.disk.set_latency(Duration::ZERO..=Duration::ZERO, plan.disk_sync.clone());
            machine.disk.set_read_latency(plan.disk_read.clone());
            machines.insert(node, machine.clone());
            let shared = shared.clone();
            sim.host(name(node), move || {
                let (machine, shared) = (machine.clone(), shared.clone());
                let kv = machine.kv.clone();
                machine.run(move |host| boot(host, kv.open(), shared, node))
            });
            if node > nodes {
                sim.crash(name(node));
            }
        }
        let seats = Seats(Arc::new(Mutex::new((1..=nodes).collect())));
        Site { machines, seats, shared, next: Cell::new(nodes + 1), down: RefCell::default() }
    }

    /// The site's nodes.
    pub(crate) fn members(&self) -> Vec<u64> {
        self.seats.lock().clone()
    }

    /// A node's machine.
    pub(crate) fn machine(&self, node: u64) -> Option<&Arc<SimHost>> {
        self.machines.get(&node)
    }

    /// The running nodes.
    pub(crate) fn running(&self) -> Vec<Arc<Node>> {
        let members = self.members();
        let running = self.shared.running.lock().unwrap_or_else(PoisonError::into_inner);
        let down = self.down.borrow();
        let counts = |node: &u64| members.contains(node) && !down.contains(node);
        running.iter().filter(|(node, _)| counts(node)).map(|(_, node)| node.clone()).collect()
    }

    /// The running node `node`.
    pub(crate) fn node(&self, node: u64) -> Option<Arc<Node>> {
        if self.down.borrow().contains(&node) {
            return None;
        }
        self.shared.running.lock().unwrap_or_else(PoisonError::into_inner).get(&node).cloned()
    }

    /// From its next start on `node` has this recovery epoch (S7).
    pub(crate) fn set_epoch(&self, node: u64, epoch: u64) {
        self.shared.epochs.lock().unwrap_or_else(PoisonError::into_inner).insert(node, epoch);
    }

    /// The process of `node` dies; its machine stays up.
    pub(crate) fn kill(&self, sim: &mut Sim<'_>, node: u64) {
        sim.crash(name(node));
        self.gone(node);
        if let Some(host) = self.machine(node) {
            host.kill();
        }
    }

    /// The machine of `node` loses its power.
    pub(crate) fn cut_power(&self, sim: &mut Sim<'_>, node: u64) {
        // turmoil says goodbye with a FIN; a machine without power does not.
        let others: Vec<u64> = self.members().into_iter().filter(|other| *other != node).collect();
        for other in &others {
            sim.partition(name(node), name(*other));
        }
        sim.crash(name(node));
        for other in &others {
            sim.repair(name(node), name(*other));
        }
        self.gone(node);
        if let Some(host) = self.machine(node) {
            host.power_loss();
        }
    }

    /// `node` boots.
    pub(crate) fn boot(&self, sim: &mut Sim<'_>, node: u64) {
        self.down.borrow_mut().remove(&node);
        if let Some(host) = self.machine(node) {
            host.gate.reopen();
        }
        sim.bounce(name(node));
    }

    /// What a node that does not run holds is no evidence.
    fn gone(&self, node: u64) {
        self.down.borrow_mut().insert(node);
    }

    /// Whether every node serves.
    pub(crate) fn formed(&self) -> bool {
        self.running().len() == self.members().len()
    }

    /// A machine that stands by joins the site. The caller boots it; `None`: there is none.
    pub(crate) fn join(&self) -> Option<u64> {
        let fresh = self.next.get();
        self.machines.get(&fresh)?;
        self.next.set(fresh + 1);
        self.seats.lock().push(fresh);
        Some(fresh)
    }

    /// `node` was removed from the site; its process goes.
    pub(crate) fn leave(&self, sim: &mut Sim<'_>, node: u64) {
        self.kill(sim, node);
        self.shared.running.lock().unwrap_or_else(PoisonError::into_inner).remove(&node);
        self.seats.lock().retain(|seat| *seat != node);
    }

    /// A machine burns down with its disks; a fresh one takes its seat. The caller crashed the
    /// old one and boots the one whose number is returned; `None`: no machine stands by.
    pub(crate) fn replace(&self, node: u64) -> Option<u64> {
        let fresh = self.next.get();
        let (machine, _) = (self.machines.get(&node)?, self.machines.get(&fresh)?);
        machine.lose_devices();
        self.next.set(fresh + 1);
        self.shared.replaces.lock().unwrap_or_else(PoisonError::into_inner).insert(fresh, node);
        self.shared.running.lock().unwrap_or_else(PoisonError::into_inner).remove(&node);
        for seat in self.seats.lock().iter_mut().filter(|seat| **seat == node) {
            *seat = fresh;
        }
        Some(fresh)
    }
}

/// What a node's process does from start to end.
async fn boot(
    host: Host,
    kv: Arc<dyn benteng_host::Kv>,
    shared: Arc<Shared>,
    node: u64,
) -> Result<(), String> {
    shared.running.lock().unwrap_or_else(PoisonError::into_inner).remove(&node);
    let peers = (1..=MACHINES).filter(|n| *n != node).map(|n| (NodeId(n), address(n))).collect();
    let secure = Arc::new(PlainHello::new(NodeId(node)));
    let dir = PathBuf::from("/data");
    let listen = format!("0.0.0.0:{RPC}");
    let mut options =
        NodeOptions::new(host.clone(), dir, kv, shared.root.clone(), NodeId(node), secure, listen);
    options.doors = Doors { rpc: address(node), ..Doors::default() };
    options.peers = peers;
    // Small, so that rolls, recycling, snapshots and cleaning happen within a run.
    let (segment_bytes, log_keep) = (shared.plan.log_segment, shared.plan.log_keep);
    let epoch = shared.epoch(node);
    options.group_options = Box::new(move |group| GroupOptions { segment_bytes, log_keep, epoch, ..group });
    options.store_options =
        StoreOptions { segment_bytes: shared.plan.chunk_segment, ..StoreOptions::default() };
    let Plan { scrub, floor_void, .. } = shared.plan;
    options.limits = Limits { sweep: Duration::from_secs(10), scrub, floor_void, ..Limits::default() };
    let started = Arc::new(Node::start(options).await.map_err(|e| e.to_string())?);
    let known = shared.joined.lock().unwrap_or_else(PoisonError::into_inner).contains(&node);
    if !known {
        join(&host, &started, &shared, node).await?;
    }
    shared.running.lock().unwrap_or_else(PoisonError::into_inner).insert(node, started.clone());
    benteng_host::probe("node_serves");
    let serving = Box::pin(door::serve(host.clone(), started.objects()));
    let failing = Box::pin(async {
        loop {
            // As the real process does: without Raft a node only looks alive.
            benteng_host::sleep(&*host.clock, Duration::from_millis(500)).await;
            if let Some(why) = started.group().failed() {
                return Err(why);
            }
        }
    });
    futures::future::select(serving, failing).await.factor_first().0
}

/// The first node forms the site; the others are let in by one that serves.
async fn join(host: &Host, started: &Node, shared: &Arc<Shared>, node: u64) -> Result<(), String> {
    if node == 1 {
        let site = NewSite {
            id: SiteId(Uuid::from_u128(1)),
            name: "simulasi".to_owned(),
            removal_delay: 2_000_000,
            ca: bytes::Bytes::new(),
            node_name: name(1),
            zone: "zona-1".to_owned(),
        };
        started.init_site(site, &shared.root).await.map_err(|e| e.to_string())?;
    } else {
        for tries in 0_usize.. {
            let at = host.clock.now().since(Mono(Duration::ZERO)).as_micros();
            let pause = match let_in(shared, node, at, tries).await {
                LetIn::Done => break,
                LetIn::NotYet => Duration::from_millis(400),
                // Longer than any proposal lives: what was not answered is applied by then, or never.
                LetIn::Unanswered => Duration::from_secs(6),
            };
            tracing::info!(node, tries, "the site has not let this node in yet");
            benteng_host::sleep(&*host.clock, pause).await;
        }
    }
    shared.joined.lock().unwrap_or_else(PoisonError::into_inner).insert(node);
    Ok(())
}

/// What became of one try to have a node let in.
enum LetIn {
    Done,
    /// It is not its turn, or nobody answers: nothing was asked for.
    NotYet,
    /// The command may yet be applied.
    Unanswered,
}

/// One try to have a node let in: in the order of their numbers, so that ids are what hosts are called.
async fn let_in(shared: &Shared, node: u64, at: u128, tries: usize) -> LetIn {
    let replaces = shared.replaces.lock().unwrap_or_else(PoisonError::into_inner).get(&node).copied();
    let by = {
        // Another one each time: one that has crashed since answers nothing.
        let running = shared.running.lock().unwrap_or_else(PoisonError::into_inner);
        let at = tries.checked_rem(running.len()).unwrap_or(0);
        running.values().nth(at).cloned()
    };
    let Some(group) = by.map(|by| by.group().clone()) else { return LetIn::NotYet };
    let Ok(view) = group.read().await else { return LetIn::NotYet };
    let Ok(rows) = query::nodes(&*view) else { return LetIn::NotYet };
    // An earlier try may have been applied without an answer.
    if rows.iter().any(|(_, row)| row.name == name(node)) {
        return LetIn::Done;
    }
    if rows.len() as u64 + 1 != node {
        return LetIn::NotYet;
    }
    let (token, replaces) = (token(node, at), replaces.map(NodeId));
    let create = Command::CreateJoinToken { hash: token, valid: i64::MAX / 2, replaces };
    if group.propose(create, None).await.is_err() {
        return LetIn::Unanswered;
    }
    let row = NodeRow {
        name: name(node),
        zone: format!("zona-{node}"),
        doors: Doors { rpc: address(node), ..Doors::default() },
        store: Default::default(),
        state: NodeState::Active,
        joined: Default::default(),
    };
    match group.propose(Command::AddNode { node: row, token }, None).await {
        Ok(_) => LetIn::Done,
        Err(_) => LetIn::Unanswered,
    }
}
