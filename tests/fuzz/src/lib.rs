//! Fuzz targets: every parser of bytes that come from outside, from disk or from a peer, as a plain function.
//!
//! The functions stand beside their parsers, in `src/fuzz.rs` of each crate; [`TARGETS`] lists them. Two ways
//! lead here: `tests/corpus.rs` plays the committed corpus and cheap mutations of it in every test run, and
//! `tools/fuzz` lets libFuzzer search, guided by coverage (`main.rs`).
//!
//! A panic is a find, and so is memory beyond what an input may cost ([`memory`]). What is found is mended in
//! the product, and its input joins the corpus.
#![cfg(debug_assertions)]

#[path = "../../../cluster/src"]
#[allow(dead_code, unused_imports, reason = "of the binary's own module only the parser is of interest here")]
mod cluster {
    pub(crate) mod config;
}
mod files; // journals on a machine in memory, their files changed
pub mod memory; // what an input may cost
pub mod mutate; // cheap changes, the same each time

use cluster::config;

/// A parser and its properties: a panic is a find.
pub type Target = fn(&[u8]);

/// All targets by name; the corpus of each is the folder of its name.
pub const TARGETS: &[(&str, Target)] = &[
    ("chunks_stored", benteng_chunks::fuzz::stored),
    ("config_file", config_file),
    ("consensus_message", benteng_consensus::fuzz::message),
    ("consensus_pages", benteng_consensus::fuzz::pages),
    ("consensus_replay", benteng_consensus::fuzz::replay),
    ("http_authorization", benteng_http::fuzz::authorization),
    ("journal_decoders", benteng_journal::fuzz::decoders),
    ("journal_files", files::journal),
    ("keys_sealed", benteng_keys::fuzz::sealed),
    ("keys_stored", benteng_keys::fuzz::keys_as_stored),
    ("meta_answer", benteng_meta::fuzz::answer),
    ("meta_apply", benteng_meta::fuzz::apply),
    ("meta_envelope", benteng_meta::fuzz::envelope),
    ("meta_key", benteng_meta::fuzz::key),
    ("meta_row", benteng_meta::fuzz::row),
    ("objects_message", benteng_objects::fuzz::message),
    ("rpc_bodies", benteng_rpc::fuzz::bodies),
    ("rpc_frames", benteng_rpc::fuzz::frames),
    ("rpc_greeting", benteng_rpc::fuzz::greeting),
    ("s3_chunked", benteng_s3::fuzz::chunked),
    ("s3_documents", benteng_s3::fuzz::documents),
    ("s3_headers", benteng_s3::fuzz::headers),
    ("s3_request", benteng_s3::fuzz::whole_request),
    ("s3_signature", benteng_s3::fuzz::signature),
    ("s3_texts", benteng_s3::fuzz::texts),
    ("sql_login", benteng_sql::fuzz::login),
    ("sql_messages", benteng_sql::fuzz::messages),
    ("sql_text", benteng_sql::fuzz::text),
    ("sql_values", benteng_sql::fuzz::values),
];

/// The target of this name.
pub fn find(name: &str) -> Option<Target> {
    TARGETS.iter().find(|(known, _)| *known == name).map(|(_, target)| *target)
}

/// The configuration of a node: a file, and behind a zero byte variables of the environment, `NAME=value` each.
fn config_file(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let (file, variables) = text.split_once('\0').unwrap_or((text, ""));
    let variables: Vec<(String, String)> = variables
        .lines()
        .filter_map(|line| line.split_once('='))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    let Ok(read) = config::parse(file, &variables) else { return };
    // What was read is a configuration itself.
    let written = toml::to_string(&read).expect("a configuration can be written");
    let again = config::parse(&written, &[]).expect("what was written is right");
    assert!(again == read, "a configuration changes when it is written again");
}
