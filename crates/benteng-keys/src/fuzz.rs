//! What the parsers of this crate must bear, as plain functions for the fuzzer in `tests/fuzz`. Compiled with
//! debug assertions only: no release holds any of it. A panic is a find.

use std::sync::OnceLock;

use benteng_meta::ids::*;
use bytes::Bytes;
use uuid::Uuid;

use crate::ca::{node_name, parse_node_name};
use crate::{
    BucketKey, Dek, Opener, RecordKeys, RootKey, SealedRoot, SecretBytes32, SiteCa, StoredCa, ValueOpener,
    WrappedKey, frame_crcs_match, values,
};

/// Keys that nobody who makes bytes up knows.
struct Keys {
    root: RootKey,
    opener: ValueOpener,
    dek: Dek,
    frames: Opener,
    records: RecordKeys,
}

fn keys() -> &'static Keys {
    static KEYS: OnceLock<Keys> = OnceLock::new();
    KEYS.get_or_init(|| {
        let root = RootKey::from_secret(SecretBytes32::new([7; 32]));
        let store = Uuid::from_u128(1);
        let opener = ValueOpener::new(&root, StoreId(store), "state");
        opener.add(0, &[1; 32]);
        let (blob, part, attempt) = (BlobId(Uuid::from_u128(2)), PartNumber(1), Attempt(3));
        let bucket = BucketKey::of_customer(SecretBytes32::new([5; 32]));
        let (dek, _) = bucket.generate_dek(blob, &Counting);
        let key = dek.part_key(part, attempt, &[6; 32]);
        let frames = Opener::new(key, blob, part, attempt, 9 << 20);
        let records = RecordKeys::new(&root, store, "log");
        Keys { root, opener, dek, frames, records }
    })
}

/// The same keys in every run.
struct Counting;

impl benteng_host::Random for Counting {
    fn fill(&self, out: &mut [u8]) {
        (0_u8..).zip(out).for_each(|(n, byte)| *byte = n);
    }
}

/// Keys under keys, key files, names in certificates, packed values: what is read is written again to the same.
pub fn keys_as_stored(bytes: &[u8]) {
    if let Ok(wrapped) = WrappedKey::from_bytes(bytes) {
        let written = wrapped.to_bytes();
        assert!(written.len() <= bytes.len());
        assert!(WrappedKey::from_bytes(&written).is_ok_and(|again| again == wrapped));
        let bucket = BucketKey::of_customer(SecretBytes32::new([5; 32]));
        assert!(bucket.open_dek(BlobId::default(), &wrapped).is_err(), "I5: a key that nobody wrapped opens");
    }
    if let Ok(sealed) = SealedRoot::from_bytes(bytes) {
        assert!(SealedRoot::from_text(&sealed.to_text()).is_ok_and(|again| again == sealed));
    }
    if let Ok(stored) = postcard::from_bytes::<StoredCa>(bytes) {
        assert!(SiteCa::open(&keys().root, &stored).is_err(), "I5: an authority that nobody sealed opens");
    }
    if let Some(plain) = values::unpack(bytes.to_vec()) {
        let mut packed = Vec::new();
        values::pack(&plain, &mut packed);
        assert!(values::unpack(packed) == Some(plain), "a value changes when it is packed again");
    }
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Some((node, site)) = parse_node_name(text) {
        assert_eq!(node_name(node, site), text);
    }
    if let Ok(root) = RootKey::from_file_text(text) {
        let again = RootKey::from_file_text(&root.to_file_text()).expect("it was just written");
        assert!(again.secret().same_as(root.secret()));
    }
    if let Ok(sealed) = SealedRoot::from_text(text) {
        assert!(SealedRoot::from_bytes(&sealed.to_bytes()).is_ok_and(|again| again == sealed));
    }
}

/// Sealed bytes that nobody sealed: none opens (I4, I5).
pub fn sealed(bytes: &[u8]) {
    let Keys { opener, dek, frames, records, .. } = keys();
    let (head, body) = bytes.split_at(bytes.len().min(16));
    assert!(opener.open(head, body).is_err(), "a value that nobody sealed opens");
    assert!(dek.open_inline(bytes).is_err(), "a body that nobody sealed opens");
    let record = records.segment(&[8; 32]);
    assert!(record.open(head.len() as u64, head, Bytes::copy_from_slice(body)).is_err());
    let number = |at: usize| head.get(at..at + 4).and_then(|b| b.try_into().ok()).map(u32::from_be_bytes);
    let (sequence, first) = (number(0).unwrap_or_default(), number(4).unwrap_or_default());
    let opened = frames.open_frames(sequence, first, Bytes::copy_from_slice(body));
    assert!(opened.map_or(true, |plain| plain.is_empty()), "frames that nobody sealed open");
    let crcs: Vec<u32> = head.as_chunks::<4>().0.iter().map(|crc| u32::from_le_bytes(*crc)).collect();
    frame_crcs_match(body, &crcs);
}
