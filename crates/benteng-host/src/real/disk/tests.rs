//! The real disk passes the suite, and what only it has: modes, threads, errno.

use std::os::unix::fs::PermissionsExt;

use super::*;
use crate::conformance;

fn temp() -> tempfile::TempDir {
    tempfile::tempdir().expect("tests have a temporary directory")
}

#[tokio::test]
async fn real_disk_conforms() {
    let dir = temp();
    conformance::disk(Arc::new(RealDisk::new()), &dir.path().join("root")).await;
}

#[tokio::test]
async fn i5_files_and_directories_are_for_the_owner_alone() {
    let dir = temp();
    let disk = RealDisk::new();
    let deep = dir.path().join("a/b");
    disk.create_dir_all(&deep).await.expect("creates");
    let file = deep.join("f");
    disk.open(&file, Open::CreateNew).await.expect("creates");
    let mode = |path: &Path| fs::metadata(path).expect("is there").permissions().mode() & 0o777;
    assert_eq!((mode(&file), mode(&deep), mode(&dir.path().join("a"))), (0o600, 0o700, 0o700));
}

#[tokio::test]
async fn relative_paths_and_the_root_are_directories_too() {
    let disk = RealDisk::new();
    for dir in ["/", ".", ""] {
        disk.create_dir_all(Path::new(dir)).await.expect("is there");
    }
    disk.sync_dir(Path::new("")).await.expect("the working directory");
}

#[tokio::test]
async fn a_full_device_is_told_apart() {
    let full = Path::new("/dev/full");
    if !full.exists() {
        return;
    }
    let file = RealDisk::new().open(full, Open::Write).await.expect("opens");
    let e = file.write_at(0, vec![Bytes::from_static(b"x")]).await.expect_err("it is full");
    assert!(e.is_full() && e.op == "write" && e.object == "/dev/full", "{e}");
    assert_eq!(e.source.raw_os_error(), Some(Errno::ENOSPC as i32));
}

#[tokio::test]
async fn a_file_outlives_its_disk() {
    let dir = temp();
    let disk = RealDisk::new();
    let file = disk.open(&dir.path().join("f"), Open::CreateNew).await.expect("creates");
    let unpolled = file.write_at(0, vec![Bytes::from_static(b"late")]);
    drop(disk);
    drop(file);
    unpolled.await.expect("the threads live as long as anyone may use them");
    assert_eq!(fs::read(dir.path().join("f")).expect("is there"), b"late");
}
