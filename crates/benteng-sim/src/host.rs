//! One simulated host: what its software sees, and the handles of the driver.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use benteng_host::Host;
use futures::FutureExt;

use crate::random::{SimRng, stream};
use crate::{Gate, SimClock, SimDisk, SimFate, SimKv, SimNet, SimRandom, SimTasks};

/// How the software of a host came to stand still.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    /// It returned: a clean stop, or an error of which it speaks.
    Returned(Result<(), String>),
    /// It panicked; the panic hook has said why.
    Panicked,
    /// It aborted, or its disk ended it: the gate's reason.
    Stopped(String),
}

/// The machine of one node over all its boots.
///
/// A crash takes two steps of the driver: `sim.crash(name)` drops the tasks (for a power
/// loss partition the host first: turmoil sends a polite FIN), then [`SimHost::kill`] or
/// [`SimHost::power_loss`] says what the devices keep; `sim.bounce(name)` boots.
pub struct SimHost {
    name: String,
    /// Drift and jumps.
    pub clock: SimClock,
    /// Faults of the disk.
    pub disk: Arc<SimDisk>,
    /// The ordered store.
    pub kv: Arc<SimKv>,
    /// Pause, and whether the host has stopped itself.
    pub gate: Arc<Gate>,
    /// Panics of tasks.
    pub tasks: SimTasks,
    random: Arc<SimRandom>,
    net: SimNet,
    state: Mutex<State>,
}

struct State {
    rng: SimRng,
    boots: u64,
    ending: Option<Ending>,
}

impl SimHost {
    /// The host `name`, new: an empty disk, an empty store, clocks that run true.
    /// Its randomness is that of `seed` and the name.
    pub fn new(name: &str, seed: u64) -> Arc<SimHost> {
        let rng = |purpose: &str| stream(seed, &format!("{name}/{purpose}"));
        let own_seed = rand::Rng::next_u64(&mut rng("devices"));
        let (clock, gate) = (SimClock::new(), Gate::new());
        Arc::new(SimHost {
            name: name.to_owned(),
            disk: SimDisk::new(Arc::new(clock.clone()), gate.clone(), own_seed),
            kv: SimKv::new(Arc::new(clock.clone()), own_seed),
            clock,
            tasks: SimTasks::new(gate.clone()),
            gate,
            random: Arc::new(SimRandom::new(rng("entropy"))),
            net: SimNet::new(rng("net")),
            state: Mutex::new(State { rng: rng("faults"), boots: 0, ending: None }),
        })
    }

    /// Its name in the simulation.
    pub fn name(&self) -> &str {
        &self.name
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A boot: the seams for its software. Call it on the host, inside the simulation.
    pub fn boot(&self) -> Host {
        self.clock.boot();
        let mut state = self.lock();
        state.boots += 1;
        Host {
            clock: Arc::new(self.clock.clone()),
            random: self.random.clone(),
            disk: self.disk.mount(),
            net: Arc::new(self.net.clone()),
            tasks: Arc::new(self.tasks.clone()),
            fate: Arc::new(SimFate::new(self.gate.clone())),
        }
    }

    /// Boots and runs `software` behind the gate: what a host's closure gives to turmoil.
    /// It never completes, since a host that ends would end the run: [`SimHost::ending`]
    /// tells the driver, who crashes the host.
    pub fn run<S, F, E>(
        self: &Arc<SimHost>,
        software: S,
    ) -> impl Future<Output = turmoil::Result> + use<S, F, E>
    where
        S: FnOnce(Host) -> F,
        F: Future<Output = Result<(), E>>,
        E: std::fmt::Display,
    {
        let this = self.clone();
        async move {
            let host = this.boot();
            let main = AssertUnwindSafe(async move { software(host).await }).catch_unwind();
            let ending = match this.gate.guard(main).await {
                Ok(Ok(())) => Ending::Returned(Ok(())),
                Ok(Err(e)) => Ending::Returned(Err(e.to_string())),
                Err(_) => Ending::Panicked,
            };
            this.lock().ending = Some(ending);
            // Its tasks end with a process that ends.
            this.gate.stop("the software ended");
            std::future::pending().await
        }
    }

    /// How this boot's software came to stand still, if it did; until the devices have been
    /// told what they keep.
    pub fn ending(&self) -> Option<Ending> {
        self.lock().ending.clone().or_else(|| self.gate.stopped().map(Ending::Stopped))
    }

    /// Boots so far.
    pub fn boots(&self) -> u64 {
        self.lock().boots
    }

    /// After `sim.crash`: the process died, the machine stayed up. The store returns to a flush.
    pub fn kill(&self) {
        let mut state = self.lock();
        state.ending = None;
        self.disk.kill();
        self.kv.crash(&mut state.rng);
    }

    /// After `sim.crash`: the machine lost its power.
    pub fn power_loss(&self) {
        let mut state = self.lock();
        state.ending = None;
        self.disk.power_loss(&mut state.rng);
        self.kv.crash(&mut state.rng);
    }

    /// After `sim.crash`: the machine is replaced by one with empty devices.
    pub fn lose_devices(&self) {
        self.lock().ending = None;
        self.disk.lose();
        self.kv.lose();
    }
}

#[cfg(test)]
mod tests;
