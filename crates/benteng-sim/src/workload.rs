//! Clients: each asks one node after another, one thing at a time, and remembers what it was told.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use benteng_host::Host;
use rand::RngExt;

use crate::SimRng;
use crate::door::{self, Ask, Say};
use crate::history::{Call, Operation, Told, Value};
use crate::site::Seats;

/// Everything that clients did, and what they saw that must never be seen.
#[derive(Clone, Default)]
pub(crate) struct Record {
    inner: Arc<Mutex<Recorded>>,
}

#[derive(Default)]
struct Recorded {
    operations: Vec<Operation>,
    wrong: Vec<String>,
    acknowledged: u64,
}

impl Record {
    fn lock(&self) -> std::sync::MutexGuard<'_, Recorded> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, operation: Operation) {
        tracing::info!("{operation}");
        let mut recorded = self.lock();
        if matches!(operation.told, Told::Done | Told::Read(_) | Told::Refused) {
            recorded.acknowledged += 1;
        }
        recorded.operations.push(operation);
    }

    /// A listing was answered: it says something of every key and counts once.
    fn listed(&self) {
        self.lock().acknowledged += 1;
    }

    fn wrong(&self, what: String) {
        self.lock().wrong.push(what);
    }

    /// All operations so far.
    pub(crate) fn operations(&self) -> Vec<Operation> {
        self.lock().operations.clone()
    }

    /// Violations that clients saw with their own eyes.
    pub(crate) fn violations(&self) -> Vec<String> {
        self.lock().wrong.clone()
    }

    /// Operations that were answered.
    pub(crate) fn acknowledged(&self) -> u64 {
        self.lock().acknowledged
    }
}

/// One client.
pub(crate) struct Client {
    /// Its number.
    pub number: u32,
    /// Who sits where: a replaced node leaves its seat to the fresh one.
    pub seats: Seats,
    /// Keys that all clients share.
    pub keys: usize,
    /// Its part of the seed.
    pub rng: SimRng,
    /// Where it writes down.
    pub record: Record,
    /// What it writes is unique: its number and this.
    pub next: u64,
    /// The longest pause between two operations.
    pub pause: Duration,
    /// No pauses while it is set.
    pub burst: Arc<AtomicBool>,
}

/// How long a client waits for an answer.
const PATIENCE: Duration = Duration::from_secs(8);

fn key(at: usize) -> String {
    format!("kunci-{at:02}")
}

fn now() -> u64 {
    turmoil::sim_elapsed().map_or(0, |t| u64::try_from(t.as_micros()).unwrap_or(u64::MAX))
}

impl Client {
    fn value(&mut self) -> Value {
        self.next += 1;
        (u64::from(self.number) << 32) | self.next
    }

    fn len(&mut self) -> usize {
        // Bodies of several chunks are rare: they cost as much as all the others together.
        match self.rng.random_range(0..120_u32) {
            0..72 => self.rng.random_range(16..8000),
            72..107 => self.rng.random_range(9_000..70_000),
            107..119 => self.rng.random_range(70_000..300_000),
            _ => self.rng.random_range(4_190_000..4_300_000),
        }
    }

    /// Asks until `stop` says so.
    pub(crate) async fn run(mut self, host: Host, stop: impl Fn() -> bool) {
        // The last value that this client saw under a key, for conditional writes.
        let mut seen: Vec<Option<(Value, String)>> = vec![None; self.keys];
        while !stop() {
            let at = self.rng.random_range(0..self.keys);
            let node = self.rng.random_range(0..self.seats.count());
            self.one(&host, at, node, &mut seen).await;
            let pause = self.rng.random_range(0..=u64::try_from(self.pause.as_micros()).unwrap_or(0));
            if !self.burst.load(Ordering::Acquire) {
                benteng_host::sleep(&*host.clock, Duration::from_micros(pause)).await;
            }
        }
    }

    async fn one(&mut self, host: &Host, at: usize, node: usize, seen: &mut [Option<(Value, String)>]) {
        let kind = self.rng.random_range(0..10_u32);
        if kind == 0 && self.rng.random_bool(0.3) {
            return self.list(host, node).await;
        }
        let key = key(at);
        let known = seen.get(at).cloned().flatten();
        let (call, ask) = match (kind, known) {
            (0..4, _) => (Call::Get, Ask::Get { key: key.clone(), pause: 0 }),
            (4, _) => (Call::Delete, Ask::Delete { key: key.clone() }),
            (5, _) => {
                let (value, len) = (self.value(), self.len());
                (
                    Call::Create(value),
                    Ask::Put { key: key.clone(), value, len, create: true, tag: None, pause: 0 },
                )
            }
            (7, _) if self.rng.random_bool(0.3) => {
                let (value, len) = (self.value(), self.len());
                // Parts but the last have 5 MiB at least: two of them are rare.
                let two = self.rng.random_bool(0.03);
                let (len, cut) = if two { (len + (5 << 20), Some(5 << 20)) } else { (len, None) };
                (Call::Put(value), Ask::Upload { key: key.clone(), value, len, cut })
            }
            (6, Some((old, tag))) => {
                let (value, len) = (self.value(), self.len());
                let ask = Ask::Put { key: key.clone(), value, len, create: false, tag: Some(tag), pause: 0 };
                (Call::Replace(old, value), ask)
            }
            _ => {
                let (value, len) = (self.value(), self.len());
                (
                    Call::Put(value),
                    Ask::Put { key: key.clone(), value, len, create: false, tag: None, pause: 0 },
                )
            }
        };
        let invoked = now();
        let answer = self.ask(host, node, &ask).await;
        let returned = now();
        if let Some(Say::Failed(why) | Say::Unknown(why)) = &answer {
            tracing::info!("client {} node {node} {key}: {why}", self.number);
        }
        let told = match (&answer, &call) {
            (Some(Say::Put(_)), Call::Put(_) | Call::Create(_) | Call::Replace(..)) => Told::Done,
            (Some(Say::Deleted), Call::Delete) => Told::Done,
            (Some(Say::Got(got)), Call::Get) => Told::Read(got.as_ref().map(|(value, _)| *value)),
            (Some(Say::Refused), Call::Create(_) | Call::Replace(..)) => Told::Refused,
            (Some(Say::Failed(_)), _) => Told::Failed,
            (Some(Say::Unknown(_)) | None, _) => Told::Unknown,
            (Some(Say::Wrong(what)), _) => {
                self.record.wrong(what.clone());
                Told::Unknown
            }
            (Some(other), call) => {
                self.record.wrong(format!("{call:?} was answered {other:?}"));
                Told::Unknown
            }
        };
        if let Some(slot) = seen.get_mut(at) {
            match (&answer, &call) {
                (Some(Say::Put(tag)), Call::Put(v) | Call::Create(v) | Call::Replace(_, v)) => {
                    *slot = Some((*v, tag.clone()));
                }
                (Some(Say::Got(got)), _) => slot.clone_from(got),
                _ => {}
            }
        }
        benteng_host::probe("client_answered");
        let returned = if told == Told::Unknown { u64::MAX } else { returned };
        let node = u32::try_from(node).unwrap_or(u32::MAX);
        self.record.add(Operation { client: self.number, node, key, call, invoked, returned, told });
    }

    /// Lists the bucket: one read of every key.
    async fn list(&mut self, host: &Host, node: usize) {
        let invoked = now();
        let said = self.ask(host, node, &Ask::List).await;
        let returned = now();
        match said {
            Some(Say::Listed(names)) => {
                self.record.listed();
                for at in 0..self.keys {
                    let told = Told::Listed(names.contains(&key(at)));
                    let (client, node) = (self.number, u32::try_from(node).unwrap_or(u32::MAX));
                    self.record.add(Operation {
                        client,
                        node,
                        key: key(at),
                        call: Call::List,
                        invoked,
                        returned,
                        told,
                    });
                }
                if let Some(odd) = names.iter().find(|name| !(0..self.keys).any(|at| key(at) == **name)) {
                    self.record.wrong(format!("a listing shows {odd}, which nobody wrote"));
                }
            }
            Some(Say::Failed(_) | Say::Unknown(_)) | None => {}
            Some(Say::Wrong(what)) => self.record.wrong(what),
            Some(other) => self.record.wrong(format!("a listing was answered {other:?}")),
        }
        benteng_host::probe("client_answered");
    }

    /// One question; `None`: no answer came.
    async fn ask(&self, host: &Host, node: usize, ask: &Ask) -> Option<Say> {
        let name = self.seats.name(node)?;
        let dialogue = door::question(host, name, ask.clone());
        let answered = benteng_host::timeout(&*host.clock, PATIENCE, Box::pin(dialogue)).await;
        answered.ok().flatten()
    }

    /// Reads every key through one node: what the site holds after the faults.
    pub(crate) async fn read_all(&mut self, host: &Host, node: usize) {
        for at in 0..self.keys {
            for _ in 0..20 {
                let key = key(at);
                let invoked = now();
                let said = self.ask(host, node, &Ask::Get { key: key.clone(), pause: 0 }).await;
                if let Some(Say::Got(got)) = said {
                    let told = Told::Read(got.map(|(value, _)| value));
                    let node = u32::try_from(node).unwrap_or(u32::MAX);
                    let operation = Operation {
                        client: self.number,
                        node,
                        key,
                        call: Call::Get,
                        invoked,
                        returned: now(),
                        told,
                    };
                    self.record.add(operation);
                    break;
                }
                if let Some(Say::Wrong(what)) = said {
                    self.record.wrong(what);
                    break;
                }
                benteng_host::sleep(&*host.clock, Duration::from_millis(200)).await;
            }
        }
    }
}
