//! Properties of the thread pool.

use std::sync::mpsc;
use std::time::Duration;

use super::*;

/// A job that runs until the sender is used or dropped, and a future of its end.
fn blocked(queue: &Queue, pace: Pace) -> (mpsc::Sender<()>, impl Future<Output = io::Result<()>> + use<>) {
    let (open, gate) = mpsc::channel::<()>();
    let queue = queue.clone();
    let run = async move {
        let wait = move || {
            let _ = gate.recv();
            Ok(())
        };
        queue.run(pace, wait).await
    };
    (open, run)
}

#[tokio::test]
async fn quick_jobs_never_wait_for_slow_ones() {
    let pool = Pool::start("test", 4, 64);
    let mut gates = Vec::new();
    let mut slow = Vec::new();
    for _ in 0..10 {
        let (gate, run) = blocked(pool.queue(), Pace::Slow);
        gates.push(gate);
        slow.push(tokio::spawn(run));
    }
    for i in 0..100 {
        assert_eq!(pool.queue().run(Pace::Quick, move || Ok(i)).await.expect("runs"), i);
    }
    drop(gates);
    for run in slow {
        run.await.expect("no panic").expect("runs");
    }
}

#[tokio::test]
async fn quick_jobs_use_every_thread_and_slow_ones_are_never_forgotten() {
    let pool = Pool::start("test", 3, 64);
    let mut gates = Vec::new();
    let mut runs = Vec::new();
    for _ in 0..3 {
        let (gate, run) = blocked(pool.queue(), Pace::Quick);
        gates.push(gate);
        runs.push(tokio::spawn(run));
    }
    let late = tokio::spawn({
        let queue = pool.queue().clone();
        async move { queue.run(Pace::Slow, || Ok(())).await }
    });
    // One thread after the other comes free; the slow job needs one that is not the first.
    drop(gates);
    late.await.expect("no panic").expect("runs");
    for run in runs {
        run.await.expect("no panic").expect("runs");
    }
}

#[tokio::test]
async fn i7_a_full_queue_makes_submitters_wait() {
    let pool = Pool::start("test", 1, 2);
    let (gate, first) = blocked(pool.queue(), Pace::Slow);
    let first = tokio::spawn(first);
    let (_, second) = blocked(pool.queue(), Pace::Slow);
    let second = tokio::spawn(second);
    while pool.queue.shared.room.available_permits() > 0 {
        tokio::task::yield_now().await;
    }
    let third = pool.queue().run(Pace::Quick, || Ok(3));
    let waited = tokio::time::timeout(Duration::from_millis(20), third).await;
    assert!(waited.is_err(), "the queue holds two");
    drop(gate);
    assert_eq!(pool.queue().run(Pace::Quick, || Ok(4)).await.expect("runs"), 4);
    first.await.expect("no panic").expect("runs");
    second.await.expect("no panic").expect("runs");
}

#[tokio::test]
async fn one_thread_runs_jobs_in_order() {
    let pool = Pool::start("test", 1, 64);
    let seen = Arc::new(Mutex::new(Vec::new()));
    let mut ends = Vec::new();
    for i in 0..50 {
        let seen = seen.clone();
        let room = pool.queue().room().await.expect("is open");
        ends.push(room.run(Pace::Slow, move || {
            seen.lock().expect("no panic").push(i);
            Ok(())
        }));
    }
    drop(ends);
    drop(pool);
    assert_eq!(*seen.lock().expect("no panic"), (0..50).collect::<Vec<_>>(), "closing runs what is queued");
}

#[tokio::test]
async fn a_panicking_job_is_an_error_and_the_thread_serves_on() {
    let pool = Pool::start("test", 1, 1);
    let failed = pool.queue().run(Pace::Slow, || -> io::Result<()> { panic!("a planted panic") }).await;
    assert_eq!(failed.expect_err("it panicked").kind(), io::ErrorKind::BrokenPipe);
    assert_eq!(pool.queue().run(Pace::Slow, || Ok(1)).await.expect("runs"), 1);
}

#[tokio::test]
async fn a_closed_pool_refuses() {
    let pool = Pool::start("test", 2, 4);
    let queue = pool.queue().clone();
    let room = queue.room().await.expect("is open");
    let unpolled = queue.run(Pace::Quick, || Ok(()));
    drop(pool);
    assert!(unpolled.await.is_err(), "closed before it was polled");
    assert!(room.run(Pace::Quick, || Ok(())).await.is_err(), "closed between room and job");
}
