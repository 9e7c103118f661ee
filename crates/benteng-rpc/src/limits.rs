//! Every bound and time-out of the transport (I7).

use std::time::Duration;

use crate::message::Lane;

/// Bounds of one [`crate::Rpc`]. Both ends should agree on `window` and `in_flight`.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Calls under way per connection; the next caller waits (within its deadline). A server
    /// takes twice as many, since a caller that gave up frees his place at once, and refuses more.
    pub in_flight: usize,
    /// The same for the chunk lane, whose requests and replies are large.
    pub chunks_in_flight: usize,
    /// Streams open at once per connection; the server refuses more.
    pub streams: usize,
    /// Bytes of one direction of a stream that may be sent and not yet taken by the receiver.
    pub window: usize,
    /// Time for connecting and the handshake together.
    pub dial: Duration,
    /// Wait after the first failed dial; doubles with each, ± half of it by chance.
    pub backoff_min: Duration,
    /// The longest such wait.
    pub backoff_max: Duration,
    /// A link with calls or streams open that hears nothing for so long is dropped; it sends
    /// pings after a third of it.
    pub silence: Duration,
    /// A link with nothing open is closed by the dialling end after half of this time, by the other after all.
    pub idle: Duration,
    /// Connections accepted at once; more are closed at the door.
    pub connections: usize,
    /// Methods that a certified node may call before it is a member.
    pub joiner_methods: Vec<u16>,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            in_flight: 256,
            chunks_in_flight: 64,
            streams: 64,
            window: 4 << 20,
            dial: Duration::from_secs(3),
            backoff_min: Duration::from_millis(20),
            backoff_max: Duration::from_secs(1),
            silence: Duration::from_secs(3),
            idle: Duration::from_secs(300),
            connections: 1024,
            joiner_methods: Vec::new(),
        }
    }
}

impl Limits {
    /// Calls under way on a connection of `lane`.
    pub(crate) fn in_flight(&self, lane: Lane) -> usize {
        match lane {
            Lane::Unary | Lane::Log => self.in_flight,
            Lane::Chunks => self.chunks_in_flight,
        }
    }

    /// The same limits within what the wire and the machine can keep.
    pub(crate) fn clamped(mut self) -> Limits {
        self.in_flight = self.in_flight.clamp(1, 65_536);
        self.chunks_in_flight = self.chunks_in_flight.clamp(1, 65_536);
        self.streams = self.streams.clamp(1, 65_536);
        self.window = self.window.clamp(64 << 10, 1 << 30);
        self.backoff_max = self.backoff_max.max(self.backoff_min);
        self.silence = self.silence.max(Duration::from_millis(30));
        self.connections = self.connections.max(1);
        self
    }
}
