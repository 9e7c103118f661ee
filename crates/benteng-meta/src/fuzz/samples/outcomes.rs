//! One of each answer and rejection.

use benteng_host::golden::Sample;

use super::{SECOND, checksum, etag, written};
use crate::ids::*;
use crate::*;

fn rejections() -> Vec<Rejection> {
    vec![
        Rejection::Site { formed: true },
        Rejection::DeadlinePassed,
        Rejection::GatewaySuperseded(NodeId(2)),
        Rejection::Refused,
        Rejection::InvalidBucketName("A".into()),
        Rejection::NoSuchBucket,
        Rejection::BucketTaken { owner: "dinkes".into() },
        Rejection::BucketNotEmpty,
        Rejection::InvalidKey,
        Rejection::NoSuchKey,
        Rejection::PreconditionFailed,
        Rejection::NoSuchUpload,
        Rejection::InvalidPart(PartNumber(300)),
        Rejection::InvalidPartOrder,
        Rejection::PartTooSmall { number: PartNumber(1), size: 7, minimum: 5 << 20 },
        Rejection::KeyDestroyed(KekVersion(1)),
        Rejection::NoSuchNode(NodeId(9)),
        Rejection::NodeNameTaken("node-1".into()),
        Rejection::InvalidToken,
        Rejection::NoSuchUser("siapa".into()),
        Rejection::UserExists("dinkes".into()),
        Rejection::LastAdmin("admin".into()),
        Rejection::NoSuchAccessKey("BTKEY".into()),
        Rejection::AccessKeyExists("BTKEY".into()),
        Rejection::Invalid("makes no sense".into()),
        Rejection::Full,
    ]
}

/// How many kinds of rejections and answers there are.
pub const OUTCOMES: usize = 26 + 9;

/// The place of a rejection in its list: a new one is not forgotten.
fn place(rejection: &Rejection) -> usize {
    match rejection {
        Rejection::Site { .. } => 0,
        Rejection::DeadlinePassed => 1,
        Rejection::GatewaySuperseded(_) => 2,
        Rejection::Refused => 3,
        Rejection::InvalidBucketName(_) => 4,
        Rejection::NoSuchBucket => 5,
        Rejection::BucketTaken { .. } => 6,
        Rejection::BucketNotEmpty => 7,
        Rejection::InvalidKey => 8,
        Rejection::NoSuchKey => 9,
        Rejection::PreconditionFailed => 10,
        Rejection::NoSuchUpload => 11,
        Rejection::InvalidPart(_) => 12,
        Rejection::InvalidPartOrder => 13,
        Rejection::PartTooSmall { .. } => 14,
        Rejection::KeyDestroyed(_) => 15,
        Rejection::NoSuchNode(_) => 16,
        Rejection::NodeNameTaken(_) => 17,
        Rejection::InvalidToken => 18,
        Rejection::NoSuchUser(_) => 19,
        Rejection::UserExists(_) => 20,
        Rejection::LastAdmin(_) => 21,
        Rejection::NoSuchAccessKey(_) => 22,
        Rejection::AccessKeyExists(_) => 23,
        Rejection::Invalid(_) => 24,
        Rejection::Full => 25,
    }
}

fn label(outcome: &Outcome) -> String {
    match outcome {
        Ok(Answer::Done) => "done".into(),
        Ok(Answer::Node(_)) => "node".into(),
        Ok(Answer::Gateway(..)) => "gateway".into(),
        Ok(Answer::Committed(_)) => "committed".into(),
        Ok(Answer::Completed { .. }) => "completed".into(),
        Ok(Answer::Deleted(_)) => "deleted".into(),
        Ok(Answer::Replace(_)) => "replace".into(),
        Ok(Answer::Settled(_)) => "settled".into(),
        Ok(Answer::NeverApplied) => "never_applied".into(),
        Err(rejection) => format!("rejection_{:02}", place(rejection)),
    }
}

/// One of each outcome.
pub fn outcomes() -> Vec<Outcome> {
    let at = SiteTime(6 * SECOND);
    let answers = vec![
        Answer::Done,
        Answer::Node(NodeId(2)),
        Answer::Gateway(Incarnation(4), StateSeq(8)),
        Answer::Committed(at),
        Answer::Completed { etag: etag(), checksum: Some(checksum()), at },
        Answer::Deleted(vec![Ok(()), Err(Rejection::PreconditionFailed)]),
        Answer::Replace(vec![0, 300]),
        Answer::Settled(Box::new(Ok(Answer::Done))),
        Answer::NeverApplied,
    ];
    answers.into_iter().map(Ok).chain(rejections().into_iter().map(Err)).collect()
}

/// Each outcome as the state remembers it.
pub fn answers() -> Vec<Sample> {
    let mut out = Vec::new();
    for outcome in outcomes() {
        let name = label(&outcome);
        written(&mut out, &name, &AnswerRow { at: SiteTime(6 * SECOND), outcome });
    }
    out
}
