//! What can go wrong in a journal, on which object, and what to do about it.

use std::path::PathBuf;

use crate::record::SegmentNo;

/// A request to the journal failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Bytes that were acknowledged are not what they were. Never cut silently (J2).
    #[error(
        "journal segment {segment} is damaged at byte {offset}: {why}; the data must come from a peer \
         (a Raft member is replaced with `join --replace`, chunks are repaired from their copies)"
    )]
    Damaged {
        /// The segment.
        segment: SegmentNo,
        /// Byte within the segment's file.
        offset: u64,
        /// What is wrong there.
        why: String,
    },
    /// The place lies in a segment that has been released.
    #[error("journal segment {segment} has been released; look the record's place up again")]
    Released {
        /// The segment.
        segment: SegmentNo,
    },
    /// A record is larger than a journal takes.
    #[error("a record of {bytes} bytes exceeds the journal's limit of {limit}; split it")]
    TooLarge {
        /// What was submitted: tag plus body.
        bytes: u64,
        /// What is possible.
        limit: u64,
    },
    /// A record, a range, a release or an option breaks the interface's rules.
    #[error("the journal refuses {what}; this is a mistake of the caller")]
    Refused {
        /// What was asked for.
        what: String,
    },
    /// The journal was closed, or its process is going down.
    #[error("the journal in {} has stopped; restart the node", dir.display())]
    Stopped {
        /// Its directory.
        dir: PathBuf,
    },
    /// The machine failed. A full device while opening is retryable once there is room.
    #[error("the journal cannot use its disk: {0}")]
    Io(#[from] benteng_host::Error),
    /// The caller's visitor refused a record during replay.
    #[error("replay of the journal was stopped by its reader: {0}")]
    Visitor(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl Error {
    /// Whether the same request may succeed later, unchanged.
    pub fn is_retryable(&self) -> bool {
        matches!(self, Error::Io(source) if source.is_full())
    }

    pub(crate) fn damaged(segment: SegmentNo, offset: u64, why: impl Into<String>) -> Error {
        Error::Damaged { segment, offset, why: why.into() }
    }

    pub(crate) fn refused(what: impl Into<String>) -> Error {
        Error::Refused { what: what.into() }
    }
}
