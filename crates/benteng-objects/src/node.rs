//! One node, put together: chunk store, transport, Raft group, object layer and the loops that
//! keep it in order. The binary and the simulator start nodes through this alone.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::AtomicI64;
use std::sync::{Arc, Mutex, PoisonError};

use benteng_chunks::{Store, StoreOptions};
use benteng_consensus::{Group, GroupOptions};
use benteng_host::{Host, Kv, Task};
use benteng_keys::RootKey;
use benteng_meta::ids::*;
use benteng_meta::{Command, Doors, NodeRow, NodeState, Rejection, SiteRow};
use benteng_rpc::{Rpc, Secure, Server, Service};
use bytes::Bytes;

use crate::budget::Budget;
use crate::copy::Copies;
use crate::core::Core;
use crate::disk::Disk;
use crate::findings::Findings;
use crate::floors::Floors;
use crate::gateway::Gateway;
use crate::keyring::Keys;
use crate::leftovers::Leftovers;
use crate::limits::Limits;
use crate::peers::PeerBook;
use crate::places::Places;
use crate::progress::Progress;
use crate::router::{Router, Services};
use crate::scrub::Scrubbing;
use crate::service::StoreService;
use crate::strays::Strays;
use crate::tend::Own;
use crate::{Error, Objects, Result, elsewhere, loops};

/// Changes the sizes of a Raft group.
pub type GroupSizes = Box<dyn FnOnce(GroupOptions) -> GroupOptions + Send>;

/// What a node needs.
pub struct NodeOptions {
    /// The machine.
    pub host: Host,
    /// The node's data directory; it holds `chunks/` and `raft/`.
    pub dir: PathBuf,
    /// The node's ordered store.
    pub kv: Arc<dyn Kv>,
    /// The site's root key.
    pub root: Arc<RootKey>,
    /// This node.
    pub me: NodeId,
    /// Who is at the other end of connections.
    pub secure: Arc<dyn Secure>,
    /// Where other nodes reach this one, `host:port`; port 0: any free one.
    pub rpc_listen: String,
    /// Where this node is reached; an empty `rpc` is replaced by the address that was bound.
    pub doors: Doors,
    /// Addresses of other nodes that are known before the first row is.
    pub peers: BTreeMap<NodeId, String>,
    /// The site's recovery epoch, as far as it is known before the first row is (S7).
    pub epoch: u64,
    /// Methods from 200 on.
    pub above: Option<Arc<dyn Service>>,
    /// Bounds of the object layer.
    pub limits: Limits,
    /// Bounds of the transport.
    pub rpc_limits: benteng_rpc::Limits,
    /// Bounds of the chunk store.
    pub store_options: StoreOptions,
    /// Changes the sizes of the Raft group, if they are not to be the usual ones.
    pub group_options: GroupSizes,
    /// Until when the first of the node's certificates is valid, wall-clock microseconds; set by whoever
    /// renews them, shown in [`Vitals`](crate::Vitals). `i64::MAX`: it has none.
    pub certificates_end: Arc<AtomicI64>,
}

impl NodeOptions {
    /// The usual bounds.
    pub fn new(
        host: Host,
        dir: PathBuf,
        kv: Arc<dyn Kv>,
        root: Arc<RootKey>,
        me: NodeId,
        secure: Arc<dyn Secure>,
        rpc_listen: String,
    ) -> NodeOptions {
        NodeOptions {
            host,
            dir,
            kv,
            root,
            me,
            secure,
            rpc_listen,
            doors: Doors::default(),
            peers: BTreeMap::new(),
            epoch: 0,
            above: None,
            limits: Limits::default(),
            rpc_limits: benteng_rpc::Limits::default(),
            store_options: StoreOptions::default(),
            group_options: Box::new(|options| options),
            certificates_end: Arc::new(AtomicI64::new(i64::MAX)),
        }
    }
}

/// A site that is to be formed.
pub struct NewSite {
    /// Its id.
    pub id: SiteId,
    /// Its name.
    pub name: String,
    /// How long the dead are kept after all floors have passed (O5), microseconds.
    pub removal_delay: i64,
    /// The certificate authority, as `benteng_keys::StoredCa` encodes it.
    pub ca: Bytes,
    /// Name of the first node.
    pub node_name: String,
    /// Failure domain of the first node.
    pub zone: String,
}

/// A running node.
pub struct Node {
    core: Arc<Core>,
    rpc: Arc<Rpc>,
    router: Arc<Router>,
    store: Arc<Store>,
    doors: Doors,
    server: Mutex<Option<Server>>,
    loops: Mutex<Option<Task>>,
}

impl Node {
    /// Starts a node. It serves once it is in step with the site ([`Node::ready`]); one that
    /// belongs to no site yet waits for [`Node::init_site`] or for a leader that adds it.
    ///
    /// Errors: `Unavailable` with what to do, if the disks or the address cannot be used.
    /// Cancellation: drop it before you start another node on the same directory.
    pub async fn start(options: NodeOptions) -> Result<Node> {
        let NodeOptions {
            host,
            dir,
            kv,
            root,
            me,
            secure,
            rpc_listen,
            mut doors,
            peers,
            limits,
            above,
            certificates_end,
            ..
        } = options;
        let failed =
            |what: &str, e: &dyn std::fmt::Display| Error::Unavailable { why: format!("{what}: {e}") };
        let opened = Store::open(host.clone(), dir.join("chunks"), kv.clone(), options.store_options).await;
        let store = Arc::new(opened.map_err(|e| failed("the chunk store does not open", &e))?);
        let router = Arc::new(Router::default());
        let rpc = Rpc::new(host.clone(), me, secure.clone(), router.clone(), options.rpc_limits);
        let book = PeerBook::open(&host, &dir, &rpc, peers).await;
        let listening = rpc.listen(&rpc_listen).await;
        let server = listening.map_err(|e| failed("the node's RPC address cannot be bound", &e))?;
        if doors.rpc.is_empty() {
            doors.rpc = server.local_addr().to_owned();
        }
        let keys = Keys::new(&root);
        let mut group = GroupOptions::new(host.clone(), dir.join("raft"), kv, root, store.id(), rpc.clone());
        group.peers = book.nodes();
        group.epoch = options.epoch;
        let group = Group::start((options.group_options)(group)).await?;
        if let Err(e) = elsewhere::look(&host, &group, me, &doors.rpc, &*secure).await {
            group.stop().await;
            return Err(e);
        }
        let mut services = Services { consensus: Some(group.service()), above, objects: None };
        // Consensus answers at once: peers may be waiting for this node's vote.
        router.set(services.clone());

        let limits = limits.clamped();
        let copies = Copies::new(me, Disk(store.clone()), rpc.clone(), group.clone(), host.clock.clone());
        let core = Arc::new(Core {
            me,
            group,
            copies,
            keys,
            gateway: Gateway::new(me),
            floors: Arc::new(Floors::default()),
            writes: Budget::new("writes", limits.write_bytes, limits.admission),
            reads: Budget::new("reads", limits.read_bytes, limits.admission),
            limits,
            findings: Findings::default(),
            leftovers: Leftovers::default(),
            progress: Progress::default(),
            scrubbing: Scrubbing::default(),
            strays: Strays::default(),
            places: Places::default(),
            certificates_end,
            host,
        });
        services.objects = Some(Arc::new(StoreService::new(core.clone())));
        router.set(services);
        let own = Own { doors: doors.clone(), store: store.id() };
        let loops = loops::spawn(core.clone(), rpc.clone(), book, own, dir);
        let (server, loops) = (Mutex::new(Some(server)), Mutex::new(Some(loops)));
        Ok(Node { core, rpc, router, store, doors, server, loops })
    }

    /// Forms a site of which this node is the first, or ends what an earlier life began: one that died between its
    /// first vote and this command left a group without a site. A site that is formed stays as it is.
    ///
    /// Errors: `Unavailable`, and the site may be formed already.
    pub async fn init_site(&self, site: NewSite, root: &RootKey) -> Result<()> {
        if benteng_meta::query::site(&*self.core.group.local()?)?.is_some() {
            return Ok(());
        }
        if !self.core.group.has_history() {
            self.core.group.initialize(&self.doors.rpc).await?;
        } else if benteng_meta::query::site(&*self.core.group.read().await?)?.is_some() {
            return Ok(());
        }
        let row = SiteRow {
            id: site.id,
            name: site.name,
            created: SiteTime(0),
            copies: 1,
            copies_min: 1,
            next_node: NodeId(2),
            removal_delay: site.removal_delay,
            recovery_epoch: 0,
            ca: site.ca,
            root_check: Bytes::copy_from_slice(&root.check_value()),
            one_voter: false,
        };
        let node = NodeRow {
            name: site.node_name,
            zone: site.zone,
            doors: self.doors.clone(),
            store: self.store.id(),
            state: NodeState::Active,
            joined: SiteTime(0),
        };
        let kek = self.core.keys.new_kek(KekVersion(1), &*self.core.host.random);
        match self.core.group.propose(Command::InitSite { site: row, kek, node }, None).await {
            Ok(_) | Err(benteng_consensus::Error::Rejected(Rejection::Site { formed: true })) => Ok(()),
            Err(e) => Err(e.into()),
        }
    }

    /// This node.
    pub fn me(&self) -> NodeId {
        self.core.me
    }

    /// Its doors, with the RPC address that was bound.
    pub fn doors(&self) -> &Doors {
        &self.doors
    }

    /// The Raft group.
    pub fn group(&self) -> &Group {
        &self.core.group
    }

    /// The object layer.
    pub fn objects(&self) -> Objects {
        Objects::new(self.core.clone())
    }

    /// The transport.
    pub fn rpc(&self) -> &Arc<Rpc> {
        &self.rpc
    }

    /// The chunk store.
    pub fn store(&self) -> &Arc<Store> {
        &self.store
    }

    /// Chunks that the local state names in this node's groups and its store has not: what the
    /// sweep would report. Nothing is changed.
    ///
    /// Errors: the local state or the store's index cannot be read.
    pub fn missing(&self) -> Result<Vec<ChunkId>> {
        let view = self.core.group.local()?;
        let mut cursor = crate::rows::Cursor::START;
        let mut missing = Vec::new();
        while cursor != crate::rows::Cursor::End {
            missing.extend(crate::sweep::missing(&self.core, &*view, &mut cursor)?);
        }
        Ok(missing)
    }

    /// Full passes of the scrub that have ended here.
    pub fn scrubbed(&self) -> u64 {
        self.core.report().scrub.ended
    }

    /// Whether the node serves: its gateway's life is committed and a leader is known. The error
    /// says what it waits for.
    pub fn ready(&self) -> Result<()> {
        self.core.gateway.origin()?;
        match self.core.group.leader() {
            Some(_) => Ok(()),
            None => Err(Error::Unavailable { why: "no leader is known".to_owned() }),
        }
    }

    /// Why this process must end although nothing has failed: another one runs as this node.
    pub fn superseded(&self) -> Option<String> {
        self.core.gateway.superseded()
    }

    /// Stops: the loops first, then consensus, the store, the address.
    pub async fn stop(&self) {
        drop(self.loops.lock().unwrap_or_else(PoisonError::into_inner).take());
        self.core.group.stop().await;
        if let Err(e) = self.store.close().await {
            tracing::warn!(error = %e, "the chunk store was not closed cleanly; its index catches up at the next start");
        }
        drop(self.server.lock().unwrap_or_else(PoisonError::into_inner).take());
        self.router.set(Services::default());
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // A node that is dropped like a crash lets go of its parts too.
        self.router.set(Services::default());
    }
}
