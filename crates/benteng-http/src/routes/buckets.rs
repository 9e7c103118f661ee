//! Buckets and the objects in them. Keys travel in the query (`?key=`), never in the path:
//! clients normalise paths, and `a/../b` is a key of its own.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use benteng_host::real::SystemClock;
use benteng_identity::{Action, Resource};
use benteng_meta::query::Listed;
use benteng_meta::{DeleteKey, Described, ObjectRow, SystemHeaders};
use benteng_objects::{
    BodyError, BodyIn, Bucket, GetOptions, Got, ListAfter, ListOptions, Objects, Pace, PutOptions,
};
use bytes::Bytes;
use futures::StreamExt;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use serde::Deserialize;

use super::{json, page_limit};
use crate::ApiError;
use crate::api::{BucketInfo, BucketRequest, ObjectInfo, ObjectLine, Page, PutAnswer, rfc3339};
use crate::caller::Caller;

/// A body that brings too little for so long is given up.
const BODY_IDLE: Duration = Duration::from_secs(60);
const MODIFIED: HeaderName = HeaderName::from_static("x-benteng-modified");
const PARTS: HeaderName = HeaderName::from_static("x-benteng-parts");

pub(super) fn routes(objects: Objects) -> Router {
    Router::new()
        .route("/buckets", get(list_buckets).post(create_bucket))
        .route("/buckets/{bucket}", get(show_bucket).delete(delete_bucket))
        .route("/buckets/{bucket}/objects", get(list_objects))
        .route("/buckets/{bucket}/object", get(get_object).put(put_object).delete(delete_object))
        .route("/buckets/{bucket}/object/stat", get(stat_object))
        .with_state(objects)
}

#[derive(Deserialize)]
struct ListQuery {
    #[serde(default)]
    prefix: String,
    #[serde(default)]
    delimiter: String,
    after: Option<String>,
    limit: Option<usize>,
}

#[derive(Deserialize)]
struct KeyQuery {
    key: String,
}

fn on(bucket: &Bucket) -> Resource<'_> {
    Resource::Bucket { name: &bucket.name, owner: &bucket.owner }
}

fn on_object<'a>(bucket: &'a Bucket, key: &'a str) -> Resource<'a> {
    Resource::Object { bucket: &bucket.name, owner: &bucket.owner, key }
}

fn bucket_info(bucket: Bucket) -> BucketInfo {
    BucketInfo {
        name: bucket.name,
        id: bucket.id.to_string(),
        owner: bucket.owner,
        created: rfc3339(bucket.created),
        objects: None,
        bytes: None,
    }
}

/// Lists the buckets that the caller may see: the page is filtered, `next` counts in the whole list.
async fn list_buckets(
    State(objects): State<Objects>,
    caller: Caller,
    Query(query): Query<ListQuery>,
) -> Result<Json<Page<BucketInfo>>, ApiError> {
    caller.may(Action::ListBuckets, Resource::Site)?;
    let page = objects.buckets(&query.prefix, query.after.as_deref(), page_limit(query.limit)).await?;
    let next = page.lines.last().filter(|_| page.more).map(|bucket| bucket.name.clone());
    let seen = page.lines.into_iter().filter(|bucket| caller.may(Action::ListBuckets, on(bucket)).is_ok());
    Ok(Json(Page { lines: seen.map(bucket_info).collect(), next }))
}

async fn create_bucket(
    State(objects): State<Objects>,
    caller: Caller,
    body: Body,
) -> Result<(StatusCode, Json<BucketInfo>), ApiError> {
    let request: BucketRequest = json(body).await?;
    let owner = request.owner.unwrap_or_else(|| caller.0.name.clone());
    caller.may(Action::CreateBucket, Resource::Bucket { name: &request.name, owner: &owner })?;
    let bucket = objects.create_bucket(&request.name, &owner).await?;
    Ok((StatusCode::CREATED, Json(bucket_info(bucket))))
}

async fn show_bucket(
    State(objects): State<Objects>,
    caller: Caller,
    Path(name): Path<String>,
) -> Result<Json<BucketInfo>, ApiError> {
    let bucket = objects.bucket(&name).await?;
    caller.may(Action::HeadBucket, on(&bucket))?;
    let usage = objects.usage(&bucket).await?;
    Ok(Json(BucketInfo { objects: Some(usage.objects), bytes: Some(usage.bytes), ..bucket_info(bucket) }))
}

async fn delete_bucket(
    State(objects): State<Objects>,
    caller: Caller,
    Path(name): Path<String>,
) -> Result<StatusCode, ApiError> {
    let bucket = objects.bucket(&name).await?;
    caller.may(Action::DeleteBucket, on(&bucket))?;
    objects.delete_bucket(&name).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn list_objects(
    State(objects): State<Objects>,
    caller: Caller,
    Path(name): Path<String>,
    Query(query): Query<ListQuery>,
) -> Result<Json<Page<ObjectLine>>, ApiError> {
    let bucket = objects.bucket(&name).await?;
    caller.may(Action::ListObjects, on(&bucket))?;
    let options = ListOptions {
        prefix: query.prefix,
        delimiter: query.delimiter,
        after: query.after.map_or(ListAfter::Start, ListAfter::Line),
        limit: page_limit(query.limit),
    };
    let page = objects.list(&bucket, &options).await?;
    let next = page.lines.last().filter(|_| page.more).map(|line| line.name().to_owned());
    Ok(Json(Page { lines: page.lines.into_iter().map(object_line).collect(), next }))
}

fn object_line(line: Listed<ObjectRow>) -> ObjectLine {
    match line {
        Listed::Row(key, row) => ObjectLine {
            key,
            prefix: false,
            bytes: Some(row.size),
            etag: Some(row.etag.to_string()),
            modified: Some(rfc3339(row.modified)),
        },
        Listed::Common(key) => ObjectLine { key, prefix: true, bytes: None, etag: None, modified: None },
    }
}

async fn stat_object(
    State(objects): State<Objects>,
    caller: Caller,
    Path(name): Path<String>,
    Query(KeyQuery { key }): Query<KeyQuery>,
) -> Result<Json<ObjectInfo>, ApiError> {
    let bucket = objects.bucket(&name).await?;
    caller.may(Action::GetObject, on_object(&bucket, &key))?;
    let got = objects.head(&bucket, &key, GetOptions::default()).await?;
    Ok(Json(ObjectInfo {
        bucket: bucket.name,
        key,
        bytes: got.size,
        etag: got.etag.to_string(),
        modified: rfc3339(got.modified),
        content_type: got.described.system.content_type,
        parts: got.parts,
    }))
}

async fn get_object(
    State(objects): State<Objects>,
    caller: Caller,
    Path(name): Path<String>,
    Query(KeyQuery { key }): Query<KeyQuery>,
) -> Result<Response, ApiError> {
    let bucket = objects.bucket(&name).await?;
    caller.may(Action::GetObject, on_object(&bucket, &key))?;
    Ok(object_response(objects.get(&bucket, &key, GetOptions::default()).await?))
}

/// The bytes with their length: an error amid them breaks the connection off, so no client takes a part for the whole (I4).
fn object_response(got: Got) -> Response {
    let mut response = Body::from_stream(got.body).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(got.size));
    let mut text = |name: HeaderName, value: &str| {
        // What a header cannot carry is left out rather than bent.
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.insert(name, value);
        }
    };
    text(header::ETAG, &format!("\"{}\"", got.etag));
    text(MODIFIED, &rfc3339(got.modified));
    text(
        header::CONTENT_TYPE,
        got.described.system.content_type.as_deref().unwrap_or("application/octet-stream"),
    );
    // A stored page must not run as one of ours.
    text(header::X_CONTENT_TYPE_OPTIONS, "nosniff");
    text(header::CONTENT_SECURITY_POLICY, "sandbox");
    if let Some(parts) = got.parts {
        text(PARTS, &parts.to_string());
    }
    response
}

async fn put_object(
    State(objects): State<Objects>,
    caller: Caller,
    Path(name): Path<String>,
    Query(KeyQuery { key }): Query<KeyQuery>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<PutAnswer>, ApiError> {
    let bucket = objects.bucket(&name).await?;
    caller.may(Action::PutObject, on_object(&bucket, &key))?;
    let text = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let length = match text(header::CONTENT_LENGTH) {
        Some(length) => {
            Some(length.parse().map_err(|_| ApiError::bad_request("Content-Length is not a number"))?)
        }
        None => None,
    };
    let system = SystemHeaders { content_type: text(header::CONTENT_TYPE), ..SystemHeaders::default() };
    let described = Described { system, ..Described::default() };
    let options = PutOptions { described, length, ..PutOptions::default() };
    let done = objects.put(&bucket, &key, options, incoming(body)).await?;
    Ok(Json(PutAnswer { etag: done.etag.to_string(), modified: rfc3339(done.modified) }))
}

/// The body as the object layer takes it: what breaks off is an error, never an end.
fn incoming(body: Body) -> BodyIn {
    let pace = Pace::new(Arc::new(SystemClock::new()), BODY_IDLE);
    Box::pin(futures::stream::unfold(Some((body.into_data_stream(), pace)), |rest| async move {
        let (mut chunks, mut pace) = rest?;
        let next = poll_fn(|cx| match chunks.poll_next_unpin(cx) {
            Poll::Ready(next) => Poll::Ready(Ok(next)),
            Poll::Pending => pace.poll_late(cx).map(Err),
        });
        let next: Result<Bytes, BodyError> = match next.await {
            Ok(None) => return None,
            Ok(Some(Ok(bytes))) => {
                pace.came(bytes.len());
                return Some((Ok(bytes), Some((chunks, pace))));
            }
            Ok(Some(Err(_))) => Err(BodyError::Incomplete),
            Err(()) => Err(BodyError::Slow(BODY_IDLE.as_secs())),
        };
        Some((next, None))
    }))
}

async fn delete_object(
    State(objects): State<Objects>,
    caller: Caller,
    Path(name): Path<String>,
    Query(KeyQuery { key }): Query<KeyQuery>,
) -> Result<StatusCode, ApiError> {
    let bucket = objects.bucket(&name).await?;
    caller.may(Action::DeleteObject, on_object(&bucket, &key))?;
    let outcomes = objects.delete(&bucket, vec![DeleteKey { key, if_match: None }]).await?;
    for outcome in outcomes {
        outcome?;
    }
    Ok(StatusCode::NO_CONTENT)
}
