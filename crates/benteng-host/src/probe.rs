//! Marks of rare branches. The simulator counts them (its seeds must reach each one) and
//! triggers faults on them; a node in production pays one disabled trace event.

/// Says that execution came by the branch `name`.
pub fn probe(name: &'static str) {
    tracing::trace!(target: "probe", name);
}
