//! The handle that the floors above use.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use benteng_host::planted::{Bug, planted};
use benteng_host::{Host, Kv, KvView, Task};
use benteng_keys::{RecordKeys, RootKey};
use benteng_meta::ids::*;
use benteng_meta::{Answer, Command};
use benteng_rpc::Rpc;
use openraft::async_runtime::WatchReceiver;
use openraft::{Config, Raft, SnapshotPolicy};
use tokio::sync::mpsc;

use crate::agreed::Agreed;
use crate::check::Checked;
use crate::clock::SiteClock;
use crate::log::{LogCipher, LogOptions, LogStore};
use crate::machine::Machine;
use crate::network::Network;
use crate::propose::Waiting;
use crate::read::Reader;
use crate::runtime::Registration;
use crate::snapshot::Sessions;
use crate::state::State;
use crate::types::{Address, Types};
use crate::{Error, Result, alone, check, propose, read, restore, runtime, service, upkeep};

/// A consistent state of the group's rows, unsealed: what `benteng_meta::query` asks.
pub type View = Arc<dyn KvView>;

/// What a group needs of its node.
#[derive(Clone)]
pub struct GroupOptions {
    /// The machine.
    pub host: Host,
    /// Directory of the Raft log's journal.
    pub dir: PathBuf,
    /// The node's ordered store.
    pub kv: Arc<dyn Kv>,
    /// The site's root key.
    pub root: Arc<RootKey>,
    /// The node's disks; values and records are sealed for them.
    pub store: StoreId,
    /// This node.
    pub me: NodeId,
    /// The group.
    pub group: GroupId,
    /// The transport.
    pub rpc: Arc<Rpc>,
    /// Nodes that may have a snapshot, should the state here be lost (S5).
    pub peers: Vec<NodeId>,
    /// The site's recovery epoch, as far as it is known without a state (S7).
    pub epoch: u64,
    /// A majority is lost for good: this node, reached there, is the only member from now on (S7).
    pub alone: Option<String>,
    /// Size of a journal segment in bytes.
    pub segment_bytes: u64,
    /// Recent log entries kept in memory, in bytes.
    pub cache_bytes: usize,
    /// Applied entries kept in the log, so that a node that was away briefly needs no snapshot.
    pub log_keep: u64,
}

impl GroupOptions {
    /// The usual sizes.
    pub fn new(
        host: Host,
        dir: PathBuf,
        kv: Arc<dyn Kv>,
        root: Arc<RootKey>,
        store: StoreId,
        rpc: Arc<Rpc>,
    ) -> Self {
        let me = rpc.me();
        GroupOptions {
            host,
            dir,
            kv,
            root,
            store,
            me,
            group: GroupId::MAIN,
            rpc,
            peers: Vec::new(),
            epoch: 0,
            alone: None,
            segment_bytes: 64 << 20,
            cache_bytes: 32 << 20,
            log_keep: 20_000,
        }
    }
}

/// How a group stands, for `site status` and metrics.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroupStatus {
    /// The leader, if one is known.
    pub leader: Option<NodeId>,
    /// Current term.
    pub term: u64,
    /// Log index applied here.
    pub last_applied: u64,
    /// Last log index here.
    pub last_log: u64,
    /// Log index purged here.
    pub purged: u64,
    /// Voters of the newest membership.
    pub voters: BTreeSet<NodeId>,
    /// Members that replicate without a vote.
    pub learners: BTreeSet<NodeId>,
    /// On the leader: entries by which each member is behind.
    pub lag: BTreeMap<NodeId, u64>,
    /// Whether the journal waits for room on the device.
    pub stalled: bool,
    /// Bytes of the log in use.
    pub log_bytes: u64,
    /// Segments of the log that are damaged and not purged yet.
    pub log_damaged: u64,
    /// Segments of the log that were damaged and are mended since the process began.
    pub log_mended: u64,
    /// How often the ordered store was given up for damage and built anew.
    pub store_given_up: u64,
}

pub(crate) struct Inner {
    pub(crate) host: Host,
    pub(crate) me: NodeId,
    pub(crate) group: GroupId,
    pub(crate) epoch: u64,
    pub(crate) rpc: Arc<Rpc>,
    pub(crate) raft: Raft<Types, Machine>,
    pub(crate) machine: Machine,
    pub(crate) state: Arc<State>,
    pub(crate) log: LogStore,
    pub(crate) clock: SiteClock,
    pub(crate) agreed: Agreed,
    pub(crate) sessions: Arc<Sessions>,
    pub(crate) proposals: mpsc::Sender<Waiting>,
    pub(crate) readers: mpsc::Sender<Reader>,
    pub(crate) members: tokio::sync::Mutex<()>,
    pub(crate) installing: tokio::sync::Mutex<()>,
    pub(crate) log_keep: u64,
    /// A majority of the disks is under its reserve: the leader takes what needs no room (O6).
    pub(crate) full: AtomicBool,
    tasks: Mutex<Vec<Task>>,
    _registration: Registration,
}

/// One Raft group as seen from this node. Cheap to clone.
#[derive(Clone)]
pub struct Group {
    pub(crate) inner: Arc<Inner>,
}

fn raft_config(group: GroupId) -> Result<Arc<Config>> {
    let config = Config {
        cluster_name: format!("group-{group}"),
        heartbeat_interval: 250,
        heartbeat_min_interval: Some(200),
        // A follower waits out the leader's lease (the maximum) and then its own timeout: a site
        // without its leader stands still for 1.8 to 2.4 s, not for 3 to 4.
        election_timeout_min: 600,
        election_timeout_max: 1200,
        enable_pre_vote: Some(true),
        // A restarted leader that resumes in its old term serves stale reads and may write another
        // entry under an id that followers already hold (S1).
        enable_leader_restore: Some(planted(Bug::LeaderRestored)),
        allow_log_reversion: Some(false),
        // We flush, snapshot and purge by ourselves (S4).
        snapshot_policy: SnapshotPolicy::Never,
        max_in_snapshot_log_to_keep: u64::MAX,
        purge_batch_size: 256,
        max_payload_entries: 512,
        api_batch_linger_ms: 0,
        ..Config::default()
    };
    config.validate().map(Arc::new).map_err(|e| Error::Stopped(format!("Raft's configuration: {e}")))
}

impl Group {
    /// Opens log and state, checks them against each other (S3) and starts Raft.
    ///
    /// Errors: `Stopped` with what to do, if the node lost what it had acknowledged; `State`.
    pub async fn start(options: GroupOptions) -> Result<Group> {
        let GroupOptions { host, dir, kv, root, store, me, group, rpc, epoch, log_keep, .. } = options;
        let registration = runtime::register(host.clone());
        let log_options =
            LogOptions { segment_bytes: options.segment_bytes, cache_bytes: options.cache_bytes };
        let cipher = Arc::new(LogCipher(RecordKeys::new(&root, store.0, "log")));
        let (mut log, opened) = LogStore::open(&host, dir, store.0, &log_options, cipher)
            .await
            .map_err(|e| Error::Stopped(e.to_string()))?;
        let state = State::open(&host, kv, &root, store, group).await?;
        if let Checked::StateLost(why) = check::check(&mut log, &opened, &state.standing()).await? {
            let of = (group, epoch);
            restore::from_peers(&host, &rpc, &options.peers, of, &state, &mut log, why).await?;
            if let Checked::StateLost(why) = check::check(&mut log, &opened, &state.standing()).await? {
                return Err(Error::Stopped(format!(
                    "S5: {why}, also after a snapshot was taken; start again"
                )));
            }
        }
        if let Some(address) = &options.alone {
            let failed = |e: std::io::Error| Error::Stopped(format!("the Raft log cannot be written: {e}"));
            alone::go_on(&mut log, me, address).await.map_err(failed)?;
        }
        let state = Arc::new(state);
        // Whoever was there before a recovery knows an older epoch, and is refused (S7).
        let known = benteng_meta::query::site(&state.live())?.map_or(0, |site| site.recovery_epoch);
        let epoch = epoch.max(known);
        log.state_found();
        let machine = Machine::new(host.clone(), state.clone(), Some(log.clone()))?;
        let sessions = Sessions::new(host.clone());
        let network =
            Network { host: host.clone(), rpc: rpc.clone(), group, epoch, sessions: sessions.clone() };
        let raft = Raft::new(me, raft_config(group)?, network, log.clone(), machine.clone())
            .await
            .map_err(|e| Error::Stopped(format!("Raft cannot start: {e}")))?;
        let last = benteng_meta::query::clock(&state.live())?.now;
        let (proposals, proposed) = mpsc::channel(propose::QUEUE);
        let (readers, reading) = mpsc::channel(read::QUEUE);
        let inner = Arc::new(Inner {
            clock: SiteClock::new(&*host.clock, last),
            agreed: Agreed::default(),
            host: host.clone(),
            me,
            group,
            epoch,
            rpc,
            raft,
            machine,
            state,
            log,
            sessions,
            proposals,
            readers,
            members: tokio::sync::Mutex::default(),
            installing: tokio::sync::Mutex::default(),
            log_keep,
            full: AtomicBool::new(false),
            tasks: Mutex::default(),
            _registration: registration,
        });
        let weak = Arc::downgrade(&inner);
        let tasks = vec![
            host.tasks.spawn("raft proposer", Box::pin(propose::run(weak.clone(), proposed))),
            host.tasks.spawn("raft reader", Box::pin(read::run(weak.clone(), reading))),
            host.tasks.spawn("raft upkeep", Box::pin(upkeep::run(weak.clone()))),
            host.tasks.spawn("site clock", Box::pin(upkeep::keep_time(weak))),
        ];
        *inner.tasks.lock().unwrap_or_else(PoisonError::into_inner) = tasks;
        Ok(Group { inner })
    }

    /// What other nodes ask of this group: methods 1 to 99.
    pub fn service(&self) -> Arc<dyn benteng_rpc::Service> {
        Arc::new(service::GroupService::new(&self.inner))
    }

    /// Makes this node the only voter of a group without history.
    pub async fn initialize(&self, address: &str) -> Result<()> {
        let members = BTreeMap::from([(self.inner.me, Address(address.to_owned()))]);
        let stopped = |e: &dyn std::fmt::Display| Error::Stopped(format!("the group cannot be formed: {e}"));
        self.inner.raft.initialize(members).await.map_err(|e| stopped(&e))?;
        let clock = &*self.inner.host.clock;
        self.inner.clock.slew(clock, vec![clock.wall()]);
        let wait = self.inner.raft.wait(Some(Duration::from_secs(10)));
        wait.current_leader(self.inner.me, "the only voter leads").await.map(drop).map_err(|e| stopped(&e))
    }

    /// Proposes a command, through any node, and returns its answer once it is applied or known.
    /// Idempotency id, stamp, deadline and settling (C1, C3) are handled inside.
    ///
    /// `gateway`: the fence of this gateway's life; `None` for commands that no life bounds.
    /// Errors: `Rejected` as `apply` decided; `Unavailable` (surely not applied) and `Unknown`,
    /// both within 5 s.
    /// Cancellation: the command may be applied, once.
    pub async fn propose(&self, command: Command, gateway: Option<(NodeId, Incarnation)>) -> Result<Answer> {
        propose::propose(&self.inner, command, gateway).await
    }

    /// A state at or after every command that was answered before this call (ReadIndex, I2).
    ///
    /// Errors: `Unavailable` within 5 s.
    pub async fn read(&self) -> Result<View> {
        read::read(&self.inner).await?;
        self.local()
    }

    /// The local replica's state as it is now: possibly old, never wrong.
    pub fn local(&self) -> Result<View> {
        Ok(Arc::new(self.inner.state.view()?))
    }

    /// Commands applied here (S9).
    pub fn applied(&self) -> StateSeq {
        self.inner.machine.progress().borrow().seq
    }

    /// Waits until more commands are applied here than `seen`.
    pub async fn applied_beyond(&self, seen: StateSeq) {
        // The sender lives in `inner`; it cannot be gone.
        let _ = self.inner.machine.progress().wait_for(|progress| progress.seq > seen).await;
    }

    /// Site time, as far as this node knows.
    pub fn site_time(&self) -> SiteTime {
        self.inner.clock.now(&*self.inner.host.clock)
    }

    /// Wall-clock time for judging others: this node's own, unless a majority's clocks say another hour (C4).
    pub fn wall(&self) -> benteng_host::Wall {
        self.inner.agreed.wall(&*self.inner.host.clock)
    }

    /// By how much this node's wall clock is off from what a majority's agree on, microseconds; `None`
    /// while that is not known.
    pub fn clock_off(&self) -> Option<i64> {
        self.inner.agreed.off(&*self.inner.host.clock)
    }

    /// The leader, if one is known.
    pub fn leader(&self) -> Option<NodeId> {
        self.inner.leader()
    }

    /// Whether this node is the leader, as far as it knows.
    pub fn is_leader(&self) -> bool {
        self.leader() == Some(self.inner.me)
    }

    /// Brings the membership in step, one change after another; the leader's business.
    ///
    /// Errors: `Unavailable`, if this node is not the leader or no quorum answers.
    pub async fn set_members(
        &self,
        voters: BTreeSet<NodeId>,
        learners: BTreeSet<NodeId>,
        addresses: &BTreeMap<NodeId, String>,
    ) -> Result<()> {
        self.inner.set_members(voters, learners, addresses).await
    }

    /// Asks another voter to lead; it begins an election at once. Nothing is waited for.
    ///
    /// Errors: `Unavailable`, if Raft has stopped.
    pub async fn hand_over(&self, to: NodeId) -> Result<()> {
        let handed = self.inner.raft.trigger().transfer_leader(to).await;
        handed.map_err(|e| Error::Unavailable { waited_ms: 0, why: format!("leadership stays here: {e}") })
    }

    /// The recovery epoch that this node's requests carry (S7).
    pub fn epoch(&self) -> u64 {
        self.inner.epoch
    }

    /// Waits until this node leads, as the only voter does soon. Errors: it does not within half a minute.
    pub async fn led(&self) -> Result<()> {
        let wait = self.inner.raft.wait(Some(Duration::from_secs(30)));
        let led = wait.current_leader(self.inner.me, "the only voter leads").await;
        led.map(drop).map_err(|e| Error::Stopped(format!("the node does not come to lead: {e}")))
    }

    /// Says whether a majority of the disks is under its reserve: as the leader this node takes only commands
    /// that need no room then (O6).
    pub fn set_full(&self, full: bool) {
        self.inner.full.store(full, Ordering::Relaxed);
    }

    /// Says whether this node stands for election.
    pub fn set_standing(&self, stands: bool) {
        self.inner.raft.runtime_config().elect(stands);
    }

    /// How the group stands.
    pub fn status(&self) -> GroupStatus {
        let metrics = self.inner.raft.metrics().borrow_watched().clone();
        let membership = metrics.membership_config.membership();
        let last_log = metrics.last_log_index.unwrap_or(0);
        let behind = |matched: Option<u64>| last_log.saturating_sub(matched.unwrap_or(0));
        let lag = metrics.replication.iter().flatten();
        let (log_damaged, log_mended) = self.inner.log.damage();
        GroupStatus {
            leader: metrics.current_leader,
            term: metrics.current_term,
            last_applied: metrics.last_applied.map_or(0, |id| id.index),
            last_log,
            purged: metrics.purged.map_or(0, |id| id.index),
            voters: membership.voter_ids().collect(),
            learners: membership.learner_ids().collect(),
            lag: lag.map(|(node, matched)| (*node, behind(matched.as_ref().map(|id| id.index)))).collect(),
            stalled: self.inner.log.stalled(),
            log_bytes: self.inner.log.bytes(),
            log_damaged,
            log_mended,
            store_given_up: self.inner.state.given_up(),
        }
    }

    /// Why Raft does not run any more, if it does not: the node must be started anew.
    pub fn failed(&self) -> Option<String> {
        let metrics = self.inner.raft.metrics();
        let state = metrics.borrow_watched().running_state.clone();
        state.err().map(|e| format!("raft has stopped: {e}; start the node anew"))
    }

    /// Whether anything was ever written to the group's log here.
    pub fn has_history(&self) -> bool {
        // Of the log itself: raft's metrics say nothing before its task has run for the first time.
        !self.inner.log.is_empty()
    }

    /// Counters of the log's journal.
    pub fn log_counters(&self) -> benteng_journal::Counters {
        self.inner.log.counters()
    }

    /// Hands leadership over if held, stops Raft, makes the state durable and closes the log.
    pub async fn stop(&self) {
        if let Err(e) = self.inner.raft.shutdown().await {
            tracing::warn!(error = %e, "raft did not stop cleanly");
        }
        let tasks = std::mem::take(&mut *self.inner.tasks.lock().unwrap_or_else(PoisonError::into_inner));
        drop(tasks);
        if let Err(e) = self.inner.state.flush().await {
            tracing::warn!(error = %e, "the state was not flushed; the log is replayed at the next start");
        }
        if let Err(e) = self.inner.log.close().await {
            tracing::warn!(error = %e, "the raft log was not closed cleanly");
        }
    }
}

impl Inner {
    pub(crate) fn leader(&self) -> Option<NodeId> {
        self.raft.metrics().borrow_watched().current_leader
    }
}
