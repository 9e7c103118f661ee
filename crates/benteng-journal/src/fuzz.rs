//! What the decoders of this crate must bear, as plain functions for the fuzzer in `tests/fuzz`, and one
//! sample of each form. Compiled with debug assertions only: no release holds any of it. A panic is a find.

use benteng_host::golden::Sample;
use bytes::Bytes;
use uuid::Uuid;

use crate::NoCipher;
use crate::base::{Base, Closed, decode_release, encode_release};
use crate::record::{ALIGN, HEADER, Header, Life, Position, SegmentNo, crc32c};
use crate::segment::{HEADER_BYTES, Name, SegmentHeader, segment_name};
use crate::watermark::Watermark;

const STORE: Uuid = Uuid::from_u128(0x5157_0000_0000_0000_0000_0000_0000_0001);

/// Headers, bases, releases, the watermark, names: the first byte says which, the second whether the checksums
/// in it are made right first, since a fuzzer does not guess them.
pub fn decoders(bytes: &[u8]) {
    let [which, right, body @ ..] = bytes else { return };
    let mut body = body.to_vec();
    match which {
        0 => {
            if right & 1 != 0 {
                mend_record(&mut body);
            }
            let Some(header) = Header::decode(&body) else { return };
            let tag = &body[HEADER..header.body_at()];
            assert_eq!(header.encode(tag)[..], body[..HEADER], "a record's header is written in another way");
            assert!(header.stored_len().is_multiple_of(ALIGN));
        }
        1 => {
            if right & 1 != 0 {
                mend_segment(&mut body);
            }
            let Ok(header) = SegmentHeader::decode(&body) else { return };
            assert!(SegmentHeader::decode(&header.encode()) == Ok(header), "a segment's header changes");
        }
        2 => {
            if let Some(base) = Base::decode(&body) {
                assert_eq!(base.encode(), body, "a base is written in another way");
            }
        }
        3 => {
            if let Some(released) = decode_release(&body) {
                assert_eq!(encode_release(&released), body, "a release is written in another way");
            }
        }
        4 => {
            if right & 1 != 0 {
                mend_watermark(&mut body);
            }
            let Ok(watermark) = Watermark::decode(&Bytes::from(body), STORE, &NoCipher) else { return };
            let again = watermark.encode(STORE, [0; 32], &NoCipher);
            assert!(Watermark::decode(&again, STORE, &NoCipher) == Ok(watermark), "a watermark changes");
        }
        _ => {
            if let Ok(name) = std::str::from_utf8(&body)
                && let Name::Segment(number) = Name::parse(name)
            {
                assert_eq!(segment_name(number), name);
            }
        }
    }
}

/// Makes the checksum of the record's header at the start of `bytes` right, and that of its body if it is there.
fn mend_record(bytes: &mut [u8]) {
    let Some(fixed) = bytes.first_chunk::<HEADER>() else { return };
    let Some(header) = Header::peek(fixed) else { return };
    let body_at = header.body_at();
    let body_end = body_at.saturating_add(usize::try_from(header.body_len).unwrap_or(usize::MAX));
    if let Some(body) = bytes.get(body_at..body_end) {
        let sum = crc32c([body]);
        bytes[28..32].copy_from_slice(&sum.to_le_bytes());
    }
    if let Some(tag) = bytes.get(HEADER..body_at) {
        let sum = crc32c([&bytes[..60], tag]);
        bytes[60..64].copy_from_slice(&sum.to_le_bytes());
    }
}

fn mend_segment(bytes: &mut [u8]) {
    if let Some(used) = bytes.get(..116) {
        let sum = crc32c([used]);
        if let Some(kept) = bytes.get_mut(116..120) {
            kept.copy_from_slice(&sum.to_le_bytes());
        }
    }
}

fn mend_watermark(bytes: &mut [u8]) {
    if let Some((covered, kept)) = bytes.split_last_chunk_mut::<4>() {
        *kept = crc32c([&covered[..]]).to_le_bytes();
    }
}

/// Makes every checksum in a file of a journal right, whatever else stands in it: what comes behind a
/// checksum must bear anything, too.
pub fn mend(name: &str, file: &mut [u8]) {
    if name == "watermark" {
        mend_watermark(file);
        return;
    }
    mend_segment(file);
    let (from, step) = (usize::try_from(HEADER_BYTES).unwrap_or(usize::MAX), ALIGN as usize);
    for at in (from..file.len()).step_by(step) {
        mend_record(&mut file[at..]);
    }
}

/// One of each form, by name; of the segment's header the bytes that mean something.
pub fn samples() -> Vec<Sample> {
    let header = Header {
        kind: 7,
        flags: 1,
        tag_len: 3,
        body_len: 0x0102_0304,
        boot: 5,
        life: Life { segment: 0x1122_3344_5566_7788, generation: 9 },
        body_crc: 0xdead_beef,
        number: 42,
        claim: Position { segment: SegmentNo(3), offset: 8192 },
    };
    let segment = SegmentHeader {
        store: STORE,
        uuid: Uuid::from_u128(0x0102_0304_0506_0708_090a_0b0c_0d0e_0f10),
        number: SegmentNo(11),
        generation: 2,
        boot: 6,
        salt: [0x5a; 32],
    };
    let closed = Closed { number: SegmentNo(2), end: 5000, records: 8, history: 6 };
    let vote = (2, Bytes::new(), Some(Bytes::from_static(b"vote")));
    let watermark = Watermark {
        reached: Position { segment: SegmentNo(4), offset: 4711 },
        sticky: vec![(1, Bytes::from_static(b"tag"), None), vote],
    };
    let samples = [
        ("record", [&header.encode(b"tag")[..], b"tag"].concat()),
        ("segment", segment.encode()[..120].to_vec()),
        ("base", Base { records: 3, live: vec![closed] }.encode().to_vec()),
        ("release", encode_release(&[SegmentNo(2), SegmentNo(9)]).to_vec()),
        ("watermark", watermark.encode(STORE, [7; 32], &NoCipher).to_vec()),
        ("segment_name", segment_name(SegmentNo(0xab)).into_bytes()),
    ];
    samples.into_iter().map(|(name, bytes)| (name.to_owned(), bytes)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_written_as_ever_and_every_kept_form_is_read() {
        let cut = |why: Option<Vec<u8>>| why.ok_or_else(|| "it does not read".to_owned());
        benteng_host::golden::hold("file", 1, &samples(), &|name, bytes| match name {
            "record" => cut(Header::decode(bytes).map(|read| {
                let tag = &bytes[HEADER..read.body_at()];
                [&read.encode(tag)[..], tag].concat()
            })),
            "segment" => SegmentHeader::decode(bytes).map(|read| read.encode()[..120].to_vec()),
            "base" => cut(Base::decode(bytes).map(|read| read.encode().to_vec())),
            "release" => cut(decode_release(bytes).map(|read| encode_release(&read).to_vec())),
            "watermark" => Watermark::decode(&Bytes::copy_from_slice(bytes), STORE, &NoCipher)
                .map(|read| read.encode(STORE, [7; 32], &NoCipher).to_vec()),
            _ => match Name::parse(&String::from_utf8_lossy(bytes)) {
                Name::Segment(number) => Ok(segment_name(number).into_bytes()),
                other => Err(format!("{other:?}")),
            },
        });
    }
}
