//! What does not fit into a query's memory, sealed, on disk (I5).
//!
//! A file is a row of frames: length of the sealed part (4 bytes, little-endian), then
//! AES-256-GCM of up to 64 KiB. The key is random, lives in memory and dies with the
//! process; a nonce is the file's number and the frame's, and no number is used twice.
//! Nothing here survives the process, so nothing here is fsynced or versioned.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use benteng_host::{Random, random_array};
use bytes::{Bytes, BytesMut};
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::{SpillFile, SpillWriter, TempFileFactory};
use futures::Stream;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};

use crate::Error;

/// Plain bytes of a frame.
const FRAME: usize = 64 << 10;
const TAG: usize = 16;
/// Plain bytes handed on at once while reading.
const READ: usize = 1 << 20;
const SUFFIX: &str = ".spill";

/// The spill directory of a node.
pub(crate) struct Spill(Arc<Inner>);

struct Inner {
    dir: PathBuf,
    key: LessSafeKey,
    limit: u64,
    used: AtomicU64,
    next: AtomicU64,
}

impl Spill {
    /// Prepares `dir` and removes what an earlier process left there. `limit`: bytes on disk.
    pub(crate) fn open(dir: &Path, limit: u64, random: &dyn Random) -> Result<Spill, Error> {
        let fail = |source| Error::SpillDir { dir: dir.display().to_string(), source };
        let mut builder = std::fs::DirBuilder::new();
        builder.recursive(true);
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder.create(dir).map_err(fail)?;
        for entry in std::fs::read_dir(dir).map_err(fail)? {
            let path = entry.map_err(fail)?.path();
            // Only our own leftovers: a mistyped setting must not empty another directory.
            if path.extension().is_some_and(|e| *e == SUFFIX[1..]) {
                std::fs::remove_file(&path).map_err(fail)?;
            }
        }
        let key = UnboundKey::new(&AES_256_GCM, &random_array::<32>(random));
        let key = LessSafeKey::new(key.expect("AES-256-GCM takes exactly 32 bytes"));
        let next = AtomicU64::new(1);
        Ok(Spill(Arc::new(Inner { dir: dir.to_owned(), key, limit, used: AtomicU64::new(0), next })))
    }

    pub(crate) fn factory(&self) -> Arc<dyn TempFileFactory> {
        Arc::new(Spill(Arc::clone(&self.0)))
    }

    /// Bytes of spill files on disk now.
    pub(crate) fn used(&self) -> u64 {
        self.0.used.load(Ordering::Relaxed)
    }
}

impl TempFileFactory for Spill {
    fn create_temp_file(&self, _description: &str) -> Result<Arc<dyn SpillFile>> {
        let number = self.0.next.fetch_add(1, Ordering::Relaxed);
        let path = self.0.dir.join(format!("{number}{SUFFIX}"));
        let mut options = OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        options.open(&path).map_err(|source| Error::SpillIo { file: number, source })?;
        let (sealed, frames, bytes) = (AtomicU32::new(0), AtomicU32::new(0), AtomicU64::new(0));
        let shared = Shared { spill: Arc::clone(&self.0), number, path, sealed, frames, bytes };
        Ok(Arc::new(Spilled(Arc::new(shared))))
    }
}

impl Inner {
    fn nonce(file: u64, frame: u32) -> Nonce {
        let mut bytes = [0; NONCE_LEN];
        bytes[..8].copy_from_slice(&file.to_le_bytes());
        bytes[8..].copy_from_slice(&frame.to_le_bytes());
        Nonce::assume_unique_for_key(bytes)
    }

    fn take(&self, bytes: u64) -> Result<(), Error> {
        let fits = |used: u64| used.checked_add(bytes).filter(|sum| *sum <= self.limit);
        match self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits) {
            Ok(_) => Ok(()),
            Err(_) => Err(Error::SpillFull { limit: self.limit }),
        }
    }
}

/// What the handle, the writers and the readers of one file share. The last one removes it.
struct Shared {
    spill: Arc<Inner>,
    number: u64,
    path: PathBuf,
    /// Frames sealed so far: the number of the next, never used twice, not even after a failed write.
    sealed: AtomicU32,
    /// Frames that are whole in the file: a reader expects each of them, none more. A file may
    /// be read while it is written (repartitioning does).
    frames: AtomicU32,
    /// Bytes on disk.
    bytes: AtomicU64,
}

impl Shared {
    fn io(&self, source: io::Error) -> Error {
        Error::SpillIo { file: self.number, source }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        // A file that cannot be removed is removed at the next start; it holds ciphertext only.
        if let Err(e) = std::fs::remove_file(&self.path) {
            tracing::warn!(file = self.number, error = %e, "spill file not removed");
        }
        self.spill.used.fetch_sub(self.bytes.load(Ordering::Relaxed), Ordering::Relaxed);
    }
}

/// One spill file.
struct Spilled(Arc<Shared>);

impl SpillFile for Spilled {
    fn size(&self) -> Option<u64> {
        Some(self.0.bytes.load(Ordering::Relaxed))
    }

    fn read_stream(&self) -> Result<Pin<Box<dyn Stream<Item = Result<Bytes>> + Send>>> {
        let file = File::open(&self.0.path).map_err(|e| self.0.io(e))?;
        let reader =
            Reader { shared: Arc::clone(&self.0), file: io::BufReader::with_capacity(FRAME, file), frame: 0 };
        let next = |reader: Option<Reader>| async move {
            let mut reader = reader?;
            // The disk may be slow, and these threads are for computing.
            let read = tokio::task::spawn_blocking(move || reader.next().map(|bytes| (bytes, reader))).await;
            match read {
                Ok(Ok((bytes, _))) if bytes.is_empty() => None,
                Ok(Ok((bytes, reader))) => Some((Ok(bytes), Some(reader))),
                Ok(Err(e)) => Some((Err(DataFusionError::from(e)), None)),
                Err(e) => Some((Err(DataFusionError::External(Box::new(e))), None)),
            }
        };
        Ok(Box::pin(futures::stream::unfold(Some(reader), next)))
    }

    fn open_writer(&self) -> Result<Box<dyn SpillWriter>> {
        let mut file = OpenOptions::new().write(true).open(&self.0.path).map_err(|e| self.0.io(e))?;
        file.seek(SeekFrom::End(0)).map_err(|e| self.0.io(e))?;
        Ok(Box::new(Writer {
            shared: Arc::clone(&self.0),
            file,
            plain: BytesMut::with_capacity(FRAME + TAG),
        }))
    }
}

/// Appends frames to a file.
struct Writer {
    shared: Arc<Shared>,
    file: File,
    plain: BytesMut,
}

impl Writer {
    fn seal(&mut self) -> io::Result<()> {
        if self.plain.is_empty() {
            return Ok(());
        }
        let shared = &self.shared;
        let frame = shared.sealed.load(Ordering::Relaxed);
        // A nonce must never come twice: stop before the counter would wrap.
        let Some(after) = frame.checked_add(1) else {
            return Err(io::Error::other(Error::SpillFull { limit: shared.spill.limit }));
        };
        let disk = (4 + self.plain.len() + TAG) as u64;
        shared.spill.take(disk).map_err(io::Error::other)?;
        shared.bytes.fetch_add(disk, Ordering::Relaxed);
        shared.sealed.store(after, Ordering::Relaxed);
        let mut sealed = std::mem::replace(&mut self.plain, BytesMut::with_capacity(FRAME + TAG));
        shared
            .spill
            .key
            .seal_in_place_append_tag(Inner::nonce(shared.number, frame), Aad::empty(), &mut sealed)
            .map_err(|_| io::Error::other("a frame of 64 KiB could not be sealed"))?;
        let length = u32::try_from(sealed.len()).map_err(io::Error::other)?;
        self.file.write_all(&[&length.to_le_bytes()[..], &sealed].concat())?;
        // Only now may a reader expect it.
        shared.frames.store(after, Ordering::Release);
        Ok(())
    }
}

impl Write for Writer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = bytes.len().min(FRAME - self.plain.len());
        self.plain.extend_from_slice(&bytes[..n]);
        if self.plain.len() == FRAME {
            self.seal()?;
        }
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.seal()?;
        self.file.flush()
    }
}

impl SpillWriter for Writer {
    fn finish(&mut self) -> Result<()> {
        self.flush().map_err(|e| match e.downcast::<Error>() {
            Ok(ours) => ours.into(),
            Err(e) => self.shared.io(e).into(),
        })
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        // Whoever wants the bytes has called `finish` and seen its answer; what is left is from a failure.
        let _ = self.seal();
    }
}

/// Reads a file from its start.
struct Reader {
    shared: Arc<Shared>,
    file: io::BufReader<File>,
    frame: u32,
}

impl Reader {
    /// Up to 1 MiB of plain bytes; empty at the end.
    fn next(&mut self) -> Result<Bytes, Error> {
        let damaged = || Error::SpillDamaged { file: self.shared.number };
        let mut out = BytesMut::with_capacity(READ);
        while out.len() + FRAME <= READ && self.frame < self.shared.frames.load(Ordering::Acquire) {
            let mut length = [0; 4];
            self.file.read_exact(&mut length).map_err(|_| damaged())?;
            let length = u32::from_le_bytes(length) as usize;
            if !(TAG + 1..=FRAME + TAG).contains(&length) {
                return Err(damaged());
            }
            let mut sealed = vec![0; length];
            self.file.read_exact(&mut sealed).map_err(|_| damaged())?;
            let nonce = Inner::nonce(self.shared.number, self.frame);
            let plain = self.shared.spill.key.open_in_place(nonce, Aad::empty(), &mut sealed);
            out.extend_from_slice(plain.map_err(|_| damaged())?);
            self.frame += 1;
        }
        Ok(out.freeze())
    }
}

#[cfg(test)]
mod tests {
    use benteng_host::real::SystemEntropy;
    use futures::TryStreamExt;
    use proptest::prelude::*;

    use super::*;

    fn open(limit: u64) -> (tempfile::TempDir, Spill) {
        let dir = tempfile::tempdir().expect("temporary directory");
        let spill = Spill::open(dir.path(), limit, &SystemEntropy::new()).expect("opens");
        (dir, spill)
    }

    fn write(file: &dyn SpillFile, parts: &[Vec<u8>]) -> Result<()> {
        let mut writer = file.open_writer()?;
        for part in parts {
            writer.write_all(part).map_err(|e| DataFusionError::External(Box::new(e)))?;
        }
        writer.finish()
    }

    async fn read(file: &dyn SpillFile) -> Result<Vec<u8>> {
        let chunks: Vec<Bytes> = file.read_stream()?.try_collect().await?;
        Ok(chunks.concat())
    }

    #[tokio::test]
    async fn i5_nothing_of_what_is_spilled_is_plain_on_disk_and_all_goes_when_dropped() {
        let (dir, spill) = open(1 << 20);
        let file = spill.create_temp_file("test").expect("file");
        let secret = b"nomor induk kependudukan 7472".repeat(10_000);
        write(file.as_ref(), std::slice::from_ref(&secret)).expect("written");
        assert_eq!(read(file.as_ref()).await.expect("read"), secret);
        let disk = std::fs::read(dir.path().join("1.spill")).expect("on disk");
        assert!(!disk.windows(8).any(|w| w == &secret[..8]), "I5: plain bytes in a spill file");
        assert_eq!(spill.used(), disk.len() as u64);
        drop(file);
        assert_eq!(spill.used(), 0);
        assert_eq!(std::fs::read_dir(dir.path()).expect("listing").count(), 0);
    }

    #[tokio::test]
    async fn i4_a_changed_or_cut_spill_file_is_an_error() {
        let (dir, spill) = open(1 << 20);
        for damage in 0..3 {
            let file = spill.create_temp_file("test").expect("file");
            write(file.as_ref(), &[vec![7; 200_000]]).expect("written");
            let path = dir.path().join(format!("{}.spill", damage + 1));
            let mut disk = std::fs::read(&path).expect("on disk");
            match damage {
                0 => disk[70_000] ^= 1,
                1 => disk.truncate(100_000),
                _ => disk[0..4].copy_from_slice(&u32::MAX.to_le_bytes()),
            }
            std::fs::write(&path, disk).expect("damaged");
            let failed = read(file.as_ref()).await.expect_err("I4");
            assert!(matches!(crate::find_cause(&failed), Some(Error::SpillDamaged { .. })), "{failed}");
        }
    }

    #[test]
    fn i7_the_quota_holds_and_says_what_to_do() {
        let (_dir, spill) = open(100_000);
        let file = spill.create_temp_file("test").expect("file");
        let failed = write(file.as_ref(), &[vec![1; 200_000]]).expect_err("I7");
        assert!(failed.to_string().contains("spill_quota"), "{failed}");
        assert!(spill.used() <= 100_000);
        drop(file);
        assert_eq!(spill.used(), 0);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_reader_may_follow_a_writer() {
        let (_dir, spill) = open(1 << 30);
        let file = spill.create_temp_file("test").expect("file");
        let mut writer = file.open_writer().expect("opens");
        let mut reader = file.read_stream().expect("opens");
        let (told, mut flushed) = tokio::sync::mpsc::unbounded_channel();
        let writing = std::thread::spawn(move || {
            for n in 0..2000_u32 {
                writer.write_all(&vec![n as u8; 1 + (n as usize * 37) % 5000]).expect("written");
                writer.flush().expect("flushed");
                let _ = told.send(1 + (n as usize * 37) % 5000);
            }
        });
        let (mut expected, mut got) = (0, 0);
        while let Some(bytes) = flushed.recv().await {
            expected += bytes;
            // As repartitioning does: ask only for what is known to be there.
            while got < expected {
                got += reader.try_next().await.expect("no damage").expect("more is there").len();
            }
        }
        writing.join().expect("wrote");
        assert_eq!(got, expected);
    }

    #[test]
    fn a_start_removes_old_spill_files_and_nothing_else() {
        let dir = tempfile::tempdir().expect("temporary directory");
        std::fs::write(dir.path().join("9.spill"), b"old").expect("written");
        std::fs::write(dir.path().join("keep.txt"), b"not ours").expect("written");
        Spill::open(dir.path(), 1, &SystemEntropy::new()).expect("opens");
        assert!(!dir.path().join("9.spill").exists());
        assert!(dir.path().join("keep.txt").exists());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn what_is_written_in_any_pieces_is_read_back(
            parts in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..90_000), 0..5),
            again in proptest::collection::vec(any::<u8>(), 0..100),
        ) {
            let (_dir, spill) = open(1 << 24);
            let file = spill.create_temp_file("test").expect("file");
            write(file.as_ref(), &parts).expect("written");
            write(file.as_ref(), std::slice::from_ref(&again)).expect("appended");
            let runtime = tokio::runtime::Builder::new_current_thread().build().expect("runtime");
            let back = runtime.block_on(read(file.as_ref())).expect("read");
            prop_assert_eq!(back, [parts.concat(), again].concat());
        }
    }
}
