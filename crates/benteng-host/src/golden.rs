//! Golden files: bytes that some version of this software wrote, kept for ever. They hold every later one
//! to two promises: it reads them, and what it calls the same version it still writes byte for byte.
//!
//! A file is `golden/<format>_v<version>.hex` in the crate of the format, with a line `name hex` per sample.
//! A line is never changed: a changed form is a new version, with a file of its own. New samples (a new
//! command, say) are appended by running the test with `BENTENG_GOLDEN=append`.
//!
//! For tests; a panic is their verdict.
#![allow(clippy::disallowed_methods, reason = "a test reads files of the repository, not of a node")]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// A sample: its name, and its bytes as they are written today.
pub type Sample = (String, Vec<u8>);

/// Reads the sample of this name and returns what is written for it today, or why it cannot be read.
pub type Reader<'a> = dyn Fn(&str, &[u8]) -> Result<Vec<u8>, String> + 'a;

/// Holds `samples` of the version that is written today, and the files of all earlier ones, to their promises.
///
/// The files lie in the folder of the crate whose test runs.
pub fn hold(format: &str, version: u8, samples: &[Sample], read: &Reader<'_>) {
    let dir = crate_folder().join("golden");
    let newest = dir.join(format!("{format}_v{version}.hex"));
    if std::env::var_os("BENTENG_GOLDEN").is_some_and(|how| how == "append") {
        append(&newest, samples);
    }
    let kept = versions(&dir, format);
    assert!(
        kept.keys().all(|found| *found <= version),
        "{format}: a golden file is newer than version {version}, which is written today"
    );
    let lines = kept.get(&version).map(|path| load(path)).unwrap_or_default();
    for (name, bytes) in samples {
        let Some(golden) = lines.get(name) else {
            panic!("{format} v{version} has no golden line for {name}; append it with BENTENG_GOLDEN=append");
        };
        assert!(
            golden == bytes,
            "{format} v{version} {name} is written in another way than it was:\n golden {}\n  today {}\n\
             a changed form needs a new version, and a reader for the old one",
            hex(golden),
            hex(bytes)
        );
    }
    assert_eq!(lines.len(), samples.len(), "{format} v{version}: golden lines without a sample of today");
    for (found, path) in &kept {
        for (name, golden) in load(path) {
            let read = read(&name, &golden).unwrap_or_else(|e| panic!("{format} v{found} {name}: {e}"));
            assert!(
                *found < version || read == golden,
                "{format} v{found} {name} does not read as it was written"
            );
        }
    }
}

/// The folder of the crate whose test runs, as the runner says. What was said when it was compiled may be another
/// checkout, whose target folder is shared.
pub fn crate_folder() -> PathBuf {
    std::env::var_os("CARGO_MANIFEST_DIR").expect("tests are run by cargo").into()
}

/// Files of a format by version.
fn versions(dir: &Path, format: &str) -> BTreeMap<u8, PathBuf> {
    let entries = std::fs::read_dir(dir).unwrap_or_else(|e| panic!("{}: {e}", dir.display()));
    let paths = entries.map(|entry| entry.expect("a readable entry").path());
    let version = |path: &Path| {
        path.file_name()?
            .to_str()?
            .strip_prefix(format)?
            .strip_prefix("_v")?
            .strip_suffix(".hex")?
            .parse()
            .ok()
    };
    paths.filter_map(|path| Some((version(&path)?, path))).collect()
}

fn load(path: &Path) -> BTreeMap<String, Vec<u8>> {
    let text = std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let line = |line: &str| {
        let (name, digits) = line.split_once(' ').unwrap_or((line, ""));
        let byte = |at: usize| u8::from_str_radix(&digits[at..at + 2], 16).expect("a golden line is hex");
        (name.to_owned(), (0..digits.len()).step_by(2).map(byte).collect())
    };
    text.lines().map(line).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut out, byte| {
        let _ = write!(out, "{byte:02x}");
        out
    })
}

/// Appends the samples that have no line yet; lines that are there stay as they are.
fn append(path: &Path, samples: &[Sample]) {
    let mut text = std::fs::read_to_string(path).unwrap_or_default();
    let known = if text.is_empty() { BTreeMap::new() } else { load(path) };
    for (name, bytes) in samples.iter().filter(|(name, _)| !known.contains_key(name)) {
        let _ = writeln!(text, "{name} {}", hex(bytes));
    }
    std::fs::create_dir_all(path.parent().expect("it lies in a folder")).expect("the folder can be made");
    std::fs::write(path, text).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
}
