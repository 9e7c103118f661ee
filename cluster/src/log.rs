//! Logs on standard error, and what a panic does.

use std::io::{self, IsTerminal, Write};

use anyhow::{Context, Result};
use tracing::Level;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, fmt};

use crate::config::LogFormat;

/// Installs the log for the whole process. `name` marks every line, for processes that share an output.
///
/// Errors: a filter that does not parse.
pub(crate) fn init(filter: &str, format: LogFormat, name: Option<String>) -> Result<()> {
    let filter = EnvFilter::try_new(filter).with_context(|| {
        format!("log.filter {filter:?} is no filter; write as in `info,benteng_consensus=debug`")
    })?;
    let terminal = io::stderr().is_terminal();
    let json = match format {
        LogFormat::Auto => !terminal,
        LogFormat::Human => false,
        LogFormat::Json => true,
    };
    let writer = Named { mark: name.map(|name| mark(&name, json)) };
    let base = fmt().with_env_filter(filter).with_ansi(terminal && !json).with_writer(writer);
    let discreet = filter_fn(|event| is_discreet(*event.level(), event.target()));
    let installed = if json {
        base.json().flatten_event(true).finish().with(discreet).try_init()
    } else {
        base.finish().with(discreet).try_init()
    };
    installed.map_err(|e| anyhow::anyhow!("the log cannot be installed: {e}"))?;
    install_panic_hook();
    Ok(())
}

/// Whether an event may be logged, whatever the filter asks for (I5). Our own crates keep secrets, bodies
/// and literals out of their logs at every level; others write headers, statements and plans with their
/// literals below `info`, and s3s the bodies of bad requests at any.
fn is_discreet(level: Level, target: &str) -> bool {
    let within =
        |name: &str| target.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"));
    target.starts_with("benteng") || (level <= Level::INFO && !within("s3s"))
}

/// What is written before a line to mark it, and how much of the line it replaces.
fn mark(name: &str, json: bool) -> Mark {
    if json {
        // Every line opens its object; ours opens it with one field more.
        Mark { text: format!("{{\"process\":{},", serde_json::Value::from(name)), replaces: 1 }
    } else {
        Mark { text: format!("{name} "), replaces: 0 }
    }
}

#[derive(Clone)]
struct Mark {
    text: String,
    replaces: usize,
}

/// Standard error with a mark before each line. The layer above hands over whole lines.
struct Named {
    mark: Option<Mark>,
}

impl<'a> MakeWriter<'a> for Named {
    type Writer = Line<'a>;

    fn make_writer(&'a self) -> Line<'a> {
        Line { mark: self.mark.as_ref() }
    }
}

struct Line<'a> {
    mark: Option<&'a Mark>,
}

impl Write for Line<'_> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let mut err = io::stderr().lock();
        let written = match self.mark {
            Some(mark) => {
                // One call per line: lines of several processes on one pipe do not mix.
                let rest = line.get(mark.replaces..).unwrap_or_default();
                err.write_all(&[mark.text.as_bytes(), rest].concat())
            }
            None => err.write_all(line),
        };
        written.map(|()| line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().lock().flush()
    }
}

/// Logs panics, and aborts on a broken invariant: a node that broke a promise must not go on.
fn install_panic_hook() {
    let default = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let message = panic.payload_as_str().unwrap_or("a panic without text");
        let at = panic.location().map(ToString::to_string).unwrap_or_default();
        metrics::counter!("benteng_panics_total").increment(1);
        if opens_with_invariant(message) {
            tracing::error!(
                message,
                at,
                "broken invariant: the node stops at once; report this with the log before it"
            );
            default(panic);
            std::process::abort();
        }
        tracing::error!(message, at, "panic");
    }));
}

/// Whether a message opens with the number of a promise: `I4: …`, `I10 …`.
fn opens_with_invariant(message: &str) -> bool {
    let Some(rest) = message.strip_prefix('I') else { return false };
    let number: String = rest.chars().take_while(char::is_ascii_digit).collect();
    let after = rest[number.len()..].chars().next();
    (1..=2).contains(&number.len()) && after.is_none_or(|c| c == ':' || c.is_whitespace())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_of_broken_invariants_are_told_from_others() {
        for (message, broken) in [
            ("I1: object has 1 durable copy", true),
            ("I10 chain", true),
            ("I4", true),
            ("I/O error", false),
            ("I: x", false),
            ("I123: x", false),
            ("Index 4", false),
            ("I4x", false),
            ("", false),
        ] {
            assert_eq!(opens_with_invariant(message), broken, "{message:?}");
        }
    }

    #[test]
    fn i5_other_crates_are_never_heard_below_info() {
        for (level, target, heard) in [
            (Level::TRACE, "benteng_s3::answer", true),
            (Level::DEBUG, "benteng", true),
            (Level::INFO, "openraft::raft", true),
            (Level::DEBUG, "sqlparser::parser", false),
            (Level::TRACE, "datafusion_optimizer::utils", false),
            (Level::ERROR, "s3s::service", false),
            (Level::ERROR, "s3s", false),
            (Level::WARN, "s3something", true),
        ] {
            assert_eq!(is_discreet(level, target), heard, "{level} {target}");
        }
    }

    #[test]
    fn marks_name_the_process_in_both_formats() {
        let line = |json, line: &str| {
            let mark = mark("node-1", json);
            format!("{}{}", mark.text, &line[mark.replaces..])
        };
        assert_eq!(line(false, "INFO x"), "node-1 INFO x");
        let json: serde_json::Value =
            serde_json::from_str(&line(true, r#"{"level":"INFO"}"#)).expect("still JSON");
        assert_eq!(json["process"], "node-1");
    }
}
