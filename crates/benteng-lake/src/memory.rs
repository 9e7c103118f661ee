//! How much memory a query and all queries of the node may hold (I7). The pools count what
//! operators report; an operator that reports late may briefly hold more.

use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use datafusion::error::{DataFusionError, Result};
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryLimit, MemoryPool, MemoryReservation};

/// Memory of all queries of a node, in bytes.
#[derive(Debug)]
pub(crate) struct NodeMemory {
    limit: usize,
    used: AtomicUsize,
}

impl NodeMemory {
    pub(crate) fn new(limit: usize) -> Arc<NodeMemory> {
        Arc::new(NodeMemory { limit, used: AtomicUsize::new(0) })
    }

    fn try_take(&self, bytes: usize) -> bool {
        let fits = |used: usize| used.checked_add(bytes).filter(|sum| *sum <= self.limit);
        self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits).is_ok()
    }

    fn take(&self, bytes: usize) {
        self.used.fetch_add(bytes, Ordering::Relaxed);
    }

    fn give(&self, bytes: usize) {
        self.used.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Bytes that queries hold now.
    pub(crate) fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }
}

/// Memory of one query: shared fairly among its operators that can spill, and counted
/// against the node's. A refusal makes them spill; who cannot spill fails, alone.
///
/// DataFusion's `FairSpillPool` lets those that can spill take everything, so that the merge
/// behind two sorts finds nothing left and fails the query (seen at 64 MB). Here 3/8 are kept
/// for those that cannot: a merge was seen to need about a third of what its sorts hold.
#[derive(Debug)]
pub(crate) struct QueryPool {
    limit: usize,
    shares: Mutex<Shares>,
    node: Arc<NodeMemory>,
}

#[derive(Debug, Default)]
struct Shares {
    /// Operators that can spill.
    spillers: usize,
    /// What they hold together.
    spillable: usize,
    /// What the others hold.
    fixed: usize,
}

impl QueryPool {
    pub(crate) fn new(limit: usize, node: Arc<NodeMemory>) -> QueryPool {
        QueryPool { limit, shares: Mutex::default(), node }
    }

    fn shares(&self) -> MutexGuard<'_, Shares> {
        self.shares.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn refusal(
        &self,
        reservation: &MemoryReservation,
        additional: usize,
        whose: &str,
        limit: usize,
    ) -> DataFusionError {
        // ResourcesExhausted is the sign by which operators spill: a cause of ours would hide it.
        DataFusionError::ResourcesExhausted(format!(
            "{} holds {} bytes and needs {additional} more, beyond the {limit} bytes of {whose}",
            reservation.consumer().name(),
            reservation.size(),
        ))
    }
}

impl fmt::Display for QueryPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "query({} bytes)", self.limit)
    }
}

impl MemoryPool for QueryPool {
    fn name(&self) -> &str {
        "query"
    }

    fn register(&self, consumer: &MemoryConsumer) {
        self.shares().spillers += usize::from(consumer.can_spill());
    }

    fn unregister(&self, consumer: &MemoryConsumer) {
        let mut shares = self.shares();
        shares.spillers = shares.spillers.saturating_sub(usize::from(consumer.can_spill()));
    }

    fn grow(&self, reservation: &MemoryReservation, additional: usize) {
        self.node.take(additional);
        let mut shares = self.shares();
        *shares.held_by(reservation) += additional;
    }

    fn shrink(&self, reservation: &MemoryReservation, shrink: usize) {
        let mut shares = self.shares();
        let held = shares.held_by(reservation);
        *held = held.saturating_sub(shrink);
        self.node.give(shrink);
    }

    fn try_grow(&self, reservation: &MemoryReservation, additional: usize) -> Result<()> {
        let mut shares = self.shares();
        if reservation.consumer().can_spill() {
            let kept = shares.fixed.max(self.limit / 8 * 3);
            let share = self.limit.saturating_sub(kept) / shares.spillers.max(1);
            if reservation.size().saturating_add(additional) > share {
                return Err(self.refusal(reservation, additional, "its share of the query's memory", share));
            }
        } else if shares.fixed.saturating_add(shares.spillable).saturating_add(additional) > self.limit {
            return Err(self.refusal(reservation, additional, "the query's memory", self.limit));
        }
        if !self.node.try_take(additional) {
            return Err(self.refusal(reservation, additional, "all queries of this node", self.node.limit));
        }
        *shares.held_by(reservation) += additional;
        Ok(())
    }

    fn reserved(&self) -> usize {
        let shares = self.shares();
        shares.spillable + shares.fixed
    }

    fn memory_limit(&self) -> MemoryLimit {
        MemoryLimit::Finite(self.limit)
    }
}

impl Shares {
    fn held_by(&mut self, reservation: &MemoryReservation) -> &mut usize {
        if reservation.consumer().can_spill() { &mut self.spillable } else { &mut self.fixed }
    }
}

impl Drop for QueryPool {
    fn drop(&mut self) {
        // Reservations hold the pool, so nothing should be left; the node's count must not leak if it is.
        self.node.give(self.reserved());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(node: &Arc<NodeMemory>, limit: usize) -> Arc<dyn MemoryPool> {
        Arc::new(QueryPool::new(limit, Arc::clone(node)))
    }

    #[test]
    fn i7_queries_share_the_node_and_give_back_what_they_took() {
        let node = NodeMemory::new(100);
        let (a, b) = (pool(&node, 80), pool(&node, 80));
        let first = MemoryConsumer::new("a").register(&a);
        first.try_grow(70).expect("fits");
        let second = MemoryConsumer::new("b").register(&b);
        let refused = second.try_grow(40).expect_err("the node is full");
        assert!(matches!(refused, DataFusionError::ResourcesExhausted(_)), "operators spill on this sign");
        assert!(first.try_grow(20).is_err(), "the query's own bound");
        assert_eq!(node.used(), 70, "refusals take nothing");
        first.shrink(50);
        second.try_grow(40).expect("fits now");
        drop((first, second, a, b));
        assert_eq!(node.used(), 0);
    }

    #[test]
    fn i7_those_that_can_spill_leave_room_for_those_that_cannot() {
        let node = NodeMemory::new(1000);
        let query = pool(&node, 80);
        let sorts: Vec<_> =
            ["a", "b"].map(|name| MemoryConsumer::new(name).with_can_spill(true).register(&query)).into();
        for sort in &sorts {
            sort.try_grow(25).expect("half of 50");
            assert!(sort.try_grow(1).is_err(), "its share ends there");
        }
        let merge = MemoryConsumer::new("merge").register(&query);
        merge.try_grow(30).expect("what was kept for it");
        assert!(merge.try_grow(1).is_err());
    }
}
