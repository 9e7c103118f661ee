//! Every bound, time-out and pace of the object layer in one place (I7).

use std::time::Duration;

/// Bounds of one node's object layer.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Bytes of bodies on their way in, plain and sealed together.
    pub write_bytes: usize,
    /// Bytes of bodies read ahead of their readers.
    pub read_bytes: usize,
    /// How long a request waits for room among those bytes before it answers `Unavailable`.
    pub admission: Duration,
    /// Bodies up to this many bytes ride in the command (at most [`Limits::INLINE_MAX`]).
    pub inline: usize,
    /// Largest body of one PUT or part, bytes.
    pub body_max: u64,
    /// After this, a chunk's write is acknowledged with the minimum of copies.
    pub hedge: Duration,
    /// How long a chunk's write may take to reach the minimum of copies.
    pub copy_deadline: Duration,
    /// How long one peer may take for a read before another is asked.
    pub read_deadline: Duration,
    /// Longest life of one read's body: floors pass it afterwards (O5).
    pub transfer_max: Duration,
    /// Pause between two rounds of the housekeeping loops when there is nothing to do.
    pub idle: Duration,
    /// Copies that one node makes at once for repair and filling.
    pub repair_parallel: usize,
    /// Bytes per second that one node copies for repair and filling.
    pub repair_rate: u64,
    /// A published floor is renewed at least so often.
    pub floor_renewal: Duration,
    /// A floor that blocks removal and was not renewed for so long is voided (O5).
    pub floor_void: Duration,
    /// Between two searches for orphans and for missing copies.
    pub sweep: Duration,
    /// Time within which every stored byte is read again.
    pub scrub: Duration,
    /// Bytes per second of a scrub that somebody asked for.
    pub scrub_rate: u64,
    /// Above this share of the disk, in percent, the dead are removed without delay (O5).
    pub removal_hurry_percent: u64,
}

impl Limits {
    /// Beyond this inline bodies stall flushes on all nodes (research/performance.md §3).
    pub const INLINE_MAX: usize = 16 << 10;

    /// The same limits within what the formats and the machine can keep.
    pub(crate) fn clamped(mut self) -> Limits {
        let chunk = 2 * benteng_keys::CHUNK_CIPHER_MAX;
        self.inline = self.inline.min(Limits::INLINE_MAX);
        self.write_bytes = self.write_bytes.clamp(chunk, 1 << 30);
        self.read_bytes = self.read_bytes.clamp(chunk, 1 << 30);
        self.repair_parallel = self.repair_parallel.clamp(1, 64);
        self.repair_rate = self.repair_rate.max(1 << 20);
        self.scrub_rate = self.scrub_rate.max(1 << 20);
        self
    }
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            write_bytes: 128 << 20,
            read_bytes: 64 << 20,
            admission: Duration::from_secs(5),
            inline: 8 << 10,
            body_max: 5 << 30,
            hedge: Duration::from_millis(250),
            copy_deadline: Duration::from_secs(5),
            read_deadline: Duration::from_secs(3),
            transfer_max: Duration::from_secs(12 * 3600),
            idle: Duration::from_millis(500),
            repair_parallel: 4,
            repair_rate: 64 << 20,
            floor_renewal: Duration::from_secs(120),
            floor_void: Duration::from_secs(600),
            sweep: Duration::from_secs(3600),
            scrub: Duration::from_secs(14 * 24 * 3600),
            scrub_rate: 64 << 20,
            removal_hurry_percent: 85,
        }
    }
}
