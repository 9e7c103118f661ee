//! Runs of this program in processes of their own: libraries keep process-wide state.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

/// How a process ended: what it said, or that it crashed, spun, or could not say.
pub(crate) struct Ended {
    /// Which run.
    pub(crate) run: usize,
    /// Its standard output, or why there is none.
    pub(crate) text: String,
    /// Processor time is not known; this is how long it took, in seconds.
    pub(crate) seconds: f64,
}

/// Processes under way.
pub(crate) struct Pool {
    program: std::path::PathBuf,
    parallel: usize,
    hang: Duration,
    running: Vec<(usize, Instant, Child)>,
}

impl Pool {
    /// As many at once as `jobs` says; 0: one per core. A run that takes longer than `hang` spins.
    pub(crate) fn new(jobs: usize, hang: Duration) -> Result<Pool> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let program = std::env::current_exe().context("cannot find this program")?;
        Ok(Pool { program, parallel: if jobs == 0 { cores } else { jobs }, hang, running: Vec::new() })
    }

    /// Whether there is room for one more.
    pub(crate) fn has_room(&self) -> bool {
        self.running.len() < self.parallel
    }

    /// Whether nothing runs.
    pub(crate) fn is_idle(&self) -> bool {
        self.running.is_empty()
    }

    /// Starts a run with these arguments.
    pub(crate) fn start(&mut self, run: usize, args: &[String]) -> Result<()> {
        let child = Command::new(&self.program)
            .args(args)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("cannot start a run")?;
        self.running.push((run, Instant::now(), child));
        Ok(())
    }

    /// Waits for the next end.
    pub(crate) fn wait(&mut self) -> Result<Option<Ended>> {
        while !self.running.is_empty() {
            let mut ended = None;
            for (at, (_, since, child)) in self.running.iter_mut().enumerate() {
                if child.try_wait()?.is_some() {
                    ended = Some(at);
                } else if since.elapsed() > self.hang {
                    // A spinning node holds the whole simulation up: a verdict like any other.
                    child.kill()?;
                    ended = Some(at);
                }
            }
            let Some(at) = ended else {
                std::thread::sleep(Duration::from_millis(10));
                continue;
            };
            let (run, since, child) = self.running.swap_remove(at);
            let output = child.wait_with_output()?;
            let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
            if !output.status.success() {
                text = format!("{}: {}", output.status, String::from_utf8_lossy(&output.stderr));
            }
            return Ok(Some(Ended { run, text, seconds: since.elapsed().as_secs_f64() }));
        }
        Ok(None)
    }

    /// Ends what still runs.
    pub(crate) fn stop(&mut self) {
        for (_, _, mut child) in self.running.drain(..) {
            // It may have ended by itself.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.stop();
    }
}
