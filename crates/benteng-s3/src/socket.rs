//! A client that stops reading is let go: its answer holds a place in the object layer.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use benteng_host::{Clock, Fut, sleep};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A stream whose writes fail once the peer has taken nothing for `patience`.
pub(crate) struct Patient<S> {
    inner: S,
    clock: Arc<dyn Clock>,
    patience: Duration,
    alarm: Option<Fut<()>>,
    waits: Arc<AtomicBool>,
}

impl<S> Patient<S> {
    pub(crate) fn new(inner: S, clock: Arc<dyn Clock>, patience: Duration) -> Patient<S> {
        Patient { inner, clock, patience, alarm: None, waits: Arc::default() }
    }

    /// Whether bytes wait for the peer to take them, now and later.
    pub(crate) fn waits(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.waits)
    }

    /// Passes a result on; one that is pending for too long becomes an error.
    fn bound<T>(&mut self, cx: &mut Context<'_>, poll: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        self.waits.store(poll.is_pending(), Ordering::Relaxed);
        if poll.is_ready() {
            self.alarm = None;
            return poll;
        }
        let alarm = self.alarm.get_or_insert_with(|| sleep(self.clock.as_ref(), self.patience));
        match alarm.as_mut().poll(cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(()) => {
                Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client stopped reading")))
            }
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Patient<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Patient<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let poll = Pin::new(&mut self.inner).poll_write(cx, buf);
        self.bound(cx, poll)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let poll = Pin::new(&mut self.inner).poll_flush(cx);
        self.bound(cx, poll)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let poll = Pin::new(&mut self.inner).poll_shutdown(cx);
        self.bound(cx, poll)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let poll = Pin::new(&mut self.inner).poll_write_vectored(cx, bufs);
        self.bound(cx, poll)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;

    use super::*;

    #[tokio::test]
    async fn i7_a_client_that_stops_reading_is_let_go() {
        let host = benteng_host::real::host();
        let (near, far) = tokio::io::duplex(16);
        let mut near = Patient::new(near, host.clock, Duration::from_millis(20));
        let waits = near.waits();
        near.write_all(&[0; 16]).await.expect("it fits");
        assert!(!waits.load(Ordering::Relaxed));
        let error = near.write_all(&[0; 16]).await.expect_err("nobody reads");
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!(waits.load(Ordering::Relaxed), "it waited to the end");
        drop(far);
    }
}
