//! Sockets and connections of the S3 door: start, bounds, stop.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use benteng_host::{Host, Listener, Seat, Seats, Stream, Task, sleep, timeout};
use benteng_identity::Identity;
use benteng_objects::Objects;
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use s3s::service::S3ServiceBuilder;
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

use crate::front::Front;
use crate::names::Hosts;
use crate::service::Operations;
use crate::socket::Patient;

/// Buffer of one connection for heads and for what is read ahead of a body.
const BUFFER_BYTES: usize = 256 << 10;
/// A new socket is tried again after this when the machine has no descriptors left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// A client that is still taking the last bytes of an answer has this long when its seat is needed.
const LEAVE_WITHIN: Duration = Duration::from_secs(2);

/// The door could not open.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address cannot be bound.
    #[error("the S3 door cannot listen on {addr}: {source}; choose another address or stop what uses it")]
    Listen {
        /// What was asked for.
        addr: String,
        /// What the machine said.
        source: benteng_host::Error,
    },
    /// A base domain of virtual-host style is not a host name.
    #[error("{0:?} is not a domain; S3 domains are host names without port, such as s3.example.go.id")]
    Domain(String),
}

/// How the door is opened. `Default` is a loopback door without TLS.
#[derive(Clone)]
pub struct S3Options {
    /// Address, `host:port`; port 0: any free one.
    pub listen: String,
    /// The region that is answered when a client asks; any region is accepted.
    pub region: String,
    /// Base domains of virtual-host style: below `s3.localhost`, `data.s3.localhost` is bucket `data`.
    pub domains: Vec<String>,
    /// Certificates; `None`: plain HTTP.
    pub tls: Option<Arc<tokio_rustls::rustls::ServerConfig>>,
    /// A request's head, or the next request of a kept connection, must be there within this. Also
    /// the bound of a TLS handshake.
    pub header_timeout: Duration,
    /// A client must take bytes at least this often, and a body bring
    /// [`BODY_RATE_MIN`](benteng_objects::BODY_RATE_MIN) on the average of this time.
    pub idle_timeout: Duration,
    /// Connections at once. One more lets go of the one that has been idle the longest; with a request under way
    /// on each of them it waits.
    pub connections_max: usize,
    /// Requests under way are given this long when the door stops.
    pub stop_within: Duration,
}

impl Default for S3Options {
    fn default() -> S3Options {
        S3Options {
            listen: "127.0.0.1:7400".to_owned(),
            region: "us-east-1".to_owned(),
            domains: vec!["localhost".to_owned(), "s3.localhost".to_owned()],
            tls: None,
            header_timeout: Duration::from_secs(60),
            idle_timeout: Duration::from_secs(60),
            connections_max: 1024,
            stop_within: Duration::from_secs(8),
        }
    }
}

/// The S3 door of a node, open. Dropping it breaks all connections off; [`S3Door::stop`] is gentle.
pub struct S3Door {
    addr: String,
    stop: watch::Sender<bool>,
    accept: Task,
    clock: Arc<dyn benteng_host::Clock>,
    stop_within: Duration,
}

impl S3Door {
    /// Opens the door; returns once it listens.
    pub async fn start(
        host: Host,
        objects: Objects,
        identity: Identity,
        options: S3Options,
    ) -> Result<S3Door, Error> {
        let hosts = Hosts::new(&options.domains).map_err(Error::Domain)?;
        let listener = host.net.listen(&options.listen).await;
        let listener = listener.map_err(|source| Error::Listen { addr: options.listen.clone(), source })?;
        let mut builder = S3ServiceBuilder::new(Operations::new(objects, options.region.clone()));
        builder.set_host(hosts.clone());
        let service = builder.build();
        let scheme = if options.tls.is_some() { "https" } else { "http" };
        let front =
            Front::new(service, Arc::new(identity), hosts, host.clone(), options.idle_timeout, scheme);
        let addr = listener.local_addr();
        let (stop, stopping) = watch::channel(false);
        let (clock, stop_within) = (Arc::clone(&host.clock), options.stop_within);
        let seats = Seats::new(options.connections_max);
        let serving = Serving { host: host.clone(), front: Arc::new(front), options, stopping, seats };
        let accept = host.tasks.spawn("s3 accept", Box::pin(accept(listener, serving)));
        tracing::info!(%addr, "S3 door is open");
        Ok(S3Door { addr, stop, accept, clock, stop_within })
    }

    /// The address that was bound, `ip:port`.
    pub fn local_addr(&self) -> String {
        self.addr.clone()
    }

    /// Closes the door: no new connections, idle ones end, requests under way have
    /// [`S3Options::stop_within`]; what is left then is broken off.
    pub async fn stop(self) {
        // Without a receiver the accept task has ended already.
        let _ = self.stop.send(true);
        match timeout(self.clock.as_ref(), self.stop_within, self.accept).await {
            Ok(Ok(())) => tracing::info!(addr = %self.addr, "S3 door is closed"),
            Ok(Err(e)) => tracing::error!(error = %e, "the S3 door failed before it was closed"),
            Err(_) => tracing::warn!(addr = %self.addr, "S3 door is closed; requests were broken off"),
        }
    }
}

/// What every connection needs.
#[derive(Clone)]
struct Serving {
    host: Host,
    front: Arc<Front>,
    options: S3Options,
    stopping: watch::Receiver<bool>,
    seats: Arc<Seats>,
}

/// Accepts connections until the door stops, then waits for those that are left.
async fn accept(mut listener: Box<dyn Listener>, serving: Serving) {
    let mut connections: FuturesUnordered<Task> = FuturesUnordered::new();
    let mut stopping = serving.stopping.clone();
    loop {
        tokio::select! {
            biased;
            () = stopped(&mut stopping) => break,
            Some(ended) = connections.next(), if !connections.is_empty() => {
                if let Err(e) = ended {
                    tracing::error!(error = %e, "an S3 connection failed");
                }
            }
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => {
                    let seat = tokio::select! {
                        biased;
                        () = stopped(&mut stopping) => break,
                        seat = serving.seats.take() => seat,
                    };
                    let run = Box::pin(connection(stream, peer, seat, serving.clone()));
                    connections.push(serving.host.tasks.spawn("s3 connection", run));
                    #[allow(clippy::cast_precision_loss)] // counts of connections are small
                    metrics::gauge!("benteng_s3_connections").set(serving.seats.taken() as f64);
                }
                Err(e) => {
                    // Out of descriptors, most likely: connections that end give some back.
                    tracing::warn!(error = %e, "a connection could not be accepted; trying again");
                    sleep(serving.host.clock.as_ref(), ACCEPT_PAUSE).await;
                }
            },
        }
    }
    drop(listener);
    while connections.next().await.is_some() {}
}

/// A connection's seat, and whether its client has still to take bytes.
struct Seated {
    seat: Arc<Seat>,
    waits: Arc<AtomicBool>,
}

async fn connection(stream: Box<dyn Stream>, peer: String, seat: Arc<Seat>, serving: Serving) {
    let clock = Arc::clone(&serving.host.clock);
    let stream = Patient::new(stream, Arc::clone(&clock), serving.options.idle_timeout);
    let waits = stream.waits();
    let seated = Seated { seat, waits };
    match &serving.options.tls {
        None => http(stream, peer, seated, serving).await,
        Some(config) => {
            let handshake = TlsAcceptor::from(Arc::clone(config)).accept(stream);
            let handshake = timeout(clock.as_ref(), serving.options.header_timeout, handshake);
            let shaken = tokio::select! {
                shaken = handshake => shaken,
                () = seated.seat.asked_to_leave() => return,
            };
            match shaken {
                Ok(Ok(stream)) => http(stream, peer, seated, serving).await,
                Ok(Err(e)) => tracing::debug!(%peer, error = %e, "TLS handshake failed"),
                Err(_) => tracing::debug!(%peer, "TLS handshake took too long"),
            }
        }
    }
}

async fn http<S>(stream: S, peer: String, seated: Seated, mut serving: Serving)
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let front = Arc::clone(&serving.front);
    let Seated { seat, waits } = seated;
    let own = Arc::clone(&seat);
    let service = service_fn(move |request| {
        let (front, busy) = (Arc::clone(&front), own.busy());
        async move { Ok::<_, Infallible>(front.handle(request, busy).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(serving.options.header_timeout)
        .max_buf_size(BUFFER_BYTES)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    let ended = tokio::select! {
        biased;
        ended = connection.as_mut() => ended,
        () = seat.asked_to_leave() => {
            connection.as_mut().graceful_shutdown();
            let now = connection.as_mut().now_or_never();
            match now {
                Some(ended) => ended,
                // A request came in between: it is the last one.
                None if seat.is_busy() => connection.await,
                None if waits.load(Ordering::Relaxed) => {
                    match timeout(serving.host.clock.as_ref(), LEAVE_WITHIN, connection).await {
                        Ok(ended) => ended,
                        Err(_) => return,
                    }
                }
                // Silent, or in the middle of a request's head, for ever perhaps.
                None => return,
            }
        }
        () = stopped(&mut serving.stopping) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(e) = ended {
        // Clients hang up all the time; what we broke off ourselves is logged where it failed.
        tracing::debug!(%peer, error = %e, "S3 connection ended early");
    }
}

/// Completes once the door is to stop. That it was dropped is the same: the task is ending anyway.
async fn stopped(stopping: &mut watch::Receiver<bool>) {
    // The guard must not live on: it holds a lock.
    drop(stopping.wait_for(|stop| *stop).await);
}
