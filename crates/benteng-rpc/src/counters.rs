//! What the transport counts. Handles are taken once, when the `Rpc` is made: install the
//! metrics recorder before.

use metrics::{Counter, counter};

use crate::message::Lane;

/// Counters of one lane.
pub(crate) struct LaneCounters {
    pub(crate) calls: Counter,
    pub(crate) failures: Counter,
    pub(crate) served: Counter,
    pub(crate) sent_bytes: Counter,
    pub(crate) received_bytes: Counter,
    pub(crate) writes: Counter,
    pub(crate) frames: Counter,
}

/// Counters of one `Rpc`.
pub(crate) struct Counters {
    lanes: [LaneCounters; 3],
    pub(crate) dials: Counter,
    pub(crate) dial_failures: Counter,
    pub(crate) accepted: Counter,
    pub(crate) handshake_failures: Counter,
    pub(crate) turned_away: Counter,
    pub(crate) garbage: Counter,
    pub(crate) panics: Counter,
    pub(crate) overloads: Counter,
    pub(crate) dropped_silent: Counter,
    pub(crate) accept_errors: Counter,
}

impl Counters {
    pub(crate) fn new() -> Counters {
        let lane = |lane: Lane| LaneCounters {
            calls: counter!("benteng_rpc_calls_total", "lane" => lane.name()),
            failures: counter!("benteng_rpc_call_failures_total", "lane" => lane.name()),
            served: counter!("benteng_rpc_served_total", "lane" => lane.name()),
            sent_bytes: counter!("benteng_rpc_sent_bytes_total", "lane" => lane.name()),
            received_bytes: counter!("benteng_rpc_received_bytes_total", "lane" => lane.name()),
            writes: counter!("benteng_rpc_writes_total", "lane" => lane.name()),
            frames: counter!("benteng_rpc_sent_frames_total", "lane" => lane.name()),
        };
        Counters {
            lanes: Lane::ALL.map(lane),
            dials: counter!("benteng_rpc_dials_total"),
            dial_failures: counter!("benteng_rpc_dial_failures_total"),
            accepted: counter!("benteng_rpc_accepted_total"),
            handshake_failures: counter!("benteng_rpc_handshake_failures_total"),
            turned_away: counter!("benteng_rpc_turned_away_total"),
            garbage: counter!("benteng_rpc_garbage_total"),
            panics: counter!("benteng_rpc_panics_total"),
            overloads: counter!("benteng_rpc_overloads_total"),
            dropped_silent: counter!("benteng_rpc_dropped_silent_total"),
            accept_errors: counter!("benteng_rpc_accept_errors_total"),
        }
    }

    pub(crate) fn lane(&self, lane: Lane) -> &LaneCounters {
        let index = usize::from(lane.to_byte()) - 1;
        &self.lanes[index]
    }
}
