//! Boot: the index catches up with the journal. Only tags are read, segment by segment,
//! so that memory stays bounded whatever the store's size.

use benteng_host::probe;
use benteng_journal::{Damage, Journal, Replayed, SegmentNo};
use tracing::{info, warn};

use crate::chunk::{ChunkHeader, decode_ids};
use crate::error::Error;
use crate::index::{Change, Ends, Index};
use crate::pipeline::kind;

/// Brings `index` up to the end of `journal`; returns what could not be read.
pub(crate) async fn catch_up(journal: &Journal, index: &Index) -> Result<Vec<Damage>, Error> {
    let from = match index.watermark()? {
        Some(from) => from,
        None => {
            probe("chunk_index_rebuilt");
            index.clear().await?;
            SegmentNo(0)
        }
    };
    let ends: Ends = journal.segments().into_iter().map(|info| (info.number, info.end)).collect();
    let mut damaged = Vec::new();
    for number in ends.range(from..).map(|(number, _)| number) {
        let mut changes = Vec::new();
        let mut visit = |record: Replayed| {
            match changes_of(&record) {
                Some(more) => changes.extend(more),
                None => warn!(place = ?record.place, "chunk record has no valid tag"),
            }
            Ok(())
        };
        match journal.scan(*number, &mut visit).await {
            Ok(found) => damaged.extend(found),
            Err(benteng_journal::Error::Damaged { segment, offset, why }) => {
                damaged.push(Damage { segment, offset, len: 0, why });
            }
            Err(e) => return Err(e.into()),
        }
        index.apply(changes, *number, Some(&ends)).await?;
    }
    for Damage { segment, offset, len, why } in &damaged {
        warn!(
            segment = segment.0,
            offset,
            bytes = len,
            why,
            "chunk records are unreadable; peers' copies replace them"
        );
    }
    index.count(&ends).await?;
    info!(segments = ends.len(), chunks = index.uses(|uses| uses.chunks), "chunk index is complete");
    Ok(damaged)
}

/// What a record means to the index; `None`: its tag is malformed or its kind unknown.
pub(crate) fn changes_of(record: &Replayed) -> Option<Vec<Change>> {
    let place = record.place;
    match record.kind {
        kind::CHUNK => ChunkHeader::decode(&record.tag).map(|header| vec![Change::Chunk(place, header)]),
        kind::COPY => ChunkHeader::decode(&record.tag).map(|header| vec![Change::Copy(place, header, None)]),
        kind::BURY => {
            let ids = decode_ids(&record.tag)?;
            Some(ids.into_iter().map(|id| Change::Bury(place.segment, id)).collect())
        }
        kind::EVICT => {
            let ids = decode_ids(&record.tag)?;
            Some(ids.into_iter().map(|id| Change::Evict(place.segment, id)).collect())
        }
        _ => None,
    }
}
