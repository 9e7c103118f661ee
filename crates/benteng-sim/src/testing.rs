//! Runs a test's future on one host of a fresh simulation.

use std::future::Future;
use std::time::Duration;

/// Runs `test` as the only host, for up to an hour of simulated time.
pub(crate) fn on_a_host<F: Future<Output = ()> + 'static>(test: impl FnOnce() -> F + 'static) {
    let mut sim = turmoil::Builder::new().simulation_duration(Duration::from_secs(3600)).rng_seed(1).build();
    sim.client("host", async move {
        test().await;
        Ok(())
    });
    if let Err(e) = sim.run() {
        panic!("the simulation fails: {e}");
    }
}
