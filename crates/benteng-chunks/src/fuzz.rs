//! What the decoders of this crate must bear, as a plain function for the fuzzer in `tests/fuzz`, and one
//! sample of each form. Compiled with debug assertions only: no release holds any of it. A panic is a find.

use std::ops::Range;

use benteng_host::golden::Sample;
use benteng_journal::{Place, SegmentNo};
use benteng_meta::ids::*;
use bytes::Bytes;

use crate::chunk::{ChunkHeader, decode_ids, encode_ids};
use crate::identity;
use crate::index::Live;
use crate::tomb::{Grave, Tomb};

/// Tags of records, rows of the index, the store's id: the first byte says which. What is read is written
/// again byte for byte.
pub fn stored(bytes: &[u8]) {
    let Some((which, body)) = bytes.split_first() else { return };
    match which {
        0 => {
            let Some(header) = ChunkHeader::decode(body) else { return };
            assert_eq!(header.encode(), body, "a chunk's tag is written in another way");
            within(&header);
        }
        1 => {
            if let Some(ids) = decode_ids(body) {
                assert_eq!(encode_ids(&ids), body, "a tombstone's tag is written in another way");
            }
        }
        2 => {
            let Some(live) = Live::decode(body) else { return };
            assert_eq!(live.encode(), body, "a row of the index is written in another way");
            within(&live.header);
        }
        3 => {
            if let Some(tomb) = Tomb::decode(body) {
                assert_eq!(tomb.encode(), body, "a tomb is written in another way");
            }
        }
        _ => {
            // A fuzzer does not guess checksums: the right one behind the same bytes, too.
            let summed = [body, &crc_fast::crc32_iscsi(body).to_le_bytes()[..]].concat();
            for bytes in [body, &summed] {
                if let Some(id) = identity::decode(bytes) {
                    assert_eq!(identity::encode(id), bytes, "the store's id is written in another way");
                }
            }
        }
    }
}

/// Any frames that are asked for are within the chunk, or refused.
fn within(header: &ChunkHeader) {
    for (start, end) in [(0, 1), (0, header.frames()), (header.frames().saturating_sub(1), header.frames())] {
        let (offset, len) = header.extent(&(start..end)).expect("frames that are there");
        let end = u64::from(offset) + u64::from(len);
        assert!(len > 0 && end <= u64::from(header.len), "frames beyond the chunk");
    }
    let (none, backwards, beyond) = (1..1, Range { start: 2, end: 1 }, 0..u32::MAX);
    for asked in [none, backwards, beyond] {
        assert!(header.extent(&asked).is_err(), "frames {asked:?} of {}", header.frames());
    }
}

fn id(sequence: u32) -> ChunkId {
    ChunkId {
        blob: BlobId(uuid::Uuid::from_u128(0x0123)),
        part: PartNumber(2),
        attempt: Attempt(300),
        sequence,
    }
}

/// One of each form, by name.
pub fn samples() -> Vec<Sample> {
    let origin = Origin { node: NodeId(3), incarnation: Incarnation(5), began: StateSeq(130) };
    let header =
        ChunkHeader { id: id(4), origin, len: 100_000, frame_bytes: 65_552, frame_crcs: vec![1, u32::MAX] };
    let place = Place { segment: SegmentNo(7), offset: 4096, tag_len: 71, body_len: 100_000 };
    let others = vec![SegmentNo(5), SegmentNo(6)];
    let grave = |grave| Tomb { grave, at: SegmentNo(7), dead_in: others.clone() }.encode();
    let samples: [(&str, Bytes); 6] = [
        ("chunk", header.encode()),
        ("tombstone", encode_ids(&[id(1), id(2)])),
        ("live", Live { place, others: others.clone(), header }.encode()),
        ("removed", grave(Grave::Removed)),
        ("evicted", grave(Grave::Evicted)),
        ("store", identity::encode(StoreId(uuid::Uuid::from_u128(42)))),
    ];
    samples.into_iter().map(|(name, bytes)| (name.to_owned(), bytes.to_vec())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_rows_and_the_store_id_are_written_as_ever_and_every_kept_one_is_read() {
        benteng_host::golden::hold("stored", 1, &samples(), &|name, bytes| {
            let again = match name {
                "chunk" => ChunkHeader::decode(bytes).map(|read| read.encode()),
                "tombstone" => decode_ids(bytes).map(|read| encode_ids(&read)),
                "live" => Live::decode(bytes).map(|read| read.encode()),
                "removed" | "evicted" => Tomb::decode(bytes).map(|read| read.encode()),
                _ => identity::decode(bytes).map(identity::encode),
            };
            again.map(|bytes| bytes.to_vec()).ok_or_else(|| "it does not read".to_owned())
        });
    }
}
