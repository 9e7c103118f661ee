//! Each rule's "else" as a scripted history: batches, claims, boots (J1 to J4, K1).

use std::time::Duration;

use benteng_host::sleep;
use bytes::Bytes;

use super::world::Loss;
use super::{Bench, STORE, append, assert_damaged, dir, entry, segment_path, tags, vote};
use crate::{Body, Error, Journal, OnDamage, RawBodies, Record, Release, ReleaseOrder, Replay, SegmentNo};

pub(crate) async fn quiet(bench: &Bench) {
    sleep(&*bench.world.host().clock, Duration::from_millis(50)).await;
}

#[test]
fn a_fresh_journal_is_empty_and_says_so() {
    let bench = Bench::new(1);
    let opened = bench.boot(async |_, opened, seen| (opened, seen)).expect("no crash");
    assert!(opened.0.fresh && opened.0.watermark.is_none() && opened.1.is_empty());
    let again = bench.boot(async |_, opened, _| opened).expect("no crash");
    assert!(!again.fresh && again.watermark == Some(vec![]));
}

#[test]
fn records_come_back_in_order_with_their_bodies() {
    let bench = Bench::new(2);
    bench.boot(async |journal, _, _| {
        let raw = Body::Raw(vec![Bytes::from_static(b"ci"), Bytes::from_static(b"pher")]);
        let batch =
            vec![entry("a"), Record { kind: 9, tag: Bytes::from_static(b"r"), body: raw }, entry("b")];
        let places = journal.submit(batch).await.expect("runs").await.expect("durable");
        assert_eq!(&journal.read(places[1]).await.expect("reads").1[..], b"cipher");
        assert_eq!(&journal.read_range(places[1], 2, 3).await.expect("reads")[..], b"phe");
        assert!(matches!(journal.read_range(places[1], 2, 5).await, Err(Error::Refused { .. })));
        assert_eq!(journal.read(places[0]).await.expect("reads").1, super::body_of("a"));
        journal.close().await.expect("closes");
    });
    let seen = bench.seen();
    assert_eq!(seen.iter().map(|r| r.kind).collect::<Vec<_>>(), [1, 9, 1]);
    assert_eq!(seen[0].body, Some(super::body_of("a")));
    assert_eq!(seen[1].body, None);
}

#[test]
fn j1_one_sync_serves_all_who_wait() {
    let bench = Bench::new(3);
    bench.boot(async |journal, _, _| {
        let mut waiting = Vec::new();
        for n in 0..20 {
            waiting.push(journal.submit(vec![entry(&n.to_string())]).await.expect("runs"));
        }
        for pending in waiting {
            pending.await.expect("durable");
        }
        let counters = journal.counters();
        assert_eq!(counters.records, 20);
        assert!(counters.batches <= 5, "J1: {} batches for 20 records", counters.batches);
    });
}

#[test]
fn j2_torn_tail_is_cut() {
    for seed in 0..200 {
        let bench = Bench::new(seed);
        let acknowledged = bench.world.run(async {
            let (journal, ..) = bench.open().await.expect("opens");
            append(&journal, "kept").await;
            quiet(&bench).await;
            bench.world.crash_in(1 + seed % 3);
            let torn = (0..20).map(|n| entry(&format!("torn{n}"))).collect();
            journal.submit(torn).await.expect("runs").await.expect("durable");
            quiet(&bench).await;
        });
        bench.world.power_loss(Loss::Random);
        let seen = tags(&bench.seen());
        assert_eq!(seen[0], "kept");
        assert!(acknowledged.is_none() || seen.len() == 21);
        assert!(seen[1..].iter().enumerate().all(|(n, tag)| *tag == format!("torn{n}")));
    }
}

#[test]
fn j2_corrupt_claimed_record_is_damage_never_cut() {
    for bit in 0..(64 + 1 + 28) * 8 {
        let bench = Bench::new(5);
        let place = bench.boot(async |journal, _, _| {
            let place = append(&journal, "a").await;
            quiet(&bench).await;
            place
        });
        let place = place.expect("no crash");
        assert_eq!(place.stored_len(), 96);
        let at = usize::try_from(place.offset).expect("small") * 8 + bit;
        bench.world.tamper(&segment_path(1), |bytes| bytes[at / 8] ^= 1 << (at % 8));
        assert_damaged(&bench.refusal(), 1);
    }
}

#[test]
fn j2_corrupt_sealed_segment_is_damage() {
    let bench = Bench::new(6);
    let place = bench.boot(async |journal, _, _| {
        let place = append(&journal, "a").await;
        journal.roll().await.expect("rolls");
        append(&journal, "b").await;
        place
    });
    let at = usize::try_from(place.expect("no crash").offset).expect("small");
    bench.world.tamper(&segment_path(1), |bytes| bytes[at + 70] ^= 4);
    assert_damaged(&bench.refusal(), 1);
}

#[test]
fn i4_a_running_journal_finds_any_flipped_bit_in_its_segments_and_its_watermark() {
    let bench = Bench::new(51);
    bench.boot(async |journal, _, _| {
        let place = append(&journal, "a").await;
        let sealed = journal.roll().await.expect("rolls").0 - 1;
        append(&journal, "b").await;
        for segment in journal.segments() {
            assert_eq!(journal.verify(segment.number, RawBodies::Read).await.expect("sound"), segment.end);
        }
        let flip =
            |at: usize| bench.world.tamper(&segment_path(sealed), |bytes| bytes[at / 8] ^= 1 << (at % 8));
        // The part of the header that means something, and all of the record.
        let record = usize::try_from(place.offset).expect("small") * 8;
        for at in (0..120 * 8).chain(record..record + 96 * 8) {
            flip(at);
            // Between body and end of the record there may be padding, which means nothing.
            let found = journal.verify(SegmentNo(sealed), RawBodies::Read).await;
            let padding = at >= record + (64 + 1 + 20 + 8) * 8;
            assert!(
                padding || matches!(&found, Err(Error::Damaged { segment, .. }) if segment.0 == sealed),
                "bit {at}: {found:?}"
            );
            flip(at);
        }
        assert_eq!(
            journal.verify(SegmentNo(99), RawBodies::Read).await.map_err(|e| e.to_string()).ok(),
            None
        );
        journal.verify_watermark().await.expect("sound");
        bench.world.tamper(&dir().join(crate::watermark::FILE), |bytes| bytes[30] ^= 1);
        assert!(matches!(journal.verify_watermark().await, Err(Error::Damaged { .. })));
        journal.roll().await.expect("rolls");
        journal.verify_watermark().await.expect("a roll writes it anew");
    });
}

#[test]
fn j3_idle_journal_claims_its_last_batch_within_10_ms() {
    let bench = Bench::new(7);
    bench.boot(async |journal, _, _| {
        append(&journal, "a").await;
        assert_eq!(journal.counters().claims, 0);
        quiet(&bench).await;
        assert_eq!(journal.counters().claims, 1, "J3: one claim, and none for the claim");
    });
}

#[test]
fn j3_flipped_bit_in_an_answered_vote_is_damage() {
    let bench = Bench::new(8);
    let place = bench.boot(async |journal, _, _| {
        let pending = journal.submit_claimed(vec![vote("term 7")]).await.expect("runs");
        pending.await.expect("claimed")[0]
    });
    bench.world.power_loss(Loss::Drop);
    let at = usize::try_from(place.expect("no crash").offset).expect("small");
    bench.world.tamper(&segment_path(1), |bytes| bytes[at + 64] ^= 1);
    assert_damaged(&bench.refusal(), 1);
}

#[test]
fn j4_page_cache_after_failed_fsync_is_not_trusted() {
    let bench = Bench::new(9);
    let done = bench.boot(async |journal, _, _| {
        append(&journal, "durable").await;
        quiet(&bench).await;
        bench.world.fail_sync_in(1);
        append(&journal, "only in the page cache").await;
    });
    assert!(done.is_none() && bench.world.aborted().expect("J6: aborts").starts_with("J6"));
    // The next process sees the record in the page cache and works on top of it.
    let seen = bench.boot(async |journal, _, seen| {
        append(&journal, "after").await;
        tags(&seen)
    });
    assert_eq!(seen.expect("no crash"), ["durable", "only in the page cache"]);
    bench.world.power_loss(Loss::Drop);
    // What it showed to its reader is there for ever.
    assert_eq!(tags(&bench.seen()), ["durable", "only in the page cache", "after"]);
}

#[test]
fn j4_power_loss_at_any_step_of_a_boot_loses_nothing() {
    for step in 1..60 {
        for loss in [Loss::Keep, Loss::Drop, Loss::Random] {
            let bench = Bench::new(step);
            bench.boot(async |journal, _, _| {
                journal
                    .submit(vec![entry("a"), vote("v"), entry("b")])
                    .await
                    .expect("runs")
                    .await
                    .expect("durable");
            });
            bench.world.crash_in(step);
            bench.world.run(async { bench.open().await.map(drop) });
            bench.world.power_loss(loss);
            let (opened, seen) = bench.boot(async |_, opened, seen| (opened, seen)).expect("no crash");
            assert_eq!(tags(&seen), ["a", "b"], "step {step}, {loss:?}");
            assert_eq!(opened.checkpoint[1].2.as_deref(), Some(&b"v"[..]));
        }
    }
}

#[test]
fn j4_no_boot_appends_to_a_segment_of_an_earlier_one() {
    let bench = Bench::new(10);
    for n in 1..5 {
        let (place, seen) =
            bench.boot(async |journal, _, seen| (append(&journal, "x").await, seen)).expect("no crash");
        assert_eq!(place.segment.0, n, "J4: each boot has a segment of its own");
        assert_eq!(tags(&seen).len() as u64, n - 1, "J4: a copied record appears once");
    }
}

#[test]
fn boots_in_a_row_take_no_room() {
    let bench = Bench::new(11);
    bench.boot(async |journal, _, _| {
        append(&journal, "a").await;
        journal.close().await.expect("closes");
    });
    for _ in 0..10 {
        let segments = bench.boot(async |journal, _, seen| {
            assert_eq!(tags(&seen), ["a"]);
            quiet(&bench).await;
            journal.segments().len()
        });
        assert_eq!(segments, Some(2));
    }
}

#[test]
fn k1_every_segment_has_its_own_salt() {
    let bench = Bench::new(22);
    bench.boot(async |journal, _, _| {
        for n in 0..800 {
            append(&journal, &n.to_string()).await;
        }
    });
    let salts = bench.world.files().into_iter().filter(|path| path.extension().is_some_and(|e| e == "seg"));
    let salts: std::collections::BTreeSet<_> =
        salts.map(|path| bench.world.contents(&path)[64..96].to_vec()).collect();
    assert!(salts.len() > 3);
}

#[test]
fn a_foreign_journal_is_refused() {
    let bench = Bench::new(23);
    bench.boot(async |journal, _, _| append(&journal, "a").await);
    bench.world.lose(&dir().join("watermark"));
    let other = uuid::Uuid::from_u128(STORE.as_u128() + 1);
    let opened = bench.world.run(async {
        let visit = &mut |_| Ok(());
        Journal::open(bench.world.host(), dir(), other, super::small(), bench.cipher.clone(), visit)
            .await
            .map(drop)
    });
    assert_damaged(&opened.expect("no crash").expect_err("foreign"), 1);
}

#[test]
fn a_record_larger_than_a_segment_gets_its_own() {
    let bench = Bench::new(24);
    let big = Bytes::from(vec![9; 100_000]);
    bench.boot(async |journal, _, _| {
        append(&journal, "before").await;
        let record = Record { kind: 3, tag: Bytes::new(), body: Body::Seal(big.clone()) };
        let place = journal.submit(vec![record]).await.expect("runs").await.expect("durable")[0];
        assert_eq!(journal.read(place).await.expect("reads").1, big);
        append(&journal, "after").await;
    });
    let seen = bench.seen();
    assert_eq!(seen[1].body.as_ref(), Some(&big));
    assert_eq!(tags(&seen), ["before", "after"]);
}

#[test]
fn what_breaks_the_interface_is_refused() {
    let bench = Bench::new(25);
    bench.boot(async |journal, _, _| {
        let record = |kind, tag: usize, body: usize| Record {
            kind,
            tag: vec![0; tag].into(),
            body: Body::Raw(vec![vec![0; body].into()]),
        };
        assert!(matches!(journal.submit(vec![record(0, 0, 0)]).await, Err(Error::Refused { .. })));
        assert!(matches!(journal.submit(vec![record(128, 0, 0)]).await, Err(Error::Refused { .. })));
        assert!(matches!(journal.submit(vec![record(1, 1025, 0)]).await, Err(Error::Refused { .. })));
        assert!(matches!(journal.submit(vec![record(1, 0, 64 << 20)]).await, Err(Error::TooLarge { .. })));
        journal.submit(vec![]).await.expect("runs").await.expect("nothing is durable at once");
        journal.submit_claimed(vec![]).await.expect("runs").await.expect("nothing is claimed, too");
        journal.stop().await.expect("stops");
        assert!(matches!(journal.submit(vec![record(1, 0, 0)]).await, Err(Error::Stopped { .. })));
    });
}

#[test]
fn a_read_under_way_never_sees_the_segment_recycled() {
    let mut bench = Bench::new(26);
    bench.options.release = ReleaseOrder::Any;
    bench.boot(async |journal, _, _| {
        let place = append(&journal, "a").await;
        journal.roll().await.expect("rolls");
        journal.release(Release::Segment(SegmentNo(1))).await.expect("releases");
        assert!(matches!(journal.read(place).await, Err(Error::Released { .. })));
        journal.release(Release::Segment(SegmentNo(1))).await.expect("again is no error");
    });
}

#[test]
fn listed_damage_costs_only_the_damaged_records() {
    let mut bench = Bench::new(27);
    bench.options.on_damage = OnDamage::List;
    bench.options.replay = Replay::TagsOnly;
    let places = bench.boot(async |journal, _, _| {
        let mut places = Vec::new();
        for n in 0..6 {
            places.push(append(&journal, &n.to_string()).await);
            if n == 2 {
                journal.roll().await.expect("rolls");
            }
        }
        places
    });
    for lost in [1, 4] {
        let place = places.as_ref().expect("no crash")[lost];
        let at = usize::try_from(place.offset).expect("small");
        bench.world.tamper(&segment_path(place.segment.0), |bytes| bytes[at + 20] ^= 8);
    }
    let (opened, seen) = bench.boot(async |_, opened, seen| (opened, seen)).expect("no crash");
    assert_eq!(tags(&seen), ["0", "2", "3", "5"]);
    assert_eq!(opened.damaged.len(), 2);
    assert_eq!(opened.damaged[0].offset, places.expect("no crash")[1].offset);
}
