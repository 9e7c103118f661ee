//! `benteng bench`: what an S3 endpoint bears, and what this machine's disks commit (`commit`).
//!
//! The way of a request of `bench s3`: [`run`] starts as many workers as asked for -> `worker` takes the next key of
//! the plan -> `sign` signs -> `wire` sends it on the worker's own connection and counts what comes
//! back -> `histogram` -> one line of the report per operation.
//!
//! Closed loop, unless `--rate` paces it: a worker sends its next request when the last one was answered. Bodies are
//! made beforehand and look random, a different cut of them for each key, so that neither compression nor
//! deduplication flatters an endpoint, and no time goes into making them.

mod commit; // three nodes in this process
mod histogram; // latencies, bounded
mod report; // what is printed
mod sign; // SigV4 of a client
mod target; // which endpoint, as whom
mod wire; // connections and requests
mod worker; // one client and its operations

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::{Args, Subcommand, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};

use crate::cli::Global;

/// `benteng bench …`
#[derive(Subcommand)]
pub(crate) enum BenchVerb {
    /// Load an S3 endpoint and measure it.
    ///
    /// Endpoint and credentials come from the environment or from `--site FILE`: AWS_ENDPOINT_URL,
    /// AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_REGION. The bucket is created if it is missing; what
    /// was put is deleted at the end unless `--keep`.
    S3(S3Args),
    /// Measure how many commands three nodes on this machine commit.
    Commit(commit::CommitArgs),
}

/// What to measure.
#[derive(Args, Clone)]
pub(crate) struct S3Args {
    /// Endpoint; may be repeated: clients are spread over them [default: AWS_ENDPOINT_URL].
    #[arg(long = "endpoint", value_name = "URL")]
    pub(crate) endpoints: Vec<String>,
    /// Bucket.
    #[arg(long, default_value = "benteng-bench")]
    pub(crate) bucket: String,
    /// Operations, in this order; get, head, list and delete work on what put has stored.
    #[arg(long, value_delimiter = ',', value_enum, default_values_t = [Op::Put, Op::Get, Op::Head, Op::List, Op::Delete])]
    pub(crate) ops: Vec<Op>,
    /// Size of an object: bytes, or with KiB, MiB, GiB.
    #[arg(long, default_value = "4KiB", value_parser = parse_size)]
    pub(crate) size: u64,
    /// Requests in flight.
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub(crate) concurrency: u32,
    /// Seconds per operation (delete: until all that was put is gone).
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) seconds: u64,
    /// Requests per operation; the first of `--seconds` and this ends it.
    #[arg(long, value_name = "N")]
    pub(crate) requests: Option<u64>,
    /// Requests a second at most, evenly; a request's time then counts from when it was due, so that one slow
    /// answer does not hide those that had to wait behind it.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) rate: Option<u32>,
    /// Sign the hash of each body, as SDKs do over plain HTTP, rather than leave it unsigned.
    #[arg(long)]
    pub(crate) sign_body: bool,
    /// Compare every byte that get receives.
    #[arg(long)]
    pub(crate) verify: bool,
    /// Prefix of the keys; also what list lists and head and get look for.
    #[arg(long, default_value = "bench/")]
    pub(crate) prefix: String,
    /// Leave the objects where they are.
    #[arg(long)]
    pub(crate) keep: bool,
}

/// An operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Op {
    /// PutObject.
    Put,
    /// GetObject.
    Get,
    /// HeadObject.
    Head,
    /// ListObjectsV2, a thousand keys a page.
    List,
    /// DeleteObject.
    Delete,
}

impl Op {
    fn name(self) -> &'static str {
        match self {
            Op::Put => "put",
            Op::Get => "get",
            Op::Head => "head",
            Op::List => "list",
            Op::Delete => "delete",
        }
    }
}

/// Largest object of the bench: a body is held in memory whole, once for all workers.
const SIZE_MAX: u64 = 1 << 30;

fn parse_size(text: &str) -> std::result::Result<u64, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let unit = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kib" => 1 << 10,
        "m" | "mib" => 1 << 20,
        "g" | "gib" => 1_u64 << 30,
        other => return Err(format!("{other:?} is no unit; use KiB, MiB or GiB")),
    };
    let number: u64 = number.parse().map_err(|_| format!("{text:?} is not a size"))?;
    let size = number.checked_mul(unit).filter(|size| *size <= SIZE_MAX);
    size.ok_or_else(|| "an object of the bench has at most 1 GiB".to_owned())
}

/// Which key a worker takes next, shared by all workers of an operation.
struct Plan {
    op: Op,
    next: AtomicU64,
    /// Keys that are there: what get, head and delete go through.
    stored: u64,
    requests: u64,
    begun: Instant,
    until: Instant,
    /// Requests a second; `None`: as fast as they are answered.
    rate: Option<u32>,
}

impl Plan {
    /// The next key's number, and when its request is due; `None`: the operation is over.
    fn next(&self) -> Option<(u64, Option<Instant>)> {
        if self.op != Op::Delete && Instant::now() >= self.until {
            return None;
        }
        let n = self.next.fetch_add(1, Ordering::Relaxed);
        if n >= self.requests {
            return None;
        }
        let due = self.rate.map(|rate| self.begun + Duration::from_secs_f64(n as f64 / f64::from(rate)));
        if self.op != Op::Delete && due.is_some_and(|due| due >= self.until) {
            return None;
        }
        let key = match self.op {
            Op::Put | Op::List => n,
            Op::Delete if n < self.stored => n,
            Op::Delete => return None,
            // Not one after the other: a cache line or a page that was just read flatters.
            Op::Get | Op::Head => n.wrapping_mul(0x9E37_79B9_7F4A_7C15) % self.stored.max(1),
        };
        Some((key, due))
    }
}

pub(crate) async fn run(global: &Global, verb: BenchVerb) -> Result<ExitCode> {
    let args = match verb {
        BenchVerb::S3(args) => args,
        BenchVerb::Commit(args) => return commit::run(global, args).await.map(|()| ExitCode::SUCCESS),
    };
    let target = Arc::new(target::Target::find(global, &args)?);
    target.make_bucket().await?;
    let bodies = Arc::new(worker::Bodies::new(args.size)?);
    let mut stored = 0;
    let mut lines = Vec::new();
    for op in &args.ops {
        if *op != Op::Put && *op != Op::List && stored == 0 {
            stored = target.count(&args.prefix).await.context("cannot count what is stored")?;
            if stored == 0 {
                return Err(crate::usage("nothing is stored under the prefix; let put come first"));
            }
        }
        let line = measure(&target, &args, *op, stored, &bodies).await?;
        if *op == Op::Put {
            stored = stored.max(line.asked);
        }
        lines.push(line);
    }
    if !args.keep && !args.ops.contains(&Op::Delete) && args.ops.contains(&Op::Put) {
        // Not measured: the next run begins as this one did.
        measure(&target, &S3Args { requests: None, rate: None, ..args.clone() }, Op::Delete, stored, &bodies)
            .await?;
    }
    let failed = lines.iter().any(|line| line.errors > 0);
    report::print(global.output, &target, &args, &lines)?;
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Runs one operation with all workers and sums up what they saw.
async fn measure(
    target: &Arc<target::Target>,
    args: &S3Args,
    op: Op,
    stored: u64,
    bodies: &Arc<worker::Bodies>,
) -> Result<report::Line> {
    let begun = Instant::now();
    let plan = Arc::new(Plan {
        op,
        next: AtomicU64::new(0),
        stored,
        requests: args.requests.filter(|_| op != Op::Delete).unwrap_or(u64::MAX),
        begun,
        until: begun + Duration::from_secs(args.seconds),
        rate: args.rate,
    });
    let progress = progress(op, args.seconds);
    let mut workers = tokio::task::JoinSet::new();
    for number in 0..args.concurrency {
        let worker = worker::Worker::new(number, target.clone(), args.clone(), bodies.clone());
        let (plan, progress) = (plan.clone(), progress.clone());
        workers.spawn(worker.run(plan, progress));
    }
    let mut line = report::Line::new(op, args);
    while let Some(seen) = workers.join_next().await {
        line.add(seen.context("a worker of the bench broke down")?);
    }
    line.elapsed = begun.elapsed();
    progress.finish_and_clear();
    Ok(line)
}

fn progress(op: Op, seconds: u64) -> ProgressBar {
    let style = ProgressStyle::with_template("{msg:>6} {elapsed} {pos} requests, {per_sec}")
        .unwrap_or_else(|_| ProgressStyle::default_spinner());
    let bar = ProgressBar::new_spinner().with_style(style);
    bar.set_message(op.name());
    bar.enable_steady_tick(Duration::from_millis(500.min(seconds * 100)));
    bar
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_people_write_them() {
        for (text, size) in [
            ("0", Some(0)),
            ("4096", Some(4096)),
            ("4KiB", Some(4096)),
            ("64k", Some(65_536)),
            ("16 MiB", Some(16 << 20)),
            ("1GiB", Some(1 << 30)),
            ("2GiB", None),
            ("4 potatoes", None),
            ("", None),
            ("99999999999999999999", None),
        ] {
            assert_eq!(parse_size(text).ok(), size, "{text}");
        }
    }

    #[test]
    fn a_plan_ends_by_number_and_delete_takes_every_key_once() {
        let begun = Instant::now();
        let plan = |op, stored, requests| Plan {
            op,
            next: AtomicU64::new(0),
            stored,
            requests,
            begun,
            until: begun + Duration::from_secs(60),
            rate: None,
        };
        let all =
            |plan: Plan| std::iter::from_fn(move || plan.next()).map(|(key, _)| key).collect::<Vec<_>>();
        assert_eq!(all(plan(Op::Put, 0, 3)), [0, 1, 2]);
        assert_eq!(all(plan(Op::Delete, 3, u64::MAX)), [0, 1, 2]);
        let got = all(plan(Op::Get, 5, 100));
        assert_eq!(got.len(), 100);
        assert!((0..5).all(|key| got.contains(&key)), "get goes through all keys: {got:?}");
        // Two a second for a minute, evenly.
        let paced = Plan { rate: Some(2), ..plan(Op::Put, 0, u64::MAX) };
        let due: Vec<f64> = std::iter::from_fn(|| paced.next())
            .filter_map(|(_, due)| due.map(|due| (due - paced.begun).as_secs_f64()))
            .collect();
        assert_eq!((due.len(), due[1], due[3]), (120, 0.5, 1.5));
    }
}
