//! The simulated machine: what stands behind the seams of `benteng-host` when a site runs
//! inside one thread, from one seed, with faults. Dev only.
//!
//! Way of a test: a driver builds a [`SimHost`] per node and a `turmoil` simulation, gives
//! each node's software the [`benteng_host::Host`] of its boot ([`SimHost::run`]), steps
//! the simulation, and between steps asks the control handles for faults: [`SimDisk`] and
//! [`SimKv`] survive the crash of their host, [`SimClock`] drifts and jumps, [`Gate`]
//! pauses, and says when a node has stopped itself.
//!
//! [`run`] is such a driver for whole sites: `site` boots `benteng_objects::Node`s, `workload`
//! asks them through `door`, `nemesis` strikes, also where `probes` say that it hurts, and
//! `linear` judges what clients were told.
//!
//! Everything draws from streams of one seed ([`stream`]): the same seed gives the same
//! run, byte for byte. Outside of a simulation only disk and store without latencies work.

mod clock; // drifting clocks that jump, over simulated time
mod disk; // files with a page cache, a durable image, and faults
mod door; // what clients ask of a simulated node
mod fate; // abort: the host stops, the driver crashes it
mod gate; // pause and end of all tasks of a host
pub mod history; // what clients did and were told
mod host; // all of it for one node
mod jobs; // what the driver has done on the clients' machine
mod kv; // the ordered store: versions, flush position, crash to a batch boundary
mod linear; // linearizability of one key
mod nemesis; // faults, at random and aimed
mod net; // sockets of turmoil, reads and writes split at random
mod plan; // what a seed decides before its run
mod probes; // rare branches: counted, and aimed at
mod random; // streams of the seed
mod run; // one seed, one run
pub mod scenario; // scripted histories, one for each rule's "else"
mod site; // a site of simulated nodes
mod stage; // a site under a script's hands
mod standing; // where replicas stand
mod tasks; // tasks behind the gate, computations inline
mod watch; // what must hold at every moment
mod witness; // facts that nodes state, held against each other
mod workload; // clients

pub use clock::SimClock;
pub use disk::{DiskCall, SimDisk};
pub use fate::SimFate;
pub use gate::Gate;
pub use host::{Ending, SimHost};
pub use kv::{KvCall, SimKv};
pub use nemesis::Fault;
pub use net::SimNet;
pub use probes::{FORBIDDEN_PROBES, PROBES, Probes, SCRIPTED_PROBES};
pub use random::{SimRandom, SimRng, stream};
pub use run::{Report, Scale, run};
pub use tasks::SimTasks;

#[cfg(test)]
mod testing; // runs a test's future on a simulated host
