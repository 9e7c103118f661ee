//! Accepts, bounds and stops connections.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use benteng_host::{Host, Listener, Task, random_array, sleep, timeout};
use benteng_identity::{Identity, Principal, Scram};
use benteng_lake::Lake;
use datafusion::execution::context::SessionContext;
use datafusion_pg_catalog::sql::PostgresCompatibilityParser;
use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use tokio::sync::watch;
use tokio_rustls::rustls::ServerConfig;

use crate::cancel::Cancels;
use crate::wire::Socket;
use crate::{catalog, startup};

/// Sockets beyond the bound of connections: refusals and cancel requests need one.
const SPARE: usize = 64;
/// How long `stop` waits for connections to say goodbye.
const GOODBYE: Duration = Duration::from_secs(5);

/// The door cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address cannot be bound: in use, or not this machine's.
    #[error("the SQL door cannot listen on {addr}: {source}; choose another sql.listen")]
    Listen {
        /// The address.
        addr: String,
        /// The machine's answer.
        source: benteng_host::Error,
    },
    /// The catalogue shown to clients cannot be made.
    #[error("the SQL catalogue cannot be made: {0}")]
    Catalog(#[source] datafusion::error::DataFusionError),
}

/// Bounds and settings of the door.
#[derive(Clone)]
pub struct Options {
    /// Where it listens, `host:port`; port 0: any free one.
    pub listen: String,
    /// TLS, which every login must then use; `None`: plain only.
    pub tls: Option<Arc<ServerConfig>>,
    /// Connections at once; further ones are told 53300.
    pub max_connections: usize,
    /// Bytes of the longest message of a client, its SQL text included.
    pub message_bytes: usize,
    /// Time of a statement until it is ended (57014); sessions may set a shorter one.
    pub statement_timeout: Option<Duration>,
    /// Time from the first byte to a finished login.
    pub login_timeout: Duration,
}

impl Options {
    /// The defaults, listening on `listen`.
    pub fn new(listen: impl Into<String>) -> Options {
        Options {
            listen: listen.into(),
            tls: None,
            max_connections: 100,
            message_bytes: 16 << 20,
            statement_timeout: None,
            login_timeout: Duration::from_secs(60),
        }
    }
}

/// Who may log in, and by which verifier: [`Identity`], or memory in tests.
pub trait Logins: Send + Sync + 'static {
    /// The user of this name; `None`: nobody, or disabled, or without a password.
    fn scram(
        &self,
        user: &str,
    ) -> BoxFuture<'static, Result<Option<(Principal, Scram)>, benteng_identity::Error>>;
}

impl Logins for Identity {
    fn scram(
        &self,
        user: &str,
    ) -> BoxFuture<'static, Result<Option<(Principal, Scram)>, benteng_identity::Error>> {
        let (identity, user) = (self.clone(), user.to_owned());
        Box::pin(async move { Identity::scram(&identity, &user).await })
    }
}

/// What all connections share.
pub(crate) struct Door {
    pub(crate) host: Host,
    pub(crate) logins: Box<dyn Logins>,
    pub(crate) lake: Lake,
    pub(crate) template: SessionContext,
    pub(crate) parser: Arc<PostgresCompatibilityParser>,
    pub(crate) options: Options,
    pub(crate) cancels: Arc<Cancels>,
    /// What unknown users are shown derives from it; of this process.
    pub(crate) decoy_secret: [u8; 32],
    sessions: AtomicUsize,
}

impl Door {
    /// A place among the connections; `None`: all are taken.
    pub(crate) fn seat(self: &Arc<Door>) -> Option<Seat> {
        let free = |n: usize| (n < self.options.max_connections).then_some(n + 1);
        self.sessions.fetch_update(Ordering::Relaxed, Ordering::Relaxed, free).ok()?;
        metrics::gauge!("benteng_sql_sessions").increment(1.0);
        Some(Seat(Arc::clone(self)))
    }
}

/// A place among the connections.
pub(crate) struct Seat(Arc<Door>);

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.sessions.fetch_sub(1, Ordering::Relaxed);
        metrics::gauge!("benteng_sql_sessions").decrement(1.0);
    }
}

/// The PostgreSQL door of this node. Dropping it ends all connections at once;
/// [`PgDoor::stop`] lets them say why.
pub struct PgDoor {
    addr: String,
    host: Host,
    stop: watch::Sender<bool>,
    accepting: Task,
}

impl PgDoor {
    /// Opens the door.
    ///
    /// Errors: `Listen` if the address is taken; nothing runs then.
    pub async fn start(
        host: Host,
        logins: impl Logins,
        lake: Lake,
        options: Options,
    ) -> Result<PgDoor, Error> {
        let listener = host.net.listen(&options.listen).await;
        let listener = listener.map_err(|source| Error::Listen { addr: options.listen.clone(), source })?;
        let template = catalog::template(&lake).await.map_err(Error::Catalog)?;
        let addr = listener.local_addr();
        let (stop, stopping) = watch::channel(false);
        let door = Arc::new(Door {
            decoy_secret: random_array(host.random.as_ref()),
            host: host.clone(),
            logins: Box::new(logins),
            lake,
            template,
            parser: Arc::new(PostgresCompatibilityParser::new()),
            options,
            cancels: Arc::new(Cancels::default()),
            sessions: AtomicUsize::new(0),
        });
        let accepting = host.tasks.spawn("sql door", Box::pin(accept(door, listener, stopping)));
        tracing::info!(%addr, "sql door open");
        Ok(PgDoor { addr, host, stop, accepting })
    }

    /// Where it listens, `ip:port`.
    pub fn local_addr(&self) -> &str {
        &self.addr
    }

    /// Closes the door: no new connections, running statements end, clients are told 57P01.
    /// Returns within 5 seconds.
    pub async fn stop(self) {
        // The accepting task may have ended already: then nobody listens.
        let _ = self.stop.send(true);
        if timeout(self.host.clock.as_ref(), GOODBYE, self.accepting).await.is_err() {
            tracing::warn!("sql connections did not end in time and are cut");
        }
    }
}

async fn accept(door: Arc<Door>, mut listener: Box<dyn Listener>, stopping: watch::Receiver<bool>) {
    let mut stop = stopping.clone();
    // Each client's task is owned here: dropping the set ends them all.
    let mut clients: FuturesUnordered<Task> = FuturesUnordered::new();
    loop {
        let room = clients.len() < door.options.max_connections + SPARE;
        tokio::select! {
            biased;
            () = told_to_stop(&mut stop) => break,
            Some(ended) = clients.next() => {
                if let Err(e) = ended {
                    tracing::error!(error = %e, "sql connection failed");
                }
            }
            accepted = listener.accept(), if room => match accepted {
                Ok((socket, peer)) => {
                    let client = serve(Arc::clone(&door), socket, peer, stopping.clone());
                    clients.push(door.host.tasks.spawn("sql client", Box::pin(client)));
                }
                Err(e) => {
                    // Out of descriptors, most likely: wait until connections have gone.
                    tracing::warn!(error = %e, "sql connection not accepted");
                    sleep(door.host.clock.as_ref(), Duration::from_millis(100)).await;
                }
            },
        }
    }
    drop(listener);
    while clients.next().await.is_some() {}
}

/// Waits until the door stops.
pub(crate) async fn told_to_stop(stop: &mut watch::Receiver<bool>) {
    // An error means that the door is gone: that is the same.
    let _ = stop.wait_for(|stop| *stop).await;
}

async fn serve(door: Arc<Door>, socket: Socket, peer: String, stopping: watch::Receiver<bool>) {
    metrics::counter!("benteng_sql_connections_total").increment(1);
    let login = startup::begin(&door, socket, stopping.clone());
    match timeout(door.host.clock.as_ref(), door.options.login_timeout, login).await {
        Ok(Some(connection)) => {
            tracing::info!(peer, principal = connection.user(), "sql session opened");
            connection.run(stopping).await;
        }
        // A cancel request, a refused login, or a client that went: told and logged there.
        Ok(None) => {}
        Err(_) => tracing::info!(peer, "sql login took too long"),
    }
}
