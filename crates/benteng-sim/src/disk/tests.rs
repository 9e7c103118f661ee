//! The simulated disk passes the suite; what a crash, a power cut and each fault leave.

use std::collections::BTreeSet;
use std::future::Future;
use std::pin::pin;

use benteng_host::conformance;
use bytes::Bytes;
use futures::FutureExt;
use futures::executor::block_on;
use futures::future::{Either, select};

use super::*;
use crate::SimClock;
use crate::testing::on_a_host;

fn disk(seed: u64) -> Arc<SimDisk> {
    SimDisk::new(Arc::new(SimClock::new()), Gate::new(), seed)
}

fn at(name: &str) -> PathBuf {
    Path::new("/d").join(name)
}

fn bytes(b: &'static [u8]) -> Vec<Bytes> {
    vec![Bytes::from_static(b)]
}

/// A call that is done at once, and well.
fn good<T>(call: impl Future<Output = Result<T>>) -> T {
    match call.now_or_never() {
        Some(Ok(value)) => value,
        Some(Err(e)) => panic!("a sound disk does it: {e}"),
        None => panic!("there is no latency"),
    }
}

fn errno<T>(call: impl Future<Output = Result<T>>) -> Option<i32> {
    call.now_or_never()?.err()?.source.raw_os_error()
}

fn create(disk: &SimDisk, name: &str, contents: &'static [u8]) -> Arc<dyn File> {
    good(disk.create_dir_all(Path::new("/d")));
    let file = good(disk.open(&at(name), Open::CreateNew));
    good(file.write_at(0, bytes(contents)));
    file
}

/// A file of which contents and name are durable.
fn durable(disk: &SimDisk, name: &str, contents: &'static [u8]) -> Arc<dyn File> {
    let file = create(disk, name, contents);
    good(file.sync_data());
    good(disk.sync_dir(Path::new("/d")));
    file
}

fn read(disk: &SimDisk, name: &str) -> Option<Bytes> {
    let file = disk.open(&at(name), Open::Read).now_or_never()?.ok()?;
    Some(good(file.read_at(0, 1 << 20)))
}

/// What a power cut can leave after `work`, over many seeds.
fn outcomes<T: Ord>(work: impl Fn(&SimDisk), look: impl Fn(&SimDisk) -> T) -> BTreeSet<T> {
    let seen = (0..1500).map(|seed| {
        let disk = disk(seed);
        work(&disk);
        disk.power_loss(&mut stream(seed, "test"));
        look(&disk)
    });
    seen.collect()
}

#[test]
fn sim_disk_conforms() {
    block_on(conformance::disk(disk(1), Path::new("/site/node-1")));
    block_on(conformance::disk(disk(1).mount(), Path::new("relative")));
    on_a_host(|| async {
        let disk = disk(2);
        let ms = Duration::from_millis;
        disk.set_latency(ms(0)..=ms(2), ms(1)..=ms(10));
        conformance::disk(disk, Path::new("/slow")).await;
    });
}

#[test]
fn synced_bytes_last_and_a_kill_keeps_the_page_cache() {
    let disk = disk(1);
    let file = durable(&disk, "f", b"synced");
    good(file.write_at(0, bytes(b"cached")));
    disk.kill();
    assert_eq!(read(&disk, "f").as_deref(), Some(&b"cached"[..]));
    assert_eq!(errno(file.write_at(0, bytes(b"x"))), Some(116), "a handle of an earlier boot");
    let left = outcomes(|disk| drop(durable(disk, "f", b"synced")), |disk| read(disk, "f"));
    assert_eq!(left, [Some(Bytes::from_static(b"synced"))].into());
}

#[test]
fn each_unsynced_write_lasts_or_not_and_tears_at_sectors_alone() {
    let work = |disk: &SimDisk| {
        let file = durable(disk, "f", &[b'0'; 2048]);
        good(file.write_at(0, vec![Bytes::from(vec![b'1'; 1024])]));
        good(file.write_at(1024, vec![Bytes::from(vec![b'2'; 1024])]));
    };
    let left = outcomes(work, |disk| read(disk, "f").expect("its name is durable"));
    let sectors = |contents: &Bytes| -> String {
        let sector = |s: &[u8]| {
            assert!(s.iter().all(|b| *b == s[0]), "a sector is whole");
            char::from(s[0])
        };
        contents.chunks(512).map(sector).collect()
    };
    let left: BTreeSet<String> = left.iter().map(sectors).collect();
    assert_eq!(left.len(), 16, "each of four sectors is old or new: {left:?}");
}

#[test]
fn lengths_and_holes_after_a_power_cut() {
    let work = |disk: &SimDisk| {
        let file = durable(disk, "f", b"aaaa");
        good(file.set_len(2));
        good(file.write_at(4, bytes(b"bb")));
    };
    let left = outcomes(work, |disk| read(disk, "f").expect("its name is durable"));
    let want: BTreeSet<Bytes> = [&b"aaaa"[..], b"aa", b"aa\0\0bb"].map(Bytes::from_static).into();
    assert_eq!(left, want, "what was written after a cut does not last without it");
}

#[test]
fn names_last_apart_from_contents() {
    let list = |disk: &SimDisk| good(disk.list(Path::new("/d"))).join(" ");
    let left = outcomes(|disk| good(create(disk, "f", b"x").sync_data()), list);
    assert_eq!(left, ["", "f"].map(str::to_owned).into(), "without sync_dir a name may be lost");

    let two = |disk: &SimDisk| {
        durable(disk, "a", b"a");
        create(disk, "b", b"b");
        good(disk.remove(&at("a")));
    };
    let left = outcomes(two, list);
    assert_eq!(
        left,
        ["", "a", "a b", "b"].map(str::to_owned).into(),
        "changes of different names have no order"
    );
}

#[test]
fn a_rename_is_atomic_and_contents_that_were_synced_follow_it() {
    let work = |disk: &SimDisk| {
        durable(disk, "old", b"1");
        let new = create(disk, "new", b"2");
        good(new.sync_data());
        good(disk.rename(&at("new"), &at("old")));
    };
    let left = outcomes(work, |disk| (read(disk, "old"), read(disk, "new")));
    let b = |b: &'static [u8]| Some(Bytes::from_static(b));
    assert_eq!(left, [(b(b"1"), None), (b(b"1"), b(b"2")), (b(b"2"), None)].into());
    let synced = |disk: &SimDisk| {
        work(disk);
        good(disk.sync_dir(Path::new("/d")));
    };
    assert_eq!(outcomes(synced, |disk| read(disk, "old")), [b(b"2")].into());
}

#[test]
fn a_name_does_not_last_without_the_earlier_change_that_freed_it() {
    let work = |disk: &SimDisk| {
        durable(disk, "a", b"1");
        good(disk.rename(&at("a"), &at("b")));
        good(create(disk, "a", b"2").sync_data());
    };
    let b = |b: &'static [u8]| Some(Bytes::from_static(b));
    let want = [(b(b"1"), None), (None, b(b"1")), (b(b"2"), b(b"1"))].into();
    assert_eq!(outcomes(work, |disk| (read(disk, "a"), read(disk, "b"))), want, "contents 1 are never lost");
}

#[test]
fn a_synced_rename_between_directories_brings_what_it_rests_on() {
    let work = |disk: &SimDisk| {
        for dir in ["/d", "/e"] {
            good(disk.create_dir_all(Path::new(dir)));
        }
        good(create(disk, "f", b"x").sync_data());
        good(disk.rename(&at("f"), Path::new("/e/f")));
        good(disk.sync_dir(Path::new("/e")));
    };
    let names = |disk: &SimDisk| (good(disk.list(Path::new("/d"))), good(disk.list(Path::new("/e"))));
    assert_eq!(outcomes(work, names), [(vec![], vec!["f".to_owned()])].into(), "one file, one name");
}

#[test]
fn a_name_removed_and_created_again_is_one_file_or_the_other() {
    let work = |disk: &SimDisk| {
        durable(disk, "f", b"first");
        good(disk.remove(&at("f")));
        good(create(disk, "f", b"second").sync_data());
    };
    let b = |b: &'static [u8]| Some(Bytes::from_static(b));
    assert_eq!(outcomes(work, |disk| read(disk, "f")), [None, b(b"first"), b(b"second")].into());
}

#[test]
fn j6_a_failed_fsync_shows_in_the_page_cache_what_no_later_fsync_writes() {
    let work = |disk: &SimDisk| {
        let file = durable(disk, "f", b"old");
        good(file.write_at(0, bytes(b"new")));
        disk.fail(DiskCall::SyncData, 1);
        assert_eq!(errno(file.sync_data()), Some(5));
        good(file.sync_data());
        assert_eq!(read(disk, "f").as_deref(), Some(&b"new"[..]));
    };
    let left = outcomes(work, |disk| read(disk, "f").expect("its name is durable"));
    assert_eq!(left, [&b"new"[..], b"old"].map(Bytes::from_static).into());
    // Evicted pages tell, a kill does not; rewriting in place and syncing mends it (J4).
    let disk = disk(3);
    work(&disk);
    disk.kill();
    assert_eq!(read(&disk, "f").as_deref(), Some(&b"new"[..]));
    let file = good(disk.open(&at("f"), Open::Write));
    good(file.write_at(0, bytes(b"new")));
    good(file.sync_data());
    disk.evict();
    assert_eq!(read(&disk, "f").as_deref(), Some(&b"new"[..]));
}

#[test]
fn planned_failures_hit_the_nth_call_of_their_kind() {
    let disk = disk(1);
    let file = durable(&disk, "f", b"x");
    disk.fail(DiskCall::Write, 2);
    disk.fail(DiskCall::Read, 1);
    disk.fail(DiskCall::SyncDir, 1);
    disk.fail(DiskCall::Create, 1);
    good(file.write_at(0, bytes(b"a")));
    assert_eq!(errno(file.write_at(0, bytes(b"b"))), Some(5));
    good(file.write_at(1, bytes(b"c")));
    assert_eq!(errno(file.read_at(0, 1)), Some(5));
    assert_eq!(good(file.read_at(0, 9)), "ac");
    assert_eq!(errno(disk.sync_dir(Path::new("/d"))), Some(5));
    assert_eq!(errno(disk.open(&at("g"), Open::CreateNew)), Some(5));
    good(disk.open(&at("g"), Open::CreateNew));
}

#[test]
fn a_full_disk_says_enospc_keeps_what_is_there_and_recovers() {
    let disk = disk(1);
    let file = durable(&disk, "f", b"12345678");
    disk.set_capacity(Some(10));
    let space = good(disk.space(Path::new("/d")));
    assert_eq!((space.total, space.free), (10, 2));
    let e = file.write_at(6, bytes(b"abcdef")).now_or_never().expect("at once").expect_err("too long");
    assert!(e.is_full(), "{e}");
    assert_eq!(read(&disk, "f").as_deref(), Some(&b"123456abcd"[..]), "what fits may be written");
    good(file.write_at(0, bytes(b"0123456789")));
    for grow in [file.set_len(11), file.zero(0, 11), file.allocate(10, 1)] {
        assert!(grow.now_or_never().expect("at once").expect_err("full").is_full());
    }
    let other = create(&disk, "g", b"");
    assert!(other.write_at(0, bytes(b"x")).now_or_never().expect("at once").expect_err("full").is_full());
    good(disk.remove(&at("f")));
    assert!(
        other.write_at(0, bytes(b"x")).now_or_never().expect("at once").is_err(),
        "an open file keeps its room"
    );
    drop(file);
    good(other.write_at(0, bytes(b"x")));
    disk.set_capacity(None);
    good(other.write_at(1 << 41, bytes(b"x")));
}

#[test]
fn i4_flips_are_stored() {
    let disk = disk(1);
    durable(&disk, "f", &[0; 100]);
    create(&disk, "g", b"not chosen");
    assert!(disk.flip(&at("f"), 7, 0x81));
    assert!(!disk.flip(&at("f"), 100, 1) && !disk.flip(&at("absent"), 0, 1));
    let (path, offset) =
        disk.flip_somewhere(&mut stream(1, "test"), |path| path.ends_with("f")).expect("f has bytes");
    assert_eq!(path, at("f"));
    disk.power_loss(&mut stream(1, "test"));
    let contents = read(&disk, "f").expect("is there");
    let flipped: Vec<usize> = (0..100).filter(|i| contents[*i] != 0).collect();
    assert_eq!(flipped, BTreeSet::from([7, offset as usize]).into_iter().collect::<Vec<_>>());
    assert!(disk.flip_somewhere(&mut stream(1, "test"), |_| false).is_none());
}

/// Writes three records, each synced, each counted once it is acknowledged.
async fn log(disk: Arc<dyn Disk>, acked: &mut u64) -> Result<()> {
    disk.create_dir_all(Path::new("/d")).await?;
    let file = disk.open(&at("log"), Open::CreateNew).await?;
    disk.sync_dir(Path::new("/d")).await?;
    for i in 0..3 {
        file.write_at(i * 2000, vec![Bytes::from(vec![b'r'; 2000])]).await?;
        file.sync_data().await?;
        *acked += 1;
    }
    Ok(())
}

#[test]
fn i1_a_crash_at_any_operation_keeps_what_was_acknowledged() {
    let mut partial = BTreeSet::new();
    for seed in 0..30 {
        for op in 1..=9 {
            let disk = disk(seed);
            disk.crash_at_op(op);
            let mut acked = 0;
            let finished = block_on(async {
                let stopped = disk.shared.gate.clone();
                let run = pin!(log(disk.mount(), &mut acked));
                match select(pin!(stopped.wait_stopped()), run).await {
                    Either::Left((why, _)) => Some(why),
                    Either::Right((end, _)) => end.err().map(|e| e.to_string()),
                }
            });
            let want = format!("power or process ended at disk operation {op}");
            assert_eq!(finished, Some(want), "there are 9 operations");
            disk.power_loss(&mut stream(seed, "test"));
            let left = read(&disk, "log").unwrap_or_default();
            assert!(left.len() as u64 >= acked * 2000, "I1: acknowledged bytes are there");
            assert!(left[..acked as usize * 2000].iter().all(|b| *b == b'r'), "I1: and whole");
            partial.insert(left.len());
            assert!(disk.shared.gate.stopped().is_none(), "open for the next boot");
        }
    }
    assert!(partial.len() > 7, "crashes leave parts of records: {partial:?}");
}

#[test]
fn a_stopped_host_gets_no_more_answers() {
    let disk = disk(1);
    let file = create(&disk, "f", b"");
    let before = disk.ops();
    disk.crash_at_op(1);
    assert!(file.sync_data().now_or_never().is_none());
    assert!(file.len().now_or_never().is_none() && disk.list(Path::new("/d")).now_or_never().is_none());
    assert_eq!(disk.ops(), before + 1);
    disk.kill();
    assert_eq!(errno(file.len()), Some(116));
    // A file opened by the very call that crashes is closed again.
    disk.crash_at_op(1);
    assert!(disk.open(&at("g"), Open::CreateNew).now_or_never().is_none());
    disk.kill();
    good(disk.list(Path::new("/d")));
}

#[test]
fn latencies_and_stalls_take_simulated_time() {
    on_a_host(|| async {
        let clock = SimClock::new();
        let disk = SimDisk::new(Arc::new(clock.clone()), Gate::new(), 1);
        let file = durable(&disk, "f", b"");
        let second = Duration::from_secs(1);
        disk.set_latency(second..=second, 10 * second..=10 * second);
        let started = clock.now();
        file.write_at(0, bytes(b"before")).await.expect("writes");
        let sync = tokio::spawn(file.sync_data());
        file.write_at(6, bytes(b" while")).await.expect("writes");
        sync.await.expect("no panic").expect("syncs");
        let took = clock.now().since(started);
        assert!(took >= 11 * second && took < 12 * second, "{took:?}");
        disk.set_latency(Duration::ZERO..=Duration::ZERO, Duration::ZERO..=Duration::ZERO);
        disk.stall(5 * second);
        let started = clock.now();
        file.read_at(0, 1).await.expect("reads");
        assert!(clock.now().since(started) >= 5 * second);
        good(file.read_at(0, 1));
    });
}

#[test]
fn a_sync_covers_what_was_written_before_it_and_nothing_else() {
    on_a_host(|| async {
        let second = Duration::from_secs(1);
        let mut left = BTreeSet::new();
        for seed in 0..50 {
            let disk = SimDisk::new(Arc::new(SimClock::new()), Gate::new(), seed);
            let file = durable(&disk, "f", b"");
            disk.set_latency(Duration::ZERO..=Duration::ZERO, second..=second);
            good(file.write_at(0, bytes(b"before")));
            let sync = tokio::spawn(file.sync_data());
            tokio::task::yield_now().await;
            good(file.write_at(6, bytes(b" while")));
            sync.await.expect("no panic").expect("syncs");
            disk.power_loss(&mut stream(seed, "test"));
            left.insert(read(&disk, "f").expect("its name is durable"));
        }
        assert_eq!(left, [&b"before"[..], b"before while"].map(Bytes::from_static).into());
    });
}

#[test]
fn dropped_handles_and_lost_names_free_their_files() {
    let disk = disk(1);
    for _ in 0..100 {
        let file = durable(&disk, "f", b"x");
        good(disk.remove(&at("f")));
        good(disk.sync_dir(Path::new("/d")));
        drop(file);
    }
    assert_eq!(disk.shared.lock().image.count(), 0, "I7: nothing piles up");
}
