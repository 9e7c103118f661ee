//! Socket, TLS, connections, stopping.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use benteng_host::{Host, Listener, Stream, Task};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::sync::{Semaphore, watch};
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
    /// Connections at one time; further ones wait in the accept queue.
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
            room: Arc::new(Semaphore::new(options.connections_max)),
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
    room: Arc<Semaphore>,
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
        // The room is taken before the connection: a full door leaves callers in the kernel's queue.
        let next = async {
            let room = shared.room.clone().acquire_owned().await;
            (listener.accept().await, room)
        };
        tokio::select! {
            biased;
            () = closes(&mut closed) => break,
            (accepted, room) = next => match accepted {
                Ok((stream, _peer)) => {
                    let shared = shared.clone();
                    connections.spawn(async move {
                        serve(stream, shared).await;
                        drop(room);
                    });
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

async fn serve(stream: Box<dyn Stream>, shared: Shared) {
    match shared.tls.clone() {
        None => talk(stream, shared).await,
        Some(tls) => match tokio::time::timeout(HANDSHAKE_WITHIN, tls.accept(stream)).await {
            Ok(Ok(stream)) => talk(stream, shared).await,
            Ok(Err(error)) => tracing::debug!(%error, "tls handshake failed"),
            Err(_) => tracing::debug!("tls handshake too slow"),
        },
    }
}

async fn talk<S: Stream + 'static>(stream: S, shared: Shared) {
    let mut closed = shared.closed;
    let service = TowerToHyperService::new(shared.router);
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADERS_WITHIN)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        biased;
        ended = connection.as_mut() => ended,
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
