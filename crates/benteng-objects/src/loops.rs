//! The loops of a node. One task owns them all: a loop that panics ends the node, since a node
//! without repair or removal only looks alive.

use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use benteng_host::{Task, sleep};
use benteng_rpc::Rpc;
use futures::StreamExt;
use futures::stream::FuturesUnordered;

use crate::core::Core;
use crate::peers::PeerBook;
use crate::removal::Removal;
use crate::repair::Repair;
use crate::sweep::Sweep;
use crate::tend::Own;
use crate::{Error, Result, fill, findings, gauges, lead, leftovers, room, scrub, strays, tend};

/// What a round of a loop says about the next.
enum Next {
    /// There is more to do.
    Now,
    /// After the usual pause.
    Later,
}

impl From<bool> for Next {
    fn from(more: bool) -> Next {
        if more { Next::Now } else { Next::Later }
    }
}

/// Starts the loops; they end when the task is dropped.
pub(crate) fn spawn(core: Arc<Core>, rpc: Arc<Rpc>, book: PeerBook, own: Own, dir: PathBuf) -> Task {
    let tasks = core.host.tasks.clone();
    tasks.spawn("object loops", Box::pin(supervise(core, rpc, book, own, dir)))
}

async fn supervise(core: Arc<Core>, rpc: Arc<Rpc>, book: PeerBook, own: Own, dir: PathBuf) {
    let idle = core.limits.idle;
    let spawn = |name, future| core.host.tasks.spawn(name, future);
    let (book, own) = (Arc::new(book), Arc::new(own));
    let (repair, removal) = (Arc::new(Repair::default()), Arc::new(Removal::default()));
    let sweep = Arc::new(Sweep::default());
    let mut running: FuturesUnordered<Task> = FuturesUnordered::new();
    running.push(spawn("tend", {
        let core = core.clone();
        Box::pin(async move {
            let round = || {
                let (core, rpc, book, own) = (core.clone(), rpc.clone(), book.clone(), own.clone());
                async move { tend::round(&core, &rpc, &book, &own).await.map(|_| Next::Later) }
            };
            // Often: requests wait for it at every start, and it only looks at local rows.
            every(&core, "tend", idle / 5, round).await;
        })
    }));
    running.push(spawn(
        "lead",
        looping(&core, "lead", idle, |core| async move { lead::round(&core).await.map(|()| Next::Later) }),
    ));
    running.push(spawn(
        "reports",
        looping(&core, "reports", idle, |core| async move {
            leftovers::remove(&core).await;
            findings::report(&core).await.map(|()| Next::Later)
        }),
    ));
    running.push(spawn(
        "repair",
        looping(&core, "repair", idle, move |core| {
            let repair = repair.clone();
            async move { repair.round(&core).await.map(Next::from) }
        }),
    ));
    running.push(spawn(
        "fill",
        looping(&core, "fill", idle, |core| async move { fill::round(&core).await.map(Next::from) }),
    ));
    running.push(spawn(
        "removal",
        looping(&core, "removal", 2 * idle, move |core| {
            let removal = removal.clone();
            async move { removal.round(&core).await.map(Next::from) }
        }),
    ));
    running.push(spawn(
        "sweep",
        looping(&core, "sweep", core.limits.sweep.min(20 * idle), move |core| {
            let sweep = sweep.clone();
            async move {
                alive(&core).await;
                sweep.round(&core).await.map(|()| Next::Later)
            }
        }),
    ));
    running.push(spawn(
        "strays",
        looping(
            &core,
            "strays",
            10 * idle,
            |core| async move { strays::round(&core).await.map(|_| Next::Later) },
        ),
    ));
    running.push(spawn(
        "gauges",
        looping(&core, "gauges", 20 * idle, |core| async move { gauges::set(&core).map(|()| Next::Later) }),
    ));
    running.push(spawn("room", Box::pin(room::run(core.clone(), dir))));
    running.push(spawn("scrub", Box::pin(scrub::run(core.clone()))));
    if let Some(Err(failed)) = running.next().await {
        core.host.fate.abort(&format!("{failed}; a node without its loops must not go on")).await;
    }
}

/// A loop over [`Core`].
fn looping<F: Future<Output = Result<Next>> + Send + 'static>(
    core: &Arc<Core>,
    name: &'static str,
    pause: Duration,
    mut round: impl FnMut(Arc<Core>) -> F + Send + 'static,
) -> benteng_host::Fut<()> {
    let core = core.clone();
    Box::pin(async move {
        let of = core.clone();
        every(&core, name, pause, move || round(of.clone())).await;
    })
}

/// Runs `round` for ever. A failed round is tried again after a pause: what it did not do stands
/// in the state.
async fn every<F: Future<Output = Result<Next>>>(
    core: &Core,
    name: &'static str,
    pause: Duration,
    mut round: impl FnMut() -> F,
) {
    let mut said = String::new();
    loop {
        let next = match round().await {
            Ok(next) => {
                said.clear();
                next
            }
            // No quorum, or not there yet: so it is at every start.
            Err(e @ (Error::Unavailable { .. } | Error::Unknown { .. })) => {
                tracing::debug!(job = name, error = %e, "a round waits");
                Next::Later
            }
            Err(e) => {
                metrics::counter!("benteng_objects_loop_errors_total", "job" => name).increment(1);
                // Once for each cause: a loop that fails twice a second is not news.
                let cause = e.to_string();
                if cause != said {
                    tracing::warn!(job = name, error = %e, "a round failed; it is tried again");
                    said = cause;
                }
                Next::Later
            }
        };
        match next {
            // Others run too.
            Next::Now => sleep(&*core.host.clock, Duration::from_millis(1)).await,
            Next::Later => sleep(&*core.host.clock, pause).await,
        }
    }
}

/// Waits until this gateway's life is committed: before that the local state may be old.
pub(crate) async fn alive(core: &Core) {
    while core.gateway.origin().is_err() {
        sleep(&*core.host.clock, core.limits.idle).await;
    }
}
