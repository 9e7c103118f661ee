//! Behaviour of the whole transport: calls, streams, failures, mutual TLS.
#![allow(clippy::unwrap_used)] // a test's panic is its verdict

mod calls;
mod failures;
mod mem; // a network in memory that can stall, split and refuse
mod mtls;
mod streams;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use benteng_host::{Fut, Host, real};
use benteng_meta::ids::{GroupId, NodeId};
use bytes::Bytes;
use metrics::{Counter, CounterFn, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit};
use tokio::sync::Semaphore;

use crate::{
    Inbound, Lane, Limits, Outbound, PlainHello, Refusal, Reply, Request, Rpc, Server, Service, Status,
};

const ME: NodeId = NodeId(1);
const PEER: NodeId = NodeId(2);
const SOON: Duration = Duration::from_secs(20);

/// What the test service does, by method number.
mod method {
    pub(super) const ECHO: u16 = 1;
    pub(super) const NEVER: u16 = 2;
    pub(super) const PANIC: u16 = 3;
    pub(super) const REFUSE: u16 = 4;
    pub(super) const STATUS: u16 = 5;
    pub(super) const GATE: u16 = 6;
    pub(super) const HUGE: u16 = 7;
    pub(super) const IGNORE: u16 = 10;
    pub(super) const LEAVE: u16 = 11;
    pub(super) const FLOOD: u16 = 12;
}

struct Answers {
    /// Calls of `GATE` pass one by one as permits are added.
    gate: Semaphore,
    waiting: AtomicUsize,
    waiting_max: AtomicUsize,
    /// Streams of `IGNORE`, kept open and not read.
    ignored: Mutex<Vec<(Inbound, Outbound)>>,
    /// Messages that `FLOOD` got rid of.
    flooded: AtomicUsize,
    /// How the last echo stream ended.
    ended: Mutex<Option<String>>,
}

impl Answers {
    fn new() -> Arc<Answers> {
        Arc::new(Answers {
            gate: Semaphore::new(0),
            waiting: AtomicUsize::new(0),
            waiting_max: AtomicUsize::new(0),
            ignored: Mutex::default(),
            flooded: AtomicUsize::new(0),
            ended: Mutex::default(),
        })
    }
}

/// `Service` for an `Arc`: its futures own what they need.
struct Answering(Arc<Answers>);

impl Service for Answering {
    fn call(&self, from: NodeId, lane: Lane, request: Request) -> Fut<Result<Reply, Refusal>> {
        let answers = self.0.clone();
        Box::pin(async move {
            match request.method {
                method::ECHO => {
                    let mut parts = request.parts;
                    parts.push(Bytes::from(format!("{from} {lane} {} {}", request.group, request.epoch)));
                    Ok(Reply::ok(parts))
                }
                method::NEVER => std::future::pending().await,
                method::PANIC => panic!("planted"),
                method::REFUSE => Err(Refusal::new(42, "tidak")),
                method::STATUS => Ok(Reply { status: Status::Refused(7), parts: request.parts }),
                method::GATE => {
                    let waiting = answers.waiting.fetch_add(1, Ordering::SeqCst) + 1;
                    answers.waiting_max.fetch_max(waiting, Ordering::SeqCst);
                    answers.gate.acquire().await.expect("the gate is never closed").forget();
                    answers.waiting.fetch_sub(1, Ordering::SeqCst);
                    Ok(Reply::ok(Vec::new()))
                }
                method::HUGE => Ok(Reply::ok(vec![Bytes::from(vec![0; 9 << 20])])),
                other => Err(Refusal::new(1, format!("no method {other}"))),
            }
        })
    }

    fn stream(&self, _: NodeId, request: Request, mut inbound: Inbound, outbound: Outbound) -> Fut<()> {
        let answers = self.0.clone();
        Box::pin(async move {
            match request.method {
                method::ECHO => {
                    let end = loop {
                        match inbound.next().await {
                            Some(Ok(message)) => match outbound.send(vec![message]).await {
                                Ok(()) => {}
                                Err(e) => break format!("send: {e}"),
                            },
                            Some(Err(e)) => break format!("next: {e}"),
                            None => {
                                break outbound
                                    .finish()
                                    .map_or_else(|e| e.to_string(), |()| "well".to_owned());
                            }
                        }
                    };
                    *answers.ended.lock().unwrap() = Some(end);
                }
                method::IGNORE => answers.ignored.lock().unwrap().push((inbound, outbound)),
                method::FLOOD => {
                    while outbound.send(vec![Bytes::from(vec![0; 1000])]).await.is_ok() {
                        answers.flooded.fetch_add(1, Ordering::SeqCst);
                    }
                }
                method::PANIC => panic!("planted"),
                _ => {}
            }
        })
    }
}

fn ask(method: u16, parts: &[&'static [u8]]) -> Request {
    Request {
        method,
        group: GroupId(3),
        epoch: 4,
        parts: parts.iter().map(|p| Bytes::from_static(p)).collect(),
    }
}

fn limits() -> Limits {
    Limits { silence: Duration::from_secs(10), ..Limits::default() }
}

/// The machine with another network.
fn host(net: &Arc<mem::MemNet>) -> Host {
    let mut host = real::host();
    host.net = net.clone();
    host
}

/// Two nodes that know each other: `ME` calls, `PEER` listens.
struct Pair {
    net: Arc<mem::MemNet>,
    me: Arc<Rpc>,
    peer: Arc<Rpc>,
    answers: Arc<Answers>,
    server: Server,
}

impl Pair {
    async fn new(limits: Limits) -> Pair {
        Pair::with(limits.clone(), limits).await
    }

    async fn with(mine: Limits, theirs: Limits) -> Pair {
        let net = mem::MemNet::new();
        let answers = Answers::new();
        let rpc = |node, service, limits| {
            Rpc::new(host(&net), node, Arc::new(PlainHello::new(node)), Arc::new(Answering(service)), limits)
        };
        let me = rpc(ME, Answers::new(), mine);
        let peer = rpc(PEER, answers.clone(), theirs);
        let server = peer.listen("peer:1").await.unwrap();
        me.set_peer(PEER, "peer:1".to_owned());
        peer.set_peer(ME, "me:1".to_owned());
        Pair { net, me, peer, answers, server }
    }

    async fn echo(&self) -> crate::Result<Reply> {
        self.me.call(PEER, Lane::Unary, ask(method::ECHO, &[b"x"]), SOON).await
    }
}

/// Waits until `reached`, for a condition that must come.
async fn until(what: &str, reached: impl Fn() -> bool) {
    let host = real::host();
    for _ in 0..2_000 {
        if reached() {
            return;
        }
        benteng_host::sleep(&*host.clock, Duration::from_millis(5)).await;
    }
    panic!("never: {what}");
}

/// Counters by name, for the whole test process (nextest: one test each).
struct Counted(Mutex<Vec<(String, Arc<Count>)>>);

struct Count(AtomicUsize);

impl CounterFn for Count {
    fn increment(&self, n: u64) {
        self.0.fetch_add(usize::try_from(n).unwrap(), Ordering::SeqCst);
    }
    fn absolute(&self, _: u64) {}
}

impl Recorder for &'static Counted {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        let count = Arc::new(Count(AtomicUsize::new(0)));
        self.0.lock().unwrap().push((key.name().to_owned(), count.clone()));
        Counter::from_arc(count)
    }
    fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::noop()
    }
    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::noop()
    }
}

fn counted() -> &'static Counted {
    static COUNTED: OnceLock<&'static Counted> = OnceLock::new();
    COUNTED.get_or_init(|| {
        let counted: &'static Counted = Box::leak(Box::new(Counted(Mutex::default())));
        // Another recorder cannot be there: this is the only one in the crate.
        metrics::set_global_recorder(counted).unwrap_or_else(|_| panic!("a recorder is installed already"));
        counted
    })
}

/// The sum of a counter over all lanes and transports of this process.
fn count_of(name: &str) -> usize {
    let all = counted().0.lock().unwrap();
    all.iter().filter(|(known, _)| known == name).map(|(_, count)| count.0.load(Ordering::SeqCst)).sum()
}
