//! The two loops of a connection: bytes in, bytes out.

use std::io::IoSlice;
use std::pin::pin;
use std::sync::Arc;

use benteng_host::{Fut, Stream, sleep};
use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf};

use super::Link;
use crate::wire::{Message, Outgoing, decode};

/// Room made for each read.
const READ_ROOM: usize = 64 << 10;
/// Less spare room than this makes for small reads; less content than this is cheap to move.
const SMALL: usize = 4 << 10;
/// A batch of frames is encoded up to about this many bytes before it is written.
const BATCH: usize = 1 << 20;
const SLICES: usize = 64;

/// Reads frames off one connection, and keeps the watch over its silence.
pub(crate) struct Reader {
    link: Arc<Link>,
    half: ReadHalf<Box<dyn Stream>>,
    buffer: BytesMut,
    alarm: Fut<()>,
}

impl Reader {
    pub(crate) fn new(link: Arc<Link>, half: ReadHalf<Box<dyn Stream>>) -> Reader {
        let alarm = sleep(&*link.clock, link.tick_every());
        Reader { link, half, buffer: BytesMut::with_capacity(READ_ROOM), alarm }
    }

    /// The next request or stream opening; everything else is dealt with on the way.
    /// `None`: the link is closed.
    ///
    /// Cancellation: nothing is lost.
    pub(crate) async fn next(&mut self) -> Option<(u64, Message)> {
        loop {
            let taken = match decode(&mut self.buffer) {
                Ok(Some((id, message))) => {
                    self.link.receive(id, message).map(|m| m.map(|message| (id, message)))
                }
                Ok(None) => {
                    if !self.fill().await {
                        return None;
                    }
                    continue;
                }
                Err(garbage) => Err(garbage),
            };
            match taken {
                Ok(Some(ask)) => return Some(ask),
                Ok(None) => {}
                Err(garbage) => {
                    self.link.counters.garbage.increment(1);
                    let (node, lane) = (self.link.peer, self.link.lane);
                    tracing::warn!(%node, %lane, why = garbage.0, "garbage on a connection; closing it");
                    self.link.close("garbage came in");
                }
            }
            if self.link.is_closed() {
                return None;
            }
        }
    }

    /// Reads more bytes; false when the link is closed.
    async fn fill(&mut self) -> bool {
        let spare = self.buffer.capacity() - self.buffer.len();
        // While handed-out parts share the old memory this allocates anew. Not while a large
        // frame is nearly complete: `decode` has made its room, and moving it is dear.
        if spare == 0 || (spare < SMALL && self.buffer.len() < SMALL) {
            self.buffer.reserve(READ_ROOM);
        }
        let link = self.link.clone();
        let mut closed = pin!(link.closed());
        loop {
            tokio::select! {
                biased;
                () = &mut closed => return false,
                read = self.half.read_buf(&mut self.buffer) => match read {
                    Ok(0) => {
                        link.close("the peer closed it");
                        return false;
                    }
                    Ok(n) => {
                        link.heard_now();
                        link.counters.lane(link.lane).received_bytes.increment(n as u64);
                        return true;
                    }
                    Err(e) => {
                        link.close(&format!("read: {e}"));
                        return false;
                    }
                },
                () = &mut self.alarm => {
                    link.tick();
                    self.alarm = sleep(&*link.clock, link.tick_every());
                }
            }
        }
    }
}

/// Drains the queue of `link` into the socket until the link is closed. All that is queued
/// at once goes out in as few writes as possible.
pub(crate) async fn write_loop(link: Arc<Link>, mut half: WriteHalf<Box<dyn Stream>>) {
    let mut out = Outgoing::default();
    let mut closed = pin!(link.closed());
    loop {
        let queued = link.queued.notified();
        let frames = take_batch(&link, &mut out);
        if frames == 0 {
            if link.is_closed() {
                break;
            }
            queued.await;
            continue;
        }
        link.counters.lane(link.lane).frames.increment(frames);
        tokio::select! {
            biased;
            () = &mut closed => break,
            written = write_batch(&link, &mut half, &mut out) => {
                if let Err(e) = written {
                    link.close(&format!("write: {e}"));
                    break;
                }
            }
        }
    }
    // Says good-bye where the socket still takes it; a stalled one must not hold the task.
    let bye = benteng_host::timeout(&*link.clock, link.tick_every(), half.shutdown());
    let _ = bye.await;
}

/// Encodes what is queued, up to a batch; returns the number of frames.
fn take_batch(link: &Link, out: &mut Outgoing) -> u64 {
    let mut taken = Vec::new();
    {
        let mut state = link.state();
        let mut bytes = 0;
        while bytes < BATCH {
            let Some((id, message)) = Link::next_queued(&mut state) else { break };
            bytes += message.len();
            taken.push((id, message));
        }
    }
    // Checksums are computed outside the lock: a chunk takes a good part of a millisecond.
    for (id, message) in &taken {
        out.push(*id, message);
    }
    out.seal();
    taken.len() as u64
}

async fn write_batch(
    link: &Link,
    half: &mut (impl AsyncWrite + Unpin),
    out: &mut Outgoing,
) -> std::io::Result<()> {
    while !out.is_empty() {
        let mut slices = [IoSlice::new(&[]); SLICES];
        let n = out.slices(&mut slices);
        let written = half.write_vectored(&slices[..n]).await?;
        if written == 0 {
            return Err(std::io::ErrorKind::WriteZero.into());
        }
        let counters = link.counters.lane(link.lane);
        counters.writes.increment(1);
        counters.sent_bytes.increment(written as u64);
        out.advance(written);
    }
    half.flush().await
}
