//! Threads of their own for queries: an operator that holds its thread for long holds up
//! other queries, never the node's consensus, its doors or a cancel request.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};

use tokio::runtime::{Builder, Handle, Runtime};
use tokio::task::JoinHandle;

use crate::{Error, Result};

/// Parsers and planners recurse as deep as a statement is chained (`session` bounds that);
/// unused stack costs address space only.
const STACK_BYTES: usize = 64 << 20;

/// Threads for queries. Cheap to clone; the last clone that goes ends them.
#[derive(Clone)]
pub struct QueryRuntime(Arc<Inner>);

struct Inner {
    /// `None` only while the last clone is dropped.
    runtime: Option<Runtime>,
    handle: Handle,
}

impl QueryRuntime {
    /// Starts `threads` workers named `query-N`.
    pub fn start(threads: usize) -> Result<QueryRuntime> {
        let number = AtomicUsize::new(0);
        let runtime = Builder::new_multi_thread()
            .worker_threads(threads.max(1))
            // Spill files and blocking file work; they wait in line beyond this.
            .max_blocking_threads(16)
            .thread_name_fn(move || format!("query-{}", number.fetch_add(1, Ordering::Relaxed)))
            .thread_stack_size(STACK_BYTES)
            .enable_all()
            .build()
            .map_err(Error::Threads)?;
        let handle = runtime.handle().clone();
        Ok(QueryRuntime(Arc::new(Inner { runtime: Some(runtime), handle })))
    }

    /// Runs `future` on these threads.
    ///
    /// Cancellation: dropping the [`Running`] ends the work at its next `.await`.
    pub fn run<T: Send + 'static>(&self, future: impl Future<Output = T> + Send + 'static) -> Running<T> {
        Running(self.0.handle.spawn(future))
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // The last handle may go inside of async code, where waiting for threads is forbidden.
            runtime.shutdown_background();
        }
    }
}

/// Work under way on a [`QueryRuntime`]: a future of its result.
pub struct Running<T>(JoinHandle<T>);

impl<T> Future for Running<T> {
    type Output = Result<T>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<T>> {
        let joined = ready!(Pin::new(&mut self.0).poll(cx));
        Poll::Ready(joined.map_err(|e| if e.is_panic() { Error::Panicked } else { Error::Cancelled }))
    }
}

impl<T> Drop for Running<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn work_runs_on_named_threads_and_panics_stay_there() {
        let runtime = QueryRuntime::start(1).expect("threads");
        let name =
            runtime.run(async { std::thread::current().name().map(str::to_owned) }).await.expect("ran");
        assert_eq!(name.as_deref(), Some("query-0"));
        let failed = runtime.run(async { panic!("on purpose") }).await;
        assert!(matches!(failed, Err::<(), _>(Error::Panicked)));
    }

    #[tokio::test]
    async fn dropped_work_ends() {
        struct Told(Option<tokio::sync::oneshot::Sender<()>>);
        impl Drop for Told {
            fn drop(&mut self) {
                let _ = self.0.take().map(|tx| tx.send(()));
            }
        }
        let runtime = QueryRuntime::start(1).expect("threads");
        let (tx, ended) = tokio::sync::oneshot::channel();
        let told = Told(Some(tx));
        drop(runtime.run(async move {
            let _told = told;
            std::future::pending::<()>().await;
        }));
        ended.await.expect("the task was dropped");
    }
}
