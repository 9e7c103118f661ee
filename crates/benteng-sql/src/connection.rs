//! One client: messages in, answers out, until it goes. Rows are sent as they come, at the
//! client's pace (I7); while they do, the connection listens for a cancel request, the
//! statement's time, the door's end and the client's.

mod extended; // Parse, Bind, Describe, Execute, Close
mod session; // statements that touch the session only

use std::panic::AssertUnwindSafe;
use std::sync::{Arc, PoisonError};

use benteng_host::{Clock, Mono, sleep};
use benteng_lake::LakeSession;
use futures::FutureExt;
use futures::future::BoxFuture;
use pgwire::messages::response::{CommandComplete, EmptyQueryResponse, ReadyForQuery, TransactionStatus};
use tokio::sync::watch;

use crate::cancel::{self, Entry};
use crate::catalog::SharedSettings;
use crate::door::{Door, Seat, told_to_stop};
use crate::error::SqlError;
use crate::output::{Output, Shown};
use crate::portal::{self, Names};
use crate::settings::Settings;
use crate::statement::{self, Count, Query, Statement};
use crate::wire::{Frontend, Wire, WireError};

/// Where the client is in a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Block {
    None,
    Open,
    Failed,
}

/// Why a statement or message did not come to its end.
#[derive(Debug)]
enum Failure {
    /// The client is told; the connection goes on, unless the error is fatal.
    Told(SqlError),
    /// The connection is over.
    Gone(WireError),
}

impl From<SqlError> for Failure {
    fn from(e: SqlError) -> Failure {
        Failure::Told(e)
    }
}

impl From<benteng_lake::Error> for Failure {
    fn from(e: benteng_lake::Error) -> Failure {
        Failure::Told(e.into())
    }
}

impl From<WireError> for Failure {
    fn from(e: WireError) -> Failure {
        match e {
            // The client broke the protocol: it is told, and the connection ends.
            WireError::Garbage(_) | WireError::TooLong { .. } => {
                Failure::Told(SqlError::fatal("08P01", e.to_string()))
            }
            // An answer that PostgreSQL's messages cannot hold.
            WireError::Answer(_) => Failure::Told(SqlError::new("54000", e.to_string())),
            WireError::Io(_) | WireError::Closed => Failure::Gone(e),
        }
    }
}

/// How the sending of rows ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sent {
    /// That was all.
    All(usize),
    /// As many as were asked for; more may follow.
    Some(usize),
}

/// One client after its login.
pub(crate) struct Connection {
    door: Arc<Door>,
    user: String,
    session: LakeSession,
    settings: SharedSettings,
    /// Settings to come after ROLLBACK and after COMMIT, while a block is open.
    block_settings: Option<(Settings, Settings)>,
    block: Block,
    savepoints: Vec<String>,
    names: Names,
    /// An error in the extended protocol: messages are passed over until Sync.
    skipping: bool,
    entry: Entry,
    _seat: Seat,
    wire: Option<Wire>,
}

impl Connection {
    pub(crate) fn new(
        door: Arc<Door>,
        user: String,
        session: LakeSession,
        settings: SharedSettings,
        entry: Entry,
        seat: Seat,
    ) -> Connection {
        let connection = Connection {
            door,
            user,
            session,
            settings,
            block_settings: None,
            block: Block::None,
            savepoints: Vec::new(),
            names: Names::default(),
            skipping: false,
            entry,
            _seat: seat,
            wire: None,
        };
        connection.apply_settings();
        connection
    }

    /// Hands the socket over; from here on messages may be as long as `limit`.
    pub(crate) fn take_wire(&mut self, mut wire: Wire, limit: usize) {
        wire.set_limit(limit);
        self.wire = Some(wire);
    }

    pub(crate) fn user(&self) -> &str {
        &self.user
    }

    /// Answers messages until the client goes or the door stops.
    pub(crate) async fn run(mut self, mut stopping: watch::Receiver<bool>) {
        let Some(mut wire) = self.wire.take() else { return };
        let end = loop {
            let message = tokio::select! {
                biased;
                () = told_to_stop(&mut stopping) => break Some(stopped()),
                message = wire.next() => message,
            };
            let message = match message.map_err(Failure::from) {
                Ok(Frontend::Terminate) | Err(Failure::Gone(_)) => break None,
                Ok(message) => message,
                Err(Failure::Told(e)) => break Some(e),
            };
            // A panic, most likely of a library on unusual data, ends this connection only.
            let handled = AssertUnwindSafe(self.message(&mut wire, message, &stopping)).catch_unwind().await;
            match handled {
                Ok(Ok(())) => {}
                Ok(Err(Failure::Told(e))) => break Some(e.ending()),
                Ok(Err(Failure::Gone(e))) => {
                    tracing::debug!(error = %e, "sql client went while a statement ran");
                    break None;
                }
                Err(_) => {
                    metrics::counter!("benteng_sql_panics_total").increment(1);
                    break Some(SqlError::fatal("XX000", "internal error; the node's log says where"));
                }
            }
        };
        if let Some(error) = end
            && wire.put(&error.response()).is_ok()
        {
            wire.close().await;
        }
        tracing::info!(principal = self.user, "sql session closed");
    }

    /// Answers one message. An `Err` ends the connection.
    async fn message(
        &mut self,
        wire: &mut Wire,
        message: Frontend,
        stopping: &watch::Receiver<bool>,
    ) -> Result<(), Failure> {
        if self.skipping && !matches!(message, Frontend::Sync) {
            return Ok(());
        }
        match message {
            Frontend::Query(text) => {
                if let Err(failure) = self.simple(wire, &text, stopping).await {
                    self.fail(wire, failure)?;
                }
                self.ready(wire).await
            }
            Frontend::Sync => {
                self.skipping = false;
                if self.block == Block::None {
                    self.names.end_transaction();
                }
                self.ready(wire).await
            }
            Frontend::Flush => Ok(wire.flush().await?),
            Frontend::FunctionCall => {
                self.fail(
                    wire,
                    SqlError::new("0A000", "function calls are not supported; use SELECT").into(),
                )?;
                self.ready(wire).await
            }
            // COPY data behind a COPY that was refused: passed over, as PostgreSQL does.
            Frontend::Copy => Ok(()),
            Frontend::Password(_) => Err(SqlError::fatal("08P01", "a password was not asked for").into()),
            Frontend::Terminate => Ok(()),
            extended => match self.extended(wire, extended, stopping).await {
                Ok(()) => Ok(()),
                Err(failure) => {
                    self.skipping = true;
                    self.fail(wire, failure)
                }
            },
        }
    }

    /// Tells the client of a failure and marks the transaction.
    fn fail(&mut self, wire: &mut Wire, failure: Failure) -> Result<(), Failure> {
        let Failure::Told(error) = failure else { return Err(failure) };
        if error.fatal {
            return Err(error.into());
        }
        metrics::counter!("benteng_sql_errors_total", "sqlstate" => error.code).increment(1);
        tracing::debug!(sqlstate = error.code, principal = self.user, "sql statement failed");
        if self.block == Block::Open {
            self.block = Block::Failed;
        }
        Ok(wire.put(&error.response())?)
    }

    async fn ready(&mut self, wire: &mut Wire) -> Result<(), Failure> {
        let status = match self.block {
            Block::None => TransactionStatus::Idle,
            Block::Open => TransactionStatus::Transaction,
            Block::Failed => TransactionStatus::Error,
        };
        wire.put(&ReadyForQuery::new(status))?;
        Ok(wire.flush().await?)
    }

    /// The simple protocol: every statement of the text, until one fails.
    async fn simple(
        &mut self,
        wire: &mut Wire,
        text: &str,
        stopping: &watch::Receiver<bool>,
    ) -> Result<(), Failure> {
        let parser = Arc::clone(&self.door.parser);
        let text = text.to_owned();
        let read = self.door.lake.runtime().run(async move { statement::read_all(&parser, &text) });
        let statements = read.await??;
        if statements.is_empty() {
            return Ok(wire.put(&EmptyQueryResponse::new())?);
        }
        for statement in statements {
            self.may_run(&statement)?;
            let watch = self.watch(stopping);
            match statement {
                Statement::Query(query) => {
                    let mut output = self.query(wire, &query, watch).await?;
                    let watch = &mut output.1;
                    wire.put(&output.0.shown.description())?;
                    let sent = self.send(wire, &mut output.0, None, watch).await?;
                    complete(wire, &tag(query.tag, sent))?;
                }
                Statement::Fetch { name, count, moving } => {
                    let shown = self.cursor_shown(&name)?;
                    if !moving {
                        wire.put(&shown.description())?;
                    }
                    self.fetch(wire, &name, count, moving, watch).await?;
                }
                Statement::Show(name) => {
                    let mut output = self.show(name.as_deref())?;
                    wire.put(&output.shown.description())?;
                    let mut watch = watch;
                    self.send(wire, &mut output, None, &mut watch).await?;
                    complete(wire, "SHOW")?;
                }
                other => self.touch(wire, other, watch).await?,
            }
        }
        if self.block == Block::None {
            self.names.end_transaction();
        }
        Ok(())
    }

    /// In a failed block only its end may run. Errors: 25P02.
    fn may_run(&self, statement: &Statement) -> Result<(), SqlError> {
        if self.block == Block::Failed && !statement.ends_failure() {
            return Err(SqlError::new(
                "25P02",
                "current transaction is aborted, commands ignored until end of transaction block",
            ));
        }
        Ok(())
    }

    /// Starts a query of the simple protocol.
    async fn query(
        &self,
        wire: &mut Wire,
        query: &Query,
        mut watch: Watch,
    ) -> Result<(Output, Watch), Failure> {
        let (parser, sql) = (Arc::clone(&self.door.parser), query.sql.clone());
        let run = self.session.execute(move || statement::parse(&parser, &sql, &[]), portal::no_values);
        let rows = watch.over(wire, run).await??;
        let shown = Shown::new(rows.schema(), &query.headings, &self.time_zone(), &[])?;
        Ok((Output::running(rows, shown), watch))
    }

    /// Sends rows, `limit` at most; puts no tag.
    async fn send(
        &self,
        wire: &mut Wire,
        output: &mut Output,
        limit: Option<usize>,
        watch: &mut Watch,
    ) -> Result<Sent, Failure> {
        let mut sent = 0;
        loop {
            while limit.is_none_or(|limit| sent < limit) {
                let Some(row) = output.row() else { break };
                wire.put(&row?)?;
                sent += 1;
                if wire.is_full() {
                    watch.flush(wire).await?;
                }
            }
            if limit.is_some_and(|limit| sent >= limit) {
                return Ok(Sent::Some(sent));
            }
            if !watch.over(wire, output.more()).await?? {
                return Ok(Sent::All(sent));
            }
        }
    }

    /// Passes rows over without sending them, for MOVE.
    async fn pass(
        &self,
        wire: &mut Wire,
        output: &mut Output,
        limit: Option<usize>,
        watch: &mut Watch,
    ) -> Result<Sent, Failure> {
        let mut passed = 0;
        loop {
            while limit.is_none_or(|limit| passed < limit) {
                let Some(row) = output.row() else { break };
                row?;
                passed += 1;
            }
            if limit.is_some_and(|limit| passed >= limit) {
                return Ok(Sent::Some(passed));
            }
            if !watch.over(wire, output.more()).await?? {
                return Ok(Sent::All(passed));
            }
        }
    }

    /// What may end a statement that begins now.
    fn watch(&self, stopping: &watch::Receiver<bool>) -> Watch {
        let limit = self.settings.lock().unwrap_or_else(PoisonError::into_inner).statement_timeout();
        Watch {
            statement: self.entry.running.begin(),
            time: limit.map(|limit| sleep(self.door.host.clock.as_ref(), limit)),
            stopping: stopping.clone(),
            begun: self.door.host.clock.now(),
            clock: Arc::clone(&self.door.host.clock),
        }
    }

    fn time_zone(&self) -> String {
        self.settings.lock().unwrap_or_else(PoisonError::into_inner).time_zone().to_owned()
    }

    /// Lets the lake read SQL as the settings say.
    fn apply_settings(&self) {
        let (zone, schema) = {
            let settings = self.settings.lock().unwrap_or_else(PoisonError::into_inner);
            (settings.time_zone().to_owned(), settings.schema())
        };
        self.session.configure(|options| {
            options.execution.time_zone = Some(zone);
            options.catalog.default_schema = schema;
        });
    }
}

fn stopped() -> SqlError {
    SqlError::fatal("57P01", "terminating connection: the node is stopping").hint("connect to another node")
}

fn complete(wire: &mut Wire, tag: &str) -> Result<(), Failure> {
    Ok(wire.put(&CommandComplete::new(tag.to_owned()))?)
}

fn tag(what: &str, sent: Sent) -> String {
    let (Sent::All(rows) | Sent::Some(rows)) = sent;
    match what {
        // PostgreSQL counts the rows of these only.
        "SELECT" | "FETCH" | "MOVE" => format!("{what} {rows}"),
        other => other.to_owned(),
    }
}

/// What may end a running statement before its time.
struct Watch {
    statement: cancel::Statement,
    time: Option<BoxFuture<'static, ()>>,
    stopping: watch::Receiver<bool>,
    begun: Mono,
    clock: Arc<dyn Clock>,
}

impl Watch {
    /// Waits for whatever ends the statement.
    async fn ended(&mut self) -> SqlError {
        let time = async {
            match &mut self.time {
                Some(time) => time.await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = self.statement.cancelled() => SqlError::new("57014", "canceling statement due to user request"),
            () = time => SqlError::new("57014", "canceling statement due to statement timeout"),
            () = told_to_stop(&mut self.stopping) => stopped(),
        }
    }

    /// Does `work` unless the statement is ended first, or the client goes.
    async fn over<T>(&mut self, wire: &mut Wire, work: impl Future<Output = T>) -> Result<T, Failure> {
        tokio::select! {
            biased;
            why = self.ended() => Err(why.into()),
            done = work => Ok(done),
            gone = wire.gone() => Err(Failure::Gone(gone)),
        }
    }

    /// Sends what waits; the statement may be ended meanwhile, for the client may not read.
    async fn flush(&mut self, wire: &mut Wire) -> Result<(), Failure> {
        tokio::select! {
            biased;
            why = self.ended() => Err(why.into()),
            sent = wire.flush() => Ok(sent?),
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        metrics::histogram!("benteng_sql_statement_seconds")
            .record(self.clock.now().since(self.begun).as_secs_f64());
    }
}

/// Rows asked for, as a bound.
fn bound(count: Count) -> Option<usize> {
    match count {
        Count::All => None,
        Count::Rows(rows) => Some(rows),
    }
}
