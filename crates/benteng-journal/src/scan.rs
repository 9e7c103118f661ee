//! Walks the records of one segment: in order, and behind damage.

use std::sync::Arc;

use benteng_host::File;
use bytes::{Bytes, BytesMut};

use crate::record::{ALIGN, HEADER, Header, Life, MAX_TAG_BYTES, crc32c};

/// Read-ahead while the walk goes byte after byte.
const AHEAD: u64 = 256 << 10;
/// Read-ahead after a jump over a body: the next header, its tag, little more.
const AHEAD_AFTER_JUMP: u64 = 4 << 10;

/// What a preallocated segment holds behind its last record.
static ZEROS: [u8; AHEAD as usize] = [0; AHEAD as usize];

/// A record with a valid header.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    pub(crate) header: Header,
    pub(crate) offset: u64,
    pub(crate) tag: Bytes,
}

impl Found {
    pub(crate) fn end(&self) -> u64 {
        self.offset + self.header.stored_len()
    }
}

/// What the walk met.
#[derive(Debug)]
pub(crate) enum Step {
    /// A record; the walk goes on behind it.
    Record(Found),
    /// The end that was given has been reached.
    End,
    /// No valid record here; the walk stands still.
    Bad(&'static str),
}

/// A walk through one life of a segment's file.
pub(crate) struct Walk {
    file: Arc<dyn File>,
    life: Life,
    at: u64,
    number: u64,
    end: u64,
    window: Bytes,
    window_at: u64,
}

impl Walk {
    /// A walk from `at`, where record `number` lies, to `end`.
    pub(crate) fn new(file: Arc<dyn File>, life: Life, at: u64, number: u64, end: u64) -> Walk {
        Walk { file, life, at, number, end, window: Bytes::new(), window_at: at }
    }

    /// Where the walk stands.
    pub(crate) fn at(&self) -> u64 {
        self.at
    }

    /// Number of the next record.
    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    /// Goes from a bad record to the next valid one, or to the end; returns how far.
    pub(crate) async fn skip_bad(&mut self) -> benteng_host::Result<u64> {
        let from = self.at;
        if self.hunt(from + 1).await?.is_none() {
            self.at = self.end;
        }
        Ok(self.at - from)
    }

    /// Takes the number of the record at which the walk stands for the right one.
    pub(crate) async fn resync(&mut self) -> benteng_host::Result<()> {
        if let Some(found) = self.header_at(self.at).await? {
            self.number = found.header.number;
        }
        Ok(())
    }

    /// The next record; its body is neither read nor verified.
    pub(crate) async fn next(&mut self) -> benteng_host::Result<Step> {
        if self.at >= self.end {
            return Ok(Step::End);
        }
        let Some(found) = self.header_at(self.at).await? else {
            return Ok(Step::Bad("no valid record header"));
        };
        if found.header.number != self.number {
            return Ok(Step::Bad("the record has another number than its place asks for"));
        }
        if found.end() > self.end {
            return Ok(Step::Bad("the record reaches beyond the segment's end"));
        }
        self.at = found.end();
        self.number += 1;
        Ok(Step::Record(found))
    }

    /// Finds the next valid header at or behind `from` and stands there; `None`: there is none.
    pub(crate) async fn hunt(&mut self, from: u64) -> benteng_host::Result<Option<Found>> {
        let mut at = from.next_multiple_of(ALIGN);
        while at + HEADER as u64 <= self.end {
            let window = self.bytes(at, AHEAD).await?;
            if window.len() < HEADER {
                return Ok(None);
            }
            if window == ZEROS[..window.len().min(ZEROS.len())] {
                // Room that was never written to, as a rule: a start must not take a second for it.
                at += (window.len() as u64 - HEADER as u64 + 1).next_multiple_of(ALIGN);
                continue;
            }
            let mut inside = 0;
            while inside + HEADER <= window.len() {
                if self.is_candidate(&window[inside..])
                    && let Some(found) = self.header_at(at + inside as u64).await?
                {
                    self.at = found.offset;
                    self.number = found.header.number;
                    return Ok(Some(found));
                }
                inside += ALIGN as usize;
            }
            at += inside as u64;
        }
        Ok(None)
    }

    fn is_candidate(&self, bytes: &[u8]) -> bool {
        bytes.first_chunk().and_then(Header::peek).is_some_and(|header| header.life == self.life)
    }

    async fn header_at(&mut self, at: u64) -> benteng_host::Result<Option<Found>> {
        let bytes = self.bytes(at, (HEADER + MAX_TAG_BYTES) as u64).await?;
        let Some(header) = Header::decode(&bytes) else { return Ok(None) };
        if header.life != self.life {
            return Ok(None);
        }
        // Copied: a slice would keep the whole window alive in the reader's memory.
        let tag = Bytes::copy_from_slice(&bytes[HEADER..header.body_at()]);
        Ok(Some(Found { header, offset: at, tag }))
    }

    /// The stored body of a record; `None` if it fails its checksum or is cut short.
    pub(crate) async fn body(&mut self, found: &Found) -> benteng_host::Result<Option<Bytes>> {
        let n = u64::from(found.header.body_len);
        let body = self.bytes(found.offset + found.header.body_at() as u64, n).await?;
        let whole = body.len() as u64 == n && crc32c([&body[..]]) == found.header.body_crc;
        Ok(whole.then_some(body))
    }

    /// Up to `n` bytes at `at`: fewer only at the file's end.
    async fn bytes(&mut self, at: u64, n: u64) -> benteng_host::Result<Bytes> {
        let window_end = self.window_at + self.window.len() as u64;
        if at >= self.window_at && at + n <= window_end {
            let from = usize::try_from(at - self.window_at).expect("inside the window");
            return Ok(self.window.slice(from..from + usize::try_from(n).expect("inside the window")));
        }
        let ahead = if at > window_end { AHEAD_AFTER_JUMP } else { AHEAD };
        // Keep what the window already has: reading on costs no byte twice.
        let mut joined = BytesMut::new();
        if at >= self.window_at && at < window_end {
            let from = usize::try_from(at - self.window_at).expect("inside the window");
            joined.extend_from_slice(&self.window[from..]);
        }
        let have = joined.len() as u64;
        let want = usize::try_from(n.max(ahead) - have.min(n.max(ahead))).unwrap_or(usize::MAX);
        let read = self.file.read_at(at + have, want).await?;
        self.window = if joined.is_empty() {
            read
        } else {
            joined.extend_from_slice(&read);
            joined.freeze()
        };
        self.window_at = at;
        let len = usize::try_from(n).unwrap_or(usize::MAX).min(self.window.len());
        Ok(self.window.slice(..len))
    }
}
