//! Every block of a store from its files again, and the end of a store that is damaged.
//!
//! RocksDB verifies what it reads, and reads what is asked for often from its cache: what rots beneath stays
//! unseen. So the files are opened a second time, read-only and without a cache, and read from end to end. Blocks that
//! a range tombstone covers as a whole may be passed over: they are nobody's any more, and go with the next compaction.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use rocksdb::{BlockBasedOptions, DB, ErrorKind, Options, ReadOptions};

use crate::Verified;

/// In a store that was given up.
const MARK: &str = "CONDEMNED";
/// Tries until damage is believed, and the pause between them: a file that a compaction drops while it is being
/// opened looks like a damaged store for a moment.
const TRIES: u32 = 5;
const PAUSE: Duration = Duration::from_millis(200);

/// Reads keys and values behind `after` until `budget` bytes. Errors: damage is `InvalidData`.
pub(super) fn read_again(path: &Path, after: Option<&[u8]>, budget: u64) -> io::Result<Verified> {
    let mut tried = 1;
    loop {
        match once(path, after, budget) {
            Err(e) if tried < TRIES && matches!(e.kind(), ErrorKind::Corruption | ErrorKind::IOError) => {
                tried += 1;
                std::thread::sleep(PAUSE);
            }
            // A file that does not come back is lost.
            Err(e) if AsRef::<str>::as_ref(&e).contains("No such file") => {
                return Err(io::Error::new(io::ErrorKind::InvalidData, e));
            }
            ended => return ended.map_err(super::io_error),
        }
    }
}

fn once(path: &Path, after: Option<&[u8]>, budget: u64) -> Result<Verified, rocksdb::Error> {
    let mut table = BlockBasedOptions::default();
    table.disable_cache();
    let mut options = Options::default();
    options.set_block_based_table_factory(&table);
    options.set_paranoid_checks(true);
    // All files are opened at once: what is compacted meanwhile can still be read.
    options.set_max_open_files(-1);
    let db = DB::open_for_read_only(&options, path, false)?;
    let mut read = ReadOptions::default();
    read.set_verify_checksums(true);
    read.fill_cache(false);
    let mut iter = db.raw_iterator_opt(read);
    match after {
        // The first key behind it.
        Some(after) => iter.seek([after, &[0]].concat()),
        None => iter.seek_to_first(),
    }
    let mut done = Verified::default();
    while let Some((key, value)) = iter.item() {
        done.bytes += (key.len() + value.len()) as u64;
        if done.bytes >= budget {
            done.next = Some(Bytes::copy_from_slice(key));
            return Ok(done);
        }
        iter.next();
    }
    // An iterator ends at an error too.
    iter.status().map(|()| done)
}

/// Beside a store: how often one was given up here, in decimal.
fn count_path(path: &Path) -> PathBuf {
    beside(path, "condemned")
}

fn beside(path: &Path, what: &str) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".");
    name.push(what);
    path.with_file_name(name)
}

fn write_durably(path: &Path, text: &str) -> io::Result<()> {
    fs::write(path, text)?;
    File::open(path)?.sync_all()?;
    match path.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => File::open(dir)?.sync_all(),
        _ => Ok(()),
    }
}

/// Marks the store in `path`: whoever opens it next finds it empty.
pub(super) fn condemn(path: &Path) -> io::Result<()> {
    write_durably(&path.join(MARK), "this store is damaged and is removed when it is opened next\n")
}

/// Removes a store that was given up; returns how often that has happened here.
pub(super) fn bury(path: &Path) -> io::Result<u64> {
    let counted = match fs::read_to_string(count_path(path)) {
        Ok(text) => text.trim().parse().unwrap_or(0),
        Err(e) if e.kind() == io::ErrorKind::NotFound => 0,
        Err(e) => return Err(e),
    };
    let grave = beside(path, "gone");
    let times = if path.join(MARK).exists() {
        write_durably(&count_path(path), &format!("{}\n", counted + 1))?;
        // Under another name first: a removal that a crash cuts off must not leave half a store.
        fs::rename(path, &grave)?;
        counted + 1
    } else {
        counted
    };
    match fs::remove_dir_all(&grave) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(times),
    }
}
