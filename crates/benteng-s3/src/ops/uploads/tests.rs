//! What a client may say about an upload.

use super::*;

fn code<T>(got: S3Result<T>) -> String {
    got.err().map_or_else(|| "fine".to_owned(), |e| e.code().as_str().to_owned())
}

#[test]
fn checksum_types_follow_the_algorithm() {
    let sum = |kind, composite| Ok(Some(UploadChecksum { kind, composite }));
    for (algorithm, kind, wanted) in [
        (None, None, Ok(None)),
        (Some("CRC32"), None, sum(ChecksumKind::Crc32, true)),
        (Some("CRC32"), Some("FULL_OBJECT"), sum(ChecksumKind::Crc32, false)),
        (Some("CRC32C"), Some("COMPOSITE"), sum(ChecksumKind::Crc32c, true)),
        (Some("CRC64NVME"), None, sum(ChecksumKind::Crc64Nvme, false)),
        (Some("CRC64NVME"), Some("COMPOSITE"), Err(())),
        (Some("SHA256"), None, sum(ChecksumKind::Sha256, true)),
        (Some("SHA1"), Some("FULL_OBJECT"), Err(())),
        (Some("MD5"), None, Err(())),
        (None, Some("COMPOSITE"), Err(())),
        (Some("CRC32"), Some("other"), Err(())),
    ] {
        assert_eq!(upload_checksum(algorithm, kind).map_err(|_| ()), wanted, "{algorithm:?} {kind:?}");
    }
}

#[test]
fn part_lists_are_checked_before_anything_is_asked() {
    let part = |number: Option<i32>, tag: Option<&str>| CompletedPart {
        part_number: number,
        e_tag: tag.map(|tag| ETag::Strong(tag.to_owned())),
        ..Default::default()
    };
    let tag = "d41d8cd98f00b204e9800998ecf8427e";
    for (list, wanted) in [
        (vec![], "MalformedXML"),
        (vec![part(Some(1), Some(tag))], "fine"),
        (vec![part(None, Some(tag))], "MalformedXML"),
        (vec![part(Some(1), None)], "MalformedXML"),
        (vec![part(Some(0), Some(tag))], "InvalidArgument"),
        (vec![part(Some(10_001), Some(tag))], "InvalidArgument"),
        (vec![part(Some(1), Some("made up"))], "InvalidPart"),
        ((1..=10_001).map(|n| part(Some(n), Some(tag))).collect(), "MalformedXML"),
    ] {
        let count = list.len();
        assert_eq!(code(listed_parts(list)), wanted, "{count} parts");
    }
}

#[test]
fn part_numbers_and_upload_ids_have_bounds() {
    for (number, ok) in [(1, true), (10_000, true), (0, false), (10_001, false), (-1, false), (65_537, false)]
    {
        assert_eq!(part_number(number).is_ok(), ok, "{number}");
    }
    assert_eq!(code(upload_id("no-id")), "NoSuchUpload");
}

#[test]
fn a_group_is_skipped_as_a_whole() {
    let skip = behind("a/");
    assert!(skip.len() <= 1024 && skip.as_str() > "a/zzz\u{10FFFF}" && skip.as_str() < "a0");
    assert_eq!(group("a/b/c", "a/", "/").as_deref(), Some("a/b/"));
    assert_eq!(group("a/b", "a/", "/"), None);
    assert_eq!(group("a/b", "", ""), None);
    let id = BlobId::default();
    assert_eq!(after_marker("a/".into(), None, "", "/"), (behind("a/"), LAST_ID));
    assert_eq!(after_marker("a/b".into(), None, "", "/"), ("a/b".into(), LAST_ID));
    assert_eq!(after_marker("a".into(), Some(id), "", "/"), ("a".into(), id));
}
