//! Statements and portals of a connection: what Parse, Bind and DECLARE leave behind.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::datatypes::DataType;
use arrow_pg::datatypes::df::deserialize_parameters_with_server_types;
use arrow_pg::datatypes::into_pg_type;
use benteng_lake::{Error as LakeError, Shape};
use datafusion::common::ParamValues;
use datafusion::error::DataFusionError;
use datafusion::scalar::ScalarValue;
use pgwire::api::Type;
use pgwire::api::portal::Portal as TheirPortal;
use pgwire::api::stmt::StoredStatement;
use pgwire::error::PgWireError;
use pgwire::messages::extendedquery::Bind as TheirBind;

use crate::binary;
use crate::error::SqlError;
use crate::output::Output;
use crate::statement::Statement;
use crate::wire::Bind;

/// Prepared statements of a connection, and portals.
const STATEMENTS_MAX: usize = 4096;
const PORTALS_MAX: usize = 256;

/// A statement that Parse left.
#[derive(Debug)]
pub(crate) struct Prepared {
    pub(crate) statement: Statement,
    /// Types that the client gave its parameters; 0: none.
    pub(crate) hints: Vec<u32>,
    /// Of a query: what it takes and gives.
    pub(crate) shape: Option<Shape>,
}

impl Prepared {
    /// Types of the parameters as the client is told: its own word, else the statement's,
    /// else text.
    pub(crate) fn parameters(&self) -> Result<Vec<Type>, SqlError> {
        let told = self.shape.as_ref().map_or(&[][..], |shape| &shape.parameters);
        let count = told.len().max(self.hints.len());
        let kind = |n: usize| -> Result<Type, SqlError> {
            let hint = self.hints.get(n).and_then(|oid| Type::from_oid(*oid)).filter(|t| *t != Type::UNKNOWN);
            match (hint, told.get(n).and_then(Option::as_ref)) {
                (Some(hint), _) => Ok(hint),
                (None, Some(kind)) => Ok(into_pg_type(kind)?),
                (None, None) => Ok(Type::TEXT),
            }
        };
        (0..count).map(kind).collect()
    }
}

/// A statement with its values, and how far its rows are sent.
pub(crate) struct Portal {
    pub(crate) prepared: Arc<Prepared>,
    pub(crate) bind: Option<Bind>,
    /// Formats of the answer's columns.
    pub(crate) formats: Vec<i16>,
    pub(crate) state: State,
    /// Outlives its transaction block.
    pub(crate) hold: bool,
}

/// How far a portal is.
pub(crate) enum State {
    Bound,
    /// Rows are left, or may be.
    Running(Box<Output>),
    Done,
}

impl Portal {
    pub(crate) fn new(prepared: Arc<Prepared>, bind: Bind) -> Portal {
        let formats = bind.results.clone();
        Portal { prepared, bind: Some(bind), formats, state: State::Bound, hold: false }
    }

    /// A cursor of DECLARE, whose query runs already.
    pub(crate) fn cursor(prepared: Arc<Prepared>, output: Output, hold: bool) -> Portal {
        Portal { prepared, bind: None, formats: Vec::new(), state: State::Running(Box::new(output)), hold }
    }
}

/// Checks the counts of a Bind against its statement. Errors: 08P01.
pub(crate) fn check_bind(bind: &Bind, prepared: &Prepared) -> Result<(), SqlError> {
    let protocol = |why: String| Err(SqlError::new("08P01", why));
    let types = prepared.parameters()?;
    let expected = types.len();
    if bind.values.len() != expected {
        return protocol(format!(
            "bind message supplies {} parameters, but the prepared statement requires {expected}",
            bind.values.len()
        ));
    }
    if bind.formats.len() > 1 && bind.formats.len() != bind.values.len() {
        return protocol(format!(
            "bind message has {} parameter formats but {expected} parameters",
            bind.formats.len()
        ));
    }
    let columns = prepared.shape.as_ref().map(|shape| shape.schema.fields().len());
    if bind.results.len() > 1 && columns.is_some_and(|n| n != bind.results.len()) {
        return protocol(format!(
            "bind message has {} result formats but the query has other columns",
            bind.results.len()
        ));
    }
    if bind.formats.iter().chain(&bind.results).any(|format| !(0..=1).contains(format)) {
        return protocol("a format is neither 0 (text) nor 1 (binary)".into());
    }
    sound(bind, &types)
}

/// Holds values in binary format to what the libraries that read them take on trust. Errors: 22P03, 22003, 0A000.
pub(crate) fn sound(bind: &Bind, types: &[Type]) -> Result<(), SqlError> {
    for (n, (kind, value)) in types.iter().zip(&bind.values).enumerate() {
        let format = bind.formats.get(n).or(bind.formats.first());
        let value = value.as_ref().filter(|_| format == Some(&1));
        if let Some(Err(flaw)) = value.map(|value| binary::check(kind, value)) {
            let text = format!("incorrect binary data format in bind parameter {}", n + 1);
            return Err(SqlError::new(flaw.code, format!("{text} ({}): {}", kind.name(), flaw.why)));
        }
    }
    Ok(())
}

/// The values of a Bind that is [`sound`], in the types that the statement tells. Runs on the query threads.
pub(crate) fn values(
    bind: &Bind,
    types: &[Type],
    told: &[Option<DataType>],
) -> Result<Vec<ScalarValue>, LakeError> {
    let hints = types.iter().cloned().map(Some).collect();
    let statement = Arc::new(StoredStatement::new(String::new(), (), hints));
    let message = TheirBind::new(None, None, bind.formats.clone(), bind.values.clone(), Vec::new());
    let invalid = |e: PgWireError| LakeError::BadArgument(SqlError::from(e).message);
    let portal = TheirPortal::try_new(&message, statement).map_err(invalid)?;
    let told: Vec<Option<&DataType>> =
        (0..types.len()).map(|n| told.get(n).and_then(Option::as_ref)).collect();
    match deserialize_parameters_with_server_types(&portal, &told, &[]).map_err(bad_value)? {
        ParamValues::List(values) if values.len() == types.len() => {
            Ok(values.into_iter().map(|v| v.value).collect())
        }
        ParamValues::List(values) => {
            let why = format!("{} of {} parameters could be read", values.len(), types.len());
            Err(LakeError::BadArgument(why))
        }
        ParamValues::Map(_) => Err(LakeError::BadArgument("parameters are counted, not named".into())),
    }
}

/// A value that is not of its type: the engine's own words for it carry the right code.
fn bad_value(e: PgWireError) -> LakeError {
    let e = SqlError::from(e);
    match e.code {
        "22003" => DataFusionError::Execution(format!("{}: out of range", e.message)).into(),
        "0A000" => DataFusionError::NotImplemented(e.message).into(),
        _ => {
            DataFusionError::ArrowError(Box::new(arrow::error::ArrowError::CastError(e.message)), None).into()
        }
    }
}

/// Values for a statement without parameters. Errors: 42P02.
pub(crate) fn no_values(told: &[Option<DataType>]) -> Result<Vec<ScalarValue>, LakeError> {
    if told.is_empty() {
        return Ok(Vec::new());
    }
    Err(DataFusionError::Plan("there is no parameter $1".into()).into())
}

/// Statements and portals by name; the empty name is the unnamed one.
#[derive(Default)]
pub(crate) struct Names {
    pub(crate) statements: HashMap<String, Arc<Prepared>>,
    pub(crate) portals: HashMap<String, Portal>,
}

impl Names {
    pub(crate) fn statement(&self, name: &str) -> Result<Arc<Prepared>, SqlError> {
        let found = self.statements.get(name).cloned();
        found.ok_or_else(|| SqlError::new("26000", format!("prepared statement \"{name}\" does not exist")))
    }

    pub(crate) fn add_statement(&mut self, name: String, prepared: Prepared) -> Result<(), SqlError> {
        if !name.is_empty() && self.statements.contains_key(&name) {
            return Err(SqlError::new("42P05", format!("prepared statement \"{name}\" already exists")));
        }
        if self.statements.len() >= STATEMENTS_MAX {
            return Err(SqlError::new(
                "53400",
                format!("a connection has at most {STATEMENTS_MAX} prepared statements"),
            )
            .hint("close those that are not used any more"));
        }
        self.statements.insert(name, Arc::new(prepared));
        Ok(())
    }

    pub(crate) fn add_portal(&mut self, name: String, portal: Portal) -> Result<(), SqlError> {
        if !name.is_empty() && self.portals.contains_key(&name) {
            return Err(SqlError::new("42P03", format!("cursor \"{name}\" already exists")));
        }
        if self.portals.len() >= PORTALS_MAX {
            return Err(SqlError::new(
                "53400",
                format!("a connection has at most {PORTALS_MAX} open portals"),
            )
            .hint("close those that are not used any more"));
        }
        self.portals.insert(name, portal);
        Ok(())
    }

    /// What the end of a transaction leaves.
    pub(crate) fn end_transaction(&mut self) {
        self.portals.retain(|_, portal| portal.hold);
    }
}
