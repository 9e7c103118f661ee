//! Marks of rare branches, and facts that checkers hold against each other. The simulator counts
//! the first (its seeds must reach each one) and triggers faults on them, and judges the second;
//! a node in production pays one disabled trace event.

/// Says that execution came by the branch `name`.
pub fn probe(name: &'static str) {
    tracing::trace!(target: "probe", name);
}

/// States a fact of the kind `what`: that `of` is `value`. `value` is computed only where somebody
/// listens (the simulator's checkers).
pub fn witness(what: &'static str, of: u128, value: impl FnOnce() -> u128) {
    if witnessed() {
        tracing::trace!(target: "witness", what, of, value = value());
    }
}

/// Whether anybody judges facts: who would have to look them up does so only then.
pub fn witnessed() -> bool {
    tracing::enabled!(target: "witness", tracing::Level::TRACE)
}
