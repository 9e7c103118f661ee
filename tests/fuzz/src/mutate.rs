//! Cheap changes of an input, the same for the same number: what a test can afford beside the corpus.

/// Numbers that follow from a seed (SplitMix64).
pub struct Numbers(u64);

impl Numbers {
    /// The numbers of this seed.
    pub fn new(seed: u64) -> Numbers {
        Numbers(seed)
    }

    /// The next number.
    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `n`; 0 if that is 0.
    pub fn below(&mut self, n: usize) -> usize {
        usize::try_from(self.draw() % (n.max(1) as u64)).unwrap_or(0)
    }
}

/// Bytes at which lengths, counts and varints turn.
const EDGES: [u8; 10] = [0, 1, 0x7f, 0x80, 0xff, b'/', b'\n', b'"', b'-', b'9'];

/// Changes `input` in one to four ways; `other` is an input to take a piece of.
pub fn mutate(input: &mut Vec<u8>, other: &[u8], numbers: &mut Numbers) {
    for _ in 0..=numbers.below(4) {
        let at = numbers.below(input.len() + 1);
        let n = 1 + numbers.below(8);
        match numbers.below(9) {
            0 => {
                if let Some(byte) = input.get_mut(at) {
                    *byte ^= 1 << numbers.below(8);
                }
            }
            1 => {
                let edge = EDGES[numbers.below(EDGES.len())];
                if let Some(byte) = input.get_mut(at) {
                    *byte = edge;
                }
            }
            2 => input.insert(at, EDGES[numbers.below(EDGES.len())]),
            3 => input.truncate(at),
            4 => drop(input.drain(at..(at + n).min(input.len()))),
            5 => {
                let piece = input[at..(at + n).min(input.len())].to_vec();
                input.splice(at..at, piece);
            }
            6 => {
                let from = numbers.below(other.len() + 1);
                let piece = other[from..(from + 8 * n).min(other.len())].to_vec();
                input.splice(at..at, piece);
            }
            7 => {
                // A number of four bytes that lies.
                let number = u32::try_from(numbers.draw() & 0xffff_ffff).unwrap_or(u32::MAX);
                if let Some(four) = input.get_mut(at..at + 4) {
                    four.copy_from_slice(&(number >> numbers.below(32)).to_be_bytes());
                }
            }
            _ => input.extend(std::iter::repeat_n(EDGES[numbers.below(EDGES.len())], n)),
        }
    }
}
