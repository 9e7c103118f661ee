//! Byte streams between nodes. Names are `host:port`; resolving them is the machine's.

use tokio::io::{AsyncRead, AsyncWrite};

use crate::{Fut, Result};

/// A connected byte stream. Reads and writes may be split at any byte.
pub trait Stream: AsyncRead + AsyncWrite + Send + Sync + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Sync + Unpin + ?Sized> Stream for T {}

/// The network of one machine.
pub trait Net: Send + Sync {
    /// Binds `addr` (port 0: any free one).
    fn listen(&self, addr: &str) -> Fut<Result<Box<dyn Listener>>>;
    /// Connects to `addr`. There is no time-out here: the caller brings its deadline.
    fn connect(&self, addr: &str) -> Fut<Result<Box<dyn Stream>>>;
}

/// A bound socket.
pub trait Listener: Send {
    /// The address that was bound, `ip:port`.
    fn local_addr(&self) -> String;
    /// Waits for the next connection; returns it and the peer's `ip:port`.
    /// Cancellation: if dropped, no accepted connection is lost.
    fn accept(&mut self) -> futures::future::BoxFuture<'_, Result<(Box<dyn Stream>, String)>>;
}
