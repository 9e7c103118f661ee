//! Owned tasks. Nothing runs detached: whoever spawns a task holds its [`Task`], sees its
//! panic, and ends it by dropping the handle.

use std::any::Any;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll};

use futures::channel::oneshot;

use crate::Fut;

/// A task panicked or was ended from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("task {name} {}", if *.panicked { "panicked" } else { "was cancelled" })]
pub struct TaskFailed {
    /// The name it was spawned with.
    pub name: &'static str,
    /// Whether it panicked (the panic hook has logged why).
    pub panicked: bool,
}

/// Runs tasks and blocking computations.
pub trait Tasks: Send + Sync {
    /// Starts `future`. The task ends when it does, or when the handle is dropped.
    fn spawn(&self, name: &'static str, future: Fut<()>) -> Task;

    /// Runs `work` where it may take the CPU for long (hashing, compression, key derivation)
    /// without holding up other tasks. It runs to its end even if the future is dropped.
    fn blocking(&self, name: &'static str, work: Box<dyn FnOnce() + Send>) -> Fut<Result<(), TaskFailed>>;
}

/// Runs `work` on [`Tasks::blocking`] and returns what it computed.
pub async fn compute<T: Send + 'static>(
    tasks: &dyn Tasks,
    name: &'static str,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, TaskFailed> {
    let (tx, rx) = oneshot::channel();
    let run = Box::new(move || {
        // The receiver may be gone: then nobody wants the answer.
        let _ = tx.send(work());
    });
    tasks.blocking(name, run).await?;
    rx.await.map_err(|_| TaskFailed { name, panicked: true })
}

/// Handle of a running task: a future of its end. Dropping it ends the task at its next `.await`.
pub struct Task {
    /// Only ever reached through `&mut`: the lock makes the handle shareable, and is never contended.
    end: Mutex<Fut<Result<(), TaskFailed>>>,
    /// Ends the task when dropped.
    _abort: Box<dyn Any + Send + Sync>,
}

impl Task {
    /// Made by implementations of [`Tasks`]: `end` completes with the task, and dropping `abort` ends it.
    pub fn new(end: Fut<Result<(), TaskFailed>>, abort: Box<dyn Any + Send + Sync>) -> Task {
        Task { end: Mutex::new(end), _abort: abort }
    }
}

impl Future for Task {
    type Output = Result<(), TaskFailed>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.end.get_mut().unwrap_or_else(PoisonError::into_inner).as_mut().poll(cx)
    }
}
