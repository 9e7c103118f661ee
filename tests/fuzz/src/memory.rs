//! What an input may cost in memory: a length that lies must not make room for what it claims (I7).

use std::alloc::System;

use cap::Cap;

use crate::Target;

#[global_allocator]
static COUNTED: Cap<System> = Cap::new(System, usize::MAX);

/// Memory that any input may take, in all, however small it is: a formed site, a journal's segments.
const FIXED: usize = 64 << 20;
/// … and for each byte of it. Compressed values may grow 255 times, and are held twice.
const PER_BYTE: usize = 4096;
/// No run may hold so much at one time; an allocation beyond fails and ends the process.
const HELD_MAX: usize = 1 << 30;

/// Runs a target on an input. Panics with the target, or if it took more memory than it may.
pub fn run(name: &str, target: Target, input: &[u8]) {
    let (held, taken) = (COUNTED.allocated(), COUNTED.total_allocated());
    // Never fails: what is held lies below.
    let _ = COUNTED.set_limit(held.saturating_add(HELD_MAX));
    target(input);
    let cost = COUNTED.total_allocated() - taken;
    let allowed = FIXED + PER_BYTE * input.len();
    assert!(cost <= allowed, "{name}: {} bytes of input took {cost} bytes of memory", input.len());
}
