//! What the parsers of this crate must bear, as plain functions for the fuzzer in `tests/fuzz`. Compiled with
//! debug assertions only: no release holds any of it. A panic is a find.

use benteng_host::golden::Sample;
use benteng_meta::codec;
use benteng_meta::fuzz::versioned;
use bytes::Bytes;

pub use crate::log::fuzz::replay;
use crate::snapshot::Pulled;
use crate::state::AppliedRow;
use crate::wire::{samples, *};

/// A message of another node, or the body of a log record: the first byte says which. What openraft takes of
/// it, it gives back.
pub fn message(bytes: &[u8]) {
    let Some((which, body)) = bytes.split_first() else { return };
    let plain: &[fn(&[u8])] = &[
        versioned::<WireVote>,
        versioned::<WireLogId>,
        versioned::<WirePayload>,
        versioned::<WireAppend>,
        versioned::<WireAppended>,
        versioned::<WireVoteRequest>,
        versioned::<WireVoteResponse>,
        versioned::<WireTransfer>,
        versioned::<WireSnapshotMeta>,
        versioned::<WireInstall>,
        versioned::<WirePull>,
        versioned::<WirePage>,
        versioned::<WirePropose>,
        versioned::<WireProposed>,
        versioned::<WireReadIndex>,
        versioned::<WireClock>,
        versioned::<AppliedRow>,
    ];
    if let Some(read) = plain.get(usize::from(*which)) {
        read(body);
    }
    const THROUGH: [&str; 9] = [
        "vote",
        "log_id",
        "payload",
        "append",
        "appended",
        "vote_request",
        "vote_response",
        "transfer",
        "snapshot_meta",
    ];
    let Some(name) = THROUGH.get(usize::from(*which)) else { return };
    // Openraft refuses some memberships; what it takes once, it takes again.
    if let Ok(written) = samples::again(name, body) {
        let once_more = samples::again(name, &written).expect("what openraft took once");
        assert!(once_more == written, "{name} changes on its way through openraft");
    }
}

/// Pages of a snapshot, each behind its length in two bytes: whatever they are, the rows that are taken
/// ascend, each once, and a page that does not fit ends it.
pub fn pages(bytes: &[u8]) {
    let (mut pulled, mut rest) = (Pulled::default(), bytes);
    let mut last: Option<Bytes> = None;
    while let Some((len, behind)) = rest.split_first_chunk::<2>() {
        let (body, later) = behind.split_at(usize::from(u16::from_be_bytes(*len)).min(behind.len()));
        rest = later;
        versioned::<WirePage>(body);
        let Ok(page) = codec::decode::<WirePage>(body) else { return };
        if pulled.take(&page).is_err() {
            return;
        }
        for (key, _) in page.rows {
            assert!(last.as_ref().is_none_or(|last| key > *last), "a row comes twice or too late");
            last = Some(key);
        }
        if !page.more {
            return;
        }
    }
}

/// One sample of each message.
pub fn messages() -> Vec<Sample> {
    samples::messages()
}
