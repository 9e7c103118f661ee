//! RocksDB passes the suite, and what only it has: damage, locks, an unclean end.

use std::fs;

use super::*;
use crate::conformance;

fn temp() -> tempfile::TempDir {
    tempfile::tempdir().expect("tests have a temporary directory")
}

fn small() -> RocksOptions {
    RocksOptions { block_cache_bytes: 1 << 20, write_buffer_bytes: 2 << 20 }
}

fn put(key: &str, value: impl Into<Bytes>) -> Batch {
    let mut batch = Batch::default();
    batch.put(key.as_bytes().to_vec(), value);
    batch
}

#[tokio::test]
async fn rocks_conforms() {
    let dir = temp();
    let path = dir.path().join("store");
    conformance::kv(|| async { Ok(RocksKv::open(&path, &small())? as Arc<dyn Kv>) }).await;
}

/// Names and lengths of the files of a store.
fn listing(path: &Path) -> Vec<(std::ffi::OsString, u64)> {
    let entries = fs::read_dir(path).expect("lists").flatten();
    let mut files: Vec<_> =
        entries.filter_map(|entry| Some((entry.file_name(), entry.metadata().ok()?.len()))).collect();
    files.sort();
    files
}

/// A copy of the files of a live store at one moment is what a crash leaves behind: one that a compaction
/// changed meanwhile is made anew.
fn crash_copy(from: &Path, to: &Path) {
    loop {
        let before = listing(from);
        fs::create_dir(to).expect("creates");
        for (name, _) in before.iter().filter(|(name, _)| name != "LOCK") {
            let _ = fs::copy(from.join(name), to.join(name));
        }
        if listing(from) == before {
            return;
        }
        fs::remove_dir_all(to).expect("nobody holds it");
    }
}

/// The suite, with an unclean end between every two openings: what was not flushed is lost.
#[tokio::test]
async fn rocks_conforms_over_unclean_ends() {
    let dir = temp();
    let mut lives = 0;
    // Kept beyond the suite's own handles: a store that is dropped flushes, and nothing would be lost.
    let mut last: Option<Arc<RocksKv>> = None;
    conformance::kv(|| {
        let path = |life: u32| dir.path().join(life.to_string());
        if let Some(store) = last.take() {
            crash_copy(&path(lives), &path(lives + 1));
            // What stands beside the store: how often one was given up here.
            let beside = |life: u32| dir.path().join(format!("{life}.condemned"));
            if beside(lives).exists() {
                fs::copy(beside(lives), beside(lives + 1)).expect("copies");
            }
            drop(store);
            fs::remove_dir_all(path(lives)).expect("nobody holds it");
            lives += 1;
        }
        let opened = RocksKv::open(&path(lives), &small());
        last = opened.as_ref().ok().cloned();
        async move { Ok(opened? as Arc<dyn Kv>) }
    })
    .await;
    assert!(lives > 20, "{lives} unclean ends");
}

/// Where the process that is killed keeps its store; unset in the one that kills.
const CHILD: &str = "BENTENG_KILLED_STORE";
/// Batches between two flushes of that process.
const FLUSHED: u64 = 37;

/// Writes and flushes without end, and says in a file beside the store how far it is.
async fn write_until_killed(path: &Path) {
    let store = RocksKv::open(path, &small()).expect("opens");
    let mut said = fs::File::create(path.with_extension("said")).expect("creates");
    for n in 1_u64.. {
        let mut batch = put("position", n.to_string());
        batch.put(format!("k{}", n % 50), vec![n as u8; 5000]);
        batch.delete(format!("k{}", (n + 25) % 50));
        store.write(batch).await.expect("writes");
        let mut flushed = 0;
        if n % FLUSHED == 0 {
            store.flush().await.expect("flushes");
            flushed = n;
        }
        io::Write::write_all(&mut said, format!("{n} {flushed}\n").as_bytes()).expect("writes");
    }
}

/// A real process, really killed: the log is off, so what was not flushed is lost, and never half of a batch.
#[tokio::test]
async fn a_killed_process_comes_back_at_a_batch_after_its_last_flush() {
    if let Some(path) = std::env::var_os(CHILD) {
        write_until_killed(Path::new(&path)).await;
        return;
    }
    for round in 0..6 {
        let dir = temp();
        let path = dir.path().join("store");
        let mut child = std::process::Command::new(std::env::current_exe().expect("this test has a file"))
            .args([
                "--exact",
                "real::rocks::tests::a_killed_process_comes_back_at_a_batch_after_its_last_flush",
            ])
            .env(CHILD, &path)
            .stdout(std::process::Stdio::null())
            .spawn()
            .expect("starts");
        let said = || fs::read_to_string(path.with_extension("said")).unwrap_or_default();
        let enough = FLUSHED * (round + 1) + 11 * round;
        while said().lines().count() < enough as usize {
            assert!(child.try_wait().expect("it is ours").is_none(), "the writer ended by itself");
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        child.kill().expect("SIGKILL");
        child.wait().expect("it is gone");
        let said = said();
        let lines: Vec<(u64, u64)> = said
            .lines()
            .filter_map(|line| line.split_once(' '))
            .map(|(n, flushed)| (n.parse().expect("a number"), flushed.parse().expect("a number")))
            .collect();
        let written = lines.last().expect("it wrote").0;
        let flushed = lines.iter().map(|(_, flushed)| *flushed).max().expect("it wrote");
        let store = RocksKv::open(&path, &small()).expect("it opens after a kill");
        let position = store.get(b"position").expect("reads").expect("it was flushed");
        let position: u64 = String::from_utf8_lossy(&position).parse().expect("a number");
        // The last batch may have been written without its line.
        assert!(
            (flushed..=written + 1).contains(&position),
            "{flushed} flushed, {written} written: {position}"
        );
        let of = |n: u64| store.get(format!("k{}", n % 50).as_bytes()).expect("reads");
        assert_eq!(
            of(position).as_deref(),
            Some(&vec![position as u8; 5000][..]),
            "half of batch {position}"
        );
        assert_eq!(of(position + 25), None, "half of batch {position}");
    }
}

#[tokio::test]
async fn an_unclean_end_returns_to_the_last_flush() {
    let dir = temp();
    let live = RocksKv::open(&dir.path().join("live"), &small()).expect("opens");
    live.write(put("a", "flushed")).await.expect("writes");
    live.flush().await.expect("flushes");
    live.write(put("b", "lost")).await.expect("writes");
    crash_copy(&dir.path().join("live"), &dir.path().join("crashed"));
    let crashed = RocksKv::open(&dir.path().join("crashed"), &small()).expect("opens");
    assert_eq!(crashed.get(b"a").expect("reads").as_deref(), Some(&b"flushed"[..]));
    assert_eq!(crashed.get(b"b").expect("reads"), None, "no log brings it back");
}

#[tokio::test]
async fn a_flush_covers_writes_submitted_before_it_and_memtables_turn_over() {
    let dir = temp();
    let live = RocksKv::open(&dir.path().join("live"), &small()).expect("opens");
    // 20 MiB through 2 MiB of memtables, and a flush joined with the writes in one round.
    let writes = (0..320).map(|i| live.write(put(&format!("{i:03}"), vec![i as u8; 64 << 10])));
    let ended = futures::future::join(futures::future::join_all(writes), live.flush()).await;
    ended.0.into_iter().for_each(|end| end.expect("writes"));
    ended.1.expect("flushes");
    live.flush().await.expect("flushes");
    crash_copy(&dir.path().join("live"), &dir.path().join("crashed"));
    let crashed = RocksKv::open(&dir.path().join("crashed"), &small()).expect("opens");
    let mut found = 0;
    let count = &mut |_: &[u8], _: &[u8]| {
        found += 1;
        Visit::Continue(())
    };
    crashed.scan(b"", b"", count).expect("scans");
    assert_eq!(found, 320);
}

#[tokio::test]
async fn i4_damage_is_an_error_never_a_value() {
    let dir = temp();
    let path = dir.path().join("store");
    let store = RocksKv::open(&path, &small()).expect("opens");
    let value = Bytes::from(vec![0xab; 50_000]);
    store.write(put("a", value)).await.expect("writes");
    store.flush().await.expect("flushes");
    drop(store);
    for entry in fs::read_dir(&path).expect("lists") {
        let file = entry.expect("lists").path();
        if file.extension().is_some_and(|e| e == "sst") {
            let mut bytes = fs::read(&file).expect("reads");
            bytes[25_000] ^= 1;
            fs::write(&file, bytes).expect("writes");
        }
    }
    // Either opening or reading must say so.
    let e = RocksKv::open(&path, &small()).and_then(|store| store.get(b"a")).expect_err("it is damaged");
    assert_eq!(e.source.kind(), io::ErrorKind::InvalidData, "{e}");
    assert!(e.to_string().contains(&*path.to_string_lossy()), "{e}");
}

/// Flips a bit in every table of a store; returns how many there are.
fn flip_tables(path: &Path) -> usize {
    let files = fs::read_dir(path).expect("lists").map(|entry| entry.expect("lists").path());
    let tables: Vec<PathBuf> = files.filter(|file| file.extension().is_some_and(|e| e == "sst")).collect();
    for file in &tables {
        let mut bytes = fs::read(file).expect("reads");
        bytes[25_000] ^= 1;
        fs::write(file, bytes).expect("writes");
    }
    tables.len()
}

fn names(path: &Path) -> std::collections::BTreeSet<std::ffi::OsString> {
    fs::read_dir(path).expect("lists").map(|entry| entry.expect("lists").file_name()).collect()
}

#[tokio::test]
async fn i4_verification_reads_the_files_again_and_finds_what_a_cache_hides() {
    let dir = temp();
    let path = dir.path().join("store");
    let store = RocksKv::open(&path, &small()).expect("opens");
    for n in 0..60 {
        store.write(put(&format!("{n:02}"), vec![n; 1000])).await.expect("writes");
    }
    store.flush().await.expect("flushes");
    let before = names(&path);
    let (mut after, mut bytes, mut steps) = (None, 0, 0);
    loop {
        let done = store.verify(after, 10_000).await.expect("it is sound");
        bytes += done.bytes;
        steps += 1;
        after = done.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!((bytes, steps), (60 * 1002, 7), "each key once, in steps of ten");
    assert_eq!(names(&path), before, "reading leaves nothing behind");
    assert_eq!(store.get(b"25").expect("reads").map(|v| v.len()), Some(1000), "in the cache from now on");
    assert!(flip_tables(&path) > 0);
    assert_eq!(store.get(b"25").expect("from the cache").map(|v| v.len()), Some(1000));
    let e = store.verify(None, u64::MAX).await.expect_err("it is damaged");
    assert_eq!(e.source.kind(), io::ErrorKind::InvalidData, "{e}");
}

#[tokio::test]
async fn a_store_that_was_given_up_is_empty_at_the_next_start_and_counted() {
    let dir = temp();
    let path = dir.path().join("store");
    let store = RocksKv::open(&path, &small()).expect("opens");
    store.write(put("a", "1")).await.expect("writes");
    store.flush().await.expect("flushes");
    assert_eq!(store.condemned(), 0);
    store.condemn().await.expect("marks");
    assert_eq!(store.get(b"a").expect("reads").as_deref(), Some(&b"1"[..]), "not before the next start");
    drop(store);
    let store = RocksKv::open(&path, &small()).expect("opens");
    assert_eq!((store.get(b"a").expect("reads"), store.condemned()), (None, 1));
    store.write(put("a", "2")).await.expect("writes");
    store.flush().await.expect("flushes");
    drop(store);
    let store = RocksKv::open(&path, &small()).expect("opens");
    assert_eq!(store.get(b"a").expect("reads").as_deref(), Some(&b"2"[..]), "only once");
    assert_eq!(store.condemned(), 1);
}

#[test]
fn a_store_is_open_once_and_snapshots_hold_it() {
    let dir = temp();
    let store = RocksKv::open(dir.path(), &small()).expect("opens");
    assert!(RocksKv::open(dir.path(), &small()).is_err(), "it is locked");
    let snapshot = store.snapshot().expect("gives a snapshot");
    drop(store);
    assert!(RocksKv::open(dir.path(), &small()).is_err(), "a snapshot reads from it");
    assert_eq!(snapshot.get(b"a").expect("reads"), None);
    drop(snapshot);
    RocksKv::open(dir.path(), &small()).expect("nobody holds it");
}

#[tokio::test]
async fn a_write_not_polled_before_the_end_is_refused_not_lost_in_silence() {
    let dir = temp();
    let store = RocksKv::open(dir.path(), &small()).expect("opens");
    let (write, flush) = (store.write(put("a", "1")), store.flush());
    drop(store);
    let e = write.await.expect_err("it is closed");
    assert_eq!((e.op, e.object.as_str()), ("write store", &*dir.path().to_string_lossy()));
    assert!(flush.await.is_err(), "it is closed");
}

#[test]
fn kinds_of_errors_that_callers_tell_apart() {
    use rocksdb::ErrorKind as Rocks;
    let rows = [
        (
            Rocks::IOError,
            "IO error: No space left on device: While appending to file",
            io::ErrorKind::StorageFull,
        ),
        (Rocks::IOError, "IO error: Input/output error", io::ErrorKind::Other),
        (Rocks::Corruption, "Corruption: block checksum mismatch", io::ErrorKind::InvalidData),
    ];
    for (kind, text, want) in rows {
        assert_eq!(kind_of(&kind, text), want, "{text}");
    }
}
