//! The N-th operation of a node's disk, or of its ordered store, fails, for every N that a piece of work makes:
//! the process ends or waits as J6 and O6 say, what was acknowledged is there afterwards, nobody panics.

use std::collections::BTreeMap;
use std::time::Duration;

use super::Scenario;
use crate::door::{Ask, Say};
use crate::kv::KvCall;
use crate::plan::Plan;
use crate::stage::{Played, Stage, broken};
use crate::{Ending, SimHost};

pub(super) const ALL: &[Scenario] = &[
    Scenario::new("j6_nth_failure_in_boot", &[], |stage| every(stage, Work::Boot)).with(small),
    Scenario::new("j6_nth_failure_in_put", &[], |stage| every(stage, Work::Put)).with(small),
    Scenario::new("j6_nth_failure_in_multipart", &[], |stage| every(stage, Work::Multipart)).with(small),
    Scenario::new("j6_nth_failure_in_roll", &[], |stage| every(stage, Work::Roll)).with(small),
    Scenario::new("j6_nth_failure_in_snapshot", &[], |stage| every(stage, Work::Snapshot)).with(shorter),
    Scenario::new("j6_nth_failure_in_flush", &[], |stage| every(stage, Work::Flush)).with(shorter),
];

fn small() -> Plan {
    Plan { log_segment: 128 << 10, chunk_segment: 9 << 20, ..Plan::calm() }
}

/// A log that soon lacks what a node that was away needs.
fn shorter() -> Plan {
    Plan { log_keep: 40, ..small() }
}

/// What is under way when something fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Work {
    Boot,
    Put,
    Multipart,
    Roll,
    Snapshot,
    Flush,
}

/// What fails, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Failure {
    /// A changing call of the disk: EIO.
    Disk,
    /// The same: ENOSPC.
    DiskFull,
    /// A write or flush of the ordered store: EIO.
    Store,
    /// The same: ENOSPC.
    StoreFull,
    /// A read of the ordered store: EIO.
    StoreRead,
}

impl Failure {
    const ALL: [Failure; 5] =
        [Failure::Disk, Failure::DiskFull, Failure::Store, Failure::StoreFull, Failure::StoreRead];

    /// The `n`-th from now; 0: none any more.
    fn plan(self, machine: &SimHost, n: u64) {
        match self {
            Failure::Disk => machine.disk.fail_op(n, false),
            Failure::DiskFull => machine.disk.fail_op(n, true),
            Failure::Store => machine.kv.fail(KvCall::Change, n, false),
            Failure::StoreFull => machine.kv.fail(KvCall::Change, n, true),
            Failure::StoreRead => machine.kv.fail(KvCall::Read, n, false),
        }
    }

    /// The next N: each one, but of reads, of which there are thousands, ever fewer.
    fn next(self, n: u64) -> u64 {
        match self {
            Failure::StoreRead => n + 1 + n / 2,
            _ => n + 1,
        }
    }
}

/// More operations than any work makes: a loop that goes on has lost its way.
const OPERATIONS_MAX: u64 = 2000;

/// What clients were told, by key: the newest acknowledged value, and values whose fate nobody knows.
#[derive(Default)]
struct Told {
    acknowledged: BTreeMap<String, u64>,
    open: BTreeMap<String, Vec<u64>>,
    value: u64,
}

impl Told {
    /// Writes a value of its own and notes what came of it.
    fn put(&mut self, stage: &mut Stage, node: u64, key: &str, len: usize) -> Played {
        self.value += 1;
        let (key, value) = (key.to_owned(), self.value);
        let ask = Ask::Put { key: key.clone(), value, len, create: false, tag: None, pause: 0 };
        self.note(stage, node, key, ask)
    }

    /// The same by an upload of two parts.
    fn upload(&mut self, stage: &mut Stage, node: u64, key: &str) -> Played {
        self.value += 1;
        let (key, value) = (key.to_owned(), self.value);
        let ask = Ask::Upload { key: key.clone(), value, len: (5 << 20) + 9000, cut: Some(5 << 20) };
        self.note(stage, node, key, ask)
    }

    fn note(&mut self, stage: &mut Stage, node: u64, key: String, ask: Ask) -> Played {
        let value = self.value;
        // A process that ends by itself leaves its connections as they are: nobody waits for its answer.
        let machine = stage.machine(node)?;
        let ticket = stage.start(node, ask)?;
        stage.until("an answer", 60, |_| ticket.is_done() || machine.ending().is_some())?;
        let said = if ticket.is_done() { ticket.take().flatten() } else { None };
        match said {
            Some(Say::Wrong(what)) => return Err(what),
            Some(Say::Put(_)) => {
                self.acknowledged.insert(key.clone(), value);
                self.open.remove(&key);
            }
            Some(Say::Failed(_) | Say::Refused) => {}
            // An answer that never came, or says that it is open.
            _ => self.open.entry(key).or_default().push(value),
        }
        Ok(())
    }

    /// Every key holds what was acknowledged last, or a later value whose fate was open (I1).
    fn holds(&self, stage: &mut Stage, node: u64) -> Played {
        for (key, value) in &self.acknowledged {
            let ask = Ask::Get { key: key.clone(), pause: 0 };
            let mut said = None;
            for _ in 0..40 {
                said = stage.ask(node, ask.clone())?;
                if matches!(said, Some(Say::Got(_))) {
                    break;
                }
                stage.ms(250)?;
            }
            let open = self.open.get(key);
            match &said {
                Some(Say::Got(Some((found, _))))
                    if found == value || open.is_some_and(|open| open.contains(found)) => {}
                other => broken!("I1: {key} was acknowledged as {value}, node {node} says {other:?}"),
            }
        }
        Ok(())
    }
}

/// Plays a work again and again, each time with another operation failing, until none is left to fail.
fn every(stage: &mut Stage, work: Work) -> Played {
    let mut told = Told::default();
    for failure in Failure::ALL {
        let (mut n, mut round, mut missed, mut struck) = (1, 0_u64, 0, 0_u64);
        while missed < 2 {
            if n > OPERATIONS_MAX {
                broken!("{work:?} makes more than {OPERATIONS_MAX} operations");
            }
            let reached = once(stage, &mut told, work, failure, (n, round))
                .map_err(|e| format!("{work:?}, {failure:?}, operation {n}: {e}"))?;
            (struck, missed) = if reached { (struck + 1, 0) } else { (struck, missed + 1) };
            round += 1;
            n = failure.next(n);
        }
        if struck == 0 {
            broken!("{work:?} reaches no operation that could fail as {failure:?}");
        }
        stage.probes.note(&format!("{work:?}, {failure:?}: {struck} operations failed, one in each round"));
    }
    stage.converges()
}

/// One round; says whether the operation was reached.
fn once(
    stage: &mut Stage,
    told: &mut Told,
    work: Work,
    failure: Failure,
    (n, round): (u64, u64),
) -> Result<bool, String> {
    let (leader, one, other) = stage.followers()?;
    // Every third time the leader itself; a client asks the node that fails, or another.
    let struck = if round % 3 == 2 && work != Work::Snapshot { leader } else { one };
    let asked = if round % 2 == 0 { struck } else { other };
    let machine = stage.machine(struck)?;
    // Since the last boot: what failed in an earlier round and ended no process still counts.
    let failures = || machine.disk.failures() + machine.kv.failures();
    let mut before = failures();
    match work {
        Work::Boot | Work::Snapshot => {
            stage.kill(struck);
            if work == Work::Snapshot {
                for k in 0..50 {
                    told.put(stage, other, &format!("kunci-{}", k % 5), 600)?;
                }
                stage.ms(1500)?;
            }
            failure.plan(&machine, n);
            stage.boot(struck)?;
            before = 0;
        }
        _ => failure.plan(&machine, n),
    }
    match work {
        Work::Boot => stage.ms(3000)?,
        Work::Snapshot => stage.ms(4000)?,
        Work::Put => {
            told.put(stage, asked, "kecil", 300)?;
            told.put(stage, asked, "sedang", 40_000)?;
        }
        Work::Multipart => told.upload(stage, asked, "besar")?,
        Work::Roll => {
            for k in 0..20 {
                told.put(stage, asked, &format!("kunci-{k}"), 7500)?;
            }
        }
        Work::Flush => {
            // The log has grown enough that upkeep flushes the state and purges.
            for k in 0..25 {
                told.put(stage, asked, &format!("kunci-{}", k % 5), 300)?;
            }
            stage.ms(1500)?;
        }
    }
    stage.ms(400)?;
    let reached = failures() > before;
    failure.plan(&machine, 0);
    mend(stage, &machine, struck, round)?;
    stage.until("the node serves", 60, |stage| stage.site.node(struck).is_some())?;
    stage.until("a leader", 60, |stage| {
        stage.site.running().iter().any(|node| node.group().leader().is_some())
    })?;
    told.holds(stage, struck)?;
    if round % 8 == 7 {
        stage.converges()?;
        for node in stage.site.members() {
            told.holds(stage, node)?;
        }
    }
    Ok(reached)
}

/// A process that ended by itself is started again, after its machine has lost its power every other time.
fn mend(stage: &mut Stage, machine: &SimHost, node: u64, round: u64) -> Played {
    // A state that cannot be written is seen within half a second, as in the real process.
    stage.pass(Duration::from_millis(600))?;
    match machine.ending() {
        None => return Ok(()),
        Some(Ending::Stopped(why)) if why.contains("J6") => {}
        // A state that cannot be read is dropped, and built anew at the next start.
        Some(Ending::Stopped(why)) if why.contains("S6") && machine.kv.failures() > 0 => {}
        // A start that fails says why, and the next one is made by whoever watches over the process.
        Some(Ending::Returned(Err(_))) => {}
        Some(other) => broken!("J6: an operation failed, and then {other:?}"),
    }
    if round.is_multiple_of(2) {
        stage.kill(node);
    } else {
        stage.cut_power(node);
    }
    stage.boot(node)
}
