//! Sends each request to the floor that its method belongs to. The transport must answer before
//! the floors above it stand: until then it says that the node is starting.

use std::sync::{Arc, PoisonError, RwLock};

use benteng_host::Fut;
use benteng_meta::ids::NodeId;
use benteng_rpc::{Inbound, Lane, Outbound, Refusal, Reply, Request, Service};

use crate::wire::refused;

/// The services of a node, by range of method numbers.
#[derive(Clone, Default)]
pub(crate) struct Services {
    /// Methods 1 to 99.
    pub(crate) consensus: Option<Arc<dyn Service>>,
    /// Methods 100 to 199.
    pub(crate) objects: Option<Arc<dyn Service>>,
    /// Methods from 200 on.
    pub(crate) above: Option<Arc<dyn Service>>,
}

/// What the transport asks.
#[derive(Default)]
pub(crate) struct Router(RwLock<Services>);

impl Router {
    /// Sends requests to these from now on. Without any, the services are let go: they hold the
    /// transport, which holds this.
    pub(crate) fn set(&self, services: Services) {
        let old = std::mem::replace(&mut *self.0.write().unwrap_or_else(PoisonError::into_inner), services);
        // Outside of the lock: dropping services runs their destructors.
        drop(old);
    }

    fn of(&self, method: u16) -> Option<Arc<dyn Service>> {
        let services = self.0.read().unwrap_or_else(PoisonError::into_inner);
        match method {
            0..=99 => services.consensus.clone(),
            100..=199 => services.objects.clone(),
            200.. => services.above.clone(),
        }
    }
}

impl Service for Router {
    fn call(&self, from: NodeId, lane: Lane, request: Request) -> Fut<Result<Reply, Refusal>> {
        match self.of(request.method) {
            Some(service) => service.call(from, lane, request),
            None => Box::pin(async { Err(Refusal::new(refused::FAILED, "the node is starting")) }),
        }
    }

    fn stream(&self, from: NodeId, request: Request, inbound: Inbound, outbound: Outbound) -> Fut<()> {
        match self.of(request.method) {
            Some(service) => service.stream(from, request, inbound, outbound),
            // Dropping the handles resets the stream.
            None => Box::pin(async {}),
        }
    }
}
