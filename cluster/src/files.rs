//! Small files of a node: written whole or not at all, durable, and private where they hold secrets.

use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use benteng_host::random_array;
use benteng_host::real::SystemEntropy;

/// Who may read a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Readers {
    /// Its owner alone (0600).
    Owner,
}

impl Readers {
    fn mode(self) -> u32 {
        match self {
            Readers::Owner => 0o600,
        }
    }
}

/// Writes a file atomically and durably: readers see the old contents or the new, also after a power cut.
pub(crate) fn write_atomic(path: &Path, bytes: &[u8], readers: Readers) -> Result<()> {
    let cannot = || format!("cannot write {}", path.display());
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let fresh = fresh_name(path);
    let write = || -> std::io::Result<()> {
        let mut file =
            std::fs::OpenOptions::new().write(true).create_new(true).mode(readers.mode()).open(&fresh)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(&fresh, path)?;
        // The name is durable only with its directory.
        std::fs::File::open(dir)?.sync_all()
    };
    let outcome = write();
    if outcome.is_err() {
        // What is left of the attempt; that it may not be there is fine.
        let _ = std::fs::remove_file(&fresh);
    }
    outcome.with_context(cannot)
}

fn fresh_name(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(format!(".new-{}", random_name()));
    path.with_file_name(name)
}

/// A name that nothing else has.
pub(crate) fn random_name() -> String {
    hex::encode(random_array::<16>(&SystemEntropy::new()))
}

/// Creates a directory that its owner alone may enter, and its missing parents.
pub(crate) fn create_private_dir(path: &Path) -> Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    let cannot = || format!("cannot create directory {}", path.display());
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path).with_context(cannot)
}

/// Reads a file that holds a secret; one that others may read is refused.
pub(crate) fn read_secret(path: &Path) -> Result<zeroize::Zeroizing<String>> {
    let meta = std::fs::metadata(path).with_context(|| format!("cannot read {}", path.display()))?;
    if meta.permissions().mode() & 0o077 != 0 {
        bail!(
            "{0} holds a secret, and others than its owner may read it; run: chmod 600 {0}",
            path.display()
        );
    }
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(zeroize::Zeroizing::new(text))
}

/// A directory held by this process; released when dropped, or when the process dies.
pub(crate) struct Held {
    _file: std::fs::File,
}

/// Takes a directory for this process; `None` if another process holds it.
pub(crate) fn hold(lock: &Path) -> Result<Option<Held>> {
    let cannot = || format!("cannot lock {}", lock.display());
    let open = std::fs::OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(lock);
    let file = open.with_context(cannot)?;
    match file.try_lock() {
        Ok(()) => Ok(Some(Held { _file: file })),
        Err(std::fs::TryLockError::WouldBlock) => Ok(None),
        Err(std::fs::TryLockError::Error(e)) => Err(e).with_context(cannot),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_replaced_whole_and_private() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("secret");
        write_atomic(&path, b"one", Readers::Owner).expect("first write");
        write_atomic(&path, b"two", Readers::Owner).expect("second write");
        assert_eq!(read_secret(&path).expect("its owner reads it").as_str(), "two");
        assert_eq!(std::fs::read_dir(dir.path()).expect("listing").count(), 1, "no attempt is left behind");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).expect("chmod");
        let refused = read_secret(&path).expect_err("others may read it now");
        assert!(refused.to_string().contains("chmod 600"), "{refused}");
    }

    #[test]
    fn a_directory_is_held_by_one() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let lock = dir.path().join("lock");
        let held = hold(&lock).expect("lock").expect("free");
        assert!(hold(&lock).expect("lock").is_none());
        drop(held);
        assert!(hold(&lock).expect("lock").is_some());
    }
}
