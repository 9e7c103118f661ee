//! The stream that the object layer reads, and what becomes of a body that it does not read.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use benteng_host::{Clock, timeout};
use benteng_objects::{BodyError, BodyIn, Pace};
use bytes::Bytes;
use futures::Stream;
use http_body::Body;
use hyper::body::Incoming;
use ring::digest;

use super::Chunked;

/// A body is read on this far after its request was refused, so that the client, which may
/// still be sending, reads the answer instead of a reset.
const DRAIN_BYTES: u64 = 64 << 20;
/// … and no longer than this.
const DRAIN_TIME: Duration = Duration::from_secs(10);

/// Trailers of a body, there once it has ended.
pub(crate) type Trailers = Arc<Mutex<Vec<(String, String)>>>;

/// How a body is to be read.
pub(crate) struct Plan {
    /// SHA-256 of the body as it is sent.
    pub(crate) sha256: Option<[u8; 32]>,
    /// Decoder, if it is aws-chunked.
    pub(crate) chunked: Option<Chunked>,
}

/// The body of one request.
pub(crate) struct Intake {
    raw: Mutex<Option<Incoming>>,
    clock: Arc<dyn Clock>,
    idle: Duration,
    /// Whether there is a body at all.
    empty: bool,
    /// Bytes that came, as sent.
    bytes: AtomicU64,
    /// Whether anyone began to read: with `Expect: 100-continue` the client sends only then.
    begun: AtomicBool,
    /// Whether the payload hash was wrong.
    mismatch: AtomicBool,
    /// Whether the connection cannot be used any more.
    broken: AtomicBool,
}

impl Intake {
    /// Takes a body over; reading it fails once too little came for `idle` (see [`Pace`]).
    pub(crate) fn new(raw: Incoming, clock: Arc<dyn Clock>, idle: Duration) -> Arc<Intake> {
        let empty = raw.is_end_stream();
        Arc::new(Intake {
            raw: Mutex::new(Some(raw)),
            empty,
            clock,
            idle,
            bytes: AtomicU64::new(0),
            begun: AtomicBool::new(false),
            mismatch: AtomicBool::new(false),
            broken: AtomicBool::new(false),
        })
    }

    /// Bytes that came so far, as sent.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Whether the payload was not what `x-amz-content-sha256` said.
    pub(crate) fn mismatch(&self) -> bool {
        self.mismatch.load(Ordering::Relaxed)
    }

    /// The body as a stream, once. Its trailers are in the second value when it has ended.
    pub(crate) fn open(self: &Arc<Self>, plan: Plan) -> (BodyIn, Trailers) {
        let trailers = Trailers::default();
        let stream = Reading {
            raw: self.lock().take(),
            intake: Arc::clone(self),
            pace: Pace::new(Arc::clone(&self.clock), self.idle),
            hash: plan.sha256.map(|wanted| (digest::Context::new(&digest::SHA256), wanted)),
            chunked: plan.chunked,
            buffer: Bytes::new(),
            trailers: Arc::clone(&trailers),
            ended: false,
        };
        (Box::pin(stream), trailers)
    }

    /// Reads what the operation left of the body. Returns whether the connection can be kept.
    /// `waits`: the client waits for 100 (Continue) before it sends its body.
    pub(crate) async fn drain(&self, waits: bool) -> bool {
        if self.broken.load(Ordering::Relaxed) {
            return false;
        }
        // It never got its 100. Whether it sends the body now is its choice (RFC 9110 §10.1.1), and
        // botocore reads the next answer on such a connection wrongly, even after an empty body.
        if waits && (self.empty || !self.begun.load(Ordering::Relaxed)) {
            return false;
        }
        let Some(mut raw) = self.lock().take() else { return true };
        if raw.is_end_stream() {
            return true;
        }
        let mut left = DRAIN_BYTES;
        let read = async {
            while let Some(frame) = std::future::poll_fn(|cx| Pin::new(&mut raw).poll_frame(cx)).await {
                let length = frame.ok()?.data_ref().map_or(0, Bytes::len) as u64;
                left = left.checked_sub(length)?;
            }
            Some(())
        };
        matches!(timeout(self.clock.as_ref(), DRAIN_TIME, read).await, Ok(Some(())))
    }

    fn lock(&self) -> MutexGuard<'_, Option<Incoming>> {
        // Nothing can panic while it is held.
        self.raw.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A body that is being read.
struct Reading {
    raw: Option<Incoming>,
    intake: Arc<Intake>,
    pace: Pace,
    hash: Option<(digest::Context, [u8; 32])>,
    chunked: Option<Chunked>,
    buffer: Bytes,
    trailers: Trailers,
    ended: bool,
}

impl Reading {
    fn fail(&mut self, error: BodyError) -> Poll<Option<Result<Bytes, BodyError>>> {
        self.ended = true;
        Poll::Ready(Some(Err(error)))
    }

    /// All bytes are there: the hash, the last chunk, the trailers.
    fn finish(&mut self) -> Result<(), BodyError> {
        if let Some((hash, wanted)) = self.hash.take()
            && hash.finish().as_ref() != wanted
        {
            self.intake.mismatch.store(true, Ordering::Relaxed);
            return Err(BodyError::Signature);
        }
        if let Some(chunked) = self.chunked.take() {
            let trailers = chunked.finish()?;
            *self.trailers.lock().unwrap_or_else(PoisonError::into_inner) = trailers;
        }
        Ok(())
    }

    fn poll_raw(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>> {
        let Some(raw) = &mut self.raw else { return Poll::Ready(None) };
        self.intake.begun.store(true, Ordering::Relaxed);
        match Pin::new(raw).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                // Trailers of HTTP itself mean nothing to S3.
                let data = frame.into_data().unwrap_or_default();
                self.pace.came(data.len());
                self.intake.bytes.fetch_add(data.len() as u64, Ordering::Relaxed);
                Poll::Ready(Some(Ok(data)))
            }
            Poll::Ready(Some(Err(e))) => {
                tracing::debug!(error = %e, "the request body broke off");
                self.intake.broken.store(true, Ordering::Relaxed);
                Poll::Ready(Some(Err(BodyError::Incomplete)))
            }
            Poll::Ready(None) => Poll::Ready(None),
            Poll::Pending => {
                std::task::ready!(self.pace.poll_late(cx));
                self.intake.broken.store(true, Ordering::Relaxed);
                Poll::Ready(Some(Err(BodyError::Slow(self.pace.window().as_secs()))))
            }
        }
    }
}

impl Stream for Reading {
    type Item = Result<Bytes, BodyError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        loop {
            if this.ended {
                return Poll::Ready(None);
            }
            if let Some(chunked) = &mut this.chunked {
                match chunked.push(&mut this.buffer) {
                    Ok(Some(data)) => return Poll::Ready(Some(Ok(data))),
                    Ok(None) => {}
                    Err(e) => return this.fail(e),
                }
            }
            match std::task::ready!(this.poll_raw(cx)) {
                Some(Ok(data)) => {
                    if let Some((hash, _)) = &mut this.hash {
                        hash.update(&data);
                    }
                    if this.chunked.is_some() {
                        this.buffer = data;
                    } else if !data.is_empty() {
                        return Poll::Ready(Some(Ok(data)));
                    }
                }
                Some(Err(e)) => return this.fail(e),
                None => {
                    if let Err(e) = this.finish() {
                        return this.fail(e);
                    }
                    this.ended = true;
                }
            }
        }
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        // What was not read is drained before the answer goes out.
        *self.intake.lock() = self.raw.take();
    }
}
