//! The SQL shell: lines into statements, history, a few commands of its own.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use rustyline::DefaultEditor;
use rustyline::error::ReadlineError;

use super::sql::Session;
use crate::cli::Output;
use crate::output::{print, say};

const HELP: &str = "\
Statements end with `;` and may span lines.
  \\q            leave (also Ctrl-D)
  \\o FORMAT     print results as table, csv or json
  \\h            this help
Ctrl-C drops what was typed.
";

/// Reads statements until the end. On a pipe the first failure ends it with exit code 1.
pub(super) async fn run(session: &Session, output: Output) -> Result<ExitCode> {
    let mut output = output;
    let interactive = std::io::IsTerminal::is_terminal(&std::io::stdin());
    let mut lines = Lines::open(interactive)?;
    if interactive {
        say("benteng sql: \\h for help");
    }
    let mut typed = String::new();
    loop {
        let Some(line) = lines.next(typed.is_empty())? else { break };
        let Some(line) = line else {
            typed.clear();
            continue;
        };
        if typed.is_empty() && line.trim_start().starts_with('\\') {
            match line.trim() {
                "\\q" => break,
                "\\o table" => output = Output::Table,
                "\\o csv" => output = Output::Csv,
                "\\o json" => output = Output::Json,
                _ => print(HELP)?,
            }
            continue;
        }
        typed.push_str(&line);
        typed.push('\n');
        let (statements, rest) = split(&typed);
        for statement in statements {
            lines.remember(&statement);
            if let Err(error) = session.run(&statement, output).await {
                say(&format!("error: {error:#}"));
                if !interactive {
                    return Ok(ExitCode::FAILURE);
                }
            }
        }
        typed = rest;
    }
    if !interactive && !typed.trim().is_empty() {
        session.run(&typed, output).await?;
    }
    lines.close();
    Ok(ExitCode::SUCCESS)
}

/// Splits what was typed into whole statements and the rest, minding quotes and comments.
fn split(text: &str) -> (Vec<String>, String) {
    #[derive(PartialEq)]
    enum In {
        Code,
        Quote(char),
        Line,
        Block(u32),
    }
    let (mut state, mut statements, mut begin) = (In::Code, Vec::new(), 0);
    let mut chars = text.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        let next = chars.peek().map(|(_, c)| *c);
        state = match (state, c, next) {
            (In::Code, ';', _) => {
                let statement = text[begin..at].trim();
                if !statement.is_empty() {
                    statements.push(statement.to_owned());
                }
                begin = at + 1;
                In::Code
            }
            (In::Code, '\'' | '"', _) => In::Quote(c),
            (In::Code, '-', Some('-')) => In::Line,
            (In::Code, '/', Some('*')) => {
                chars.next();
                In::Block(1)
            }
            // A doubled quote ends and begins again: the same.
            (In::Quote(quote), c, _) if c == quote => In::Code,
            (In::Line, '\n', _) => In::Code,
            (In::Block(depth), '/', Some('*')) => {
                chars.next();
                In::Block(depth + 1)
            }
            (In::Block(depth), '*', Some('/')) => {
                chars.next();
                if depth == 1 { In::Code } else { In::Block(depth - 1) }
            }
            (state, _, _) => state,
        };
    }
    let rest = &text[begin..];
    (statements, if rest.trim().is_empty() { String::new() } else { rest.to_owned() })
}

/// Lines from a terminal, with editing and history, or from a pipe.
enum Lines {
    Terminal(Box<DefaultEditor>, Option<PathBuf>),
    Pipe,
}

impl Lines {
    fn open(interactive: bool) -> Result<Lines> {
        if !interactive {
            return Ok(Lines::Pipe);
        }
        let mut editor = DefaultEditor::new().context("cannot use this terminal")?;
        let history = history_file();
        if let Some(path) = &history {
            // A missing history is an empty one.
            let _ = editor.load_history(path);
        }
        Ok(Lines::Terminal(Box::new(editor), history))
    }

    /// The next line; `Some(None)`: what was typed is dropped; `None`: the end.
    fn next(&mut self, fresh: bool) -> Result<Option<Option<String>>> {
        match self {
            Lines::Pipe => {
                let mut line = String::new();
                let n = std::io::stdin().read_line(&mut line).context("cannot read standard input")?;
                Ok((n > 0).then(|| Some(line.trim_end_matches(['\r', '\n']).to_owned())))
            }
            Lines::Terminal(editor, _) => {
                match editor.readline(if fresh { "benteng=> " } else { "benteng-> " }) {
                    Ok(line) => Ok(Some(Some(line))),
                    Err(ReadlineError::Interrupted) => Ok(Some(None)),
                    Err(ReadlineError::Eof) => Ok(None),
                    Err(e) => Err(e).context("cannot read the terminal"),
                }
            }
        }
    }

    fn remember(&mut self, statement: &str) {
        if let Lines::Terminal(editor, _) = self {
            // A history that cannot be kept is no reason to stop.
            let _ = editor.add_history_entry(format!("{statement};"));
        }
    }

    fn close(&mut self) {
        if let Lines::Terminal(editor, Some(path)) = self {
            let _ = editor.save_history(path);
        }
    }
}

/// `$XDG_STATE_HOME/benteng/sql_history`, made readable by its owner alone.
fn history_file() -> Option<PathBuf> {
    use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
    let state = std::env::var_os("XDG_STATE_HOME").map(PathBuf::from);
    let state =
        state.or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".local/state")))?;
    let dir = state.join("benteng");
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&dir).ok()?;
    let path = dir.join("sql_history");
    std::fs::OpenOptions::new().append(true).create(true).mode(0o600).open(&path).ok()?;
    Some(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_end_at_semicolons_outside_of_quotes_and_comments() {
        let check = |text: &str, statements: &[&str], rest: &str| {
            let (found, left) = split(text);
            assert_eq!(
                (found.iter().map(String::as_str).collect::<Vec<_>>().as_slice(), left.as_str()),
                (statements, rest)
            );
        };
        check("SELECT 1;\n", &["SELECT 1"], "");
        check("SELECT ';'; SELECT 2;", &["SELECT ';'", "SELECT 2"], "");
        check("SELECT 'it''s; ok';", &["SELECT 'it''s; ok'"], "");
        check("SELECT \"a;b\"; x", &["SELECT \"a;b\""], " x");
        check("SELECT 1 -- ; no\n;", &["SELECT 1 -- ; no"], "");
        check("/* ; /* ; */ ; */ SELECT 1;", &["/* ; /* ; */ ; */ SELECT 1"], "");
        check("SELECT 'open;", &[], "SELECT 'open;");
        check(";;;", &[], "");
    }
}
