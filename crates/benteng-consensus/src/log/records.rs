//! What the journal's records mean here. Formats: `docs/formats-consensus.md`.

use benteng_host::planted::{Bug, planted};
use benteng_journal::{Body, Carry, Record, Sticky};
use benteng_meta::codec;
use bytes::{BufMut, Bytes, BytesMut};

use crate::types::{Entry, EntryPayload, LogId, Vote};
use crate::wire::{self, WireLogId, WireVote};

/// An entry: tag = term, index; body = payload.
const ENTRY: u8 = 1;
/// A vote: body = vote. The newest stands in every checkpoint.
const VOTE: u8 = 2;
/// Entries behind the index in the tag are no more.
const TRUNCATE: u8 = 3;
/// Entries up to the log id in the tag are no more. The newest stands in every checkpoint.
const PURGE: u8 = 4;

/// Kinds whose newest record outlives its segment: the vote whole, the rest by their tag (J5, J7).
pub(super) fn sticky() -> Vec<Sticky> {
    let all = vec![
        Sticky { kind: VOTE, what: Carry::Whole },
        Sticky { kind: PURGE, what: Carry::TagOnly },
        Sticky { kind: ENTRY, what: Carry::TagOnly },
    ];
    all.into_iter().filter(|sticky| sticky.kind != VOTE || !planted(Bug::VoteNotCarried)).collect()
}

/// A record of the log, read back.
pub(super) enum Logged {
    Entry(LogId),
    Vote(Vote),
    Truncate(Option<u64>),
    Purge(LogId),
}

fn id_tag(id: &LogId) -> Bytes {
    let mut tag = BytesMut::with_capacity(16);
    tag.put_u64(*id.leader_id);
    tag.put_u64(id.index);
    tag.freeze()
}

fn read_id(tag: &[u8]) -> Option<LogId> {
    let (term, rest) = tag.split_first_chunk::<8>()?;
    let index: &[u8; 8] = rest.try_into().ok()?;
    let wire = WireLogId { term: u64::from_be_bytes(*term), index: u64::from_be_bytes(*index) };
    Some(wire.into())
}

pub(super) fn entry(entry: &Entry) -> Record {
    let body = Body::Seal(wire::encode_payload(&entry.payload));
    Record { kind: ENTRY, tag: id_tag(&entry.log_id), body }
}

pub(super) fn vote(vote: &Vote) -> Record {
    let body = Body::Seal(codec::encode(&WireVote::from(vote)));
    Record { kind: VOTE, tag: Bytes::new(), body }
}

pub(super) fn truncate(last_kept: Option<u64>) -> Record {
    let mut tag = BytesMut::with_capacity(9);
    tag.put_u8(u8::from(last_kept.is_some()));
    tag.put_u64(last_kept.unwrap_or(0));
    Record { kind: TRUNCATE, tag: tag.freeze(), body: Body::Seal(Bytes::new()) }
}

pub(super) fn purge(upto: &LogId) -> Record {
    Record { kind: PURGE, tag: id_tag(upto), body: Body::Seal(Bytes::new()) }
}

/// Reads a record back; `None` if it is not one of ours.
pub(super) fn read(kind: u8, tag: &[u8], body: Option<&Bytes>) -> Option<Logged> {
    match kind {
        ENTRY => read_id(tag).map(Logged::Entry),
        VOTE => codec::decode::<WireVote>(body?).ok().map(|vote| Logged::Vote(vote.into())),
        TRUNCATE => {
            let (some, index) = tag.split_first()?;
            let index = u64::from_be_bytes(index.try_into().ok()?);
            Some(Logged::Truncate((*some == 1).then_some(index)))
        }
        PURGE => read_id(tag).map(Logged::Purge),
        _ => None,
    }
}

/// The record that an entry's body was read from; `None`: the body is no entry's.
#[cfg(debug_assertions)]
pub(super) fn entry_of(id: LogId, body: &[u8]) -> Option<Record> {
    read_entry(id, body).ok().map(|read| entry(&read))
}

/// Reads an entry's body back.
pub(super) fn read_entry(id: LogId, body: &[u8]) -> Result<Entry, String> {
    let payload: EntryPayload = wire::decode_payload(body)?;
    Ok(Entry { log_id: id, payload })
}
