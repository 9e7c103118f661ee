//! Every stored byte: golden files, truncation, garbage.

use bytes::Bytes;
use proptest::prelude::*;

use super::{Bench, STORE, append, dir, entry, segment_path, vote};
use crate::base::{Base, Closed, decode_release, encode_release};
use crate::record::{Header, Life, Position};
use crate::segment::{Name, SegmentHeader, segment_name};
use crate::watermark::Watermark;
use crate::{NoCipher, SegmentNo};

fn record_header() -> Header {
    Header {
        kind: 7,
        flags: 1,
        tag_len: 3,
        body_len: 0x0102_0304,
        boot: 5,
        life: Life { segment: 0x1122_3344_5566_7788, generation: 9 },
        body_crc: 0xdead_beef,
        number: 42,
        claim: Position { segment: SegmentNo(3), offset: 8192 },
    }
}

fn segment_header() -> SegmentHeader {
    SegmentHeader {
        store: STORE,
        uuid: uuid::Uuid::from_u128(0x0102_0304_0506_0708_090a_0b0c_0d0e_0f10),
        number: SegmentNo(11),
        generation: 2,
        boot: 6,
        salt: std::array::from_fn(|i| i as u8),
    }
}

#[test]
fn golden_record_header_v1() {
    let golden = include_bytes!("golden/record_v1.bin");
    assert_eq!([&record_header().encode(b"tag")[..], b"tag"].concat(), golden);
    assert_eq!(Header::decode(golden), Some(record_header()));
}

#[test]
fn golden_segment_header_v1() {
    let golden = include_bytes!("golden/segment_v1.bin");
    let block = segment_header().encode();
    assert_eq!(&block[..120], golden);
    assert!(block.len() == 4096 && block[120..].iter().all(|byte| *byte == 0));
    assert_eq!(SegmentHeader::decode(&block), Ok(segment_header()));
}

#[test]
fn golden_watermark_v1() {
    let watermark = Watermark {
        reached: Position { segment: SegmentNo(4), offset: 4711 },
        sticky: vec![
            (1, Bytes::from_static(b"tag"), None),
            (2, Bytes::new(), Some(Bytes::from_static(b"vote"))),
        ],
    };
    let golden = Bytes::from_static(include_bytes!("golden/watermark_v1.bin"));
    assert_eq!(watermark.encode(STORE, [7; 32], &NoCipher), golden);
    assert_eq!(Watermark::decode(&golden, STORE, &NoCipher), Ok(watermark));
    for n in 0..golden.len() {
        assert!(Watermark::decode(&golden.slice(..n), STORE, &NoCipher).is_err(), "cut at {n}");
    }
}

#[test]
fn golden_base_and_release_v1() {
    let closed = Closed { number: SegmentNo(2), end: 5000, records: 8, history: 6 };
    let base = Base { records: 3, live: vec![closed] };
    let words = |words: &[u64]| words.iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<_>>();
    assert_eq!(base.encode(), words(&[3, 2, 5000, 8, 6]));
    assert_eq!(Base::decode(&base.encode()), Some(base));
    assert_eq!(encode_release(&[SegmentNo(2), SegmentNo(9)]), words(&[2, 9]));
    assert_eq!(decode_release(&words(&[2, 9])), Some(vec![SegmentNo(2), SegmentNo(9)]));
    assert_eq!(decode_release(&[0; 9]), None);
    assert_eq!(Base::decode(&[0; 12]), None);
}

#[test]
fn every_truncation_and_every_flipped_bit_of_a_header_is_seen() {
    let record = [&record_header().encode(b"tag")[..], b"tag"].concat();
    let segment = segment_header().encode();
    for n in 0..record.len() {
        assert_eq!(Header::decode(&record[..n]), None, "cut at {n}");
    }
    for bit in 0..record.len() * 8 {
        let mut bad = record.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(Header::decode(&bad), None, "bit {bit}");
    }
    for n in 0..120 {
        assert!(SegmentHeader::decode(&segment[..n]).is_err(), "cut at {n}");
    }
    for bit in 0..120 * 8 {
        let mut bad = segment.to_vec();
        bad[bit / 8] ^= 1 << (bit % 8);
        assert!(SegmentHeader::decode(&bad).is_err(), "bit {bit}");
    }
}

#[test]
fn names_say_what_a_file_is() {
    assert_eq!(Name::parse(&segment_name(SegmentNo(0xab))), Name::Segment(SegmentNo(0xab)));
    for (name, kind) in [
        ("0.seg", Name::Other),
        ("00000000000000AB.seg", Name::Other),
        ("+0000000000000ab.seg", Name::Other),
        ("x.spare", Name::Spare),
        ("watermark.new", Name::Unfinished),
        ("watermark", Name::Other),
        ("store", Name::Other),
    ] {
        assert_eq!(Name::parse(name), kind, "{name}");
    }
}

/// A journal of two segments with everything in it.
fn sample(seed: u64) -> Bench {
    let bench = Bench::new(seed);
    bench.boot(async |journal, _, _| {
        append(&journal, "a").await;
        journal.submit_claimed(vec![vote("v"), entry("b")]).await.expect("runs").await.expect("claimed");
        journal.roll().await.expect("rolls");
        append(&journal, "c").await;
        append(&journal, "d").await;
        journal.close().await.expect("closes");
    });
    bench
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn garbage_never_panics_in_a_decoder(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = Header::decode(&bytes);
        let _ = SegmentHeader::decode(&bytes);
        let _ = Base::decode(&bytes);
        let _ = decode_release(&bytes);
        let _ = Watermark::decode(&Bytes::from(bytes), STORE, &NoCipher);
    }

    /// I4: after any change of stored bytes the journal says damage, or shows what was written.
    #[test]
    fn i4_changed_files_are_damage_or_harmless(
        which in 0..3_usize,
        at in 0..24_000_usize,
        change in proptest::collection::vec(any::<u8>(), 1..100),
        cut in any::<bool>(),
    ) {
        let bench = sample(1);
        let path = [segment_path(1), segment_path(2), dir().join("watermark")][which].clone();
        bench.world.tamper(&path, |bytes| {
            if cut {
                bytes.truncate(at);
            } else {
                let at = at % bytes.len();
                let n = change.len().min(bytes.len() - at);
                bytes[at..at + n].copy_from_slice(&change[..n]);
            }
        });
        let opened = bench.world.run(async { bench.open().await.map(|(.., seen)| super::tags(&seen)) });
        match opened.expect("no crash") {
            Ok(tags) => prop_assert_eq!(tags, ["a", "b", "c", "d"]),
            Err(crate::Error::Damaged { .. }) => {}
            Err(other) => prop_assert!(false, "{}", other),
        }
    }
}
