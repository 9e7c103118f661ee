//! How far the log surely reached, in a file outside it (J7): tells a log that lost its
//! end from one that never had it. Written at each roll and at a clean stop.

use std::path::Path;

use benteng_host::{Disk, Open};
use bytes::{BufMut, Bytes, BytesMut};
use uuid::Uuid;

use crate::cipher::SegmentCipher;
use crate::error::Error;
use crate::record::{Position, SegmentNo, aad, array, crc32c};
use crate::sticky::Carried;

/// Name of the file in the journal's directory.
pub(crate) const FILE: &str = "watermark";
const TEMPORARY: &str = "watermark.new";
const MAGIC: [u8; 8] = *b"BENTJWM1";
const HEAD: usize = 76;
/// Longest file that is read: sticky records are few and small.
const MAX_BYTES: u64 = 64 << 20;

/// Contents of the watermark file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Watermark {
    /// Everything before this was durable.
    pub(crate) reached: Position,
    /// Newest sticky records as of then.
    pub(crate) sticky: Vec<Carried>,
}

impl Watermark {
    /// The file's bytes; bodies are sealed under `salt`, which must be fresh (K1).
    pub(crate) fn encode(&self, store: Uuid, salt: [u8; 32], cipher: &dyn SegmentCipher) -> Bytes {
        let cipher = cipher.segment(&salt);
        let mut out = BytesMut::new();
        out.put_slice(&MAGIC);
        out.put_slice(store.as_bytes());
        out.put_u64_le(self.reached.segment.0);
        out.put_u64_le(self.reached.offset);
        out.put_slice(&salt);
        out.put_u32_le(u32::try_from(self.sticky.len()).expect("at most 127 kinds are sticky"));
        for (number, (kind, tag, body)) in (0_u64..).zip(&self.sticky) {
            let flags = u8::from(body.is_some());
            let sealed = body.as_ref().map(|body| cipher.seal(number, &aad(*kind, flags, tag), body));
            let sealed = sealed.unwrap_or_default();
            out.put_u8(*kind);
            out.put_u8(flags);
            out.put_u16_le(u16::try_from(tag.len()).expect("tags are at most 1 KiB"));
            out.put_u32_le(u32::try_from(sealed.len()).expect("records are at most 64 MiB"));
            out.put_slice(tag);
            out.put_slice(&sealed);
        }
        let crc = crc32c([&out[..]]);
        out.put_u32_le(crc);
        out.freeze()
    }

    /// Reads a watermark file; the error says what is wrong with it.
    pub(crate) fn decode(
        bytes: &Bytes,
        store: Uuid,
        cipher: &dyn SegmentCipher,
    ) -> Result<Watermark, String> {
        const SHORT: &str = "the watermark file is cut short";
        let covered = bytes.len().checked_sub(4).filter(|n| *n >= HEAD).ok_or(SHORT)?;
        if bytes[..8] != MAGIC {
            return Err("the watermark file has another format".into());
        }
        if u32::from_le_bytes(array(&bytes[covered..])) != crc32c([&bytes[..covered]]) {
            return Err("the watermark file fails its checksum".into());
        }
        if bytes[8..24] != *store.as_bytes() {
            return Err("the watermark file belongs to another store".into());
        }
        let cipher = cipher.segment(&array(&bytes[40..72]));
        let count = u32::from_le_bytes(array(&bytes[72..76]));
        let mut rest = bytes.slice(HEAD..covered);
        let mut sticky = Vec::new();
        for number in 0..u64::from(count) {
            if rest.len() < 8 {
                return Err(SHORT.into());
            }
            let head = rest.split_to(8);
            let tag_len = usize::from(u16::from_le_bytes(array(&head[2..4])));
            let body_len = usize::try_from(u32::from_le_bytes(array(&head[4..8]))).unwrap_or(usize::MAX);
            if rest.len() < tag_len || rest.len() - tag_len < body_len {
                return Err(SHORT.into());
            }
            let (tag, sealed) = (rest.split_to(tag_len), rest.split_to(body_len));
            let body = match head[1] {
                0 => None,
                _ => Some(
                    cipher
                        .open(number, &aad(head[0], head[1], &tag), sealed)
                        .map_err(|_| "a record in the watermark file fails authentication")?,
                ),
            };
            sticky.push((head[0], tag, body));
        }
        let reached = Position {
            segment: SegmentNo(u64::from_le_bytes(array(&bytes[24..32]))),
            offset: u64::from_le_bytes(array(&bytes[32..40])),
        };
        Ok(Watermark { reached, sticky })
    }

    /// Reads the file of the journal in `dir`; `None`: there is none.
    pub(crate) async fn load(
        disk: &dyn Disk,
        dir: &Path,
        store: Uuid,
        cipher: &dyn SegmentCipher,
    ) -> Result<Option<Watermark>, Error> {
        let file = match disk.open(&dir.join(FILE), Open::Read).await {
            Ok(file) => file,
            Err(e) if e.is_not_found() => return Ok(None),
            Err(e) => return Err(e.into()),
        };
        let n = usize::try_from(file.len().await?.min(MAX_BYTES)).unwrap_or(usize::MAX);
        let bytes = file.read_at(0, n).await?;
        // The file is replaced by rename only, so that it is never torn: this is damage.
        Watermark::decode(&bytes, store, cipher).map(Some).map_err(|why| Error::damaged(SegmentNo(0), 0, why))
    }
}

/// Replaces the file of the journal in `dir` by these bytes, durably.
pub(crate) async fn store(disk: &dyn Disk, dir: &Path, bytes: Bytes) -> benteng_host::Result<()> {
    let temporary = dir.join(TEMPORARY);
    match disk.remove(&temporary).await {
        Err(e) if !e.is_not_found() => return Err(e),
        _ => {}
    }
    let file = disk.open(&temporary, Open::CreateNew).await?;
    file.write_at(0, vec![bytes]).await?;
    file.sync_data().await?;
    disk.rename(&temporary, &dir.join(FILE)).await?;
    disk.sync_dir(dir).await
}
