//! The door of a simulated node: what the S3 door is to a real one, on plain frames. Bodies are
//! made and held against their values on the node, so that only names cross the wire.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use benteng_host::{Host, Stream, sleep};
use benteng_meta::ids::PartNumber;
use benteng_meta::{Condition, DeleteKey, ETag, Match, Rejection};
use benteng_objects::{
    BodyIn, Bucket, Error, GetOptions, ListOptions, ListedPart, Objects, PutOptions, UploadOptions,
};
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::history::{self, Value};

/// Port of the door on every node.
pub(crate) const PORT: u16 = 9000;
/// The only bucket.
pub(crate) const BUCKET: &str = "simulasi";
/// Longest frame.
const FRAME_MAX: usize = 64 << 10;

/// What a client asks of a node.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Ask {
    /// Writes a value of `len` bytes.
    Put {
        /// Key.
        key: String,
        /// Value.
        value: Value,
        /// Length of its body in bytes.
        len: usize,
        /// Only if nothing is there.
        create: bool,
        /// Only if what is there has this tag.
        tag: Option<String>,
        /// Milliseconds between two slices of the body.
        pause: u64,
    },
    /// Writes a value of `len` bytes by an upload of one part, or of two cut at `cut`.
    Upload {
        /// Key.
        key: String,
        /// Value.
        value: Value,
        /// Length of its body in bytes.
        len: usize,
        /// Length of the first of two parts.
        cut: Option<usize>,
    },
    /// Lists the bucket.
    List,
    /// Reads.
    Get {
        /// Key.
        key: String,
        /// Milliseconds between two pieces of the body.
        pause: u64,
    },
    /// Removes.
    Delete {
        /// Key.
        key: String,
    },
}

/// What the node answers.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Say {
    /// Written; with this tag.
    Put(String),
    /// Removed.
    Deleted,
    /// Read: the value and its tag; `None`: nothing is there.
    Got(Option<(Value, String)>),
    /// All keys of the bucket.
    Listed(Vec<String>),
    /// The condition does not hold.
    Refused,
    /// Surely nothing was done.
    Failed(String),
    /// It may have been done, or may yet be.
    Unknown(String),
    /// The node served bytes that nobody wrote (I4).
    Wrong(String),
}

/// Writes a frame.
pub(crate) async fn send(stream: &mut dyn Stream, frame: &impl Serialize) -> io::Result<()> {
    let body = postcard::to_allocvec(frame).map_err(io::Error::other)?;
    let len = u32::try_from(body.len()).map_err(io::Error::other)?;
    stream.write_all(&len.to_be_bytes()).await?;
    stream.write_all(&body).await?;
    stream.flush().await
}

/// Reads a frame.
pub(crate) async fn receive<T: for<'a> Deserialize<'a>>(stream: &mut dyn Stream) -> io::Result<T> {
    let len = stream.read_u32().await?;
    let len = usize::try_from(len)
        .ok()
        .filter(|n| *n <= FRAME_MAX)
        .ok_or_else(|| io::Error::other("long frame"))?;
    let mut body = vec![0; len];
    stream.read_exact(&mut body).await?;
    postcard::from_bytes(&body).map_err(io::Error::other)
}

/// Serves clients until the host ends.
pub(crate) async fn serve(host: Host, objects: Objects) -> Result<(), String> {
    let mut listener = host.net.listen(&format!("0.0.0.0:{PORT}")).await.map_err(|e| e.to_string())?;
    let objects = Arc::new(objects);
    let mut clients = FuturesUnordered::new();
    loop {
        let accepted = {
            let accept = listener.accept();
            futures::pin_mut!(accept);
            loop {
                if clients.is_empty() {
                    break accept.await;
                }
                match futures::future::select(&mut accept, clients.next()).await {
                    futures::future::Either::Left((accepted, _)) => break accepted,
                    futures::future::Either::Right(_) => {}
                }
            }
        };
        if let Ok((mut stream, _)) = accepted {
            let (objects, host) = (objects.clone(), host.clone());
            clients.push(async move {
                // A client that hangs up ends its connection, nothing else.
                while let Ok(ask) = receive::<Ask>(&mut *stream).await {
                    let say = answer(&host, &objects, ask).await;
                    if send(&mut *stream, &say).await.is_err() {
                        break;
                    }
                }
            });
        }
    }
}

async fn bucket(objects: &Objects) -> Result<Bucket, Say> {
    let none = |e: Error| Say::Failed(e.to_string());
    match objects.bucket(BUCKET).await {
        Ok(bucket) => Ok(bucket),
        Err(Error::Rejected(Rejection::NoSuchBucket)) => {
            match objects.create_bucket(BUCKET, "simulasi").await {
                Ok(bucket) => Ok(bucket),
                Err(Error::Rejected(Rejection::BucketTaken { .. })) => {
                    objects.bucket(BUCKET).await.map_err(none)
                }
                Err(e) => Err(none(e)),
            }
        }
        Err(e) => Err(none(e)),
    }
}

async fn answer(host: &Host, objects: &Objects, ask: Ask) -> Say {
    let bucket = match bucket(objects).await {
        Ok(bucket) => bucket,
        Err(say) => return say,
    };
    match ask {
        Ask::Put { key, value, len, create, tag, pause } => {
            let tags = tag.and_then(|tag| tag.parse::<ETag>().ok()).map(|tag| Match::Tags(vec![tag]));
            let condition = Condition { if_match: tags, if_none_match: create.then_some(Match::Any) };
            let bytes = Bytes::from(history::body(value, len));
            let body = paced(host, sliced(&bytes), pause);
            let options = PutOptions { condition, length: Some(bytes.len() as u64), ..PutOptions::default() };
            match objects.put(&bucket, &key, options, body).await {
                Ok(done) => Say::Put(done.etag.to_string()),
                Err(e) => said(&e),
            }
        }
        Ask::Upload { key, value, len, cut } => {
            let bytes = Bytes::from(history::body(value, len));
            match upload(objects, &bucket, &key, &bytes, cut).await {
                Ok(tag) => Say::Put(tag),
                Err(say) => say,
            }
        }
        Ask::List => {
            // The whole bucket is one page: a listing of several is no single read.
            let options = ListOptions { limit: 1000, ..ListOptions::default() };
            match objects.list(&bucket, &options).await {
                Ok(page) => Say::Listed(page.lines.iter().map(|line| line.name().to_owned()).collect()),
                Err(e) => Say::Failed(e.to_string()),
            }
        }
        Ask::Get { key, pause } => match objects.get(&bucket, &key, GetOptions::default()).await {
            Ok(got) => {
                let mut body = got.body;
                let mut bytes = Vec::new();
                while let Some(piece) = body.next().await {
                    match piece {
                        Ok(piece) => bytes.extend_from_slice(&piece),
                        // This read holds its floor: nothing that it needs may be removed (O4).
                        Err(Error::Unreadable { chunk, why })
                            if why.contains("every node says that it is gone") =>
                        {
                            return Say::Wrong(format!("O4: chunk {chunk} went while {key} was being read"));
                        }
                        Err(e) => return Say::Failed(e.to_string()),
                    }
                    if pause > 0 {
                        sleep(&*host.clock, Duration::from_millis(pause)).await;
                    }
                }
                match history::value_of(&bytes).filter(|_| bytes.len() as u64 == got.size) {
                    Some(value) => Say::Got(Some((value, got.etag.to_string()))),
                    None => {
                        Say::Wrong(format!("I4: {key} of {} bytes is no value that was written", bytes.len()))
                    }
                }
            }
            Err(Error::Rejected(Rejection::NoSuchKey)) => Say::Got(None),
            Err(e) => Say::Failed(e.to_string()),
        },
        Ask::Delete { key } => {
            match objects.delete(&bucket, vec![DeleteKey { key, if_match: None }]).await.map(|mut r| r.pop())
            {
                Ok(Some(Ok(()))) => Say::Deleted,
                Ok(Some(Err(e))) => Say::Failed(e.to_string()),
                Ok(None) => Say::Wrong("a DELETE of one key answered for none".to_owned()),
                Err(e) => said(&e),
            }
        }
    }
}

/// With a pause before each slice, as from a slow client.
fn paced(host: &Host, body: BodyIn, pause: u64) -> BodyIn {
    if pause == 0 {
        return body;
    }
    let host = host.clone();
    Box::pin(body.then(move |slice| {
        let host = host.clone();
        async move {
            sleep(&*host.clock, Duration::from_millis(pause)).await;
            slice
        }
    }))
}

/// Asks the node on `host` called `name`; `None`: no answer came.
pub(crate) async fn question(host: &Host, name: String, ask: Ask) -> Option<Say> {
    let mut stream = match host.net.connect(&format!("{name}:{PORT}")).await {
        Ok(stream) => stream,
        // Nothing was sent.
        Err(e) => return Some(Say::Failed(e.to_string())),
    };
    send(&mut *stream, &ask).await.ok()?;
    receive::<Say>(&mut *stream).await.ok()
}

/// In slices of uneven size, as bodies come off a socket.
fn sliced(bytes: &Bytes) -> BodyIn {
    let slices: Vec<_> = (0..bytes.len())
        .step_by(40_000)
        .map(|at| Ok(bytes.slice(at..bytes.len().min(at + 40_000))))
        .collect();
    Box::pin(futures::stream::iter(slices))
}

/// Writes by an upload; nothing is visible before its completion.
async fn upload(
    objects: &Objects,
    bucket: &Bucket,
    key: &str,
    bytes: &Bytes,
    cut: Option<usize>,
) -> Result<String, Say> {
    let failed = |e: Error| match said(&e) {
        wrong @ Say::Wrong(_) => wrong,
        _ => Say::Failed(e.to_string()),
    };
    let options = UploadOptions::default();
    let id = objects.create_upload(bucket, key, "simulasi", options).await.map_err(failed)?;
    let cut = cut.unwrap_or(bytes.len()).min(bytes.len());
    let pieces = [bytes.slice(..cut), bytes.slice(cut..)];
    let mut parts = Vec::new();
    for (number, piece) in (1..).map(PartNumber).zip(pieces.iter().filter(|piece| !piece.is_empty())) {
        let options = PutOptions { length: Some(piece.len() as u64), ..PutOptions::default() };
        let done = objects.put_part(bucket, key, id, number, options, sliced(piece)).await.map_err(failed)?;
        benteng_host::probe("part_committed");
        parts.push(ListedPart { number, etag: done.etag, checksum: None });
    }
    let complete = || objects.complete_upload(bucket, key, id, parts.clone(), None, Condition::default());
    let first = complete().await;
    // A client whose completion got no answer asks again: it must be answered alike (C1).
    let done = match first {
        Err(Error::Unknown { .. }) => complete().await.map_err(|e| Say::Unknown(e.to_string()))?,
        // Every part was answered for, and nobody else knows this upload.
        Err(e @ Error::Rejected(Rejection::InvalidPart(_))) => return Err(Say::Wrong(format!("O1: {e}"))),
        first => first.map_err(|e| said(&e))?,
    };
    Ok(done.etag.to_string())
}

/// What a failed write means to its client. One match without `_`: a new error must be judged.
fn said(e: &Error) -> Say {
    match e {
        Error::Rejected(Rejection::PreconditionFailed | Rejection::NoSuchKey) => Say::Refused,
        Error::Unknown { .. } => Say::Unknown(e.to_string()),
        Error::Digest { .. } | Error::Length { .. } | Error::Key(_) => Say::Wrong(format!("I4: {e}")),
        Error::Rejected(_)
        | Error::NotModified { .. }
        | Error::RangeUnsatisfiable { .. }
        | Error::Body(_)
        | Error::TooLarge { .. }
        | Error::Full
        | Error::Unavailable { .. }
        | Error::Unreadable { .. }
        | Error::State(_)
        | Error::Invalid(_) => Say::Failed(e.to_string()),
    }
}
