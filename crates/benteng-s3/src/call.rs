//! One request: who asks, what was learned before s3s saw it, and what is noted for the log.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use benteng_host::Mono;
use benteng_identity::Principal;
use benteng_objects::{BodyIn, BodyOut, PutOptions};
use http::HeaderMap;
use s3s::{S3ErrorCode, S3Request, S3Result};

use crate::body::{Chunked, Intake, Plan};
use crate::checksum;
use crate::condition::Conditions;
use crate::described;
use crate::fault::{fault, internal};
use crate::sign::Payload;

/// Largest body of one PUT or part: 5 GiB.
pub(crate) const BODY_MAX: u64 = 5 << 30;

/// What the log line and the metrics of a request say.
pub(crate) struct Note {
    /// Request id, also in the answer.
    pub(crate) id: String,
    /// When its head was read.
    pub(crate) started: Mono,
    learned: Mutex<Learned>,
}

/// What becomes known of a request as it goes.
#[derive(Clone, Default)]
pub(crate) struct Learned {
    /// Operation; empty: none that we have.
    pub(crate) operation: &'static str,
    /// Bucket that it names, if any.
    pub(crate) bucket: Option<String>,
    /// Who asks.
    pub(crate) principal: Option<String>,
}

impl Note {
    /// A note of a request that begins now.
    pub(crate) fn new(id: String, started: Mono) -> Note {
        Note { id, started, learned: Mutex::default() }
    }

    /// What is known by now.
    pub(crate) fn learned(&self) -> Learned {
        self.lock().clone()
    }

    /// Notes who asks.
    pub(crate) fn principal(&self, name: &str) {
        self.lock().principal = Some(name.to_owned());
    }

    fn lock(&self) -> MutexGuard<'_, Learned> {
        // Nothing can panic while it is held.
        self.learned.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request as the operations see it: it travels through s3s in the request's extensions.
pub(crate) struct Call {
    /// Who asks.
    pub(crate) who: Principal,
    /// Conditions and range.
    pub(crate) conditions: Conditions,
    /// Headers as they came, those taken out for s3s included.
    pub(crate) headers: HeaderMap,
    /// `http(s)://host` as the client named us.
    pub(crate) origin: String,
    /// The body.
    pub(crate) intake: Arc<Intake>,
    pub(crate) note: Arc<Note>,
    /// What the signature says about the body, until it is opened.
    payload: Mutex<Option<Payload>>,
    /// The bytes of a GET, on their way around s3s.
    out: Mutex<Option<BodyOut>>,
    /// Whether the answer to a HEAD is 206; s3s knows that only of GET.
    partial: AtomicBool,
}

impl Call {
    pub(crate) fn new(
        who: Principal,
        payload: Payload,
        conditions: Conditions,
        headers: HeaderMap,
        origin: String,
        intake: Arc<Intake>,
        note: Arc<Note>,
    ) -> Call {
        let (payload, out) = (Mutex::new(Some(payload)), Mutex::default());
        let partial = AtomicBool::new(false);
        Call { who, conditions, headers, origin, intake, note, payload, out, partial }
    }

    /// The call of a request that s3s hands to an operation; notes which one it is.
    pub(crate) fn of<T>(
        req: &S3Request<T>,
        operation: &'static str,
        bucket: Option<&str>,
    ) -> S3Result<Arc<Call>> {
        let call = req.extensions.get::<Arc<Call>>().cloned();
        let call = call.ok_or_else(|| internal("a request lost its call on the way through s3s"))?;
        let mut learned = call.note.lock();
        learned.operation = operation;
        learned.bucket = bucket.map(str::to_owned);
        drop(learned);
        Ok(call)
    }

    /// Opens the body of an upload: plain bytes, with everything that is said about them. The
    /// description and the condition of the options are the caller's to fill in.
    ///
    /// Errors: `MissingContentLength`, `EntityTooLarge`, `InvalidRequest`; nothing was read.
    pub(crate) fn body(&self) -> S3Result<(PutOptions, BodyIn)> {
        let payload = self.payload.lock().unwrap_or_else(PoisonError::into_inner).take();
        let payload = payload.ok_or_else(|| internal("the body of a request was opened twice"))?;
        let number = |name: &str| {
            let text = self.headers.get(name)?.to_str().unwrap_or_default().trim();
            let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
            let parsed = digits.then(|| text.parse::<u64>().ok()).flatten();
            Some(parsed.ok_or_else(|| {
                fault(S3ErrorCode::InvalidArgument, format!("The {name} header is not a length."))
            }))
        };
        let sent = number("content-length").transpose()?;
        let decoded = number("x-amz-decoded-content-length").transpose()?;
        let (sha256, signer, streaming) = match payload {
            Payload::Unsigned => (None, None, false),
            Payload::Hash(hash) => (Some(hash), None, false),
            Payload::Chunked(signer) => (None, signer, true),
        };
        let chunked = streaming || described::says_aws_chunked(&self.headers);
        let length = if chunked { decoded } else { sent };
        if length.is_none() && (streaming || !chunked) {
            let message = "You must provide the Content-Length HTTP header.";
            return Err(fault(S3ErrorCode::MissingContentLength, message));
        }
        if length.is_some_and(|length| length > BODY_MAX) {
            let message = "Your proposed upload exceeds the maximum allowed size";
            return Err(fault(S3ErrorCode::EntityTooLarge, message));
        }
        let content_md5 = checksum::content_md5(&self.headers)?;
        let (body, trailers) =
            self.intake.open(Plan { sha256, chunked: chunked.then(|| Chunked::new(signer)) });
        let checksum = checksum::sent(&self.headers, &trailers)?;
        Ok((PutOptions { content_md5, checksum, length, ..PutOptions::default() }, body))
    }

    /// What the signature says about a body that is read whole.
    pub(crate) fn whole_plan(&self) -> Plan {
        let payload = self.payload.lock().unwrap_or_else(PoisonError::into_inner).take();
        match payload {
            Some(Payload::Hash(hash)) => Plan { sha256: Some(hash), chunked: None },
            Some(Payload::Chunked(signer)) => Plan { sha256: None, chunked: Some(Chunked::new(signer)) },
            Some(Payload::Unsigned) | None => Plan { sha256: None, chunked: None },
        }
    }

    /// Makes the answer to a HEAD a 206.
    pub(crate) fn answer_partial(&self) {
        self.partial.store(true, Ordering::Relaxed);
    }

    /// Whether the answer to a HEAD is a 206.
    pub(crate) fn is_partial(&self) -> bool {
        self.partial.load(Ordering::Relaxed)
    }

    /// Hands the bytes of a GET over to the answer.
    pub(crate) fn answer_with(&self, body: BodyOut) {
        *self.out.lock().unwrap_or_else(PoisonError::into_inner) = Some(body);
    }

    /// The bytes of a GET, if it has any.
    pub(crate) fn take_answer(&self) -> Option<BodyOut> {
        self.out.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}
