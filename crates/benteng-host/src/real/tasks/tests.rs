//! What [`Tasks`] promises, on tokio.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::{mpsc, oneshot};

use super::*;
use crate::compute;

/// Says so when the task that holds it is gone.
struct Gone(Option<oneshot::Sender<()>>);

impl Drop for Gone {
    fn drop(&mut self) {
        if let Some(tx) = self.0.take() {
            let _ = tx.send(());
        }
    }
}

#[tokio::test]
async fn dropping_a_task_ends_it() {
    let tasks = TokioTasks::current();
    let (tx, gone) = oneshot::channel();
    let (started, mut running) = mpsc::channel(1);
    let task = tasks.spawn(
        "forever",
        Box::pin(async move {
            let _gone = Gone(Some(tx));
            let _ = started.send(()).await;
            std::future::pending::<()>().await;
        }),
    );
    running.recv().await.expect("it starts");
    drop(task);
    gone.await.expect("its end drops what it holds");
}

#[tokio::test]
async fn a_panic_is_reported_with_the_task_s_name() {
    let tasks = TokioTasks::current();
    let failed = tasks.spawn("planted", Box::pin(async { panic!("a planted panic") })).await;
    assert_eq!(failed, Err(TaskFailed { name: "planted", panicked: true }));
    let failed = compute(&tasks, "planted", || -> u8 { panic!("a planted panic") }).await;
    assert_eq!(failed, Err(TaskFailed { name: "planted", panicked: true }));
    assert_eq!(tasks.spawn("fine", Box::pin(async {})).await, Ok(()));
}

#[tokio::test]
async fn computations_run_to_their_end_though_nobody_waits() {
    let tasks = TokioTasks::current();
    assert_eq!(compute(&tasks, "sum", || 1 + 1).await, Ok(2));
    let done = Arc::new(AtomicBool::new(false));
    let set = done.clone();
    let work = tasks.blocking("unwatched", Box::new(move || set.store(true, Ordering::SeqCst)));
    drop(work);
    while !done.load(Ordering::SeqCst) {
        tokio::task::yield_now().await;
    }
}
