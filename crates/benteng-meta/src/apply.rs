//! One command against one transaction: pure (I6), total, and free of anything that a
//! client could make panic (C5). Every replica runs it on every entry, in order.

mod identity; // users and access keys
mod nodes; // nodes come, are drained, replaced, removed
mod object; // buckets, PUT, DELETE
mod removal; // floors and the forgetting of what is dead
mod topology; // the site, gateways, placement, repair
mod upload; // multipart uploads

pub use object::is_bucket_name;
pub use removal::{CHUNK_BYTES, chunks_of};
pub use topology::REPAIR_CHUNKS_MAX;
pub use upload::{COMPLETED_KEPT, PART_BYTES_MIN, PART_NUMBERS};

use benteng_host::planted::{Bug, planted};

use crate::answer::settled_depth;
use crate::ids::*;
use crate::row::*;
use crate::{Answer, AnswerRow, Command, Envelope, Outcome, Rejection, Result, SETTLED_DEPTH_MAX, Tx, key};

/// Answers that are remembered, but for a few; the oldest falls out beyond it, and is counted (C1).
pub const ANSWERS_MAX: u64 = 200_000;
/// How long an answer is remembered: ten times the longest deadline of a gateway.
pub const ANSWER_KEPT: i64 = 300 * SECOND;
/// Commands between two looks at what may be forgotten: a scan costs more than a command.
const FORGET_EVERY: u64 = 32;
/// Answers that one look lets go at most.
const FORGET_MAX: usize = 64;
/// Site time is counted in microseconds.
const SECOND: i64 = 1_000_000;

/// What a command sees beside the rows: its place in the history.
#[derive(Clone, Copy)]
struct Now {
    seq: StateSeq,
    at: SiteTime,
}

/// A rejection leaves no trace, so the rules return early with one; a broken state is another thing.
enum Stop {
    Rejected(Rejection),
    Broken(crate::Error),
}

impl From<Rejection> for Stop {
    fn from(r: Rejection) -> Stop {
        Stop::Rejected(r)
    }
}

impl From<crate::Error> for Stop {
    fn from(e: crate::Error) -> Stop {
        Stop::Broken(e)
    }
}

type Step<T> = std::result::Result<T, Stop>;

/// Applies one command and returns its answer; the changes are left in `tx`.
///
/// Errors: the state could not be read. The caller must not write `tx` (S6).
pub fn apply(tx: &mut Tx<'_>, envelope: &Envelope) -> Result<Outcome> {
    let mut clock: ClockRow = tx.get(&key::clock())?.unwrap_or_default();
    // Answered before: the same answer, and nothing else moves (C1).
    let answered: Option<AnswerRow> = tx.get(&key::answer(envelope.id))?;
    if planted(Bug::DeadlineFirst) && envelope.stamp > envelope.deadline {
        return Ok(Err(Rejection::DeadlinePassed));
    }
    if let Some(row) = answered.filter(|_| !planted(Bug::AppliedTwice)) {
        return Ok(row.outcome);
    }
    clock.seq = StateSeq(clock.seq.0 + 1);
    clock.now = clock.now.max(envelope.stamp);
    tx.put(key::clock(), &clock);
    let now = Now { seq: clock.seq, at: clock.now };

    let outcome = match admit(tx, envelope, now).and_then(|()| dispatch(tx, envelope, now)) {
        Ok(answer) => Ok(answer),
        Err(Stop::Rejected(rejection)) => {
            removal::bury_refused(tx, &envelope.command, now)?;
            Err(rejection)
        }
        Err(Stop::Broken(e)) => return Err(e),
    };
    if tx.placements_changed() {
        tx.put(key::placements_changed(), &PlacementsChangedRow { at: now.seq });
    }
    // Replace too: the gateway proposes anew, under another id. A second copy of this entry that
    // was judged again could be applied after the new proposal was refused and its chunks buried (C2).
    remember(tx, envelope.id, &outcome, now)?;
    Ok(outcome)
}

/// Deadline and gateway fence: what holds for every command.
fn admit(tx: &Tx<'_>, envelope: &Envelope, now: Now) -> Step<()> {
    let formed = tx.has(&key::site())?;
    let forms = matches!(envelope.command, Command::InitSite { .. });
    if formed == forms {
        return Err(Rejection::Site { formed }.into());
    }
    if now.at > envelope.deadline {
        return Err(Rejection::DeadlinePassed.into());
    }
    if let Some((node, incarnation)) = envelope.gateway {
        let gateway: Option<GatewayRow> = tx.get(&key::gateway(node))?;
        if gateway.is_none_or(|g| g.incarnation != incarnation) && !planted(Bug::SupersededCommits) {
            return Err(Rejection::GatewaySuperseded(node).into());
        }
        // Stores take the unnamed chunks of a removed node for orphans (O1): it may name them no more.
        let row: Option<NodeRow> = tx.get(&key::node(node))?;
        if row.is_none_or(|row| row.state == NodeState::Removed) {
            return Err(Rejection::GatewaySuperseded(node).into());
        }
    }
    Ok(())
}

fn dispatch(tx: &mut Tx<'_>, envelope: &Envelope, now: Now) -> Step<Answer> {
    match &envelope.command {
        Command::InitSite { site, kek, node } => topology::init_site(tx, site, kek, node, now),
        Command::AddNode { node, token } => nodes::add_node(tx, node, token, now),
        Command::CreateJoinToken { hash, valid, replaces } => {
            nodes::create_join_token(tx, hash, *valid, *replaces, now)
        }
        Command::UpdateNode { node, doors, store } => nodes::update_node(tx, *node, doors, *store),
        Command::SetNodeState { node, state } => nodes::set_node_state(tx, *node, *state),
        Command::SetCopies { copies, copies_min } => topology::set_copies(tx, *copies, *copies_min),
        Command::SetTargets(targets) => topology::set_targets(tx, targets, now),
        Command::Filled { node, groups } => topology::filled(tx, *node, groups),
        Command::StartGateway { node } => topology::start_gateway(tx, *node, now),
        Command::PublishFloor { node, incarnation, floor, removed } => {
            removal::publish_floor(tx, *node, *incarnation, *floor, *removed, now)
        }
        Command::VoidFloor { node, incarnation } => removal::void_floor(tx, *node, *incarnation),
        Command::ForgetDead { upto } => removal::forget_dead(tx, *upto),
        Command::Repaired { node, store, chunks } => topology::repaired(tx, *node, *store, chunks),
        Command::FoundMissing { node, chunks } => topology::found_missing(tx, *node, chunks, now),
        Command::CreateBucket { name, id, owner, key, kek } => {
            object::create_bucket(tx, name, *id, owner, key, *kek, now)
        }
        Command::DeleteBucket { name } => object::delete_bucket(tx, name),
        Command::PutObject(put) => object::put(tx, put, now),
        Command::DeleteObjects { bucket, keys } => object::delete(tx, *bucket, keys, now),
        Command::CreateUpload { bucket, key, upload, row, kek } => {
            upload::create(tx, *bucket, key, *upload, row, *kek, now)
        }
        Command::PutPart { bucket, key, upload, number, part } => {
            upload::put_part(tx, (*bucket, key, *upload), *number, part, now)
        }
        Command::CompleteUpload(complete) => upload::complete(tx, complete, now),
        Command::AbortUpload { bucket, key, upload } => upload::abort(tx, *bucket, key, *upload, now),
        Command::Settle { id, chunks } => settle(tx, *id, chunks, now),
        Command::CreateUser { name, row } => identity::create_user(tx, name, row, now),
        Command::UpdateUser { name, row } => identity::update_user(tx, name, row),
        Command::DeleteUser { name } => identity::delete_user(tx, name),
        Command::CreateAccessKey { id, user, secret } => {
            identity::create_access_key(tx, id, user, secret, now)
        }
        Command::DeleteAccessKey { id } => identity::delete_access_key(tx, id),
        Command::RemoveNode { node, lost, accept_one_voter } => {
            nodes::remove_node(tx, *node, *lost, *accept_one_voter, now)
        }
        Command::Recover { node } => nodes::recover(tx, *node, now),
    }
}

/// Answers what became of a command; one that never came is refused from now on (C3).
fn settle(
    tx: &mut Tx<'_>,
    id: CommandId,
    chunks: &[(BlobId, PartNumber, Attempt, u32)],
    now: Now,
) -> Step<Answer> {
    let answered: Option<AnswerRow> = tx.get(&key::answer(id))?;
    if let Some(row) = answered {
        if settled_depth(&row.outcome) >= SETTLED_DEPTH_MAX {
            // It could not be read back: no replica may write what none can read (S6).
            return Err(Rejection::Invalid("settlings of settlings are not settled any more".into()).into());
        }
        return Ok(Answer::Settled(Box::new(row.outcome)));
    }
    if !planted(Bug::SettleForgets) {
        remember(tx, id, &Err(Rejection::Refused), now)?;
    }
    for (blob, part, attempt, count) in chunks {
        removal::bury_attempt(tx, *blob, *part, *attempt, *count, now)?;
    }
    Ok(Answer::NeverApplied)
}

/// Stores an answer; every now and then the oldest go.
fn remember(tx: &mut Tx<'_>, id: CommandId, outcome: &Outcome, now: Now) -> Result<()> {
    tx.put(key::answer(id), &AnswerRow { at: now.at, outcome: outcome.clone() });
    tx.put(key::answer_order(now.seq, id), &Mark);
    let mut clock: ClockRow = tx.get(&key::clock())?.unwrap_or_default();
    clock.answers += 1;
    if now.seq.0.is_multiple_of(FORGET_EVERY) {
        forget_answers(tx, &mut clock, now)?;
    }
    tx.put(key::clock(), &clock);
    Ok(())
}

/// Lets the oldest answers go, twice as many as came since the last time at most: the work is bounded.
fn forget_answers(tx: &mut Tx<'_>, clock: &mut ClockRow, now: Now) -> Result<()> {
    let from = key::from_seq(key::Table::AnswerOrder, clock.queues.answers);
    let end = benteng_host::prefix_end(&key::table(key::Table::AnswerOrder));
    for (order, Mark) in tx.range(&from, &end, FORGET_MAX)? {
        let Some((seq, old)) = key::split_seq(&order) else { continue };
        let old = key::answer(CommandId(uuid::Uuid::from_bytes(old)));
        let row: Option<AnswerRow> = tx.get(&old)?;
        let expired = row.is_none_or(|row| row.at.0.saturating_add(ANSWER_KEPT) < now.at.0);
        let crowded = clock.answers > ANSWERS_MAX;
        if !expired && !crowded {
            break;
        }
        if !expired {
            clock.answers_crowded_out += 1;
        }
        tx.delete(old);
        tx.delete(order);
        clock.answers = clock.answers.saturating_sub(1);
        clock.queues.answers = seq;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
