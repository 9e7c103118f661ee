//! Promises and rules of the chunk store as scripted histories.

use std::ops::Range;
use std::time::Duration;

use benteng_host::sleep;
use bytes::Bytes;

use super::world::Loss;
use super::{Bench, FRAME, assert_reads, chunk, id, listed, whole};
use crate::{Error, Store};

const LEN: usize = 2050;
const FRAMES: u32 = 21;

async fn fill(store: &Store, ids: Range<u32>) {
    for n in ids {
        store.append(chunk(n, LEN)).await.expect("appends");
    }
}

async fn pause(bench: &Bench) {
    sleep(&*bench.world.host().clock, Duration::from_secs(1)).await;
}

/// Fills three segments and removes most of the first two.
async fn dirty(store: &Store) {
    fill(store, 0..30).await;
    store.remove((0..26).filter(|n| n % 5 != 0).map(id).collect()).await.expect("removes");
    fill(store, 30..45).await;
}

async fn assert_dirty(store: &Store) {
    for n in 0..45 {
        if n < 26 && n % 5 != 0 {
            assert!(matches!(store.read(id(n), 0..1).await, Err(Error::NotFound { .. })));
        } else {
            assert_reads(store, n, LEN).await;
        }
    }
}

#[test]
fn chunks_come_back_whole_and_by_frames() {
    let bench = Bench::new(1);
    bench.boot(async |store| {
        fill(&store, 0..3).await;
        let wanted = whole(&chunk(1, LEN));
        for (from, to) in [(0, 1), (20, 21), (3, 9), (0, FRAMES)] {
            let read = store.read(id(1), from..to).await.expect("reads");
            let end = (to as usize * FRAME as usize).min(LEN);
            assert_eq!(&read[..], &wanted[from as usize * FRAME as usize..end]);
        }
        for (start, end) in [(0, 0), (5, 4), (0, FRAMES + 1), (FRAMES, FRAMES + 1)] {
            let range = Range { start, end };
            assert!(matches!(store.read(id(1), range).await, Err(Error::Range { .. })));
        }
        let info = store.stat(id(1)).expect("looks").expect("is there");
        assert_eq!((info.len, info.frames, info.quarantined), (2050, FRAMES, false));
        assert_eq!(store.stat(id(9)).expect("looks"), None);
        assert_eq!(listed(&store).len(), 3);
        assert_eq!(store.list(Some(id(0)), 1).expect("lists")[0].0, id(1));
        assert_eq!(store.header(id(2)).await.expect("is there").frame_crcs, chunk(2, LEN).frame_crcs);
    });
}

#[test]
fn i4_bytes_changed_on_their_way_are_refused_before_the_write() {
    let bench = Bench::new(2);
    bench.boot(async |store| {
        let mut bad = chunk(0, LEN);
        let mut bytes = whole(&bad);
        bytes[777] ^= 1;
        bad.bytes = vec![Bytes::from(bytes)];
        assert!(matches!(store.append(bad).await, Err(Error::BadFrame { frame: 7, .. })));
        let mut short = chunk(0, LEN);
        short.frame_crcs.pop();
        assert!(matches!(store.append(short).await, Err(Error::Malformed { .. })));
        assert!(matches!(store.append(chunk(0, 0)).await, Err(Error::Malformed { .. })));
        assert_eq!(store.usage().chunks, 0);
    });
}

#[test]
fn appending_again_is_no_error_and_other_bytes_are_a_conflict() {
    let bench = Bench::new(3);
    bench.boot(async |store| {
        let (a, b) = futures::join!(store.append(chunk(0, LEN)), store.append(chunk(0, LEN)));
        assert!(a.is_ok() && b.is_ok());
        store.append(chunk(0, LEN)).await.expect("again");
        assert!(matches!(store.append(chunk(0, LEN + 1)).await, Err(Error::Conflict { .. })));
        let (c, d) = futures::join!(store.append(chunk(1, LEN)), store.append(chunk(1, LEN + 1)));
        assert!(c.is_ok() && matches!(d, Err(Error::Conflict { .. })));
        assert_eq!(store.usage().chunks, 2);
    });
}

#[test]
fn removed_ids_are_refused_for_ever_also_after_a_rebuild() {
    let bench = Bench::new(4);
    bench.boot(async |store| {
        fill(&store, 0..3).await;
        store.remove(vec![id(1), id(7)]).await.expect("removes");
        store.remove(vec![id(1)]).await.expect("again");
        assert!(matches!(store.append(chunk(1, LEN)).await, Err(Error::Removed { .. })));
        assert!(matches!(store.append(chunk(7, LEN)).await, Err(Error::Removed { .. })));
        assert!(matches!(store.read(id(1), 0..1).await, Err(Error::NotFound { .. })));
    });
    bench.world.power_loss(Loss::Drop);
    bench.kv.lose_all();
    bench.boot(async |store| {
        assert_eq!(listed(&store).len(), 2);
        assert!(matches!(store.append(chunk(1, LEN)).await, Err(Error::Removed { .. })));
    });
}

#[test]
fn evicted_chunks_give_their_room_back_and_may_return() {
    let bench = Bench::new(40);
    bench.boot(async |store| {
        fill(&store, 0..30).await;
        store.remove(vec![id(29)]).await.expect("removes");
        store.evict((0..30).filter(|n| n % 3 != 0).map(id).collect()).await.expect("evicts");
        store.evict(vec![id(1), id(77)]).await.expect("again, and what never was here");
        assert_eq!(listed(&store).len(), 10);
        assert!(matches!(store.read(id(1), 0..1).await, Err(Error::NotFound { .. })));
        store.append(chunk(4, LEN)).await.expect("comes back");
        assert!(matches!(store.append(chunk(29, LEN)).await, Err(Error::Removed { .. })), "I8");
        assert_reads(&store, 4, LEN).await;
        let before = store.usage().dead_bytes;
        while store.clean().await.expect("cleans").released_bytes > 0 {}
        assert!(store.usage().dead_bytes < before, "O6: {:?}", store.usage());
    });
    bench.world.power_loss(Loss::Drop);
    bench.kv.lose_all();
    bench.boot(async |store| {
        assert_eq!(listed(&store).len(), 11, "the rebuilt index knows what was evicted");
        store.remove(vec![id(5)]).await.expect("removes what was evicted");
        assert!(matches!(store.append(chunk(5, LEN)).await, Err(Error::Removed { .. })), "I8");
        assert_reads(&store, 4, LEN).await;
        store.append(chunk(7, LEN)).await.expect("comes back");
        assert_reads(&store, 7, LEN).await;
    });
}

#[test]
fn i4_a_chunk_in_doubt_is_replaced_by_other_bytes() {
    let bench = Bench::new(41);
    bench.boot(async |store| {
        // Its checksums are right and its bytes are wrong: they are those of another chunk.
        let mut lie = chunk(1, LEN + 7);
        lie.id = id(0);
        store.append(lie).await.expect("appends");
        assert!(matches!(store.append(chunk(0, LEN)).await, Err(Error::Conflict { .. })));
        store.doubt(id(0)).await.expect("quarantines");
        assert!(store.stat(id(0)).expect("looks").is_some_and(|info| info.quarantined));
        store.append(chunk(0, LEN)).await.expect("replaces");
        assert_reads(&store, 0, LEN).await;
        assert!(store.quarantined().is_empty());
        assert!(matches!(store.doubt(id(9)).await, Err(Error::NotFound { .. })));
        store.keep_note("scrub", Bytes::from_static(b"x")).await.expect("keeps");
    });
    bench.boot(async |store| {
        assert_reads(&store, 0, LEN).await;
        assert_eq!(store.note("scrub").expect("reads"), Some(Bytes::from_static(b"x")));
    });
    bench.kv.lose_all();
    bench.boot(async |store| {
        assert_reads(&store, 0, LEN).await;
        assert_eq!(store.note("scrub").expect("reads"), None, "gone with the index");
    });
}

#[test]
fn i4_flipped_bit_is_quarantined_never_served_and_repaired_by_append() {
    let bench = Bench::new(5);
    bench.boot(async |store| fill(&store, 0..3).await);
    let (path, at) = bench.find(&chunk(1, LEN))[0].clone();
    bench.world.tamper(&path, |bytes| bytes[at + 850] ^= 16);
    bench.boot(async |store| {
        let scrubbed = store.scrub(None, u64::MAX).await.expect("scrubs");
        assert_eq!((scrubbed.corrupt, scrubbed.chunks, scrubbed.next), (vec![id(1)], 3, None));
        assert_eq!(store.quarantined(), [id(1)]);
        assert!(store.stat(id(1)).expect("looks").expect("is there").quarantined);
        assert!(matches!(store.read(id(1), 0..FRAMES).await, Err(Error::Corrupt { .. })));
        assert!(matches!(store.read(id(1), 8..9).await, Err(Error::Corrupt { .. })));
        assert!(store.read(id(1), 0..8).await.is_ok(), "sound frames are as good as any");
        store.append(chunk(1, LEN)).await.expect("repairs");
        assert!(store.quarantined().is_empty());
        assert_reads(&store, 1, LEN).await;
    });
    bench.kv.lose_all();
    bench.boot(async |store| {
        assert_reads(&store, 1, LEN).await;
        assert!(store.scrub(None, u64::MAX).await.expect("scrubs").corrupt.is_empty());
    });
}

#[test]
fn scrub_goes_on_where_it_stopped() {
    let bench = Bench::new(6);
    bench.boot(async |store| {
        fill(&store, 0..10).await;
        let (mut next, mut chunks, mut rounds) = (None, 0, 0);
        loop {
            let done = store.scrub(next, 3 * LEN as u64).await.expect("scrubs");
            (next, chunks, rounds) = (done.next, chunks + done.chunks, rounds + 1);
            if next.is_none() {
                break;
            }
        }
        assert_eq!((chunks, rounds), (10, 4));
    });
}

#[test]
fn a_lost_index_is_rebuilt_equal() {
    let bench = Bench::new(7);
    let before = bench.boot(async |store| {
        dirty(&store).await;
        store.clean().await.expect("cleans");
        (listed(&store), store.usage().live_bytes)
    });
    for keep in [None, Some(0), Some(3), Some(10)] {
        match keep {
            None => bench.kv.lose_all(),
            Some(n) => bench.kv.crash(n),
        }
        let after = bench.boot(async |store| {
            assert_dirty(&store).await;
            (listed(&store), store.usage().live_bytes)
        });
        assert_eq!(before, after, "{keep:?}");
    }
}

#[test]
fn an_index_of_another_store_is_not_believed() {
    let bench = Bench::new(8);
    bench.boot(async |store| fill(&store, 0..3).await);
    let other = Bench { kv: bench.kv.clone(), ..Bench::new(9) };
    other.boot(async |store| assert!(listed(&store).is_empty()));
}

#[test]
fn the_store_keeps_its_id_and_refuses_to_draw_another_over_chunks() {
    let bench = Bench::new(10);
    let first = bench.boot(async |store| store.id());
    assert_eq!(bench.boot(async |store| store.id()), first);
    bench.world.lose(&Bench::dir().join("store"));
    let opened = bench.world.run(async { bench.open().await.map(drop) });
    assert!(matches!(opened, Some(Err(Error::Identity { .. }))));
}

#[test]
fn o6_full_disk_refuses_and_recovers_with_hysteresis() {
    let bench = Bench::new(11);
    bench.boot(async |store| {
        fill(&store, 0..3).await;
        pause(&bench).await;
        let used = bench.world.used();
        // 4 % free: under the reserve.
        bench.world.set_capacity(Some(used * 100 / 96));
        pause(&bench).await;
        assert!(matches!(store.append(chunk(9, LEN)).await, Err(Error::Full { .. })));
        assert!(store.usage().under_reserve);
        store.remove(vec![id(0)]).await.expect("O6: removal works under the reserve");
        assert_reads(&store, 1, LEN).await;
        // 5.5 %: above the reserve, below the resumption.
        bench.world.set_capacity(Some(used * 1000 / 945));
        pause(&bench).await;
        assert!(matches!(store.append(chunk(9, LEN)).await, Err(Error::Full { .. })), "O6: hysteresis");
        bench.world.set_capacity(Some(used * 100 / 93));
        pause(&bench).await;
        store.append(chunk(9, LEN)).await.expect("writes return by themselves");
        // 5.5 % again: it goes on.
        bench.world.set_capacity(Some(bench.world.used() * 1000 / 945));
        pause(&bench).await;
        store.append(chunk(10, LEN)).await.expect("O6: hysteresis");
    });
}

#[test]
fn o6_clean_gives_dead_bytes_back() {
    let bench = Bench::new(12);
    bench.boot(async |store| {
        dirty(&store).await;
        let before = store.usage();
        let (mut released, mut rounds) = (0, 0);
        loop {
            let cleaned = store.clean().await.expect("cleans");
            if cleaned.segment.is_none() {
                break;
            }
            released += cleaned.released_bytes;
            rounds += 1;
            assert!(rounds < 20, "cleaning comes to an end");
        }
        let after = store.usage();
        assert!(released > 0 && after.dead_bytes < before.dead_bytes, "{before:?} {after:?}");
        assert_eq!((after.chunks, after.live_bytes), (before.chunks, before.live_bytes));
        assert_dirty(&store).await;
    });
    bench.kv.lose_all();
    bench.boot(async |store| assert_dirty(&store).await);
}

#[test]
fn o6_clean_needs_room_for_the_copy_first() {
    let bench = Bench::new(13);
    bench.boot(async |store| {
        dirty(&store).await;
        pause(&bench).await;
        bench.world.set_capacity(Some(bench.world.used() + 100));
        assert!(matches!(store.clean().await, Err(Error::Full { .. })));
        assert_dirty(&store).await;
    });
}

#[test]
fn a_crash_at_any_step_of_clean_loses_no_live_chunk() {
    for step in 1..120 {
        for loss in [Loss::Keep, Loss::Drop, Loss::Random] {
            let bench = Bench::new(step);
            bench.boot(async |store| dirty(&store).await);
            let done = bench.boot(async |store| {
                bench.world.crash_in(step);
                store.clean().await.expect("cleans").segment.expect("there is something to clean");
            });
            bench.world.power_loss(loss);
            bench
                .kv
                .crash(usize::try_from(bench.world.below(bench.kv.unflushed() as u64 + 1)).expect("small"));
            bench.boot(async |store| {
                assert_dirty(&store).await;
                store.clean().await.expect("cleans again");
                assert_dirty(&store).await;
            });
            if done.is_some() {
                assert!(step > 10, "the steps reach into clean");
                return;
            }
        }
    }
}

#[test]
fn reads_never_fail_while_segments_are_cleaned() {
    for seed in 0..20 {
        let bench = Bench::new(seed);
        bench.boot(async |store| {
            dirty(&store).await;
            let cleaner = async { while store.clean().await.expect("cleans").segment.is_some() {} };
            let reader = async {
                for _ in 0..5 {
                    assert_dirty(&store).await;
                }
            };
            futures::join!(cleaner, reader);
        });
    }
}

#[test]
fn durable_chunks_that_are_not_indexed_yet_do_not_look_dead_to_clean() {
    let bench = Bench::new(19);
    bench.boot(async |store| {
        bench.kv.hold();
        let appends = futures::future::join_all((0..40).map(|n| store.append(chunk(n, LEN))));
        let cleaner = async {
            while store.journal.segments().len() < 3 {
                pause(&bench).await;
            }
            pause(&bench).await;
            assert_eq!(store.clean().await.expect("cleans").segment, None);
            bench.kv.let_go();
        };
        let (appended, ()) = futures::join!(appends, cleaner);
        appended.into_iter().for_each(|appended| appended.expect("appends"));
        for n in 0..40 {
            assert_reads(&store, n, LEN).await;
        }
    });
}

#[test]
fn a_corrupt_chunk_keeps_its_segment_until_it_is_repaired() {
    let bench = Bench::new(15);
    bench.boot(async |store| dirty(&store).await);
    let (path, at) = bench.find(&chunk(5, LEN))[0].clone();
    bench.world.tamper(&path, |bytes| bytes[at] ^= 1);
    bench.boot(async |store| {
        let (mut corrupt, mut segments) = (Vec::new(), Vec::new());
        loop {
            let cleaned = store.clean().await.expect("cleans");
            assert!(cleaned.corrupt.is_empty() || cleaned.released_bytes == 0);
            corrupt.extend(cleaned.corrupt);
            let Some(segment) = cleaned.segment else { break };
            assert!(!segments.contains(&segment), "a blocked segment does not hold up the others");
            segments.push(segment);
        }
        assert_eq!((corrupt, store.quarantined()), (vec![id(5)], vec![id(5)]));
        assert!(bench.world.files().contains(&path));
        store.append(chunk(5, LEN)).await.expect("repairs");
        assert_dirty(&store).await;
        while store.clean().await.expect("cleans").segment.is_some() {}
        assert_dirty(&store).await;
        pause(&bench).await;
        assert!(!bench.world.files().contains(&path), "the segment is free at last");
    });
}

#[test]
fn a_chunk_behind_a_damaged_record_header_is_still_copied_out() {
    let bench = Bench::new(16);
    bench.boot(async |store| dirty(&store).await);
    bench.kv.state_is_durable();
    let (path, at) = bench.find(&chunk(5, LEN))[0].clone();
    // Its record's tag lies before the bytes.
    bench.world.tamper(&path, |bytes| bytes[at - 20] ^= 1);
    bench.boot(async |store| {
        while store.clean().await.expect("cleans").segment.is_some() {}
        assert_dirty(&store).await;
        pause(&bench).await;
        assert!(!bench.world.files().contains(&path));
    });
}

#[test]
fn i4_rot_around_chunks_is_found_and_cleaned_before_a_start_meets_it() {
    let bench = Bench::new(61);
    bench.boot(async |store| {
        dirty(&store).await;
        // The tombstone of chunk 1, and the header of chunk 44.
        for n in [1, 44] {
            let wanted = id(n).to_bytes();
            let segments = bench.world.files().into_iter().rev();
            let mut segments = segments.filter(|path| path.extension().is_some_and(|e| e == "seg"));
            let place = segments.find_map(|path| {
                let bytes = bench.world.contents(&path);
                bytes.windows(wanted.len()).position(|window| window == wanted).map(|at| (path, at))
            });
            let (path, at) = place.expect("its record names it");
            bench.world.tamper(&path, |bytes| bytes[at] ^= 2);
        }
        let (mut after, mut found) = (Some(0), 0);
        while let Some(segment) = after {
            let done = store.scrub_segment(segment).await.expect("reads");
            (after, found) = (done.segment, found + u64::from(done.damaged));
        }
        assert!((1..=2).contains(&found) && store.segments_damaged() == found, "{found} damaged segments");
        for _ in 0..20 {
            if store.clean().await.expect("cleans").segment.is_none() {
                break;
            }
        }
        assert_eq!(store.segments_damaged(), 0, "what is damaged is written anew, and gone");
        assert_dirty(&store).await;
    });
    bench.kv.lose_all();
    // From the segments alone: what was removed stays removed (J5), though the tombstone of one had rotted.
    bench.boot(async |store| assert_dirty(&store).await);
}

#[test]
fn chunks_of_a_lost_segment_are_quarantined_and_repaired() {
    let bench = Bench::new(17);
    bench.boot(async |store| dirty(&store).await);
    bench.world.lose(&Bench::segment(1));
    bench.boot(async |store| {
        let corrupt = store.scrub(None, u64::MAX).await.expect("scrubs").corrupt;
        assert!(!corrupt.is_empty());
        for lost in corrupt {
            store.append(chunk(lost.sequence, LEN)).await.expect("repairs");
        }
        assert_dirty(&store).await;
    });
}

#[test]
fn every_kv_key_lies_under_the_store_s_prefix() {
    let bench = Bench::new(18);
    bench.boot(async |store| {
        dirty(&store).await;
        store.close().await.expect("closes");
    });
    assert!(bench.kv.keys().iter().all(|key| key.starts_with(b"c/")));
    assert_eq!(bench.kv.unflushed(), 0, "a clean stop leaves nothing to replay");
}
