//! The order of the house: what no test holds, drifts. Each rule stands in `docs/architecture.md`.
//! Lists of exceptions may only shrink: an entry that is no longer needed fails too.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Floors of the crates: an import points down, never up or sideways.
const FLOORS: &[(&str, u32)] = &[
    ("benteng-host", 0),
    ("benteng-meta", 1),
    ("benteng-journal", 1),
    ("benteng-keys", 1),
    ("benteng-chunks", 2),
    ("benteng-rpc", 2),
    ("benteng-consensus", 3),
    ("benteng-objects", 4),
    ("benteng-identity", 4),
    ("benteng-lake", 5),
    ("benteng-s3", 8),
    ("benteng-sql", 8),
    ("benteng-http", 8),
    ("benteng", 9),
    // Sees floors 0 to 4 and is used by tests and tools alone.
    ("benteng-sim", 5),
    ("benteng-sim-tool", 9),
    ("benteng-tests", 9),
    // Sees every crate that parses, and is used by tests and tools alone.
    ("benteng-fuzz", 9),
];

/// Imports within a floor that are meant.
const SIDEWAYS: &[(&str, &str)] = &[
    // Keys are named by the ids of the data model: one home per concept.
    ("benteng-keys", "benteng-meta"),
];

/// Lines of a file at most.
const LINES_MAX: usize = 500;

/// Files that are longer, with the length that they may have at most. Split them, then shrink this list.
const LONG: &[(&str, usize)] = &[];

/// Names that say nothing about what lives there.
const EMPTY_NAMES: &[&str] = &["common", "util", "utils", "helpers", "misc", "manager", "stuff"];

/// What may lie at the top.
const TOP: &[&str] = &[
    "Cargo.lock",
    "Cargo.toml",
    "LICENSE",
    "README.md",
    "benches",
    "cluster",
    "crates",
    "docs",
    "ops",
    "tests",
    "tools",
];

fn root() -> PathBuf {
    // Of the checkout that runs, not of the one that compiled this: they may share a target folder.
    let tests = std::env::var_os("CARGO_MANIFEST_DIR").expect("tests are run by cargo");
    Path::new(&tests).parent().expect("the tests lie in a folder of the repository").to_owned()
}

/// Every file below `dir` that may be part of the repository, relative to the root, in order.
fn files(dir: &Path) -> Vec<PathBuf> {
    let mut out = Vec::new();
    let mut todo = vec![dir.to_owned()];
    while let Some(dir) = todo.pop() {
        for entry in fs::read_dir(&dir).expect("a readable directory") {
            let entry = entry.expect("a readable entry");
            let (path, name) = (entry.path(), entry.file_name());
            let skipped = [".git", "target", "benteng-data", "__pycache__", ".pytest_cache", "node_modules"];
            if skipped.iter().any(|skip| name == *skip) {
                continue;
            }
            if entry.file_type().expect("a known type").is_dir() {
                todo.push(path);
            } else {
                out.push(path.strip_prefix(root()).expect("below the root").to_owned());
            }
        }
    }
    out.sort();
    out
}

fn with_end<'a>(all: &'a [PathBuf], end: &'a str) -> impl Iterator<Item = &'a PathBuf> {
    all.iter().filter(move |path| path.extension().is_some_and(|found| found == end))
}

fn read(path: &Path) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// Fails with every breach at once.
fn none(breaches: &[String]) {
    assert!(breaches.is_empty(), "\n{}\n", breaches.join("\n"));
}

#[test]
fn imports_point_to_lower_floors() {
    let floors: BTreeMap<&str, u32> = FLOORS.iter().copied().collect();
    let mut breaches = Vec::new();
    let mut sideways = BTreeSet::new();
    let mut seen = BTreeSet::new();
    for path in files(&root()).iter().filter(|path| path.ends_with("Cargo.toml")) {
        let manifest: toml::Table = read(path).parse().expect("a manifest is TOML");
        let Some(name) = manifest.get("package").and_then(|p| p.get("name")).and_then(|n| n.as_str()) else {
            continue;
        };
        let Some(floor) = floors.get(name) else {
            breaches.push(format!("{name} has no floor; add it to FLOORS and to docs/architecture.md"));
            continue;
        };
        seen.insert(name.to_owned());
        for table in ["dependencies", "build-dependencies"] {
            let Some(dependencies) = manifest.get(table).and_then(|table| table.as_table()) else { continue };
            for import in dependencies.keys().filter(|import| import.starts_with("benteng")) {
                let Some(below) = floors.get(import.as_str()) else {
                    breaches.push(format!("{name} imports {import}, which has no floor"));
                    continue;
                };
                if below == floor && SIDEWAYS.contains(&(name, import)) {
                    sideways.insert((name.to_owned(), import.clone()));
                } else if below >= floor {
                    breaches.push(format!("{name} (floor {floor}) imports {import} (floor {below})"));
                }
            }
        }
    }
    for (name, import) in SIDEWAYS {
        if !sideways.contains(&((*name).to_owned(), (*import).to_owned())) {
            breaches.push(format!("{name} no longer imports {import}: take it out of SIDEWAYS"));
        }
    }
    for (name, _) in FLOORS.iter().filter(|(name, _)| !seen.contains(*name)) {
        breaches.push(format!("{name} is gone: take it out of FLOORS"));
    }
    none(&breaches);
}

#[test]
fn files_stay_short() {
    let all = files(&root());
    let mut breaches = Vec::new();
    let lengths: BTreeMap<String, usize> =
        with_end(&all, "rs").map(|path| (path.display().to_string(), read(path).lines().count())).collect();
    let allowed: BTreeMap<&str, usize> = LONG.iter().copied().collect();
    for (path, lines) in &lengths {
        match allowed.get(path.as_str()) {
            None if *lines > LINES_MAX => {
                breaches.push(format!("{path} has {lines} lines, {LINES_MAX} are the limit; split it"));
            }
            Some(most) if lines > most => {
                breaches.push(format!("{path} grew to {lines} lines from {most}; split it"));
            }
            Some(most) if lines < most => {
                let what = if *lines <= LINES_MAX {
                    "take it out of LONG".into()
                } else {
                    format!("write {lines} in LONG")
                };
                breaches.push(format!("{path} shrank to {lines} lines: {what}"));
            }
            _ => {}
        }
    }
    let gone = LONG.iter().filter(|(path, _)| !lengths.contains_key(*path));
    breaches.extend(gone.map(|(path, _)| format!("{path} is gone: take it out of LONG")));
    none(&breaches);
}

#[test]
fn files_say_what_they_are() {
    let all = files(&root());
    let silent = with_end(&all, "rs").filter(|path| {
        let text = read(path);
        let first = text.lines().find(|line| !line.trim().is_empty() && !line.starts_with("#!["));
        !first.is_some_and(|line| line.starts_with("//! ") && line.len() > 12)
    });
    let breaches: Vec<String> =
        silent.map(|path| format!("{} does not open with a `//!` doc", path.display())).collect();
    none(&breaches);
}

#[test]
fn names_say_what_lives_there() {
    let all = files(&root());
    let mut breaches = Vec::new();
    for path in with_end(&all, "rs").chain(with_end(&all, "py")) {
        for part in path.components() {
            let part = part.as_os_str().to_string_lossy();
            let stem = part.strip_suffix(".rs").or(part.strip_suffix(".py")).unwrap_or(&part);
            let bare = stem.strip_prefix("benteng-").unwrap_or(stem);
            if EMPTY_NAMES.contains(&bare) {
                breaches.push(format!("{}: {part} says nothing; name the concept", path.display()));
            }
        }
    }
    none(&breaches);
}

#[test]
fn nothing_else_lies_at_the_top() {
    let top = fs::read_dir(root()).expect("a readable root").flatten();
    let names = top.map(|entry| entry.file_name().to_string_lossy().into_owned());
    let stray = names.filter(|name| !name.starts_with('.') && !TOP.contains(&name.as_str()));
    let ignored = ["target", "benteng-data"];
    let breaches: Vec<String> = stray
        .filter(|name| !ignored.contains(&name.as_str()))
        .map(|name| format!("{name} lies at the top"))
        .collect();
    none(&breaches);
}

/// Targets of `[text](target)` in a text of Markdown, outside of code.
fn links(text: &str) -> Vec<String> {
    let mut out = Vec::new();
    let mut fenced = false;
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        }
        if fenced {
            continue;
        }
        // Every second piece between backticks is code.
        let prose: String = line.split('`').step_by(2).collect::<Vec<_>>().join(" ");
        for piece in prose.split("](").skip(1) {
            out.extend(piece.split(')').next().map(str::to_owned));
        }
    }
    out
}

/// The anchor that a heading gets.
fn anchor(heading: &str) -> String {
    let kept = heading.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.collect::<String>().trim().to_lowercase().replace(' ', "-")
}

#[test]
fn links_in_docs_resolve() {
    let all = files(&root());
    let mut breaches = Vec::new();
    for path in with_end(&all, "md") {
        for link in links(&read(path)) {
            if link.contains("://") || link.starts_with("mailto:") {
                continue;
            }
            let (file, fragment) = link.split_once('#').unwrap_or((&link, ""));
            let folder = path.parent().unwrap_or(Path::new(""));
            let target = if file.is_empty() { path.clone() } else { folder.join(file) };
            if !root().join(&target).exists() {
                breaches.push(format!("{}: {link} leads nowhere", path.display()));
            } else if !fragment.is_empty() && target.extension().is_some_and(|end| end == "md") {
                let headings = read(&target);
                let mut anchors = headings
                    .lines()
                    .filter(|l| l.starts_with('#'))
                    .map(|l| anchor(l.trim_start_matches('#')));
                if !anchors.any(|found| found == fragment) {
                    breaches.push(format!("{}: {link} names no heading", path.display()));
                }
            }
        }
    }
    none(&breaches);
}

#[test]
fn nothing_is_left_for_later() {
    let all = files(&root());
    // Put together, so that this file does not find itself.
    let marks = [
        ["TO", "DO"].concat(),
        ["FIX", "ME"].concat(),
        ["#[ig", "nore"].concat(),
        ["unimple", "mented!("].concat(),
    ];
    let mut breaches = Vec::new();
    for path in with_end(&all, "rs").chain(with_end(&all, "py")) {
        for (n, line) in read(path).lines().enumerate() {
            if let Some(mark) = marks.iter().find(|mark| line.contains(mark.as_str())) {
                breaches.push(format!(
                    "{}:{}: {mark}: do it now, or name the limit in the docs",
                    path.display(),
                    n + 1
                ));
            }
        }
    }
    none(&breaches);
}

/// Names of probes in a file: the texts in each `probe(…)`.
fn probes_of(text: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for call in text.split("probe(").skip(1) {
        let inside = call.split(')').next().unwrap_or_default();
        names.extend(inside.split('"').skip(1).step_by(2).map(str::to_owned));
    }
    names
}

#[test]
fn the_simulator_lists_every_probe_and_no_other() {
    let lists = read(&root().join("crates/benteng-sim/src/probes.rs"));
    let lists = lists.split("const ").filter(|part| part.contains("PROBES: &[&str]"));
    let mut listed = BTreeMap::new();
    for name in
        lists.flat_map(|list| list.split("];").next().unwrap_or_default().split('"').skip(1).step_by(2))
    {
        *listed.entry(name.to_owned()).or_insert(0) += 1;
    }
    let all = files(&root().join("crates"));
    let sources = with_end(&all, "rs").filter(|path| path.components().any(|part| part.as_os_str() == "src"));
    let said: BTreeSet<String> = sources.flat_map(|path| probes_of(&read(path))).collect();
    let unlisted: Vec<&String> = said.iter().filter(|name| !listed.contains_key(*name)).collect();
    let unsaid: Vec<&String> = listed.keys().filter(|name| !said.contains(*name)).collect();
    let twice: Vec<&String> = listed.iter().filter(|(_, n)| **n > 1).map(|(name, _)| name).collect();
    assert!(listed.len() > 40, "the lists of crates/benteng-sim/src/probes.rs are not where they were");
    assert!(
        unlisted.is_empty() && unsaid.is_empty() && twice.is_empty(),
        "crates/benteng-sim/src/probes.rs: not listed {unlisted:?}, said by nobody {unsaid:?}, listed twice {twice:?}"
    );
}

#[test]
fn scripts_can_be_run_and_say_what_they_do() {
    let all = files(&root());
    let scripts = all.iter().filter(|path| {
        let folder = path.parent().unwrap_or(Path::new(""));
        path.extension().is_none() && (folder == Path::new("tools") || folder == Path::new(".ci"))
    });
    let mut breaches = Vec::new();
    let mut count = 0;
    for path in scripts {
        count += 1;
        let mode = fs::metadata(root().join(path)).expect("it was just listed").permissions().mode();
        if mode & 0o111 == 0 {
            breaches.push(format!("{} cannot be run: chmod +x", path.display()));
        }
        let text = read(path);
        let mut lines = text.lines();
        let shebang = lines.next().is_some_and(|line| line.starts_with("#!"));
        let said = lines.next().is_some_and(|line| line.starts_with("# ") || line.starts_with("\"\"\""));
        if !shebang || !said {
            breaches.push(format!("{} does not open with `#!` and a line on what it does", path.display()));
        }
    }
    assert!(count >= 3, "tools/up, tools/test and .ci/run at least: found {count}");
    none(&breaches);
}

#[test]
fn clocks_and_files_of_the_lower_floors_are_forbidden_by_name() {
    let mut breaches = Vec::new();
    for (name, _) in FLOORS.iter().filter(|(_, floor)| *floor <= 4) {
        let path = root().join("crates").join(name).join(".clippy.toml");
        if fs::read_to_string(&path).map_or(true, |text| !text.contains("std::time::Instant::now")) {
            breaches.push(format!("crates/{name}/.clippy.toml does not lead to .clippy-floors.toml"));
        }
    }
    none(&breaches);
}
