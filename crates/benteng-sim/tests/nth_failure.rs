//! J6, O6: the N-th operation of a node's disk or ordered store fails, for every N, while the node boots, takes
//! a PUT or a multipart upload, rolls its segments, installs a snapshot, flushes. One process a scenario: what
//! nodes state is global.

use benteng_sim::{Probes, scenario};
use tracing_subscriber::layer::SubscriberExt;

fn play(name: &str) {
    let found = scenario::nth_failures().into_iter().find(|scenario| scenario.name == name);
    let scenario = found.unwrap_or_else(|| panic!("there is no {name}"));
    let probes = Probes::default();
    let subscriber = tracing_subscriber::registry().with(probes.clone());
    tracing::subscriber::set_global_default(subscriber).expect("one process plays one scenario");
    if let Err(why) = scenario.play(1, &probes) {
        panic!("{name}: {why}");
    }
}

#[test]
fn j6_nth_failure_in_boot() {
    play("j6_nth_failure_in_boot");
}

#[test]
fn j6_nth_failure_in_put() {
    play("j6_nth_failure_in_put");
}

#[test]
fn j6_nth_failure_in_multipart() {
    play("j6_nth_failure_in_multipart");
}

#[test]
fn j6_nth_failure_in_roll() {
    play("j6_nth_failure_in_roll");
}

#[test]
fn j6_nth_failure_in_snapshot() {
    play("j6_nth_failure_in_snapshot");
}

#[test]
fn j6_nth_failure_in_flush() {
    play("j6_nth_failure_in_flush");
}
