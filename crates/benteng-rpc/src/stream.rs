//! Message streams: both directions independent, each with a window in bytes. The sender
//! waits when the receiver has not taken what was sent (I7).

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::{Notify, Semaphore};

use crate::error::{Error, Refusal, Result};
use crate::link::Link;
use crate::wire::{Garbage, Message, check_fit};

/// What a message costs beside its bytes, so that empty ones are bounded too.
const MESSAGE_COST: usize = 64;

/// One stream: what its two handles and the link's reader share.
pub(crate) struct Pipe {
    pub(crate) id: u64,
    link: Arc<Link>,
    /// Bytes that we may still send; closed when the stream breaks.
    credit: Semaphore,
    state: Mutex<State>,
    arrived: Notify,
}

struct State {
    queue: VecDeque<Bytes>,
    /// Cost of what lies in `queue`.
    queued: usize,
    /// Cost of what was taken from `queue` and not yet granted back to the sender.
    taken: usize,
    /// The peer's direction ended well.
    remote_ended: bool,
    /// Our direction ended well.
    local_ended: bool,
    /// The stream ended badly; why.
    broken: Option<Error>,
}

fn cost(len: usize, window: usize) -> usize {
    // Never more than the receiver is sure to have granted back when his queue is empty (he
    // holds back less than a quarter): a long message could wait for ever otherwise.
    (len + MESSAGE_COST).min(window - window.div_ceil(4))
}

impl Pipe {
    /// A stream's shared state and its two handles.
    pub(crate) fn new(id: u64, link: Arc<Link>) -> (Arc<Pipe>, Inbound, Outbound) {
        let credit = Semaphore::new(link.window());
        let state = State {
            queue: VecDeque::new(),
            queued: 0,
            taken: 0,
            remote_ended: false,
            local_ended: false,
            broken: None,
        };
        let pipe = Arc::new(Pipe { id, link, credit, state: Mutex::new(state), arrived: Notify::new() });
        (pipe.clone(), Inbound { pipe: pipe.clone(), failed: false }, Outbound { pipe })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes what the peer sent on this stream; `Err` if it broke the rules.
    pub(crate) fn receive(&self, message: Message) -> std::result::Result<(), Garbage> {
        match message {
            Message::Data(parts) => {
                let mut state = self.state();
                if state.remote_ended {
                    return Err(Garbage("message behind the end of its stream"));
                }
                for part in parts {
                    state.queued += cost(part.len(), self.link.window());
                    state.queue.push_back(part);
                }
                if state.queued + state.taken > self.link.window() {
                    return Err(Garbage("more than the window"));
                }
            }
            Message::End => {
                let mut state = self.state();
                state.remote_ended = true;
                let over = state.local_ended;
                drop(state);
                if over {
                    self.link.forget_stream(self.id);
                }
            }
            Message::Reset(refusal) => {
                let Refusal { code, message } = refusal;
                self.break_off(if code == 0 {
                    Error::Closed { node: self.link.peer, why: "the peer reset the stream".to_owned() }
                } else {
                    Error::Refused { node: self.link.peer, code, message }
                });
                self.link.forget_stream(self.id);
            }
            Message::Window(bytes) => {
                let bytes = usize::try_from(bytes).map_err(|_| Garbage("window"))?;
                // More than was ever sent is a lie, and would overflow the semaphore.
                if self.credit.available_permits().saturating_add(bytes) > self.link.window() {
                    return Err(Garbage("more credit than the window"));
                }
                self.credit.add_permits(bytes);
            }
            _ => return Err(Garbage("not a stream's frame")),
        }
        self.arrived.notify_one();
        Ok(())
    }

    /// Ends both directions badly; the first reason stays.
    pub(crate) fn break_off(&self, why: Error) {
        let mut state = self.state();
        if state.broken.is_none() {
            state.broken = Some(why);
        }
        drop(state);
        self.credit.close();
        self.arrived.notify_one();
    }

    /// A handle was dropped before its direction ended: the peer shall know.
    fn abandon(&self) {
        if self.state().broken.is_none() {
            self.break_off(Error::Closed {
                node: self.link.peer,
                why: "this side dropped the stream".to_owned(),
            });
            self.link.forget_stream(self.id);
            // If the link is closed the peer has noticed already.
            let _ = self.link.send(self.id, Message::Reset(Refusal::new(0, "")));
        }
    }

    fn why_broken(&self) -> Error {
        let closed = || Error::Closed { node: self.link.peer, why: "the stream has ended".to_owned() };
        self.state().broken.clone().unwrap_or_else(closed)
    }
}

/// The receiving half of a stream. Dropping it before the end resets the stream.
pub struct Inbound {
    pipe: Arc<Pipe>,
    /// The error was told; `None` follows.
    failed: bool,
}

impl Inbound {
    /// The next message; `None` after the peer's `finish`, an error once if the stream broke.
    ///
    /// Taking a message lets the peer send more. There is no time-out here: the caller brings
    /// his own, and [`Inbound::sever`]s what does not move.
    /// Cancellation: nothing is lost.
    pub async fn next(&mut self) -> Option<Result<Bytes>> {
        loop {
            let arrived = self.pipe.arrived.notified();
            {
                let mut state = self.pipe.state();
                if let Some(message) = state.queue.pop_front() {
                    let window = self.pipe.link.window();
                    let cost = cost(message.len(), window);
                    state.queued -= cost;
                    state.taken += cost;
                    // Granted back in large steps, and at the latest when a full window is taken.
                    let granted =
                        (state.taken >= window.div_ceil(4)).then(|| std::mem::take(&mut state.taken));
                    let gone = state.remote_ended || state.broken.is_some();
                    drop(state);
                    if let (Some(Ok(bytes)), false) = (granted.map(u32::try_from), gone) {
                        // A closed link shows at the next call.
                        let _ = self.pipe.link.send(self.pipe.id, Message::Window(bytes));
                    }
                    return Some(Ok(message));
                }
                if state.remote_ended || self.failed {
                    return None;
                }
                if let Some(why) = state.broken.clone() {
                    self.failed = true;
                    return Some(Err(why));
                }
            }
            arrived.await;
        }
    }

    /// Drops the whole connection of the lane: for a caller whose deadline for this stream has passed.
    pub fn sever(&self, why: &str) {
        self.pipe.link.close_suspect(why);
    }
}

impl Drop for Inbound {
    fn drop(&mut self) {
        let ended = self.pipe.state().remote_ended;
        if !ended {
            self.pipe.abandon();
        }
    }
}

/// The sending half of a stream. Dropping it without [`Outbound::finish`] resets the stream.
pub struct Outbound {
    pipe: Arc<Pipe>,
}

impl Outbound {
    /// Sends one message: the concatenation of `parts`, which are not copied. Waits while the
    /// receiver's window is full; returns when the message is queued on the connection.
    ///
    /// Errors: `TooLarge`; `Closed` or `Refused` if the stream has broken.
    /// Cancellation: nothing is sent.
    pub async fn send(&self, parts: Vec<Bytes>) -> Result<()> {
        check_fit(&parts)?;
        let cost = cost(parts.iter().map(Bytes::len).sum(), self.pipe.link.window());
        let permits = u32::try_from(cost).expect("the window is below 4 GiB: Limits are clamped");
        match self.pipe.credit.acquire_many(permits).await {
            Ok(credit) => credit.forget(),
            Err(_) => return Err(self.pipe.why_broken()),
        }
        self.pipe.link.send(self.pipe.id, Message::Data(parts))
    }

    /// Ends this direction well; the other one goes on.
    pub fn finish(self) -> Result<()> {
        {
            let mut state = self.pipe.state();
            if let Some(why) = &state.broken {
                return Err(why.clone());
            }
            state.local_ended = true;
        }
        let sent = self.pipe.link.send(self.pipe.id, Message::End);
        if self.pipe.state().remote_ended {
            self.pipe.link.forget_stream(self.pipe.id);
        }
        sent
    }

    /// Drops the whole connection of the lane: for a caller whose deadline for this stream has passed.
    pub fn sever(&self, why: &str) {
        self.pipe.link.close_suspect(why);
    }
}

impl Drop for Outbound {
    fn drop(&mut self) {
        let ended = self.pipe.state().local_ended;
        if !ended {
            self.pipe.abandon();
        }
    }
}
