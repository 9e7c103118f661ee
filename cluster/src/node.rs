//! The wiring of a node: every floor opened in order, every door hung in its frame. The only
//! file that knows how the floors are constructed.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use benteng_host::Host;
use benteng_host::real::{self, RocksKv, RocksOptions};
use benteng_http::{HttpDoor, Readiness, Services};
use benteng_identity::Identity;
use benteng_keys::{RootKey, SiteCa};
use benteng_lake::{Lake, LakeOptions};
use benteng_meta::Doors;
use benteng_meta::ids::NodeId;
use benteng_objects::{Error, Limits, NewSite, Node as Core, NodeOptions};
use benteng_rpc::MutualTls;
use benteng_s3::{S3Door, S3Options};
use benteng_sql::PgDoor;
use tokio::task::JoinSet;

use crate::admin::{Auth, NodeAdmin, Privileged, seed};
use crate::config::Config;
use crate::formation::{self, Formation, Origin};
use crate::judge::JudgesClock;
use crate::renewal::{self, Renewal};
use crate::tls::DoorCert;

/// How long a node may take until it serves; what it waits for is logged meanwhile.
const READY_WITHIN: Duration = Duration::from_secs(80);

/// Why a node that served ends by itself.
pub(crate) enum Ended {
    /// It has failed: started again, it may serve.
    Failed(String),
    /// Another process runs as this node: started again, it would only supersede that one.
    Superseded(String),
}

/// A running node.
pub(crate) struct Node {
    core: Arc<Core>,
    s3: S3Door,
    sql: PgDoor,
    http: HttpDoor,
    doors: Doors,
    _renewal: JoinSet<()>,
}

impl Node {
    /// Opens the node and returns when it serves.
    ///
    /// Errors: damage and its remedy, ports in use, a site that cannot be reached.
    /// Cancellation: what was opened is closed as after a crash.
    pub(crate) async fn start(
        config: &Config,
        root: RootKey,
        formation: Formation,
        privileged: Privileged,
    ) -> Result<Node> {
        crate::observe::install()?;
        let host = real::host();
        let root = Arc::new(root);
        let ca = Arc::new(formation.open_ca(&root)?);
        let me = formation.node();
        // What others show is judged by the site's clocks, should this machine's be off (C4).
        let clock = JudgesClock::new(host.clock.clone());
        let judges = Host { clock: Arc::new(clock.clone()), ..host.clone() };
        let secure = secure(&formation, &ca, &judges)?;
        let certs = DoorCert::new(config, ca.clone(), me, &judges)?;
        let renewing = Renewal::new(ca, me, judges.clone(), secure.clone(), certs.clone())?;

        let mut options = core_options(config, &host, &root, me, secure, &formation)?;
        options.certificates_end = renewing.end();
        let core = Arc::new(Core::start(options).await?);
        clock.listen_to(core.group().clone());
        form(&core, &formation, config, &root).await?;
        serving(&core).await?;

        let identity = Identity::new(core.group().clone(), host.clone());
        let mut renewal = JoinSet::new();
        if matches!(privileged, Privileged::Dev) && seed::once(&identity, &root).await.is_err() {
            // The site is not there yet; whoever waits for this node waits for its quorum too.
            renewal.spawn(seed::until_done(identity.clone(), root.clone()));
        }
        let services = services(config, &host, &core, &identity, privileged, &root);
        let listen = &config.listen;
        let s3 = S3Options {
            listen: listen.s3.clone(),
            domains: config.s3.domains.clone(),
            tls: certs.server_config(config, &listen.s3),
            connections_max: connections(config),
            ..S3Options::default()
        };
        let s3 = S3Door::start(judges, core.objects(), identity.clone(), s3).await?;
        let lake = lake_options(config);
        let lake = Lake::open(&host, core.objects(), core.group().clone(), lake)
            .context("the lake does not open")?;
        let mut sql = benteng_sql::Options::new(listen.sql.clone());
        sql.tls = certs.server_config(config, &listen.sql);
        let sql = PgDoor::start(host.clone(), identity, lake, sql).await?;
        // Last: whoever finds it ready finds the other doors open.
        let http = benteng_http::Options {
            listen: listen.http.clone(),
            tls: certs.server_config(config, &listen.http),
            connections_max: connections(config),
        };
        let http = HttpDoor::start(&host, services, http).await?;

        renewal.spawn(renewing.run());
        let doors = formation::doors(config);
        Ok(Node { core, s3, sql, http, doors, _renewal: renewal })
    }

    /// The addresses under which the node is reached.
    pub(crate) fn doors(&self) -> Doors {
        self.doors.clone()
    }

    /// Waits until the node cannot or must not go on; says why.
    pub(crate) async fn failed(&self) -> Ended {
        loop {
            if let Some(why) = self.core.superseded() {
                return Ended::Superseded(why);
            }
            if let Some(why) = self.core.group().failed() {
                return Ended::Failed(why);
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }

    /// Lets requests end, closes everything durably.
    pub(crate) async fn stop(self) {
        let Node { core, s3, sql, http, .. } = self;
        tokio::join!(s3.stop(), sql.stop(), http.stop());
        core.stop().await;
    }
}

/// Makes this node the only one of its site (S7). Returns the new recovery epoch.
pub(crate) async fn recover(config: &Config, root: RootKey, formation: &Formation) -> Result<u64> {
    let host = real::host();
    let root = Arc::new(root);
    let ca = formation.open_ca(&root)?;
    let me = formation.node();
    let secure = secure(formation, &ca, &host)?;
    let options = core_options(config, &host, &root, me, secure, formation)?;
    benteng_objects::recover(options).await.context("the node cannot go on alone")
}

fn connections(config: &Config) -> usize {
    usize::try_from(config.limits.connections).unwrap_or(usize::MAX)
}

fn mib(n: u32) -> usize {
    usize::try_from(n).unwrap_or(usize::MAX).saturating_mul(1 << 20)
}

/// What the node shows to other nodes, and by which clock it judges what they show.
fn secure(formation: &Formation, ca: &SiteCa, host: &Host) -> Result<Arc<MutualTls>> {
    let (identity, _) = renewal::identity_of(ca, formation.node(), host)?;
    let secure = MutualTls::new(formation.site(), host.clock.clone(), &identity);
    Ok(Arc::new(secure.context("the node's certificate is unusable")?))
}

fn core_options(
    config: &Config,
    host: &Host,
    root: &Arc<RootKey>,
    me: NodeId,
    secure: Arc<MutualTls>,
    formation: &Formation,
) -> Result<NodeOptions> {
    let dir = config.node.data_dir.clone();
    let kv = open_kv(config, &dir)?;
    let mut options =
        NodeOptions::new(host.clone(), dir, kv, root.clone(), me, secure, config.listen.rpc.clone());
    options.doors = formation::doors(config);
    options.epoch = formation.recovery_epoch();
    if let Origin::Join { peers } = &formation.origin {
        options.peers = peers.iter().map(|(id, addr)| (NodeId(*id), addr.clone())).collect();
    }
    // Two thirds for bodies on their way in, the rest for reading ahead.
    let requests = mib(config.limits.requests_mib);
    options.limits = Limits {
        write_bytes: requests / 3 * 2,
        read_bytes: requests / 3,
        inline: usize::try_from(config.objects.inline_kib).unwrap_or(0) << 10,
        repair_rate: u64::from(config.repair.rate_mib) << 20,
        scrub: Duration::from_secs(u64::from(config.scrub.period_days) * 24 * 3600),
        scrub_rate: u64::from(config.scrub.rate_mib) << 20,
        ..Limits::default()
    };
    Ok(options)
}

fn open_kv(config: &Config, dir: &Path) -> Result<Arc<RocksKv>> {
    let options = RocksOptions {
        block_cache_bytes: mib(config.limits.kv_cache_mib),
        write_buffer_bytes: mib(config.limits.kv_write_buffer_mib),
    };
    let path = dir.join("kv");
    RocksKv::open(&path, &options).with_context(|| {
        format!("the node's state in {} does not open; if it is damaged, remove it: it is rebuilt from the log and the peers", path.display())
    })
}

/// The first node of a new site forms it, once.
async fn form(core: &Core, formation: &Formation, config: &Config, root: &RootKey) -> Result<()> {
    let Origin::Init { site_name } = &formation.origin else { return Ok(()) };
    let had_history = core.group().has_history();
    let site = NewSite {
        id: formation.site(),
        name: site_name.clone(),
        removal_delay: i64::from(config.objects.removal_delay_hours) * 3_600_000_000,
        ca: formation.ca_bytes()?.into(),
        node_name: config.node.name.clone(),
        zone: config.node.zone.clone(),
    };
    match core.init_site(site, root).await {
        Err(error @ (Error::Unavailable { .. } | Error::Unknown { .. })) if had_history => {
            // Formed in an earlier life, as a rule; the log brings the row back once there is a quorum.
            tracing::warn!(%error, "node does not know yet whether its site is formed");
            Ok(())
        }
        outcome => outcome.context("the site cannot be formed"),
    }
}

/// Waits until the node serves; says what it waits for.
async fn serving(core: &Core) -> Result<()> {
    let began = tokio::time::Instant::now();
    let mut told = tokio::time::Instant::now();
    loop {
        let why = match core.ready() {
            Ok(()) => return Ok(()),
            Err(why) => why,
        };
        if let Some(failed) = core.group().failed() {
            anyhow::bail!("{failed}");
        }
        if told.elapsed() > Duration::from_secs(5) {
            told = tokio::time::Instant::now();
            tracing::warn!(%why, "node waits for its site");
        }
        if began.elapsed() > READY_WITHIN {
            // It goes on waiting behind open doors: health/ready says why.
            tracing::warn!(%why, "node opens its doors although its site is not there yet");
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn services(
    config: &Config,
    host: &Host,
    core: &Arc<Core>,
    identity: &Identity,
    privileged: Privileged,
    root: &RootKey,
) -> Services {
    let ready = core.clone();
    let ready = Arc::new(move || match ready.ready() {
        Ok(()) => Readiness::Ready,
        Err(why) => Readiness::NotReady(why.to_string()),
    });
    let admin =
        NodeAdmin { me: core.me(), group: core.group().clone(), objects: core.objects(), host: host.clone() };
    Services {
        admin: Arc::new(admin),
        auth: Arc::new(Auth::new(identity.clone(), privileged, root)),
        objects: core.objects(),
        identity: identity.clone(),
        ready,
        metrics: crate::observe::render(),
        metrics_open: config.metrics.open,
    }
}

fn lake_options(config: &Config) -> LakeOptions {
    let mut options = LakeOptions::small(config.node.data_dir.join("spill"));
    options.memory = mib(config.limits.sql_mib);
    options.query_memory = options.memory / 2;
    options
}
