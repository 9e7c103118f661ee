//! `sql`: one query, or the shell. Speaks to the SQL door like any PostgreSQL client.

use std::path::Path;
use std::pin::pin;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use futures::StreamExt;
use serde_json::{Map, Value};
use tokio_postgres::config::SslMode;
use tokio_postgres::types::Type;
use tokio_postgres::{Client, SimpleQueryMessage, SimpleQueryRow};

use super::sql_shell;
use super::sql_tls::Tls;
use crate::cli::{Global, Output, SqlArgs};
use crate::client::site_variables;
use crate::config::is_loopback;
use crate::output::{plain, print, say, table};

/// Rows of a table that are held to find the width of its columns; a longer result is printed in such blocks.
const BLOCK: usize = 1000;

pub(crate) async fn run(global: &Global, args: SqlArgs) -> Result<ExitCode> {
    let session = Session::open(global).await?;
    match args.command {
        Some(query) => {
            session.run(&query, global.output).await?;
            Ok(ExitCode::SUCCESS)
        }
        None => sql_shell::run(&session, global.output).await,
    }
}

/// An open connection to the SQL door.
pub(crate) struct Session {
    client: Client,
    /// Drives the connection; ends with it.
    _driver: Driver,
}

struct Driver(tokio::task::JoinHandle<()>);

impl Drop for Driver {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Session {
    /// Logs in as `PGUSER` with `PGPASSWORD` at `PGHOST`, `PGPORT`: from `--site FILE` or the environment.
    pub(crate) async fn open(global: &Global) -> Result<Session> {
        let variables = site_variables(global)?;
        let get = |name: &str| variables.get(name).map(String::as_str).filter(|value| !value.is_empty());
        let host = get("PGHOST").unwrap_or("127.0.0.1");
        let port = get("PGPORT").unwrap_or("7402");
        let port = port.parse().map_err(|_| crate::usage(&format!("PGPORT is {port:?}, not a port")))?;
        let (user, password) = (get("PGUSER").unwrap_or("admin"), get("PGPASSWORD").unwrap_or_default());
        Session::connect(
            host,
            port,
            user,
            password,
            get("PGDATABASE").unwrap_or("benteng"),
            global.ca.as_deref(),
        )
        .await
    }

    /// Logs in. A door on another machine must speak TLS: a password is not sent in the clear.
    pub(crate) async fn connect(
        host: &str,
        port: u16,
        user: &str,
        password: &str,
        database: &str,
        ca: Option<&Path>,
    ) -> Result<Session> {
        let mut config = tokio_postgres::Config::new();
        config.host(host).port(port).user(user).password(password).dbname(database);
        config.application_name("benteng sql").connect_timeout(Duration::from_secs(5));
        let near = is_loopback(&format!("{host}:{port}"));
        config.ssl_mode(if near && ca.is_none() { SslMode::Disable } else { SslMode::Require });
        let connected = config.connect(Tls::new(ca)?).await;
        let (client, connection) = connected
            .map_err(|e| anyhow::anyhow!("cannot log in at {host}:{port} as {user}: {}", explain(&e)))?;
        let driver = tokio::spawn(async move {
            // Whoever waits for an answer sees the error; there is nobody else to tell.
            let _ = connection.await;
        });
        Ok(Session { client, _driver: Driver(driver) })
    }

    /// Runs one text of SQL and prints what it answers.
    pub(crate) async fn run(&self, query: &str, output: Output) -> Result<()> {
        let types = if output == Output::Json { self.types(query).await } else { Vec::new() };
        let answers = self.client.simple_query_raw(query).await.map_err(|e| anyhow::anyhow!(explain(&e)))?;
        let mut answers = pin!(answers);
        let mut printer = Printer { output, types, columns: None, rows: Vec::new(), json: Vec::new() };
        while let Some(answer) = answers.next().await {
            match answer.map_err(|e| anyhow::anyhow!(explain(&e)))? {
                SimpleQueryMessage::RowDescription(columns) => {
                    printer.begin(columns.iter().map(|c| c.name().to_owned()).collect())?;
                }
                SimpleQueryMessage::Row(row) => printer.row(&row)?,
                SimpleQueryMessage::CommandComplete(rows) => printer.end(rows)?,
                // The enum may grow; what we do not know is not printed.
                _ => {}
            }
        }
        printer.finish()
    }

    /// Rows of a query as texts; for programs of ours.
    pub(crate) async fn rows(&self, query: &str) -> Result<(Vec<String>, Vec<Vec<String>>)> {
        let answers = self.client.simple_query(query).await.map_err(|e| anyhow::anyhow!(explain(&e)))?;
        let (mut header, mut rows) = (Vec::new(), Vec::new());
        for answer in answers {
            match answer {
                SimpleQueryMessage::RowDescription(columns) => {
                    header = columns.iter().map(|c| c.name().to_owned()).collect();
                }
                SimpleQueryMessage::Row(row) => rows.push(texts(&row)),
                _ => {}
            }
        }
        Ok((header, rows))
    }

    /// Types of the result's columns; none if the text is not one statement that can be prepared.
    async fn types(&self, query: &str) -> Vec<Type> {
        match self.client.prepare(query).await {
            Ok(statement) => statement.columns().iter().map(|column| column.type_().clone()).collect(),
            Err(_) => Vec::new(),
        }
    }
}

/// What the door said: message, detail, hint, and the SQLSTATE for whoever looks it up.
fn explain(error: &tokio_postgres::Error) -> String {
    let Some(db) = error.as_db_error() else {
        let source = std::error::Error::source(error).map(|e| format!(": {e}")).unwrap_or_default();
        return format!("{error}{source}");
    };
    let more = [("detail", db.detail()), ("hint", db.hint())];
    let more: String =
        more.iter().filter_map(|(what, text)| Some(format!("\n{what}: {}", (*text)?))).collect();
    format!("{} (SQLSTATE {}){more}", db.message(), db.code().code())
}

fn texts(row: &SimpleQueryRow) -> Vec<String> {
    (0..row.len()).map(|i| row.get(i).unwrap_or_default().to_owned()).collect()
}

/// Prints results as they come.
struct Printer {
    output: Output,
    types: Vec<Type>,
    columns: Option<Vec<String>>,
    rows: Vec<Vec<String>>,
    json: Vec<Value>,
}

impl Printer {
    fn begin(&mut self, columns: Vec<String>) -> Result<()> {
        if self.output == Output::Csv {
            print(&csv_line(columns.iter().map(|name| Some(name.as_str()))))?;
        }
        self.columns = Some(columns);
        Ok(())
    }

    fn row(&mut self, row: &SimpleQueryRow) -> Result<()> {
        match self.output {
            Output::Csv => print(&csv_line((0..row.len()).map(|i| row.get(i)))),
            Output::Json => {
                let names = self.columns.as_deref().unwrap_or_default();
                let cell = |i: usize| json_value(row.get(i), self.types.get(i));
                let object: Map<String, Value> =
                    names.iter().enumerate().map(|(i, n)| (n.clone(), cell(i))).collect();
                self.json.push(Value::Object(object));
                Ok(())
            }
            Output::Table => {
                self.rows.push(texts(row).iter().map(|cell| plain(cell)).collect());
                if self.rows.len() >= BLOCK { self.block() } else { Ok(()) }
            }
        }
    }

    fn block(&mut self) -> Result<()> {
        let header: Vec<&str> = self.columns.iter().flatten().map(String::as_str).collect();
        let rows = std::mem::take(&mut self.rows);
        print(&table(&header, &rows))
    }

    fn end(&mut self, rows: u64) -> Result<()> {
        if self.output != Output::Table {
            return Ok(());
        }
        if self.columns.is_some() {
            self.block()?;
            self.columns = None;
        }
        // On standard error: the result can be piped on as it is.
        say(&format!("({rows} rows)"));
        Ok(())
    }

    fn finish(self) -> Result<()> {
        if self.output == Output::Json {
            return print(&format!("{}\n", serde_json::to_string_pretty(&self.json)?));
        }
        Ok(())
    }
}

/// A line of CSV (RFC 4180). NULL is empty, an empty text is `""`.
fn csv_line<'a>(cells: impl Iterator<Item = Option<&'a str>>) -> String {
    let cell = |cell: Option<&str>| match cell {
        None => String::new(),
        Some("") => "\"\"".into(),
        Some(text) if text.contains(['"', ',', '\n', '\r']) => format!("\"{}\"", text.replace('"', "\"\"")),
        Some(text) => text.to_owned(),
    };
    let mut line = cells.map(cell).collect::<Vec<_>>().join(",");
    line.push_str("\r\n");
    line
}

/// A value with its kind, where JSON has it without loss; else its text.
fn json_value(text: Option<&str>, kind: Option<&Type>) -> Value {
    let Some(text) = text else { return Value::Null };
    let found = match kind {
        Some(&Type::INT2 | &Type::INT4 | &Type::INT8) => text.parse::<i64>().ok().map(Value::from),
        Some(&Type::FLOAT4 | &Type::FLOAT8) => {
            text.parse::<f64>().ok().filter(|n| n.is_finite()).map(Value::from)
        }
        Some(&Type::BOOL) => match text {
            "t" | "true" => Some(Value::Bool(true)),
            "f" | "false" => Some(Value::Bool(false)),
            _ => None,
        },
        Some(&Type::JSON | &Type::JSONB) => serde_json::from_str(text).ok(),
        _ => None,
    };
    found.unwrap_or_else(|| Value::from(text))
}

/// One result as a table; used by `dev --demo`.
pub(crate) async fn show(session: &Session, query: &str) -> Result<String> {
    let (header, rows) = session.rows(query).await.context("the query failed")?;
    let header: Vec<&str> = header.iter().map(String::as_str).collect();
    Ok(table(&header, &rows))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn csv_cells_are_quoted_when_they_must_be() {
        let line = csv_line([Some("a"), None, Some(""), Some("b,\"c\""), Some("d\ne")].into_iter());
        assert_eq!(line, "a,,\"\",\"b,\"\"c\"\"\",\"d\ne\"\r\n");
    }

    #[test]
    fn json_keeps_kinds_without_loss() {
        let check = |text, kind: Type, expected: Value| assert_eq!(json_value(text, Some(&kind)), expected);
        check(Some("9007199254740993"), Type::INT8, Value::from(9_007_199_254_740_993_i64));
        check(Some("1.5"), Type::FLOAT8, Value::from(1.5));
        check(Some("NaN"), Type::FLOAT8, Value::from("NaN"));
        check(Some("t"), Type::BOOL, Value::Bool(true));
        check(Some("0.10"), Type::NUMERIC, Value::from("0.10"));
        check(Some("74.10"), Type::TEXT, Value::from("74.10"));
        check(None, Type::INT4, Value::Null);
    }
}
