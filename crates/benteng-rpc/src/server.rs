//! Accepting: handshake, allow list, and the service behind it. One task per connection owns
//! the tasks of the requests that came by it; when it ends, they end.

use std::collections::BTreeSet;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use benteng_host::{Listener, Stream, Task, sleep, timeout};
use benteng_meta::ids::NodeId;
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::error::{Error, Refusal, Result, refused};
use crate::link::{End, Health, Link, Reader, write_loop};
use crate::message::{Lane, Request};
use crate::rpc::{Core, PREFACE, Welcome, read_preface, welcome};
use crate::wire::Message;

/// Wait after a failed accept (out of descriptors, most likely), instead of spinning.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// A listening address. Dropping it stops accepting and ends what was accepted.
pub struct Server {
    local_addr: String,
    _task: Task,
}

impl Server {
    /// The bound address, `ip:port`.
    pub fn local_addr(&self) -> &str {
        &self.local_addr
    }
}

pub(crate) async fn listen(core: Arc<Core>, addr: &str) -> Result<Server> {
    let listener = core.host.net.listen(addr).await?;
    let local_addr = listener.local_addr();
    let tasks = core.host.tasks.clone();
    let task = tasks.spawn("rpc accept", Box::pin(accept_loop(core, listener)));
    Ok(Server { local_addr, _task: task })
}

async fn accept_loop(core: Arc<Core>, mut listener: Box<dyn Listener>) {
    let mut connections: FuturesUnordered<Task> = FuturesUnordered::new();
    loop {
        tokio::select! {
            biased;
            Some(_ended) = connections.next(), if !connections.is_empty() => {}
            accepted = listener.accept() => match accepted {
                Ok((stream, from)) => {
                    if connections.len() >= core.limits.connections {
                        core.counters.turned_away.increment(1);
                        drop(stream);
                        continue;
                    }
                    core.counters.accepted.increment(1);
                    let serving = Box::pin(serve_stream(core.clone(), stream, from));
                    connections.push(core.host.tasks.spawn("rpc connection", serving));
                }
                Err(e) => {
                    core.counters.accept_errors.increment(1);
                    tracing::warn!(error = %e, "cannot accept node connections");
                    sleep(&*core.host.clock, ACCEPT_PAUSE).await;
                }
            },
        }
    }
}

/// What a caller may do.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Standing {
    Peer,
    Joiner,
    Stranger,
}

impl Core {
    fn standing(&self, node: NodeId) -> Standing {
        if self.peers.get(node).is_some() {
            Standing::Peer
        } else if self.limits.joiner_methods.is_empty() {
            Standing::Stranger
        } else {
            Standing::Joiner
        }
    }

    /// Looked up at each request: a peer may be removed while its connection stands.
    fn may_call(&self, node: NodeId, method: u16) -> bool {
        match self.standing(node) {
            Standing::Peer => true,
            Standing::Joiner => self.limits.joiner_methods.contains(&method),
            Standing::Stranger => false,
        }
    }
}

/// Handshake within its time, then the connection until it ends.
async fn serve_stream(core: Arc<Core>, stream: Box<dyn Stream>, from: String) {
    let greeting = Box::pin(greet(&core, stream, &from));
    let greeted = timeout(&*core.host.clock, core.limits.dial, greeting).await;
    let failed = match greeted {
        Ok(Ok((stream, node, lane))) => {
            serve_link(core, stream, node, lane).await;
            return;
        }
        Ok(Err(e)) => e.to_string(),
        Err(_) => format!("no handshake within {:?}", core.limits.dial),
    };
    core.counters.handshake_failures.increment(1);
    tracing::warn!(from, why = failed, "refused a node connection");
}

async fn greet(core: &Core, stream: Box<dyn Stream>, from: &str) -> Result<(Box<dyn Stream>, NodeId, Lane)> {
    let (mut stream, node) = core.secure.accept(stream).await?;
    let broken = |why: String| Error::Handshake { peer: format!("node {node} at {from}"), why };
    let mut bytes = [0; PREFACE];
    stream.read_exact(&mut bytes).await.map_err(|e| broken(e.to_string()))?;
    let lane = read_preface(bytes);
    let answer = match lane {
        None => Welcome::Unknown,
        Some(_) if core.standing(node) == Standing::Stranger => Welcome::NotAPeer,
        Some(_) => Welcome::Ok,
    };
    stream.write_all(&welcome(answer)).await.map_err(|e| broken(e.to_string()))?;
    stream.flush().await.map_err(|e| broken(e.to_string()))?;
    match (answer, lane) {
        (Welcome::Ok, Some(lane)) => Ok((stream, node, lane)),
        (Welcome::NotAPeer, _) => Err(broken("it is not a member of the site".to_owned())),
        _ => Err(broken("it speaks another protocol or version".to_owned())),
    }
}

/// Closes the accepted connections of `node`.
pub(crate) fn close_accepted(core: &Core, node: NodeId, why: &str) {
    let links: Vec<_> = {
        let mut accepted = core.accepted.lock().unwrap_or_else(PoisonError::into_inner);
        Lane::ALL.into_iter().filter_map(|lane| accepted.remove(&(node, lane))?.upgrade()).collect()
    };
    for link in links {
        link.close(why);
    }
}

/// Enters the connection as the newest of its (peer, lane). The peer dials anew only when it
/// has given up the old one, which may be stalled and would linger here.
fn supersede(core: &Core, link: &Arc<Link>) {
    let old = {
        let mut accepted = core.accepted.lock().unwrap_or_else(PoisonError::into_inner);
        accepted.retain(|_, known| known.strong_count() > 0);
        accepted.insert((link.peer, link.lane), Arc::downgrade(link))
    };
    if let Some(old) = old.and_then(|old| old.upgrade()) {
        old.close("the peer has opened a newer one");
    }
}

/// Closes the link when the connection's task is dropped from outside: handles of its
/// streams may be held elsewhere.
struct CloseOnDrop(Arc<Link>);

impl Drop for CloseOnDrop {
    fn drop(&mut self) {
        self.0.close("the connection has ended");
    }
}

async fn serve_link(core: Arc<Core>, stream: Box<dyn Stream>, node: NodeId, lane: Lane) {
    let health = core.peers.get(node).map_or_else(|| Arc::new(Health::default()), |peer| peer.health.clone());
    let link = core.new_link(node, lane, End::Accepting, health);
    let _close = CloseOnDrop(link.clone());
    supersede(&core, &link);
    let (read, write) = tokio::io::split(stream);
    let mut writer = core.host.tasks.spawn("rpc writer", Box::pin(write_loop(link.clone(), write)));
    let mut reader = Reader::new(link.clone(), read);
    let mut handlers =
        Handlers { core, link: link.clone(), running: FuturesUnordered::new(), calls: Arc::default() };
    loop {
        tokio::select! {
            biased;
            Some(_ended) = handlers.running.next(), if !handlers.running.is_empty() => {}
            asked = reader.next() => match asked {
                Some((id, message)) => handlers.start(id, message),
                None => break,
            },
        }
    }
    drop(handlers);
    // Its last words are bounded in time; a panic in it has been logged by the hook.
    let _ = (&mut writer).await;
}

/// The requests of one connection that are being answered.
struct Handlers {
    core: Arc<Core>,
    link: Arc<Link>,
    running: FuturesUnordered<Task>,
    /// Ids of the calls under way.
    calls: Arc<Mutex<BTreeSet<u64>>>,
}

impl Handlers {
    fn start(&mut self, id: u64, message: Message) {
        match message {
            Message::Request(request) => self.start_call(id, request),
            Message::Open(request) => self.start_stream(id, request),
            // The link gives us nothing else.
            _ => {}
        }
    }

    fn refuse(&self, id: u64, code: u16, why: &str) {
        // A closed link has no one to tell.
        let _ = self.link.send(id, Message::Reply(Err(Refusal::new(code, why))));
    }

    fn start_call(&mut self, id: u64, request: Request) {
        let node = self.link.peer;
        if !self.core.may_call(node, request.method) {
            self.core.counters.turned_away.increment(1);
            return self.refuse(id, refused::NOT_A_PEER, "the caller is not a member of this site");
        }
        let admitted = {
            let mut calls = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
            calls.len() < 2 * self.core.limits.in_flight(self.link.lane) && calls.insert(id)
        };
        if !admitted {
            self.core.counters.overloads.increment(1);
            return self.refuse(id, refused::OVERLOADED, "too many requests of this node are under way");
        }
        let (core, link, calls) = (self.core.clone(), self.link.clone(), self.calls.clone());
        let answering = async move {
            core.counters.lane(link.lane).served.increment(1);
            let lane = link.lane;
            // The call itself is inside: a service may panic before it returns its future.
            let answer = async { core.service.call(node, lane, request).await };
            let answer = AssertUnwindSafe(answer).catch_unwind().await.unwrap_or_else(|_| {
                core.counters.panics.increment(1);
                Err(Refusal::new(refused::PANICKED, "the service panicked; see the node's log"))
            });
            let message = Message::Reply(answer);
            let message = match message.check_fit() {
                Ok(()) => message,
                Err(e) => Message::Reply(Err(Refusal::new(refused::TOO_LARGE, e.to_string()))),
            };
            calls.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
            let _ = link.send(id, message);
        };
        self.running.push(self.core.host.tasks.spawn("rpc call", Box::pin(answering)));
    }

    fn start_stream(&mut self, id: u64, request: Request) {
        let node = self.link.peer;
        let reset = |code, why: &str| {
            let _ = self.link.send(id, Message::Reset(Refusal::new(code, why)));
        };
        if !self.core.may_call(node, request.method) {
            self.core.counters.turned_away.increment(1);
            return reset(refused::NOT_A_PEER, "the caller is not a member of this site");
        }
        let Some((inbound, outbound)) = self.link.admit_stream(id) else {
            self.core.counters.overloads.increment(1);
            return reset(refused::OVERLOADED, "too many streams of this node are open");
        };
        let core = self.core.clone();
        let serving = async move {
            core.counters.lane(Lane::Log).served.increment(1);
            let stream = async { core.service.stream(node, request, inbound, outbound).await };
            if AssertUnwindSafe(stream).catch_unwind().await.is_err() {
                // Its handles were dropped on the way: the peer has its reset.
                core.counters.panics.increment(1);
            }
        };
        self.running.push(self.core.host.tasks.spawn("rpc stream", Box::pin(serving)));
    }
}
