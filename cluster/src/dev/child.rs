//! One node's process: a child that dies with us. It is bound twice: by the kernel's
//! parent-death signal, and by the pipe that is its standard input.

use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::process::{ChildStdin, Command};

/// How long a node may take to stop; the whole site has 15 s.
const STOP_WITHIN: Duration = Duration::from_secs(12);

/// A running node.
pub(super) struct Child {
    pid: u32,
    process: tokio::process::Child,
    /// The end of this pipe ends the node.
    stdin: Option<ChildStdin>,
}

impl Child {
    /// Starts a node with this configuration. Called on the main thread: the kernel's
    /// parent-death signal follows the thread that forked, not the process.
    pub(super) fn start(config: &Path) -> Result<Child> {
        // A binary that was replaced while we run is still there under this name.
        let own = std::env::current_exe().ok().filter(|path| path.exists());
        let mut command = Command::new(own.unwrap_or_else(|| "/proc/self/exe".into()));
        command.arg("node-child").arg("--config").arg(config);
        command.stdin(Stdio::piped()).stdout(Stdio::null()).kill_on_drop(true);
        let mut process = command.spawn().context("cannot start a node's process")?;
        let pid = process.id().context("a node ended before it began")?;
        let stdin = process.stdin.take();
        Ok(Child { pid, process, stdin })
    }

    /// The process id.
    pub(super) fn pid(&self) -> u32 {
        self.pid
    }

    /// How the node ended, if it has.
    pub(super) fn ended(&mut self) -> Result<Option<ExitStatus>> {
        self.process.try_wait().context("cannot look after a node's process")
    }

    /// Stops the node: asks, then insists.
    pub(super) async fn stop(mut self) {
        if let Ok(pid) = i32::try_from(self.pid) {
            // It may have ended by itself.
            let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
        }
        self.stdin = None;
        if tokio::time::timeout(STOP_WITHIN, self.process.wait()).await.is_err() {
            tracing::warn!(pid = self.pid, "node did not stop in time and is killed");
            // An error means that it has ended meanwhile.
            let _ = self.process.kill().await;
        }
    }
}
