//! What commands print: tables for people, JSON for programs.

use std::io::{self, Write};

use anyhow::Result;
use serde::Serialize;

use crate::cli::Output;

/// Writes to standard output. A reader that went away (`| head`) ends the output, not the command.
pub(crate) fn print(text: &str) -> Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(e) if e.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => Ok(other?),
    }
}

/// Writes a line to standard error, for people; nobody there to read it is no failure.
pub(crate) fn say(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// Prints a result: as one JSON document, or what `table` makes of it.
pub(crate) fn result<T: Serialize>(
    output: Output,
    value: &T,
    table: impl FnOnce(&T) -> String,
) -> Result<()> {
    match output {
        Output::Json => print(&format!("{}\n", serde_json::to_string_pretty(value)?)),
        Output::Table => print(&table(value)),
        Output::Csv => Err(crate::usage("--output csv is for `benteng sql`; use table or json")),
    }
}

/// Prints that something is done: a sentence, or `{"done": true, …}`.
pub(crate) fn done(output: Output, what: &str) -> Result<()> {
    result(output, &serde_json::json!({"done": true, "message": what}), |_| format!("{what}\n"))
}

/// A table with a header; columns are as wide as their widest cell, numbers to the right.
pub(crate) fn table(header: &[&str], rows: &[Vec<String>]) -> String {
    let width = |text: &str| text.chars().count();
    let widths: Vec<usize> = (0..header.len())
        .map(|i| {
            rows.iter()
                .filter_map(|row| row.get(i))
                .map(|cell| width(cell))
                .chain([width(header[i])])
                .max()
                .unwrap_or(0)
        })
        .collect();
    let numeric: Vec<bool> = (0..header.len())
        .map(|i| {
            let mut cells =
                rows.iter().filter_map(|row| row.get(i)).filter(|cell| !cell.is_empty()).peekable();
            cells.peek().is_some() && cells.all(|cell| cell.parse::<f64>().is_ok())
        })
        .collect();
    let mut out = String::new();
    let mut line = |cells: &mut dyn Iterator<Item = &str>| {
        let mut text = String::new();
        for (i, cell) in cells.enumerate() {
            let space = " ".repeat(widths[i].saturating_sub(width(cell)));
            let (before, after) = if numeric[i] { (space.as_str(), "") } else { ("", space.as_str()) };
            text.push_str(&format!("{}{before}{cell}{after}", if i == 0 { "" } else { "  " }));
        }
        out.push_str(text.trim_end());
        out.push('\n');
    };
    line(&mut header.iter().copied());
    line(&mut widths.iter().map(|w| "-".repeat(*w)).collect::<Vec<_>>().iter().map(String::as_str));
    for row in rows {
        line(&mut (0..header.len()).map(|i| row.get(i).map_or("", String::as_str)));
    }
    out
}

/// Names and values below each other.
pub(crate) fn pairs(pairs: &[(&str, String)]) -> String {
    let width = pairs.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    pairs.iter().map(|(name, value)| format!("{name:<width$}  {value}\n")).collect()
}

/// A number of bytes for people.
pub(crate) fn bytes(n: u64) -> String {
    indicatif::HumanBytes(n).to_string()
}

/// A number of seconds for people: in its largest unit that fits twice.
pub(crate) fn duration(seconds: u64) -> String {
    match seconds {
        0..=119 => format!("{seconds} s"),
        120..=7199 => format!("{} minutes", seconds / 60),
        7200..=172_799 => format!("{} hours", seconds / 3600),
        _ => format!("{} days", seconds / 86_400),
    }
}

/// A bar that shows progress on a terminal, for people alone. `unit`: `bytes`, or what is counted.
pub(crate) fn progress(output: Output, all: u64, unit: &str) -> indicatif::ProgressBar {
    let bar = indicatif::ProgressBar::new(all);
    let numbers = match unit {
        "bytes" => "{bytes} of {total_bytes}".to_owned(),
        unit => format!("{{pos}} of {{len}} {unit}"),
    };
    if let Ok(style) =
        indicatif::ProgressStyle::with_template(&format!("{{wide_bar}} {numbers}, {{eta}} left"))
    {
        bar.set_style(style);
    }
    if output != Output::Table || !io::IsTerminal::is_terminal(&io::stderr()) {
        bar.set_draw_target(indicatif::ProgressDrawTarget::hidden());
    }
    bar
}

/// Text of others made safe for a terminal: control characters are shown, not obeyed.
pub(crate) fn plain(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { c.escape_default().to_string() } else { c.to_string() })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_align_texts_left_and_numbers_right() {
        let rows = vec![vec!["a".into(), "5".into()], vec!["äöü".into(), "12".into()]];
        assert_eq!(table(&["name", "n"], &rows), "name   n\n----  --\na      5\näöü   12\n");
        assert_eq!(table(&["name"], &[]), "name\n----\n");
    }

    #[test]
    fn durations_are_told_in_the_largest_unit_that_fits() {
        let told: Vec<String> = [40, 119, 120, 7200, 200_000].into_iter().map(duration).collect();
        assert_eq!(told, ["40 s", "119 s", "2 minutes", "2 hours", "2 days"]);
    }

    #[test]
    fn control_characters_reach_no_terminal() {
        assert_eq!(plain("a\u{1b}[2Jb\n"), "a\\u{1b}[2Jb\\n");
    }
}
