//! What is done on the clients' machine for whoever drives the simulation from outside of it: proposals and
//! questions need a host to run on.

use std::collections::VecDeque;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use benteng_host::{Fut, Host};

/// Between two looks whether there is something to do.
const LOOK: Duration = Duration::from_millis(2);

/// Jobs in the order in which they were asked for. Clones share them.
#[derive(Clone, Default)]
pub(crate) struct Jobs(Arc<Mutex<VecDeque<Fut<()>>>>);

/// Something under way.
pub(crate) struct Ticket<T>(Arc<Mutex<Option<T>>>);

impl<T> Ticket<T> {
    fn lock(&self) -> MutexGuard<'_, Option<T>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether its end has come and was not taken.
    pub(crate) fn is_done(&self) -> bool {
        self.lock().is_some()
    }

    /// Its end, if it has come.
    pub(crate) fn take(&self) -> Option<T> {
        self.lock().take()
    }
}

impl Jobs {
    fn lock(&self) -> MutexGuard<'_, VecDeque<Fut<()>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks for something.
    pub(crate) fn begin<T, F>(&self, work: F) -> Ticket<T>
    where
        T: Send + 'static,
        F: Future<Output = T> + Send + 'static,
    {
        let slot = Arc::new(Mutex::new(None));
        let ticket = Ticket(slot.clone());
        self.lock().push_back(Box::pin(async move {
            let done = work.await;
            *slot.lock().unwrap_or_else(PoisonError::into_inner) = Some(done);
        }));
        ticket
    }

    /// Does what is asked for, for ever. Runs on the clients' machine.
    pub(crate) async fn run(self, host: Host) {
        let mut running = Vec::new();
        loop {
            while let Some(job) = { self.lock().pop_front() } {
                running.push(host.tasks.spawn("client", job));
            }
            benteng_host::sleep(&*host.clock, LOOK).await;
        }
    }
}
