//! The chunk store on a machine of its own: rules by name, crashes by chance, bytes by file.

mod beside;
mod bytes;
mod crash;
mod kv;
mod rules;
#[path = "../../benteng-journal/src/tests/world.rs"]
mod world;

use std::path::PathBuf;
use std::sync::Arc;

use ::bytes::Bytes;
use benteng_meta::ids::{Attempt, BlobId, ChunkId, Incarnation, NodeId, Origin, PartNumber, StateSeq};
use crc_fast::crc32_iscsi;
use uuid::Uuid;

use crate::tests::kv::MemoryKv;
use crate::tests::world::World;
use crate::{ChunkInfo, Error, NewChunk, Store, StoreOptions};

pub(crate) const FRAME: u32 = 100;

pub(crate) fn id(n: u32) -> ChunkId {
    ChunkId { blob: BlobId(Uuid::from_u128(7)), part: PartNumber(1), attempt: Attempt(9), sequence: n }
}

pub(crate) fn origin() -> Origin {
    Origin { node: NodeId(1), incarnation: Incarnation(2), began: StateSeq(3) }
}

/// The bytes of chunk `n`: the same each time, in several slices.
pub(crate) fn chunk(n: u32, len: usize) -> NewChunk {
    let bytes = Bytes::from((0..len).map(|i| (i as u32 * 31 + n * 17) as u8).collect::<Vec<_>>());
    let frame_crcs = bytes.chunks(FRAME as usize).map(crc32_iscsi).collect();
    let cut = len / 3;
    let bytes = vec![bytes.slice(..cut), bytes.slice(cut..)];
    NewChunk { id: id(n), origin: origin(), frame_bytes: FRAME, frame_crcs, bytes }
}

pub(crate) fn whole(chunk: &NewChunk) -> Vec<u8> {
    chunk.bytes.concat()
}

/// A store under test: its machine and its ordered store.
#[derive(Clone)]
pub(crate) struct Bench {
    pub(crate) world: World,
    pub(crate) kv: Arc<MemoryKv>,
    pub(crate) options: StoreOptions,
}

impl Bench {
    pub(crate) fn new(seed: u64) -> Bench {
        let options = StoreOptions {
            segment_bytes: 32 << 10,
            spares: 1,
            queue_bytes: 128 << 10,
            batch_bytes: 16 << 10,
            ..StoreOptions::default()
        };
        Bench { world: World::new(seed), kv: Arc::default(), options }
    }

    pub(crate) fn dir() -> PathBuf {
        PathBuf::from("/node/chunks")
    }

    pub(crate) async fn open(&self) -> Result<Store, Error> {
        Store::open(self.world.host(), Bench::dir(), self.kv.clone(), self.options.clone()).await
    }

    /// Opens, runs, and ends like kill -9.
    pub(crate) fn boot<T>(&self, run: impl AsyncFnOnce(Store) -> T) -> Option<T> {
        self.world.run(async {
            let store = self.open().await.expect("the store opens");
            run(store).await
        })
    }

    pub(crate) fn segment(number: u64) -> PathBuf {
        Bench::dir().join(format!("{number:016x}.seg"))
    }

    /// Where the bytes of a chunk lie on the disk: file and offset.
    pub(crate) fn find(&self, chunk: &NewChunk) -> Vec<(PathBuf, usize)> {
        let wanted = whole(chunk);
        let mut found = Vec::new();
        for path in self.world.files().into_iter().filter(|path| path.extension().is_some_and(|e| e == "seg"))
        {
            let bytes = self.world.contents(&path);
            let at = bytes.windows(wanted.len()).position(|window| window == wanted);
            found.extend(at.map(|at| (path, at)));
        }
        found
    }
}

pub(crate) fn listed(store: &Store) -> Vec<(ChunkId, ChunkInfo)> {
    store.list(None, usize::MAX).expect("lists")
}

pub(crate) async fn assert_reads(store: &Store, n: u32, len: usize) {
    let wanted = chunk(n, len);
    let frames = u32::try_from(wanted.frame_crcs.len()).expect("few");
    let read = store.read(id(n), 0..frames).await;
    assert!(
        read.as_ref().is_ok_and(|read| read[..] == whole(&wanted)),
        "I1: chunk {n} of {len} bytes: {read:?}"
    );
}
