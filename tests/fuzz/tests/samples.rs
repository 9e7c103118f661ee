//! One sample of each form that is stored or sent is borne by its target: what golden files hold, fuzzers begin with.
#![cfg(debug_assertions)]

use benteng_fuzz::{find, memory};
use benteng_host::golden::Sample;

fn bears(target: &str, head: &[u8], samples: Vec<Sample>) {
    let run = find(target).expect("it is on the list");
    assert!(!samples.is_empty());
    for (name, bytes) in samples {
        let input = [head, &bytes].concat();
        assert!(input.len() < 64 << 10, "{name}");
        memory::run(target, run, &input);
    }
}

#[test]
fn samples_of_the_state_are_borne() {
    use benteng_meta::fuzz::samples;
    bears("meta_envelope", b"", samples::envelopes());
    bears("meta_answer", b"", samples::answers());
    for which in 0..=20 {
        bears("meta_row", &[which], samples::rows());
    }
}

#[test]
fn samples_of_messages_are_borne() {
    for which in 0..=16 {
        bears("consensus_message", &[which], benteng_consensus::fuzz::messages());
        bears("objects_message", &[which], benteng_objects::fuzz::messages());
        bears("objects_message", &[which], benteng_objects::fuzz::reports());
    }
}

#[test]
fn samples_of_files_are_borne() {
    for which in 0..=5 {
        bears("chunks_stored", &[which], benteng_chunks::fuzz::samples());
        bears("journal_decoders", &[which, 0], benteng_journal::fuzz::samples());
    }
}
