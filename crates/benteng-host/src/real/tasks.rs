//! Tasks on the tokio runtime.

use tokio::runtime::Handle;
use tokio::task::{AbortHandle, JoinError};

use crate::{Fut, Task, TaskFailed, Tasks};

/// Spawns on one tokio runtime.
pub struct TokioTasks {
    runtime: Handle,
}

impl TokioTasks {
    /// Spawns on the calling runtime. Panics outside of one.
    pub fn current() -> TokioTasks {
        TokioTasks { runtime: Handle::current() }
    }
}

struct AbortOnDrop(AbortHandle);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

fn failed(name: &'static str, e: &JoinError) -> TaskFailed {
    TaskFailed { name, panicked: e.is_panic() }
}

impl Tasks for TokioTasks {
    fn spawn(&self, name: &'static str, future: Fut<()>) -> Task {
        let join = self.runtime.spawn(future);
        let abort = AbortOnDrop(join.abort_handle());
        Task::new(Box::pin(async move { join.await.map_err(|e| failed(name, &e)) }), Box::new(abort))
    }

    fn blocking(&self, name: &'static str, work: Box<dyn FnOnce() + Send>) -> Fut<Result<(), TaskFailed>> {
        let join = self.runtime.spawn_blocking(work);
        Box::pin(async move { join.await.map_err(|e| failed(name, &e)) })
    }
}

#[cfg(test)]
mod tests;
