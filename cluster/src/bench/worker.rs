//! One client of the bench: takes keys from the plan until it ends.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use bytes::Bytes;
use http::Method;
use indicatif::ProgressBar;

use super::histogram::Histogram;
use super::sign::{UNSIGNED, encode, sha256};
use super::target::Target;
use super::wire::{Connection, Request};
use super::{Op, Plan, S3Args};

/// Cuts of the random bytes: as many different bodies.
const CUTS: u64 = 4096;
/// Pause after an error, so that a dead endpoint is not hammered.
const AFTER_ERROR: Duration = Duration::from_millis(20);
/// Errors that are kept for the report.
const SAID_MAX: usize = 3;

/// The key of a number: spread over the key space, as the keys of real objects are.
pub(crate) fn key(prefix: &str, number: u64) -> String {
    format!("{prefix}{:02x}/{number:012}", number.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 56)
}

/// Bodies: cuts of one piece of bytes that look random.
pub(crate) struct Bodies {
    bytes: Bytes,
    size: usize,
}

impl Bodies {
    /// Of `size` bytes each.
    pub(crate) fn new(size: u64) -> Result<Bodies> {
        use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
        let size = usize::try_from(size)?;
        let mut bytes = vec![0; size + usize::try_from(CUTS)?];
        // The key stream of a fixed key: as good as random to whoever compresses, and the same in every run.
        let stream = UnboundKey::new(&AES_256_GCM, &[7; 32]).map(LessSafeKey::new);
        let sealed = stream.and_then(|key| {
            let nonce = Nonce::assume_unique_for_key([0; 12]);
            key.seal_in_place_separate_tag(nonce, Aad::empty(), &mut bytes)
        });
        if sealed.is_err() {
            bail!("bodies of {size} bytes cannot be made");
        }
        Ok(Bodies { bytes: bytes.into(), size })
    }

    /// The body of a key.
    pub(crate) fn of(&self, number: u64) -> Bytes {
        let from = usize::try_from(number % CUTS).unwrap_or(0);
        self.bytes.slice(from..from + self.size)
    }
}

/// What one worker saw.
#[derive(Default)]
pub(crate) struct Seen {
    pub(crate) took: Histogram,
    pub(crate) done: u64,
    pub(crate) bytes: u64,
    pub(crate) errors: u64,
    /// Highest key number asked for, plus one.
    pub(crate) asked: u64,
    /// Some of the errors, in words.
    pub(crate) said: Vec<String>,
}

/// One client.
pub(crate) struct Worker {
    number: u32,
    target: Arc<Target>,
    args: S3Args,
    bodies: Arc<Bodies>,
}

impl Worker {
    pub(crate) fn new(number: u32, target: Arc<Target>, args: S3Args, bodies: Arc<Bodies>) -> Worker {
        Worker { number, target, args, bodies }
    }

    /// Works until the plan ends.
    pub(crate) async fn run(self, plan: Arc<Plan>, progress: ProgressBar) -> Seen {
        let which = usize::try_from(self.number).unwrap_or(0) % self.target.addresses.len();
        let mut connection = Connection::new(&self.target.addresses[which], &self.target);
        let mut seen = Seen::default();
        let mut after = String::new();
        while let Some((number, due)) = plan.next() {
            seen.asked = seen.asked.max(number + 1);
            if let Some(due) = due {
                tokio::time::sleep_until(due.into()).await;
            }
            let begun = due.unwrap_or_else(Instant::now);
            match self.one(plan.op, number, &mut connection, &mut after).await {
                Ok(bytes) => {
                    seen.took.record(begun.elapsed());
                    seen.done += 1;
                    seen.bytes += bytes;
                }
                Err(e) => {
                    seen.errors += 1;
                    if seen.said.len() < SAID_MAX {
                        seen.said.push(format!(
                            "{} {}: {e:#}",
                            plan.op.name(),
                            key(&self.args.prefix, number)
                        ));
                    }
                    tokio::time::sleep(AFTER_ERROR).await;
                }
            }
            progress.inc(1);
        }
        seen
    }

    /// One request; returns the bytes of the body that went or came.
    async fn one(
        &self,
        op: Op,
        number: u64,
        connection: &mut Connection<'_>,
        after: &mut String,
    ) -> Result<u64> {
        let path = self.target.path(&key(&self.args.prefix, number));
        match op {
            Op::Put => {
                let body = self.bodies.of(number);
                let payload = if self.args.sign_body { sha256(&body) } else { UNSIGNED.to_owned() };
                let request = Request { method: Method::PUT, path: &path, query: "", body, payload };
                self.expect(connection, request, &[200]).await?;
                Ok(self.args.size)
            }
            Op::Get => self.get(connection, &path, number).await,
            Op::Head => self.expect(connection, empty(Method::HEAD, &path, ""), &[200]).await.map(|_| 0),
            Op::Delete => {
                self.expect(connection, empty(Method::DELETE, &path, ""), &[204, 200]).await.map(|_| 0)
            }
            Op::List => self.list(connection, after).await,
        }
    }

    async fn get(&self, connection: &mut Connection<'_>, path: &str, number: u64) -> Result<u64> {
        let expected = self.bodies.of(number);
        let (mut at, mut differs) = (0, false);
        let status = connection
            .send(empty(Method::GET, path, ""), &mut |piece| {
                let part = expected.get(at..at + piece.len());
                differs |= self.args.verify && part != Some(piece);
                at += piece.len();
            })
            .await?;
        if status != 200 || at != expected.len() {
            bail!("status {status}, {at} of {} bytes", expected.len());
        }
        if differs {
            bail!("other bytes than were put");
        }
        Ok(self.args.size)
    }

    /// One page; after the last one it begins anew.
    async fn list(&self, connection: &mut Connection<'_>, after: &mut String) -> Result<u64> {
        let path = format!("/{}", self.target.bucket);
        let start = match after.as_str() {
            "" => String::new(),
            last => format!("&start-after={}", encode(last, b"")),
        };
        let query = format!("list-type=2&max-keys=1000&prefix={}{start}", encode(&self.args.prefix, b""));
        let text = self.expect(connection, empty(Method::GET, &path, &query), &[200]).await?;
        let page = String::from_utf8_lossy(&text);
        let last = page.rsplit_once("<Key>").and_then(|(_, rest)| rest.split_once("</Key>"));
        let more = page.contains("<IsTruncated>true</IsTruncated>");
        *after = last.filter(|_| more).map(|(key, _)| key.to_owned()).unwrap_or_default();
        Ok(text.len() as u64)
    }

    async fn expect(
        &self,
        connection: &mut Connection<'_>,
        request: Request<'_>,
        wanted: &[u16],
    ) -> Result<Vec<u8>> {
        let mut text = Vec::new();
        let status = connection.send(request, &mut |piece| text.extend_from_slice(piece)).await?;
        if !wanted.contains(&status) {
            let said: String = String::from_utf8_lossy(&text).chars().take(300).collect();
            bail!("status {status} {said}");
        }
        Ok(text)
    }
}

fn empty<'a>(method: Method, path: &'a str, query: &'a str) -> Request<'a> {
    Request { method, path, query, body: Bytes::new(), payload: UNSIGNED.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_of_neighbouring_keys_differ_and_repeat() {
        let bodies = Bodies::new(100).expect("small");
        assert_eq!(bodies.of(1).len(), 100);
        assert_ne!(bodies.of(1), bodies.of(2));
        assert_eq!(bodies.of(1), bodies.of(1));
        assert_eq!(Bodies::new(0).expect("none").of(5).len(), 0);
    }

    #[test]
    fn keys_differ() {
        let keys: std::collections::BTreeSet<String> = (0..10_000).map(|n| key("p/", n)).collect();
        assert_eq!(keys.len(), 10_000);
    }
}
