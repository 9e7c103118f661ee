//! Multipart uploads, through whichever node.

use benteng_meta::{ChecksumKind, Condition, Rejection, UploadChecksum, ids::*};
use benteng_objects::*;
use bytes::Bytes;

use crate::harness::*;

const MIB: usize = 1 << 20;

async fn part(objects: &Objects, bucket: &Bucket, upload: BlobId, number: u16, bytes: &Bytes) -> ListedPart {
    let number = PartNumber(number);
    let done = objects
        .put_part(bucket, "big", upload, number, PutOptions::default(), body(bytes, 200_000))
        .await
        .unwrap();
    ListedPart { number, etag: done.etag, checksum: None }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_goes_through_all_nodes_and_its_completion_is_answered_alike() {
    let site = Site::of(3).await;
    let nodes = site.all();
    let bucket = nodes[0].create_bucket("data", "ani").await.unwrap();
    let upload = nodes[1].create_upload(&bucket, "big", "ani", UploadOptions::default()).await.unwrap();
    let (a, b, c) = (block(1, 5 * MIB), block(2, 5 * MIB + 3), block(3, 100));
    let unused = part(&nodes[2], &bucket, upload, 9, &block(4, 6 * MIB)).await;
    // Replaced by a second attempt.
    part(&nodes[0], &bucket, upload, 2, &block(5, 5 * MIB)).await;
    let parts = vec![
        part(&nodes[0], &bucket, upload, 2, &a).await,
        part(&nodes[1], &bucket, upload, 3, &b).await,
        part(&nodes[2], &bucket, upload, 7, &c).await,
    ];
    let page = nodes[0].list_parts(&bucket, "big", upload, 2, 2).await.unwrap();
    assert_eq!(page.lines.iter().map(|l| l.number.0).collect::<Vec<_>>(), [3, 7]);
    assert!(page.more);
    let lines = nodes[0].list_uploads(&bucket, "b", None, 10).await.unwrap().lines;
    assert_eq!(lines.iter().map(|l| l.upload).collect::<Vec<_>>(), [upload]);

    let complete = async |parts: Vec<ListedPart>| {
        nodes[1].complete_upload(&bucket, "big", upload, parts, None, Condition::default()).await
    };
    let wrong = ListedPart { etag: unused.etag, ..parts[1].clone() };
    let refused = complete(vec![parts[0].clone(), wrong]).await.err();
    assert!(matches!(refused, Some(Error::Rejected(Rejection::InvalidPart(PartNumber(3))))), "{refused:?}");
    let refused = complete(vec![parts[1].clone(), parts[0].clone()]).await.err();
    assert!(matches!(refused, Some(Error::Rejected(Rejection::InvalidPartOrder))));
    let refused = complete(vec![parts[2].clone(), unused.clone()]).await.err();
    assert!(matches!(refused, Some(Error::Rejected(Rejection::PartTooSmall { .. }))), "{refused:?}");

    let done = complete(parts.clone()).await.unwrap();
    assert_eq!(done.etag.parts, Some(3));
    let again = complete(parts.clone()).await.unwrap();
    assert_eq!(again, done, "L4");
    let whole: Bytes = [&a[..], &b, &c].concat().into();
    for objects in &nodes {
        assert_eq!(get(objects, &bucket, "big").await.unwrap(), whole);
        let got = objects
            .head(&bucket, "big", GetOptions { part: Some(3), ..GetOptions::default() })
            .await
            .unwrap();
        assert_eq!((got.parts, got.etag, got.size), (Some(3), done.etag, whole.len() as u64));
        let start = a.len() as u64;
        assert_eq!(got.range, Some(ByteRange { start, end: start + b.len() as u64 }));
        let over =
            GetOptions { range: Some(AskedRange::Between(start - 2, start + 1)), ..GetOptions::default() };
        let got = objects.get(&bucket, "big", over).await.unwrap();
        assert_eq!(read(got).await.unwrap(), whole.slice(a.len() - 2..a.len() + 2));
    }
    // CRC64NVME of the whole, though nobody asked for it.
    let single = put(&nodes[0], &bucket, "single", &whole).await.unwrap();
    assert_eq!(done.checksum, single.checksum);
    let gone = nodes[2].list_parts(&bucket, "big", upload, 0, 10).await.err();
    assert!(matches!(gone, Some(Error::Rejected(Rejection::NoSuchUpload))));
    assert_eq!(nodes[2].usage(&bucket).await.unwrap().uploads, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn checksums_conditions_copies_and_aborts_of_uploads() {
    let site = Site::of(1).await;
    let objects = site.node(1).objects();
    let bucket = objects.create_bucket("data", "ani").await.unwrap();
    let asked = |kind, composite| UploadOptions {
        checksum: Some(UploadChecksum { kind, composite }),
        ..UploadOptions::default()
    };
    let (a, b) = (block(1, 5 * MIB), block(2, 33));
    let whole: Bytes = [&a[..], &b].concat().into();
    for (kind, composite) in [
        (ChecksumKind::Crc32, true),
        (ChecksumKind::Crc32, false),
        (ChecksumKind::Crc32c, false),
        (ChecksumKind::Sha256, true),
    ] {
        let upload = objects.create_upload(&bucket, "big", "ani", asked(kind, composite)).await.unwrap();
        let parts =
            vec![part(&objects, &bucket, upload, 1, &a).await, part(&objects, &bucket, upload, 2, &b).await];
        let options =
            PutOptions { checksum: SentChecksum::Kind(ChecksumKind::Sha1), ..PutOptions::default() };
        let other =
            objects.put_part(&bucket, "big", upload, PartNumber(3), options, body(&b, 10)).await.err();
        assert!(matches!(other, Some(Error::Invalid(_))), "{other:?}");
        let done =
            objects.complete_upload(&bucket, "big", upload, parts, None, Condition::default()).await.unwrap();
        let checksum = done.checksum.unwrap();
        assert_eq!((checksum.kind, checksum.composite), (kind, composite.then_some(2)));
        if !composite {
            let options = PutOptions { checksum: SentChecksum::Kind(kind), ..PutOptions::default() };
            let single = objects.put(&bucket, "single", options, body(&whole, 1000)).await.unwrap();
            assert_eq!(single.checksum.unwrap().value, checksum.value);
        }
    }
    assert!(objects.create_upload(&bucket, "big", "ani", asked(ChecksumKind::Sha1, false)).await.is_err());
    assert!(
        objects.create_upload(&bucket, "big", "ani", asked(ChecksumKind::Crc64Nvme, true)).await.is_err()
    );

    // A part copy.
    let upload = objects.create_upload(&bucket, "copy", "ani", UploadOptions::default()).await.unwrap();
    let range = Some(AskedRange::Between(1, 5 * MIB as u64));
    let from =
        CopySource { bucket: bucket.clone(), key: "big".into(), range, condition: ReadCondition::default() };
    let copied = objects.copy_part(from, &bucket, "copy", upload, PartNumber(1)).await.unwrap();
    let listed =
        vec![ListedPart { number: PartNumber(1), etag: copied.etag, checksum: copied.checksum.clone() }];
    objects
        .complete_upload(&bucket, "copy", upload, listed, copied.checksum, Condition::default())
        .await
        .unwrap();
    assert_eq!(get(&objects, &bucket, "copy").await.unwrap(), whole.slice(1..5 * MIB + 1));

    // An abort, and what may not be done to what is not there.
    let upload = objects.create_upload(&bucket, "gone", "ani", UploadOptions::default()).await.unwrap();
    objects
        .put_part(&bucket, "gone", upload, PartNumber(1), PutOptions::default(), body(&a, 70_000))
        .await
        .unwrap();
    objects.abort_upload(&bucket, "gone", upload).await.unwrap();
    let again = objects.abort_upload(&bucket, "gone", upload).await.err();
    assert!(matches!(again, Some(Error::Rejected(Rejection::NoSuchUpload))));
    let late = objects
        .put_part(&bucket, "gone", upload, PartNumber(1), PutOptions::default(), body(&a, 70_000))
        .await
        .err();
    assert!(matches!(late, Some(Error::Rejected(Rejection::NoSuchUpload))), "{late:?}");
    let empty = objects.create_upload(&bucket, "empty", "ani", UploadOptions::default()).await.unwrap();
    let nothing = objects
        .put_part(&bucket, "empty", empty, PartNumber(1), PutOptions::default(), body(&Bytes::new(), 1))
        .await
        .unwrap();
    let listed = vec![ListedPart { number: PartNumber(1), etag: nothing.etag, checksum: None }];
    objects.complete_upload(&bucket, "empty", empty, listed, None, Condition::default()).await.unwrap();
    assert_eq!(get(&objects, &bucket, "empty").await.unwrap(), Bytes::new());
}
