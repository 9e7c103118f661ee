//! How a node comes to be one: `init` forms a site, `join` enters one. Both leave a file in the
//! data directory that says who the node is; `server` starts from it.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use benteng_host::{Host, random_array};
use benteng_http::api::{JoinAnswer, JoinRequest};
use benteng_keys::{RootKey, SiteCa, StoredCa};
use benteng_meta::Doors;
use benteng_meta::ids::{NodeId, SiteId};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::client::Client;
use crate::config::Config;
use crate::files::{Readers, create_private_dir, write_atomic};

const FORMAT: u32 = 1;

/// Who a node is: written once, never changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Formation {
    format: u32,
    /// The site.
    pub(crate) site: Uuid,
    /// This node's id in it.
    pub(crate) node: u64,
    /// How it came to be.
    pub(crate) origin: Origin,
    /// The site's certificate authority, hex of its stored form; its key is under the root key.
    ca: String,
    /// Key-check value of the root key, hex.
    root_check: String,
    /// The site's recovery epoch when this was written (S7); the state knows a newer one.
    #[serde(default)]
    recovery_epoch: u64,
}

/// How a node came to be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Origin {
    /// It forms the site, as its first node, when it first starts.
    Init {
        /// Name of the site.
        site_name: String,
    },
    /// It was let in; these nodes were members then: id and node-to-node address.
    Join {
        /// The members.
        peers: Vec<(u64, String)>,
    },
}

impl Formation {
    fn path(config: &Config) -> PathBuf {
        config.node.data_dir.join("node.json")
    }

    /// Who the node of this configuration is; `None` before `init` and `join`.
    pub(crate) fn load(config: &Config) -> Result<Option<Formation>> {
        Formation::load_from(&Formation::path(config))
    }

    /// As [`Formation::load`], for a data directory.
    pub(crate) fn load_dir(data_dir: &Path) -> Result<Option<Formation>> {
        Formation::load_from(&data_dir.join("node.json"))
    }

    fn load_from(path: &Path) -> Result<Option<Formation>> {
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(e).with_context(|| format!("cannot read {}", path.display())),
        };
        let found: Formation = serde_json::from_str(&text).with_context(|| {
            format!(
                "{} is damaged; restore it, or replace the node (`benteng node add --replace`)",
                path.display()
            )
        })?;
        if found.format != FORMAT {
            bail!(
                "{} has format {}, this build reads {FORMAT}; upgrade this node",
                path.display(),
                found.format
            );
        }
        Ok(Some(found))
    }

    /// Keeps it, and beside it the authority's certificate, by which clients know the site.
    fn save(&self, config: &Config, root: &RootKey) -> Result<()> {
        let ca = self.open_ca(root)?;
        write_atomic(&ca_file(config), ca.cert_pem().as_bytes(), Readers::Owner)?;
        let text = serde_json::to_string_pretty(self)?;
        write_atomic(&Formation::path(config), text.as_bytes(), Readers::Owner)
    }

    /// The recovery epoch that the node knows without a state.
    pub(crate) fn recovery_epoch(&self) -> u64 {
        self.recovery_epoch
    }

    /// Keeps the epoch of a recovery of which this node is the survivor.
    pub(crate) fn keep_epoch(mut self, config: &Config, root: &RootKey, epoch: u64) -> Result<()> {
        self.recovery_epoch = epoch;
        self.save(config, root)
    }

    /// The node's id.
    pub(crate) fn node(&self) -> NodeId {
        NodeId(self.node)
    }

    /// The site's id.
    pub(crate) fn site(&self) -> SiteId {
        SiteId(self.site)
    }

    /// The stored form of the certificate authority, as it stands in the site's row.
    pub(crate) fn ca_bytes(&self) -> Result<Vec<u8>> {
        hex::decode(&self.ca).context("node.json holds a certificate authority that is not hex")
    }

    /// Opens the certificate authority. Fails under another root key than the site's.
    pub(crate) fn open_ca(&self, root: &RootKey) -> Result<SiteCa> {
        let stored: StoredCa = postcard::from_bytes(&self.ca_bytes()?)
            .context("node.json holds a certificate authority that does not parse")?;
        SiteCa::open(root, &stored)
            .context("the site's certificate authority does not open; is this the site's root key?")
    }

    /// Whether `root` is the root key of this site, said in words for the operator.
    pub(crate) fn check_root(&self, root: &RootKey) -> Result<()> {
        if hex::encode(root.check_value()) != self.root_check {
            bail!(
                "this is not the root key of site {}; restore the right key file, nothing was changed",
                self.site
            );
        }
        Ok(())
    }
}

/// The addresses under which this node is reached.
pub(crate) fn doors(config: &Config) -> Doors {
    let listen = &config.listen;
    Doors {
        rpc: config.advertised(&listen.rpc),
        s3: config.advertised(&listen.s3),
        http: config.advertised(&listen.http),
        sql: config.advertised(&listen.sql),
        flight: config.advertised(&listen.flight),
    }
}

fn refuse_formed(config: &Config) -> Result<()> {
    if let Some(found) = Formation::load(config)? {
        bail!(
            "{} is node {} of site {} already; start it with `benteng server`, or choose another node.data_dir",
            config.node.data_dir.display(),
            found.node,
            found.site
        );
    }
    create_private_dir(&config.node.data_dir)
}

/// Prepares the first node of a new site. The site is formed when the node first starts.
pub(crate) fn init(config: &Config, root: &RootKey, host: &Host) -> Result<Formation> {
    refuse_formed(config)?;
    let random = host.random.as_ref();
    let site = SiteId::from_random(random_array(random));
    let (_, ca) = SiteCa::generate(root, site, host.clock.wall(), random)
        .context("cannot make the site's authority")?;
    let formation = Formation {
        format: FORMAT,
        site: site.0,
        node: 1,
        origin: Origin::Init { site_name: config.site.name.clone() },
        ca: hex::encode(postcard::to_stdvec(&ca).context("cannot encode the site's authority")?),
        root_check: hex::encode(root.check_value()),
        recovery_epoch: 0,
    };
    formation.save(config, root)?;
    Ok(formation)
}

/// Where the certificate of the site's authority is found, PEM.
pub(crate) fn ca_file(config: &Config) -> PathBuf {
    config.node.data_dir.join("ca.pem")
}

/// Asks a site to let this node in. The token is used up by a success; the node starts with `server`.
pub(crate) async fn join(
    config: &Config,
    root: &RootKey,
    client: &Client,
    token: &str,
    replaces: Option<u64>,
) -> Result<Formation> {
    refuse_formed(config)?;
    let doors = doors(config);
    let root_check = hex::encode(root.check_value());
    let request = JoinRequest {
        token: token.to_owned(),
        name: config.node.name.clone(),
        zone: config.node.zone.clone(),
        rpc: doors.rpc,
        s3: doors.s3,
        http: doors.http,
        sql: doors.sql,
        flight: doors.flight,
        root_check: root_check.clone(),
        replaces,
    };
    let answer: JoinAnswer =
        client.post(&["join"], &request).await.context("the site does not let this node in")?;
    let formation = Formation {
        format: FORMAT,
        site: Uuid::try_parse(&answer.site).context("the site answers with an id that is none")?,
        node: answer.node,
        origin: Origin::Join { peers: answer.peers.into_iter().map(|peer| (peer.node, peer.rpc)).collect() },
        ca: answer.ca,
        root_check,
        recovery_epoch: answer.recovery_epoch,
    };
    // What the site sent must open under our key before it is kept.
    formation.save(config, root)?;
    Ok(formation)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn node_json_is_written_as_ever_and_every_kept_one_is_read() {
        let formation = |origin| Formation {
            format: FORMAT,
            site: Uuid::from_u128(0x517e),
            node: 2,
            origin,
            ca: "ca".into(),
            root_check: "0c".into(),
            recovery_epoch: 1,
        };
        let written = |formation: &Formation| serde_json::to_vec_pretty(formation).expect("it is JSON");
        let peers = vec![(1, "10.0.0.1:7404".to_owned())];
        let samples = [
            ("init".to_owned(), written(&formation(Origin::Init { site_name: "kota".into() }))),
            ("join".to_owned(), written(&formation(Origin::Join { peers }))),
        ];
        benteng_host::golden::hold("node", 1, &samples, &|_, bytes| {
            serde_json::from_slice(bytes).map(|read| written(&read)).map_err(|e| e.to_string())
        });
    }

    #[tokio::test]
    async fn init_is_remembered_and_never_repeated() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let mut config = crate::config::parse("", &[]).expect("defaults are a configuration");
        config.node.data_dir = dir.path().join("node");
        let host = benteng_host::real::host();
        let root = RootKey::generate(host.random.as_ref());
        let other = RootKey::generate(host.random.as_ref());

        assert_eq!(Formation::load(&config).expect("nothing there yet"), None);
        let formed = init(&config, &root, &host).expect("first init");
        assert_eq!(Formation::load(&config).expect("it is there"), Some(formed.clone()));
        let again = init(&config, &root, &host).expect_err("a second init would forget the first");
        assert!(again.to_string().contains("already"), "{again}");

        assert!(formed.open_ca(&root).is_ok() && formed.check_root(&root).is_ok());
        assert!(formed.open_ca(&other).is_err() && formed.check_root(&other).is_err());
        std::fs::write(Formation::path(&config), "{}").expect("damage");
        assert!(Formation::load(&config).is_err(), "damage is said, not taken for a new node");
    }
}
