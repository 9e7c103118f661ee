//! Which ports the nodes have: from a base by the table of the design, or any free ones, kept
//! in `ports.json` and used again where they are still free.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use crate::files::{Readers, write_atomic};

/// Ports of one node. Those of doors that are not built yet are theirs already.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Ports {
    pub(super) s3: u16,
    pub(super) http: u16,
    pub(super) sql: u16,
    pub(super) flight: u16,
    pub(super) rpc: u16,
}

impl Ports {
    /// By the table: node 1 begins at `base`, each further one ten higher.
    fn from_base(base: u16, index: u8) -> Result<Ports> {
        let first = u16::from(index - 1).checked_mul(10).and_then(|shift| base.checked_add(shift));
        let Some(first) = first.filter(|first| first.checked_add(9).is_some()) else {
            bail!("--base-port {base} leaves no ports for node {index}; choose a lower one");
        };
        Ok(Ports { s3: first, http: first + 1, sql: first + 2, flight: first + 3, rpc: first + 4 })
    }

    fn all(self) -> [u16; 5] {
        [self.s3, self.http, self.sql, self.flight, self.rpc]
    }

    fn each(self, mut change: impl FnMut(u16) -> Result<u16>) -> Result<Ports> {
        Ok(Ports {
            s3: change(self.s3)?,
            http: change(self.http)?,
            sql: change(self.sql)?,
            flight: change(self.flight)?,
            rpc: change(self.rpc)?,
        })
    }
}

fn is_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}

/// A free port that is not in `taken`.
fn free_port(taken: &mut BTreeSet<u16>) -> Result<u16> {
    // The kernel hands out another one each time; a hundred misses mean that there is none.
    for _ in 0..100 {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no free port on 127.0.0.1")?;
        let port = listener.local_addr().context("no free port on 127.0.0.1")?.port();
        if taken.insert(port) {
            return Ok(port);
        }
    }
    bail!("no free port on 127.0.0.1")
}

/// Ports of all nodes, 1 to `nodes`, recorded in `file`.
///
/// Errors: a port of the table that is in use, named with what to do.
pub(super) fn allocate(file: &Path, nodes: u8, base: u16) -> Result<Vec<Ports>> {
    let ports = if base == 0 { any_free(file, nodes)? } else { by_table(nodes, base)? };
    let text = serde_json::to_string_pretty(&ports)?;
    write_atomic(file, text.as_bytes(), Readers::Owner)?;
    Ok(ports)
}

fn by_table(nodes: u8, base: u16) -> Result<Vec<Ports>> {
    let mut out = Vec::new();
    for index in 1..=nodes {
        let ports = Ports::from_base(base, index)?;
        if let Some(port) = ports.all().into_iter().find(|port| !is_free(*port)) {
            bail!(
                "port {port} of node {index} is in use; stop what listens there (`ss -ltnp 'sport = :{port}'`), \
                 or choose another --base-port (0: any free ports)"
            );
        }
        out.push(ports);
    }
    Ok(out)
}

fn any_free(file: &Path, nodes: u8) -> Result<Vec<Ports>> {
    // An unreadable record only means new ports.
    let recorded: Vec<Ports> = std::fs::read_to_string(file)
        .ok()
        .and_then(|text| serde_json::from_str(&text).ok())
        .unwrap_or_default();
    // Recorded ports are taken first, so that a new one never lands on another node's.
    let mut taken: BTreeSet<u16> = recorded.iter().flat_map(|ports| ports.all()).collect();
    let zero = Ports { s3: 0, http: 0, sql: 0, flight: 0, rpc: 0 };
    let wanted = recorded.into_iter().chain(std::iter::repeat(zero)).take(usize::from(nodes));
    wanted
        .map(|ports| {
            ports.each(|port| if port != 0 && is_free(port) { Ok(port) } else { free_port(&mut taken) })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table_gives_each_node_its_ten() {
        let ports = |base, index| Ports::from_base(base, index).ok().map(Ports::all);
        assert_eq!(ports(7400, 1), Some([7400, 7401, 7402, 7403, 7404]));
        assert_eq!(ports(7400, 3), Some([7420, 7421, 7422, 7423, 7424]));
        assert_eq!(ports(65_530, 1), None);
        assert_eq!(ports(65_520, 2), None);
    }

    #[test]
    fn free_ports_are_distinct_and_kept_where_free() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let file = dir.path().join("ports.json");
        let first = allocate(&file, 3, 0).expect("free ports");
        let distinct: BTreeSet<u16> = first.iter().flat_map(|ports| ports.all()).collect();
        assert_eq!(distinct.len(), 15);

        let occupant = TcpListener::bind((Ipv4Addr::LOCALHOST, first[1].sql)).expect("it was free");
        let second = allocate(&file, 3, 0).expect("free ports");
        assert_ne!(second[1].sql, first[1].sql, "a taken port is replaced");
        assert_eq!(
            (second[0], second[1].s3, second[2]),
            (first[0], first[1].s3, first[2]),
            "the others are kept"
        );
        drop(occupant);
        assert_eq!(
            allocate(&file, 4, 0).expect("free ports")[..3],
            second[..],
            "growing keeps what was there"
        );
    }

    #[test]
    fn port_in_use_is_named() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let occupant = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let port = occupant.local_addr().expect("bound").port();
        // A base so high that the table leaves the port range says so instead.
        let Ok(said) = std::panic::catch_unwind(|| allocate(&dir.path().join("p"), 1, port.min(65_000)))
        else {
            panic!("no panic on any input")
        };
        if port <= 65_000 {
            let said = said.expect_err("it is in use").to_string();
            assert!(said.contains(&format!("port {port} of node 1 is in use")), "{said}");
        }
    }
}
