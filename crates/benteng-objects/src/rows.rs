//! Every chunk that live rows name, page by page: what filling and the search for missing copies walk.

use benteng_host::KvView;
use benteng_meta::apply::chunks_of;
use benteng_meta::ids::*;
use benteng_meta::{BlobRow, Body, PartRow, key, query};
use bytes::Bytes;

use crate::Result;

/// Where a walk stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Cursor {
    /// In the table of blobs, behind this key.
    Blobs(Option<Bytes>),
    /// In the table of parts, behind this key.
    Parts(Option<Bytes>),
    /// At the end.
    End,
}

impl Cursor {
    /// Before everything.
    pub(crate) const START: Cursor = Cursor::Blobs(None);
}

/// Attempts of at most `limit` rows behind `cursor`, and where to go on.
pub(crate) fn page(view: &dyn KvView, cursor: &Cursor, limit: usize) -> Result<(Vec<Named>, Cursor)> {
    match cursor {
        Cursor::End => Ok((Vec::new(), Cursor::End)),
        Cursor::Blobs(after) => {
            let table = key::table(key::Table::Blob);
            let rows = query::page::<BlobRow>(view, &table, after.as_deref(), limit)?;
            let next = match rows.last() {
                Some((last, _)) if rows.len() == limit => Cursor::Blobs(Some(last.clone())),
                _ => Cursor::Parts(None),
            };
            let named = rows.into_iter().filter_map(|(row_key, row)| match row.body {
                // Parts of completed uploads stand in the table of parts.
                Body::Inline(_) | Body::Multipart(_) => None,
                Body::Single(part) => Some(Named::new(blob(&row_key)?, PartNumber(1), &part)),
            });
            Ok((named.collect(), next))
        }
        Cursor::Parts(after) => {
            let table = key::table(key::Table::Part);
            let rows = query::page::<PartRow>(view, &table, after.as_deref(), limit)?;
            let next = match rows.last() {
                Some((last, _)) if rows.len() == limit => Cursor::Parts(Some(last.clone())),
                _ => Cursor::End,
            };
            let named = rows.into_iter().filter_map(|(row_key, row)| {
                let number = PartNumber(u16::from_be_bytes(*row_key.last_chunk::<2>()?));
                Some(Named::new(blob(&row_key)?, number, &row))
            });
            Ok((named.collect(), next))
        }
    }
}

/// An attempt that a live row names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Named {
    blob: BlobId,
    part: PartNumber,
    attempt: Attempt,
    chunks: u32,
}

impl Named {
    fn new(blob: BlobId, part: PartNumber, row: &PartRow) -> Named {
        Named { blob, part, attempt: row.attempt, chunks: chunks_of(row.size) }
    }

    /// Its chunks.
    pub(crate) fn chunks(self) -> impl Iterator<Item = ChunkId> {
        let Named { blob, part, attempt, chunks } = self;
        (0..chunks).map(move |sequence| ChunkId { blob, part, attempt, sequence })
    }
}

fn blob(row_key: &[u8]) -> Option<BlobId> {
    let bytes = row_key.get(1..17)?.first_chunk::<16>()?;
    Some(BlobId(uuid::Uuid::from_bytes(*bytes)))
}
