//! What the benches print.

use std::time::Duration;

use anyhow::Result;
use serde::Serialize;

use super::commit::CommitArgs;
use super::histogram::Histogram;
use super::target::Target;
use super::worker::Seen;
use super::{Op, S3Args};
use crate::cli::Output;
use crate::output;

/// One operation.
pub(crate) struct Line {
    op: Op,
    size: u64,
    concurrency: u32,
    took: Histogram,
    done: u64,
    bytes: u64,
    /// Requests that failed.
    pub(crate) errors: u64,
    /// Keys asked for.
    pub(crate) asked: u64,
    /// From the first request to the last answer.
    pub(crate) elapsed: Duration,
    said: Vec<String>,
}

/// A line as programs read it. Times in milliseconds.
#[derive(Serialize)]
struct Out {
    op: &'static str,
    size_bytes: u64,
    concurrency: u32,
    requests: u64,
    errors: u64,
    seconds: f64,
    ops_per_second: f64,
    mib_per_second: f64,
    p50_ms: f64,
    p99_ms: f64,
    max_ms: f64,
}

#[derive(Serialize)]
struct Report {
    endpoints: Vec<String>,
    bucket: String,
    signed_bodies: bool,
    verified: bool,
    operations: Vec<Out>,
    /// Some of the errors.
    errors: Vec<String>,
}

impl Line {
    pub(crate) fn new(op: Op, args: &S3Args) -> Line {
        Line {
            op,
            size: args.size,
            concurrency: args.concurrency,
            took: Histogram::default(),
            done: 0,
            bytes: 0,
            errors: 0,
            asked: 0,
            elapsed: Duration::ZERO,
            said: Vec::new(),
        }
    }

    /// Adds what a worker saw.
    pub(crate) fn add(&mut self, seen: Seen) {
        self.took.merge(&seen.took);
        self.done += seen.done;
        self.bytes += seen.bytes;
        self.errors += seen.errors;
        self.asked = self.asked.max(seen.asked);
        self.said.extend(seen.said);
    }

    fn out(&self) -> Out {
        let seconds = self.elapsed.as_secs_f64().max(1e-9);
        let ms = |took: Duration| (took.as_secs_f64() * 1e6).round() / 1e3;
        Out {
            op: self.op.name(),
            size_bytes: self.size,
            concurrency: self.concurrency,
            requests: self.done,
            errors: self.errors,
            seconds,
            ops_per_second: self.done as f64 / seconds,
            mib_per_second: self.bytes as f64 / seconds / f64::from(1 << 20),
            p50_ms: ms(self.took.quantile(0.5)),
            p99_ms: ms(self.took.quantile(0.99)),
            max_ms: ms(self.took.max()),
        }
    }
}

/// Prints the report; errors in words go to people on standard error, and into the JSON.
pub(crate) fn print(output: Output, target: &Target, args: &S3Args, lines: &[Line]) -> Result<()> {
    let errors: Vec<String> = lines.iter().flat_map(|line| line.said.iter().take(5).cloned()).collect();
    let report = Report {
        endpoints: target.addresses.iter().map(|address| address.authority.clone()).collect(),
        bucket: target.bucket.clone(),
        signed_bodies: args.sign_body,
        verified: args.verify,
        operations: lines.iter().map(Line::out).collect(),
        errors,
    };
    output::result(output, &report, |report| {
        let rows: Vec<Vec<String>> = report.operations.iter().map(row).collect();
        output::table(
            &["op", "size", "clients", "requests", "errors", "ops/s", "MiB/s", "p50 ms", "p99 ms", "max ms"],
            &rows,
        )
    })?;
    if output == Output::Table {
        report.errors.iter().for_each(|e| output::say(&output::plain(e)));
    }
    Ok(())
}

fn row(out: &Out) -> Vec<String> {
    vec![
        out.op.to_owned(),
        output::bytes(out.size_bytes),
        out.concurrency.to_string(),
        out.requests.to_string(),
        out.errors.to_string(),
        format!("{:.0}", out.ops_per_second),
        format!("{:.1}", out.mib_per_second),
        format!("{:.3}", out.p50_ms),
        format!("{:.3}", out.p99_ms),
        format!("{:.3}", out.max_ms),
    ]
}

/// What `bench commit` saw. Times in milliseconds.
#[derive(Serialize)]
pub(crate) struct Commits {
    concurrency: u32,
    bytes: u32,
    leader_only: bool,
    commits: u64,
    seconds: f64,
    commits_per_second: f64,
    p50_ms: f64,
    p99_ms: f64,
    max_ms: f64,
    /// Commands per fsync of one node's journal, on average.
    commits_per_sync: f64,
    #[serde(skip)]
    took: Histogram,
}

impl Commits {
    pub(crate) fn new(args: &CommitArgs) -> Commits {
        Commits {
            concurrency: args.concurrency,
            bytes: args.bytes,
            leader_only: args.leader_only,
            commits: 0,
            seconds: 0.0,
            commits_per_second: 0.0,
            p50_ms: 0.0,
            p99_ms: 0.0,
            max_ms: 0.0,
            commits_per_sync: 0.0,
            took: Histogram::default(),
        }
    }

    /// Adds what a client saw.
    pub(crate) fn add(&mut self, took: &Histogram, done: u64) {
        self.took.merge(took);
        self.commits += done;
    }

    /// Reckons the rest; `syncs`: of all three journals.
    pub(crate) fn finish(&mut self, elapsed: Duration, syncs: u64) {
        let ms = |took: Duration| (took.as_secs_f64() * 1e6).round() / 1e3;
        self.seconds = elapsed.as_secs_f64();
        self.commits_per_second = self.commits as f64 / self.seconds.max(1e-9);
        self.p50_ms = ms(self.took.quantile(0.5));
        self.p99_ms = ms(self.took.quantile(0.99));
        self.max_ms = ms(self.took.max());
        self.commits_per_sync = self.commits as f64 * 3.0 / (syncs.max(1)) as f64;
    }
}

/// Prints what `bench commit` saw.
pub(crate) fn print_commits(output: Output, line: &Commits) -> Result<()> {
    output::result(output, line, |line| {
        let row = vec![
            line.concurrency.to_string(),
            line.commits.to_string(),
            format!("{:.0}", line.commits_per_second),
            format!("{:.3}", line.p50_ms),
            format!("{:.3}", line.p99_ms),
            format!("{:.3}", line.max_ms),
            format!("{:.1}", line.commits_per_sync),
        ];
        let header = ["clients", "commits", "commits/s", "p50 ms", "p99 ms", "max ms", "commits/fsync"];
        output::table(&header, &[row])
    })
}
