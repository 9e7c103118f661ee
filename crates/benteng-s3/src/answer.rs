//! What goes back: bytes, and at their end the log line and the metrics of the request.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use benteng_host::{Busy, Clock};
use benteng_objects::{BodyOut, Error};
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use crate::body::Intake;
use crate::call::Note;

/// The body of an answer.
pub(crate) struct Answer {
    bytes: Source,
    /// Writes the log line when it is dropped.
    record: Record,
}

enum Source {
    /// XML, or nothing.
    Whole(Bytes),
    /// An object: so many bytes are left.
    Stream(BodyOut, u64),
}

/// Why an answer is broken off: hyper then closes the connection, so that the client sees a
/// length that is not reached and never a clean end (I4).
#[derive(Debug, thiserror::Error)]
pub(crate) enum BrokenOff {
    /// The object layer failed.
    #[error(transparent)]
    Read(#[from] Error),
    /// The object layer gave another number of bytes than it said.
    #[error("I4: an object ended {0} bytes off its length")]
    Length(i128),
}

impl Answer {
    /// An answer that is held whole.
    pub(crate) fn whole(bytes: Bytes, record: Record) -> Answer {
        Answer { bytes: Source::Whole(bytes), record }
    }

    /// An answer of `length` bytes that are read as they are sent.
    pub(crate) fn stream(body: BodyOut, length: u64, record: Record) -> Answer {
        Answer { bytes: Source::Stream(body, length), record }
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = BrokenOff;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        let this = self.get_mut();
        let data = match &mut this.bytes {
            Source::Whole(bytes) => {
                let bytes = std::mem::take(bytes);
                (!bytes.is_empty()).then_some(Ok(bytes))
            }
            Source::Stream(body, left) => match ready!(body.as_mut().poll_next(cx)) {
                Some(Ok(bytes)) => match left.checked_sub(bytes.len() as u64) {
                    Some(rest) => {
                        *left = rest;
                        Some(Ok(bytes))
                    }
                    None => Some(Err(BrokenOff::Length(bytes.len() as i128 - i128::from(*left)))),
                },
                Some(Err(e)) => Some(Err(BrokenOff::Read(e))),
                None if *left > 0 => Some(Err(BrokenOff::Length(-i128::from(*left)))),
                None => None,
            },
        };
        match data {
            Some(Ok(bytes)) => {
                this.record.bytes_out += bytes.len() as u64;
                Poll::Ready(Some(Ok(Frame::data(bytes))))
            }
            Some(Err(e)) => {
                tracing::error!(request = %this.record.note.id, error = %e, "an answer is broken off");
                metrics::counter!("benteng_s3_answers_broken_off_total").increment(1);
                Poll::Ready(Some(Err(e)))
            }
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.bytes {
            Source::Whole(bytes) => bytes.is_empty(),
            // The end must be polled: it may be an error.
            Source::Stream(..) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.bytes {
            Source::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Source::Stream(_, left) => SizeHint::with_exact(*left),
        }
    }
}

/// One log line and the metrics of a request; written when the answer is sent or given up.
pub(crate) struct Record {
    pub(crate) note: Arc<Note>,
    pub(crate) intake: Arc<Intake>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) status: u16,
    /// S3 error code; empty: none.
    pub(crate) code: String,
    /// Bytes that the answer should have.
    pub(crate) length: u64,
    pub(crate) bytes_out: u64,
    /// Until the answer is sent its connection is in use.
    pub(crate) _busy: Busy,
}

impl Drop for Record {
    fn drop(&mut self) {
        let learned = self.note.learned();
        let operation = if learned.operation.is_empty() { "Unsupported" } else { learned.operation };
        let elapsed = self.clock.now().since(self.note.started);
        let bytes_in = self.intake.bytes();
        let (status, length, bytes_out) = (self.status, self.length, self.bytes_out);
        // HEAD and clients that hung up: fewer bytes went out than the answer has.
        macro_rules! line {
            ($level:ident) => {
                tracing::$level!(
                    request = %self.note.id,
                    principal = learned.principal.as_deref().unwrap_or("-"),
                    operation,
                    bucket = learned.bucket.as_deref().unwrap_or("-"),
                    status,
                    code = %self.code,
                    bytes_in,
                    bytes_out,
                    length,
                    elapsed_ms = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX),
                    "S3 request"
                )
            };
        }
        if status < 400 && is_read(operation) {
            // A line of a good read costs a tenth of the read: whoever wants them says benteng_s3=debug.
            line!(debug);
        } else {
            line!(info);
        }
        metrics::counter!("benteng_s3_requests_total", "operation" => operation, "status" => status.to_string())
            .increment(1);
        metrics::histogram!("benteng_s3_request_seconds", "operation" => operation)
            .record(elapsed.as_secs_f64());
        metrics::counter!("benteng_s3_received_bytes_total").increment(bytes_in);
        metrics::counter!("benteng_s3_sent_bytes_total").increment(bytes_out);
    }
}

/// Whether an operation changes nothing.
fn is_read(operation: &str) -> bool {
    ["Get", "Head", "List"].iter().any(|verb| operation.starts_with(verb))
}
