//! A network in memory, whose reads may be split at any byte.

use std::collections::HashMap;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use benteng_host::{Error, Fut, Listener, Net, Result, Stream};
use futures::future::BoxFuture;
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};
use tokio::sync::mpsc;

/// A network in memory. Streams made so far can be stalled for ever, as a TCP stream is by a
/// lost segment that nobody sends again: writes vanish, nothing arrives, nobody is told.
pub(super) struct MemNet {
    doors: Mutex<HashMap<String, mpsc::UnboundedSender<Box<dyn Stream>>>>,
    stalls: Mutex<Vec<Arc<AtomicBool>>>,
    /// Reads give one byte each.
    pub(super) split: AtomicBool,
    /// Connects hang.
    pub(super) hang: AtomicBool,
    pub(super) connects: AtomicUsize,
}

impl MemNet {
    pub(super) fn new() -> Arc<MemNet> {
        Arc::new(MemNet {
            doors: Mutex::default(),
            stalls: Mutex::default(),
            split: AtomicBool::new(false),
            hang: AtomicBool::new(false),
            connects: AtomicUsize::new(0),
        })
    }

    /// Stalls all streams that there are.
    pub(super) fn stall(&self) {
        for stall in self.stalls.lock().unwrap().drain(..) {
            stall.store(true, Ordering::SeqCst);
        }
    }

    pub(super) fn connects(&self) -> usize {
        self.connects.load(Ordering::SeqCst)
    }

    /// A raw connection.
    pub(super) fn dial(&self, addr: &str) -> io::Result<Box<dyn Stream>> {
        let (a, b) = tokio::io::duplex(256 << 10);
        let stall = Arc::new(AtomicBool::new(false));
        self.stalls.lock().unwrap().push(stall.clone());
        let split = self.split.load(Ordering::SeqCst);
        let end = |inner| Box::new(Shaky { inner, stall: stall.clone(), split });
        let doors = self.doors.lock().unwrap();
        let door = doors.get(addr).ok_or(io::ErrorKind::ConnectionRefused)?;
        door.send(end(b)).map_err(|_| io::ErrorKind::ConnectionRefused)?;
        Ok(end(a))
    }

    /// A listener of the test's own.
    pub(super) fn door(&self, addr: &str) -> mpsc::UnboundedReceiver<Box<dyn Stream>> {
        let (tx, rx) = mpsc::unbounded_channel();
        self.doors.lock().unwrap().insert(addr.to_owned(), tx);
        rx
    }
}

impl Net for MemNet {
    fn listen(&self, addr: &str) -> Fut<Result<Box<dyn Listener>>> {
        let incoming = self.door(addr);
        let addr = addr.to_owned();
        Box::pin(async move { Ok(Box::new(Door { addr, incoming }) as Box<dyn Listener>) })
    }

    fn connect(&self, addr: &str) -> Fut<Result<Box<dyn Stream>>> {
        self.connects.fetch_add(1, Ordering::SeqCst);
        let made = self.dial(addr).map_err(|e| Error::new("connect to", addr, e));
        let hang = self.hang.load(Ordering::SeqCst);
        Box::pin(async move {
            if hang {
                std::future::pending::<()>().await;
            }
            // Let others run, as a real connect does.
            tokio::task::yield_now().await;
            made
        })
    }
}

struct Door {
    addr: String,
    incoming: mpsc::UnboundedReceiver<Box<dyn Stream>>,
}

impl Listener for Door {
    fn local_addr(&self) -> String {
        self.addr.clone()
    }

    fn accept(&mut self) -> BoxFuture<'_, Result<(Box<dyn Stream>, String)>> {
        Box::pin(async move {
            match self.incoming.recv().await {
                Some(stream) => Ok((stream, "mem:0".to_owned())),
                None => std::future::pending().await,
            }
        })
    }
}

struct Shaky {
    inner: DuplexStream,
    stall: Arc<AtomicBool>,
    split: bool,
}

impl AsyncRead for Shaky {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.stall.load(Ordering::SeqCst) {
            return Poll::Pending;
        }
        if !self.split || buf.remaining() == 0 {
            return Pin::new(&mut self.inner).poll_read(cx, buf);
        }
        let mut byte = [0];
        let mut one = ReadBuf::new(&mut byte);
        let read = Pin::new(&mut self.inner).poll_read(cx, &mut one);
        buf.put_slice(one.filled());
        read
    }
}

impl AsyncWrite for Shaky {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if self.stall.load(Ordering::SeqCst) {
            return Poll::Ready(Ok(buf.len()));
        }
        let len = if self.split { buf.len().min(3) } else { buf.len() };
        Pin::new(&mut self.inner).poll_write(cx, &buf[..len])
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}
