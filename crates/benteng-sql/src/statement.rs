//! What a text asks for. Statements that only touch the session are read here, from their
//! words; queries go on to DataFusion; everything that would write, or reach files and
//! other hosts, is refused with a word on what to use instead.

mod headings; // names of columns as PostgreSQL gives them
mod words; // reading a statement word by word

use std::collections::HashSet;
use std::ops::ControlFlow;

use benteng_lake::Error as LakeError;
use datafusion::error::DataFusionError;
use datafusion::sql::sqlparser::ast::{
    self, CastKind, DataType, ExactNumberInfo, Expr, TimezoneInfo, Value, VisitMut, VisitorMut,
};
use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::parser::ParserError;
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan, Tokenizer};
use datafusion_pg_catalog::sql::PostgresCompatibilityParser;
use pgwire::api::Type;

use crate::error::{SqlError, parser as parser_error};

pub(crate) use headings::Headings;
use words::Words;

/// Operators and keywords of one message: chains of them become trees of that depth.
pub(crate) const STRUCTURE_MAX: usize = 10_000;

const WRITES: &str = "this step of the SQL door reads only: write objects over S3";

/// One statement.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Statement {
    /// Nothing but blanks and comments.
    Empty,
    /// Rows.
    Query(Query),
    /// BEGIN, START TRANSACTION: the tag.
    Begin(&'static str),
    Commit,
    Rollback,
    Savepoint(String),
    Release(String),
    RollbackTo(String),
    Set {
        name: String,
        value: Option<String>,
        local: bool,
    },
    /// SET TRANSACTION, SET SESSION CHARACTERISTICS: taken if it asks for nothing we lack.
    SetTransaction,
    /// `None`: all.
    Reset(Option<String>),
    /// `None`: all.
    Show(Option<String>),
    Discard(Discard),
    /// `None`: all.
    Deallocate(Option<String>),
    Declare {
        name: String,
        hold: bool,
        query: Query,
    },
    Fetch {
        name: String,
        count: Count,
        moving: bool,
    },
    /// `None`: all.
    Close(Option<String>),
    /// UNLISTEN: nobody listens.
    Unlisten,
}

/// A statement that gives rows.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Query {
    pub(crate) sql: String,
    /// SELECT, EXPLAIN, SHOW: what the tag says.
    pub(crate) tag: &'static str,
    pub(crate) headings: Headings,
    /// Types that `$n::type` gives its parameters; 0: none.
    pub(crate) casts: Vec<u32>,
}

/// What DISCARD throws away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Discard {
    All,
    /// PLANS, SEQUENCES, TEMP: there are none.
    Nothing,
}

/// Rows of a FETCH or MOVE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Count {
    All,
    Rows(usize),
}

impl Statement {
    /// Whether it may run in a failed transaction block.
    pub(crate) fn ends_failure(&self) -> bool {
        matches!(self, Statement::Commit | Statement::Rollback | Statement::RollbackTo(_))
    }
}

/// Splits a text into statements and reads each. Runs on the query threads.
///
/// Errors: 42601 anywhere in the text, 54001, and the refusals.
pub(crate) fn read_all(parser: &PostgresCompatibilityParser, text: &str) -> Result<Vec<Statement>, SqlError> {
    let mut out = Vec::new();
    for (sql, tokens) in split(text)? {
        match read(parser, sql, tokens)? {
            Statement::Empty => {}
            statement => out.push(statement),
        }
    }
    Ok(out)
}

/// Reads a text that must be one statement, or nothing.
pub(crate) fn read_one(parser: &PostgresCompatibilityParser, text: &str) -> Result<Statement, SqlError> {
    let mut all = read_all(parser, text)?;
    match all.len() {
        0 => Ok(Statement::Empty),
        1 => Ok(all.remove(0)),
        _ => Err(SqlError::new("42601", "cannot insert multiple commands into a prepared statement")),
    }
}

/// The text between top-level semicolons, with its tokens (no blanks, no comments).
fn split(text: &str) -> Result<Vec<(&str, Vec<Token>)>, SqlError> {
    let tokens = Tokenizer::new(&PostgreSqlDialect {}, text).tokenize_with_location();
    let tokens = tokens.map_err(|e| SqlError::new("42601", format!("syntax error: {e}")))?;
    if tokens.iter().filter(|t| is_structure(&t.token)).count() > STRUCTURE_MAX {
        return Err(LakeError::TooComplex { limit: STRUCTURE_MAX }.into());
    }
    let ends = semicolons(text, &tokens);
    let mut out = Vec::new();
    let (mut from, mut current) = (0, Vec::new());
    let mut ends = ends.into_iter();
    for token in tokens {
        match token.token {
            Token::SemiColon => {
                let at = ends.next().unwrap_or(text.len());
                out.push((&text[from..at], std::mem::take(&mut current)));
                from = at + 1;
            }
            Token::Whitespace(_) | Token::EOF => {}
            other => current.push(other),
        }
    }
    out.push((text.get(from..).unwrap_or_default(), current));
    Ok(out)
}

/// Byte offsets of the semicolon tokens. The tokenizer counts lines and characters.
fn semicolons(text: &str, tokens: &[TokenWithSpan]) -> Vec<usize> {
    let mut wanted = tokens.iter().filter(|t| t.token == Token::SemiColon).map(|t| t.span.start).peekable();
    let (mut line, mut column, mut out) = (1, 1, Vec::new());
    for (at, c) in text.char_indices() {
        let Some(next) = wanted.peek() else { break };
        if (next.line, next.column) == (line, column) {
            out.push(at);
            wanted.next();
        }
        (line, column) = if c == '\n' { (line + 1, 1) } else { (line, column + 1) };
    }
    out
}

/// Whether a token can make a statement's tree deeper. Literals, names and lists cannot.
fn is_structure(token: &Token) -> bool {
    match token {
        Token::Word(w) => !matches!(
            w.keyword,
            Keyword::NoKeyword | Keyword::NULL | Keyword::TRUE | Keyword::FALSE | Keyword::AS
        ),
        Token::Number(..)
        | Token::SingleQuotedString(_)
        | Token::EscapedStringLiteral(_)
        | Token::Comma
        | Token::Period
        | Token::LParen
        | Token::RParen
        | Token::Whitespace(_)
        | Token::SemiColon
        | Token::EOF => false,
        _ => true,
    }
}

fn read(parser: &PostgresCompatibilityParser, sql: &str, tokens: Vec<Token>) -> Result<Statement, SqlError> {
    let mut words = Words::new(tokens);
    if words.is_done() {
        return Ok(Statement::Empty);
    }
    let sql = sql.trim();
    let Some(first) = words.word() else {
        // "(SELECT …)", or no SQL at all: the parser says.
        return query(parser, sql, "SELECT");
    };
    match first.as_str() {
        "SELECT" | "WITH" | "VALUES" | "TABLE" => query(parser, sql, "SELECT"),
        "EXPLAIN" => query(parser, sql, "EXPLAIN"),
        "SHOW" => match words.peek().as_deref() {
            Some("TABLES" | "COLUMNS" | "FUNCTIONS") => query(parser, sql, "SHOW"),
            _ => words.show(),
        },
        "SET" => words.set(),
        "RESET" => words.reset(),
        "BEGIN" => words.begin("BEGIN"),
        "START" => words.expect("TRANSACTION").and_then(|()| words.begin("START TRANSACTION")),
        "COMMIT" | "END" => words.end().map(|()| Statement::Commit),
        "ROLLBACK" | "ABORT" => words.rollback(),
        "SAVEPOINT" => words.last_name().map(Statement::Savepoint),
        "RELEASE" => {
            words.skip("SAVEPOINT");
            words.last_name().map(Statement::Release)
        }
        "DISCARD" => words.discard(),
        "DEALLOCATE" => {
            words.skip("PREPARE");
            words.all_or_name().map(Statement::Deallocate)
        }
        "CLOSE" => words.all_or_name().map(Statement::Close),
        "DECLARE" => declare(parser, sql, words),
        "FETCH" => words.fetch(false),
        "MOVE" => words.fetch(true),
        "UNLISTEN" => Ok(Statement::Unlisten),
        other => Err(refusal(other, &words)),
    }
}

/// Why a statement is not run, and what to use instead.
fn refusal(first: &str, words: &Words) -> SqlError {
    let writes = |what: &str| LakeError::NotSupported { what: what.to_owned(), instead: WRITES };
    let error = match first {
        "COPY" if words.has("STDIN") || words.has("STDOUT") => {
            let instead = "use SELECT, or read and write objects over S3";
            LakeError::NotSupported { what: "COPY over the connection".into(), instead }
        }
        "COPY" => LakeError::Refused { what: "COPY to or from a file".into() },
        "CREATE" if words.has("EXTERNAL") => LakeError::Refused { what: "CREATE EXTERNAL TABLE".into() },
        "LOAD" | "INSTALL" | "ATTACH" | "IMPORT" | "EXPORT" => LakeError::Refused { what: first.to_owned() },
        "INSERT" | "UPDATE" | "DELETE" | "MERGE" | "CREATE" | "DROP" | "ALTER" | "TRUNCATE" | "COMMENT"
        | "REFRESH" | "REINDEX" | "CLUSTER" | "VACUUM" | "ANALYZE" => writes(first),
        "GRANT" | "REVOKE" | "SECURITY" | "REASSIGN" => LakeError::NotSupported {
            what: first.to_owned(),
            instead: "roles and keys are kept by `benteng user` and `benteng key`",
        },
        "PREPARE" | "EXECUTE" => LakeError::NotSupported {
            what: format!("{first} as a statement"),
            instead: "prepare through the client's driver",
        },
        "LISTEN" | "NOTIFY" | "LOCK" | "CALL" | "DO" | "CHECKPOINT" | "DESCRIBE" | "DESC" => {
            LakeError::NotSupported { what: first.to_owned(), instead: "query the tables of schema system" }
        }
        _ => return SqlError::new("42601", format!("syntax error at or near \"{}\"", first.escape_debug())),
    };
    error.into()
}

fn declare(parser: &PostgresCompatibilityParser, sql: &str, mut words: Words) -> Result<Statement, SqlError> {
    let (name, hold) = words.declare()?;
    // The query is the text behind FOR: found by parsing what stands there.
    let rest = words.tokens_left();
    let text =
        behind_for(sql, &rest).ok_or_else(|| SqlError::new("42601", "DECLARE needs a query behind FOR"))?;
    match query(parser, text, "SELECT")? {
        Statement::Query(query) => Ok(Statement::Declare { name, hold, query }),
        _ => Err(SqlError::new("42601", "DECLARE needs a query behind FOR")),
    }
}

/// The end of `sql` that consists of exactly these tokens.
fn behind_for<'a>(sql: &'a str, rest: &[Token]) -> Option<&'a str> {
    let is_for = |at: &usize| sql[*at..].get(..3).is_some_and(|word| word.eq_ignore_ascii_case("for"));
    sql.char_indices().map(|(at, _)| at).filter(is_for).find_map(|at| {
        let text = sql.get(at + 3..)?;
        let tokens = Tokenizer::new(&PostgreSqlDialect {}, text).tokenize().ok()?;
        let tokens = tokens.into_iter().filter(|t| !matches!(t, Token::Whitespace(_) | Token::EOF));
        tokens.eq(rest.iter().cloned()).then_some(text)
    })
}

fn query(parser: &PostgresCompatibilityParser, sql: &str, tag: &'static str) -> Result<Statement, SqlError> {
    // Read here once for its errors; the tree is taken apart at once, on a large stack.
    let casts = casts(&parse(parser, sql, &[])?);
    Ok(Statement::Query(Query { sql: sql.to_owned(), tag, headings: Headings::of(sql), casts }))
}

/// The tree of a query. `hints`: types that the client gave its parameters, 0 if none.
/// Runs on the query threads.
pub(crate) fn parse(
    parser: &PostgresCompatibilityParser,
    sql: &str,
    hints: &[u32],
) -> Result<ast::Statement, LakeError> {
    let syntax = |e: ParserError| LakeError::Engine(DataFusionError::SQL(Box::new(e), None));
    let mut all = parser.parse(sql).map_err(syntax)?;
    let (Some(mut statement), true) = (all.pop(), all.is_empty()) else {
        return Err(syntax(ParserError::ParserError("one statement is expected".into())));
    };
    only_reads(&statement)?;
    if let ast::Statement::Query(query) = &mut statement {
        name_twins(&mut query.body);
    }
    if hints.iter().any(|hint| *hint != 0) {
        let _ = VisitMut::visit(&mut statement, &mut Hinted { hints });
    }
    Ok(statement)
}

fn only_reads(statement: &ast::Statement) -> Result<(), LakeError> {
    match statement {
        ast::Statement::Query(query) => match query.body.as_ref() {
            ast::SetExpr::Select(select) if select.into.is_some() => {
                Err(LakeError::NotSupported { what: "SELECT INTO".into(), instead: WRITES })
            }
            ast::SetExpr::Insert(_) | ast::SetExpr::Update(_) | ast::SetExpr::Delete(_) => {
                Err(LakeError::NotSupported {
                    what: "WITH … INSERT, UPDATE or DELETE".into(),
                    instead: WRITES,
                })
            }
            _ => Ok(()),
        },
        ast::Statement::Explain { statement, .. } => only_reads(statement),
        ast::Statement::ShowTables { .. }
        | ast::Statement::ShowColumns { .. }
        | ast::Statement::ShowFunctions { .. } => Ok(()),
        other => {
            let text = other.to_string();
            let what = text.split_whitespace().next().unwrap_or("this statement").to_owned();
            Err(LakeError::NotSupported { what, instead: WRITES })
        }
    }
}

/// Gives equal columns of a SELECT names of their own: DataFusion takes none twice. What the
/// client sees is in the headings.
fn name_twins(body: &mut ast::SetExpr) {
    match body {
        ast::SetExpr::Select(select) => {
            let mut seen = HashSet::new();
            for (n, item) in select.projection.iter_mut().enumerate() {
                let ast::SelectItem::UnnamedExpr(expr) = item else { continue };
                if !seen.insert(expr.to_string()) {
                    let alias = ast::Ident::with_quote('"', format!("?column?{n}"));
                    *item = ast::SelectItem::ExprWithAlias { expr: expr.clone(), alias };
                }
            }
        }
        ast::SetExpr::SetOperation { left, right, .. } => {
            name_twins(left);
            name_twins(right);
        }
        ast::SetExpr::Query(query) => name_twins(&mut query.body),
        _ => {}
    }
}

/// Types that `$n::type` gives its parameters.
fn casts(statement: &ast::Statement) -> Vec<u32> {
    let mut out: Vec<u32> = Vec::new();
    let _ = ast::visit_expressions(statement, |expr| {
        if let Expr::Cast { expr, data_type, .. } = expr
            && let Some(n) = parameter(expr)
            && let Some(kind) = wire_type(data_type)
        {
            out.resize(out.len().max(n), 0);
            out[n - 1] = kind.oid();
        }
        ControlFlow::<()>::Continue(())
    });
    out
}

/// The number of a parameter, from 1.
fn parameter(expr: &Expr) -> Option<usize> {
    match expr {
        Expr::Nested(inner) => parameter(inner),
        Expr::Value(value) => match &value.value {
            Value::Placeholder(name) => {
                name.strip_prefix('$')?.parse().ok().filter(|n| (1..=usize::from(u16::MAX)).contains(n))
            }
            _ => None,
        },
        _ => None,
    }
}

/// The type of a value that a client is to send for this SQL type.
fn wire_type(data_type: &DataType) -> Option<Type> {
    Some(match data_type {
        DataType::Boolean | DataType::Bool => Type::BOOL,
        DataType::SmallInt(_) | DataType::Int2(_) => Type::INT2,
        DataType::Int(_) | DataType::Integer(_) | DataType::Int4(_) => Type::INT4,
        DataType::BigInt(_) | DataType::Int8(_) => Type::INT8,
        DataType::Real | DataType::Float4 => Type::FLOAT4,
        DataType::Double(_) | DataType::DoublePrecision | DataType::Float8 => Type::FLOAT8,
        DataType::Numeric(_) | DataType::Decimal(_) => Type::NUMERIC,
        DataType::Text | DataType::Varchar(_) | DataType::CharacterVarying(_) => Type::TEXT,
        DataType::Date => Type::DATE,
        DataType::Timestamp(_, TimezoneInfo::WithTimeZone | TimezoneInfo::Tz) => Type::TIMESTAMPTZ,
        DataType::Timestamp(..) => Type::TIMESTAMP,
        DataType::Bytea => Type::BYTEA,
        _ => return None,
    })
}

/// Turns `$n` into `CAST($n AS type)` where the client said its type, so that the planner knows.
struct Hinted<'a> {
    hints: &'a [u32],
}

impl VisitorMut for Hinted<'_> {
    type Break = ();

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        let number = if matches!(expr, Expr::Value(_)) { parameter(expr) } else { None };
        let hint = number.and_then(|n| self.hints.get(n - 1)).copied().unwrap_or(0);
        if let Some(data_type) = sql_type(hint) {
            let inner = Box::new(expr.clone());
            *expr = Expr::Cast { kind: CastKind::Cast, expr: inner, data_type, array: false, format: None };
        }
        ControlFlow::Continue(())
    }
}

/// The SQL name of a type whose values the planner should know; texts adapt by themselves,
/// and a numeric must keep the digits that it comes with.
fn sql_type(oid: u32) -> Option<DataType> {
    Some(match Type::from_oid(oid)? {
        Type::BOOL => DataType::Boolean,
        Type::INT2 => DataType::SmallInt(None),
        Type::INT4 => DataType::Int(None),
        Type::INT8 => DataType::BigInt(None),
        Type::FLOAT4 => DataType::Real,
        Type::FLOAT8 => DataType::Double(ExactNumberInfo::None),
        Type::DATE => DataType::Date,
        Type::TIMESTAMP => DataType::Timestamp(None, TimezoneInfo::None),
        Type::TIMESTAMPTZ => DataType::Timestamp(None, TimezoneInfo::WithTimeZone),
        Type::BYTEA => DataType::Bytea,
        _ => return None,
    })
}

impl From<&ParserError> for SqlError {
    fn from(e: &ParserError) -> SqlError {
        parser_error(e)
    }
}

#[cfg(test)]
mod tests;
