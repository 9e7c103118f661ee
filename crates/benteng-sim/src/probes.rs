//! Listens to the software's probes and logs: counts rare branches, lets the nemesis aim at
//! them, and writes the trace that must be equal at every replay.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tracing::field::{Field, Visit};
use tracing::subscriber::Interest;
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;

use crate::witness::Facts;

/// Rare branches that a hundred seeds must have reached.
pub const PROBES: &[&str] = &[
    "anti_entropy_found_missing",
    "ballast_given_up",
    "chunk_durable",
    "chunk_index_rebuilt",
    "chunk_segment_copied_out",
    "chunk_segment_damage_found",
    "chunk_store_resumes",
    "chunk_store_stops_at_reserve",
    "client_answered",
    "copies_replaced",
    "floor_voided",
    "full_leader_hands_over",
    "healed_in_vain",
    "hedge_won",
    "journal_idle_claim",
    "journal_roll_without_spare",
    "journal_segment_recycled",
    "journal_segment_trimmed",
    "journal_spare_finds_no_room",
    "journal_sticky_in_tail",
    "journal_torn_tail_cut",
    "journal_watermark_finds_no_room",
    "node_serves",
    "only_deletes_are_taken",
    "orphans_removed",
    "part_committed",
    "placement_moved",
    "proposal_settled",
    "raft_append_durable",
    "raft_vote_durable",
    "rpc_dial_failed",
    "rpc_link_dropped",
    "scrub_found_damage",
    "scrub_pass_ended",
    "second_node_not_durable",
    "snapshot_page_installed",
    "snapshot_switched",
    "state_restored_from_peer",
    "store_damage_found",
];

/// Those that need more in one order than chance gives: scripted scenarios must have reached them.
pub const SCRIPTED_PROBES: &[&str] = &[
    "chunk_gone",
    "chunk_read_follows_cleaning",
    "chunk_store_mended_beside",
    "chunks_evicted",
    "copy_did_not_authenticate",
    "gateway_superseded",
    "gateway_voided",
    "journal_released_while_stalled",
    "journal_waits_for_room",
    "leadership_handed_over",
    "log_damage_found",
    "log_damage_purged",
    "looked_up_again",
    "own_copy_did_not_authenticate",
    "peer_copy_did_not_authenticate",
    "rpc_deaf_peer",
    "snapshot_switch_completed_at_boot",
    "store_refused_superseded",
    "store_refused_voided",
    "strays_evicted",
];

/// Those that only a broken promise reaches.
pub const FORBIDDEN_PROBES: &[&str] = &["dead_mark_on_live_attempt"];

#[derive(Default)]
struct Heard {
    counts: BTreeMap<String, u64>,
    /// The nemesis waits for the n-th of this probe.
    armed: Option<(String, u64)>,
    fired: bool,
    trace: Vec<String>,
    keep_trace: bool,
    facts: Facts,
}

/// What was heard; shared by the subscriber and the driver.
#[derive(Clone, Default)]
pub struct Probes {
    heard: Arc<Mutex<Heard>>,
}

impl Probes {
    fn lock(&self) -> MutexGuard<'_, Heard> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps every line for a replay.
    pub fn keep_trace(&self) {
        self.lock().keep_trace = true;
    }

    /// Adds a line of the driver's own.
    pub fn note(&self, line: &str) {
        let mut heard = self.lock();
        if heard.keep_trace {
            let now = turmoil::sim_elapsed().map_or(0, |t| t.as_micros());
            heard.trace.push(format!("{now} {line}"));
        }
    }

    /// Fires once at the `n`-th `probe` from now on.
    pub fn arm(&self, probe: &str, n: u64) {
        let mut heard = self.lock();
        heard.armed = Some((probe.to_owned(), n));
        heard.fired = false;
    }

    /// Whether the armed probe has come; tells so once.
    pub fn fired(&self) -> bool {
        std::mem::take(&mut self.lock().fired)
    }

    /// Looks at the facts that nodes stated.
    pub(crate) fn facts<T>(&self, look: impl FnOnce(&mut Facts) -> T) -> T {
        look(&mut self.lock().facts)
    }

    /// How often each probe came.
    pub fn counts(&self) -> BTreeMap<String, u64> {
        self.lock().counts.clone()
    }

    /// The trace so far.
    pub fn take_trace(&self) -> Vec<String> {
        std::mem::take(&mut self.lock().trace)
    }
}

#[derive(Default)]
struct Line {
    text: String,
}

/// A fact as `benteng_host::witness` states it.
#[derive(Default)]
struct Fact {
    what: String,
    of: u128,
    value: u128,
}

impl Visit for Fact {
    fn record_debug(&mut self, _: &Field, _: &dyn std::fmt::Debug) {}

    fn record_str(&mut self, _: &Field, value: &str) {
        value.clone_into(&mut self.what);
    }

    fn record_u128(&mut self, field: &Field, value: u128) {
        if field.name() == "of" {
            self.of = value;
        } else {
            self.value = value;
        }
    }
}

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        let written = if field.name() == "message" {
            write!(self.text, " {value:?}")
        } else {
            write!(self.text, " {}={value:?}", field.name())
        };
        // Writing into a string cannot fail.
        written.unwrap_or_default();
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        let written = if field.name() == "message" {
            write!(self.text, " {value}")
        } else {
            write!(self.text, " {}={value}", field.name())
        };
        written.unwrap_or_default();
    }
}

/// Whether anybody here listens to it. Spans are nobody's business: openraft alone makes thousands a second.
fn is_heard(meta: &Metadata<'_>) -> bool {
    let own = || *meta.level() <= Level::INFO && meta.target().starts_with("benteng");
    !meta.is_span() && (matches!(meta.target(), "probe" | "witness") || own())
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Probes {
    fn register_callsite(&self, meta: &'static Metadata<'static>) -> Interest {
        if is_heard(meta) { Interest::always() } else { Interest::never() }
    }

    fn enabled(&self, meta: &Metadata<'_>, _: Context<'_, S>) -> bool {
        is_heard(meta)
    }

    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let meta = event.metadata();
        if meta.target() == "witness" {
            let mut fact = Fact::default();
            event.record(&mut fact);
            self.lock().facts.state(&fact.what, fact.of, fact.value);
            return;
        }
        let probe = meta.target() == "probe";
        let mut heard = self.lock();
        if !probe && !heard.keep_trace {
            return;
        }
        let mut line = Line::default();
        event.record(&mut line);
        let now = turmoil::sim_elapsed().map_or(0, |t| t.as_micros());
        if probe {
            let name = line.text.trim().trim_start_matches("name=").trim_matches('"').to_owned();
            *heard.counts.entry(name.clone()).or_default() += 1;
            if let Some((armed, left)) = &mut heard.armed
                && *armed == name
            {
                *left = left.saturating_sub(1);
                if *left == 0 {
                    heard.armed = None;
                    heard.fired = true;
                }
            }
        }
        if heard.keep_trace {
            heard.trace.push(format!("{now} {} {}{}", meta.level(), meta.target(), line.text));
        }
    }
}
