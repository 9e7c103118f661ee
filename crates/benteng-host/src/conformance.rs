//! Behaviour that every [`Disk`](crate::Disk) and [`Kv`](crate::Kv) must show: the real
//! ones and the simulated ones pass the same suites, so what the simulator proves about
//! the code above holds on the machine. Test support: a violation panics.

#![allow(clippy::missing_panics_doc)]

mod disk; // names, positional I/O, lengths
mod kv; // views, batches, snapshots, reopening

pub use disk::disk;
pub use kv::kv;

/// splitmix64 (Steele, Lea, Flood, OOPSLA 2014): the suites need no better numbers, only
/// the same ones each time.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number in `0..n`.
    fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    fn bytes(&mut self, n: u64) -> Vec<u8> {
        (0..n).map(|_| self.next().to_le_bytes()[0]).collect()
    }
}
