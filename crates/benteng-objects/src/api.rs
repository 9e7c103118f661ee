//! What a request says and what it gets.

use std::pin::Pin;

use benteng_meta::ids::*;
use benteng_meta::{Checksum, ChecksumKind, Condition, Described, ETag, UploadChecksum};
use bytes::Bytes;
use futures::Stream;

use crate::{BodyError, Error};

/// A request body as the door hands it in: plain bytes, transfer coding removed.
pub type BodyIn = Pin<Box<dyn Stream<Item = Result<Bytes, BodyError>> + Send>>;
/// An object's bytes as they are read: an error means that the answer must be broken off,
/// never ended cleanly (I4).
pub type BodyOut = Pin<Box<dyn Stream<Item = Result<Bytes, Error>> + Send>>;

/// A bucket, resolved by name. Operations on it fail with `NoSuchBucket` once it is deleted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bucket {
    /// Its name.
    pub name: String,
    /// Its id for ever.
    pub id: BucketId,
    /// User that created it.
    pub owner: String,
    /// When.
    pub created: SiteTime,
}

/// The checksum that a client sends with a body.
pub enum SentChecksum {
    /// None: the object layer computes CRC64NVME.
    None,
    /// The algorithm is named, its value is not: computed, stored and answered.
    Kind(ChecksumKind),
    /// In a header, before the body.
    Header(Checksum),
    /// In a trailer: called once the body has ended; `None` if the trailer did not come.
    Trailer(ChecksumKind, Box<dyn FnOnce() -> Option<Bytes> + Send>),
}

/// What a PUT says beside its bytes.
pub struct PutOptions {
    /// Headers, user metadata, tags.
    pub described: Described,
    /// Condition on what is there now.
    pub condition: Condition,
    /// `Content-MD5`.
    pub content_md5: Option<[u8; 16]>,
    /// Checksum header or trailer.
    pub checksum: SentChecksum,
    /// Decoded length, if it was declared.
    pub length: Option<u64>,
}

impl Default for PutOptions {
    fn default() -> PutOptions {
        PutOptions {
            described: Described::default(),
            condition: Condition::default(),
            content_md5: None,
            checksum: SentChecksum::None,
            length: None,
        }
    }
}

/// A stored object or part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PutDone {
    /// Entity tag.
    pub etag: ETag,
    /// Checksum as stored.
    pub checksum: Option<Checksum>,
    /// When it was committed.
    pub modified: SiteTime,
}

/// A range as a client asks for it (RFC 9110 §14.1.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AskedRange {
    /// `bytes=a-b` (inclusive).
    Between(u64, u64),
    /// `bytes=a-`.
    From(u64),
    /// `bytes=-n`: the last n.
    Last(u64),
}

/// Bytes `start..end` of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ByteRange {
    /// First byte.
    pub start: u64,
    /// One past the last byte.
    pub end: u64,
}

/// Conditions of a read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReadCondition {
    /// `If-Match` and `If-None-Match`.
    pub tags: Condition,
    /// `If-Modified-Since`, whole seconds since 1970; ignored if `If-None-Match` is there.
    pub modified_since: Option<i64>,
    /// `If-Unmodified-Since`, whole seconds since 1970; ignored if `If-Match` is there.
    pub unmodified_since: Option<i64>,
}

/// What a GET or HEAD asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GetOptions {
    /// A range; not together with `part`.
    pub range: Option<AskedRange>,
    /// A part by number.
    pub part: Option<u16>,
    /// Conditions.
    pub condition: ReadCondition,
}

/// An object as it is read.
pub struct Got {
    /// Length of the whole object.
    pub size: u64,
    /// Entity tag of the object.
    pub etag: ETag,
    /// When it was committed.
    pub modified: SiteTime,
    /// Checksum of the whole object.
    pub checksum: Option<Checksum>,
    /// Headers, user metadata, tags.
    pub described: Described,
    /// Number of parts of a multipart object.
    pub parts: Option<u16>,
    /// What part of it is served: `Some` iff a range or part was asked for (206).
    pub range: Option<ByteRange>,
    /// The bytes; empty for HEAD.
    pub body: BodyOut,
}

/// Which objects a listing shows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListOptions {
    /// Only keys that start with this.
    pub prefix: String,
    /// Folds keys into common prefixes; empty: none.
    pub delimiter: String,
    /// Where to go on.
    pub after: ListAfter,
    /// Lines at most.
    pub limit: usize,
}

/// Where a listing goes on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ListAfter {
    /// At the beginning.
    #[default]
    Start,
    /// After this key (`start-after`, `marker`).
    Key(String),
    /// After this line (key or common prefix) of an earlier page (continuation token, `NextMarker`).
    Line(String),
}

/// A page of a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page<T> {
    /// Its lines, in byte order.
    pub lines: Vec<T>,
    /// Whether more follow.
    pub more: bool,
}

/// What begins an upload.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UploadOptions {
    /// Headers, user metadata, tags of the future object.
    pub described: Described,
    /// The checksum that the client asks for.
    pub checksum: Option<UploadChecksum>,
}

/// A part as the client lists it in its completion.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedPart {
    /// Number.
    pub number: PartNumber,
    /// Tag that UploadPart answered.
    pub etag: ETag,
    /// Checksum, if the client names it.
    pub checksum: Option<Checksum>,
}

/// A source of a copy.
#[derive(Clone, Debug)]
pub struct CopySource {
    /// Bucket.
    pub bucket: Bucket,
    /// Key.
    pub key: String,
    /// Part of the source, for part copies.
    pub range: Option<AskedRange>,
    /// `x-amz-copy-source-if-*`.
    pub condition: ReadCondition,
}

/// A part of an upload as it is listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartLine {
    /// Number.
    pub number: PartNumber,
    /// Length in bytes.
    pub size: u64,
    /// Tag.
    pub etag: ETag,
    /// Checksum.
    pub checksum: Option<Checksum>,
    /// When it was committed.
    pub modified: SiteTime,
}

/// An upload under way as it is listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UploadLine {
    /// Key.
    pub key: String,
    /// Id.
    pub upload: BlobId,
    /// User that began it.
    pub owner: String,
    /// When.
    pub created: SiteTime,
    /// The checksum that was asked for.
    pub checksum: Option<UploadChecksum>,
}
