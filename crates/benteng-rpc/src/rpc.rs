//! The front of the transport: calls, streams, and the preface that opens a connection.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use benteng_host::{Host, Mono, Stream, timeout};
use benteng_meta::ids::NodeId;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::counters::Counters;
use crate::error::{Error, Result};
use crate::limits::Limits;
use crate::link::{End, Link, LinkParts, Reader, write_loop};
use crate::message::{Lane, Reply, Request, Service};
use crate::peers::{Conn, Peer, Peers};
use crate::secure::Secure;
use crate::server::{self, Server};
use crate::stream::{Inbound, Outbound};
use crate::wire::check_fit;

pub(crate) const PREFACE: usize = 8;
const MAGIC: [u8; 4] = *b"BTRP";
const VERSION: u8 = 1;

/// The accepting end's answer to a preface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Welcome {
    Ok = 0,
    Unknown = 1,
    NotAPeer = 2,
}

/// What the dialling end says first: magic, version, lane, two zero bytes.
pub(crate) fn preface(lane: Lane) -> [u8; PREFACE] {
    let [a, b, c, d] = MAGIC;
    [a, b, c, d, VERSION, lane.to_byte(), 0, 0]
}

/// Reads [`preface`]; `None` if it is another protocol, version or lane.
pub(crate) fn read_preface(bytes: [u8; PREFACE]) -> Option<Lane> {
    let lane = Lane::from_byte(bytes[5])?;
    (bytes == preface(lane)).then_some(lane)
}

/// What the accepting end says first: magic, version, answer, two zero bytes.
pub(crate) fn welcome(answer: Welcome) -> [u8; PREFACE] {
    let [a, b, c, d] = MAGIC;
    [a, b, c, d, VERSION, answer as u8, 0, 0]
}

/// What calls, dials and the server share.
pub(crate) struct Core {
    pub(crate) host: Host,
    pub(crate) secure: Arc<dyn Secure>,
    pub(crate) service: Arc<dyn Service>,
    pub(crate) limits: Arc<Limits>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) peers: Peers,
    /// The newest accepted connection of each (peer, lane): an older one is superseded.
    pub(crate) accepted: Mutex<BTreeMap<(NodeId, Lane), Weak<Link>>>,
}

impl Core {
    /// Connects, proves who is there, exchanges prefaces and starts the two tasks.
    pub(crate) async fn dial_once(&self, peer: &Peer, address: &str, lane: Lane) -> Result<Conn> {
        let stream = self.host.net.connect(address).await?;
        let mut stream = self.secure.connect(stream, peer.node).await?;
        let broken = |why: String| Error::Handshake { peer: peer.node.to_string(), why };
        stream.write_all(&preface(lane)).await.map_err(|e| broken(e.to_string()))?;
        stream.flush().await.map_err(|e| broken(e.to_string()))?;
        let mut answer = [0; PREFACE];
        stream.read_exact(&mut answer).await.map_err(|e| broken(e.to_string()))?;
        if answer == welcome(Welcome::NotAPeer) {
            return Err(broken("it does not know this node as a member".to_owned()));
        }
        if answer != welcome(Welcome::Ok) {
            return Err(broken("it speaks another version".to_owned()));
        }
        Ok(self.start(peer, lane, stream))
    }

    fn start(&self, peer: &Peer, lane: Lane, stream: Box<dyn Stream>) -> Conn {
        let link = self.new_link(peer.node, lane, End::Dialling, peer.health.clone());
        let (read, write) = tokio::io::split(stream);
        let mut reader = Reader::new(link.clone(), read);
        let reading = async move {
            // The dialling end is never asked anything: the reader ends with the link.
            while reader.next().await.is_some() {}
        };
        let tasks = [
            self.host.tasks.spawn("rpc reader", Box::pin(reading)),
            self.host.tasks.spawn("rpc writer", Box::pin(write_loop(link.clone(), write))),
        ];
        Conn { link, _tasks: tasks }
    }

    pub(crate) fn new_link(
        &self,
        peer: NodeId,
        lane: Lane,
        end: End,
        health: Arc<crate::link::Health>,
    ) -> Arc<Link> {
        Link::new(LinkParts {
            peer,
            lane,
            end,
            clock: self.host.clock.clone(),
            counters: self.counters.clone(),
            limits: self.limits.clone(),
            health,
        })
    }
}

/// One node's transport. Dropping it closes its connections; a [`Server`] is dropped by itself.
pub struct Rpc {
    core: Arc<Core>,
    me: NodeId,
}

/// Connections tried for one call: a peer that accepts and closes must not be dialled in a loop.
const TRIES: usize = 3;

fn closes_at_once(node: NodeId, lane: Lane) -> Error {
    Error::Unreachable { node, lane, why: "it closes every connection at once".to_owned() }
}

/// How far a call or an opening got, for the error after its deadline.
struct Progress {
    started: Mono,
    sent: Option<(Arc<Link>, u64)>,
}

impl Rpc {
    /// A transport that speaks as `me` and answers with `service`. Knows no peer yet.
    pub fn new(
        host: Host,
        me: NodeId,
        secure: Arc<dyn Secure>,
        service: Arc<dyn Service>,
        limits: Limits,
    ) -> Arc<Rpc> {
        let core = Core {
            host,
            secure,
            service,
            limits: Arc::new(limits.clamped()),
            counters: Arc::new(Counters::new()),
            peers: Peers::default(),
            accepted: Mutex::default(),
        };
        Arc::new(Rpc { core: Arc::new(core), me })
    }

    /// This node.
    pub fn me(&self) -> NodeId {
        self.me
    }

    /// Accepts connections on `addr` (`host:port`, port 0: any free one) until the server is dropped.
    ///
    /// Errors: `Machine`, if the address cannot be bound.
    pub async fn listen(self: &Arc<Self>, addr: &str) -> Result<Server> {
        server::listen(self.core.clone(), addr).await
    }

    /// Makes `node` a peer at `addr`: it may be called, and may call. A new address takes
    /// effect at once.
    pub fn set_peer(&self, node: NodeId, addr: String) {
        self.core.peers.set(node, addr);
    }

    /// Forgets a peer and closes the connections with it, in both directions.
    pub fn remove_peer(&self, node: NodeId) {
        self.core.peers.remove(node);
        server::close_accepted(&self.core, node, "the peer was removed");
    }

    /// Whether `node` was reachable when last tried (never tried: yes). False for a node that is no peer.
    pub fn up(&self, node: NodeId) -> bool {
        self.core.peers.get(node).is_some_and(|peer| peer.health.is_up())
    }

    fn peer(&self, node: NodeId, lane: Lane) -> Result<Arc<Peer>> {
        let unknown = || Error::Unreachable { node, lane, why: "its address is not known".to_owned() };
        self.core.peers.get(node).ok_or_else(unknown)
    }

    /// Asks `to` and waits for the reply, at most `deadline`, dialling included.
    ///
    /// Errors: `Unreachable` and `TooLarge`, nothing was sent; `Refused`; `DeadlinePassed` and
    /// `Closed`, the outcome is unknown ([`Error::is_unknown`]). After a deadline the lane's
    /// connection is dropped, unless the peer answered something written later.
    /// Cancellation: the peer may have acted or may yet act.
    pub async fn call(&self, to: NodeId, lane: Lane, request: Request, deadline: Duration) -> Result<Reply> {
        let counters = self.core.counters.lane(lane);
        counters.calls.increment(1);
        let result = self.call_inner(to, lane, request, deadline).await;
        if result.is_err() {
            counters.failures.increment(1);
        }
        result
    }

    async fn call_inner(
        &self,
        to: NodeId,
        lane: Lane,
        request: Request,
        deadline: Duration,
    ) -> Result<Reply> {
        let method = request.method;
        check_fit(&request.parts)?;
        let peer = self.peer(to, lane)?;
        let clock = &*self.core.host.clock;
        let mut progress = Progress { started: clock.now(), sent: None };
        let attempt = async {
            let mut request = request;
            for _ in 0..TRIES {
                let link = peer.link(&self.core, lane).await?;
                let Some(_place) = link.place().await else { continue };
                match link.begin(request) {
                    Ok(pending) => {
                        progress.sent = Some((link.clone(), pending.id));
                        return pending.reply().await;
                    }
                    // It closed under our hands and nothing was sent: dial anew.
                    Err(unsent) => request = unsent,
                }
            }
            Err(closes_at_once(to, lane))
        };
        match timeout(clock, deadline, Box::pin(attempt)).await {
            Ok(result) => result,
            Err(_) => match progress.sent {
                Some((link, id)) => {
                    link.suspect(id);
                    Err(Error::DeadlinePassed { node: to, method, deadline })
                }
                None => Err(self.late(to, lane, progress.started)),
            },
        }
    }

    fn late(&self, node: NodeId, lane: Lane, started: Mono) -> Error {
        let waited = self.core.host.clock.now().since(started);
        Error::Unreachable { node, lane, why: format!("no connection or no place on it within {waited:?}") }
    }

    /// Opens a stream on the log lane. Returns when the opening is queued on a connection,
    /// without waiting for the peer: a refusal arrives as the first item of `Inbound`.
    ///
    /// `deadline` bounds the dial, not the stream's life (a link that falls silent ends it).
    /// Errors: `Unreachable`, `TooLarge`. Cancellation: nothing was opened, or it is reset.
    pub async fn open_stream(
        &self,
        to: NodeId,
        request: Request,
        deadline: Duration,
    ) -> Result<(Outbound, Inbound)> {
        let lane = Lane::Log;
        check_fit(&request.parts)?;
        let peer = self.peer(to, lane)?;
        let clock = &*self.core.host.clock;
        let started = clock.now();
        let attempt = async {
            let mut request = request;
            for _ in 0..TRIES {
                let link = peer.link(&self.core, lane).await?;
                match link.open(request) {
                    Ok((inbound, outbound)) => return Ok((outbound, inbound)),
                    Err(unsent) => request = unsent,
                }
            }
            Err(closes_at_once(to, lane))
        };
        match timeout(clock, deadline, Box::pin(attempt)).await {
            Ok(result) => result,
            Err(_) => Err(self.late(to, lane, started)),
        }
    }
}

impl Drop for Rpc {
    fn drop(&mut self) {
        // Dial tasks and connections hold the core: ended here, not whenever they happen to.
        self.core.peers.clear();
    }
}
