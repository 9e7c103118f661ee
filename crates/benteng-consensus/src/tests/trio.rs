//! Three groups in one process that can be stopped, killed, wiped and started.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use benteng_host::real::{self, RocksKv, RocksOptions};
use benteng_host::{Batch, Fut, Host, Kv};
use benteng_keys::RootKey;
use benteng_meta::ids::*;
use benteng_meta::{Answer, Command, Doors, NodeRow, NodeState, SiteRow};
use benteng_rpc::{
    Inbound, Lane, Limits, Outbound, PlainHello, Refusal, Reply, Request, Rpc, Server, Service,
};
use bytes::Bytes;
use tokio::runtime::Runtime;
use uuid::Uuid;

use crate::{Group, GroupOptions, View};

/// A service that is known only after the transport it is for.
#[derive(Default)]
struct Late(OnceLock<Arc<dyn Service>>);

impl Service for Late {
    fn call(&self, from: NodeId, lane: Lane, request: Request) -> Fut<Result<Reply, Refusal>> {
        match self.0.get() {
            Some(service) => service.call(from, lane, request),
            None => Box::pin(async { Err(Refusal::new(9, "starting")) }),
        }
    }
    fn stream(&self, from: NodeId, request: Request, inbound: Inbound, outbound: Outbound) -> Fut<()> {
        match self.0.get() {
            Some(service) => service.stream(from, request, inbound, outbound),
            None => Box::pin(async {}),
        }
    }
}

/// A running node: openraft finds its host by the runtime, so each has one of its own.
struct Running {
    group: Group,
    /// What it said of its history in the moment in which it had started, and the state it had.
    history: bool,
    born: View,
    _rpc: Arc<Rpc>,
    _server: Server,
    runtime: Runtime,
}

pub(super) struct Trio {
    dir: tempfile::TempDir,
    root: Arc<RootKey>,
    addresses: BTreeMap<NodeId, String>,
    nodes: BTreeMap<u64, Running>,
    log_keep: u64,
}

/// Waits for a condition, half a minute at most.
pub(super) async fn until<F: Future<Output = bool>>(what: &str, condition: impl Fn() -> F) {
    for _ in 0..600 {
        if condition().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("waited in vain until {what}");
}

fn free_port() -> u16 {
    let socket = std::net::TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
    socket.local_addr().expect("bound").port()
}

impl Trio {
    pub(super) async fn formed() -> Trio {
        Trio::with_log_keep(20_000).await
    }

    /// Three nodes, all voters, with the site formed.
    pub(super) async fn with_log_keep(log_keep: u64) -> Trio {
        let addresses = (1..=3).map(|n| (NodeId(n), format!("127.0.0.1:{}", free_port()))).collect();
        let root = Arc::new(RootKey::generate(&real::SystemEntropy::new()));
        let dir = tempfile::tempdir().expect("a temporary directory");
        let mut trio = Trio { dir, root, addresses, nodes: BTreeMap::new(), log_keep };
        for node in 1..=3 {
            trio.start(node).await;
        }
        let (first, addresses) = (trio.group(1).clone(), trio.addresses.clone());
        let form = async move {
            first.initialize(&addresses[&NodeId(1)]).await.expect("a fresh group forms");
            let formed = first.propose(init_site(), None).await.expect("a fresh site forms");
            assert_eq!(formed, Answer::Node(NodeId(1)));
            let voters: BTreeSet<NodeId> = addresses.keys().copied().collect();
            first.set_members(voters, BTreeSet::new(), &addresses).await.expect("three voters");
        };
        trio.nodes[&1].runtime.spawn(form).await.expect("forming does not panic");
        trio
    }

    fn node_dir(&self, node: u64) -> PathBuf {
        self.dir.path().join(format!("node-{node}"))
    }

    pub(super) fn group(&self, node: u64) -> &Group {
        &self.nodes[&node].group
    }

    pub(super) fn had_history(&self, node: u64) -> bool {
        self.nodes[&node].history
    }

    pub(super) async fn read(&self, node: u64) -> View {
        for _ in 0..10 {
            if let Ok(view) = self.group(node).read().await {
                return view;
            }
        }
        panic!("node {node} finds no quorum");
    }

    pub(super) async fn start(&mut self, node: u64) {
        self.try_start(node).await.expect("the node starts");
    }

    pub(super) async fn try_start(&mut self, node: u64) -> crate::Result<()> {
        self.try_start_with(node, (1..=3).map(NodeId).collect()).await
    }

    /// Starts a node as the only member from now on.
    pub(super) async fn start_alone(&mut self, node: u64) {
        let all = (1..=3).map(NodeId).collect();
        let alone = Some(self.addresses[&NodeId(node)].clone());
        self.try_start_as(node, all, alone).await.expect("the node starts");
    }

    /// Starts a node that knows these peers before it has a state.
    pub(super) async fn try_start_with(&mut self, node: u64, peers: Vec<NodeId>) -> crate::Result<()> {
        self.try_start_as(node, peers, None).await
    }

    async fn try_start_as(
        &mut self,
        node: u64,
        peers: Vec<NodeId>,
        alone: Option<String>,
    ) -> crate::Result<()> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime");
        let dir = self.node_dir(node);
        let (root, addresses, log_keep) = (self.root.clone(), self.addresses.clone(), self.log_keep);
        let started =
            runtime.spawn(async move { open(node, dir, root, addresses, (log_keep, peers, alone)).await });
        match started.await.expect("starting does not panic") {
            Ok((group, (history, born), rpc, server)) => {
                let running = Running { group, history, born, _rpc: rpc, _server: server, runtime };
                self.nodes.insert(node, running);
                Ok(())
            }
            Err(e) => {
                end(runtime);
                Err(e)
            }
        }
    }

    /// A clean stop.
    pub(super) async fn stop(&mut self, node: u64) {
        let running = self.nodes.remove(&node).expect("it runs");
        let group = running.group.clone();
        running.runtime.spawn(async move { group.stop().await }).await.expect("stopping does not panic");
        Trio::end(running);
    }

    /// As `kill -9`: nothing is closed or flushed.
    pub(super) fn kill(&mut self, node: u64) {
        Trio::end(self.nodes.remove(&node).expect("it runs"));
    }

    fn end(running: Running) {
        let Running { runtime, .. } = running;
        end(runtime);
    }

    /// The state that it had read from the disk when it had started.
    pub(super) fn born(&self, node: u64) -> &View {
        &self.nodes[&node].born
    }

    /// Files that flushes of its state have left.
    pub(super) fn state_files(&self, node: u64) -> usize {
        let files = std::fs::read_dir(self.node_dir(node).join("kv")).expect("the state is there");
        files.flatten().filter(|file| file.path().extension().is_some_and(|end| end == "sst")).count()
    }

    pub(super) fn log_files(&self, node: u64) -> usize {
        std::fs::read_dir(self.node_dir(node).join("raft")).expect("the log is there").count()
    }

    pub(super) fn lose_state(&self, node: u64) {
        std::fs::remove_dir_all(self.node_dir(node).join("kv")).expect("the state was there");
    }

    /// Writes garbage in the place of the row that says how far the state goes.
    pub(super) async fn spoil_state(&self, node: u64) {
        let dir = self.node_dir(node).join("kv");
        let spoil = || async {
            let Ok(kv) = RocksKv::open(&dir, &RocksOptions::default()) else { return false };
            let mut batch = Batch::default();
            batch.put([&[b'l'][..], &0_u32.to_be_bytes(), b"applied"].concat(), vec![7; 64]);
            kv.write(batch).await.is_ok() && kv.flush().await.is_ok()
        };
        until("the state is spoiled", spoil).await;
    }

    pub(super) fn lose_log(&self, node: u64) {
        std::fs::remove_dir_all(self.node_dir(node).join("raft")).expect("the log was there");
    }
}

/// Waits for a runtime's threads: RocksDB aborts a process that ends while one is still inside it.
fn end(runtime: Runtime) {
    tokio::task::block_in_place(|| runtime.shutdown_timeout(Duration::from_secs(10)));
}

impl Drop for Trio {
    fn drop(&mut self) {
        std::mem::take(&mut self.nodes).into_values().for_each(Trio::end);
    }
}

async fn open(
    node: u64,
    dir: PathBuf,
    root: Arc<RootKey>,
    addresses: BTreeMap<NodeId, String>,
    (log_keep, peers, alone): (u64, Vec<NodeId>, Option<String>),
) -> crate::Result<(Group, (bool, View), Arc<Rpc>, Server)> {
    let host: Host = real::host();
    host.disk.create_dir_all(&dir).await.expect("a directory");
    let late = Arc::new(Late::default());
    let rpc = Rpc::new(
        host.clone(),
        NodeId(node),
        Arc::new(PlainHello::new(NodeId(node))),
        late.clone(),
        Limits::default(),
    );
    for (peer, address) in &addresses {
        if *peer != NodeId(node) {
            rpc.set_peer(*peer, address.clone());
        }
    }
    // The ports of a killed node may linger for a moment.
    let mut server = rpc.listen(&addresses[&NodeId(node)]).await;
    for _ in 0..100 {
        if server.is_ok() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
        server = rpc.listen(&addresses[&NodeId(node)]).await;
    }
    let options = RocksOptions::default();
    let mut kv = RocksKv::open(&dir.join("kv"), &options);
    for _ in 0..100 {
        if kv.is_ok() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
        kv = RocksKv::open(&dir.join("kv"), &options);
    }
    let store = StoreId(Uuid::from_u128(u128::from(node)));
    let kv = kv.expect("RocksDB opens once its last user is gone");
    let mut options = GroupOptions::new(host, dir.join("raft"), kv, root, store, rpc.clone());
    options.segment_bytes = 256 << 10;
    options.log_keep = log_keep;
    options.peers = peers;
    options.alone = alone;
    let group = Group::start(options).await?;
    let history = (group.has_history(), group.local()?);
    assert!(late.0.set(group.service()).is_ok(), "set once");
    Ok((group, history, rpc, server.expect("the port is free again")))
}

fn init_site() -> Command {
    let site = SiteRow {
        id: SiteId(Uuid::from_u128(1)),
        name: "uji".into(),
        created: SiteTime(0),
        copies: 1,
        copies_min: 1,
        next_node: NodeId(0),
        removal_delay: 0,
        recovery_epoch: 0,
        ca: Bytes::new(),
        root_check: Bytes::new(),
        one_voter: false,
    };
    let node = NodeRow {
        name: "node-1".into(),
        zone: "a".into(),
        doors: Doors::default(),
        store: StoreId(Uuid::from_u128(1)),
        state: NodeState::Active,
        joined: SiteTime(0),
    };
    Command::InitSite { site, kek: Bytes::from_static(b"kek"), node }
}
