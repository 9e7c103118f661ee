//! A host's gate: every poll of every task passes it. Closed for a while it is SIGSTOP
//! (timers run out and segments arrive meanwhile, nobody looks); closed for good it is the
//! instant in which a process dies, before the driver gets to crash its host.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use tokio::sync::Notify;

/// Pauses a host's tasks, or stops them for good and keeps the reason.
#[derive(Default)]
pub struct Gate {
    state: Mutex<State>,
    stopped: Notify,
}

#[derive(Default)]
struct State {
    paused: bool,
    stopped: Option<String>,
    /// Tasks that were polled while the gate was closed, in the order of their start.
    waiting: BTreeMap<u64, Waker>,
    next_task: u64,
}

impl Gate {
    /// An open gate.
    pub fn new() -> Arc<Gate> {
        Arc::new(Gate::default())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// SIGSTOP: from now on no task goes on.
    pub fn pause(&self) {
        self.lock().paused = true;
    }

    /// SIGCONT.
    pub fn resume(&self) {
        let mut state = self.lock();
        state.paused = false;
        let waiting = std::mem::take(&mut state.waiting);
        drop(state);
        waiting.into_values().for_each(Waker::wake);
    }

    /// Stops the host for good: no task goes on, disk operations under way never complete.
    /// The first reason stays.
    pub fn stop(&self, why: impl Into<String>) {
        self.lock().stopped.get_or_insert_with(|| why.into());
        self.stopped.notify_waiters();
    }

    /// Why the host stopped, if it did.
    pub fn stopped(&self) -> Option<String> {
        self.lock().stopped.clone()
    }

    /// Waits until the host stops; returns why. For tests that drive a disk without a
    /// simulation: race the workload against this, then cut the power.
    pub async fn wait_stopped(&self) -> String {
        loop {
            let notified = self.stopped.notified();
            if let Some(why) = self.stopped() {
                return why;
            }
            notified.await;
        }
    }

    /// Opens the gate for the next boot. The tasks of the last one must be gone.
    pub fn reopen(&self) {
        let mut state = self.lock();
        *state = State { next_task: state.next_task, ..State::default() };
    }

    /// `future`, behind this gate.
    pub fn guard<F: Future>(self: &Arc<Gate>, future: F) -> Guarded<F> {
        let mut state = self.lock();
        let task = state.next_task;
        state.next_task += 1;
        drop(state);
        Guarded { gate: self.clone(), task, inner: Box::pin(future) }
    }
}

/// A future behind a [`Gate`].
pub struct Guarded<F> {
    gate: Arc<Gate>,
    task: u64,
    inner: Pin<Box<F>>,
}

impl<F: Future> Future for Guarded<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        {
            let mut state = self.gate.lock();
            if state.stopped.is_some() {
                return Poll::Pending;
            }
            if state.paused {
                state.waiting.insert(self.task, cx.waker().clone());
                return Poll::Pending;
            }
        }
        self.inner.as_mut().poll(cx)
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[test]
    fn a_paused_task_does_not_go_on_until_resumed_and_is_woken_then() {
        let gate = Gate::new();
        let (tx, rx) = futures::channel::oneshot::channel();
        let mut task = Box::pin(gate.guard(rx));
        assert!(task.as_mut().now_or_never().is_none(), "nothing was sent");
        gate.pause();
        assert_eq!(tx.send(1), Ok(()));
        let woken = futures_test_waker();
        assert!(task.as_mut().poll(&mut Context::from_waker(&woken.0)).is_pending(), "paused");
        assert!(!woken.1.load(std::sync::atomic::Ordering::SeqCst));
        gate.resume();
        assert!(woken.1.load(std::sync::atomic::Ordering::SeqCst), "resuming wakes");
        assert_eq!(task.now_or_never(), Some(Ok(1)));
    }

    #[test]
    fn a_stopped_host_never_goes_on_and_keeps_the_first_reason() {
        let gate = Gate::new();
        let mut task = Box::pin(gate.guard(async {}));
        gate.stop("first");
        gate.stop("second");
        gate.resume();
        assert!(task.as_mut().now_or_never().is_none(), "stopped");
        assert_eq!(gate.wait_stopped().now_or_never().as_deref(), Some("first"));
        gate.reopen();
        assert_eq!(gate.stopped(), None);
    }

    fn futures_test_waker() -> (Waker, Arc<std::sync::atomic::AtomicBool>) {
        struct Flag(Arc<std::sync::atomic::AtomicBool>);
        impl std::task::Wake for Flag {
            fn wake(self: Arc<Self>) {
                self.0.store(true, std::sync::atomic::Ordering::SeqCst);
            }
        }
        let woken = Arc::new(std::sync::atomic::AtomicBool::new(false));
        (Arc::new(Flag(woken.clone())).into(), woken)
    }
}
