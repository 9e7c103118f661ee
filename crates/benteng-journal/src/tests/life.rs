//! The life of segments: checkpoint, release, recycling, full devices, watermark (J5 to J7).

use bytes::Bytes;

use super::rules::quiet;
use super::world::Loss;
use super::{Bench, ENTRY, append, assert_damaged, dir, segment_path, tags, vote};
use crate::{Body, Error, Record, Release, ReleaseOrder, SegmentNo};

#[test]
fn j5_vote_outlives_the_segment_that_held_it() {
    let bench = Bench::new(12);
    bench.boot(async |journal, _, _| {
        journal.submit(vec![vote("term 3")]).await.expect("runs").await.expect("durable");
        for n in 0..200 {
            append(&journal, &format!("entry {n}")).await;
        }
        let newest = journal.segments().last().expect("one is active").number;
        assert!(newest.0 > 3);
        journal.release(Release::Before(newest)).await.expect("releases");
        assert_eq!(journal.segments().len(), 1);
    });
    bench.world.power_loss(Loss::Drop);
    let opened = bench.boot(async |_, opened, _| opened).expect("no crash");
    assert_eq!(opened.checkpoint.len(), 2);
    assert_eq!(opened.checkpoint[0], (ENTRY, Bytes::from_static(b"entry 199"), None));
    assert_eq!(opened.checkpoint[1].2.as_deref(), Some(&b"term 3"[..]));
}

#[test]
fn j5_missing_segment_is_a_hole_not_a_release() {
    let bench = Bench::new(13);
    bench.boot(async |journal, _, _| {
        for text in ["a", "b", "c"] {
            append(&journal, text).await;
            journal.roll().await.expect("rolls");
        }
    });
    bench.world.lose(&segment_path(2));
    assert_damaged(&bench.refusal(), 2);
}

#[test]
fn j5_oldest_segments_go_first_only() {
    let bench = Bench::new(14);
    bench.boot(async |journal, _, _| {
        append(&journal, "a").await;
        journal.roll().await.expect("rolls");
        assert!(matches!(journal.release(Release::Segment(SegmentNo(1))).await, Err(Error::Refused { .. })));
        assert!(matches!(journal.release(Release::Before(SegmentNo(9))).await, Err(Error::Refused { .. })));
    });
}

#[test]
fn j5_recycled_segment_shows_nothing_of_its_last_life() {
    let mut bench = Bench::new(15);
    bench.options.release = ReleaseOrder::Any;
    for round in 0..12 {
        bench.boot(async |journal, _, seen| {
            assert!(tags(&seen).iter().all(|tag| tag.starts_with(&format!("{}", round - 1))), "J5: {round}");
            for n in 0..30 {
                append(&journal, &format!("{round} {n}")).await;
            }
            let sealed: Vec<_> = journal.segments().iter().filter(|s| s.sealed).map(|s| s.number).collect();
            let newest = journal.roll().await.expect("rolls");
            append(&journal, &format!("{round} last")).await;
            for number in sealed {
                journal.release(Release::Segment(number)).await.expect("releases");
            }
            for info in journal.segments() {
                if info.number < newest {
                    journal.release(Release::Segment(info.number)).await.expect("releases");
                }
            }
            quiet(&bench).await;
        });
        bench.world.power_loss(Loss::Random);
    }
    let files = bench.world.files();
    assert!(files.len() <= 5, "released segments are recycled or removed: {files:?}");
}

#[test]
fn i7_idle_boots_in_a_row_take_no_room() {
    let bench = Bench::new(31);
    for boot in 0..20 {
        bench.boot(async |journal, _, _| {
            quiet(&bench).await;
            // Clean stops and kills take turns.
            if boot % 2 == 0 {
                journal.close().await.expect("closes");
            }
        });
    }
    // One segment, one spare, the watermark; the last close may have left a released one.
    let files = bench.world.files();
    assert!(files.len() <= 4, "I7: 20 idle boots leave {files:?}");
    let used = bench.world.used();
    assert!(used <= 3 * bench.options.segment_bytes + 4096, "I7: 20 idle boots leave {used} bytes");
    let twice = bench.world.removed_in_vain();
    let twice: Vec<_> = twice.iter().filter(|path| path.extension().is_some_and(|e| e == "seg")).collect();
    assert!(twice.is_empty(), "each segment is recycled once: {twice:?}");
}

#[test]
fn i7_boots_that_write_little_leave_little() {
    let bench = Bench::new(32);
    for boot in 0..20 {
        bench.boot(async |journal, _, seen| {
            assert_eq!(tags(&seen).len(), boot, "I1: all that was acknowledged is there");
            append(&journal, &format!("boot {boot}")).await;
            quiet(&bench).await;
            if boot % 2 == 0 {
                journal.close().await.expect("closes");
            }
        });
        if boot % 3 == 0 {
            bench.world.power_loss(Loss::Random);
        }
    }
    let used = bench.world.used();
    // Header, base and record of each, and a segment and a spare of full size.
    let bound = 20 * 8192 + 2 * bench.options.segment_bytes;
    assert!(used <= bound, "I7: 20 boots with one record each leave {used} bytes, not {bound}");
    bench.boot(async |journal, _, _| {
        let newest = journal.newest();
        journal.release(Release::Before(newest)).await.expect("releases");
        quiet(&bench).await;
    });
    let files = bench.world.files();
    assert!(files.len() <= 4, "I7: what is released is recycled or removed: {files:?}");
}

#[test]
fn j5_leftovers_that_lie_exactly_where_records_are_expected_do_not_parse() {
    let mut bench = Bench::new(28);
    bench.options.release = ReleaseOrder::Any;
    bench.options.sticky.clear();
    bench.boot(async |journal, _, _| {
        quiet(&bench).await;
        append(&journal, "round 1, record 0").await;
        journal.roll().await.expect("rolls");
        quiet(&bench).await;
        // No room for new spares: from now on only released segments are used again.
        bench.world.set_capacity(Some(bench.world.used()));
        for round in 2..7 {
            // Each life has a base of the same size and records of the same size, fewer each round.
            for n in 0..10 - round {
                append(&journal, &format!("round {round}, record {n}")).await;
            }
            journal.roll().await.expect("rolls");
            quiet(&bench).await;
            journal.release(Release::Segment(SegmentNo(round - 1))).await.expect("releases");
            quiet(&bench).await;
        }
        append(&journal, "round 7, record 0").await;
    });
    let headers = (1..9).map(segment_path).filter(|path| bench.world.files().contains(path));
    let generations: Vec<u8> = headers.map(|path| bench.world.contents(&path)[12]).collect();
    assert!(generations.iter().all(|n| *n > 1), "the test recycles: {generations:?}");
    bench.world.set_capacity(None);
    assert_eq!(
        tags(&bench.seen()),
        [
            "round 6, record 0",
            "round 6, record 1",
            "round 6, record 2",
            "round 6, record 3",
            "round 7, record 0"
        ]
    );
}

#[test]
fn j6_failed_write_and_failed_fsync_abort_and_are_not_retried() {
    for fault in 0..2 {
        let bench = Bench::new(16);
        let done = bench.boot(async |journal, _, _| {
            quiet(&bench).await;
            if fault == 0 {
                bench.world.fail_write_in(1);
            } else {
                bench.world.fail_sync_in(1);
            }
            append(&journal, "a").await;
        });
        assert_eq!(done, None, "J6: nothing is acknowledged");
        assert!(bench.world.aborted().expect("J6: aborts").starts_with("J6"));
    }
}

#[test]
fn j6_full_device_makes_the_writer_wait_and_go_on_by_itself() {
    let bench = Bench::new(17);
    let order = bench.boot(async |journal, _, _| {
        quiet(&bench).await;
        bench.world.set_capacity(Some(bench.world.used()));
        let mut waiting = Vec::new();
        for n in 0..30 {
            // Ten to a segment; one spare is there, then the device is full.
            let record =
                Record { kind: 1, tag: n.to_string().into(), body: Body::Seal(vec![7; 1500].into()) };
            waiting.push(journal.submit(vec![record]).await.expect("runs"));
        }
        quiet(&bench).await;
        quiet(&bench).await;
        assert!(journal.stalled(), "J6: the spare is used up");
        assert!(journal.counters().records >= 15, "J6: the spare keeps it going");
        bench.world.set_capacity(None);
        for pending in waiting {
            pending.await.expect("durable");
        }
        assert!(!journal.stalled());
    });
    assert!(order.is_some());
    assert_eq!(bench.seen().len(), 30);
}

#[test]
fn j6_release_works_while_the_writer_is_stalled_and_cures_it() {
    let bench = Bench::new(18);
    bench.boot(async |journal, _, _| {
        quiet(&bench).await;
        bench.world.set_capacity(Some(bench.world.used()));
        let mut waiting = Vec::new();
        for n in 0..30 {
            let record =
                Record { kind: 1, tag: n.to_string().into(), body: Body::Seal(vec![7; 1500].into()) };
            waiting.push(journal.submit(vec![record]).await.expect("runs"));
        }
        quiet(&bench).await;
        quiet(&bench).await;
        assert!(journal.stalled());
        journal.release(Release::Before(SegmentNo(2))).await.expect("releases");
        waiting.truncate(25);
        for pending in waiting {
            pending.await.expect("durable");
        }
    });
}

#[test]
fn j7_log_behind_its_watermark_is_damage() {
    // The newest segment is gone altogether: nothing in the log tells, the watermark does.
    let bench = Bench::new(19);
    bench.boot(async |journal, _, _| {
        append(&journal, "a").await;
        journal.roll().await.expect("rolls");
        append(&journal, "b").await;
        quiet(&bench).await;
    });
    bench.world.lose(&segment_path(2));
    assert_damaged(&bench.refusal(), 1);

    // A clean stop, then the last batch and its claim are zeroed.
    let bench = Bench::new(20);
    let place = bench.boot(async |journal, _, _| {
        let place = append(&journal, "a").await;
        journal.close().await.expect("closes");
        place
    });
    let from = usize::try_from(place.expect("no crash").offset).expect("small");
    bench.world.tamper(&segment_path(1), |bytes| bytes[from..].fill(0));
    assert_damaged(&bench.refusal(), 1);

    // All segments are gone.
    bench.world.lose(&segment_path(1));
    assert_damaged(&bench.refusal(), 0);
}

#[test]
fn j7_watermark_repeats_the_newest_sticky_records() {
    let bench = Bench::new(21);
    bench.boot(async |journal, _, _| {
        append(&journal, "a").await;
        journal.submit_claimed(vec![vote("v")]).await.expect("runs").await.expect("claimed");
        journal.close().await.expect("closes");
    });
    let opened = bench.boot(async |_, opened, _| opened).expect("no crash");
    assert_eq!(opened.watermark.as_ref(), Some(&opened.checkpoint));
    assert_eq!(opened.checkpoint[1].2.as_deref(), Some(&b"v"[..]));
    let plain = bench.world.contents(&dir().join("watermark"));
    assert!(!plain.windows(6).any(|w| w == b"term 3"), "I5: bodies are sealed there, too");
}
