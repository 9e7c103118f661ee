//! Records of the log in any order, as a journal may give them back.

use benteng_journal::{Place, SegmentNo};
use bytes::Bytes;

use super::index::Index;
use super::records::{self, Logged};

/// Records, each as kind, length of the tag, length of the body in two bytes, tag, body: read as at a start,
/// and put into the index, which must have no hole whatever came.
pub fn replay(bytes: &[u8]) {
    let (mut index, mut rest, mut offset) = (Index::default(), bytes, 4096);
    while let Some((head, behind)) = rest.split_first_chunk::<4>() {
        let [kind, tag_len, len @ ..] = *head;
        let (tag, behind) = behind.split_at(usize::from(tag_len).min(behind.len()));
        let (body, later) = behind.split_at(usize::from(u16::from_be_bytes(len)).min(behind.len()));
        rest = later;
        let body = Bytes::copy_from_slice(body);
        let Some(logged) = records::read(kind, tag, Some(&body)) else { return };
        offset += 64;
        let put = match logged {
            Logged::Entry(id) => {
                let record = records::entry_of(id, &body);
                assert!(record.is_none_or(|record| record.kind == kind && record.tag == *tag));
                let place = Place { segment: SegmentNo(1), offset, tag_len: 16, body_len: 0 };
                index.replay(id, place)
            }
            Logged::Vote(vote) => {
                index.vote = Some(vote);
                Ok(())
            }
            Logged::Truncate(kept) => {
                index.truncate(kept);
                Ok(())
            }
            Logged::Purge(upto) => {
                index.purge(upto);
                Ok(())
            }
        };
        if put.is_err() {
            return;
        }
        if index.whole().is_err() {
            continue;
        }
        // Every index between the first and the last is there.
        if let (Some(first), Some(last)) = (index.first(), index.last()) {
            for at in (first..=last.index).take(64) {
                assert!(index.slot(at).is_some_and(|slot| slot.id.index == at), "a hole at {at}");
            }
        }
    }
}

/// What golden files hold.
#[cfg(test)]
pub(crate) mod kept {
    use benteng_host::golden::Sample;
    use benteng_journal::{Body, Record};
    use benteng_meta::codec;
    use bytes::Bytes;

    use super::super::records::{self, Logged};
    use crate::types::{LogId, Vote};
    use crate::wire::{WireLogId, WireVote};

    /// One record of each kind as the journal keeps it: kind, length of the tag, tag, body before it is sealed.
    pub(crate) fn records() -> Vec<Sample> {
        let id: LogId = WireLogId { term: 299, index: 900 }.into();
        let vote: Vote = codec::decode::<WireVote>(&[1, 172, 2, 2, 1]).expect("a vote of version 1").into();
        let entry = records::read_entry(id, &[1, 0]).expect("a blank entry of version 1");
        let samples = [
            ("entry", records::entry(&entry)),
            ("vote", records::vote(&vote)),
            ("truncate_to", records::truncate(Some(899))),
            ("truncate_all", records::truncate(None)),
            ("purge", records::purge(&id)),
        ];
        samples.into_iter().map(|(name, record)| (name.to_owned(), flat(&record))).collect()
    }

    fn flat(record: &Record) -> Vec<u8> {
        let body = match &record.body {
            Body::Seal(body) => body.to_vec(),
            Body::Raw(parts) => parts.concat(),
        };
        let tag_len = u8::try_from(record.tag.len()).expect("tags of the log are short");
        [&[record.kind, tag_len][..], &record.tag[..], &body[..]].concat()
    }

    /// Reads one of [`records`] and writes it again.
    pub(crate) fn again(bytes: &[u8]) -> Result<Vec<u8>, String> {
        let [kind, tag_len, rest @ ..] = bytes else { return Err("it is cut short".into()) };
        let (tag, body) = rest.split_at_checked(usize::from(*tag_len)).ok_or("its tag is cut short")?;
        let body = Bytes::copy_from_slice(body);
        Ok(flat(&match records::read(*kind, tag, Some(&body)).ok_or("it is no record of the log")? {
            Logged::Entry(id) => records::entry(&records::read_entry(id, &body)?),
            Logged::Vote(vote) => records::vote(&vote),
            Logged::Truncate(kept) => records::truncate(kept),
            Logged::Purge(upto) => records::purge(&upto),
        }))
    }
}
