//! Objects: put, get, range, list, delete, copy, conditions, checksums, through every node.

use benteng_meta::query::Listed;
use benteng_meta::{
    Checksum, ChecksumKind, Condition, DeleteKey, Described, Match, Rejection, SystemHeaders,
};
use benteng_objects::*;
use bytes::Bytes;

use crate::harness::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i2_what_one_node_acknowledged_every_node_reads() {
    let site = Site::of(3).await;
    let bucket = site.node(1).objects().create_bucket("data", "ani").await.unwrap();
    for (i, n) in [0, 1, 8 << 10, (8 << 10) + 1, 70_000, (4 << 20) - 1, 4 << 20, (4 << 20) + 1, 9_500_000]
        .into_iter()
        .enumerate()
    {
        let bytes = block(n as u64 + 7, n);
        let key = format!("dir/size-{n}");
        let writer = &site.all()[i % 3];
        let done = put(writer, &bucket, &key, &bytes).await.unwrap();
        for reader in site.all() {
            let got = reader.get(&bucket, &key, GetOptions::default()).await.unwrap();
            assert_eq!((got.size, got.etag, got.range), (n as u64, done.etag, None));
            assert_eq!(got.checksum, done.checksum);
            assert_eq!(got.modified, done.modified);
            assert_eq!(read(got).await.unwrap(), bytes, "{key}");
        }
    }
    // Ranges across frames and chunks.
    let bytes = block(9_500_007, 9_500_000);
    for (start, end) in
        [(0, 1), (65_535, 65_537), ((4 << 20) - 1, (4 << 20) + 1), (3, 9_499_999), (9_499_999, 9_500_000)]
    {
        let options =
            GetOptions { range: Some(AskedRange::Between(start, end - 1)), ..GetOptions::default() };
        let got = site.node(2).objects().get(&bucket, "dir/size-9500000", options).await.unwrap();
        assert_eq!(got.range, Some(ByteRange { start, end }));
        assert_eq!(read(got).await.unwrap(), bytes.slice(start as usize..end as usize));
    }
    let options = GetOptions { range: Some(AskedRange::From(9_500_000)), ..GetOptions::default() };
    let end = site.node(3).objects().get(&bucket, "dir/size-9500000", options).await.err();
    assert!(matches!(end, Some(Error::RangeUnsatisfiable { size: 9_500_000 })), "{end:?}");
    let usage = site.node(3).objects().usage(&bucket).await.unwrap();
    assert_eq!(usage.objects, 9);
    secrets_stay_secret(&site, &bytes);
}

/// I5: a stretch of the plain bytes must not be found in any file of any node.
fn secrets_stay_secret(site: &Site, bytes: &Bytes) {
    fn files(dir: &std::path::Path, out: &mut Vec<std::path::PathBuf>) {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { files(&path, out) } else { out.push(path) }
        }
    }
    let mut all = Vec::new();
    files(site.dir(), &mut all);
    assert!(all.len() > 6);
    let needles = [&bytes[..24], &bytes[5_000_000..5_000_024]];
    for path in all {
        let Ok(content) = std::fs::read(&path) else { continue };
        for needle in needles {
            assert!(!content.windows(24).any(|w| w == needle), "I5: plain bytes in {}", path.display());
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_node_serves_buckets_listings_deletes_copies_and_conditions() {
    let site = Site::of(1).await;
    let objects = site.node(1).objects();
    buckets(&objects).await;
    let bucket = objects.create_bucket("data", "ani").await.unwrap();
    listings(&objects, &bucket).await;
    conditions(&objects, &bucket).await;
    copies(&objects, &bucket).await;
    deletes(&objects, &bucket).await;
}

async fn buckets(objects: &Objects) {
    let made = objects.create_bucket("one", "ani").await.unwrap();
    assert_eq!(objects.bucket("one").await.unwrap(), made);
    let taken = objects.create_bucket("one", "budi").await.err();
    assert!(
        matches!(&taken, Some(Error::Rejected(Rejection::BucketTaken { owner })) if owner == "ani"),
        "{taken:?}"
    );
    let bad = objects.create_bucket("No", "ani").await.err();
    assert!(matches!(bad, Some(Error::Rejected(Rejection::InvalidBucketName(_)))));
    objects.create_bucket("two", "ani").await.unwrap();
    let page = objects.buckets("", None, 1).await.unwrap();
    assert_eq!((page.lines.len(), page.more), (1, true));
    let page = objects.buckets("", Some("one"), 10).await.unwrap();
    assert_eq!((page.lines[0].name.as_str(), page.more), ("two", false));
    put(objects, &made, "k", &Bytes::from_static(b"x")).await.unwrap();
    objects.create_upload(&made, "u", "ani", UploadOptions::default()).await.unwrap();
    let full = objects.delete_bucket("one").await.err();
    assert!(matches!(full, Some(Error::Rejected(Rejection::BucketNotEmpty))));
    assert_eq!(
        objects.list_uploads(&made, "", None, 10).await.unwrap().lines.len(),
        1,
        "nothing was aborted"
    );
    objects.delete(&made, vec![DeleteKey { key: "k".into(), if_match: None }]).await.unwrap();
    objects.delete_bucket("one").await.unwrap();
    let gone = objects.bucket("one").await.err();
    assert!(matches!(gone, Some(Error::Rejected(Rejection::NoSuchBucket))));
    let again = objects.create_bucket("one", "ani").await.unwrap();
    assert_ne!(again.id, made.id);
    // The old bucket is not the new one.
    let old = put(objects, &made, "k", &Bytes::from_static(b"x")).await.err();
    assert!(matches!(old, Some(Error::Rejected(Rejection::NoSuchBucket))), "{old:?}");
    objects.delete_bucket("one").await.unwrap();
    objects.delete_bucket("two").await.unwrap();
}

async fn listings(objects: &Objects, bucket: &Bucket) {
    for key in ["a", "a/b", "a/b/c", "a//d", "/e", "../f", "z"] {
        put(objects, bucket, key, &Bytes::from_static(b"1")).await.unwrap();
    }
    let names = |page: Page<Listed<_>>| -> Vec<String> {
        page.lines.iter().map(|l: &Listed<benteng_meta::ObjectRow>| l.name().to_owned()).collect()
    };
    let all = ListOptions { limit: 100, ..ListOptions::default() };
    assert_eq!(
        names(objects.list(bucket, &all).await.unwrap()),
        ["../f", "/e", "a", "a//d", "a/b", "a/b/c", "z"]
    );
    let folded = ListOptions { delimiter: "/".into(), limit: 100, ..ListOptions::default() };
    assert_eq!(names(objects.list(bucket, &folded).await.unwrap()), ["../", "/", "a", "a/", "z"]);
    let page = objects.list(bucket, &ListOptions { limit: 2, ..folded.clone() }).await.unwrap();
    assert!(page.more);
    let after = ListAfter::Line(page.lines[1].name().to_owned());
    let rest = ListOptions { after, ..folded };
    assert_eq!(names(objects.list(bucket, &rest).await.unwrap()), ["a", "a/", "z"]);
    let none = objects.list(bucket, &ListOptions::default()).await.unwrap();
    assert_eq!((none.lines.len(), none.more), (0, false));
    assert_eq!(get(objects, bucket, "../f").await.unwrap(), &b"1"[..]);
}

async fn conditions(objects: &Objects, bucket: &Bucket) {
    let bytes = block(1, 20_000);
    let only_new = |condition| PutOptions { condition, ..PutOptions::default() };
    let absent = Condition { if_none_match: Some(Match::Any), if_match: None };
    let first = objects.put(bucket, "lock", only_new(absent.clone()), body(&bytes, 999)).await.unwrap();
    let second = objects.put(bucket, "lock", only_new(absent), body(&bytes, 999)).await.err();
    assert!(matches!(second, Some(Error::Rejected(Rejection::PreconditionFailed))), "{second:?}");
    let same = Condition { if_match: Some(Match::Tags(vec![first.etag])), if_none_match: None };
    objects.put(bucket, "lock", only_new(same.clone()), body(&block(2, 20_000), 999)).await.unwrap();
    let stale = objects.put(bucket, "lock", only_new(same.clone()), body(&bytes, 999)).await.err();
    assert!(matches!(stale, Some(Error::Rejected(Rejection::PreconditionFailed))));
    let missing = objects.put(bucket, "nothing", only_new(same), body(&bytes, 999)).await.err();
    assert!(matches!(missing, Some(Error::Rejected(Rejection::NoSuchKey))));

    let got = objects.head(bucket, "lock", GetOptions::default()).await.unwrap();
    let mut options = GetOptions::default();
    options.condition.tags.if_none_match = Some(Match::Tags(vec![got.etag]));
    let unchanged = objects.get(bucket, "lock", options).await.err();
    assert!(matches!(unchanged, Some(Error::NotModified { .. })));

    // What a body is said to be, and is not.
    let wrong = PutOptions { content_md5: Some([0; 16]), ..PutOptions::default() };
    let refused = objects.put(bucket, "wrong", wrong, body(&bytes, 999)).await.err();
    assert!(matches!(refused, Some(Error::Digest { what: "Content-MD5", .. })));
    let value = Bytes::from_static(&[1, 2, 3, 4]);
    let checksum = SentChecksum::Header(Checksum { kind: ChecksumKind::Crc32, value, composite: None });
    let refused = objects
        .put(bucket, "wrong", PutOptions { checksum, ..PutOptions::default() }, body(&bytes, 999))
        .await
        .err();
    assert!(matches!(refused, Some(Error::Digest { what: "CRC32", .. })));
    let checksum = SentChecksum::Trailer(ChecksumKind::Crc32c, Box::new(|| None));
    let refused = objects
        .put(bucket, "wrong", PutOptions { checksum, ..PutOptions::default() }, body(&bytes, 999))
        .await
        .err();
    assert!(matches!(refused, Some(Error::Invalid(_))));
    let long = PutOptions { length: Some(19_999), ..PutOptions::default() };
    let refused = objects.put(bucket, "wrong", long, body(&bytes, 999)).await.err();
    assert!(matches!(refused, Some(Error::Length { declared: 19_999, .. })));
    let cut = objects
        .put(bucket, "wrong", PutOptions::default(), broken_body(&block(3, 5 << 20), 5_000_000))
        .await
        .err();
    assert!(matches!(cut, Some(Error::Body(BodyError::Incomplete))));
    let none = objects.head(bucket, "wrong", GetOptions::default()).await.err();
    assert!(matches!(none, Some(Error::Rejected(Rejection::NoSuchKey))), "nothing is half visible (I3)");
    let kept = SentChecksum::Kind(ChecksumKind::Sha256);
    let done = objects
        .put(bucket, "sha", PutOptions { checksum: kept, ..PutOptions::default() }, body(&bytes, 999))
        .await
        .unwrap();
    assert_eq!(done.checksum.map(|c| (c.kind, c.value.len())), Some((ChecksumKind::Sha256, 32)));
}

async fn copies(objects: &Objects, bucket: &Bucket) {
    let bytes = block(5, 6_000_000);
    let system = SystemHeaders { content_type: Some("text/csv".into()), ..SystemHeaders::default() };
    let described = Described { system, user: vec![("warna".into(), "biru".into())], tags: vec![] };
    let options = PutOptions { described: described.clone(), ..PutOptions::default() };
    objects.put(bucket, "source", options, body(&bytes, 77_777)).await.unwrap();
    let from =
        |condition| CopySource { bucket: bucket.clone(), key: "source".into(), range: None, condition };
    let copied = objects
        .copy(from(ReadCondition::default()), bucket, "copy", None, Condition::default(), None)
        .await
        .unwrap();
    let got = objects.get(bucket, "copy", GetOptions::default()).await.unwrap();
    assert_eq!((got.etag, &got.described), (copied.etag, &described));
    assert_eq!(read(got).await.unwrap(), bytes);
    let replaced = Some(Described::default());
    let sha = Some(ChecksumKind::Sha1);
    objects
        .copy(from(ReadCondition::default()), bucket, "copy", replaced, Condition::default(), sha)
        .await
        .unwrap();
    let got = objects.head(bucket, "copy", GetOptions::default()).await.unwrap();
    assert_eq!((got.described, got.checksum.map(|c| c.kind)), (Described::default(), sha));
    let mut changed = ReadCondition::default();
    changed.tags.if_none_match = Some(Match::Any);
    let refused = objects.copy(from(changed), bucket, "copy", None, Condition::default(), None).await.err();
    assert!(matches!(refused, Some(Error::Rejected(Rejection::PreconditionFailed))));
}

async fn deletes(objects: &Objects, bucket: &Bucket) {
    let key = |key: &str| DeleteKey { key: key.into(), if_match: None };
    let guarded = DeleteKey { key: "copy".into(), if_match: Some(Match::Tags(vec![])) };
    let results = objects.delete(bucket, vec![key("a"), key("not there"), guarded]).await.unwrap();
    assert_eq!(results, [Ok(()), Ok(()), Err(Rejection::PreconditionFailed)]);
    let gone = objects.get(bucket, "a", GetOptions::default()).await.err();
    assert!(matches!(gone, Some(Error::Rejected(Rejection::NoSuchKey))));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn o4_deleted_and_overwritten_chunks_leave_the_disks_and_readers_keep_theirs() {
    let site = Site::of(3).await;
    let objects = site.node(1).objects();
    let bucket = objects.create_bucket("data", "ani").await.unwrap();
    let bytes = block(8, 13_000_000);
    put(&objects, &bucket, "big", &bytes).await.unwrap();
    let reading = site.node(2).objects().get(&bucket, "big", GetOptions::default()).await.unwrap();
    put(&objects, &bucket, "big", &block(9, 5_000_000)).await.unwrap();
    objects.delete(&bucket, vec![DeleteKey { key: "big".into(), if_match: None }]).await.unwrap();
    let chunks = async |site: &Site| -> u64 {
        let status = site.node(1).objects().status().await.unwrap();
        status.nodes.iter().map(|n| n.report.clone().unwrap_or_default().chunks).sum()
    };
    // What the reader does not hold goes; what it began to read stays until it has read it.
    tokio::time::sleep(std::time::Duration::from_millis(1500)).await;
    assert_eq!(read(reading).await.unwrap(), bytes, "O5: a reader keeps what it began to read");
    until("the removal of all dead chunks", async || chunks(&site).await == 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn o1_chunks_of_a_body_that_broke_off_are_removed_at_once() {
    let site = Site::of(1).await;
    let objects = site.node(1).objects();
    let bucket = objects.create_bucket("data", "ani").await.unwrap();
    let bytes = block(3, 20 << 20);
    let cut = objects.put(&bucket, "k", PutOptions::default(), broken_body(&bytes, 19 << 20)).await.err();
    assert!(matches!(cut, Some(Error::Body(BodyError::Incomplete))), "{cut:?}");
    until("the removal of left-over chunks", async || {
        objects.status().await.unwrap().nodes[0].report.clone().unwrap().chunks == 0
    })
    .await;
}
