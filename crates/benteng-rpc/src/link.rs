//! One connection of one lane: a queue drained by one writer, one reader, the calls that wait
//! for replies, the open streams. Both ends are alike, but only the dialling end asks.

mod pump;

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use benteng_host::{Clock, Mono, probe};
use benteng_meta::ids::NodeId;
use tokio::sync::{Notify, Semaphore, oneshot};

pub(crate) use pump::{Reader, write_loop};

use crate::counters::Counters;
use crate::error::{Error, Refusal, Result};
use crate::limits::Limits;
use crate::message::{Lane, Reply, Request};
use crate::stream::{Inbound, Outbound, Pipe};
use crate::wire::{Garbage, Message};

/// Which end of the connection we are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// We dialled: we ask.
    Dialling,
    /// We accepted: we answer.
    Accepting,
}

/// What a peer's reachability is reckoned from: written by its links, read by `up`.
#[derive(Default)]
pub(crate) struct Health {
    down: AtomicBool,
}

impl Health {
    pub(crate) fn set_up(&self) {
        self.down.store(false, Ordering::Relaxed);
    }

    pub(crate) fn set_down(&self) {
        self.down.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_up(&self) -> bool {
        !self.down.load(Ordering::Relaxed)
    }
}

/// What a link needs of its surroundings.
pub(crate) struct LinkParts {
    pub(crate) peer: NodeId,
    pub(crate) lane: Lane,
    pub(crate) end: End,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) limits: Arc<Limits>,
    pub(crate) health: Arc<Health>,
}

/// One connection.
pub(crate) struct Link {
    pub(crate) peer: NodeId,
    pub(crate) lane: Lane,
    end: End,
    clock: Arc<dyn Clock>,
    counters: Arc<Counters>,
    limits: Arc<Limits>,
    health: Arc<Health>,
    state: Mutex<State>,
    /// The writer has something to do.
    queued: Notify,
    /// Places for calls under way.
    places: Semaphore,
    /// When bytes last came in, in microseconds of the monotonic clock.
    heard: AtomicU64,
    /// When we last asked something, likewise.
    used: AtomicU64,
    /// The greatest id that the peer has answered: all that was written before it has arrived.
    proven: AtomicU64,
    shut: AtomicBool,
    shut_wake: Notify,
}

#[derive(Default)]
struct State {
    queue: VecDeque<(u64, Message)>,
    /// How many of the queued are answers: those a peer can ask for without end.
    answers: usize,
    /// Ordered maps: they are walked when the link closes, and the simulator replays that.
    calls: BTreeMap<u64, oneshot::Sender<std::result::Result<Reply, Refusal>>>,
    streams: BTreeMap<u64, Arc<Pipe>>,
    next_id: u64,
    /// When the unanswered ping was sent.
    pinged: Option<Mono>,
    closed: Option<String>,
}

/// A call under way: gives up its place among the pending when dropped.
pub(crate) struct Pending {
    link: Arc<Link>,
    pub(crate) id: u64,
    reply: oneshot::Receiver<std::result::Result<Reply, Refusal>>,
}

impl Pending {
    /// The reply. Errors: `Refused`, `Closed`.
    pub(crate) async fn reply(mut self) -> Result<Reply> {
        let node = self.link.peer;
        match (&mut self.reply).await {
            Ok(Ok(reply)) => Ok(reply),
            Ok(Err(Refusal { code, message })) => Err(Error::Refused { node, code, message }),
            Err(_) => Err(Error::Closed { node, why: self.link.why_closed() }),
        }
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        self.link.state().calls.remove(&self.id);
    }
}

/// Answers that may be queued beyond those to a full set of calls.
const ANSWERS_SPARE: usize = 1024;

fn micros(at: Mono) -> u64 {
    u64::try_from(at.0.as_micros()).unwrap_or(u64::MAX)
}

impl Link {
    pub(crate) fn new(parts: LinkParts) -> Arc<Link> {
        let LinkParts { peer, lane, end, clock, counters, limits, health } = parts;
        let now = micros(clock.now());
        Arc::new(Link {
            places: Semaphore::new(limits.in_flight(lane)),
            state: Mutex::new(State { next_id: 1, ..State::default() }),
            queued: Notify::new(),
            heard: AtomicU64::new(now),
            used: AtomicU64::new(now),
            proven: AtomicU64::new(0),
            shut: AtomicBool::new(false),
            shut_wake: Notify::new(),
            peer,
            lane,
            end,
            clock,
            counters,
            limits,
            health,
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Bytes of a stream's window.
    pub(crate) fn window(&self) -> usize {
        self.limits.window
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.shut.load(Ordering::Acquire)
    }

    fn why_closed(&self) -> String {
        self.state().closed.clone().unwrap_or_else(|| "it is closing".to_owned())
    }

    fn closed_error(&self) -> Error {
        Error::Closed { node: self.peer, why: self.why_closed() }
    }

    /// Closes the connection: pending calls and open streams fail, reader and writer end.
    pub(crate) fn close(&self, why: &str) {
        let (calls, streams) = {
            let mut state = self.state();
            if state.closed.is_some() {
                return;
            }
            state.closed = Some(why.to_owned());
            state.queue.clear();
            state.answers = 0;
            (std::mem::take(&mut state.calls), std::mem::take(&mut state.streams))
        };
        self.shut.store(true, Ordering::Release);
        self.places.close();
        self.shut_wake.notify_waiters();
        self.queued.notify_one();
        drop(calls);
        for pipe in streams.into_values() {
            pipe.break_off(self.closed_error());
        }
    }

    /// Closes a connection that no longer moves, and holds the peer for down until it is heard again.
    pub(crate) fn close_suspect(&self, why: &str) {
        if !self.is_closed() {
            self.counters.dropped_silent.increment(1);
            probe("rpc_link_dropped");
            self.health.set_down();
            tracing::warn!(node = %self.peer, lane = %self.lane, why, "dropping a connection that does not move");
        }
        self.close(why);
    }

    /// Completes when the link is closed.
    pub(crate) async fn closed(&self) {
        loop {
            let woken = self.shut_wake.notified();
            tokio::pin!(woken);
            // Registered before the look, so that a close in between is not missed.
            woken.as_mut().enable();
            if self.is_closed() {
                return;
            }
            woken.await;
        }
    }

    /// Queues a frame that has passed `check_fit`. Errors: `Closed`, not queued.
    ///
    /// What a peer can provoke without end (replies, pongs, resets) is bounded: one that asks
    /// on and on and reads nothing loses its connection (I7). Streams are bounded by their windows.
    pub(crate) fn send(&self, id: u64, message: Message) -> Result<()> {
        {
            let mut state = self.state();
            if state.closed.is_none() {
                state.answers += usize::from(message.is_answer());
                let deaf = state.answers > 2 * self.limits.in_flight(self.lane) + ANSWERS_SPARE;
                state.queue.push_back((id, message));
                drop(state);
                if deaf {
                    probe("rpc_deaf_peer");
                    self.counters.garbage.increment(1);
                    self.close("the peer asks and does not read the answers");
                } else {
                    self.queued.notify_one();
                }
                return Ok(());
            }
        }
        Err(self.closed_error())
    }

    /// Takes the next frame to write.
    fn next_queued(state: &mut State) -> Option<(u64, Message)> {
        let (id, message) = state.queue.pop_front()?;
        state.answers -= usize::from(message.is_answer());
        Some((id, message))
    }

    /// Waits for a place for one more call; `None` if the link closes first.
    pub(crate) async fn place(&self) -> Option<tokio::sync::SemaphorePermit<'_>> {
        self.places.acquire().await.ok()
    }

    /// Queues a call. `None` if the link is closed: nothing was sent.
    pub(crate) fn begin(self: &Arc<Self>, request: Request) -> std::result::Result<Pending, Request> {
        self.used.store(micros(self.clock.now()), Ordering::Relaxed);
        let (tx, reply) = oneshot::channel();
        let mut state = self.state();
        if state.closed.is_some() {
            return Err(request);
        }
        // Ids and queue move under one lock, so the order of ids is the order on the wire.
        let id = state.next_id;
        state.next_id += 1;
        state.calls.insert(id, tx);
        state.queue.push_back((id, Message::Request(request)));
        drop(state);
        self.queued.notify_one();
        Ok(Pending { link: self.clone(), id, reply })
    }

    /// Queues the opening of a stream. `Err` gives the request back if the link is closed.
    pub(crate) fn open(
        self: &Arc<Self>,
        request: Request,
    ) -> std::result::Result<(Inbound, Outbound), Request> {
        self.used.store(micros(self.clock.now()), Ordering::Relaxed);
        let mut state = self.state();
        if state.closed.is_some() {
            return Err(request);
        }
        let id = state.next_id;
        state.next_id += 1;
        let (pipe, inbound, outbound) = Pipe::new(id, self.clone());
        state.streams.insert(id, pipe);
        state.queue.push_back((id, Message::Open(request)));
        drop(state);
        self.queued.notify_one();
        Ok((inbound, outbound))
    }

    /// Takes in a stream that the peer opens; `None` if there are too many, or the id is in use.
    pub(crate) fn admit_stream(self: &Arc<Self>, id: u64) -> Option<(Inbound, Outbound)> {
        let mut state = self.state();
        let full = state.streams.len() >= self.limits.streams || state.streams.contains_key(&id);
        if full || state.closed.is_some() {
            return None;
        }
        let (pipe, inbound, outbound) = Pipe::new(id, self.clone());
        state.streams.insert(id, pipe);
        Some((inbound, outbound))
    }

    pub(crate) fn forget_stream(&self, id: u64) {
        let gone = self.state().streams.remove(&id);
        drop(gone);
    }

    /// After a call's deadline: drops the connection, unless the peer has answered something
    /// that was written after the call. Then the connection moves and only the service is slow.
    pub(crate) fn suspect(&self, id: u64) {
        if self.proven.load(Ordering::Relaxed) <= id {
            self.close_suspect("a call passed its deadline and nothing written since was answered");
        }
    }

    /// Takes what both ends may receive; gives back what only the accepting end may.
    pub(crate) fn receive(&self, id: u64, message: Message) -> std::result::Result<Option<Message>, Garbage> {
        match message {
            Message::Request(_) | Message::Open(_) => {
                if self.end == End::Dialling {
                    return Err(Garbage("a request from the accepting end"));
                }
                Ok(Some(message))
            }
            Message::Reply(reply) => {
                self.proven.fetch_max(id, Ordering::Relaxed);
                // Nobody waits after a deadline or a drop: a late reply is nobody's.
                let call = self.state().calls.remove(&id);
                if let Some(call) = call {
                    let _ = call.send(reply);
                }
                Ok(None)
            }
            Message::Ping => {
                // A link that has just closed needs no pong.
                let _ = self.send(id, Message::Pong);
                Ok(None)
            }
            Message::Pong => {
                self.proven.fetch_max(id, Ordering::Relaxed);
                Ok(None)
            }
            Message::Data(_) | Message::End | Message::Reset(_) | Message::Window(_) => {
                let pipe = self.state().streams.get(&id).cloned();
                // Frames of a stream that we have just reset may still be on their way.
                pipe.map_or(Ok(()), |pipe| pipe.receive(message))?;
                Ok(None)
            }
        }
    }

    fn heard_now(&self) {
        self.heard.store(micros(self.clock.now()), Ordering::Relaxed);
        self.health.set_up();
    }

    /// How often [`Link::tick`] wants to run.
    fn tick_every(&self) -> Duration {
        self.limits.silence / 3
    }

    /// The watch over silence: pings, drops what does not answer, closes what is not used.
    fn tick(&self) {
        let now = self.clock.now();
        let heard = Mono(Duration::from_micros(self.heard.load(Ordering::Relaxed)));
        let quiet = now.since(heard);
        let mut state = self.state();
        let (calls, streams) = (!state.calls.is_empty(), !state.streams.is_empty());
        match self.end {
            End::Dialling if calls || streams => {
                match state.pinged {
                    Some(sent) if heard < sent => {
                        if now.since(sent) >= self.limits.silence * 2 / 3 {
                            drop(state);
                            self.close_suspect("it answers no ping");
                        }
                        return;
                    }
                    _ => {}
                }
                if quiet >= self.tick_every() {
                    let id = state.next_id;
                    state.next_id += 1;
                    state.pinged = Some(now);
                    state.queue.push_back((id, Message::Ping));
                    drop(state);
                    self.queued.notify_one();
                }
            }
            End::Dialling => {
                state.pinged = None;
                drop(state);
                let used = Mono(Duration::from_micros(self.used.load(Ordering::Relaxed)));
                if now.since(used) > self.limits.idle / 2 {
                    self.close("nobody uses it");
                }
            }
            End::Accepting => {
                drop(state);
                // A dialling end with streams open pings: its silence means that it is gone.
                let patience = if streams { self.limits.silence * 3 } else { self.limits.idle };
                if quiet > patience {
                    self.close("the dialling end is silent");
                }
            }
        }
    }
}
