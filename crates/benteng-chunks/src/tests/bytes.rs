//! Stored bytes: golden tags, truncation, garbage.

use proptest::prelude::*;

use super::{chunk, id};
use crate::chunk::{ChunkHeader, decode_ids, encode_ids};
use crate::identity;

fn header() -> ChunkHeader {
    ChunkHeader::verified(&chunk(5, 250)).expect("sound")
}

#[test]
fn golden_chunk_tag_v1() {
    let golden = include_bytes!("golden/chunk_tag_v1.bin");
    assert_eq!(&header().encode()[..], golden);
    assert_eq!(ChunkHeader::decode(golden), Some(header()));
    for n in 0..golden.len() {
        assert_eq!(ChunkHeader::decode(&golden[..n]), None, "cut at {n}");
    }
}

#[test]
fn golden_tombstone_tag_v1() {
    let tag = encode_ids(&[id(1), id(2)]);
    let golden = [&[1][..], &id(1).to_bytes(), &id(2).to_bytes()].concat();
    assert_eq!(tag, golden);
    assert_eq!(decode_ids(&golden), Some(vec![id(1), id(2)]));
    for n in (0..golden.len()).filter(|n| n % 30 != 1) {
        assert_eq!(decode_ids(&golden[..n]), None, "cut at {n}");
    }
}

#[test]
fn golden_store_id_v1() {
    let id = benteng_meta::ids::StoreId(uuid::Uuid::from_u128(42));
    let bytes = identity::encode(id);
    assert_eq!(&bytes[..24], &[&b"BENTCST1"[..], &42_u128.to_be_bytes()].concat()[..]);
    assert_eq!(identity::decode(&bytes), Some(id));
    for bit in 0..bytes.len() * 8 {
        let mut bad = bytes.to_vec();
        bad[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(identity::decode(&bad), None, "bit {bit}");
    }
    for n in 0..bytes.len() {
        assert_eq!(identity::decode(&bytes[..n]), None, "cut at {n}");
    }
}

proptest! {
    #[test]
    fn garbage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = ChunkHeader::decode(&bytes);
        let _ = decode_ids(&bytes);
        let _ = identity::decode(&bytes);
    }

    #[test]
    fn chunk_tags_survive_their_bytes(n in any::<u32>(), len in 1..5000_usize) {
        let header = ChunkHeader::verified(&chunk(n / 64, len)).expect("sound");
        prop_assert_eq!(ChunkHeader::decode(&header.encode()), Some(header));
    }
}
