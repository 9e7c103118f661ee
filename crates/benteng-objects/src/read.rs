//! The read path: frames from the nearest good copy -> AEAD -> stream. Never wrong bytes: a
//! copy that fails its checksum or does not authenticate is reported and another one is read (I4).

use std::collections::{BTreeSet, VecDeque};
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use benteng_host::planted::{Bug, planted};
use benteng_host::{Mono, probe, sleep};
use benteng_keys::{Dek, Opener, PartLayout, Piece};
use benteng_meta::PartRow;
use benteng_meta::ids::*;
use bytes::Bytes;
use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesOrdered;

use crate::budget::Permit;
use crate::copy::CopyError;
use crate::core::Core;
use crate::floors::Floor;
use crate::layout::{Layout, order_for_reading};
use crate::{BodyOut, Error, Result};

/// Pauses between rounds over all copies of a chunk that none of them could serve.
const PAUSES: [Duration; 2] = [Duration::from_millis(100), Duration::from_millis(400)];

/// A part of an object, and which of its bytes are read.
pub(crate) struct Segment {
    pub(crate) number: PartNumber,
    pub(crate) row: PartRow,
    pub(crate) range: Range<u64>,
}

/// How far the stream reads ahead of its consumer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ahead {
    /// Not at all: the consumer takes room for writing between two pieces.
    None,
    /// One piece, while there is room to spare.
    One,
}

/// One chunk's share of a read.
struct Want {
    opener: Arc<Opener>,
    chunk: ChunkId,
    piece: Piece,
}

/// A read under way. It holds its floor until it is dropped (O5).
pub(crate) struct Reading {
    core: Arc<Core>,
    reader: Origin,
    _floor: Floor,
    expires: Mono,
    ahead: Ahead,
    wants: Box<dyn Iterator<Item = Want> + Send>,
    under_way: FuturesOrdered<BoxFuture<'static, Result<(Bytes, Permit)>>>,
    /// Fetched before the answer began.
    first: Option<Bytes>,
}

impl Reading {
    /// Reads `segments` of `blob` in order.
    ///
    /// Errors: `Unavailable` if this gateway does not live.
    pub(crate) fn new(
        core: &Arc<Core>,
        floor: Floor,
        blob: BlobId,
        dek: &Dek,
        segments: Vec<Segment>,
        ahead: Ahead,
    ) -> Result<Reading> {
        let reader = core.gateway.origin()?;
        let dek = dek.clone();
        let wants = segments.into_iter().flat_map(move |Segment { number, row, range }| {
            let key = dek.part_key(number, row.attempt, &row.salt);
            let opener = Arc::new(Opener::new(key, blob, number, row.attempt, row.size));
            PartLayout::new(row.size).pieces(range).map(move |piece| {
                let chunk = ChunkId { blob, part: number, attempt: row.attempt, sequence: piece.sequence };
                Want { opener: opener.clone(), chunk, piece }
            })
        });
        Ok(Reading {
            core: core.clone(),
            reader,
            _floor: floor,
            expires: core.host.clock.now() + core.limits.transfer_max,
            ahead,
            wants: Box::new(wants),
            under_way: FuturesOrdered::new(),
            first: None,
        })
    }

    /// Fetches the first piece, so that an unreadable object is an error and not a broken answer.
    ///
    /// Errors: `Unreadable`: the row may be gone as well by now, so the caller looks it up again
    /// before it believes that (O5); `Unavailable`.
    pub(crate) async fn begin(&mut self) -> Result<()> {
        self.first = self.next().await?;
        Ok(())
    }

    /// The next bytes; `None` at the end.
    async fn next(&mut self) -> Result<Option<Bytes>> {
        if let Some(first) = self.first.take() {
            return Ok(Some(first));
        }
        if self.core.host.clock.now() > self.expires {
            return Err(Error::Unavailable { why: "the transfer took longer than 12 h".to_owned() });
        }
        if self.under_way.is_empty() {
            let Some(want) = self.wants.next() else { return Ok(None) };
            let bytes = want.piece.cipher.len();
            let permit = self.core.reads.take(&*self.core.host.clock, bytes).await?;
            self.start(want, permit);
        }
        if self.ahead == Ahead::One && self.under_way.len() < 2 {
            // A full frame more is a fair guess of the next piece's size; the true one is taken.
            let room = self.core.reads.take_spare(benteng_keys::CHUNK_CIPHER_MAX);
            if let Some(mut permit) = room
                && let Some(want) = self.wants.next()
            {
                permit.shrink_to(want.piece.cipher.len());
                self.start(want, permit);
            }
        }
        match self.under_way.next().await {
            Some(Ok((bytes, _permit))) => Ok(Some(bytes)),
            Some(Err(e)) => Err(e),
            None => Ok(None),
        }
    }

    fn start(&mut self, want: Want, permit: Permit) {
        let (core, reader) = (self.core.clone(), self.reader);
        self.under_way.push_back(Box::pin(async move { Ok((fetch(&core, reader, &want).await?, permit)) }));
    }

    /// The rest as a stream; after an error it ends.
    pub(crate) fn into_stream(self) -> BodyOut {
        Box::pin(futures::stream::unfold(Some(self), |reading| async move {
            let mut reading = reading?;
            match reading.next().await {
                Ok(Some(bytes)) => Some((Ok(bytes), Some(reading))),
                Ok(None) => None,
                Err(e) => {
                    metrics::counter!("benteng_objects_reads_broken_total").increment(1);
                    tracing::warn!(error = %e, "a read breaks off");
                    Some((Err(e), None))
                }
            }
        }))
    }
}

/// Plain bytes of one piece from any good copy.
async fn fetch(core: &Core, reader: Origin, want: &Want) -> Result<Bytes> {
    let mut said: VecDeque<String> = VecDeque::new();
    let mut gone = true;
    for pause in PAUSES.iter().map(Some).chain([None]) {
        // Asked anew in each round: the chunk may have moved.
        let view = core.group.local()?;
        let layout = Layout::of(&*view)?;
        let holders = layout.writable(&*view, want.chunk)?;
        drop(view);
        let holders = order_for_reading(holders, want.chunk, core.me, |node| core.copies.up(node));
        let members: BTreeSet<NodeId> = holders.iter().copied().collect();
        // A node that the group has left may still have what it had.
        let others = layout.nodes.keys().filter(|node| !members.contains(node) && core.copies.up(**node));
        for node in holders.iter().chain(others) {
            match fetch_from(core, *node, reader, want).await {
                Ok(bytes) => return Ok(bytes),
                Err(e) => {
                    let wrong = matches!(e, CopyError::Missing | CopyError::Damaged);
                    if planted(Bug::DamageIsFinal) && e == CopyError::Damaged {
                        return Err(Error::Unreadable { chunk: want.chunk, why: e.to_string() });
                    }
                    gone &= e == CopyError::Missing;
                    if wrong && members.contains(node) {
                        core.findings.add(*node, want.chunk);
                    }
                    said.push_back(format!("node {node}: {e}"));
                    if said.len() > 8 {
                        said.pop_front();
                    }
                }
            }
        }
        match pause {
            Some(pause) if !gone => sleep(&*core.host.clock, *pause).await,
            _ => break,
        }
    }
    let why = if gone { "every node says that it is gone".to_owned() } else { Vec::from(said).join("; ") };
    if gone {
        probe("chunk_gone");
    }
    Err(Error::Unreadable { chunk: want.chunk, why })
}

async fn fetch_from(
    core: &Core,
    node: NodeId,
    reader: Origin,
    want: &Want,
) -> std::result::Result<Bytes, CopyError> {
    let Want { opener, chunk, piece } = want;
    let frames = piece.frames.clone();
    let cipher = core.copies.read(node, *chunk, frames.clone(), reader, core.limits.read_deadline).await?;
    match opener.open_frames(piece.sequence, frames.start, cipher) {
        Ok(plain) if plain.len() >= piece.skip + piece.take => {
            Ok(plain.slice(piece.skip..piece.skip + piece.take))
        }
        Ok(_) => Err(CopyError::Damaged),
        Err(e) => {
            probe("copy_did_not_authenticate");
            metrics::counter!("benteng_objects_copies_not_authentic_total").increment(1);
            tracing::error!(%chunk, node = node.0, error = %e, "a stored copy does not authenticate");
            Err(CopyError::Damaged)
        }
    }
}
