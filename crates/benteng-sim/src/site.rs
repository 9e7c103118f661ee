//! A site of simulated nodes: how each boots, and what the driver may do to it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use benteng_chunks::StoreOptions;
use benteng_consensus::GroupOptions;
use benteng_host::Host;
use benteng_keys::RootKey;
use benteng_meta::ids::{NodeId, SiteId};
use benteng_meta::{Command, Doors, NodeRow, NodeState};
use benteng_objects::{Limits, NewSite, Node, NodeOptions};
use benteng_rpc::PlainHello;
use turmoil::Sim;
use uuid::Uuid;

use crate::{SimHost, SimRandom, door, stream};

/// Port of node-to-node RPC.
const RPC: u16 = 7404;
/// Join tokens of the simulation: the node's number, padded.
fn token(node: u64) -> [u8; 32] {
    let mut token = [7; 32];
    token[..8].copy_from_slice(&node.to_be_bytes());
    token
}

/// Name of a node's host.
pub(crate) fn name(node: u64) -> String {
    format!("node-{node}")
}

/// What the nodes of one site share across their boots.
pub(crate) struct Shared {
    root: Arc<RootKey>,
    nodes: u64,
    /// Nodes whose row exists: they start as members.
    joined: Mutex<BTreeMap<u64, bool>>,
    /// The running nodes, for the checks at the end.
    pub running: Mutex<BTreeMap<u64, Arc<Node>>>,
}

/// The site as the driver sees it.
pub(crate) struct Site {
    /// Machines by node.
    pub hosts: BTreeMap<u64, Arc<SimHost>>,
    /// What the nodes share.
    pub shared: Arc<Shared>,
}

impl Site {
    /// Adds the nodes' hosts to the simulation.
    pub(crate) fn new(sim: &mut Sim<'_>, seed: u64, nodes: u64) -> Site {
        let entropy = SimRandom::new(stream(seed, "site"));
        let shared = Arc::new(Shared {
            root: Arc::new(RootKey::generate(&entropy)),
            nodes,
            joined: Mutex::default(),
            running: Mutex::default(),
        });
        let mut hosts = BTreeMap::new();
        for node in 1..=nodes {
            let machine = SimHost::new(&name(node), seed);
            hosts.insert(node, machine.clone());
            let shared = shared.clone();
            sim.host(name(node), move || {
                let (machine, shared) = (machine.clone(), shared.clone());
                let kv = machine.kv.clone();
                machine.run(move |host| boot(host, kv.open(), shared, node))
            });
        }
        Site { hosts, shared }
    }

    /// Whether every node serves.
    pub(crate) fn formed(&self) -> bool {
        let running = self.shared.running.lock().unwrap_or_else(PoisonError::into_inner);
        running.len() as u64 == self.shared.nodes
    }
}

fn address(node: u64) -> String {
    format!("{}:{RPC}", name(node))
}

/// What a node's process does from start to end.
async fn boot(
    host: Host,
    kv: Arc<dyn benteng_host::Kv>,
    shared: Arc<Shared>,
    node: u64,
) -> Result<(), String> {
    shared.running.lock().unwrap_or_else(PoisonError::into_inner).remove(&node);
    let peers = (1..=shared.nodes).filter(|n| *n != node).map(|n| (NodeId(n), address(n))).collect();
    let secure = Arc::new(PlainHello::new(NodeId(node)));
    let dir = PathBuf::from("/data");
    let listen = format!("0.0.0.0:{RPC}");
    let mut options =
        NodeOptions::new(host.clone(), dir, kv, shared.root.clone(), NodeId(node), secure, listen);
    options.doors = Doors { rpc: address(node), ..Doors::default() };
    options.peers = peers;
    // Small, so that rolls, recycling, snapshots and cleaning happen within a run.
    options.group_options = |group| GroupOptions { segment_bytes: 512 << 10, log_keep: 300, ..group };
    options.store_options = StoreOptions { segment_bytes: 12 << 20, ..StoreOptions::default() };
    options.limits = Limits { sweep: std::time::Duration::from_secs(10), ..Limits::default() };
    let started = Arc::new(Node::start(options).await.map_err(|e| e.to_string())?);
    let known = shared.joined.lock().unwrap_or_else(PoisonError::into_inner).contains_key(&node);
    if !known {
        join(&host, &started, &shared, node).await?;
    }
    shared.running.lock().unwrap_or_else(PoisonError::into_inner).insert(node, started.clone());
    benteng_host::probe("node_serves");
    door::serve(host, started.objects()).await
}

/// The first node forms the site; the others are let in by it.
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
        loop {
            let first = {
                let running = shared.running.lock().unwrap_or_else(PoisonError::into_inner);
                // In order, so that ids are what the hosts are called.
                running.get(&(node - 1)).and(running.get(&1)).cloned()
            };
            if let Some(first) = first {
                let row = NodeRow {
                    name: name(node),
                    zone: format!("zona-{node}"),
                    doors: Doors { rpc: address(node), ..Doors::default() },
                    store: Default::default(),
                    state: NodeState::Active,
                    joined: Default::default(),
                };
                let group = first.group();
                let create =
                    Command::CreateJoinToken { hash: token(node), valid: i64::MAX / 2, replaces: None };
                let made = group.propose(create, None).await.is_ok();
                if made
                    && group.propose(Command::AddNode { node: row, token: token(node) }, None).await.is_ok()
                {
                    break;
                }
            }
            benteng_host::sleep(&*host.clock, std::time::Duration::from_millis(200)).await;
        }
    }
    shared.joined.lock().unwrap_or_else(PoisonError::into_inner).insert(node, true);
    Ok(())
}
