//! Counters of one journal: read by its owner, exported through `metrics`.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// What a journal has done since it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// fsyncs of record batches (claims and releases included).
    pub syncs: u64,
    /// Records of callers made durable.
    pub records: u64,
    /// Bytes written into segments.
    pub bytes: u64,
    /// Batches that held records of callers.
    pub batches: u64,
    /// Claims that followed because nothing else did (J3).
    pub claims: u64,
    /// Segments begun.
    pub rolls: u64,
}

pub(crate) struct Stats {
    syncs: Counted,
    records: Counted,
    bytes: Counted,
    batches: Counted,
    claims: Counted,
    rolls: Counted,
    stalled: AtomicBool,
    sync_seconds: metrics::Histogram,
}

struct Counted {
    own: AtomicU64,
    shown: metrics::Counter,
}

impl Counted {
    fn new(shown: metrics::Counter) -> Counted {
        Counted { own: AtomicU64::new(0), shown }
    }

    fn add(&self, n: u64) {
        self.own.fetch_add(n, Ordering::Relaxed);
        self.shown.increment(n);
    }

    fn get(&self) -> u64 {
        self.own.load(Ordering::Relaxed)
    }
}

impl Stats {
    /// Counters labelled with the last part of the journal's directory.
    pub(crate) fn new(dir: &Path) -> Stats {
        let journal = dir.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let counter = |shown| Counted::new(shown);
        Stats {
            syncs: counter(metrics::counter!("benteng_journal_syncs_total", "journal" => journal.clone())),
            records: counter(
                metrics::counter!("benteng_journal_records_total", "journal" => journal.clone()),
            ),
            bytes: counter(metrics::counter!("benteng_journal_bytes_total", "journal" => journal.clone())),
            batches: counter(
                metrics::counter!("benteng_journal_batches_total", "journal" => journal.clone()),
            ),
            claims: counter(metrics::counter!("benteng_journal_claims_total", "journal" => journal.clone())),
            rolls: counter(metrics::counter!("benteng_journal_rolls_total", "journal" => journal.clone())),
            stalled: AtomicBool::new(false),
            sync_seconds: metrics::histogram!("benteng_journal_sync_seconds", "journal" => journal),
        }
    }

    pub(crate) fn wrote(&self, bytes: u64, records: u64) {
        self.bytes.add(bytes);
        if records > 0 {
            self.records.add(records);
            self.batches.add(1);
        }
    }

    pub(crate) fn synced(&self, took: std::time::Duration) {
        self.syncs.add(1);
        self.sync_seconds.record(took.as_secs_f64());
    }

    pub(crate) fn claimed(&self) {
        self.claims.add(1);
    }

    pub(crate) fn rolled(&self) {
        self.rolls.add(1);
    }

    pub(crate) fn set_stalled(&self, stalled: bool) {
        self.stalled.store(stalled, Ordering::Relaxed);
    }

    pub(crate) fn stalled(&self) -> bool {
        self.stalled.load(Ordering::Relaxed)
    }

    pub(crate) fn counters(&self) -> Counters {
        Counters {
            syncs: self.syncs.get(),
            records: self.records.get(),
            bytes: self.bytes.get(),
            batches: self.batches.get(),
            claims: self.claims.get(),
            rolls: self.rolls.get(),
        }
    }
}
