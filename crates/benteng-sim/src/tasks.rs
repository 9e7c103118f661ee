//! Tasks of a simulated host: on its own tokio runtime (turmoil makes one per boot),
//! behind its gate. Threads do not exist: a computation runs where it is asked for.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};

use benteng_host::{Fut, Task, TaskFailed, Tasks};
use futures::FutureExt;

use crate::Gate;

/// Spawns on the runtime of the host that calls.
#[derive(Clone)]
pub struct SimTasks {
    gate: Arc<Gate>,
    panicked: Arc<Mutex<Vec<&'static str>>>,
}

impl SimTasks {
    /// Tasks behind `gate`.
    pub fn new(gate: Arc<Gate>) -> SimTasks {
        SimTasks { gate, panicked: Arc::default() }
    }

    /// Names of the tasks and computations that panicked so far: verdicts of the run, even
    /// where an owner carries on.
    pub fn panicked(&self) -> Vec<&'static str> {
        self.panicked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn record(&self, name: &'static str) -> TaskFailed {
        self.panicked.lock().unwrap_or_else(PoisonError::into_inner).push(name);
        TaskFailed { name, panicked: true }
    }
}

struct AbortOnDrop(tokio::task::AbortHandle);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Tasks for SimTasks {
    fn spawn(&self, name: &'static str, future: Fut<()>) -> Task {
        let tasks = self.clone();
        // Caught here: a panic that reached turmoil would end the whole run.
        let run =
            async move { AssertUnwindSafe(future).catch_unwind().await.map_err(|_| tasks.record(name)) };
        let join = tokio::spawn(self.gate.guard(run));
        let abort = AbortOnDrop(join.abort_handle());
        let end = async move { join.await.unwrap_or(Err(TaskFailed { name, panicked: false })) };
        Task::new(Box::pin(end), Box::new(abort))
    }

    fn blocking(&self, name: &'static str, work: Box<dyn FnOnce() + Send>) -> Fut<Result<(), TaskFailed>> {
        let end = catch_unwind(AssertUnwindSafe(work)).map_err(|_| self.record(name));
        Box::pin(async move {
            // On the machine the answer never comes within the same poll.
            tokio::task::yield_now().await;
            end
        })
    }
}

#[cfg(test)]
mod tests {
    use benteng_host::compute;

    use super::*;
    use crate::testing::on_a_host;

    #[test]
    fn dropping_a_task_ends_it_and_a_panic_is_reported_to_owner_and_driver() {
        on_a_host(|| async {
            let tasks = SimTasks::new(Gate::new());
            let alive = Arc::new(());
            let held = alive.clone();
            let task = tasks.spawn(
                "forever",
                Box::pin(async move {
                    let _held = held;
                    std::future::pending::<()>().await;
                }),
            );
            tokio::task::yield_now().await;
            assert_eq!(Arc::strong_count(&alive), 2);
            drop(task);
            tokio::task::yield_now().await;
            assert_eq!(Arc::strong_count(&alive), 1, "its end drops what it holds");

            assert_eq!(tasks.spawn("fine", Box::pin(async {})).await, Ok(()));
            assert_eq!(compute(&tasks, "sum", || 1 + 1).await, Ok(2));
            assert!(tasks.panicked().is_empty());
            let planted = TaskFailed { name: "planted", panicked: true };
            assert_eq!(
                tasks.spawn("planted", Box::pin(async { panic!("a planted panic") })).await,
                Err(planted)
            );
            assert_eq!(
                compute(&tasks, "planted", || -> u8 { panic!("a planted panic") }).await,
                Err(planted)
            );
            assert_eq!(tasks.panicked(), ["planted", "planted"]);
        });
    }
}
