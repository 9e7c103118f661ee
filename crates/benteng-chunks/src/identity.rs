//! The store's own id: drawn once, kept beside its journal. A wiped node comes back with
//! another one, so that commands can tell its copies are gone.

use std::path::PathBuf;

use benteng_host::{Host, Open, random_array};
use benteng_meta::ids::StoreId;
use bytes::{BufMut, Bytes};
use crc_fast::crc32_iscsi;
use uuid::Uuid;

use crate::error::Error;

const FILE: &str = "store";
const TEMPORARY: &str = "store.new";
const MAGIC: [u8; 8] = *b"BENTCST1";
const LEN: usize = 28;

pub(crate) fn encode(id: StoreId) -> Bytes {
    let mut out = Vec::with_capacity(LEN);
    out.put_slice(&MAGIC);
    out.put_slice(id.0.as_bytes());
    let crc = crc32_iscsi(&out);
    out.put_u32_le(crc);
    out.into()
}

pub(crate) fn decode(bytes: &[u8]) -> Option<StoreId> {
    let (covered, crc) = bytes.split_last_chunk::<4>()?;
    let id: [u8; 16] = covered.strip_prefix(&MAGIC)?.try_into().ok()?;
    (crc32_iscsi(covered) == u32::from_le_bytes(*crc)).then(|| StoreId(Uuid::from_bytes(id)))
}

/// The id in use, and the file that says it to the next start.
pub(crate) struct Identity {
    host: Host,
    dir: PathBuf,
    pub(crate) id: StoreId,
}

impl Identity {
    /// The id of the store in `dir`, drawn now if the directory is new.
    pub(crate) async fn load_or_draw(host: Host, dir: PathBuf) -> Result<Identity, Error> {
        let path = dir.join(FILE);
        host.disk.create_dir_all(&dir).await?;
        match host.disk.open(&path, Open::Read).await {
            Ok(file) => {
                let read = decode(&file.read_at(0, LEN).await?);
                let id = read.ok_or(Error::Identity { path, why: "does not hold a store id" })?;
                Ok(Identity { host, dir, id })
            }
            Err(e) if e.is_not_found() => {
                if host.disk.list(&dir).await?.iter().any(|name| name.ends_with(".seg")) {
                    return Err(Error::Identity { path, why: "is missing while chunks are there" });
                }
                let id = StoreId::from_random(random_array(&*host.random));
                let identity = Identity { host, dir, id };
                identity.write().await?;
                Ok(identity)
            }
            Err(e) => Err(e.into()),
        }
    }

    /// Reads the file again, as the next start would. Errors: the device.
    pub(crate) async fn is_sound(&self) -> Result<bool, Error> {
        match self.host.disk.open(&self.dir.join(FILE), Open::Read).await {
            Ok(file) => Ok(decode(&file.read_at(0, LEN).await?) == Some(self.id)),
            Err(e) if e.is_not_found() => Ok(false),
            Err(e) => Err(e.into()),
        }
    }

    /// Writes the file, in one step.
    pub(crate) async fn write(&self) -> Result<(), Error> {
        let disk = &self.host.disk;
        let temporary = self.dir.join(TEMPORARY);
        match disk.remove(&temporary).await {
            Err(e) if !e.is_not_found() => return Err(e.into()),
            _ => {}
        }
        let file = disk.open(&temporary, Open::CreateNew).await?;
        file.write_at(0, vec![encode(self.id)]).await?;
        file.sync_data().await?;
        disk.rename(&temporary, &self.dir.join(FILE)).await?;
        disk.sync_dir(&self.dir).await?;
        Ok(())
    }
}
