//! The configuration of a node: one TOML file, every key documented, every key overridden by
//! `BENTENG_SECTION__KEY`. An unknown key is an error that names the nearest known one.

mod load; // files and environment into a Config
mod schema; // every key: its kind, default and documentation

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

pub(crate) use load::load;
#[cfg_attr(not(test), allow(unused_imports, reason = "the fuzzer in tests/fuzz takes this module in"))]
pub(crate) use load::parse;
pub(crate) use schema::commented_defaults;

/// A whole configuration. `schema` holds what each key means; a test holds both equal.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    pub(crate) node: NodeSection,
    pub(crate) site: SiteSection,
    pub(crate) listen: ListenSection,
    pub(crate) advertise: AdvertiseSection,
    pub(crate) keys: KeysSection,
    pub(crate) tls: TlsSection,
    pub(crate) s3: S3Section,
    pub(crate) limits: LimitsSection,
    pub(crate) objects: ObjectsSection,
    pub(crate) repair: RepairSection,
    pub(crate) scrub: ScrubSection,
    pub(crate) metrics: MetricsSection,
    pub(crate) log: LogSection,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct NodeSection {
    pub(crate) name: String,
    pub(crate) zone: String,
    pub(crate) data_dir: PathBuf,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SiteSection {
    pub(crate) name: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ListenSection {
    pub(crate) s3: String,
    pub(crate) http: String,
    pub(crate) sql: String,
    pub(crate) flight: String,
    pub(crate) rpc: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct AdvertiseSection {
    pub(crate) host: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct KeysSection {
    pub(crate) root_key_file: PathBuf,
    pub(crate) sealed_root_file: PathBuf,
    pub(crate) passphrase_file: PathBuf,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TlsSection {
    pub(crate) cert_file: PathBuf,
    pub(crate) key_file: PathBuf,
    pub(crate) loopback: bool,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct S3Section {
    pub(crate) domains: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct LimitsSection {
    pub(crate) workers: u32,
    pub(crate) kv_cache_mib: u32,
    pub(crate) kv_write_buffer_mib: u32,
    pub(crate) requests_mib: u32,
    pub(crate) sql_mib: u32,
    pub(crate) connections: u32,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ObjectsSection {
    pub(crate) inline_kib: u32,
    pub(crate) removal_delay_hours: u32,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RepairSection {
    pub(crate) rate_mib: u32,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ScrubSection {
    pub(crate) period_days: u32,
    pub(crate) rate_mib: u32,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct MetricsSection {
    pub(crate) open: bool,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct LogSection {
    pub(crate) filter: String,
    pub(crate) format: LogFormat,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LogFormat {
    /// For people on a terminal, JSON otherwise.
    Auto,
    /// For people.
    Human,
    /// One JSON object per line.
    Json,
}

impl Config {
    /// Whether the door that listens on `listen` speaks TLS: always where others reach it.
    pub(crate) fn speaks_tls(&self, listen: &str) -> bool {
        self.tls.loopback || !is_loopback(listen)
    }

    /// The address under which other nodes and clients reach the door that listens on `listen`.
    pub(crate) fn advertised(&self, listen: &str) -> String {
        let port = listen.rsplit_once(':').map_or("", |(_, port)| port);
        match self.advertise.host.as_str() {
            "" => listen.to_owned(),
            host if host.contains(':') => format!("[{host}]:{port}"),
            host => format!("{host}:{port}"),
        }
    }
}

/// Whether an address to listen on is reached from this machine alone.
pub(crate) fn is_loopback(listen: &str) -> bool {
    let host = listen.rsplit_once(':').map_or(listen, |(host, _)| host);
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests;
