//! Where the root key comes from: a key file, or a sealed file and a passphrase.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use benteng_host::Host;
use benteng_keys::{Cost, RootKey, SealedRoot};
use zeroize::Zeroizing;

use crate::config::Config;
use crate::files::{Readers, create_private_dir, read_secret, write_atomic};

const PASSPHRASE_VARIABLE: &str = "BENTENG_PASSPHRASE";

/// Where the key of this configuration lies.
enum Source {
    KeyFile(PathBuf),
    Sealed(PathBuf),
}

fn source(config: &Config) -> Source {
    let keys = &config.keys;
    if !keys.sealed_root_file.as_os_str().is_empty() {
        Source::Sealed(keys.sealed_root_file.clone())
    } else if keys.root_key_file.as_os_str().is_empty() {
        Source::KeyFile(config.node.data_dir.join("root.key"))
    } else {
        Source::KeyFile(keys.root_key_file.clone())
    }
}

/// The root key of this node.
///
/// Errors: no such file, one that others may read, a wrong passphrase, damage; each says what to do.
pub(crate) fn open(config: &Config) -> Result<RootKey> {
    match source(config) {
        Source::KeyFile(path) => read_key_file(&path),
        Source::Sealed(path) => {
            let text =
                std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
            let sealed =
                SealedRoot::from_text(&text).with_context(|| format!("{} is unusable", path.display()))?;
            let passphrase = passphrase(config)?;
            sealed.open(&passphrase).with_context(|| format!("{} does not open", path.display()))
        }
    }
}

/// The root key of a new site: the one whose file is there, else a new one, kept as configured.
pub(crate) fn open_or_create(config: &Config, host: &Host) -> Result<RootKey> {
    let (Source::KeyFile(path) | Source::Sealed(path)) = source(config);
    if path.exists() {
        return open(config);
    }
    let root = RootKey::generate(host.random.as_ref());
    match source(config) {
        Source::KeyFile(path) => write_key_file(&path, &root)?,
        Source::Sealed(path) => {
            let sealed = SealedRoot::seal(&root, &passphrase(config)?, host.random.as_ref(), Cost::default())
                .context("cannot seal the root key")?;
            write(&path, sealed.to_text().as_bytes())?;
        }
    }
    Ok(root)
}

/// Reads a key file.
pub(crate) fn read_key_file(path: &Path) -> Result<RootKey> {
    let text = read_secret(path)
        .context("no root key; copy the site's key file here (`benteng init` makes that of a new site)")?;
    RootKey::from_file_text(&text).with_context(|| format!("{} is unusable", path.display()))
}

/// Writes a key file.
pub(crate) fn write_key_file(path: &Path, root: &RootKey) -> Result<()> {
    write(path, root.to_file_text().as_bytes())
}

fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    if let Some(dir) = path.parent().filter(|dir| !dir.as_os_str().is_empty()) {
        create_private_dir(dir)?;
    }
    write_atomic(path, bytes, Readers::Owner)
}

fn passphrase(config: &Config) -> Result<Zeroizing<String>> {
    let file = &config.keys.passphrase_file;
    let text = if file.as_os_str().is_empty() {
        match std::env::var(PASSPHRASE_VARIABLE) {
            Ok(text) => Zeroizing::new(text),
            Err(_) => bail!("the root key is sealed: set keys.passphrase_file, or {PASSPHRASE_VARIABLE}"),
        }
    } else {
        read_secret(file)?
    };
    // Editors end files with a line feed; it is no part of the passphrase.
    let trimmed = Zeroizing::new(text.trim_end_matches(['\r', '\n']).to_owned());
    if trimmed.is_empty() {
        bail!("the passphrase is empty");
    }
    Ok(trimmed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(dir: &Path) -> Config {
        let mut config = crate::config::parse("", &[]).expect("defaults are a configuration");
        config.node.data_dir = dir.join("data");
        config
    }

    #[tokio::test]
    async fn key_files_are_made_once_and_read_again() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let (config, host) = (config(dir.path()), benteng_host::real::host());
        assert!(open(&config).is_err(), "no key yet");
        let made = open_or_create(&config, &host).expect("made").check_value();
        assert_eq!(open_or_create(&config, &host).expect("kept").check_value(), made);
        assert_eq!(open(&config).expect("read").check_value(), made);
    }

    #[tokio::test]
    async fn wrong_passphrases_are_refused_with_words() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let (mut config, host) = (config(dir.path()), benteng_host::real::host());
        config.keys.sealed_root_file = dir.path().join("root.sealed");
        config.keys.passphrase_file = dir.path().join("passphrase");
        write_atomic(&config.keys.passphrase_file, b"right\n", Readers::Owner).expect("passphrase");
        let made = open_or_create(&config, &host).expect("sealed").check_value();
        assert_eq!(open(&config).expect("opened").check_value(), made);
        write_atomic(&config.keys.passphrase_file, b"wrong\n", Readers::Owner).expect("passphrase");
        let Err(refused) = open(&config) else { panic!("a wrong passphrase opened the key") };
        assert!(format!("{refused:#}").contains("passphrase does not open"), "{refused:#}");
    }
}
