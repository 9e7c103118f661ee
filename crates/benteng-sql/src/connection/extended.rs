//! The extended protocol: Parse, Bind, Describe, Execute, Close.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema};
use pgwire::messages::data::{NoData, ParameterDescription};
use pgwire::messages::extendedquery::{BindComplete, CloseComplete, ParseComplete, PortalSuspended};
use pgwire::messages::response::EmptyQueryResponse;
use tokio::sync::watch;

use super::{Connection, Failure, Sent, Watch, complete, tag};
use crate::error::SqlError;
use crate::output::{Output, Shown};
use crate::portal::{self, Portal, Prepared, State};
use crate::statement::{self, Headings, Query, Statement};
use crate::wire::{Bind, Frontend, Target, Wire};

impl Connection {
    pub(super) async fn extended(
        &mut self,
        wire: &mut Wire,
        message: Frontend,
        stopping: &watch::Receiver<bool>,
    ) -> Result<(), Failure> {
        match message {
            Frontend::Parse { name, sql, types } => {
                let watch = self.watch(stopping);
                self.parse(wire, name, sql, types, watch).await
            }
            Frontend::Bind(bind) => self.bind(wire, bind),
            Frontend::Describe(Target::Statement(name)) => self.describe_statement(wire, &name),
            Frontend::Describe(Target::Portal(name)) => self.describe_portal(wire, &name),
            Frontend::Close(target) => {
                match target {
                    Target::Statement(name) => drop(self.names.statements.remove(&name)),
                    Target::Portal(name) => drop(self.names.portals.remove(&name)),
                }
                Ok(wire.put(&CloseComplete::new())?)
            }
            Frontend::Execute { portal, rows } => {
                let watch = self.watch(stopping);
                self.execute(wire, &portal, (rows > 0).then_some(rows), watch).await
            }
            _ => Err(SqlError::fatal("08P01", "unexpected message").into()),
        }
    }

    async fn parse(
        &mut self,
        wire: &mut Wire,
        name: String,
        sql: String,
        hints: Vec<u32>,
        mut watch: Watch,
    ) -> Result<(), Failure> {
        if name.is_empty() {
            self.names.statements.remove("");
        }
        let parser = Arc::clone(&self.door.parser);
        let read = self.door.lake.runtime().run(async move { statement::read_one(&parser, &sql) });
        let statement = watch.over(wire, read).await???;
        self.may_run(&statement)?;
        let mut hints = hints;
        let shape = match &statement {
            Statement::Query(query) => {
                hints.resize(hints.len().max(query.casts.len()), 0);
                for (hint, cast) in hints.iter_mut().zip(&query.casts) {
                    // 705: the client says that it does not know.
                    if matches!(*hint, 0 | 705) {
                        *hint = *cast;
                    }
                }
                let (parser, sql, hints) = (Arc::clone(&self.door.parser), query.sql.clone(), hints.clone());
                let describe = self.session.describe(move || statement::parse(&parser, &sql, &hints));
                Some(watch.over(wire, describe).await??)
            }
            _ => None,
        };
        self.names.add_statement(name, Prepared { statement, hints, shape })?;
        Ok(wire.put(&ParseComplete::new())?)
    }

    fn bind(&mut self, wire: &mut Wire, bind: Bind) -> Result<(), Failure> {
        let prepared = self.names.statement(&bind.statement)?;
        self.may_run(&prepared.statement)?;
        portal::check_bind(&bind, &prepared)?;
        if bind.portal.is_empty() {
            self.names.portals.remove("");
        }
        self.names.add_portal(bind.portal.clone(), Portal::new(prepared, bind))?;
        Ok(wire.put(&BindComplete::new())?)
    }

    fn describe_statement(&mut self, wire: &mut Wire, name: &str) -> Result<(), Failure> {
        let prepared = self.names.statement(name)?;
        let oids = prepared.parameters()?.iter().map(|kind| kind.oid()).collect();
        wire.put(&ParameterDescription::new(oids))?;
        self.describe(wire, &prepared, &[])
    }

    fn describe_portal(&mut self, wire: &mut Wire, name: &str) -> Result<(), Failure> {
        let portal = self.names.portals.get(name).ok_or_else(|| no_portal(name))?;
        if let State::Running(output) = &portal.state {
            return Ok(wire.put(&output.shown.description())?);
        }
        let (prepared, formats) = (Arc::clone(&portal.prepared), portal.formats.clone());
        self.describe(wire, &prepared, &formats)
    }

    fn describe(&self, wire: &mut Wire, prepared: &Prepared, formats: &[i16]) -> Result<(), Failure> {
        match self.shown(prepared, formats)? {
            Some(shown) => Ok(wire.put(&shown.description())?),
            None => Ok(wire.put(&NoData::new())?),
        }
    }

    /// The columns that a statement gives; `None`: no rows.
    fn shown(&self, prepared: &Prepared, formats: &[i16]) -> Result<Option<Shown>, SqlError> {
        let text = |name: &str| Field::new(name, DataType::Utf8, false);
        let (schema, headings) = match (&prepared.statement, &prepared.shape) {
            (Statement::Query(query), Some(shape)) => (Arc::clone(&shape.schema), &query.headings),
            (Statement::Show(None), _) => {
                (Arc::new(Schema::new(vec![text("name"), text("setting")])), &Headings::default())
            }
            (Statement::Show(Some(name)), _) => {
                (Arc::new(Schema::new(vec![text(name)])), &Headings::default())
            }
            (Statement::Fetch { name, moving: false, .. }, _) => return self.cursor_shown(name).map(Some),
            _ => return Ok(None),
        };
        Shown::new(&schema, headings, &self.time_zone(), formats).map(Some)
    }

    async fn execute(
        &mut self,
        wire: &mut Wire,
        name: &str,
        limit: Option<usize>,
        mut watch: Watch,
    ) -> Result<(), Failure> {
        // Out of the table while it runs; an error leaves it out: the portal is over then.
        let mut portal = self.names.portals.remove(name).ok_or_else(|| no_portal(name))?;
        let prepared = Arc::clone(&portal.prepared);
        self.may_run(&prepared.statement)?;
        let what = match &prepared.statement {
            Statement::Empty => {
                self.names.portals.insert(name.to_owned(), portal);
                return Ok(wire.put(&EmptyQueryResponse::new())?);
            }
            Statement::Query(query) => {
                if matches!(portal.state, State::Bound) {
                    let output = self.start(wire, query, &portal, &mut watch).await?;
                    portal.state = State::Running(Box::new(output));
                }
                query.tag
            }
            Statement::Show(setting) => {
                if matches!(portal.state, State::Bound) {
                    portal.state = State::Running(Box::new(self.show(setting.as_deref())?));
                }
                "SHOW"
            }
            Statement::Fetch { name: cursor, count, moving } => {
                return self.fetch(wire, cursor, *count, *moving, watch).await;
            }
            other => {
                let statement = other.clone();
                self.touch(wire, statement, watch).await?;
                portal.state = State::Done;
                // The end of a transaction ends its portals, this one included.
                return Ok(());
            }
        };
        let sent = match &mut portal.state {
            State::Running(output) => self.send(wire, output, limit, &mut watch).await?,
            State::Bound | State::Done => Sent::All(0),
        };
        match sent {
            Sent::Some(_) => wire.put(&PortalSuspended::new())?,
            Sent::All(_) => {
                portal.state = State::Done;
                complete(wire, &tag(what, sent))?;
            }
        }
        self.names.portals.insert(name.to_owned(), portal);
        Ok(())
    }

    /// Runs the query of a portal.
    async fn start(
        &self,
        wire: &mut Wire,
        query: &Query,
        portal: &Portal,
        watch: &mut Watch,
    ) -> Result<Output, Failure> {
        let prepared = &portal.prepared;
        let (parser, sql, hints) = (Arc::clone(&self.door.parser), query.sql.clone(), prepared.hints.clone());
        let (bind, types) = (portal.bind.clone(), prepared.parameters()?);
        let run = self.session.execute(
            move || statement::parse(&parser, &sql, &hints),
            move |told| match bind {
                Some(bind) => portal::values(&bind, &types, told),
                None => portal::no_values(told),
            },
        );
        let rows = watch.over(wire, run).await??;
        let shown = Shown::new(rows.schema(), &query.headings, &self.time_zone(), &portal.formats)?;
        // The client may have been told the columns at Parse; the files may be others by now.
        if let Some(described) = self.shown(prepared, &portal.formats)?
            && !described.same_types(&shown)
        {
            return Err(SqlError::new("0A000", "the columns have changed since the statement was prepared")
                .hint("prepare it again")
                .into());
        }
        Ok(Output::running(rows, shown))
    }
}

fn no_portal(name: &str) -> SqlError {
    SqlError::new("34000", format!("portal \"{}\" does not exist", name.escape_debug()))
}
