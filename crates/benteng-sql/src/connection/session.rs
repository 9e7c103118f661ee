//! Statements that touch the session only: transactions, settings, cursors.

use std::sync::{Arc, PoisonError};

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field, Schema};
use pgwire::messages::startup::ParameterStatus;

use super::{Block, Connection, Failure, Sent, Watch, bound, complete, tag};
use crate::catalog::texts;
use crate::error::SqlError;
use crate::output::{Output, Shown};
use crate::portal::{Portal, Prepared, State};
use crate::settings::Settings;
use crate::statement::{Count, Discard, Headings, Query, Statement};
use crate::wire::Wire;

/// Savepoints of one block.
const SAVEPOINTS_MAX: usize = 256;

impl Connection {
    /// Runs a statement that gives no rows, and puts its tag.
    pub(super) async fn touch(
        &mut self,
        wire: &mut Wire,
        statement: Statement,
        watch: Watch,
    ) -> Result<(), Failure> {
        let tag = match statement {
            Statement::Begin(tag) => {
                // In an open block PostgreSQL warns and goes on; so do we, without the warning.
                if self.block == Block::None {
                    self.block = Block::Open;
                    let now = self.lock(|settings| settings.clone());
                    self.block_settings = Some((now.clone(), now));
                }
                tag
            }
            Statement::Commit => self.end_block(wire, true)?,
            Statement::Rollback => self.end_block(wire, false)?,
            Statement::Savepoint(name) => {
                self.in_block("SAVEPOINT")?;
                if self.savepoints.len() >= SAVEPOINTS_MAX {
                    return Err(SqlError::new(
                        "53400",
                        format!("a block has at most {SAVEPOINTS_MAX} savepoints"),
                    )
                    .into());
                }
                self.savepoints.push(name);
                "SAVEPOINT"
            }
            Statement::Release(name) => {
                self.in_block("RELEASE SAVEPOINT")?;
                let at = self.savepoint(&name)?;
                self.savepoints.truncate(at);
                "RELEASE"
            }
            Statement::RollbackTo(name) => {
                self.in_block("ROLLBACK TO SAVEPOINT")?;
                let at = self.savepoint(&name)?;
                self.savepoints.truncate(at + 1);
                self.block = Block::Open;
                "ROLLBACK"
            }
            Statement::Set { name, value, local } => {
                self.set(wire, local, |settings| settings.set(&name, value.as_deref()))?;
                "SET"
            }
            Statement::SetTransaction => "SET",
            Statement::Reset(Some(name)) => {
                self.set(wire, false, |settings| settings.set(&name, None))?;
                "RESET"
            }
            Statement::Reset(None) => {
                self.set(wire, false, |settings| {
                    settings.reset_all();
                    Ok(())
                })?;
                "RESET"
            }
            Statement::Discard(Discard::All) => {
                if self.block != Block::None {
                    let why = "DISCARD ALL cannot run inside a transaction block";
                    return Err(SqlError::new("25001", why).into());
                }
                self.names = Default::default();
                self.set(wire, false, |settings| {
                    settings.reset_all();
                    Ok(())
                })?;
                "DISCARD ALL"
            }
            Statement::Discard(Discard::Nothing) => "DISCARD",
            Statement::Deallocate(None) => {
                self.names.statements.clear();
                "DEALLOCATE ALL"
            }
            Statement::Deallocate(Some(name)) => {
                self.names.statement(&name)?;
                self.names.statements.remove(&name);
                "DEALLOCATE"
            }
            Statement::Declare { name, hold, query } => {
                self.declare(wire, name, hold, query, watch).await?;
                "DECLARE CURSOR"
            }
            Statement::Close(None) => {
                self.names.portals.clear();
                "CLOSE CURSOR ALL"
            }
            Statement::Close(Some(name)) => {
                if self.names.portals.remove(&name).is_none() {
                    return Err(no_cursor(&name).into());
                }
                "CLOSE CURSOR"
            }
            Statement::Unlisten => "UNLISTEN",
            // Rows: whoever calls has sent them elsewhere.
            Statement::Empty | Statement::Query(_) | Statement::Show(_) | Statement::Fetch { .. } => {
                return Err(SqlError::new("XX000", "a statement with rows came where none belongs").into());
            }
        };
        complete(wire, tag)
    }

    fn lock<T>(&self, with: impl FnOnce(&mut Settings) -> T) -> T {
        with(&mut self.settings.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Changes settings, for the block or beyond it, and tells the client what changed.
    fn set(
        &mut self,
        wire: &mut Wire,
        local: bool,
        change: impl Fn(&mut Settings) -> Result<(), SqlError>,
    ) -> Result<(), Failure> {
        if local && self.block == Block::None {
            // PostgreSQL warns that it has no effect.
            return Ok(());
        }
        let before = self.lock(|settings| settings.clone());
        self.lock(&change)?;
        if let Some((_, after_commit)) = &mut self.block_settings
            && !local
        {
            change(after_commit)?;
        }
        self.settled(wire, &before)
    }

    fn settled(&mut self, wire: &mut Wire, before: &Settings) -> Result<(), Failure> {
        let now = self.lock(|settings| settings.clone());
        if now == *before {
            return Ok(());
        }
        self.apply_settings();
        for ((name, value), (_, old)) in now.reported().zip(before.reported()) {
            if value != old {
                wire.put(&ParameterStatus::new(name.to_owned(), value.to_owned()))?;
            }
        }
        Ok(())
    }

    fn end_block(&mut self, wire: &mut Wire, commit: bool) -> Result<&'static str, Failure> {
        // COMMIT of a failed block is a ROLLBACK, and says so.
        let commit = commit && self.block != Block::Failed;
        self.block = Block::None;
        self.savepoints.clear();
        self.names.end_transaction();
        if let Some((rolled_back, committed)) = self.block_settings.take() {
            let before = self.lock(|settings| settings.clone());
            self.lock(|settings| *settings = if commit { committed } else { rolled_back });
            self.settled(wire, &before)?;
        }
        Ok(if commit { "COMMIT" } else { "ROLLBACK" })
    }

    fn in_block(&self, what: &str) -> Result<(), SqlError> {
        if self.block == Block::None {
            return Err(SqlError::new("25P01", format!("{what} can only be used in transaction blocks")));
        }
        Ok(())
    }

    fn savepoint(&self, name: &str) -> Result<usize, SqlError> {
        let found = self.savepoints.iter().rposition(|savepoint| savepoint == name);
        found.ok_or_else(|| SqlError::new("3B001", format!("savepoint \"{name}\" does not exist")))
    }

    /// The rows of SHOW.
    pub(super) fn show(&self, name: Option<&str>) -> Result<Output, SqlError> {
        let (names, values): (Vec<String>, Vec<String>) = match name {
            None => {
                let all = self.lock(|settings| {
                    settings.all().map(|(n, v)| (n.to_owned(), v.to_owned())).collect::<Vec<_>>()
                });
                all.into_iter().unzip()
            }
            Some(name) => (Vec::new(), vec![self.lock(|settings| settings.get(name).map(str::to_owned))?]),
        };
        let field = |name: &str| Field::new(name, DataType::Utf8, false);
        let (fields, columns) = match name {
            None => (vec![field("name"), field("setting")], vec![texts(names), texts(values)]),
            Some(name) => (vec![field(name)], vec![texts(values)]),
        };
        let schema = Arc::new(Schema::new(fields));
        let shown = Shown::new(&schema, &Headings::default(), "UTC", &[])?;
        let batch =
            RecordBatch::try_new(schema, columns).map_err(|e| SqlError::new("XX000", e.to_string()))?;
        Ok(Output::given(batch, shown))
    }

    async fn declare(
        &mut self,
        wire: &mut Wire,
        name: String,
        hold: bool,
        query: Query,
        watch: Watch,
    ) -> Result<(), Failure> {
        if !hold {
            self.in_block("DECLARE CURSOR")?;
        }
        if self.names.portals.contains_key(&name) {
            return Err(SqlError::new("42P03", format!("cursor \"{name}\" already exists")).into());
        }
        let (output, _) = self.query(wire, &query, watch).await?;
        let prepared = Prepared { statement: Statement::Query(query), hints: Vec::new(), shape: None };
        self.names.add_portal(name, Portal::cursor(Arc::new(prepared), output, hold))?;
        Ok(())
    }

    /// How a cursor's rows are sent. Errors: 34000.
    pub(super) fn cursor_shown(&self, name: &str) -> Result<Shown, SqlError> {
        match self.names.portals.get(name).map(|portal| &portal.state) {
            Some(State::Running(output)) => Ok(output.shown.clone()),
            _ => Err(no_cursor(name)),
        }
    }

    /// FETCH and MOVE: rows and tag.
    pub(super) async fn fetch(
        &mut self,
        wire: &mut Wire,
        name: &str,
        count: Count,
        moving: bool,
        mut watch: Watch,
    ) -> Result<(), Failure> {
        // Out of the table while it runs; an error leaves it out: the query is over then.
        let mut portal = self.names.portals.remove(name).ok_or_else(|| no_cursor(name))?;
        let State::Running(output) = &mut portal.state else { return Err(no_cursor(name).into()) };
        let what = if moving { "MOVE" } else { "FETCH" };
        let sent: Sent = if moving {
            self.pass(wire, output, bound(count), &mut watch).await?
        } else {
            self.send(wire, output, bound(count), &mut watch).await?
        };
        self.names.portals.insert(name.to_owned(), portal);
        complete(wire, &tag(what, sent))
    }
}

fn no_cursor(name: &str) -> SqlError {
    SqlError::new("34000", format!("cursor \"{}\" does not exist", name.escape_debug()))
}
