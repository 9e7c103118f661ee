//! Who may talk, where they are, and the standing connection of each lane to them.
//! One dial at a time per (peer, lane); whoever needs the connection meanwhile shares it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use benteng_host::{Mono, Task, probe, random_u64};
use benteng_meta::ids::NodeId;
use tokio::sync::watch;

use crate::error::{Error, Result};
use crate::link::{Health, Link};
use crate::message::Lane;
use crate::rpc::Core;

/// A connection and the tasks that move it; dropping it ends them.
pub(crate) struct Conn {
    pub(crate) link: Arc<Link>,
    pub(crate) _tasks: [Task; 2],
}

/// What a dial came to: the connection, or why not.
type Outcome = std::result::Result<Arc<Link>, String>;

/// The known peers of a node.
#[derive(Default)]
pub(crate) struct Peers {
    known: RwLock<BTreeMap<NodeId, Arc<Peer>>>,
}

/// One peer.
pub(crate) struct Peer {
    pub(crate) node: NodeId,
    address: Mutex<String>,
    pub(crate) health: Arc<Health>,
    slots: [Mutex<Slot>; 3],
}

/// The place of one lane's connection.
#[derive(Default)]
struct Slot {
    conn: Option<Conn>,
    dial: Option<(watch::Receiver<Option<Outcome>>, Task)>,
    failures: u32,
    /// No dial before this instant.
    not_before: Option<Mono>,
    last_error: String,
    /// The peer was removed while somebody still held it.
    retired: bool,
}

impl Peers {
    pub(crate) fn get(&self, node: NodeId) -> Option<Arc<Peer>> {
        self.known.read().unwrap_or_else(PoisonError::into_inner).get(&node).cloned()
    }

    /// Makes `node` known at `address`; a new address lets the next dial go there at once.
    pub(crate) fn set(&self, node: NodeId, address: String) {
        let known = self.get(node);
        if let Some(peer) = known {
            peer.set_address(address);
            return;
        }
        let peer = Arc::new(Peer {
            node,
            address: Mutex::new(address),
            health: Arc::default(),
            slots: Default::default(),
        });
        self.known.write().unwrap_or_else(PoisonError::into_inner).insert(node, peer);
    }

    /// Forgets `node` and closes the connections to it.
    pub(crate) fn remove(&self, node: NodeId) {
        let gone = self.known.write().unwrap_or_else(PoisonError::into_inner).remove(&node);
        if let Some(peer) = gone {
            peer.retire("the peer was removed");
        }
    }

    /// Closes everything.
    pub(crate) fn clear(&self) {
        let all = std::mem::take(&mut *self.known.write().unwrap_or_else(PoisonError::into_inner));
        for peer in all.into_values() {
            peer.retire("this node is stopping");
        }
    }
}

impl Peer {
    fn slot(&self, lane: Lane) -> MutexGuard<'_, Slot> {
        let index = usize::from(lane.to_byte()) - 1;
        self.slots[index].lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn address(&self) -> String {
        self.address.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set_address(&self, address: String) {
        {
            let mut current = self.address.lock().unwrap_or_else(PoisonError::into_inner);
            if *current == address {
                return;
            }
            *current = address;
        }
        for lane in Lane::ALL {
            let old = {
                let mut slot = self.slot(lane);
                slot.not_before = None;
                slot.failures = 0;
                slot.conn.take()
            };
            if let Some(conn) = old {
                conn.link.close("the peer has moved");
            }
        }
    }

    fn retire(&self, why: &str) {
        for lane in Lane::ALL {
            let (conn, dial) = {
                let mut slot = self.slot(lane);
                slot.retired = true;
                (slot.conn.take(), slot.dial.take())
            };
            if let Some(conn) = conn {
                conn.link.close(why);
            }
            drop(dial);
        }
    }

    fn unreachable(&self, lane: Lane, why: impl Into<String>) -> Error {
        Error::Unreachable { node: self.node, lane, why: why.into() }
    }

    /// The connection of `lane`, dialled if there is none. During back-off it fails at once.
    ///
    /// Errors: `Unreachable`. Cancellation: a dial under way goes on for the others.
    pub(crate) async fn link(self: &Arc<Self>, core: &Arc<Core>, lane: Lane) -> Result<Arc<Link>> {
        let mut done = {
            let mut slot = self.slot(lane);
            if slot.retired {
                return Err(self.unreachable(lane, "it is no longer a peer"));
            }
            match &slot.conn {
                Some(conn) if !conn.link.is_closed() => return Ok(conn.link.clone()),
                _ => {}
            }
            let under_way = slot.dial.as_ref().filter(|(done, _)| done.borrow().is_none());
            if let Some((done, _)) = under_way {
                done.clone()
            } else {
                let now = core.host.clock.now();
                if slot.not_before.is_some_and(|at| now < at) {
                    return Err(self.unreachable(lane, slot.last_error.clone()));
                }
                let (tell, done) = watch::channel(None);
                let dial = Box::pin(dial(core.clone(), self.clone(), lane, tell));
                slot.dial = Some((done.clone(), core.host.tasks.spawn("rpc dial", dial)));
                done
            }
        };
        let outcome = done.wait_for(Option::is_some).await.map(|outcome| outcome.clone());
        match outcome {
            Ok(Some(Ok(link))) => Ok(link),
            Ok(Some(Err(why))) => Err(self.unreachable(lane, why)),
            Ok(None) | Err(_) => Err(self.unreachable(lane, "the dial was given up")),
        }
    }
}

/// Dials once, puts the connection into its slot and tells those who wait.
async fn dial(core: Arc<Core>, peer: Arc<Peer>, lane: Lane, tell: watch::Sender<Option<Outcome>>) {
    core.counters.dials.increment(1);
    let address = peer.address();
    let attempt = core.dial_once(&peer, &address, lane);
    let outcome = match benteng_host::timeout(&*core.host.clock, core.limits.dial, attempt).await {
        Ok(Ok(conn)) => Ok(conn),
        Ok(Err(e)) => Err(e.to_string()),
        Err(_) => Err(format!("no connection to {address} within {:?}", core.limits.dial)),
    };
    let (outcome, old) = {
        let mut slot = peer.slot(lane);
        match outcome {
            Ok(conn) if slot.retired => (Err("it is no longer a peer".to_owned()), Some(conn)),
            Ok(conn) => {
                slot.failures = 0;
                slot.not_before = None;
                let link = conn.link.clone();
                peer.health.set_up();
                (Ok(link), slot.conn.replace(conn))
            }
            Err(why) => {
                core.counters.dial_failures.increment(1);
                probe("rpc_dial_failed");
                peer.health.set_down();
                slot.not_before = Some(core.host.clock.now() + core.backoff(slot.failures));
                slot.failures = slot.failures.saturating_add(1);
                if slot.failures == 1 {
                    tracing::warn!(node = %peer.node, %lane, %address, why, "cannot reach a peer");
                }
                slot.last_error.clone_from(&why);
                (Err(why), slot.conn.take())
            }
        }
    };
    // The old connection's tasks end here, outside the lock.
    drop(old);
    tell.send_replace(Some(outcome));
}

impl Core {
    /// Doubles with each failure, ± half by chance, so that nodes do not dial in step.
    fn backoff(&self, failures: u32) -> std::time::Duration {
        let base = self.limits.backoff_min.saturating_mul(1 << failures.min(16)).min(self.limits.backoff_max);
        let percent = 50 + u32::try_from(random_u64(&*self.host.random) % 101).unwrap_or(50);
        base * percent / 100
    }
}
