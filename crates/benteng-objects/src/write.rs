//! The write path: body -> cuts of 4 MiB -> digests and seal -> copies -> what a command names.
//!
//! While one chunk is on its way to its holders the next is cut, hashed and sealed: two chunks
//! of a request are in memory, admitted by bytes.

use std::sync::Arc;

use benteng_host::{compute, random_array, random_u64};
use benteng_keys::{Dek, Last, Sealer};
use benteng_meta::ids::*;
use benteng_meta::{Checksum, ChecksumKind};
use bytes::Bytes;

use crate::body::{Cut, Cutter};
use crate::budget::Permit;
use crate::copy::Chunk;
use crate::core::Core;
use crate::digest::{Digests, compare, kind_name};
use crate::fanout::{Durable, fan_out};
use crate::leftovers::Attempting;
use crate::{BodyIn, Error, Result, SentChecksum};

/// Hashing and sealing of more than this leaves the runtime's threads.
const OFFLOAD: usize = 64 << 10;

/// What is written, and what the client says of it.
pub(crate) struct Incoming {
    /// The bytes.
    pub(crate) body: BodyIn,
    /// Decoded length, if declared.
    pub(crate) length: Option<u64>,
    /// `Content-MD5`.
    pub(crate) content_md5: Option<[u8; 16]>,
    /// Checksum header or trailer.
    pub(crate) checksum: SentChecksum,
    /// Computed if the client names none.
    pub(crate) default_kind: ChecksumKind,
}

/// Where it goes.
pub(crate) struct Place<'a> {
    /// Data key of the blob.
    pub(crate) dek: &'a Dek,
    /// Part number.
    pub(crate) part: PartNumber,
    /// Bodies up to this stay in the command; `None`: all go into chunks.
    pub(crate) inline: Option<usize>,
}

/// A body that is stored but not committed.
pub(crate) struct Stored {
    /// Plain length in bytes.
    pub(crate) size: u64,
    /// MD5 of the plain bytes.
    pub(crate) md5: [u8; 16],
    /// Checksum of the plain bytes.
    pub(crate) checksum: Checksum,
    /// Where the bytes are.
    pub(crate) bytes: StoredBytes,
}

/// Where the bytes of a stored body are.
pub(crate) enum StoredBytes {
    /// Here, sealed.
    Inline(Bytes),
    /// In chunks.
    Chunks(Box<StoredChunks>),
}

/// The chunks of one attempt.
pub(crate) struct StoredChunks {
    pub(crate) attempt: Attempt,
    pub(crate) salt: [u8; 32],
    pub(crate) origin: Origin,
    /// Durable copies of each chunk, in order.
    pub(crate) durable: Vec<Durable>,
    /// The chunk itself, if it is the only one: a `Replace` needs no read then.
    pub(crate) kept: Option<(Chunk, Permit)>,
    /// Removes the chunks if nothing is proposed.
    pub(crate) attempting: Attempting,
}

/// The digests that the client announced, to be held against those of the bytes.
struct Expected {
    content_md5: Option<[u8; 16]>,
    checksum: SentChecksum,
}

impl Expected {
    fn verify(self, md5: &[u8; 16], computed: &Checksum) -> Result<()> {
        if let Some(sent) = self.content_md5 {
            compare("Content-MD5", &sent, md5)?;
        }
        match self.checksum {
            SentChecksum::None | SentChecksum::Kind(_) => Ok(()),
            SentChecksum::Header(sent) => compare(kind_name(sent.kind), &sent.value, &computed.value),
            SentChecksum::Trailer(kind, trailer) => {
                let missing = || {
                    Error::Invalid(format!("the {} trailer that was announced did not come", kind_name(kind)))
                };
                compare(kind_name(kind), &trailer().ok_or_else(missing)?, &computed.value)
            }
        }
    }
}

fn sent_kind(sent: &SentChecksum) -> Option<ChecksumKind> {
    match sent {
        SentChecksum::None => None,
        SentChecksum::Kind(kind) | SentChecksum::Trailer(kind, _) => Some(*kind),
        SentChecksum::Header(checksum) => Some(checksum.kind),
    }
}

/// Stores a body; nothing names it yet.
///
/// Errors: `Body`, `Length`, `TooLarge`, `Digest`, `Full`, `Unavailable`; nothing is visible, and
/// what was copied is removed. Cancellation: the same (O1).
pub(crate) async fn store_body(core: &Arc<Core>, place: &Place<'_>, incoming: Incoming) -> Result<Stored> {
    let kind = sent_kind(&incoming.checksum).unwrap_or(incoming.default_kind);
    let expected = Expected { content_md5: incoming.content_md5, checksum: incoming.checksum };
    let mut writer = Writer {
        core: core.clone(),
        cutter: Cutter::new(incoming.body, incoming.length, core.limits.body_max),
        digests: Some(Digests::new(kind)),
    };
    let (permit, first) = writer.cut().await?;
    let whole = first.as_ref().is_none_or(|cut| cut.last == Last::Yes);
    let len = first.as_ref().map_or(0, |cut| cut.len);
    if whole && place.inline.is_some_and(|limit| len <= limit) {
        return writer.inline(place.dek, first, expected);
    }
    writer.chunks(place, permit, first, expected).await
}

struct Writer {
    core: Arc<Core>,
    cutter: Cutter,
    /// Taken while they work.
    digests: Option<Digests>,
}

/// A chunk ready to be sent.
struct Ready {
    chunk: Chunk,
    permit: Permit,
    last: Last,
}

impl Writer {
    /// Admits and cuts the next chunk.
    async fn cut(&mut self) -> Result<(Permit, Option<Cut>)> {
        // Plain and sealed bytes are there at once only while the pool works on them.
        let permit = self.core.writes.take(&*self.core.host.clock, self.cutter.expected().max(1)).await?;
        Ok((permit, self.cutter.next().await?))
    }

    fn finish(&mut self, expected: Expected) -> Result<([u8; 16], Checksum)> {
        let digests = self.digests.take().ok_or_else(lost)?;
        let (md5, checksum) = digests.finish();
        expected.verify(&md5, &checksum)?;
        Ok((md5, checksum))
    }

    fn inline(mut self, dek: &Dek, cut: Option<Cut>, expected: Expected) -> Result<Stored> {
        let pieces = cut.map_or_else(Vec::new, |cut| cut.pieces);
        let plain: Bytes = match <[Bytes; 1]>::try_from(pieces) {
            Ok([one]) => one,
            Err(pieces) => pieces.concat().into(),
        };
        if let Some(digests) = &mut self.digests {
            digests.update(&plain);
        }
        let (md5, checksum) = self.finish(expected)?;
        let bytes = StoredBytes::Inline(dek.seal_inline(&plain));
        Ok(Stored { size: self.cutter.total(), md5, checksum, bytes })
    }

    async fn chunks(
        mut self,
        place: &Place<'_>,
        permit: Permit,
        first: Option<Cut>,
        expected: Expected,
    ) -> Result<Stored> {
        let core = self.core.clone();
        let origin = core.gateway.origin()?;
        let random = &*core.host.random;
        let (attempt, salt) = (Attempt(random_u64(random)), random_array::<32>(random));
        let (blob, part) = (place.dek.blob(), place.part);
        let mut attempting = Attempting::new(core.clone(), origin, blob, part, attempt);
        let mut sealer = Some(Sealer::new(place.dek.part_key(part, attempt, &salt), blob, part, attempt));
        let mut durable = Vec::new();
        let mut kept = None;
        let mut expected = Some(expected);
        let mut done = None;

        let mut next = match first {
            Some(cut) => Some(self.seal(&mut sealer, origin, permit, cut).await?),
            None => None,
        };
        if next.is_none() {
            // An empty part has no chunk at all.
            done = expected.take().map(|expected| self.finish(expected)).transpose()?;
        }
        while let Some(Ready { chunk, permit, last }) = next.take() {
            if last == Last::Yes {
                // Held against what was announced before the last chunk goes out.
                done = expected.take().map(|expected| self.finish(expected)).transpose()?;
            }
            attempting.sending(chunk.id.sequence);
            let sent = match last {
                Last::Yes => {
                    let sent = fan_out(&core, &chunk, Durable::new()).await?;
                    kept = durable.is_empty().then_some((chunk, permit));
                    sent
                }
                Last::No => {
                    // Room is given back as soon as the chunk is durable: what waits for room
                    // below must not hold any that depends on it.
                    let sending = async {
                        let sent = fan_out(&core, &chunk, Durable::new()).await;
                        drop(permit);
                        sent
                    };
                    let (sent, ready) = futures::try_join!(sending, self.prepare(&mut sealer, origin))?;
                    next = ready;
                    sent
                }
            };
            durable.push(sent);
        }
        let (md5, checksum) = done.ok_or_else(lost)?;
        let chunks = StoredChunks { attempt, salt, origin, durable, kept, attempting };
        Ok(Stored { size: self.cutter.total(), md5, checksum, bytes: StoredBytes::Chunks(Box::new(chunks)) })
    }

    /// The next chunk, cut, hashed and sealed.
    async fn prepare(&mut self, sealer: &mut Option<Sealer>, origin: Origin) -> Result<Option<Ready>> {
        let (permit, cut) = self.cut().await?;
        match cut {
            Some(cut) => self.seal(sealer, origin, permit, cut).await.map(Some),
            None => Ok(None),
        }
    }

    async fn seal(
        &mut self,
        sealer: &mut Option<Sealer>,
        origin: Origin,
        mut permit: Permit,
        cut: Cut,
    ) -> Result<Ready> {
        let Cut { pieces, len, last } = cut;
        let (mut digests, mut seals) =
            (self.digests.take().ok_or_else(lost)?, sealer.take().ok_or_else(lost)?);
        let work = move || {
            pieces.iter().for_each(|piece| digests.update(piece));
            let sealed = seals.seal_chunk(pieces, last);
            (digests, seals, sealed)
        };
        let (digests, seals, sealed) = if len > OFFLOAD {
            let done = compute(&*self.core.host.tasks, "hash and seal", work).await;
            done.map_err(|e| Error::Unavailable { why: e.to_string() })?
        } else {
            work()
        };
        self.digests = Some(digests);
        *sealer = Some(seals);
        // Of a body without a declared length less may have come.
        permit.shrink_to(sealed.bytes().len());
        Ok(Ready { chunk: Chunk::new(sealed, origin), permit, last })
    }
}

/// Digests and sealer are away only while one call works, and a failed call ends the request.
fn lost() -> Error {
    Error::Unavailable { why: "the body's digests were lost".to_owned() }
}
