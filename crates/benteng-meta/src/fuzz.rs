//! What the parsers of this crate must bear, as plain functions for the fuzzer in `tests/fuzz`, and one sample
//! of everything that is stored or sent. Compiled with debug assertions only: no release holds any of it.
//!
//! A panic is a find.

mod applying; // commands in any order against a formed site
pub mod samples; // one of each form

use crate::codec::{self, Versioned};
use crate::ids::*;
use crate::row::*;
use crate::{AnswerRow, Envelope, key};

/// Whatever is decoded is written again in as many bytes at most, and decodes to the same.
pub fn versioned<T: Versioned + PartialEq>(bytes: &[u8]) {
    let Ok(value) = codec::decode::<T>(bytes) else { return };
    let written = codec::encode(&value);
    // The decoder takes varints that are longer than need be; the encoder writes none. An older version may grow.
    let newest = bytes.first() == Some(&T::VERSION);
    assert!(!newest || written.len() <= bytes.len(), "{} grows when it is written again", T::WHAT);
    let back = codec::decode::<T>(&written).expect("what was encoded decodes");
    assert!(back == value, "{} changes when it is written again", T::WHAT);
}

/// A command as it stands in the log, or comes from a peer.
pub fn envelope(bytes: &[u8]) {
    versioned::<Envelope>(bytes);
}

/// A remembered answer.
pub fn answer(bytes: &[u8]) {
    versioned::<AnswerRow>(bytes);
}

/// A row of the state: the first byte says which.
pub fn row(bytes: &[u8]) {
    const READERS: [fn(&[u8]); 20] = [
        versioned::<SiteRow>,
        versioned::<ClockRow>,
        versioned::<NodeRow>,
        versioned::<PlacementRow>,
        versioned::<GatewayRow>,
        versioned::<FloorRow>,
        versioned::<JoinTokenRow>,
        versioned::<KekRow>,
        versioned::<BucketRow>,
        versioned::<UsageRow>,
        versioned::<ObjectRow>,
        versioned::<BlobRow>,
        versioned::<PartRow>,
        versioned::<UploadRow>,
        versioned::<CompletedRow>,
        versioned::<DeadBlobRow>,
        versioned::<DeadPartRow>,
        versioned::<RepairRow>,
        versioned::<UserRow>,
        versioned::<AccessKeyRow>,
    ];
    let Some((which, row)) = bytes.split_first() else { return };
    match READERS.get(usize::from(*which)) {
        Some(read) => read(row),
        None => versioned::<Mark>(row),
    }
}

/// A key of the ordered store, and ids as text.
pub fn key(bytes: &[u8]) {
    if let Some((object, upload)) = key::split_upload(bytes) {
        let bucket = bytes.get(1..17).and_then(|b| b.try_into().ok()).map(uuid::Uuid::from_bytes);
        let again = key::upload(BucketId(bucket.expect("the split found them")), object, upload);
        assert_eq!(again.get(1..), bytes.get(1..), "an upload's key is what it was made of");
    }
    if let Some((seq, id)) = key::split_seq(bytes) {
        let again = key::dead_blob(seq, BlobId(uuid::Uuid::from_bytes(id)));
        assert_eq!(again.get(1..), bytes.get(1..25), "a key in order of sequence is what it was made of");
        assert!(key::after_seq(key::Table::DeadBlob, seq) > again);
    }
    if let Some(chunk) = key::split_repair(bytes) {
        assert_eq!(Some(&chunk.to_bytes()[..]), bytes.get(3..));
        assert!(chunk.placement_group().0 < PlacementGroup::COUNT);
    }
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(tag) = text.parse::<ETag>() {
        assert_eq!(tag.to_string().parse(), Ok(tag));
    }
    if let Ok(id) = text.parse::<BlobId>() {
        assert_eq!(id.to_string().parse(), Ok(id));
    }
    if let Ok(number) = text.parse::<PartNumber>() {
        assert_eq!(number.to_string().parse(), Ok(number));
    }
    if let Ok(role) = text.parse::<Role>() {
        assert_eq!(role.name(), text);
    }
    crate::apply::is_bucket_name(text);
}

pub use applying::apply;
