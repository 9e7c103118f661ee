//! What lies beside the segments, which only a start would read.

use super::{Bench, assert_reads, chunk};
use crate::Store;

const LEN: usize = 500;

/// A pass over the segments and what lies beside them; how much damage it found.
async fn pass(store: &Store) -> u32 {
    let (mut after, mut found) = (Some(0), 0);
    while let Some(segment) = after {
        let done = store.scrub_segment(segment).await.expect("reads");
        (after, found) = (done.segment, found + u32::from(done.damaged));
    }
    found
}

fn mended(seed: u64, file: &str, damage: impl Fn(&Bench)) {
    let bench = Bench::new(seed);
    let id = bench.boot(async |store| {
        store.append(chunk(0, LEN)).await.expect("appends");
        assert_eq!(pass(&store).await, 0, "nothing is damaged yet");
        damage(&bench);
        assert_eq!(pass(&store).await, 1, "{file} is damaged");
        assert_eq!(pass(&store).await, 0, "{file} is mended");
        store.id()
    });
    bench.boot(async |store| {
        assert_eq!(Some(store.id()), id, "the next start reads what was written anew");
        assert_reads(&store, 0, LEN).await;
    });
}

#[test]
fn i4_a_store_id_that_rots_is_written_anew() {
    let path = Bench::dir().join("store");
    mended(71, "store", |bench| bench.world.tamper(&path, |bytes| bytes[12] ^= 4));
    mended(72, "store", |bench| bench.world.lose(&path));
}

#[test]
fn j7_a_watermark_that_rots_is_written_anew() {
    let path = Bench::dir().join("watermark");
    mended(73, "watermark", |bench| bench.world.tamper(&path, |bytes| bytes[20] ^= 4));
}
