//! From the first byte to a session: TLS, cancel requests, SCRAM, settings of the client.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD as BASE64;
use benteng_host::random_array;
use benteng_identity::Principal;
use benteng_lake::CATALOG;
use benteng_meta::Role;
use bytes::Bytes;
use pgwire::messages::response::{ReadyForQuery, TransactionStatus};
use pgwire::messages::startup::{
    Authentication, BackendKeyData, NegotiateProtocolVersion, ParameterStatus, SecretKey,
};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

use crate::catalog;
use crate::connection::Connection;
use crate::door::Door;
use crate::error::SqlError;
use crate::scram::{self, Exchange, MECHANISM};
use crate::settings::Settings;
use crate::wire::{First, Frontend, Socket, Wire, WireError};

/// SSL and GSS requests that may come before the startup message.
const REQUESTS_MAX: usize = 4;
/// Bytes of a message before the login is done.
const LOGIN_MESSAGE_MAX: usize = 8 << 10;

/// Why there is no session.
enum NoSession {
    /// The client is told.
    Told(SqlError),
    /// The connection failed, or was for a cancel request.
    Gone,
}

impl From<WireError> for NoSession {
    fn from(e: WireError) -> NoSession {
        match e {
            WireError::Garbage(_) | WireError::TooLong { .. } => {
                NoSession::Told(SqlError::fatal("08P01", e.to_string()))
            }
            WireError::Io(_) | WireError::Closed | WireError::Answer(_) => NoSession::Gone,
        }
    }
}

impl From<SqlError> for NoSession {
    fn from(e: SqlError) -> NoSession {
        NoSession::Told(e.ending())
    }
}

/// Takes a new connection as far as its first ReadyForQuery. `None`: it is over; the client
/// has been told why. Cancellation: dropping it drops the connection.
pub(crate) async fn begin(
    door: &Arc<Door>,
    socket: Socket,
    stopping: watch::Receiver<bool>,
) -> Option<Connection> {
    let (mut wire, parameters) = match first(door, socket).await {
        Ok(begun) => begun,
        Err((wire, why)) => {
            tell(wire, why).await;
            return None;
        }
    };
    match login(door, &mut wire, parameters).await {
        Ok(mut connection) if !*stopping.borrow() => {
            connection.take_wire(wire, door.options.message_bytes);
            Some(connection)
        }
        Ok(_) => {
            tell(Some(wire), SqlError::fatal("57P01", "the node is stopping").into()).await;
            None
        }
        Err(why) => {
            tell(Some(wire), why).await;
            None
        }
    }
}

async fn tell(wire: Option<Wire>, why: NoSession) {
    let (Some(mut wire), NoSession::Told(error)) = (wire, why) else { return };
    metrics::counter!("benteng_sql_logins_refused_total", "sqlstate" => error.code).increment(1);
    tracing::info!(sqlstate = error.code, "sql login refused");
    if wire.put(&error.response()).is_ok() {
        wire.close().await;
    }
}

type Begun = (Wire, BTreeMap<String, String>);

async fn first(door: &Arc<Door>, socket: Socket) -> Result<Begun, (Option<Wire>, NoSession)> {
    let mut wire = Wire::new(socket, LOGIN_MESSAGE_MAX);
    let mut plain = true;
    for _ in 0..REQUESTS_MAX {
        let message = match wire.first().await {
            Ok(message) => message,
            Err(e) => return Err((Some(wire), e.into())),
        };
        match (message, &door.options.tls) {
            (First::Ssl, Some(config)) if plain => {
                wire.put_byte(b'S');
                if let Err(e) = wire.flush().await {
                    return Err((None, e.into()));
                }
                let Some(socket) = wire.into_socket() else { return Err((None, NoSession::Gone)) };
                match TlsAcceptor::from(Arc::clone(config)).accept(socket).await {
                    Ok(socket) => {
                        wire = Wire::new(Box::new(socket), LOGIN_MESSAGE_MAX);
                        plain = false;
                    }
                    Err(e) => {
                        tracing::info!(error = %e, "sql client failed at TLS");
                        return Err((None, NoSession::Gone));
                    }
                }
            }
            (First::Ssl | First::Gss, _) => {
                wire.put_byte(b'N');
                if let Err(e) = wire.flush().await {
                    return Err((None, e.into()));
                }
            }
            (First::Cancel { pid, secret }, _) => {
                door.cancels.cancel(pid, &secret);
                return Err((None, NoSession::Gone));
            }
            (First::OtherVersion { major, minor }, _) => {
                let error =
                    SqlError::fatal("0A000", format!("protocol {major}.{minor} is not supported; 3.0 is"));
                return Err((Some(wire), error.into()));
            }
            // A cancel request, which names no user and carries no data, comes plainly from many clients.
            (First::Startup { .. }, Some(_)) if plain => {
                let error =
                    SqlError::fatal("28000", "this door speaks TLS only; the connection is not encrypted")
                        .hint(
                            "connect with sslmode=verify-full and the site's ca.pem, or with sslmode=require",
                        );
                return Err((Some(wire), error.into()));
            }
            (First::Startup { minor, parameters }, _) => {
                // Newer minor versions, and options of theirs, are politely declined.
                let unknown: Vec<String> =
                    parameters.keys().filter(|k| k.starts_with("_pq_.")).cloned().collect();
                if (minor > 0 || !unknown.is_empty())
                    && let Err(e) = wire.put(&NegotiateProtocolVersion::new(3 << 16, unknown))
                {
                    return Err((Some(wire), e.into()));
                }
                return Ok((wire, parameters));
            }
        }
    }
    Err((Some(wire), SqlError::fatal("08P01", "a startup message is expected").into()))
}

async fn login(
    door: &Arc<Door>,
    wire: &mut Wire,
    mut parameters: BTreeMap<String, String>,
) -> Result<Connection, NoSession> {
    let user = parameters.remove("user").filter(|user| !user.is_empty());
    let user = user.ok_or_else(|| SqlError::new("28000", "no user name in the startup message"))?;
    let database = parameters.remove("database").unwrap_or_else(|| CATALOG.to_owned());
    if parameters.remove("replication").is_some_and(|v| v != "false" && v != "off" && v != "0") {
        return Err(SqlError::new("0A000", "replication connections are not supported").into());
    }
    let seat = door.seat().ok_or_else(|| {
        SqlError::new(
            "53300",
            format!("the door has its {} connections already", door.options.max_connections),
        )
        .hint("close connections that are not used, or connect to another node")
    })?;
    let principal = authenticate(door, wire, &user).await?;
    if database != CATALOG {
        let e = SqlError::new("3D000", format!("database \"{}\" does not exist", database.escape_debug()));
        return Err(e.hint(format!("the database is called {CATALOG}")).into());
    }
    let superuser = principal.roles.contains(&Role::Admin);
    let principal = Arc::new(principal);
    let session = door.lake.session(Arc::clone(&principal), &door.template).map_err(SqlError::from)?;
    let mut settings = Settings::new(&user, superuser);
    if let Some(limit) = door.options.statement_timeout {
        settings.set_initial("statement_timeout", &limit.as_millis().to_string())?;
    }
    for (name, value) in command_line(parameters.remove("options").as_deref().unwrap_or_default())? {
        settings.set_initial(&name, &value)?;
    }
    for (name, value) in parameters.iter().filter(|(name, _)| !name.starts_with("_pq_.")) {
        settings.set_initial(name, value)?;
    }
    let entry = door.cancels.enter(door.host.random.as_ref());
    let settings = Arc::new(Mutex::new(settings));
    catalog::personal(&session, &user, entry.pid, &settings);
    wire.put(&Authentication::Ok)?;
    for (name, value) in settings.lock().unwrap_or_else(std::sync::PoisonError::into_inner).reported() {
        wire.put(&ParameterStatus::new(name.to_owned(), value.to_owned()))?;
    }
    wire.put(&BackendKeyData::new(entry.pid, SecretKey::Bytes(Bytes::copy_from_slice(&entry.secret))))?;
    wire.put(&ReadyForQuery::new(TransactionStatus::Idle))?;
    wire.flush().await?;
    Ok(Connection::new(Arc::clone(door), user, session, settings, entry, seat))
}

/// SCRAM-SHA-256. Whoever fails learns only that he failed: the answers for a wrong password
/// and for an unknown user are the same, and so is the work.
async fn authenticate(door: &Arc<Door>, wire: &mut Wire, user: &str) -> Result<Principal, NoSession> {
    wire.put(&Authentication::SASL(vec![MECHANISM.to_owned()]))?;
    wire.flush().await?;
    let initial = password(wire).await?;
    let message = scram::initial(&initial).map_err(|e| SqlError::new("08P01", e.to_string()))?;
    let found = door.logins.scram(user).await.map_err(|e| {
        tracing::warn!(error = %e, "sql login could not be checked");
        let code = if e.is_retryable() { "57P03" } else { "XX000" };
        SqlError::new(code, format!("the login could not be checked: {e}"))
    })?;
    let (principal, verifier) = match found {
        Some((principal, verifier)) => (Some(principal), verifier),
        None => (None, scram::decoy(&door.decoy_secret, user)),
    };
    let nonce = BASE64.encode(random_array::<18>(door.host.random.as_ref()));
    let begun =
        Exchange::begin(message, verifier, &nonce).map_err(|e| SqlError::new("08P01", e.to_string()))?;
    let (exchange, server_first) = begun;
    wire.put(&Authentication::SASLContinue(server_first.into()))?;
    wire.flush().await?;
    let last = password(wire).await?;
    let proof = exchange.finish(&last).map_err(|e| SqlError::new("08P01", e.to_string()))?;
    match (proof, principal) {
        (Some(server_final), Some(principal)) => {
            wire.put(&Authentication::SASLFinal(server_final.into()))?;
            Ok(principal)
        }
        _ => {
            let text = format!("password authentication failed for user \"{}\"", user.escape_debug());
            Err(SqlError::new("28P01", text).into())
        }
    }
}

async fn password(wire: &mut Wire) -> Result<Bytes, NoSession> {
    match wire.next().await? {
        Frontend::Password(body) => Ok(body),
        Frontend::Terminate => Err(NoSession::Gone),
        _ => Err(SqlError::new("08P01", "a SASL message is expected").into()),
    }
}

/// `options` of the startup message: `-c name=value` and `--name=value`, `\` before a blank.
fn command_line(text: &str) -> Result<Vec<(String, String)>, SqlError> {
    let mut words = vec![String::new()];
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        let last = words.len() - 1;
        match c {
            '\\' => words[last].extend(chars.next()),
            c if c.is_whitespace() => words.push(String::new()),
            c => words[last].push(c),
        }
    }
    let mut out = Vec::new();
    let mut words = words.into_iter().filter(|w| !w.is_empty());
    while let Some(word) = words.next() {
        let pair = match (word.strip_prefix("--"), word.strip_prefix("-c")) {
            (Some(pair), _) => pair.replace('-', "_"),
            (None, Some("")) => words.next().unwrap_or_default(),
            (None, Some(pair)) => pair.to_owned(),
            (None, None) => return Err(SqlError::new("42601", "options are -c name=value or --name=value")),
        };
        let (name, value) =
            pair.split_once('=').ok_or_else(|| SqlError::new("42601", "-c needs name=value"))?;
        out.push((name.to_owned(), value.to_owned()));
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_of_the_startup_message_are_read() {
        let read = |text: &str| command_line(text).expect(text);
        let pair = |n: &str, v: &str| (n.to_owned(), v.to_owned());
        assert_eq!(read(""), vec![]);
        assert_eq!(
            read("-c statement_timeout=5s -cjit=off"),
            [pair("statement_timeout", "5s"), pair("jit", "off")]
        );
        assert_eq!(read(r"-c search_path=a,\ b"), [pair("search_path", "a, b")]);
        assert_eq!(read("--statement-timeout=1"), [pair("statement_timeout", "1")]);
        assert!(command_line("-x").is_err());
        assert!(command_line("-c").is_err());
    }
}
