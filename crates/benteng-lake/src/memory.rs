//! How much memory a query and all queries of the node may hold (I7). The pools count what
//! operators report; an operator that reports late may briefly hold more.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use datafusion::error::{DataFusionError, Result};
use datafusion::execution::memory_pool::{
    FairSpillPool, MemoryConsumer, MemoryLimit, MemoryPool, MemoryReservation,
};

use crate::Error;

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
#[derive(Debug)]
pub(crate) struct QueryPool {
    own: FairSpillPool,
    node: Arc<NodeMemory>,
}

impl QueryPool {
    pub(crate) fn new(limit: usize, node: Arc<NodeMemory>) -> QueryPool {
        QueryPool { own: FairSpillPool::new(limit), node }
    }
}

impl fmt::Display for QueryPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "query({})", self.own)
    }
}

impl MemoryPool for QueryPool {
    fn name(&self) -> &str {
        "query"
    }

    fn register(&self, consumer: &MemoryConsumer) {
        self.own.register(consumer);
    }

    fn unregister(&self, consumer: &MemoryConsumer) {
        self.own.unregister(consumer);
    }

    fn grow(&self, reservation: &MemoryReservation, additional: usize) {
        self.node.take(additional);
        self.own.grow(reservation, additional);
    }

    fn shrink(&self, reservation: &MemoryReservation, shrink: usize) {
        self.own.shrink(reservation, shrink);
        self.node.give(shrink);
    }

    fn try_grow(&self, reservation: &MemoryReservation, additional: usize) -> Result<()> {
        if !self.node.try_take(additional) {
            let why = Error::Memory(format!(
                "{additional} more bytes for {} would exceed the {} bytes of all queries of this node; try again later",
                reservation.consumer().name(),
                self.node.limit
            ));
            // ResourcesExhausted is the sign by which operators spill: the cause must not hide it.
            return Err(DataFusionError::ResourcesExhausted(why.to_string()));
        }
        self.own.try_grow(reservation, additional).inspect_err(|_| self.node.give(additional))
    }

    fn reserved(&self) -> usize {
        self.own.reserved()
    }

    fn memory_limit(&self) -> MemoryLimit {
        self.own.memory_limit()
    }
}

impl Drop for QueryPool {
    fn drop(&mut self) {
        // Reservations hold the pool, so nothing should be left; the node's count must not leak if it is.
        self.node.give(self.own.reserved());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn i7_queries_share_the_node_and_give_back_what_they_took() {
        let node = NodeMemory::new(100);
        let pool = |limit| -> Arc<dyn MemoryPool> { Arc::new(QueryPool::new(limit, Arc::clone(&node))) };
        let (a, b) = (pool(80), pool(80));
        let first = MemoryConsumer::new("a").with_can_spill(true).register(&a);
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
}
