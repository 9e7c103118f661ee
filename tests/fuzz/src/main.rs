//! The targets under libFuzzer: `BENTENG_FUZZ` names one. Built and run by `tools/fuzz`.
#![no_main]

use std::sync::OnceLock;

use benteng_fuzz::{Target, find, memory};
use libfuzzer_sys::fuzz_target;

fn chosen() -> (&'static str, Target) {
    static CHOSEN: OnceLock<(String, Target)> = OnceLock::new();
    let (name, target) = CHOSEN.get_or_init(|| {
        let name = std::env::var("BENTENG_FUZZ").unwrap_or_default();
        let target = find(&name).unwrap_or_else(|| panic!("BENTENG_FUZZ names no target: {name:?}"));
        (name, target)
    });
    (name, *target)
}

fuzz_target!(|input: &[u8]| {
    let (name, target) = chosen();
    memory::run(name, target, input);
});
