//! The peers that the transport knows. They are kept in a file beside the node's journals: a node whose state
//! is lost knows from it whom to ask for a snapshot (S5).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use benteng_host::{Host, Open};
use benteng_meta::codec::{self, Versioned};
use benteng_meta::ids::NodeId;
use benteng_rpc::Rpc;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

const FILE: &str = "peers";
const TEMPORARY: &str = "peers.new";
/// A file of more bytes is none of ours: it is not read.
const BYTES_MAX: u64 = 1 << 20;

/// Contents of the file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Known(BTreeMap<NodeId, String>);
impl Versioned for Known {
    const WHAT: &'static str = "list of peers";
}

/// Addresses of the other nodes.
pub(crate) struct PeerBook {
    host: Host,
    dir: PathBuf,
    known: Mutex<BTreeMap<NodeId, String>>,
}

impl PeerBook {
    /// Starts from addresses that are known before the first row is: those of the node's formation, and
    /// those that an earlier life has kept in `dir`.
    pub(crate) async fn open(
        host: &Host,
        dir: &Path,
        rpc: &Rpc,
        mut bootstrap: BTreeMap<NodeId, String>,
    ) -> PeerBook {
        match load(host, dir).await {
            Ok(kept) => bootstrap.extend(kept),
            Err(why) => tracing::warn!(why, "the list of peers is not readable; it is written again"),
        }
        for (node, address) in bootstrap.iter().filter(|(node, _)| **node != rpc.me()) {
            rpc.set_peer(*node, address.clone());
        }
        PeerBook { host: host.clone(), dir: dir.to_owned(), known: Mutex::new(bootstrap) }
    }

    /// The nodes in it.
    pub(crate) fn nodes(&self) -> Vec<NodeId> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).keys().copied().collect()
    }

    /// Follows the rows: the addresses of all members, and nobody else.
    pub(crate) async fn follow(&self, rpc: &Rpc, rows: BTreeMap<NodeId, String>) {
        {
            let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            if *known == rows {
                return;
            }
            for (node, address) in rows.iter().filter(|(node, _)| **node != rpc.me()) {
                if known.get(node) != Some(address) {
                    rpc.set_peer(*node, address.clone());
                }
            }
            for node in known.keys().filter(|node| !rows.contains_key(node)) {
                rpc.remove_peer(*node);
            }
            known.clone_from(&rows);
        }
        if let Err(e) = save(&self.host, &self.dir, rows).await {
            tracing::warn!(error = %e, "the list of peers is not kept; it is written when it changes again");
        }
    }
}

async fn load(host: &Host, dir: &Path) -> Result<BTreeMap<NodeId, String>, String> {
    let file = match host.disk.open(&dir.join(FILE), Open::Read).await {
        Ok(file) => file,
        Err(e) if e.is_not_found() => return Ok(BTreeMap::new()),
        Err(e) => return Err(e.to_string()),
    };
    let len = file.len().await.map_err(|e| e.to_string())?;
    if len > BYTES_MAX {
        return Err(format!("it has {len} bytes"));
    }
    let bytes = file.read_at(0, usize::try_from(len).unwrap_or(0)).await.map_err(|e| e.to_string())?;
    decode(&bytes)
}

/// The list with the CRC32C of its encoding behind it.
fn encode(known: BTreeMap<NodeId, String>) -> Bytes {
    let body = codec::encode(&Known(known));
    let sum = crc_fast::crc32_iscsi(&body);
    [&body[..], &sum.to_le_bytes()].concat().into()
}

fn decode(bytes: &[u8]) -> Result<BTreeMap<NodeId, String>, String> {
    let (body, sum) = bytes.split_last_chunk::<4>().ok_or("it is cut short")?;
    if crc_fast::crc32_iscsi(body) != u32::from_le_bytes(*sum) {
        return Err("its checksum does not match".to_owned());
    }
    codec::decode::<Known>(body).map(|known| known.0).map_err(|e| e.to_string())
}

/// Whatever is read is written again to the same.
#[cfg(debug_assertions)]
pub(crate) fn check(bytes: &[u8]) {
    // A fuzzer does not guess checksums: the right one behind the same bytes, too.
    let summed = [bytes, &crc_fast::crc32_iscsi(bytes).to_le_bytes()[..]].concat();
    for bytes in [bytes, &summed] {
        if let Ok(known) = decode(bytes) {
            assert!(decode(&encode(known.clone())) == Ok(known), "the list of peers changes");
        }
    }
}

/// A list of two.
#[cfg(debug_assertions)]
pub(crate) fn sample() -> Vec<u8> {
    let known = [(NodeId(2), "10.0.0.2:7400".to_owned()), (NodeId(300), "b.example:7400".to_owned())];
    encode(BTreeMap::from(known)).to_vec()
}

/// Reads a list and writes it again.
#[cfg(test)]
pub(crate) fn again(bytes: &[u8]) -> Result<Vec<u8>, String> {
    decode(bytes).map(|known| encode(known).to_vec())
}

async fn save(host: &Host, dir: &Path, known: BTreeMap<NodeId, String>) -> benteng_host::Result<()> {
    let temporary = dir.join(TEMPORARY);
    match host.disk.remove(&temporary).await {
        Err(e) if !e.is_not_found() => return Err(e),
        _ => {}
    }
    let file = host.disk.open(&temporary, Open::CreateNew).await?;
    file.write_at(0, vec![encode(known)]).await?;
    file.sync_data().await?;
    host.disk.rename(&temporary, &dir.join(FILE)).await?;
    host.disk.sync_dir(dir).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_reads_as_written_and_damage_is_seen() {
        let known = BTreeMap::from([(NodeId(2), "h:1".to_owned()), (NodeId(7), "h:2".to_owned())]);
        let bytes = encode(known.clone());
        assert_eq!(hex::encode(&bytes[..bytes.len() - 4]), "01020203683a310703683a32", "version 1");
        assert_eq!(decode(&bytes), Ok(known));
        for n in 0..bytes.len() {
            assert!(decode(&bytes[..n]).is_err(), "{n} bytes");
            let mut flipped = bytes.to_vec();
            flipped[n] ^= 1;
            assert!(decode(&flipped).is_err(), "byte {n}");
        }
    }
}
