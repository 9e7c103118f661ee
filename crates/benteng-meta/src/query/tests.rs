//! Listings against a plain model: every page size shows the same lines, each once.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use uuid::Uuid;

use super::*;

type Rows = BTreeMap<Bytes, Bytes>;

const BUCKET: BucketId = BucketId(Uuid::from_u128(5));

fn rows(keys: &BTreeSet<String>) -> Rows {
    let row = ObjectRow {
        blob: BlobId::default(),
        size: 1,
        etag: ETag { md5: [0; 16], parts: None },
        modified: SiteTime(0),
        seq: StateSeq(0),
        checksum: None,
    };
    let mut rows: BTreeMap<Bytes, Bytes> = BTreeMap::new();
    for key in keys {
        rows.insert(key::object(BUCKET, key.as_bytes()), codec::encode(&row));
    }
    // Neighbours that must not show.
    rows.insert(key::object(BucketId(Uuid::from_u128(4)), b"z"), codec::encode(&row));
    rows.insert(key::object(BucketId(Uuid::from_u128(6)), b"a"), codec::encode(&row));
    rows
}

/// What S3 shows, worked out line by line.
fn model(keys: &BTreeSet<String>, prefix: &str, delimiter: &str) -> Vec<String> {
    let mut lines = BTreeSet::new();
    for key in keys.iter().filter(|k| k.starts_with(prefix)) {
        match key[prefix.len()..].find(delimiter).filter(|_| !delimiter.is_empty()) {
            Some(at) => lines.insert(key[..prefix.len() + at + delimiter.len()].to_owned()),
            None => lines.insert(key.clone()),
        };
    }
    lines.into_iter().collect()
}

fn keys() -> impl Strategy<Value = BTreeSet<String>> {
    proptest::collection::btree_set("[a-c/é]{1,6}", 0..40)
}

proptest! {
    #[test]
    fn every_page_size_shows_each_line_once(
        keys in keys(),
        prefix in "[a-c/]{0,2}",
        delimiter in proptest::sample::select(vec!["", "/", "a", "//"]),
        limit in 1_usize..7,
    ) {
        let view = rows(&keys);
        let mut seen = Vec::new();
        let mut after: Option<String> = None;
        loop {
            let from = after.as_deref().map_or(After::Start, After::Line);
            let (lines, more) = list_objects(&view, BUCKET, &prefix, delimiter, from, limit).expect("readable");
            prop_assert!(lines.len() <= limit);
            prop_assert!(!more || lines.len() == limit, "a page that is not the last is full");
            seen.extend(lines.iter().map(|line| line.name().to_owned()));
            if !more {
                break;
            }
            after = lines.last().map(|line| line.name().to_owned());
        }
        prop_assert_eq!(seen, model(&keys, &prefix, delimiter));
    }

    #[test]
    fn a_listing_after_a_key_shows_what_sorts_behind_it(
        keys in keys(),
        delimiter in proptest::sample::select(vec!["", "/"]),
        start in "[a-c/]{0,4}",
    ) {
        let view = rows(&keys);
        let (lines, _) = list_objects(&view, BUCKET, "", delimiter, After::Key(&start), 1000).expect("readable");
        let behind: BTreeSet<String> = keys.into_iter().filter(|k| *k > start).collect();
        let seen: Vec<String> = lines.iter().map(|line| line.name().to_owned()).collect();
        prop_assert_eq!(seen, model(&behind, "", delimiter));
    }
}
