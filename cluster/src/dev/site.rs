//! The directory of a development site: root key, configurations, formation, and its nodes.

use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use benteng_host::{Host, real};
use benteng_http::api::{NewToken, NodeStatus, SiteStatus, TokenRequest};
use benteng_keys::RootKey;
use futures::future::join_all;
use toml::{Table, Value};

use super::child::Child;
use super::control;
use super::endpoints::{self, Endpoint};
use super::ports::{self, Ports};
use crate::admin::Privileged;
use crate::client::{Client, Login};
use crate::config;
use crate::files::{Readers, create_private_dir, write_atomic};
use crate::formation::{self, Formation};
use crate::output::table;
use crate::unseal;

/// A node that does not serve by then has a reason that its log tells.
pub(super) const READY_WITHIN: Duration = Duration::from_secs(75);
/// How long the site may take to keep all of its copies.
const GROWN_WITHIN: Duration = Duration::from_secs(30);
const LOOK_EVERY: Duration = Duration::from_millis(50);
pub(super) const LOCALHOST: &str = "127.0.0.1";

/// One node of the site.
struct Slot {
    ports: Ports,
    child: Option<Child>,
    /// Its last process id, kept when it has ended.
    pid: u32,
    /// Its last node id, kept while its directory is empty.
    id: Option<u64>,
}

/// A development site.
pub(super) struct Site {
    dir: PathBuf,
    root: RootKey,
    host: Host,
    slots: Vec<Slot>,
}

impl Site {
    /// Opens or lays out a site in `dir`.
    ///
    /// Errors: fewer nodes than the site has; ports in use; an unreadable root key.
    pub(super) fn open(dir: &Path, nodes: Option<u8>, base_port: u16) -> Result<Site> {
        let host = real::host();
        let there = (1..=9_u8).filter(|index| node_dir(dir, *index).exists()).max();
        let nodes = match (nodes, there) {
            (Some(asked), Some(there)) if asked < there => {
                bail!("the site in {} has {there} nodes; give --nodes {there}, or none at all", dir.display())
            }
            (asked, there) => asked.or(there).unwrap_or(1),
        };
        let key_file = dir.join("root.key");
        let root = if key_file.exists() {
            unseal::read_key_file(&key_file)?
        } else if there.is_some() {
            bail!(
                "{} is missing, without it nothing in {} can be read; restore it",
                key_file.display(),
                dir.display()
            );
        } else {
            let root = RootKey::generate(host.random.as_ref());
            unseal::write_key_file(&key_file, &root)?;
            root
        };
        let ports = ports::allocate(&dir.join("ports.json"), nodes, base_port)?;
        let slots = ports.into_iter().map(|ports| Slot { ports, child: None, pid: 0, id: None }).collect();
        let site = Site { dir: dir.to_owned(), root, host, slots };
        for index in site.indices() {
            create_private_dir(&node_dir(&site.dir, index))?;
            site.write_config(index)?;
        }
        control::clear(&site.dir);
        // Whoever waits for it must not take an old one for ready.
        match std::fs::remove_file(site.endpoints_file()) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                Err(e).context("cannot remove an old endpoints.env")
            }
            _ => Ok(site),
        }
    }

    /// Where the site lives.
    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    /// The root key.
    pub(super) fn root(&self) -> &RootKey {
        &self.root
    }

    /// Ports of the first node.
    pub(super) fn first(&self) -> Ports {
        self.slots[0].ports
    }

    fn indices(&self) -> impl Iterator<Item = u8> + use<> {
        1..=u8::try_from(self.slots.len()).unwrap_or(u8::MAX)
    }

    fn endpoints_file(&self) -> PathBuf {
        self.dir.join("endpoints.env")
    }

    fn config_file(&self, index: u8) -> PathBuf {
        self.dir.join(format!("node-{index}.toml"))
    }

    fn slot(&mut self, index: u8) -> Result<&mut Slot> {
        let count = self.slots.len();
        let slot = usize::from(index).checked_sub(1).and_then(|at| self.slots.get_mut(at));
        slot.with_context(|| format!("there is no node {index}; the site has {count}"))
    }

    /// The nodes share this machine: more threads than cores only take turns.
    fn workers(&self) -> i64 {
        let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
        i64::try_from(cores / self.slots.len().max(1)).map_or(1, |share| share.clamp(1, 16))
    }

    /// The configuration of a node: what differs from the defaults.
    fn write_config(&self, index: u8) -> Result<()> {
        let ports = self.slots[usize::from(index) - 1].ports;
        let at = |port: u16| Value::from(format!("{LOCALHOST}:{port}"));
        let text = |path: &Path| Value::from(path.display().to_string());
        let section = |keys: Vec<(&str, Value)>| {
            Value::Table(keys.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
        };
        let file = Table::from_iter([
            (
                "node".to_owned(),
                section(vec![
                    ("name", Value::from(format!("node-{index}"))),
                    ("zone", Value::from(format!("zone-{index}"))),
                    ("data_dir", text(&node_dir(&self.dir, index))),
                ]),
            ),
            ("site".to_owned(), section(vec![("name", Value::from("dev"))])),
            (
                "listen".to_owned(),
                section(vec![
                    ("s3", at(ports.s3)),
                    ("http", at(ports.http)),
                    ("sql", at(ports.sql)),
                    ("flight", at(ports.flight)),
                    ("rpc", at(ports.rpc)),
                ]),
            ),
            ("keys".to_owned(), section(vec![("root_key_file", text(&self.dir.join("root.key")))])),
            ("limits".to_owned(), section(vec![("workers", Value::from(self.workers()))])),
            ("metrics".to_owned(), section(vec![("open", Value::from(true))])),
        ]);
        let text = format!("# Written by `benteng dev` at each start.\n{}", toml::to_string(&file)?);
        write_atomic(&self.config_file(index), text.as_bytes(), Readers::Owner)
    }

    /// Forms what is not formed, starts every node, and returns when all serve and `endpoints.env` is written.
    pub(super) async fn start(&mut self) -> Result<()> {
        let mut formed = Vec::new();
        for index in self.indices() {
            if Formation::load_dir(&node_dir(&self.dir, index))?.is_some() {
                formed.push(index);
            }
        }
        if formed.is_empty() {
            let config = config::load(Some(&self.config_file(1)))?;
            formation::init(&config, &self.root, &self.host)?;
            formed.push(1);
        }
        for index in &formed {
            self.spawn(*index)?;
        }
        self.wait_ready(&formed).await?;
        for index in self.indices() {
            if !formed.contains(&index) {
                let via = self.another_that_serves(index).await?;
                self.join(index, &via.context("no other node serves any more")?).await?;
                self.spawn(index)?;
                self.wait_ready(&[index]).await?;
                formed.push(index);
            }
        }
        self.wait_grown().await;
        self.write_endpoints()
    }

    /// Waits until the site keeps as many copies as it has nodes for: a write that is acknowledged
    /// before would survive less than it says. A site with a node that stays behind serves all the same.
    async fn wait_grown(&self) {
        let wanted = self.slots.len().min(3);
        let until = Instant::now() + GROWN_WITHIN;
        while Instant::now() < until {
            let status: Option<SiteStatus> = match self.client(1) {
                Ok(client) => client.get(&["site", "status"], &[]).await.ok(),
                Err(_) => None,
            };
            let grown = |s: SiteStatus| usize::from(s.copies) >= wanted && s.groups_moving == 0;
            if status.is_some_and(grown) {
                return;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        tracing::warn!("the site does not keep all of its copies yet; see `benteng site status`");
    }

    /// Starts a node again, without waiting until it serves. A node that runs is stopped before.
    /// On an emptied directory nothing starts yet: [`Site::comes_up`] lets a replacement join.
    pub(super) async fn begin_restart(&mut self, index: u8) -> Result<()> {
        if let Some(running) = self.slot(index)?.child.take() {
            running.stop().await;
        }
        create_private_dir(&node_dir(&self.dir, index))?;
        if Formation::load_dir(&node_dir(&self.dir, index))?.is_some() {
            self.spawn(index)?;
        }
        Ok(())
    }

    /// Goes on with a node that was begun: whether it serves by now. A replacement joins, under a
    /// new id, as soon as another node serves that can let it in.
    ///
    /// Errors: as [`Site::is_ready`]; the join was refused.
    pub(super) async fn comes_up(&mut self, index: u8) -> Result<bool> {
        let formed = Formation::load_dir(&node_dir(&self.dir, index))?.is_some();
        if self.slot(index)?.child.is_some() || formed {
            return self.is_ready(index).await;
        }
        let Some(via) = self.another_that_serves(index).await? else { return Ok(false) };
        self.join(index, &via).await?;
        self.spawn(index)?;
        Ok(false)
    }

    /// Whether a node serves.
    ///
    /// Errors: it is not running, or has ended; [`Site::newly_dead`] still tells of it.
    pub(super) async fn is_ready(&mut self, index: u8) -> Result<bool> {
        let Some(child) = &mut self.slot(index)?.child else {
            bail!("node {index} ended before it served; its log above says why");
        };
        if let Some(status) = child.ended()? {
            bail!("node {index} ended before it served ({status}); its log above says why");
        }
        Ok(self.client(index)?.is_ready().await)
    }

    /// Nodes that have ended since the last look.
    pub(super) fn newly_dead(&mut self) -> Result<Vec<u8>> {
        let mut dead = Vec::new();
        for index in self.indices() {
            let slot = self.slot(index)?;
            let ended = match &mut slot.child {
                Some(child) => child.ended()?,
                None => None,
            };
            if ended.is_some() {
                slot.child = None;
                dead.push(index);
            }
        }
        Ok(dead)
    }

    /// Stops every node, all at once.
    pub(super) async fn stop(&mut self) {
        control::clear(&self.dir);
        let running: Vec<Child> = self.slots.iter_mut().filter_map(|slot| slot.child.take()).collect();
        join_all(running.into_iter().map(Child::stop)).await;
    }

    fn spawn(&mut self, index: u8) -> Result<()> {
        let config = self.config_file(index);
        let slot = self.slot(index)?;
        let child = Child::start(&config)?;
        slot.pid = child.pid();
        slot.child = Some(child);
        Ok(())
    }

    /// The admin API of a node, as the administrator.
    pub(super) fn client(&self, index: u8) -> Result<Client> {
        let slot = self.slots.get(usize::from(index) - 1).context("no such node")?;
        Client::new(
            &http_url(slot.ports),
            Some(Login::Token(Privileged::Dev.token(&self.root).to_string())),
            None,
        )
    }

    async fn wait_ready(&mut self, indices: &[u8]) -> Result<()> {
        let until = Instant::now() + READY_WITHIN;
        for index in indices {
            while !self.is_ready(*index).await? {
                if Instant::now() > until {
                    bail!(
                        "node {index} does not serve after {} s; its log above says why",
                        READY_WITHIN.as_secs()
                    );
                }
                tokio::time::sleep(LOOK_EVERY).await;
            }
        }
        Ok(())
    }

    /// The admin API of any other node that serves.
    async fn another_that_serves(&self, index: u8) -> Result<Option<Client>> {
        for other in self.indices().filter(|other| *other != index) {
            let client = self.client(other)?;
            if client.is_ready().await {
                return Ok(Some(client));
            }
        }
        Ok(None)
    }

    /// Lets a node in through another. A member of its name is replaced: its directory is empty.
    async fn join(&self, index: u8, via: &Client) -> Result<()> {
        let name = format!("node-{index}");
        let members: Vec<NodeStatus> = via.get(&["nodes"], &[]).await?;
        let replaces =
            members.iter().find(|node| node.name == name && node.state != "removed").map(|node| node.id);
        if let Some(old) = replaces {
            tracing::info!(node = index, replaces = old, "the directory is empty: a replacement joins");
        }
        let token: NewToken =
            via.post(&["tokens"], &TokenRequest { valid_seconds: Some(600), replaces }).await?;
        let config = config::load(Some(&self.config_file(index)))?;
        formation::join(&config, &self.root, via, &token.token, replaces).await?;
        Ok(())
    }

    /// Writes `endpoints.env` with what is true now.
    pub(super) fn write_endpoints(&mut self) -> Result<()> {
        let mut nodes = Vec::new();
        for (index, slot) in (1_u8..).zip(&mut self.slots) {
            let dir = node_dir(&self.dir, index);
            if let Some(formation) = Formation::load_dir(&dir)? {
                slot.id = Some(formation.node);
            }
            let id = slot.id.with_context(|| format!("node {index} has lost its node.json"))?;
            nodes.push(Endpoint { id, pid: slot.pid, ports: slot.ports, dir });
        }
        let text = endpoints::text(&self.root, &nodes);
        write_atomic(&self.endpoints_file(), text.as_bytes(), Readers::Owner)
    }

    /// What a person needs to begin.
    pub(super) fn summary(&self) -> String {
        let rows = self.indices().zip(&self.slots).map(|(index, slot)| {
            let ports = slot.ports;
            vec![
                format!("node-{index}"),
                format!("http://{LOCALHOST}:{}", ports.s3),
                http_url(ports),
                format!("{LOCALHOST}:{}", ports.sql),
                slot.pid.to_string(),
            ]
        });
        let nodes = table(&["node", "S3", "HTTP", "SQL", "pid"], &rows.collect::<Vec<_>>());
        let file = self.endpoints_file();
        let file = file.display();
        format!(
            "\n{nodes}\ncredentials and addresses: {file}\n  set -a; . {file}; set +a\n  \
             aws s3 mb s3://contoh        psql -c 'SELECT * FROM system.nodes'        benteng site status\n\n"
        )
    }
}

/// The directory of a node.
fn node_dir(dir: &Path, index: u8) -> PathBuf {
    dir.join(format!("node-{index}"))
}

pub(super) fn http_url(ports: Ports) -> String {
    format!("http://{LOCALHOST}:{}", ports.http)
}
