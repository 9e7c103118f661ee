//! Files and environment into a [`Config`]; everything that is wrong is said at once.

use std::path::Path;

use anyhow::{Context, Result, bail};
use toml::{Table, Value};

use super::Config;
use super::schema::{KEYS, Key, SECTIONS};

const PREFIX: &str = "BENTENG_";

/// Reads the configuration file (none: defaults alone) and the environment of this process.
pub(crate) fn load(file: Option<&Path>) -> Result<Config> {
    let text = match file {
        Some(path) => std::fs::read_to_string(path).with_context(|| {
            format!("cannot read {}; `benteng config defaults` prints a file to start from", path.display())
        })?,
        None => String::new(),
    };
    let variables = std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value)));
    let variables: Vec<(String, String)> = variables
        .filter(|(name, _)| name.starts_with(PREFIX))
        .map(|(name, value)| (name, value.to_string_lossy().into_owned()))
        .collect();
    parse(&text, &variables).with_context(|| match file {
        Some(path) => format!("configuration {} is wrong", path.display()),
        None => "the configuration in the environment is wrong".to_owned(),
    })
}

/// Puts file and environment over the defaults.
///
/// Errors: one message with a line per wrong key; unknown ones name the nearest known one.
pub(crate) fn parse(text: &str, variables: &[(String, String)]) -> Result<Config> {
    let table: Table = text.parse().context("it is not TOML")?;
    let mut wrong = Vec::new();
    let mut out = defaults();
    for (section, value) in table {
        let Some(keys) = value.as_table() else {
            wrong.push(format!("`{section}` stands outside of a section{}", nearest_section(&section)));
            continue;
        };
        if !SECTIONS.iter().any(|(known, _)| *known == section) {
            wrong.push(format!("unknown section [{section}]{}", nearest_section(&section)));
            continue;
        }
        for (name, value) in keys {
            match find(&section, name) {
                Some(key) => put(&mut out, key, value.clone(), &key.path(), &mut wrong),
                None => wrong.push(format!("unknown key `{section}.{name}`{}", nearest(&section, name))),
            }
        }
    }
    for (variable, value) in variables {
        // Others (BENTENG_ADMIN_URL, …) are the command line's.
        let Some((section, name)) = variable.strip_prefix(PREFIX).and_then(|rest| rest.split_once("__"))
        else {
            continue;
        };
        let (section, name) = (section.to_lowercase(), name.to_lowercase());
        match find(&section, &name) {
            Some(key) => put(&mut out, key, key.read(value), variable, &mut wrong),
            None => wrong.push(format!("unknown variable {variable}{}", nearest_variable(variable))),
        }
    }
    if !wrong.is_empty() {
        bail!("{}", wrong.join("\n"));
    }
    let config: Config = out.try_into().context("the configuration does not fit together")?;
    check(&config)?;
    Ok(config)
}

fn defaults() -> Table {
    let mut out = Table::new();
    for key in KEYS {
        if let Value::Table(section) = out.entry(key.section).or_insert_with(|| Value::Table(Table::new())) {
            section.insert(key.name.to_owned(), key.default_value());
        }
    }
    out
}

fn find(section: &str, name: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.section == section && key.name == name)
}

fn put(out: &mut Table, key: &Key, value: Value, shown: &str, wrong: &mut Vec<String>) {
    if let Err(expected) = key.check(&value) {
        wrong.push(format!("`{shown}` is {value}, it must be {expected}"));
        return;
    }
    if let Some(Value::Table(section)) = out.get_mut(key.section) {
        section.insert(key.name.to_owned(), value);
    }
}

/// What holds between keys.
fn check(config: &Config) -> Result<()> {
    let set = |path: &Path| !path.as_os_str().is_empty();
    if set(&config.keys.root_key_file) && set(&config.keys.sealed_root_file) {
        bail!("`keys.root_key_file` and `keys.sealed_root_file` are both set; keep one");
    }
    if set(&config.tls.cert_file) != set(&config.tls.key_file) {
        bail!("`tls.cert_file` and `tls.key_file` go together; set both or none");
    }
    if config.node.name.is_empty() || !set(&config.node.data_dir) {
        bail!("`node.name` and `node.data_dir` may not be empty");
    }
    let doors = &config.listen;
    let all = [("s3", &doors.s3), ("http", &doors.http), ("sql", &doors.sql), ("rpc", &doors.rpc)];
    for (i, (name, addr)) in all.iter().enumerate() {
        // Several doors may ask for any free port, never for the same one.
        let twin = all[..i].iter().find(|(_, other)| other == addr && !addr.ends_with(":0"));
        if let Some((other, _)) = twin {
            bail!("`listen.{name}` and `listen.{other}` are both {addr}; give each door its own port");
        }
        let host = addr.rsplit_once(':').map_or("", |(host, _)| host);
        if matches!(host, "0.0.0.0" | "[::]") && config.advertise.host.is_empty() {
            bail!("`listen.{name}` is {addr}, under which no one reaches it; set `advertise.host`");
        }
    }
    Ok(())
}

fn hint(nearest: Option<String>) -> String {
    nearest.map_or(String::new(), |known| format!("; did you mean {known}?"))
}

fn nearest_section(section: &str) -> String {
    hint(
        closest(section, SECTIONS.iter().map(|(name, _)| (*name).to_owned())).map(|name| format!("[{name}]")),
    )
}

/// The nearest key: by the whole path, or by the name alone if it stands in the wrong section.
fn nearest(section: &str, name: &str) -> String {
    let moved = KEYS.iter().find(|key| key.name == name).map(Key::path);
    let near = moved.or_else(|| closest(&format!("{section}.{name}"), KEYS.iter().map(Key::path)));
    hint(near.map(|path| format!("`{path}`")))
}

fn nearest_variable(variable: &str) -> String {
    hint(closest(variable, KEYS.iter().map(Key::variable)))
}

/// The candidate at the least edit distance; the nearest is always named, however far: a guess costs nothing.
fn closest(text: &str, candidates: impl Iterator<Item = String>) -> Option<String> {
    candidates.min_by_key(|candidate| distance(text, candidate))
}

/// Edit distance (Levenshtein) in characters.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut corner = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let replaced = corner + usize::from(x != *y);
            corner = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(corner + 1);
        }
    }
    row[b.len()]
}
