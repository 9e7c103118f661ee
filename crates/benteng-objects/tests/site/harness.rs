//! A site of up to five nodes in a temporary directory.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use benteng_host::random_array;
use benteng_host::real::{RocksKv, RocksOptions};
use benteng_keys::RootKey;
use benteng_meta::ids::*;
use benteng_meta::{Answer, Command, Doors, NodeRow, NodeState};
use benteng_objects::*;
use benteng_rpc::PlainHello;
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};

/// How long a test waits for what must come.
const PATIENCE: Duration = Duration::from_secs(60);

/// Nodes of one site; `nodes[i]` runs or is down.
pub(crate) struct Site {
    dir: tempfile::TempDir,
    root: Arc<RootKey>,
    ports: BTreeMap<NodeId, u16>,
    nodes: BTreeMap<NodeId, Running>,
    /// Directory of each node: a replaced node gets another one.
    dirs: BTreeMap<NodeId, String>,
}

/// A node on a runtime of its own, as openraft's runtime seam wants it (and as in production).
struct Running {
    node: Arc<Node>,
    runtime: tokio::runtime::Runtime,
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

impl Site {
    /// A formed, settled site of `n` nodes.
    pub(crate) async fn of(n: u64) -> Site {
        let mut site = Site::founder().await;
        site.form().await;
        for _ in 1..n {
            site.add(None).await;
        }
        site.settled().await;
        site
    }

    /// A first node that runs; its site is not formed yet.
    pub(crate) async fn founder() -> Site {
        // `RUST_LOG=debug` shows what nodes say; a second test in the process finds it set.
        let filter = tracing_subscriber::EnvFilter::from_default_env();
        let _ = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).try_init();
        let host = benteng_host::real::host();
        let root = Arc::new(RootKey::generate(&*host.random));
        let mut site = Site {
            dir: tempfile::tempdir().unwrap(),
            root,
            ports: BTreeMap::new(),
            nodes: BTreeMap::new(),
            dirs: BTreeMap::new(),
        };
        site.ports.insert(NodeId(1), free_port());
        site.start(NodeId(1)).await;
        site
    }

    /// Forms the site by its first node.
    pub(crate) async fn form(&self) {
        let new = NewSite {
            id: SiteId(uuid::Uuid::from_u128(1)),
            name: "uji".to_owned(),
            removal_delay: 0,
            ca: Bytes::new(),
            node_name: "node-1".to_owned(),
            zone: "zone-1".to_owned(),
        };
        let (node, root) = (self.nodes[&NodeId(1)].node.clone(), self.root.clone());
        self.nodes[&NodeId(1)]
            .runtime
            .spawn(async move { node.init_site(new, &root).await })
            .await
            .unwrap()
            .unwrap();
    }

    /// As much of the forming as a first node does before the site's first command.
    pub(crate) async fn form_half(&self) {
        let node = self.nodes[&NodeId(1)].node.clone();
        let half = async move { node.group().initialize(&node.doors().rpc).await };
        self.nodes[&NodeId(1)].runtime.spawn(half).await.unwrap().unwrap();
    }

    /// Starts a node on its directory.
    pub(crate) async fn start(&mut self, id: NodeId) {
        let dir = self.dirs.entry(id).or_insert_with(|| format!("node-{id}")).clone();
        let dir = self.dir.path().join(dir);
        std::fs::create_dir_all(dir.join("kv")).unwrap();
        let memory = RocksOptions { block_cache_bytes: 8 << 20, write_buffer_bytes: 8 << 20 };
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let host = {
            let _inside = runtime.enter();
            benteng_host::real::host()
        };
        let mut kv = None;
        // The last handle of a node that was stopped may still be on its way out.
        until("the ordered store", async || {
            kv = RocksKv::open(&dir.join("kv"), &memory).ok();
            kv.is_some()
        })
        .await;
        let kv = kv.unwrap();
        let address = |port: &u16| format!("127.0.0.1:{port}");
        let listen = address(&self.ports[&id]);
        let secure = Arc::new(PlainHello::new(id));
        let mut options = NodeOptions::new(host, dir, kv, self.root.clone(), id, secure, listen.clone());
        options.doors = Doors { rpc: listen, ..Doors::default() };
        options.peers = self.ports.iter().map(|(node, port)| (*node, address(port))).collect();
        options.limits.idle = Duration::from_millis(50);
        options.limits.sweep = Duration::from_secs(1);
        options.limits.floor_renewal = Duration::from_secs(1);
        options.store_options.segment_bytes = 32 << 20;
        options.group_options = Box::new(|mut group| {
            group.segment_bytes = 4 << 20;
            group
        });
        let node = Arc::new(runtime.spawn(Node::start(options)).await.unwrap().unwrap());
        self.nodes.insert(id, Running { node, runtime });
    }

    /// Adds a node, or a replacement of `old`; returns its id.
    pub(crate) async fn add(&mut self, old: Option<NodeId>) -> NodeId {
        let id = self.let_in(old).await;
        self.start(id).await;
        // A newcomer serves once it has caught up.
        until("the gateway of the new node", async || self.node(id.0).ready().is_ok()).await;
        id
    }

    /// Lets a node in that has not started yet.
    pub(crate) async fn let_in(&mut self, old: Option<NodeId>) -> NodeId {
        let port = free_port();
        let token = random_array(&*benteng_host::real::host().random);
        let group = self.any().group();
        let valid = 3_600_000_000;
        group.propose(Command::CreateJoinToken { hash: token, valid, replaces: old }, None).await.unwrap();
        let node = NodeRow {
            name: format!("node-{port}"),
            zone: format!("zone-{port}"),
            doors: Doors { rpc: format!("127.0.0.1:{port}"), ..Doors::default() },
            store: StoreId::default(),
            state: NodeState::Active,
            joined: SiteTime(0),
        };
        let answer = group.propose(Command::AddNode { node, token }, None).await.unwrap();
        let Answer::Node(id) = answer else { panic!("{answer:?}") };
        self.ports.insert(id, port);
        id
    }

    /// Stops a node as if its process had ended.
    pub(crate) async fn stop(&mut self, id: u64) {
        let Running { node, runtime } = self.nodes.remove(&NodeId(id)).unwrap();
        runtime.spawn(async move { node.stop().await }).await.unwrap();
        tokio::task::spawn_blocking(move || runtime.shutdown_timeout(Duration::from_secs(5))).await.unwrap();
    }

    /// Loses the disks of a node that is down.
    pub(crate) fn wipe(&mut self, id: u64) {
        let dir = self.dirs.remove(&NodeId(id)).unwrap();
        self.ports.remove(&NodeId(id));
        std::fs::remove_dir_all(self.dir.path().join(dir)).unwrap();
    }

    /// Where a node's files are.
    pub(crate) fn dir(&self) -> &std::path::Path {
        self.dir.path()
    }

    pub(crate) fn node(&self, id: u64) -> &Node {
        &self.nodes[&NodeId(id)].node
    }

    /// Nodes that run.
    pub(crate) fn running(&self) -> impl Iterator<Item = &Node> {
        self.nodes.values().map(|running| &*running.node)
    }

    pub(crate) fn any(&self) -> &Node {
        &self.nodes.values().next().unwrap().node
    }

    /// Object layers of the nodes that run.
    pub(crate) fn all(&self) -> Vec<Objects> {
        self.nodes.values().map(|running| running.node.objects()).collect()
    }

    /// Waits until the site says that it is healthy, as seen by every running node.
    pub(crate) async fn settled(&self) {
        let begun = Instant::now();
        for objects in self.all() {
            loop {
                let status = objects.status().await;
                let wanted = self.nodes.len().min(3);
                let whole = status.as_ref().is_ok_and(|s| s.healthy && usize::from(s.copies) >= wanted);
                if whole && self.nodes.values().all(|running| running.node.ready().is_ok()) {
                    break;
                }
                assert!(begun.elapsed() < PATIENCE, "not settled: {status:?}");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        for (_, Running { runtime, .. }) in std::mem::take(&mut self.nodes) {
            // RocksDB aborts a process that ends while a thread is still inside it.
            tokio::task::block_in_place(|| runtime.shutdown_timeout(Duration::from_secs(10)));
        }
    }
}

/// Waits until `condition` holds.
pub(crate) async fn until(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let begun = Instant::now();
    while !condition().await {
        assert!(begun.elapsed() < PATIENCE, "{what} did not come");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Bytes that do not repeat within a frame.
pub(crate) fn block(seed: u64, n: usize) -> Bytes {
    let mut x = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut out = Vec::with_capacity(n + 8);
    while out.len() < n {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        out.extend_from_slice(&x.to_le_bytes());
    }
    out.truncate(n);
    out.into()
}

/// A body in pieces of `piece` bytes.
pub(crate) fn body(bytes: &Bytes, piece: usize) -> BodyIn {
    let pieces: Vec<_> = bytes.chunks(piece).map(|part| Ok(bytes.slice_ref(part))).collect();
    Box::pin(futures::stream::iter(pieces))
}

pub(crate) async fn put(objects: &Objects, bucket: &Bucket, key: &str, bytes: &Bytes) -> Result<PutDone> {
    let options = PutOptions { length: Some(bytes.len() as u64), ..PutOptions::default() };
    objects.put(bucket, key, options, body(bytes, 100_000)).await
}

pub(crate) async fn read(got: Got) -> Result<Bytes> {
    let pieces: Vec<Bytes> = got.body.try_collect().await?;
    Ok(pieces.concat().into())
}

pub(crate) async fn get(objects: &Objects, bucket: &Bucket, key: &str) -> Result<Bytes> {
    read(objects.get(bucket, key, GetOptions::default()).await?).await
}

/// Flips one byte of every copy of these bytes in the files below `dir`. Returns how many.
pub(crate) fn flip(dir: &std::path::Path, needle: &[u8]) -> usize {
    let mut flipped = 0;
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            flipped += flip(&path, needle);
            continue;
        }
        let content = std::fs::read(&path).unwrap();
        if let Some(at) = content.windows(needle.len()).position(|window| window == needle) {
            let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
            std::os::unix::fs::FileExt::write_all_at(&file, &[content[at + 5] ^ 1], at as u64 + 5).unwrap();
            flipped += 1;
        }
    }
    flipped
}

/// A body that ends with an error after `n` bytes.
pub(crate) fn broken_body(bytes: &Bytes, n: usize) -> BodyIn {
    let good = body(&bytes.slice(..n), 64 << 10);
    Box::pin(good.chain(futures::stream::iter([Err(BodyError::Incomplete)])))
}
