//! `benteng bench commit`: how many commands this machine's disks commit, without doors and bodies.
//!
//! A group of three nodes in this process, each with a runtime, a journal, a state and mutual TLS of its
//! own, in a directory that is removed afterwards. The command is the commit of an object of a few bytes:
//! real rows, real `apply`, an fsync on a majority before each answer.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use benteng_consensus::{Group, GroupOptions};
use benteng_host::real::{self, RocksKv, RocksOptions};
use benteng_host::{Fut, Host, Wall, random_array};
use benteng_keys::{RootKey, SiteCa, Validity};
use benteng_meta::ids::*;
use benteng_meta::{
    Answer, Command, Condition, Described, Doors, ETag, NewBody, NodeRow, NodeState, PutObject, SiteRow,
};
use benteng_rpc::{
    Inbound, Lane, Limits, MutualTls, Outbound, Refusal, Reply, Request, Rpc, Server, Service, TlsIdentity,
};
use bytes::Bytes;
use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;
use uuid::Uuid;

use super::histogram::Histogram;
use super::report::{Commits, print_commits};
use crate::cli::Global;

/// What to measure.
#[derive(clap::Args, Clone)]
pub(crate) struct CommitArgs {
    /// Where the three nodes keep their data meanwhile; on the disks that are to be measured.
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub(crate) dir: PathBuf,
    /// Commands in flight.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub(crate) concurrency: u32,
    /// How long.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) seconds: u64,
    /// Bytes of the object that each command commits.
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u32).range(0..=8192))]
    pub(crate) bytes: u32,
    /// Propose at the leader alone, rather than at all nodes in turn.
    #[arg(long)]
    pub(crate) leader_only: bool,
}

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

/// One node: openraft finds its host by the runtime, so each has one.
struct Member {
    id: NodeId,
    host: Host,
    group: Group,
    _rpc: Arc<Rpc>,
    _server: Server,
    runtime: OneThread,
}

/// A runtime of one thread, as a node has that shares its machine.
struct OneThread {
    handle: Handle,
    /// Dropped: the thread ends.
    stop: oneshot::Sender<()>,
    thread: std::thread::JoinHandle<()>,
}

impl OneThread {
    fn start(name: String) -> Result<OneThread> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel::<()>();
        let serve = move || {
            // It never sends: that the other side is gone is the news.
            let _ = runtime.block_on(stopped);
            runtime.shutdown_timeout(Duration::from_secs(10));
        };
        let thread = std::thread::Builder::new().name(name).spawn(serve)?;
        Ok(OneThread { handle, stop, thread })
    }

    /// Runs a future there and waits for it here.
    fn run<T: Send + 'static>(&self, future: impl Future<Output = T> + Send + 'static) -> Result<T> {
        futures::executor::block_on(self.handle.spawn(future)).context("a task of the bench broke down")
    }

    fn end(self) -> Result<()> {
        drop(self.stop);
        self.thread.join().map_err(|_| anyhow::anyhow!("a node of the bench broke down"))
    }
}

const NODES: u64 = 3;

pub(crate) async fn run(global: &Global, args: CommitArgs) -> Result<()> {
    let output = global.output;
    // Runtimes within a runtime end badly; all of this blocks anyway.
    let line =
        tokio::task::spawn_blocking(move || measure(&args)).await.context("the bench broke down")??;
    print_commits(output, &line)
}

fn measure(args: &CommitArgs) -> Result<Commits> {
    let dir = scratch(&args.dir)?;
    let measured = measure_in(&dir, args);
    std::fs::remove_dir_all(&dir).with_context(|| format!("cannot remove {}", dir.display()))?;
    measured
}

fn scratch(parent: &Path) -> Result<PathBuf> {
    let dir = parent.join(format!("benteng-bench-{}", std::process::id()));
    std::fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
    Ok(dir)
}

fn measure_in(dir: &Path, args: &CommitArgs) -> Result<Commits> {
    let host = real::host();
    let root = Arc::new(RootKey::generate(&*host.random));
    let site = SiteId::from_random(random_array(&*host.random));
    let (ca, _) = SiteCa::generate(&root, site, host.clock.wall(), &*host.random)?;
    let addresses: BTreeMap<NodeId, String> =
        (1..=NODES).map(|n| Ok((NodeId(n), format!("127.0.0.1:{}", free_port()?)))).collect::<Result<_>>()?;
    let members: Vec<Member> =
        addresses.keys().map(|id| start(*id, dir, &root, site, &ca, &addresses)).collect::<Result<_>>()?;
    let measured = form(&members, &addresses).and_then(|bucket| load(&members, bucket, args));
    for member in members {
        let group = member.group.clone();
        member.runtime.run(async move { group.stop().await })?;
        member.runtime.end()?;
    }
    measured
}

fn free_port() -> Result<u16> {
    Ok(std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

fn identity(ca: &SiteCa, me: NodeId, host: &Host) -> Result<TlsIdentity> {
    let now = host.clock.wall().0;
    let validity = Validity { from: Wall(now - 3_600_000_000), until: Wall(now + 86_400_000_000) };
    let issued = ca.issue(me, &[], validity, host.random.as_ref())?;
    Ok(TlsIdentity {
        ca_der: vec![ca.cert_der().to_vec()],
        cert_der: issued.cert_der.clone(),
        key_der: issued.key_der.to_vec(),
    })
}

fn start(
    id: NodeId,
    dir: &Path,
    root: &Arc<RootKey>,
    site: SiteId,
    ca: &SiteCa,
    addresses: &BTreeMap<NodeId, String>,
) -> Result<Member> {
    let runtime = OneThread::start(format!("node-{id}"))?;
    // A host's tasks run on the runtime that it is made on.
    let host = runtime.run(async { real::host() })?;
    let secure = Arc::new(MutualTls::new(site, host.clock.clone(), &identity(ca, id, &host)?)?);
    let machine = host.clone();
    let (dir, root, addresses) = (dir.join(format!("node-{id}")), root.clone(), addresses.clone());
    let (group, rpc, server) = runtime.run(async move {
        host.disk.create_dir_all(&dir).await?;
        let late = Arc::new(Late::default());
        let rpc = Rpc::new(host.clone(), id, secure, late.clone(), Limits::default());
        for (peer, address) in addresses.iter().filter(|(peer, _)| **peer != id) {
            rpc.set_peer(*peer, address.clone());
        }
        let server = rpc.listen(&addresses[&id]).await?;
        let kv = RocksKv::open(&dir.join("kv"), &RocksOptions::default())?;
        let store = StoreId(Uuid::from_u128(u128::from(id.0)));
        let group =
            Group::start(GroupOptions::new(host, dir.join("raft"), kv, root, store, rpc.clone())).await?;
        // Set once, here.
        let _ = late.0.set(group.service());
        Ok::<_, anyhow::Error>((group, rpc, server))
    })??;
    Ok(Member { id, host: machine, group, _rpc: rpc, _server: server, runtime })
}

/// Forms group and site, and a bucket in it.
fn form(members: &[Member], addresses: &BTreeMap<NodeId, String>) -> Result<BucketId> {
    let Some(first) = members.first() else { bail!("no nodes") };
    let (group, addresses) = (first.group.clone(), addresses.clone());
    let bucket = BucketId(Uuid::from_u128(7));
    let forming = async move {
        group.initialize(&addresses[&NodeId(1)]).await?;
        group.propose(init_site(), None).await?;
        let voters: BTreeSet<NodeId> = addresses.keys().copied().collect();
        group.set_members(voters, BTreeSet::new(), &addresses).await?;
        let (name, owner) = ("bench".to_owned(), "bench".to_owned());
        let key = Bytes::from_static(&[0; 60]);
        group
            .propose(Command::CreateBucket { name, id: bucket, owner, key, kek: KekVersion(1) }, None)
            .await?;
        Ok::<_, benteng_consensus::Error>(())
    };
    first.runtime.run(forming)??;
    Ok(bucket)
}

fn init_site() -> Command {
    let site = SiteRow {
        id: SiteId(Uuid::from_u128(1)),
        name: "bench".into(),
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
        zone: String::new(),
        doors: Doors::default(),
        store: StoreId(Uuid::from_u128(1)),
        state: NodeState::Active,
        joined: SiteTime(0),
    };
    Command::InitSite { site, kek: Bytes::from_static(b"kek"), node }
}

fn put(bucket: BucketId, number: u64, client: u32, body: &Bytes, host: &Host) -> Command {
    Command::PutObject(Box::new(PutObject {
        bucket,
        key: format!("{:02x}/{client:04}-{number:09}", number % 256),
        blob: BlobId::from_random(random_array(&*host.random)),
        condition: Condition::default(),
        dek: Bytes::from_static(&[0; 60]),
        kek: KekVersion(1),
        etag: ETag { md5: [7; 16], parts: None },
        size: body.len() as u64,
        checksum: None,
        described: Described::default(),
        body: NewBody::Inline(body.clone()),
    }))
}

fn load(members: &[Member], bucket: BucketId, args: &CommitArgs) -> Result<Commits> {
    let leader = members.iter().find(|member| member.group.is_leader()).map(|member| member.id);
    let at: Vec<&Member> =
        members.iter().filter(|member| !args.leader_only || Some(member.id) == leader).collect();
    // Random: what compresses flatters the flush.
    let mut body = vec![0; usize::try_from(args.bytes)?];
    if let Some(member) = members.first() {
        member.host.random.fill(&mut body);
    }
    let body = Bytes::from(body);
    let synced = |members: &[Member]| -> Vec<u64> {
        members.iter().map(|member| member.group.log_counters().syncs).collect()
    };
    let (begun, before) = (Instant::now(), synced(members));
    let until = begun + Duration::from_secs(args.seconds);
    let mut clients = Vec::new();
    for (client, member) in (0..args.concurrency).zip(at.iter().cycle()) {
        let (group, body, host) = (member.group.clone(), body.clone(), member.host.clone());
        clients.push(member.runtime.handle.spawn(async move {
            let (mut took, mut done) = (Histogram::default(), 0);
            while Instant::now() < until {
                let asked = Instant::now();
                match group.propose(put(bucket, done, client, &body, &host), None).await? {
                    Answer::Committed(_) => {}
                    other => bail!("the commit answered {other:?}"),
                }
                took.record(asked.elapsed());
                done += 1;
            }
            Ok((took, done))
        }));
    }
    let mut line = Commits::new(args);
    for client in clients {
        let (took, done) = futures::executor::block_on(client)??;
        line.add(&took, done);
    }
    let syncs = synced(members).iter().zip(before).map(|(now, before)| now - before).sum::<u64>();
    line.finish(begun.elapsed(), syncs);
    Ok(line)
}
