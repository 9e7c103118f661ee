//! Socket, TLS, connections, stopping.

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use benteng_host::{Busy, Host, Listener, Seat, Seats, Stream, Task};
use futures::FutureExt;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use crate::{Error, Services, routes};

/// A client that has not sent its request line and headers by then is hung up on.
const HEADERS_WITHIN: Duration = Duration::from_secs(30);
/// As for TLS handshakes.
const HANDSHAKE_WITHIN: Duration = Duration::from_secs(10);
/// Requests under way get this long when the door closes.
const GRACE: Duration = Duration::from_secs(5);

/// How the door is opened.
pub struct Options {
    /// Address, `host:port`; port 0 takes any free one.
    pub listen: String,
    /// TLS; `None`: plain HTTP, for loopback only.
    pub tls: Option<Arc<rustls::ServerConfig>>,
    /// Connections at one time. One more lets go of the one that has been idle the longest; with a request under way
    /// on each of them it waits.
    pub connections_max: usize,
}

/// The open door. Dropping it hangs up; [`HttpDoor::stop`] lets requests end.
pub struct HttpDoor {
    addr: String,
    closing: watch::Sender<bool>,
    accepting: Task,
}

impl HttpDoor {
    /// Opens the door.
    ///
    /// Errors: `Listen`, if the address cannot be had.
    pub async fn start(host: &Host, services: Services, options: Options) -> Result<HttpDoor, Error> {
        let listening = host.net.listen(&options.listen).await;
        let listener = listening.map_err(|source| Error::Listen { addr: options.listen.clone(), source })?;
        let addr = listener.local_addr();
        let (closing, closed) = watch::channel(false);
        let shared = Shared {
            router: routes::router(&services, host.random.clone()),
            tls: options.tls.map(TlsAcceptor::from),
            seats: Seats::new(options.connections_max),
            closed,
        };
        let accepting = host.tasks.spawn("http door", Box::pin(accept(listener, shared)));
        tracing::info!(%addr, "http door open");
        Ok(HttpDoor { addr, closing, accepting })
    }

    /// The address that was bound, `ip:port`.
    pub fn local_addr(&self) -> &str {
        &self.addr
    }

    /// Accepts nothing more, lets requests under way end for a few seconds, then hangs up.
    pub async fn stop(self) {
        // An error means that the task has ended by itself: then there is nothing to close.
        let _ = self.closing.send(true);
        if let Err(failed) = self.accepting.await {
            tracing::error!(%failed, "http door ended badly");
        }
    }
}

#[derive(Clone)]
struct Shared {
    router: Router,
    tls: Option<TlsAcceptor>,
    seats: Arc<Seats>,
    closed: watch::Receiver<bool>,
}

/// Accepts connections until the door closes. Each runs in the set, so its panic is seen and ends nothing else.
async fn accept(mut listener: Box<dyn Listener>, shared: Shared) {
    let mut connections = JoinSet::new();
    let mut closed = shared.closed.clone();
    loop {
        while let Some(ended) = connections.try_join_next() {
            note(ended);
        }
        tokio::select! {
            biased;
            () = closes(&mut closed) => break,
            accepted = listener.accept() => match accepted {
                Ok((stream, _peer)) => {
                    let seat = tokio::select! {
                        biased;
                        () = closes(&mut closed) => break,
                        seat = shared.seats.take() => seat,
                    };
                    connections.spawn(serve(stream, seat, shared.clone()));
                }
                Err(error) => {
                    // Out of file descriptors, or the peer is gone already: neither is a reason to spin.
                    tracing::warn!(%error, "connection not accepted");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            },
        }
    }
    drop(listener);
    let ending = async {
        while let Some(ended) = connections.join_next().await {
            note(ended);
        }
    };
    if tokio::time::timeout(GRACE, ending).await.is_err() {
        tracing::warn!("http door hangs up on requests that did not end in time");
    }
}

/// Completes once the door closes, or its handle is gone.
async fn closes(closed: &mut watch::Receiver<bool>) {
    let _ = closed.wait_for(|closed| *closed).await;
}

fn note(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended {
        metrics::counter!("benteng_http_panics_total").increment(1);
        tracing::error!(%error, "http connection ended badly");
    }
}

async fn serve(stream: Box<dyn Stream>, seat: Arc<Seat>, shared: Shared) {
    let Some(tls) = shared.tls.clone() else { return talk(stream, seat, shared).await };
    let shaken = tokio::select! {
        shaken = tokio::time::timeout(HANDSHAKE_WITHIN, tls.accept(stream)) => shaken,
        () = seat.asked_to_leave() => return,
    };
    match shaken {
        Ok(Ok(stream)) => talk(stream, seat, shared).await,
        Ok(Err(error)) => tracing::debug!(%error, "tls handshake failed"),
        Err(_) => tracing::debug!("tls handshake too slow"),
    }
}

async fn talk<S: Stream + 'static>(stream: S, seat: Arc<Seat>, shared: Shared) {
    let mut closed = shared.closed;
    let router = TowerToHyperService::new(shared.router);
    let own = seat.clone();
    let service = service_fn(move |request: hyper::Request<Incoming>| {
        let (answering, busy) = (router.call(request), own.busy());
        async move { Ok::<_, std::convert::Infallible>(answering.await?.map(|body| Held { body, _busy: busy })) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADERS_WITHIN)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    let ended = tokio::select! {
        biased;
        ended = connection.as_mut() => ended,
        () = seat.asked_to_leave() => {
            connection.as_mut().graceful_shutdown();
            match connection.as_mut().now_or_never() {
                Some(ended) => ended,
                // A request came in between: it is the last one.
                None if seat.is_busy() => connection.as_mut().await,
                // Silent, or in the middle of a request's head, for ever perhaps.
                None => return,
            }
        }
        () = closes(&mut closed) => {
            connection.as_mut().graceful_shutdown();
            connection.as_mut().await
        }
    };
    if let Err(error) = ended {
        // The client hung up, spoke no HTTP, or was too slow: its affair.
        tracing::debug!(%error, "http connection ended");
    }
}

/// An answer's body; its connection counts as used until it is sent.
struct Held<B> {
    body: B,
    _busy: Busy,
}

impl<B: Body + Unpin> Body for Held<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
