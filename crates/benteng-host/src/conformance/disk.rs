//! The suite of the file system: everything but what only a power cut shows.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use super::Numbers;
use crate::{Disk, File, Open, Result, WriteSyncError};

/// Checks a file system below `root`, which it creates and which must not hold anything.
pub async fn disk(disk: Arc<dyn Disk>, root: &Path) {
    let at = |name: &str| root.join(name);
    directories(&*disk, root).await;
    modes_and_errors(&*disk, &at("modes")).await;
    positional_io(&*disk, &at("io")).await;
    lengths(&*disk, &at("lengths")).await;
    names(&*disk, &at("names")).await;
    overlapping_requests(&*disk, &at("overlap")).await;
    for seed in 0..4 {
        random_io_matches_a_vector(&*disk, &at(&format!("random{seed}")), seed).await;
    }
    let space = good(disk.space(root).await);
    assert!(space.free <= space.total && space.total > 0, "{space:?}");
}

fn good<T>(result: Result<T>) -> T {
    match result {
        Ok(value) => value,
        Err(e) => panic!("a sound disk does it: {e}"),
    }
}

fn fails<T>(result: Result<T>, kind: ErrorKind, object: &Path) {
    let Err(e) = result else { panic!("expected {kind:?} on {}", object.display()) };
    assert_eq!(e.source.kind(), kind, "{e}");
    assert!(e.object.contains(&*object.to_string_lossy()), "the error names {}: {e}", object.display());
    assert_eq!(e.is_not_found(), kind == ErrorKind::NotFound, "{e}");
}

async fn create(disk: &dyn Disk, path: &Path, contents: &[u8]) -> Arc<dyn File> {
    let file = good(disk.open(path, Open::CreateNew).await);
    good(file.write_at(0, vec![Bytes::copy_from_slice(contents)]).await);
    file
}

async fn contents(file: &dyn File) -> Bytes {
    good(file.read_at(0, 1 << 20).await)
}

async fn directories(disk: &dyn Disk, root: &Path) {
    fails(disk.list(&root.join("absent")).await, ErrorKind::NotFound, &root.join("absent"));
    let deep = root.join("a/b/c");
    good(disk.create_dir_all(&deep).await);
    good(disk.create_dir_all(&deep).await);
    good(disk.create_dir_all(root).await);
    assert_eq!(good(disk.list(&root.join("a")).await), ["b"]);
    assert!(good(disk.list(&deep).await).is_empty());
    create(disk, &deep.join("file"), b"").await;
    assert!(disk.create_dir_all(&deep.join("file")).await.is_err(), "a file stands in the way");
    assert!(disk.create_dir_all(&deep.join("file/d")).await.is_err(), "a file stands in the way");
    fails(disk.open(&root.join("x/y"), Open::CreateNew).await, ErrorKind::NotFound, &root.join("x/y"));
    good(disk.sync_dir(&deep).await);
    fails(disk.sync_dir(&root.join("absent")).await, ErrorKind::NotFound, &root.join("absent"));
}

async fn modes_and_errors(disk: &dyn Disk, dir: &Path) {
    good(disk.create_dir_all(dir).await);
    let path = dir.join("f");
    for how in [Open::Read, Open::Write] {
        fails(disk.open(&path, how).await, ErrorKind::NotFound, &path);
        assert!(disk.open(dir, how).await.is_err(), "a directory is no file");
    }
    fails(disk.remove(&path).await, ErrorKind::NotFound, &path);
    fails(disk.rename(&path, &dir.join("g")).await, ErrorKind::NotFound, &path);
    create(disk, &path, b"one").await;
    fails(disk.open(&path, Open::CreateNew).await, ErrorKind::AlreadyExists, &path);
    assert!(disk.remove(dir).await.is_err(), "remove takes files alone");

    let reader = good(disk.open(&path, Open::Read).await);
    assert_eq!(contents(&*reader).await, "one");
    assert!(reader.write_at(0, vec![Bytes::from_static(b"x")]).await.is_err(), "opened for reading");
    assert!(reader.set_len(0).await.is_err(), "opened for reading");
    assert!(reader.zero(0, 1).await.is_err(), "opened for reading");
    assert!(reader.allocate(0, 10).await.is_err(), "opened for reading");
    let writer = good(disk.open(&path, Open::Write).await);
    good(writer.write_at(3, vec![Bytes::from_static(b"+")]).await);
    assert_eq!(contents(&*reader).await, "one+", "handles of one file see one file");
    let refused = reader.write_sync(0, vec![Bytes::from_static(b"x")]).await;
    assert!(matches!(refused, Err(WriteSyncError::Write(_))), "opened for reading: {refused:?}");
    let both = writer.write_sync(4, vec![Bytes::from_static(b"and "), Bytes::from_static(b"two")]).await;
    assert!(both.is_ok(), "a sound disk does it: {both:?}");
    assert_eq!(contents(&*reader).await, "one+and two");
}

async fn positional_io(disk: &dyn Disk, dir: &Path) {
    good(disk.create_dir_all(dir).await);
    let file = create(disk, &dir.join("f"), b"").await;
    assert_eq!(good(file.len().await), 0);
    let part = |b: &'static [u8]| Bytes::from_static(b);
    good(file.write_at(2, vec![part(b"ab"), part(b""), part(b"cde")]).await);
    good(file.write_at(9, vec![]).await);
    assert_eq!(contents(&*file).await, "\0\0abcde", "a hole reads as zeros; no part, no write");
    good(file.write_at(3, vec![part(b"X")]).await);
    let rows: [(u64, usize, &[u8]); 6] =
        [(0, 0, b""), (2, 2, b"aX"), (2, 100, b"aXcde"), (7, 1, b""), (8, 1, b""), (u64::MAX / 4, 1, b"")];
    for (offset, n, want) in rows {
        let got = good(file.read_at(offset, n).await);
        assert_eq!(got, want, "{n} bytes at {offset}");
    }
    // Large parts among small ones: headers beside payloads.
    let large = Bytes::from(Numbers(1).bytes(200_000));
    let parts = vec![part(b"head"), large.clone(), part(b"mid"), part(b"dle"), large.clone(), part(b"tail")];
    good(file.write_at(1_000_001, parts.clone()).await);
    let want = parts.concat();
    assert_eq!(good(file.read_at(1_000_001, want.len() + 1).await), want);
    assert_eq!(good(file.read_at(7, 999_994).await), vec![0; 999_994], "a hole reads as zeros");
    assert!(file.write_at(u64::MAX - 2, vec![part(b"abcdef")]).await.is_err(), "beyond what a file holds");
    assert!(file.zero(u64::MAX - 2, 6).await.is_err(), "beyond what a file holds");
    assert!(file.allocate(u64::MAX - 2, 6).await.is_err(), "beyond what a file holds");
    good(file.sync_data().await);
}

async fn lengths(disk: &dyn Disk, dir: &Path) {
    good(disk.create_dir_all(dir).await);
    let file = create(disk, &dir.join("f"), b"0123456789").await;
    good(file.set_len(4).await);
    assert_eq!(contents(&*file).await, "0123");
    good(file.set_len(8).await);
    assert_eq!(contents(&*file).await, "0123\0\0\0\0", "what was cut off does not come back");
    good(file.write_at(6, vec![Bytes::from_static(b"x")]).await);
    good(file.allocate(2, 10).await);
    assert_eq!(good(file.len().await), 12, "allocate extends");
    assert_eq!(contents(&*file).await, "0123\0\0x\0\0\0\0\0", "allocate keeps what is there");
    good(file.allocate(0, 3).await);
    good(file.allocate(100, 0).await);
    assert_eq!(good(file.len().await), 12, "allocate does not cut");
    good(file.zero(1, 2).await);
    good(file.zero(11, 5).await);
    assert_eq!(contents(&*file).await, "0\0\x003\0\0x\0\0\0\0\0\0\0\0\0", "zero overwrites and extends");
    good(file.zero(0, (3 << 20) + 5).await);
    assert_eq!(good(file.len().await), (3 << 20) + 5);
    good(file.set_len(0).await);
    assert_eq!(contents(&*file).await, "");
    good(file.sync_data().await);
}

async fn names(disk: &dyn Disk, dir: &Path) {
    good(disk.create_dir_all(dir).await);
    let path = |name: &str| dir.join(name);
    for name in ["b", "a", "B", "a.1", "é"] {
        create(disk, &path(name), name.as_bytes()).await;
    }
    assert_eq!(good(disk.list(dir).await), ["B", "a", "a.1", "b", "é"], "sorted by bytes");

    // Rename over a file that is open: both handles follow their files.
    let (a, b) =
        (good(disk.open(&path("a"), Open::Write).await), good(disk.open(&path("b"), Open::Read).await));
    good(disk.rename(&path("a"), &path("b")).await);
    assert_eq!(contents(&*b).await, "b", "the replaced file lives while it is open");
    good(a.write_at(1, vec![Bytes::from_static(b"!")]).await);
    good(a.sync_data().await);
    let again = good(disk.open(&path("b"), Open::Read).await);
    assert_eq!(contents(&*again).await, "a!", "a write through a handle follows the rename");
    fails(disk.open(&path("a"), Open::Read).await, ErrorKind::NotFound, &path("a"));

    // Remove and create under one name: two files.
    good(disk.remove(&path("b")).await);
    let new = create(disk, &path("b"), b"new").await;
    good(new.sync_data().await);
    good(a.write_at(0, vec![Bytes::from_static(b"Z")]).await);
    assert_eq!(contents(&*new).await, "new");
    assert_eq!(contents(&*a).await, "Z!", "a removed file lives while it is open");

    // Onto itself, and into another directory.
    good(disk.rename(&path("b"), &path("b")).await);
    good(disk.create_dir_all(&path("sub")).await);
    good(disk.rename(&path("b"), &path("sub/c")).await);
    assert_eq!(contents(&*good(disk.open(&path("sub/c"), Open::Read).await)).await, "new");
    assert!(disk.rename(&path("sub/c"), &path("absent/c")).await.is_err(), "no such directory");
    assert!(disk.rename(&path("sub/c"), &path("sub")).await.is_err(), "a directory stands in the way");
    good(disk.sync_dir(dir).await);
    assert_eq!(good(disk.list(dir).await), ["B", "a.1", "sub", "é"]);
}

async fn overlapping_requests(disk: &dyn Disk, dir: &Path) {
    good(disk.create_dir_all(dir).await);
    let mut files = Vec::new();
    for i in 0..20 {
        files.push(create(disk, &dir.join(i.to_string()), b"").await);
    }
    let piece = |i: usize, j: u64| Bytes::from(vec![(i as u64 * 31 + j) as u8; 100]);
    let writes = files.iter().enumerate().flat_map(|(i, file)| {
        (0..20).flat_map(move |j| [file.write_at(j * 100, vec![piece(i, j)]), file.sync_data()])
    });
    for done in futures::future::join_all(writes).await {
        good(done);
    }
    let reads = files.iter().enumerate().flat_map(|(i, file)| {
        (0..20).map(move |j| async move { (i, j, good(file.read_at(j * 100, 100).await)) })
    });
    for (i, j, got) in futures::future::join_all(reads).await {
        assert_eq!(got, piece(i, j), "piece {j} of file {i}");
    }
}

async fn random_io_matches_a_vector(disk: &dyn Disk, dir: &Path, seed: u64) {
    good(disk.create_dir_all(dir).await);
    let mut numbers = Numbers(seed);
    let mut path: PathBuf = dir.join("f");
    let mut file = create(disk, &path, b"").await;
    let mut model: Vec<u8> = Vec::new();
    let extend = |model: &mut Vec<u8>, n: u64| model.resize(model.len().max(n as usize), 0);
    for step in 0..400 {
        let (offset, n) = (numbers.below(6000), numbers.below(3000));
        let end = offset + n;
        match numbers.below(8) {
            0..=2 => {
                let parts: Vec<Bytes> =
                    (0..numbers.below(4)).map(|_| Bytes::from(numbers.bytes(n / 3))).collect();
                let bytes = parts.concat();
                good(file.write_at(offset, parts).await);
                if !bytes.is_empty() {
                    extend(&mut model, offset + bytes.len() as u64);
                    model[offset as usize..][..bytes.len()].copy_from_slice(&bytes);
                }
            }
            3 => {
                good(file.zero(offset, n).await);
                if n > 0 {
                    extend(&mut model, end);
                    model[offset as usize..end as usize].fill(0);
                }
            }
            4 => {
                good(file.allocate(offset, n).await);
                extend(&mut model, if n > 0 { end } else { 0 });
            }
            5 => {
                good(file.set_len(offset).await);
                model.resize(offset as usize, 0);
            }
            6 => {
                good(file.sync_data().await);
                let to = dir.join(format!("f{step}"));
                good(disk.rename(&path, &to).await);
                path = to;
                if numbers.below(2) == 0 {
                    file = good(disk.open(&path, Open::Write).await);
                }
            }
            _ => {
                let start = model.len().min(offset as usize);
                let want = &model[start..model.len().min(end as usize).max(start)];
                assert_eq!(good(file.read_at(offset, n as usize).await), want, "seed {seed}, step {step}");
            }
        }
        assert_eq!(good(file.len().await), model.len() as u64, "seed {seed}, step {step}");
    }
    assert_eq!(contents(&*file).await, model, "seed {seed}");
}
