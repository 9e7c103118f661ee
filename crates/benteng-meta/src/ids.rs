//! Names of things: newtypes, so that a term cannot stand where a log index belongs.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Text that should be an id is not one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a {kind}")]
pub struct ParseIdError {
    /// What was expected.
    pub kind: &'static str,
    /// What was given.
    pub text: String,
}

macro_rules! number_id {
    ($(#[$doc:meta])* $name:ident, $inner:ty, $label:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;
            fn from_str(s: &str) -> Result<$name, ParseIdError> {
                s.parse().map($name).map_err(|_| ParseIdError { kind: $label, text: s.to_owned() })
            }
        }
    };
}

macro_rules! uuid_id {
    ($(#[$doc:meta])* $name:ident, $label:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub struct $name(pub Uuid);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.simple().fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;
            fn from_str(s: &str) -> Result<$name, ParseIdError> {
                Uuid::try_parse(s).map($name).map_err(|_| ParseIdError { kind: $label, text: s.to_owned() })
            }
        }

        impl $name {
            /// The id made of 16 random bytes.
            pub fn from_random(bytes: [u8; 16]) -> $name {
                $name(uuid::Builder::from_random_bytes(bytes).into_uuid())
            }
        }
    };
}

number_id!(
    /// A node of the site; allocated by a command and never reused.
    NodeId, u64, "node id"
);
number_id!(
    /// A Raft group (shard of the metadata). One group now: [`GroupId::MAIN`].
    GroupId, u32, "group id"
);
number_id!(
    /// The group's own count of applied commands: what outlives a log is counted in it (S9).
    StateSeq, u64, "state sequence"
);
number_id!(
    /// One life of a gateway process on a node, committed before its first chunk (O1).
    Incarnation, u64, "incarnation"
);
number_id!(
    /// A placement group, 0 to 1023: the unit in which chunks are placed and moved.
    PlacementGroup, u16, "placement group"
);
number_id!(
    /// Number of a part of a blob, 1 to 10,000.
    PartNumber, u16, "part number"
);
number_id!(
    /// One attempt at writing a part: 64 random bits.
    Attempt, u64, "attempt"
);
number_id!(
    /// Site time (C4): microseconds since 1970-01-01T00:00:00Z, monotonic, the leader's.
    SiteTime, i64, "site time"
);
number_id!(
    /// Version of a key-encryption key, from 1.
    KekVersion, u32, "key version"
);

impl From<u64> for NodeId {
    fn from(id: u64) -> NodeId {
        NodeId(id)
    }
}

impl GroupId {
    /// The only group there is today.
    pub const MAIN: GroupId = GroupId(0);
}

uuid_id!(
    /// A site: one cluster.
    SiteId, "site id"
);
uuid_id!(
    /// A bucket, for ever: deleting and creating a name again gives another one.
    BucketId, "bucket id"
);
uuid_id!(
    /// The bytes of one object version (or of one upload under way).
    BlobId, "blob id"
);
uuid_id!(
    /// The disks of a node: a wiped node comes back with another one.
    StoreId, "store id"
);
uuid_id!(
    /// Idempotency id of a command (C1).
    CommandId, "command id"
);

/// A chunk: up to 4 MiB of ciphertext of one attempt at one part.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ChunkId {
    /// The blob it belongs to.
    pub blob: BlobId,
    /// The part within the blob.
    pub part: PartNumber,
    /// The attempt at the part.
    pub attempt: Attempt,
    /// Position within the attempt, from 0.
    pub sequence: u32,
}

impl ChunkId {
    /// Length of [`ChunkId::to_bytes`].
    pub const BYTES: usize = 30;

    /// Fixed-width form that sorts like the id: blob, part, attempt, sequence, all big-endian.
    pub fn to_bytes(self) -> [u8; Self::BYTES] {
        let mut out = [0; Self::BYTES];
        out[..16].copy_from_slice(self.blob.0.as_bytes());
        out[16..18].copy_from_slice(&self.part.0.to_be_bytes());
        out[18..26].copy_from_slice(&self.attempt.0.to_be_bytes());
        out[26..].copy_from_slice(&self.sequence.to_be_bytes());
        out
    }

    /// The id in 128 bits, for checkers that only compare: two of one run are equal by chance alone.
    pub fn folded(self) -> u128 {
        let within = u128::from(self.sequence) << 16 | u128::from(self.part.0);
        self.blob.0.as_u128() ^ (u128::from(self.attempt.0) << 64) ^ within
    }

    /// Reads [`ChunkId::to_bytes`] back; `None` if the length is another.
    pub fn from_bytes(bytes: &[u8]) -> Option<ChunkId> {
        let bytes: &[u8; Self::BYTES] = bytes.try_into().ok()?;
        let (blob, rest) = bytes.split_first_chunk::<16>()?;
        let (part, rest) = rest.split_first_chunk::<2>()?;
        let (attempt, rest) = rest.split_first_chunk::<8>()?;
        let (sequence, _) = rest.split_first_chunk::<4>()?;
        Some(ChunkId {
            blob: BlobId(Uuid::from_bytes(*blob)),
            part: PartNumber(u16::from_be_bytes(*part)),
            attempt: Attempt(u64::from_be_bytes(*attempt)),
            sequence: u32::from_be_bytes(*sequence),
        })
    }

    /// The placement group of the chunk: FNV-1a over [`ChunkId::to_bytes`], folded to 1024.
    /// Part of the on-disk format: never changes for existing chunks.
    pub fn placement_group(self) -> PlacementGroup {
        let mut hash = 0xcbf2_9ce4_8422_2325_u64;
        for byte in self.to_bytes() {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
        // The high bits of FNV mix better than the low ones.
        let folded = (hash >> 32) ^ hash;
        PlacementGroup(u16::try_from(folded % u64::from(PlacementGroup::COUNT)).unwrap_or(0))
    }
}

impl PlacementGroup {
    /// How many placement groups a site has.
    pub const COUNT: u16 = 1024;
}

impl fmt::Display for ChunkId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{:016x}/{}", self.blob, self.part, self.attempt.0, self.sequence)
    }
}

/// The gateway process that wrote a chunk, and the state sequence at which it began (O1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Origin {
    /// The node of the gateway.
    pub node: NodeId,
    /// Its incarnation.
    pub incarnation: Incarnation,
    /// The state sequence at which the incarnation was committed.
    pub began: StateSeq,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn chunk_id() -> impl Strategy<Value = ChunkId> {
        (any::<[u8; 16]>(), any::<u16>(), any::<u64>(), any::<u32>()).prop_map(|(b, p, a, s)| ChunkId {
            blob: BlobId(Uuid::from_bytes(b)),
            part: PartNumber(p),
            attempt: Attempt(a),
            sequence: s,
        })
    }

    proptest! {
        #[test]
        fn chunk_id_survives_its_bytes(id in chunk_id()) {
            prop_assert_eq!(ChunkId::from_bytes(&id.to_bytes()), Some(id));
        }

        #[test]
        fn chunk_ids_sort_like_their_bytes(a in chunk_id(), b in chunk_id()) {
            prop_assert_eq!(a.cmp(&b), a.to_bytes().cmp(&b.to_bytes()));
        }
    }

    #[test]
    fn placement_spreads_chunks_evenly() {
        let mut counts = vec![0_u32; usize::from(PlacementGroup::COUNT)];
        for sequence in 0..102_400 {
            let id = ChunkId {
                blob: BlobId(Uuid::from_u128(7)),
                part: PartNumber(1),
                attempt: Attempt(99),
                sequence,
            };
            counts[usize::from(id.placement_group().0)] += 1;
        }
        assert!(counts.iter().all(|&n| (40..200).contains(&n)), "a group is far from its share of 100");
    }

    #[test]
    fn placement_of_a_known_chunk_never_changes() {
        let id = ChunkId {
            blob: BlobId(Uuid::from_u128(0x0123_4567_89ab_cdef_0123_4567_89ab_cdef)),
            part: PartNumber(3),
            attempt: Attempt(0xfeed),
            sequence: 5,
        };
        assert_eq!(id.placement_group(), PlacementGroup(GOLDEN_GROUP));
    }

    /// Computed once from the first version; a change would strand every stored chunk.
    const GOLDEN_GROUP: u16 = 680;
}
