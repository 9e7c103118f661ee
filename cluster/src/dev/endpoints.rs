//! `endpoints.env`: everything that scripts need to use the site. Its keys are a contract.

use std::path::PathBuf;

use benteng_keys::RootKey;

use super::ports::Ports;
use super::site::{LOCALHOST, http_url};
use crate::admin::{ADMIN, Privileged};

/// A node as scripts see it.
pub(super) struct Endpoint {
    /// Id in the site.
    pub(super) id: u64,
    /// Process id.
    pub(super) pid: u32,
    /// Ports of its doors.
    pub(super) ports: Ports,
    /// Its directory.
    pub(super) dir: PathBuf,
}

/// The file's text. Credentials are derived from the root key: the same at every start.
pub(super) fn text(root: &RootKey, nodes: &[Endpoint]) -> String {
    let mut out =
        String::from("# Addresses and credentials of this development site; written by `benteng dev`.\n");
    let mut line = |key: &str, value: &str| {
        out.push_str(key);
        out.push('=');
        out.push_str(value);
        out.push('\n');
    };
    let Some(first) = nodes.first() else { return out };
    let credential = root.dev_credential(ADMIN);
    let http = http_url(first.ports);
    line("AWS_ENDPOINT_URL", &format!("http://{LOCALHOST}:{}", first.ports.s3));
    line("AWS_ACCESS_KEY_ID", &credential.access_key_id);
    line("AWS_SECRET_ACCESS_KEY", &credential.secret_access_key);
    line("AWS_REGION", "us-east-1");
    line("PGHOST", LOCALHOST);
    line("PGPORT", &first.ports.sql.to_string());
    line("PGUSER", ADMIN);
    line("PGPASSWORD", &credential.password);
    line("PGDATABASE", "benteng");
    line("BENTENG_FLIGHT_URL", &format!("grpc://{LOCALHOST}:{}", first.ports.flight));
    line("BENTENG_ADMIN_URL", &http);
    line("BENTENG_ADMIN_TOKEN", &Privileged::Dev.token(root));
    line("BENTENG_ICEBERG_URL", &format!("{http}/iceberg"));
    line("BENTENG_INGEST_URL", &format!("{http}/ingest"));
    line("BENTENG_PORTAL_URL", &http);
    for (i, node) in nodes.iter().enumerate() {
        let mut of_node = |key: &str, value: &str| line(&format!("BENTENG_NODE_{}_{key}", i + 1), value);
        of_node("ID", &node.id.to_string());
        of_node("PID", &node.pid.to_string());
        of_node("S3_URL", &format!("http://{LOCALHOST}:{}", node.ports.s3));
        of_node("SQL_PORT", &node.ports.sql.to_string());
        of_node("HTTP_URL", &http_url(node.ports));
        of_node("DIR", &node.dir.display().to_string());
    }
    out
}

#[cfg(test)]
mod tests {
    use benteng_keys::SecretBytes32;

    use super::*;
    use crate::client::parse_env_file;

    #[test]
    fn every_key_of_the_contract_is_there() {
        let root = RootKey::from_secret(SecretBytes32::new([9; 32]));
        let ports =
            |base: u16| Ports { s3: base, http: base + 1, sql: base + 2, flight: base + 3, rpc: base + 4 };
        let node = |index: u16| Endpoint {
            id: u64::from(index),
            pid: 100 + u32::from(index),
            ports: ports(7400 + 10 * (index - 1)),
            dir: format!("/data/node-{index}").into(),
        };
        let text = text(&root, &[node(1), node(2), node(3)]);
        let found = parse_env_file(&text);
        let site = "AWS_ENDPOINT_URL AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY AWS_REGION PGHOST PGPORT PGUSER \
                    PGPASSWORD PGDATABASE BENTENG_FLIGHT_URL BENTENG_ADMIN_URL BENTENG_ADMIN_TOKEN \
                    BENTENG_ICEBERG_URL BENTENG_INGEST_URL BENTENG_PORTAL_URL";
        for key in site.split_whitespace() {
            assert!(found.get(key).is_some_and(|value| !value.is_empty()), "{key}");
        }
        for i in 1..=3 {
            for key in ["ID", "PID", "S3_URL", "SQL_PORT", "HTTP_URL", "DIR"] {
                assert!(found.contains_key(&format!("BENTENG_NODE_{i}_{key}")), "{key} of node {i}");
            }
        }
        assert_eq!(found.len(), 15 + 3 * 6);
        assert_eq!(found["BENTENG_NODE_2_S3_URL"], "http://127.0.0.1:7410");
        assert!(found["BENTENG_ICEBERG_URL"].ends_with("/iceberg"));
        // A shell reads it as we do: no value needs quotes.
        let plain = |c: char| c.is_ascii_alphanumeric() || "/:._-".contains(c);
        assert!(found.values().all(|value| value.chars().all(plain)), "{text}");
        let again = self::text(&root, &[node(1), node(2), node(3)]);
        assert_eq!(text, again, "the same root key gives the same credentials");
    }
}
