//! Buckets, objects, blobs, parts, uploads, and what is dead but not yet removed.

use std::fmt;
use std::str::FromStr;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::codec::Versioned;
use crate::ids::*;

/// A bucket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BucketRow {
    /// Its id for ever.
    pub id: BucketId,
    /// User that created it.
    pub owner: String,
    /// When.
    pub created: SiteTime,
    /// Bucket key, wrapped under the key-encryption key `kek`.
    pub key: Bytes,
    /// The key-encryption key.
    pub kek: KekVersion,
}
impl Versioned for BucketRow {
    const WHAT: &'static str = "bucket";
}

/// Exact counters of a bucket, moved by `apply`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UsageRow {
    /// Objects (current versions).
    pub objects: u64,
    /// Sum of their sizes in bytes.
    pub bytes: u64,
    /// Uploads under way.
    pub uploads: u64,
}
impl Versioned for UsageRow {
    const WHAT: &'static str = "usage";
}

/// The entity tag: MD5 of the body, or of the parts' MD5s with their number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ETag {
    /// MD5.
    pub md5: [u8; 16],
    /// Number of parts of a multipart object.
    pub parts: Option<u16>,
}

impl fmt::Display for ETag {
    /// The tag without its quotes.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for byte in self.md5 {
            write!(f, "{byte:02x}")?;
        }
        match self.parts {
            Some(parts) => write!(f, "-{parts}"),
            None => Ok(()),
        }
    }
}

impl FromStr for ETag {
    type Err = ParseIdError;
    /// Reads the tag, with or without quotes.
    fn from_str(s: &str) -> Result<ETag, ParseIdError> {
        let fail = || ParseIdError { kind: "ETag", text: s.to_owned() };
        let bare = s.strip_prefix('"').and_then(|s| s.strip_suffix('"')).unwrap_or(s);
        let (hash, parts) = match bare.split_once('-') {
            Some((hash, parts)) => (hash, Some(parts.parse().map_err(|_| fail())?)),
            None => (bare, None),
        };
        if hash.len() != 32 || !hash.is_ascii() {
            return Err(fail());
        }
        let mut md5 = [0; 16];
        for (i, byte) in md5.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&hash[2 * i..2 * i + 2], 16).map_err(|_| fail())?;
        }
        Ok(ETag { md5, parts })
    }
}

/// Checksum algorithms of S3.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ChecksumKind {
    /// CRC-32 (IEEE), 4 bytes.
    Crc32,
    /// CRC-32C (Castagnoli), 4 bytes.
    Crc32c,
    /// CRC-64/NVME, 8 bytes.
    Crc64Nvme,
    /// SHA-1, 20 bytes.
    Sha1,
    /// SHA-256, 32 bytes.
    Sha256,
}

/// A checksum of an object or a part.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checksum {
    /// The algorithm.
    pub kind: ChecksumKind,
    /// Big-endian value.
    pub value: Bytes,
    /// For multipart objects: the number of parts of a COMPOSITE checksum; `None`: FULL_OBJECT.
    pub composite: Option<u16>,
}

/// The current version of an object: what a listing shows, and where the rest is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObjectRow {
    /// Its bytes.
    pub blob: BlobId,
    /// Length in bytes.
    pub size: u64,
    /// Entity tag.
    pub etag: ETag,
    /// When it was committed.
    pub modified: SiteTime,
    /// The state sequence of the commit.
    pub seq: StateSeq,
    /// Algorithm of its checksum, and whether that is composite.
    pub checksum: Option<(ChecksumKind, bool)>,
}
impl Versioned for ObjectRow {
    const WHAT: &'static str = "object";
}

/// Headers that S3 keeps and gives back as they were.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SystemHeaders {
    /// `Content-Type`.
    pub content_type: Option<String>,
    /// `Content-Encoding`, without `aws-chunked`.
    pub content_encoding: Option<String>,
    /// `Content-Language`.
    pub content_language: Option<String>,
    /// `Content-Disposition`.
    pub content_disposition: Option<String>,
    /// `Cache-Control`.
    pub cache_control: Option<String>,
    /// `Expires`, as given.
    pub expires: Option<String>,
    /// `x-amz-website-redirect-location`.
    pub website_redirect: Option<String>,
}

/// What a writer says about an object beside its bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Described {
    /// Headers kept by S3.
    pub system: SystemHeaders,
    /// `x-amz-meta-*`, names in lower case without the prefix.
    pub user: Vec<(String, String)>,
    /// Object tags.
    pub tags: Vec<(String, String)>,
}

/// One attempt at a part whose chunks are durable.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartRow {
    /// The attempt; chunk ids carry it.
    pub attempt: Attempt,
    /// Salt of the attempt's part key.
    pub salt: [u8; 32],
    /// Plain length in bytes; the chunk layout follows from it.
    pub size: u64,
    /// MD5 of the plain bytes.
    pub md5: [u8; 16],
    /// The checksum that the client sent or the door computed.
    pub checksum: Option<Checksum>,
    /// When it was committed.
    pub modified: SiteTime,
}
impl Versioned for PartRow {
    const WHAT: &'static str = "part";
}

/// Where the bytes of a blob are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Body {
    /// In the row, sealed with the blob's key.
    Inline(Bytes),
    /// In the chunks of part 1.
    Single(PartRow),
    /// In the parts of a completed upload: their numbers and plain sizes, ascending. Their rows stay.
    Multipart(Vec<(PartNumber, u64)>),
}

/// The bytes of one object version and all that is said about them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlobRow {
    /// Bucket it was written to.
    pub bucket: BucketId,
    /// Key it was written under.
    pub key: String,
    /// Plain length in bytes.
    pub size: u64,
    /// Data-encryption key, wrapped under the bucket's key.
    pub dek: Bytes,
    /// Checksum of the whole.
    pub checksum: Option<Checksum>,
    /// Headers, user metadata, tags.
    pub described: Described,
    /// The bytes.
    pub body: Body,
}
impl Versioned for BlobRow {
    const WHAT: &'static str = "blob";
}

/// How a multipart object's checksum is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UploadChecksum {
    /// The algorithm that the parts carry.
    pub kind: ChecksumKind,
    /// COMPOSITE (of the parts' checksums) rather than FULL_OBJECT.
    pub composite: bool,
}

/// An upload under way; its id is the blob's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UploadRow {
    /// User that began it.
    pub owner: String,
    /// When.
    pub created: SiteTime,
    /// Data-encryption key, wrapped under the bucket's key.
    pub dek: Bytes,
    /// What was said at its creation.
    pub described: Described,
    /// The checksum that was asked for.
    pub checksum: Option<UploadChecksum>,
}
impl Versioned for UploadRow {
    const WHAT: &'static str = "upload";
}

/// A finished upload, remembered so that a repeated completion is answered alike (L4).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CompletedRow {
    /// Its bucket.
    pub bucket: BucketId,
    /// Its key.
    pub key: String,
    /// The object's tag: equal part lists give equal tags.
    pub etag: ETag,
    /// Checksum of the whole.
    pub checksum: Option<Checksum>,
    /// When it was completed.
    pub at: SiteTime,
}
impl Versioned for CompletedRow {
    const WHAT: &'static str = "completed upload";
}

/// A blob that nothing names since the sequence in its key; readers of older states still use it (O4).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadBlobRow {
    /// The row as it was.
    pub blob: BlobRow,
    /// When it died.
    pub at: SiteTime,
}
impl Versioned for DeadBlobRow {
    const WHAT: &'static str = "dead blob";
}

/// An attempt at a part whose chunks nothing names since the sequence in its key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadPartRow {
    /// The part row as it was; `None`: it never had one (a refused command).
    pub part: Option<PartRow>,
    /// How many chunks the attempt has.
    pub chunks: u32,
    /// When it died.
    pub at: SiteTime,
}
impl Versioned for DeadPartRow {
    const WHAT: &'static str = "dead part";
}

/// Copies of a chunk that are missing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RepairRow {
    /// Nodes that should hold the chunk and do not.
    pub missing: Vec<NodeId>,
    /// Since when.
    pub since: SiteTime,
}
impl Versioned for RepairRow {
    const WHAT: &'static str = "repair";
}

/// A row that says nothing but that its key is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark;
impl Versioned for Mark {
    const WHAT: &'static str = "mark";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn etags_read_back_quoted_or_not() {
        for (text, shown) in [
            ("d41d8cd98f00b204e9800998ecf8427e", Some("d41d8cd98f00b204e9800998ecf8427e")),
            ("\"d41d8cd98f00b204e9800998ecf8427e-12\"", Some("d41d8cd98f00b204e9800998ecf8427e-12")),
            ("d41d8cd98f00b204e9800998ecf8427", None),
            ("d41d8cd98f00b204e9800998ecf8427e-", None),
            ("d41d8cd98f00b204e9800998ecf8427e-99999", None),
            ("zz1d8cd98f00b204e9800998ecf8427e", None),
            ("é1d8cd98f00b204e9800998ecf8427e", None),
            ("", None),
        ] {
            let read = text.parse::<ETag>().ok().map(|tag| tag.to_string());
            assert_eq!(read.as_deref(), shown, "{text}");
        }
    }
}
