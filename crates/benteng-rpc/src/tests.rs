//! Behaviour of the whole transport.
