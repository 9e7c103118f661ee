//! Every key of the configuration: its kind, default and documentation. `config defaults`,
//! the parser and the environment all read this one list.

use toml::Value;

/// What a key's value may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Any text.
    Text,
    /// `host:port`.
    Address,
    /// A path; empty: none.
    Path,
    /// One of these words.
    Word(&'static [&'static str]),
    /// A whole number within these bounds.
    Number(i64, i64),
    /// `true` or `false`.
    Flag,
    /// A list of texts; in the environment separated by commas.
    Texts,
}

/// One key.
pub(super) struct Key {
    pub(super) section: &'static str,
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    /// Its default, as TOML.
    pub(super) default: &'static str,
    /// What it means; lines of the commented file.
    pub(super) doc: &'static str,
}

const fn key(
    section: &'static str,
    name: &'static str,
    kind: Kind,
    default: &'static str,
    doc: &'static str,
) -> Key {
    Key { section, name, kind, default, doc }
}

/// What stands above each section.
pub(super) const SECTIONS: &[(&str, &str)] = &[
    ("node", "This node."),
    ("site", "The site as a whole; read by `benteng init` alone."),
    ("listen", "Where the doors listen. A door that is not bound to loopback always speaks TLS."),
    ("advertise", "How others reach this node."),
    ("keys", "Where the root key comes from. Exactly one of root_key_file and sealed_root_file is used."),
    ("tls", "Certificate of the doors; without one, the site's own authority issues it."),
    ("s3", "The S3 door."),
    (
        "limits",
        "Bounds of memory and connections: beyond them requests wait or are refused, the node does not fall over.",
    ),
    ("objects", "The object layer."),
    ("repair", "Repair of missing copies, and placement groups on their way to this node."),
    ("scrub", "Reading every stored byte again: what is damaged is found while good copies are there."),
    ("metrics", "Metrics in the format of Prometheus, under /metrics of the HTTP door."),
    ("log", "Logs, on standard error."),
];

pub(super) const KEYS: &[Key] = &[
    key("node", "name", Kind::Text, "\"node-1\"", "Name for people; unique within the site."),
    key(
        "node",
        "zone",
        Kind::Text,
        "\"default\"",
        "Failure domain (rack, room, building): copies are spread over zones.",
    ),
    key(
        "node",
        "data_dir",
        Kind::Path,
        "\"/var/lib/benteng\"",
        "Everything that the node stores. One node per directory.",
    ),
    key("site", "name", Kind::Text, "\"benteng\"", "Name of the site for people."),
    key("listen", "s3", Kind::Address, "\"127.0.0.1:7400\"", "S3."),
    key("listen", "http", Kind::Address, "\"127.0.0.1:7401\"", "Admin API, health and metrics."),
    key("listen", "sql", Kind::Address, "\"127.0.0.1:7402\"", "PostgreSQL wire protocol."),
    key(
        "listen",
        "flight",
        Kind::Address,
        "\"127.0.0.1:7403\"",
        "Arrow Flight SQL (reserved; not served yet).",
    ),
    key("listen", "rpc", Kind::Address, "\"127.0.0.1:7404\"", "Node to node; always mutual TLS."),
    key(
        "advertise",
        "host",
        Kind::Text,
        "\"\"",
        "Host name or address under which other nodes and clients reach this node;\nempty: as it listens. Needed when a door listens on 0.0.0.0 or [::].",
    ),
    key(
        "keys",
        "root_key_file",
        Kind::Path,
        "\"\"",
        "File with the root key (mode 0600), for unattended start after a power cut.\nEmpty: <data_dir>/root.key, unless sealed_root_file is set. Whoever reads it reads everything.",
    ),
    key("keys", "sealed_root_file", Kind::Path, "\"\"", "File with the root key sealed under a passphrase."),
    key(
        "keys",
        "passphrase_file",
        Kind::Path,
        "\"\"",
        "File with that passphrase (a systemd credential, say); empty: BENTENG_PASSPHRASE.",
    ),
    key("tls", "cert_file", Kind::Path, "\"\"", "Certificate chain, PEM; read again when it changes."),
    key("tls", "key_file", Kind::Path, "\"\"", "Its private key, PEM."),
    key("tls", "loopback", Kind::Flag, "false", "Whether doors that are bound to loopback speak TLS, too."),
    key(
        "s3",
        "domains",
        Kind::Texts,
        "[\"localhost\", \"s3.localhost\"]",
        "Domains for virtual-host style: bucket.DOMAIN names a bucket.",
    ),
    key(
        "limits",
        "workers",
        Kind::Number(0, 1024),
        "0",
        "Threads that serve requests and replication; 0: one per core. Queries and the disk have their own.",
    ),
    key("limits", "kv_cache_mib", Kind::Number(8, 1 << 20), "96", "Cache of the metadata store, MiB."),
    key(
        "limits",
        "kv_write_buffer_mib",
        Kind::Number(8, 1 << 16),
        "64",
        "Write buffers of the metadata store, MiB.",
    ),
    key("limits", "requests_mib", Kind::Number(32, 1 << 20), "192", "Object bytes in flight, MiB."),
    key(
        "limits",
        "sql_mib",
        Kind::Number(16, 1 << 20),
        "128",
        "Memory of all queries together, MiB; beyond it they spill, encrypted.",
    ),
    key(
        "limits",
        "connections",
        Kind::Number(8, 1 << 20),
        "1024",
        "Connections to one door at one time; a further one lets go of the one that is idle the longest.",
    ),
    key(
        "objects",
        "inline_kib",
        Kind::Number(0, 16),
        "8",
        "Bodies up to this size are kept in the metadata, KiB.",
    ),
    key(
        "objects",
        "removal_delay_hours",
        Kind::Number(0, 24 * 365),
        "24",
        "How long removed bytes are kept once nothing reads them, hours.",
    ),
    key(
        "repair",
        "rate_mib",
        Kind::Number(1, 1 << 20),
        "64",
        "What this node copies from others at most, for repair and moves together, MiB per second.",
    ),
    key("scrub", "period_days", Kind::Number(1, 365), "14", "Within so many days every byte is read again."),
    key(
        "scrub",
        "rate_mib",
        Kind::Number(1, 1 << 20),
        "64",
        "What a scrub that was asked for (`benteng scrub run`) reads at most, MiB per second.",
    ),
    key("metrics", "open", Kind::Flag, "false", "Whether /metrics answers callers without a credential."),
    key(
        "log",
        "filter",
        Kind::Text,
        "\"info,openraft=error\"",
        "What is logged, as in `info,benteng_consensus=debug`. Crates that are not ours are never heard below info.\nOf S3 requests, changes and failures are logged at info, reads at debug (`info,benteng_s3=debug`).",
    ),
    key(
        "log",
        "format",
        Kind::Word(&["auto", "human", "json"]),
        "\"auto\"",
        "human, json, or auto: human on a terminal, JSON otherwise.",
    ),
];

impl Key {
    /// The default as a value.
    pub(super) fn default_value(&self) -> Value {
        let parsed =
            format!("v = {}", self.default).parse::<toml::Table>().ok().and_then(|mut t| t.remove("v"));
        parsed.expect("defaults are literals of this file, a test reads each")
    }

    /// The environment variable that overrides it.
    pub(super) fn variable(&self) -> String {
        format!("BENTENG_{}__{}", self.section.to_uppercase(), self.name.to_uppercase())
    }

    /// `section.name`.
    pub(super) fn path(&self) -> String {
        format!("{}.{}", self.section, self.name)
    }

    /// Whether a value may stand here, and if not, what may.
    pub(super) fn check(&self, value: &Value) -> Result<(), String> {
        match (self.kind, value) {
            (Kind::Text | Kind::Path, Value::String(_)) | (Kind::Flag, Value::Boolean(_)) => Ok(()),
            (Kind::Address, Value::String(text)) if is_address(text) => Ok(()),
            (Kind::Address, _) => Err("a text like \"127.0.0.1:7400\"".into()),
            (Kind::Word(words), Value::String(word)) if words.contains(&word.as_str()) => Ok(()),
            (Kind::Word(words), _) => Err(format!("one of {}", words.join(", "))),
            (Kind::Number(low, high), Value::Integer(n)) if (low..=high).contains(n) => Ok(()),
            (Kind::Number(low, high), _) => Err(format!("a whole number from {low} to {high}")),
            (Kind::Texts, Value::Array(all)) if all.iter().all(Value::is_str) => Ok(()),
            (Kind::Texts, _) => Err("a list of texts".into()),
            (Kind::Text | Kind::Path, _) => Err("a text".into()),
            (Kind::Flag, _) => Err("true or false".into()),
        }
    }

    /// Reads the text of an environment variable; [`Key::check`] follows.
    pub(super) fn read(&self, text: &str) -> Value {
        let text = text.to_owned();
        match self.kind {
            Kind::Text | Kind::Address | Kind::Path | Kind::Word(_) => Value::String(text),
            Kind::Number(..) => text.parse().map_or(Value::String(text), Value::Integer),
            Kind::Flag => text.parse().map_or(Value::String(text), Value::Boolean),
            Kind::Texts => {
                let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
                Value::Array(parts.map(|part| Value::String(part.to_owned())).collect())
            }
        }
    }
}

/// Whether this is `host:port`.
fn is_address(text: &str) -> bool {
    text.rsplit_once(':').is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok())
}

/// The configuration file with every key at its default and what it means.
pub(crate) fn commented_defaults() -> String {
    let mut out = String::from(
        "# Configuration of a Benteng node. Every key stands here with its default.\n\
         # Each can be overridden by the environment: BENTENG_SECTION__KEY.\n",
    );
    for (section, doc) in SECTIONS {
        out.push_str(&format!("\n# {doc}\n[{section}]\n"));
        for key in KEYS.iter().filter(|key| key.section == *section) {
            for line in key.doc.lines() {
                out.push_str(&format!("# {line}\n"));
            }
            out.push_str(&format!("{} = {}\n", key.name, key.default));
        }
    }
    out
}
