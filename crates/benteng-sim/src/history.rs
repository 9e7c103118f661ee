//! What clients did and what they were told: the evidence that the checkers judge.

use std::fmt;
use std::sync::OnceLock;

/// A value that a client wrote: unique over the run; its bytes follow from it.
pub type Value = u64;

/// What a client asked for, on one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Call {
    /// Writes a value.
    Put(Value),
    /// Writes a value if the key holds nothing.
    Create(Value),
    /// Writes a value if the key holds the first one.
    Replace(Value, Value),
    /// Removes what is there.
    Delete,
    /// Reads.
    Get,
    /// Lists the bucket: for this key, whether it is there.
    List,
}

/// What the client was told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    /// Done.
    Done,
    /// The read value; `None`: nothing is there.
    Read(Option<Value>),
    /// Whether the key stood in the listing.
    Listed(bool),
    /// The condition does not hold: nothing was done.
    Refused,
    /// Surely nothing was done, for another reason.
    Failed,
    /// Nothing, or that nobody knows: it may have happened, or may yet.
    Unknown,
}

/// One operation. Times are simulated microseconds; `returned` of an unknown one is the end of time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation {
    /// Who.
    pub client: u32,
    /// Through which node.
    pub node: u32,
    /// On what.
    pub key: String,
    /// What.
    pub call: Call,
    /// When it was asked.
    pub invoked: u64,
    /// When it was answered.
    pub returned: u64,
    /// The answer.
    pub told: Told,
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Operation { client, node, key, call, invoked, returned, told } = self;
        write!(f, "{invoked}..{returned} client {client} node {node} {key}: {call:?} -> {told:?}")
    }
}

/// Shortest body: shorter ones would hold nothing but the value's name.
const BODY_MIN: usize = 16;

/// The bytes of a value: `len` of them (16 at least), the first eight naming it.
pub fn body(value: Value, len: usize) -> Vec<u8> {
    let len = len.max(BODY_MIN);
    let mut out = Vec::with_capacity(len);
    out.extend_from_slice(&value.to_le_bytes());
    stretches(value, len - out.len(), |stretch| {
        out.extend_from_slice(stretch);
        true
    });
    out
}

/// Visits the `len` bytes of noise that follow a value's name, as long as the visitor says so. Whether it did so to
/// the end.
fn stretches(value: Value, len: usize, mut visit: impl FnMut(&'static [u8]) -> bool) -> bool {
    let noise = NOISE.get_or_init(noise);
    let mut from = usize::try_from(value.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 8).unwrap_or(0) % noise.len();
    let mut left = len;
    while left > 0 {
        let stretch = &noise[from..noise.len().min(from + left)];
        if !visit(stretch) {
            return false;
        }
        left -= stretch.len();
        from = 0;
    }
    true
}

/// A prime number of bytes: parts of two values that begin elsewhere in it are never equal.
const NOISE_BYTES: usize = 1_048_573;
static NOISE: OnceLock<Vec<u8>> = OnceLock::new();

/// xorshift64: incompressible and reproducible, nothing more is asked of it.
fn noise() -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    std::iter::repeat_with(next).take(NOISE_BYTES).collect()
}

/// The value whose bytes these are, if they are exactly a value's.
pub fn value_of(bytes: &[u8]) -> Option<Value> {
    let (name, mut rest) = bytes.split_first_chunk::<8>()?;
    let value = Value::from_le_bytes(*name);
    let len = rest.len();
    let equal = |stretch: &[u8]| {
        let (these, others) = rest.split_at(stretch.len());
        rest = others;
        these == stretch
    };
    (bytes.len() >= BODY_MIN && stretches(value, len, equal)).then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_told_from_its_bytes_and_no_byte_may_differ() {
        for len in [16, 17, 100, 70_000, 3_000_000] {
            let bytes = body(42, len);
            assert_eq!(value_of(&bytes), Some(42));
            for at in [0, len / 2, len - 1] {
                let mut bad = bytes.clone();
                bad[at] ^= 1;
                assert_eq!(value_of(&bad), None, "byte {at} of {len}");
            }
        }
        assert_eq!(value_of(&[1, 2, 3]), None);
    }
}
