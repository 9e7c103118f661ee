//! What must hold before Raft may start (S3). openraft's own repair of holes must never be
//! reached: it would go on with less than was acknowledged.

use benteng_host::planted::{Bug, planted};
use openraft::storage::RaftLogStorage;

use crate::log::{LogOpened, LogStore};
use crate::state::Standing;
use crate::{Error, Result};

fn damaged(what: &str) -> Error {
    Error::Stopped(format!(
        "S3: {what}. Raft is not started: this node's disk lost what it had acknowledged. \
         Replace it: `benteng node add --replace <its id>` on another node gives a token, and on an empty \
         data directory `benteng join --replace <its id> --token …` takes its place"
    ))
}

/// What log and state are to each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Checked {
    /// Raft may start.
    Sound,
    /// The log is whole, but the state behind it is lost or too old for it: peers have it (S5).
    StateLost(&'static str),
}

/// Holds log and state against each other and against the watermark. A log that is behind a
/// snapshot that was switched to is brought forward, as the crashed installation would have.
pub(crate) async fn check(log: &mut LogStore, opened: &LogOpened, standing: &Standing) -> Result<Checked> {
    if planted(Bug::StartUnchecked) {
        return Ok(Checked::Sound);
    }
    let io = |e: std::io::Error| Error::Stopped(format!("the Raft log cannot be read: {e}"));
    let found = log.get_log_state().await.map_err(io)?;
    let vote = openraft::storage::RaftLogReader::read_vote(log).await.map_err(io)?;
    if let Some((marked, _)) = &opened.watermark {
        let behind = match (marked, &vote) {
            (Some(marked), Some(vote)) => vote < marked,
            (Some(_), None) => true,
            (None, _) => false,
        };
        if behind {
            return Err(damaged("the vote is behind the watermark (J7)"));
        }
    }
    let entries = found.last_log_id.is_some() || standing.last.is_some();
    if entries && vote.is_none() {
        return Err(damaged("there are entries but no vote"));
    }
    if opened.fresh && standing.last.is_some() {
        return Err(damaged("the state is there but the Raft log is gone"));
    }
    let (Some(applied), last) = (standing.last, found.last_log_id) else {
        if found.last_purged_log_id.is_some() {
            return Ok(Checked::StateLost("the state is gone and the log before it is purged"));
        }
        return Ok(Checked::Sound);
    };
    if found.last_purged_log_id.is_some_and(|purged| purged.index > applied.index) {
        return Ok(Checked::StateLost("the state is older than what the log has purged"));
    }
    if last.is_none_or(|last| last.index < applied.index) {
        if !standing.switched {
            return Err(damaged("the state is ahead of the log (S2)"));
        }
        benteng_host::probe("snapshot_switch_completed_at_boot");
        log.purge(applied).await.map_err(io)?;
    }
    Ok(Checked::Sound)
}
