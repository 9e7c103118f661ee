//! Rules C: commands that come twice, late, past their deadline, or from a client that writes what it likes;
//! and site time among clocks that are wrong.

use std::time::Duration;

use benteng_host::planted::Bug;
use benteng_meta::codec::{self, Versioned};
use benteng_meta::ids::*;
use benteng_meta::{
    Answer, Body, Command, Condition, Copies, Described, ETag, Envelope, NewBody, NewPart, Outcome,
    PutObject, Rejection, query,
};
use benteng_rpc::{Lane, Request};
use bytes::Bytes;
use rand::Rng;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::Scenario;
use crate::door::{Ask, BUCKET, Say};
use crate::site::name;
use crate::stage::{Played, Stage, broken};

pub(super) const ALL: &[Scenario] = &[
    Scenario::new("c1_a_command_comes_twice", &[Bug::AppliedTwice], a_command_comes_twice),
    Scenario::new(
        "c1_an_answer_outlives_its_deadline",
        &[Bug::DeadlineFirst],
        an_answer_outlives_its_deadline,
    ),
    Scenario::new(
        "c2_a_late_duplicate_kills_no_live_object",
        &[Bug::RefusalBuriesLive],
        a_late_duplicate_kills_no_live_object,
    ),
    Scenario::new("c3_a_late_original_is_refused", &[Bug::SettleForgets], a_late_original_is_refused),
    Scenario::new("c3_a_lost_reply_is_no_failure", &[Bug::TimeoutIsFailure], a_lost_reply_is_no_failure),
    Scenario::new("c4_a_leader_clock_at_2038", &[Bug::StampByWallClock], a_leader_clock_at_2038),
    Scenario::new("c4_a_start_beside_a_clock_at_2038", &[Bug::FastestClockWins], a_start_beside_2038),
    Scenario::new("c4_after_a_quiet_hour", &[], after_a_quiet_hour),
    Scenario::new("c5_a_key_that_no_client_may_write", &[Bug::ApplyAsserts], a_key_that_no_client_may_write),
];

/// The wire's form of forwarded commands: `docs/formats-consensus.md`.
#[derive(Serialize, Deserialize)]
struct Forwarded {
    envelopes: Vec<Bytes>,
}
impl Versioned for Forwarded {
    const WHAT: &'static str = "forwarded commands";
}

/// And of their answers.
#[derive(Serialize, Deserialize)]
struct Answers {
    answers: Vec<OneAnswer>,
}
impl Versioned for Answers {
    const WHAT: &'static str = "forwarded answers";
}

#[derive(Serialize, Deserialize)]
enum OneAnswer {
    Applied { index: u64, outcome: Outcome },
    NotLeader(Option<NodeId>),
    Unknown(String),
}

const PROPOSE: u16 = 8;
/// Twelve years: from 2026 to 2038.
const TWELVE_YEARS: i64 = 12 * 365 * 24 * 3600 * 1_000_000;

/// Sends an envelope to the leader as a follower forwards it, and returns what became of it.
pub(super) fn forward(stage: &mut Stage, envelope: &Envelope) -> Result<Outcome, String> {
    for _ in 0..40 {
        let (leader, one, _) = stage.followers()?;
        let rpc = stage.node(one)?.rpc().clone();
        let parts = vec![codec::encode(&Forwarded { envelopes: vec![codec::encode(envelope)] })];
        let request = Request { method: PROPOSE, group: GroupId::MAIN, epoch: 0, parts };
        let answer = stage.run(async move {
            let reply = rpc.call(NodeId(leader), Lane::Unary, request, Duration::from_secs(5)).await;
            let reply = reply.map_err(|e| e.to_string())?;
            let body = reply.parts.first().cloned().unwrap_or_default();
            codec::decode::<Answers>(&body).map_err(|e| e.to_string())
        })?;
        match answer?.answers.pop() {
            Some(OneAnswer::Applied { outcome, .. }) => return Ok(outcome),
            Some(OneAnswer::NotLeader(_)) | None => stage.ms(200)?,
            Some(OneAnswer::Unknown(why)) => return Err(format!("the forwarded command is unknown: {why}")),
        }
    }
    Err("no leader took the command".to_owned())
}

/// An envelope as a gateway makes it, with `seconds` until its deadline.
pub(super) fn envelope(stage: &mut Stage, command: Command, seconds: i64) -> Result<Envelope, String> {
    let leader = stage.leader()?;
    let now = stage.node(leader)?.group().site_time();
    let id = CommandId(Uuid::from_u64_pair(stage.rng.next_u64(), stage.rng.next_u64()));
    let deadline = SiteTime(now.0 + seconds * 1_000_000);
    Ok(Envelope { id, stamp: SiteTime(0), deadline, gateway: None, command })
}

pub(super) fn create_bucket(stage: &mut Stage, name: &str) -> Command {
    Command::CreateBucket {
        name: name.to_owned(),
        id: BucketId(Uuid::from_u64_pair(stage.rng.next_u64(), 7)),
        owner: "simulasi".to_owned(),
        key: Bytes::from_static(b"not a key"),
        kek: KekVersion(1),
    }
}

fn a_command_comes_twice(stage: &mut Stage) -> Played {
    let command = create_bucket(stage, "ganda");
    let envelope = envelope(stage, command, 60)?;
    let first = forward(stage, &envelope)?;
    let second = forward(stage, &envelope)?;
    if first.is_err() || first != second {
        broken!("C1: a command was answered {first:?}, and then {second:?}");
    }
    stage.converges()
}

fn an_answer_outlives_its_deadline(stage: &mut Stage) -> Played {
    let command = create_bucket(stage, "lambat");
    let envelope = envelope(stage, command, 2)?;
    let first = forward(stage, &envelope)?;
    stage.ms(5000)?;
    let second = forward(stage, &envelope)?;
    if first.is_err() || first != second {
        broken!("C1: a command was answered {first:?}, and after its deadline {second:?}");
    }
    stage.converges()
}

/// A gateway proposed anew under another id, and the copy of its first proposal comes late.
fn a_late_duplicate_kills_no_live_object(stage: &mut Stage) -> Played {
    stage.put(1, "hidup", 500, 100_000)?;
    stage.converges()?;
    let view = stage.view(1)?;
    let state = |e: benteng_meta::Error| e.to_string();
    let bucket = query::bucket(&*view, BUCKET).map_err(state)?.ok_or("no bucket")?;
    let object = query::object(&*view, bucket.id, "hidup").map_err(state)?.ok_or("no object")?;
    let blob = query::blob(&*view, object.blob).map_err(state)?.ok_or("no blob")?;
    let Body::Single(part) = blob.body else { broken!("the object is not one part in chunks") };
    let put = PutObject {
        bucket: bucket.id,
        key: "hidup".to_owned(),
        blob: object.blob,
        condition: Condition::default(),
        dek: blob.dek,
        kek: KekVersion(1),
        etag: object.etag,
        size: part.size,
        checksum: None,
        described: Described::default(),
        body: NewBody::Chunks(NewPart {
            attempt: part.attempt,
            salt: part.salt,
            size: part.size,
            md5: part.md5,
            checksum: None,
            copies: Copies { stores: Vec::new(), chunks: vec![0] },
        }),
    };
    let late = envelope(stage, Command::PutObject(Box::new(put)), 60)?;
    if let Ok(answer) = forward(stage, &late)? {
        broken!("C2: the late duplicate was answered {answer:?}");
    }
    stage.ms(8000)?;
    for node in 1..=3 {
        stage.reads(node, "hidup", 500)?;
    }
    stage.converges()
}

fn a_late_original_is_refused(stage: &mut Stage) -> Played {
    let command = create_bucket(stage, "terlambat");
    let original = envelope(stage, command, 60)?;
    let settle = envelope(stage, Command::Settle { id: original.id, chunks: Vec::new() }, 60)?;
    match forward(stage, &settle)? {
        Ok(Answer::NeverApplied) => {}
        other => broken!("C3: a command that never came was settled as {other:?}"),
    }
    match forward(stage, &original)? {
        Err(Rejection::Refused) => stage.converges(),
        other => broken!("C3: settled as never applied, and then it was: {other:?}"),
    }
}

/// The proposal reaches the leader and is applied; its answer never comes back.
fn a_lost_reply_is_no_failure(stage: &mut Stage) -> Played {
    for round in 0..3 {
        let (leader, one, other) = stage.followers()?;
        stage.ms(500)?;
        let value = 100 + round;
        stage.sim.partition_oneway(name(leader), name(one));
        let put = Ask::Put { key: "kunci".into(), value, len: 500, create: false, tag: None, pause: 0 };
        let put = stage.start(one, put)?;
        let said = stage.finish(&put, 60)?;
        stage.sim.repair(name(leader), name(one));
        stage.ms(2000)?;
        let holds = stage.ask(other, Ask::Get { key: "kunci".into(), pause: 0 })?;
        let there = matches!(&holds, Some(Say::Got(Some((found, _)))) if *found == value);
        if there && matches!(said, Some(Say::Failed(_))) {
            broken!("C3: a write was answered {said:?}, and it was done");
        }
    }
    stage.converges()
}

/// How far the site's time is from the clocks that are right, in seconds.
fn time_is_off(stage: &mut Stage) -> Result<i64, String> {
    let leader = stage.leader()?;
    let now = query::clock(&*stage.view(leader)?).map_err(|e| e.to_string())?.now;
    // 2026-01-01, as simulated clocks begin.
    let right = 1_767_225_600_000_000 + i64::try_from(stage.sim.elapsed().as_micros()).unwrap_or(i64::MAX);
    Ok((now.0 - right) / 1_000_000)
}

fn a_leader_clock_at_2038(stage: &mut Stage) -> Played {
    let (leader, one, other) = stage.followers()?;
    stage.machine(leader)?.clock.jump_wall(TWELVE_YEARS);
    for n in 0..3 {
        stage.put(one, "kunci", 100 + n, 500)?;
        stage.put(other, "kunci", 110 + n, 500)?;
        stage.ms(1000)?;
    }
    let off = time_is_off(stage)?;
    if off.abs() > 60 {
        broken!("C4: one clock of three moved site time by {off} s");
    }
    stage.converges()
}

/// Nobody remembers the time: the median of the clocks is the best there is, not the greatest of them.
fn a_start_beside_2038(stage: &mut Stage) -> Played {
    stage.machine(2)?.clock.jump_wall(TWELVE_YEARS);
    for node in 1..=3 {
        stage.cut_power(node);
    }
    // Two are a majority: the wrong clock is asked.
    stage.boot(1)?;
    stage.boot(2)?;
    stage.until("two serve again", 60, |stage| stage.site.running().len() == 2)?;
    stage.put(1, "kunci", 99, 500)?;
    stage.boot(3)?;
    stage.until("all nodes serve again", 60, |stage| stage.site.running().len() == 3)?;
    for n in 0..3 {
        stage.put(1 + n, "kunci", 100 + n, 500)?;
    }
    let off = time_is_off(stage)?;
    if off.abs() > 60 {
        broken!("C4: one clock of three moved site time by {off} s");
    }
    stage.converges()
}

/// The site was off for an hour: deadlines reckoned from the last stamp would all be past.
fn after_a_quiet_hour(stage: &mut Stage) -> Played {
    stage.put(1, "kunci", 100, 500)?;
    for node in 1..=3 {
        stage.cut_power(node);
        stage.machine(node)?.clock.leap(Duration::from_secs(3600));
    }
    for node in 1..=3 {
        stage.boot(node)?;
    }
    stage.until("all nodes serve again", 60, |stage| stage.site.running().len() == 3)?;
    for n in 0..3 {
        stage.put(1 + n, "kunci", 101 + n, 500)?;
    }
    stage.converges()
}

/// Doors refuse such keys; a forged proposal does not pass a door.
fn a_key_that_no_client_may_write(stage: &mut Stage) -> Played {
    let view = stage.view(1)?;
    let bucket = query::bucket(&*view, BUCKET).map_err(|e| e.to_string())?.ok_or("no bucket")?;
    drop(view);
    for key in [String::new(), "k".repeat(5000)] {
        let put = PutObject {
            bucket: bucket.id,
            key,
            blob: BlobId(Uuid::from_u64_pair(stage.rng.next_u64(), 9)),
            condition: Condition::default(),
            dek: Bytes::new(),
            kek: KekVersion(1),
            etag: ETag { md5: [0; 16], parts: None },
            size: 3,
            checksum: None,
            described: Described::default(),
            body: NewBody::Inline(Bytes::from_static(b"abc")),
        };
        let put = envelope(stage, Command::PutObject(Box::new(put)), 60)?;
        match forward(stage, &put)? {
            Err(Rejection::InvalidKey) => {}
            other => broken!("C5: an impossible key was answered {other:?}"),
        }
    }
    stage.converges()
}
