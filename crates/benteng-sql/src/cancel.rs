//! Which connection a cancel request means. The request comes on a connection of its own,
//! with the number and the secret that the first one was given, and ends that one's
//! running statement; if none runs, nothing happens.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use benteng_host::{Random, random_array};
use subtle::ConstantTimeEq;
use tokio::sync::Notify;

/// All connections of the door.
#[derive(Default)]
pub(crate) struct Cancels(Mutex<Table>);

#[derive(Default)]
struct Table {
    next: i32,
    entries: HashMap<i32, ([u8; 4], Arc<Running>)>,
}

/// The statement that a connection runs now.
#[derive(Default)]
pub(crate) struct Running(Mutex<Option<Arc<Notify>>>);

impl Running {
    /// A statement begins; its end is when the guard goes.
    pub(crate) fn begin(self: &Arc<Running>) -> Statement {
        let notify = Arc::new(Notify::new());
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&notify));
        Statement { running: Arc::clone(self), notify }
    }
}

/// A statement that can be cancelled.
pub(crate) struct Statement {
    running: Arc<Running>,
    notify: Arc<Notify>,
}

impl Statement {
    /// Completes once the statement is cancelled.
    pub(crate) async fn cancelled(&self) {
        self.notify.notified().await;
    }
}

impl Drop for Statement {
    fn drop(&mut self) {
        *self.running.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

/// A connection's place in the table; gone with it.
pub(crate) struct Entry {
    pub(crate) pid: i32,
    pub(crate) secret: [u8; 4],
    pub(crate) running: Arc<Running>,
    all: Arc<Cancels>,
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.all.0.lock().unwrap_or_else(PoisonError::into_inner).entries.remove(&self.pid);
    }
}

impl Cancels {
    /// Enters a connection.
    pub(crate) fn enter(self: &Arc<Cancels>, random: &dyn Random) -> Entry {
        let secret: [u8; 4] = random_array(random);
        let running = Arc::new(Running::default());
        let mut table = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let pid = loop {
            table.next = table.next.checked_add(1).unwrap_or(1);
            if !table.entries.contains_key(&table.next) {
                break table.next;
            }
        };
        table.entries.insert(pid, (secret, Arc::clone(&running)));
        Entry { pid, secret, running, all: Arc::clone(self) }
    }

    /// Cancels what the connection runs, if the secret is right. The asker is told nothing.
    pub(crate) fn cancel(&self, pid: i32, secret: &[u8]) {
        let table = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some((expected, running)) = table.entries.get(&pid) else { return };
        if bool::from(expected.ct_eq(secret))
            && let Some(notify) = running.0.lock().unwrap_or_else(PoisonError::into_inner).as_ref()
        {
            notify.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use benteng_host::real::SystemEntropy;
    use futures::FutureExt;

    use super::*;

    #[test]
    fn a_request_ends_the_statement_that_runs_and_no_later_one() {
        let all = Arc::new(Cancels::default());
        let random = SystemEntropy::new();
        let (one, two) = (all.enter(&random), all.enter(&random));
        assert_ne!(one.pid, two.pid);
        all.cancel(one.pid, &one.secret);
        let statement = one.running.begin();
        assert!(statement.cancelled().now_or_never().is_none(), "the request came before the statement");
        let mut wrong = one.secret;
        wrong[0] ^= 1;
        all.cancel(one.pid, &wrong);
        all.cancel(one.pid, &[]);
        all.cancel(two.pid, &two.secret);
        assert!(statement.cancelled().now_or_never().is_none(), "wrong secret, or another connection");
        all.cancel(one.pid, &one.secret);
        assert!(statement.cancelled().now_or_never().is_some());
        drop(statement);
        assert!(one.running.begin().cancelled().now_or_never().is_none());
        let pid = one.pid;
        drop(one);
        all.cancel(pid, &[0; 4]);
    }
}
