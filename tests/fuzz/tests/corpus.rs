//! Every target bears its corpus, and a few thousand cheap changes of it, in every test run.
#![cfg(debug_assertions)]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;

use benteng_fuzz::mutate::{Numbers, mutate};
use benteng_fuzz::{TARGETS, find, memory};

/// Runs beside the corpus.
const RUNS: u64 = 3000;
/// SQL is parsed where stacks are large; so is it here.
const STACK_BYTES: usize = 64 << 20;

fn corpus() -> PathBuf {
    benteng_host::golden::crate_folder().join("corpus")
}

/// Plays a target's corpus and changes of it; a find says how to get its input.
fn play(name: &'static str) {
    let worker = std::thread::Builder::new().stack_size(STACK_BYTES);
    let worker = worker.spawn(move || play_here(name)).expect("a thread");
    assert!(worker.join().is_ok(), "{name}: a find, see above");
}

fn play_here(name: &str) {
    let target = find(name).expect("it is on the list");
    let mut inputs: Vec<(String, Vec<u8>)> = std::fs::read_dir(corpus().join(name))
        .unwrap_or_else(|e| panic!("the corpus of {name}: {e}"))
        .map(|entry| entry.expect("a readable entry").path())
        .map(|path| (path.display().to_string(), std::fs::read(&path).expect("a readable file")))
        .collect();
    inputs.sort();
    assert!(!inputs.is_empty(), "{name} has no corpus");
    let try_one = |what: &str, input: &[u8]| {
        if catch_unwind(AssertUnwindSafe(|| memory::run(name, target, input))).is_err() {
            let digits: String = input.iter().map(|byte| format!("{byte:02x}")).collect();
            panic!("{name} fails on {what}: {digits}");
        }
    };
    for (path, input) in &inputs {
        try_one(path, input);
    }
    let mut numbers = Numbers::new(name.bytes().map(u64::from).sum());
    for run in 0..RUNS {
        let (path, input) = &inputs[numbers.below(inputs.len())];
        let (_, other) = &inputs[numbers.below(inputs.len())];
        let mut changed = input.clone();
        mutate(&mut changed, other, &mut numbers);
        try_one(&format!("change {run} of {path}"), &changed);
    }
}

macro_rules! targets {
    ($($name:ident),* $(,)?) => {
        $(
            #[test]
            fn $name() {
                play(stringify!($name));
            }
        )*

        #[test]
        fn every_target_is_played() {
            let played = [$(stringify!($name)),*];
            let listed: Vec<&str> = TARGETS.iter().map(|(name, _)| *name).collect();
            assert_eq!(listed, played, "a target without a test, or not in order");
            for entry in std::fs::read_dir(corpus()).expect("there is a corpus") {
                let name = entry.expect("a readable entry").file_name();
                let name = name.to_string_lossy();
                assert!(listed.contains(&&*name), "the corpus of {name} belongs to no target");
            }
        }
    };
}

targets! {
    chunks_stored,
    config_file,
    consensus_message,
    consensus_pages,
    consensus_replay,
    http_authorization,
    journal_decoders,
    journal_files,
    keys_sealed,
    keys_stored,
    meta_answer,
    meta_apply,
    meta_envelope,
    meta_key,
    meta_row,
    objects_message,
    rpc_bodies,
    rpc_frames,
    rpc_greeting,
    s3_chunked,
    s3_documents,
    s3_headers,
    s3_request,
    s3_signature,
    s3_texts,
    sql_login,
    sql_messages,
    sql_text,
    sql_values,
}
