//! The log's bytes, read again while the node runs: what rots at rest is found within its time (I4), and mended.
//!
//! What a damaged segment holds is needed by nobody once it is applied and the state is flushed behind it: the log is
//! purged beyond it (S4), as it would be later anyway. A start that meets it before that refuses, as ever (J2, S3).

use std::collections::BTreeSet;
use std::io;
use std::sync::{MutexGuard, PoisonError};

use benteng_host::planted::{Bug, planted};
use benteng_host::probe;
use benteng_journal::{Error, RawBodies, SegmentNo};

use super::store::{LogStore, failed};

/// What one step of a scrub of the log has read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogScrubbed {
    /// The segment that was read, to go on behind it; `None`: the end was reached.
    pub segment: Option<u64>,
    /// Bytes read.
    pub bytes: u64,
    /// Whether damage was found that was not known.
    pub damaged: bool,
}

/// Damage of this log since the process began.
#[derive(Debug, Default)]
pub(crate) struct Rot {
    /// Segments that are damaged and still there.
    segments: BTreeSet<SegmentNo>,
    mended: u64,
}

impl LogStore {
    fn rot(&self) -> MutexGuard<'_, Rot> {
        self.shared.rot.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many segments are known to be damaged, and how many were mended.
    pub(crate) fn damage(&self) -> (u64, u64) {
        let rot = self.rot();
        (rot.segments.len() as u64, rot.mended)
    }

    /// Bytes of the log in use.
    pub(crate) fn bytes(&self) -> u64 {
        self.shared.journal.segments().iter().map(|segment| segment.bytes).sum()
    }

    /// Reads the first segment behind number `after`; behind the last one, the watermark (J7).
    ///
    /// Errors: the disk does not read; what is damaged is no error.
    pub(crate) async fn scrub_next(&self, after: u64) -> io::Result<LogScrubbed> {
        if planted(Bug::ScrubBlind) {
            return Ok(LogScrubbed::default());
        }
        let journal = &self.shared.journal;
        let Some(segment) = journal.segments().into_iter().find(|segment| segment.number.0 > after) else {
            return self.scrub_watermark().await;
        };
        let number = segment.number;
        let mut done = LogScrubbed { segment: Some(number.0), ..LogScrubbed::default() };
        match journal.verify(number, RawBodies::Read).await {
            Ok(bytes) => done.bytes = bytes,
            // Purged meanwhile.
            Err(Error::Released { .. }) => {}
            Err(Error::Damaged { segment, offset, why }) => {
                done.bytes = offset;
                done.damaged = self.rot().segments.insert(segment);
                if done.damaged {
                    probe("log_damage_found");
                    tracing::error!(
                        segment = segment.0,
                        offset,
                        why,
                        "the raft log is damaged; what it holds there is applied and flushed, and purged then"
                    );
                }
            }
            Err(e) => return Err(failed(e)),
        }
        Ok(done)
    }

    async fn scrub_watermark(&self) -> io::Result<LogScrubbed> {
        match self.shared.journal.verify_watermark().await {
            Ok(()) => Ok(LogScrubbed::default()),
            Err(Error::Damaged { why, .. }) => {
                probe("log_damage_found");
                tracing::error!(why, "the raft log's watermark is damaged; it is written anew");
                self.roll().await?;
                self.rot().mended += 1;
                Ok(LogScrubbed { damaged: true, ..LogScrubbed::default() })
            }
            Err(e) => Err(failed(e)),
        }
    }

    /// Begins a new segment; the watermark follows it (J7).
    pub(crate) async fn roll(&self) -> io::Result<()> {
        self.shared.journal.roll().await.map(drop).map_err(failed)
    }

    /// Whether the segment that is written to is damaged: it must be closed before it can go.
    pub(crate) fn newest_is_damaged(&self) -> bool {
        self.rot().segments.contains(&self.shared.journal.newest())
    }

    /// Takes note of damaged segments that have gone. Returns the last entry that must be purged so that the
    /// others can go too; `None`: none is left, or only such as hold no entry, which are released here.
    pub(crate) async fn mend(&self) -> io::Result<Option<u64>> {
        if self.rot().segments.is_empty() {
            return Ok(None);
        }
        let live: BTreeSet<SegmentNo> =
            self.shared.journal.segments().into_iter().map(|segment| segment.number).collect();
        let (newest, gone) = {
            let mut rot = self.rot();
            let before = rot.segments.len();
            rot.segments.retain(|segment| live.contains(segment));
            let gone = before - rot.segments.len();
            rot.mended += gone as u64;
            (rot.segments.last().copied(), gone)
        };
        if gone > 0 {
            probe("log_damage_purged");
            tracing::info!(segments = gone, "damaged segments of the raft log are purged");
        }
        let Some(newest) = newest else { return Ok(None) };
        let through = self.index().last_before(SegmentNo(newest.0 + 1));
        if through == 0 {
            self.release_unneeded().await?;
            return Ok(None);
        }
        Ok(Some(through))
    }
}
