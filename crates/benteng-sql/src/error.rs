//! SQLSTATE of everything that can go wrong. DataFusion tells many things by text alone:
//! those texts stand in one table here, each with a test that provokes it for real.

use arrow::error::ArrowError;
use benteng_lake::{Error as LakeError, find_cause};
use benteng_objects::Error as ObjectsError;
use datafusion::common::SchemaError;
use datafusion::error::DataFusionError;
use datafusion::sql::sqlparser::parser::ParserError;
use pgwire::error::{ErrorInfo, PgWireError};
use pgwire::messages::response::ErrorResponse;

/// Bytes of a message that a client gets; file and plan texts in errors may be long.
const MESSAGE_MAX: usize = 8 << 10;

/// An error as a client sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SqlError {
    /// SQLSTATE.
    pub(crate) code: &'static str,
    pub(crate) message: String,
    pub(crate) hint: Option<String>,
    /// The connection ends with it.
    pub(crate) fatal: bool,
}

impl SqlError {
    pub(crate) fn new(code: &'static str, message: impl Into<String>) -> SqlError {
        SqlError { code, message: message.into(), hint: None, fatal: false }
    }

    pub(crate) fn fatal(code: &'static str, message: impl Into<String>) -> SqlError {
        SqlError { fatal: true, ..SqlError::new(code, message) }
    }

    pub(crate) fn hint(mut self, hint: impl Into<String>) -> SqlError {
        self.hint = Some(hint.into());
        self
    }

    /// The same error, after which the connection ends.
    pub(crate) fn ending(mut self) -> SqlError {
        self.fatal = true;
        self
    }

    /// The message of the protocol.
    pub(crate) fn response(&self) -> ErrorResponse {
        let severity = if self.fatal { "FATAL" } else { "ERROR" };
        let mut info = ErrorInfo::new(severity.into(), self.code.into(), clean(&self.message));
        info.severity_nonlocalized = Some(severity.into());
        info.hint = self.hint.as_deref().map(clean);
        info.into()
    }
}

/// Text that fits into a message: no zero bytes, not too long.
fn clean(text: &str) -> String {
    let mut end = text.len().min(MESSAGE_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].replace('\0', "\u{fffd}")
}

impl From<LakeError> for SqlError {
    fn from(e: LakeError) -> SqlError {
        lake(&e)
    }
}

impl From<PgWireError> for SqlError {
    fn from(e: PgWireError) -> SqlError {
        match e {
            PgWireError::UserError(info) => {
                // Codes of arrow-pg are constants, but its type holds text.
                let known = ["22003", "22P02", "22P03", "0A000", "22008"];
                let code = known.into_iter().find(|code| *code == info.code).unwrap_or("0A000");
                SqlError::new(code, info.message)
            }
            PgWireError::FailedToParseParameter(e) => {
                SqlError::new("22P02", format!("invalid value of a parameter: {e}"))
            }
            PgWireError::InvalidRustTypeForParameter(kind) => {
                SqlError::new("0A000", format!("parameters of type {kind} are not supported"))
                    .hint("cast the parameter in the statement, and send it as text")
            }
            e => SqlError::new("XX000", e.to_string()),
        }
    }
}

/// Each variant in one place, so that a new one is not forgotten.
fn lake(e: &LakeError) -> SqlError {
    let say = |code| SqlError::new(code, e.to_string());
    match e {
        LakeError::NotSupported { .. } => say("0A000"),
        LakeError::Refused { .. } | LakeError::Denied(_) => say("42501"),
        LakeError::NoSuchBucket(_) | LakeError::NoSuchFile(_) => say("58P01"),
        LakeError::TooManyFiles { .. } => say("54000"),
        LakeError::BadArgument(_) => say("22023"),
        LakeError::BadFile { .. } => say("22P04"),
        LakeError::TooComplex { .. } => say("54001"),
        LakeError::Memory(_) => say("53200"),
        LakeError::SpillFull { .. } => say("53400"),
        LakeError::SpillIo { .. } | LakeError::SpillDamaged { .. } | LakeError::SpillDir { .. } => {
            say("58030")
        }
        LakeError::Threads(_) => say("53000"),
        LakeError::Cancelled => say("57014"),
        LakeError::Panicked => say("XX000"),
        LakeError::Objects(e) => objects(e),
        LakeError::Site(e) => site(e),
        LakeError::State(_) => say("XX000"),
        LakeError::Engine(e) => engine(e),
    }
}

fn objects(e: &ObjectsError) -> SqlError {
    let say = |code| SqlError::new(code, e.to_string());
    match e {
        ObjectsError::Rejected(_) => say("58P01"),
        ObjectsError::NotModified { .. } => say("XX000"),
        ObjectsError::RangeUnsatisfiable { .. } => say("22P04"),
        ObjectsError::Body(_) | ObjectsError::Length { .. } | ObjectsError::Digest { .. } => say("58030"),
        ObjectsError::TooLarge { .. } => say("54000"),
        ObjectsError::Full => say("53100"),
        ObjectsError::Unavailable { .. } | ObjectsError::Unknown { .. } => say("57P03"),
        ObjectsError::Unreadable { .. } => say("58030"),
        ObjectsError::Key(_) => say("58030"),
        ObjectsError::State(_) => say("XX000"),
        ObjectsError::Invalid(_) => say("22023"),
        #[allow(unreachable_patterns)]
        _ => say("58000"),
    }
}

fn site(e: &benteng_consensus::Error) -> SqlError {
    use benteng_consensus::Error as E;
    let say = |code| SqlError::new(code, e.to_string());
    match e {
        E::Rejected(_) => say("55000"),
        E::Unavailable { .. } | E::Unknown { .. } | E::Stopped(_) => say("57P03"),
        E::State(_) => say("XX000"),
        #[allow(unreachable_patterns)]
        _ => say("58000"),
    }
}

/// An error of the query engine: first what we put into it, then what it says itself.
fn engine(e: &DataFusionError) -> SqlError {
    if let Some(ours) = find_cause::<LakeError>(e).filter(|e| !matches!(e, LakeError::Engine(_))) {
        return lake(ours);
    }
    if let Some(ours) = find_cause::<ObjectsError>(e) {
        return objects(ours);
    }
    let text = plain(e);
    match e.find_root() {
        DataFusionError::SQL(e, _) => parser(e),
        DataFusionError::SchemaError(e, _) => {
            let code = match e.as_ref() {
                SchemaError::AmbiguousReference { .. } => "42702",
                SchemaError::DuplicateQualifiedField { .. }
                | SchemaError::DuplicateUnqualifiedField { .. } => "42701",
                SchemaError::FieldNotFound { .. } => "42703",
            };
            SqlError::new(code, text)
        }
        DataFusionError::Plan(_) | DataFusionError::Configuration(_) => {
            SqlError::new(by_text(&text, "42000"), text)
        }
        DataFusionError::NotImplemented(_) => SqlError::new("0A000", text),
        DataFusionError::ResourcesExhausted(_) => SqlError::new("53200", text).hint(
            "the query holds more than it may and cannot spill; narrow it, or sort and join fewer columns",
        ),
        DataFusionError::ArrowError(e, _) => SqlError::new(arrow(e, &text), text),
        DataFusionError::ParquetError(_) => SqlError::new("22P04", text),
        DataFusionError::ObjectStore(e) if matches!(**e, object_store::Error::NotFound { .. }) => {
            SqlError::new("58P01", text)
        }
        DataFusionError::ObjectStore(_) | DataFusionError::IoError(_) => SqlError::new("58030", text),
        DataFusionError::Execution(_) => SqlError::new(by_text(&text, "22000"), text),
        _ => match find_cause::<ArrowError>(e) {
            Some(e) => SqlError::new(arrow(e, &text), text),
            None if find_cause::<parquet::errors::ParquetError>(e).is_some() => SqlError::new("22P04", text),
            None => SqlError::new(by_text(&text, "XX000"), text),
        },
    }
}

pub(crate) fn parser(e: &ParserError) -> SqlError {
    match e {
        ParserError::TokenizerError(why) | ParserError::ParserError(why) => {
            SqlError::new("42601", format!("syntax error: {why}"))
        }
        ParserError::RecursionLimitExceeded => SqlError::new("54001", "the statement is nested too deep"),
    }
}

/// The text without DataFusion's prefixes and traces.
fn plain(e: &DataFusionError) -> String {
    let mut text = e.strip_backtrace();
    for prefix in
        ["Error during planning: ", "Execution error: ", "Arrow error: ", "This feature is not implemented: "]
    {
        if let Some(rest) = text.strip_prefix(prefix) {
            text = rest.to_owned();
        }
    }
    text
}

fn arrow(e: &ArrowError, text: &str) -> &'static str {
    match e {
        ArrowError::DivideByZero => "22012",
        ArrowError::ArithmeticOverflow(_) => "22003",
        ArrowError::CsvError(_)
        | ArrowError::JsonError(_)
        | ArrowError::ParquetError(_)
        | ArrowError::IpcError(_) => "22P04",
        ArrowError::CastError(_) | ArrowError::ParseError(_) => by_text(text, "22P02"),
        ArrowError::NotYetImplemented(_) => "0A000",
        ArrowError::MemoryError(_) => "53200",
        _ => by_text(text, "22000"),
    }
}

/// What DataFusion says by text alone.
fn by_text(text: &str, otherwise: &'static str) -> &'static str {
    let lower = text.to_ascii_lowercase();
    let has = |parts: &[&str]| parts.iter().all(|part| lower.contains(part));
    let table: &[(&[&str], &'static str)] = &[
        (&["divide by zero"], "22012"),
        (&["table '", "not found"], "42P01"),
        (&["failed to resolve schema"], "3F000"),
        (&["failed to resolve catalog"], "3D000"),
        (&["invalid function"], "42883"),
        (&["no function matches"], "42883"),
        (&["function '", "does not exist"], "42883"),
        (&["table function", "not found"], "42883"),
        (&["failed to coerce"], "42883"),
        (&["cannot coerce"], "42883"),
        (&["cannot infer common argument type"], "42883"),
        (&["group by", "column"], "42803"),
        (&["aggregate"], "42803"),
        (&["unique expression names"], "42701"),
        (&["ambiguous"], "42702"),
        (&["placeholder"], "42P02"),
        (&["parameter"], "42P02"),
        (&["with query name", "more than once"], "42712"),
        (&["overflow"], "22003"),
        (&["out of range"], "22003"),
        (&["too large to store"], "22003"),
        (&["csv"], "22P04"),
        (&["incorrect number of fields"], "22P04"),
        (&["json"], "22P04"),
        (&["parquet"], "22P04"),
        (&["timestamp"], "22007"),
        (&["can't cast value"], "22003"),
        (&["error parsing"], "22P02"),
        (&["cannot cast"], "22P02"),
        (&["not supported"], "0A000"),
        (&["unsupported"], "0A000"),
    ];
    table.iter().find(|(parts, _)| has(parts)).map_or(otherwise, |(_, code)| code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_causes_are_found_however_deep_they_are_wrapped() {
        let cause = || -> DataFusionError { LakeError::NoSuchBucket("data".into()).into() };
        let store = object_store::Error::from(LakeError::NoSuchBucket("data".into()));
        for e in [
            cause(),
            cause().context("reading"),
            DataFusionError::Shared(std::sync::Arc::new(cause())),
            DataFusionError::Collection(vec![cause()]),
            DataFusionError::ObjectStore(Box::new(store)),
            DataFusionError::ArrowError(Box::new(ArrowError::ExternalError(Box::new(cause()))), None),
        ] {
            let shown = SqlError::from(LakeError::Engine(e));
            assert_eq!(shown.code, "58P01", "{shown:?}");
            assert!(shown.message.contains("bucket \"data\""), "{shown:?}");
        }
    }

    #[test]
    fn a_lost_quorum_is_retryable_wherever_it_is_met() {
        let lost = || ObjectsError::Unavailable { why: "no quorum".into() };
        assert_eq!(SqlError::from(LakeError::Objects(lost())).code, "57P03");
        let read = object_store::Error::from(LakeError::Objects(lost()));
        let wrapped = LakeError::Engine(DataFusionError::ObjectStore(Box::new(read)));
        assert_eq!(SqlError::from(wrapped).code, "57P03");
        let site = benteng_consensus::Error::Unavailable { waited_ms: 5000, why: "no leader".into() };
        assert_eq!(SqlError::from(LakeError::Site(site)).code, "57P03");
    }

    #[test]
    fn messages_are_bounded_and_without_zero_bytes() {
        let shown = SqlError::new("XX000", format!("a\0{}", "é".repeat(MESSAGE_MAX)));
        let response = shown.response();
        let message = &response.fields.iter().find(|(kind, _)| *kind == b'M').expect("a message").1;
        assert!(message.len() <= MESSAGE_MAX + 2 && !message.contains('\0'));
    }

    #[test]
    fn codes_of_errors_that_need_no_query() {
        let check = |e: LakeError, code| assert_eq!(SqlError::from(e).code, code);
        check(LakeError::Cancelled, "57014");
        check(LakeError::Memory("x".into()), "53200");
        check(LakeError::SpillFull { limit: 1 }, "53400");
        check(LakeError::Refused { what: "x".into() }, "42501");
        check(LakeError::TooComplex { limit: 1 }, "54001");
        check(LakeError::Engine(DataFusionError::ResourcesExhausted("x".into())), "53200");
        check(LakeError::Engine(ArrowError::DivideByZero.into()), "22012");
        check(LakeError::Engine(DataFusionError::NotImplemented("x".into())), "0A000");
    }
}
