//! Buckets as object stores. A store belongs to one user and one bucket; every access asks
//! `authorize` first, so SQL reads exactly what the same user reads over S3.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use benteng_identity::{Action, Principal, Resource, authorize};
use benteng_meta::query::Listed;
use benteng_meta::{ETag, Match, ObjectRow, Rejection};
use benteng_objects::{AskedRange, Bucket, Got, ListAfter, ListOptions, Objects};
use bytes::Bytes;
use chrono::{DateTime, Utc};
use datafusion::error::DataFusionError;
use datafusion::execution::object_store::ObjectStoreRegistry;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{
    Attributes, CopyOptions, GetOptions, GetRange, GetResult, GetResultPayload, ListResult, MultipartUpload,
    ObjectMeta, ObjectStore, PutMultipartOptions, PutOptions, PutPayload, PutResult,
};
use url::Url;

use crate::{Error, Result};

/// Lines asked for at once while listing.
const PAGE: usize = 1000;

/// The user whose session reads: rides in the session's configuration, where tables find it.
#[derive(Clone, Debug)]
pub struct Viewer(pub Arc<Principal>);

/// Where the stores of a session come from: the object layer, or memory in tests.
pub trait StoreSource: fmt::Debug + Send + Sync + 'static {
    /// The store of one bucket, there or not, as `viewer` sees it.
    fn store(&self, viewer: &Viewer, bucket: &str) -> Arc<dyn ObjectStore>;
}

/// The object layer of this node as a source of stores.
#[derive(Clone)]
pub struct ObjectLayer(pub Objects);

impl fmt::Debug for ObjectLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ObjectLayer")
    }
}

impl StoreSource for ObjectLayer {
    fn store(&self, viewer: &Viewer, bucket: &str) -> Arc<dyn ObjectStore> {
        Arc::new(ObjectLayerStore::new(self.0.clone(), viewer.clone(), bucket))
    }
}

/// What a session can reach: `s3://bucket/`, nothing else.
pub(crate) struct Registry {
    pub(crate) source: Arc<dyn StoreSource>,
    pub(crate) viewer: Viewer,
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registry").field("source", &self.source).finish_non_exhaustive()
    }
}

impl ObjectStoreRegistry for Registry {
    fn register_store(&self, _url: &Url, _store: Arc<dyn ObjectStore>) -> Option<Arc<dyn ObjectStore>> {
        // Nothing can be added: stores are made for the session's user, on demand.
        None
    }

    fn get_store(&self, url: &Url) -> Result<Arc<dyn ObjectStore>, DataFusionError> {
        match (url.scheme(), url.host_str()) {
            ("s3", Some(bucket)) => Ok(self.source.store(&self.viewer, bucket)),
            _ => Err(Error::Refused { what: format!("a file at {:?}", url.scheme()) }.into()),
        }
    }
}

/// One bucket of the object layer, as one user sees it. Reads only.
#[derive(Clone)]
pub struct ObjectLayerStore {
    objects: Objects,
    viewer: Viewer,
    bucket: String,
}

impl fmt::Debug for ObjectLayerStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for ObjectLayerStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "s3://{}", self.bucket)
    }
}

impl ObjectLayerStore {
    /// The bucket of this name, which need not exist.
    pub fn new(objects: Objects, viewer: Viewer, bucket: &str) -> ObjectLayerStore {
        ObjectLayerStore { objects, viewer, bucket: bucket.to_owned() }
    }

    async fn bucket(&self) -> Result<Bucket> {
        self.objects.bucket(&self.bucket).await.map_err(|e| match e {
            benteng_objects::Error::Rejected(Rejection::NoSuchBucket) => {
                Error::NoSuchBucket(self.bucket.clone())
            }
            e => e.into(),
        })
    }

    fn error(&self, key: &Path, e: benteng_objects::Error) -> Error {
        match e {
            benteng_objects::Error::Rejected(Rejection::NoSuchKey) => {
                Error::NoSuchFile(format!("s3://{}/{key}", self.bucket))
            }
            benteng_objects::Error::Rejected(Rejection::NoSuchBucket) => {
                Error::NoSuchBucket(self.bucket.clone())
            }
            e => e.into(),
        }
    }

    async fn read(&self, key: &Path, options: GetOptions) -> Result<(Got, Range<u64>)> {
        let bucket = self.bucket().await?;
        let object = Resource::Object { bucket: &bucket.name, owner: &bucket.owner, key: key.as_ref() };
        authorize(&self.viewer.0, Action::GetObject, object)?;
        let mut asked = benteng_objects::GetOptions { range: range(options.range)?, ..Default::default() };
        asked.condition.tags.if_match = tags(options.if_match.as_deref())?;
        asked.condition.tags.if_none_match = tags(options.if_none_match.as_deref())?;
        asked.condition.modified_since = options.if_modified_since.map(|at| at.timestamp());
        asked.condition.unmodified_since = options.if_unmodified_since.map(|at| at.timestamp());
        let got = if options.head {
            self.objects.head(&bucket, key.as_ref(), asked).await
        } else {
            self.objects.get(&bucket, key.as_ref(), asked).await
        };
        let got = got.map_err(|e| self.error(key, e))?;
        let range = got.range.map_or(0..got.size, |r| r.start..r.end);
        Ok((got, range))
    }

    /// Keys below `prefix` (as bytes, not as path steps), in order. Keys that no path can
    /// name (`a//b`, `..`, a trailing `/`) are left out: SQL cannot read them.
    fn keys(&self, prefix: String, after: ListAfter) -> BoxStream<'static, Result<ObjectMeta>> {
        let state = Some((
            self.clone(),
            None::<Bucket>,
            ListOptions { prefix, after, limit: PAGE, ..Default::default() },
        ));
        let pages = futures::stream::try_unfold(state, |state| async move {
            let Some((store, bucket, mut options)) = state else { return Ok(None) };
            let bucket = match bucket {
                Some(bucket) => bucket,
                None => store.listable().await?,
            };
            let page =
                store.objects.list(&bucket, &options).await.map_err(|e| store.error(&Path::default(), e))?;
            let last = page.lines.last().map(|line| line.name().to_owned());
            let metas: Vec<Result<ObjectMeta>> = page.lines.into_iter().filter_map(meta).map(Ok).collect();
            let next = last.filter(|_| page.more).map(|last| {
                options.after = ListAfter::Line(last);
                (store, Some(bucket), options)
            });
            Ok::<_, Error>(Some((futures::stream::iter(metas), next)))
        });
        pages.try_flatten().boxed()
    }

    async fn listable(&self) -> Result<Bucket> {
        let bucket = self.bucket().await?;
        let on = Resource::Bucket { name: &bucket.name, owner: &bucket.owner };
        authorize(&self.viewer.0, Action::ListObjects, on)?;
        Ok(bucket)
    }
}

fn meta(line: Listed<ObjectRow>) -> Option<ObjectMeta> {
    let Listed::Row(key, row) = line else { return None };
    let location = Path::parse(&key).ok().filter(|path| path.as_ref() == key)?;
    let last_modified = DateTime::from_timestamp_micros(row.modified.0).unwrap_or_default();
    Some(ObjectMeta {
        location,
        last_modified,
        size: row.size,
        e_tag: Some(row.etag.to_string()),
        version: None,
    })
}

fn range(range: Option<GetRange>) -> Result<Option<AskedRange>> {
    Ok(match range {
        None => None,
        Some(GetRange::Bounded(r)) if r.start < r.end => Some(AskedRange::Between(r.start, r.end - 1)),
        Some(GetRange::Bounded(r)) => {
            return Err(Error::BadArgument(format!("bytes {}..{} are no range", r.start, r.end)));
        }
        Some(GetRange::Offset(from)) => Some(AskedRange::From(from)),
        Some(GetRange::Suffix(last)) => Some(AskedRange::Last(last)),
    })
}

fn tags(header: Option<&str>) -> Result<Option<Match>> {
    let Some(header) = header else { return Ok(None) };
    if header.trim() == "*" {
        return Ok(Some(Match::Any));
    }
    let parse = |tag: &str| tag.trim().parse::<ETag>().map_err(|e| Error::BadArgument(e.to_string()));
    Ok(Some(Match::Tags(header.split(',').map(parse).collect::<Result<_>>()?)))
}

fn refused(operation: &str) -> object_store::Error {
    let what = format!("{operation} through SQL");
    let instead = "write objects over S3";
    object_store::Error::NotSupported { source: Box::new(Error::NotSupported { what, instead }) }
}

#[async_trait]
impl ObjectStore for ObjectLayerStore {
    async fn get_opts(&self, key: &Path, options: GetOptions) -> object_store::Result<GetResult> {
        let (got, range) = self.read(key, options).await?;
        let meta = ObjectMeta {
            location: key.clone(),
            last_modified: DateTime::<Utc>::from_timestamp_micros(got.modified.0).unwrap_or_default(),
            size: got.size,
            e_tag: Some(got.etag.to_string()),
            version: None,
        };
        let body = got.body.map_err(|e| object_store::Error::from(Error::from(e))).boxed();
        Ok(GetResult { payload: GetResultPayload::Stream(body), meta, range, attributes: Attributes::new() })
    }

    async fn get_ranges(&self, key: &Path, ranges: &[Range<u64>]) -> object_store::Result<Vec<Bytes>> {
        // Neighbours within 64 KiB are one read: a frame of the body is that long, so the gap is decrypted anyway.
        object_store::coalesce_ranges(
            ranges,
            |range| object_store::ObjectStoreExt::get_range(self, key, range),
            64 << 10,
        )
        .await
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, object_store::Result<ObjectMeta>> {
        let prefix = prefix.filter(|p| !p.as_ref().is_empty()).map_or_else(String::new, |p| format!("{p}/"));
        self.keys(prefix, ListAfter::Start).map_err(Into::into).boxed()
    }

    fn list_with_offset(
        &self,
        prefix: Option<&Path>,
        offset: &Path,
    ) -> BoxStream<'static, object_store::Result<ObjectMeta>> {
        let prefix = prefix.filter(|p| !p.as_ref().is_empty()).map_or_else(String::new, |p| format!("{p}/"));
        self.keys(prefix, ListAfter::Key(offset.to_string())).map_err(Into::into).boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> object_store::Result<ListResult> {
        let prefix = prefix.filter(|p| !p.as_ref().is_empty()).map_or_else(String::new, |p| format!("{p}/"));
        let bucket = self.listable().await?;
        let mut options = ListOptions { prefix, delimiter: "/".into(), limit: PAGE, ..Default::default() };
        let mut out = ListResult { common_prefixes: Vec::new(), objects: Vec::new() };
        loop {
            let page =
                self.objects.list(&bucket, &options).await.map_err(|e| self.error(&Path::default(), e))?;
            let last = page.lines.last().map(|line| line.name().to_owned());
            for line in page.lines {
                match line {
                    Listed::Common(common) => out.common_prefixes.extend(Path::parse(&common).ok()),
                    row => out.objects.extend(meta(row)),
                }
            }
            match last.filter(|_| page.more) {
                Some(last) => options.after = ListAfter::Line(last),
                None => return Ok(out),
            }
        }
    }

    async fn put_opts(&self, _: &Path, _: PutPayload, _: PutOptions) -> object_store::Result<PutResult> {
        Err(refused("writing an object"))
    }

    async fn put_multipart_opts(
        &self,
        _: &Path,
        _: PutMultipartOptions,
    ) -> object_store::Result<Box<dyn MultipartUpload>> {
        Err(refused("writing an object"))
    }

    fn delete_stream(
        &self,
        keys: BoxStream<'static, object_store::Result<Path>>,
    ) -> BoxStream<'static, object_store::Result<Path>> {
        keys.map(|key| key.and_then(|_| Err(refused("deleting an object")))).boxed()
    }

    async fn copy_opts(&self, _: &Path, _: &Path, _: CopyOptions) -> object_store::Result<()> {
        Err(refused("copying an object"))
    }
}

/// Objects of a bucket below a prefix of their keys, whatever store stands behind.
/// object_store lists by path step: a prefix that ends inside of a name is filtered here.
pub(crate) fn list(
    store: &Arc<dyn ObjectStore>,
    prefix: &str,
) -> BoxStream<'static, object_store::Result<ObjectMeta>> {
    let directory = prefix.rfind('/').map_or("", |at| &prefix[..at]);
    let prefix = prefix.to_owned();
    let starts = move |meta: &ObjectMeta| futures::future::ready(meta.location.as_ref().starts_with(&prefix));
    store.list(Path::parse(directory).ok().as_ref()).try_filter(starts).boxed()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_of_object_store_become_ranges_of_the_object_layer() {
        assert_eq!(range(None).expect("none"), None);
        assert_eq!(range(Some(GetRange::Bounded(2..5))).expect("range"), Some(AskedRange::Between(2, 4)));
        assert_eq!(range(Some(GetRange::Offset(7))).expect("range"), Some(AskedRange::From(7)));
        assert_eq!(range(Some(GetRange::Suffix(8))).expect("range"), Some(AskedRange::Last(8)));
        assert!(range(Some(GetRange::Bounded(5..5))).is_err());
    }

    #[test]
    fn the_registry_knows_s3_only() {
        #[derive(Debug)]
        struct Memory;
        impl StoreSource for Memory {
            fn store(&self, _: &Viewer, _: &str) -> Arc<dyn ObjectStore> {
                Arc::new(object_store::memory::InMemory::new())
            }
        }
        let viewer = Viewer(Arc::new(Principal::anonymous()));
        let registry = Registry { source: Arc::new(Memory), viewer };
        let url = |text| Url::parse(text).expect("url");
        assert!(registry.get_store(&url("s3://data/")).is_ok());
        for refused in ["file:///etc/", "http://host/", "https://host/", "gs://b/", "s3:///x"] {
            assert!(registry.get_store(&url(refused)).is_err(), "{refused}");
        }
        registry.register_store(&url("file:///"), Arc::new(object_store::memory::InMemory::new()));
        assert!(registry.get_store(&url("file:///etc/")).is_err());
    }
}
