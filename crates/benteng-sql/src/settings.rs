//! `SET` and `SHOW`: settings of one session. What clients rely on is known by name and
//! checked; what would reach the engine or other sessions is refused.

use std::collections::BTreeMap;
use std::time::Duration;

use arrow::array::timezone::Tz;

use crate::error::SqlError;

pub(crate) const SERVER_VERSION: &str = "16.9";
const SERVER_VERSION_NUM: &str = "160009";

/// Settings that a client makes up (`app.user`): how many, and how long.
const CUSTOM_MAX: usize = 64;
const VALUE_MAX: usize = 4096;

/// How a value is checked.
#[derive(Clone, Copy)]
enum Kind {
    /// A fact: cannot be set.
    Fact,
    Text,
    Bool,
    /// A number between the two.
    Number(i64, i64),
    /// Milliseconds, with or without a unit.
    Time,
    /// One of these, in any case.
    OneOf(&'static [&'static str]),
    TimeZone,
    DateStyle,
}

/// Name, value at login, check, whether clients are told of changes.
const KNOWN: &[(&str, &str, Kind, bool)] = &[
    ("application_name", "", Kind::Text, true),
    ("backslash_quote", "safe_encoding", Kind::OneOf(&["safe_encoding"]), false),
    ("block_size", "8192", Kind::Fact, false),
    ("bytea_output", "hex", Kind::OneOf(&["hex"]), false),
    ("check_function_bodies", "on", Kind::Bool, false),
    ("client_encoding", "UTF8", Kind::OneOf(&["utf8", "utf-8", "unicode"]), true),
    ("client_min_messages", "notice", Kind::Text, false),
    ("datestyle", "ISO, MDY", Kind::DateStyle, true),
    ("default_tablespace", "", Kind::Text, false),
    ("default_transaction_deferrable", "off", Kind::Bool, false),
    ("default_transaction_isolation", "read committed", Kind::Text, false),
    ("default_transaction_read_only", "on", Kind::OneOf(&["on", "true", "yes", "1"]), true),
    ("escape_string_warning", "on", Kind::Bool, false),
    ("extra_float_digits", "1", Kind::Number(-15, 3), false),
    ("idle_in_transaction_session_timeout", "0", Kind::Time, false),
    ("idle_session_timeout", "0", Kind::Time, false),
    ("in_hot_standby", "off", Kind::Fact, true),
    ("integer_datetimes", "on", Kind::Fact, true),
    ("intervalstyle", "postgres", Kind::OneOf(&["postgres"]), true),
    ("is_superuser", "off", Kind::Fact, true),
    ("jit", "off", Kind::Bool, false),
    ("lc_collate", "C", Kind::Fact, false),
    ("lc_ctype", "C.UTF-8", Kind::Fact, false),
    ("lc_messages", "C", Kind::Text, false),
    ("lc_monetary", "C", Kind::Text, false),
    ("lc_numeric", "C", Kind::Text, false),
    ("lc_time", "C", Kind::Text, false),
    ("lock_timeout", "0", Kind::Time, false),
    ("max_identifier_length", "63", Kind::Fact, false),
    ("max_index_keys", "32", Kind::Fact, false),
    ("password_encryption", "scram-sha-256", Kind::OneOf(&["scram-sha-256"]), false),
    ("role", "none", Kind::OneOf(&["none"]), false),
    ("row_security", "on", Kind::Bool, false),
    ("search_path", "\"$user\", public", Kind::Text, false),
    ("server_encoding", "UTF8", Kind::Fact, true),
    ("server_version", SERVER_VERSION, Kind::Fact, true),
    ("server_version_num", SERVER_VERSION_NUM, Kind::Fact, false),
    ("session_authorization", "", Kind::Fact, true),
    ("standard_conforming_strings", "on", Kind::OneOf(&["on", "true", "yes", "1"]), true),
    ("statement_timeout", "0", Kind::Time, false),
    ("synchronize_seqscans", "on", Kind::Bool, false),
    ("synchronous_commit", "on", Kind::Text, false),
    ("timezone", "UTC", Kind::TimeZone, true),
    ("transaction_deferrable", "off", Kind::Bool, false),
    ("transaction_isolation", "read committed", Kind::Text, false),
    ("transaction_read_only", "on", Kind::OneOf(&["on", "true", "yes", "1"]), false),
    ("xmloption", "content", Kind::Text, false),
];

/// As PostgreSQL spells it where that is not lower case.
fn spelled(name: &'static str) -> &'static str {
    match name {
        "datestyle" => "DateStyle",
        "intervalstyle" => "IntervalStyle",
        "timezone" => "TimeZone",
        name => name,
    }
}

/// Settings of one session, as they are now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Settings {
    /// What they are after RESET: set at login.
    initial: BTreeMap<String, String>,
    now: BTreeMap<String, String>,
}

impl Settings {
    /// Settings of a new session of `user`.
    pub(crate) fn new(user: &str, superuser: bool) -> Settings {
        let mut initial: BTreeMap<String, String> =
            KNOWN.iter().map(|(name, value, ..)| ((*name).to_owned(), (*value).to_owned())).collect();
        initial.insert("session_authorization".into(), user.to_owned());
        initial.insert("is_superuser".into(), if superuser { "on" } else { "off" }.into());
        Settings { now: initial.clone(), initial }
    }

    /// Sets at login: what RESET goes back to.
    pub(crate) fn set_initial(&mut self, name: &str, value: &str) -> Result<(), SqlError> {
        self.set(name, Some(value))?;
        self.initial = self.now.clone();
        Ok(())
    }

    /// Sets; `None` is DEFAULT. Errors: 42704 unknown name, 22023 bad value, 55P02 a fact,
    /// 42501 a setting of the engine.
    pub(crate) fn set(&mut self, name: &str, value: Option<&str>) -> Result<(), SqlError> {
        let name = canonical(name);
        if name.starts_with("datafusion.") {
            return Err(SqlError::new(
                "42501",
                format!("setting {name:?} belongs to the node, not to a session"),
            )
            .hint("ask the operator of the site"));
        }
        let Some((known, _, kind, _)) = KNOWN.iter().find(|(known, ..)| *known == name) else {
            return self.set_custom(&name, value);
        };
        if matches!(kind, Kind::Fact) {
            return Err(SqlError::new("55P02", format!("parameter \"{known}\" cannot be changed")));
        }
        let value = match value {
            None => self.initial.get(*known).cloned().unwrap_or_default(),
            Some(value) => checked(known, *kind, value)?,
        };
        self.now.insert(name, value);
        Ok(())
    }

    fn set_custom(&mut self, name: &str, value: Option<&str>) -> Result<(), SqlError> {
        // As PostgreSQL: a name with a dot is the client's own.
        if !name.contains('.') || name.len() > 128 {
            return Err(unknown(name));
        }
        match value {
            None => {
                self.now.remove(name);
            }
            Some(value) if value.len() > VALUE_MAX => return Err(bad(name, "a longer text than it may be")),
            Some(value) => {
                let custom = self.now.keys().filter(|k| k.contains('.')).count();
                if custom >= CUSTOM_MAX && !self.now.contains_key(name) {
                    return Err(SqlError::new(
                        "53400",
                        format!("a session has at most {CUSTOM_MAX} settings of its own"),
                    ));
                }
                self.now.insert(name.to_owned(), value.to_owned());
            }
        }
        Ok(())
    }

    /// Every setting as it was at login.
    pub(crate) fn reset_all(&mut self) {
        self.now = self.initial.clone();
    }

    /// A value. Errors: 42704.
    pub(crate) fn get(&self, name: &str) -> Result<&str, SqlError> {
        let name = canonical(name);
        self.now.get(&name).map(String::as_str).ok_or_else(|| unknown(&name))
    }

    /// Name as it is shown, and value, of all.
    pub(crate) fn all(&self) -> impl Iterator<Item = (&str, &str)> {
        self.now.iter().map(|(name, value)| {
            let known = KNOWN.iter().find(|(known, ..)| known == name);
            (known.map_or(name.as_str(), |(known, ..)| spelled(known)), value.as_str())
        })
    }

    /// Name as it is shown, and value, of those that clients are told of.
    pub(crate) fn reported(&self) -> impl Iterator<Item = (&'static str, &str)> {
        KNOWN
            .iter()
            .filter(|(.., report)| *report)
            .map(|(name, ..)| (spelled(name), self.now.get(*name).map_or("", String::as_str)))
    }

    /// The bound of a statement's time; `None`: none.
    pub(crate) fn statement_timeout(&self) -> Option<Duration> {
        let ms = self.now.get("statement_timeout")?.parse().ok()?;
        (ms > 0).then(|| Duration::from_millis(ms))
    }

    pub(crate) fn time_zone(&self) -> &str {
        self.now.get("timezone").map_or("UTC", String::as_str)
    }

    /// The schema where bare names are looked up: the first of search_path that is one.
    pub(crate) fn schema(&self) -> String {
        let path = self.now.get("search_path").map_or("", String::as_str);
        let mut names = path.split(',').map(|name| name.trim().trim_matches(['"', '\'']).to_owned());
        names.find(|name| !name.is_empty() && name != "$user").unwrap_or_else(|| "public".into())
    }
}

fn canonical(name: &str) -> String {
    name.to_ascii_lowercase()
}

fn unknown(name: &str) -> SqlError {
    SqlError::new("42704", format!("unrecognized configuration parameter \"{}\"", name.escape_debug()))
}

fn bad(name: &str, why: &str) -> SqlError {
    SqlError::new("22023", format!("invalid value for parameter \"{name}\": {why}"))
}

fn checked(name: &str, kind: Kind, value: &str) -> Result<String, SqlError> {
    if value.len() > VALUE_MAX || value.contains('\0') {
        return Err(bad(name, "a longer text than it may be"));
    }
    let lower = value.trim().to_ascii_lowercase();
    match kind {
        Kind::Fact | Kind::Text => Ok(value.to_owned()),
        Kind::Bool => match lower.as_str() {
            "on" | "true" | "yes" | "1" => Ok("on".into()),
            "off" | "false" | "no" | "0" => Ok("off".into()),
            _ => Err(bad(name, "it is on or off")),
        },
        Kind::Number(least, most) => match lower.parse::<i64>() {
            Ok(n) if (least..=most).contains(&n) => Ok(n.to_string()),
            _ => Err(bad(name, &format!("it is a number from {least} to {most}"))),
        },
        Kind::Time => milliseconds(&lower).map(|ms| ms.to_string()).ok_or_else(|| {
            bad(name, "it is a number of milliseconds, or one with the unit us, ms, s, min, h or d")
        }),
        Kind::OneOf(known) => match known.iter().find(|one| **one == lower) {
            // The spellings of one value: shown as the first is, but UTF8 as PostgreSQL shows it.
            Some(_) if name == "client_encoding" => Ok("UTF8".into()),
            Some(_) => Ok(known[0].to_owned()),
            None => Err(bad(name, &format!("this server knows {} only", known[0]))),
        },
        Kind::TimeZone => time_zone(value.trim())
            .ok_or_else(|| bad(name, "it is a name such as Asia/Makassar, or an offset such as +08:00")),
        Kind::DateStyle => {
            let parts: Vec<&str> = lower.split(',').map(str::trim).filter(|p| !p.is_empty()).collect();
            let order = |part: &&&str| ["mdy", "dmy", "ymd", "us", "european"].contains(*part);
            if parts.is_empty() || !parts.iter().all(|part| *part == "iso" || order(&part)) {
                return Err(bad(name, "this server writes dates in ISO style only"));
            }
            let order = match parts.iter().find(order) {
                Some(&"dmy" | &"european") => "DMY",
                Some(&"ymd") => "YMD",
                _ => "MDY",
            };
            Ok(format!("ISO, {order}"))
        }
    }
}

fn milliseconds(text: &str) -> Option<i64> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let n: i64 = text[..digits].parse().ok()?;
    let ms = match text[digits..].trim() {
        "us" => n / 1000,
        "" | "ms" => n,
        "s" => n.checked_mul(1000)?,
        "min" => n.checked_mul(60_000)?,
        "h" => n.checked_mul(3_600_000)?,
        "d" => n.checked_mul(86_400_000)?,
        _ => return None,
    };
    (ms <= i64::from(i32::MAX)).then_some(ms)
}

/// The name as arrow knows it.
fn time_zone(text: &str) -> Option<String> {
    match text.to_ascii_lowercase().as_str() {
        "utc" | "gmt" | "z" | "zulu" | "etc/utc" | "local" | "localtime" => return Some("UTC".into()),
        _ => {}
    }
    // Whole hours, as in SET TIME ZONE 8 (east is positive there, as in ISO 8601).
    let hours: Option<i32> = text.parse().ok();
    let text = match hours {
        Some(h) if (-14..=14).contains(&h) => format!("{}{:02}:00", if h < 0 { '-' } else { '+' }, h.abs()),
        Some(_) => return None,
        None => text.to_owned(),
    };
    text.parse::<Tz>().ok().map(|_| text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(name: &str, value: &str, expected: Result<&str, &str>) {
        let mut settings = Settings::new("ana", false);
        let before = settings.clone();
        match (settings.set(name, Some(value)), expected) {
            (Ok(()), Ok(shown)) => assert_eq!(settings.get(name), Ok(shown), "{name} = {value}"),
            (Err(e), Err(code)) => {
                assert_eq!(e.code, code, "{name} = {value}: {}", e.message);
                assert_eq!(settings, before, "a refused value changes nothing");
            }
            (got, _) => panic!("{name} = {value}: {got:?}"),
        }
    }

    #[test]
    fn values_are_checked_and_shown_as_postgresql_shows_them() {
        check("client_encoding", "utf-8", Ok("UTF8"));
        check("client_encoding", "LATIN1", Err("22023"));
        check("DateStyle", "ISO", Ok("ISO, MDY"));
        check("datestyle", "iso, dmy", Ok("ISO, DMY"));
        check("datestyle", "German", Err("22023"));
        check("TimeZone", "Asia/Makassar", Ok("Asia/Makassar"));
        check("timezone", "8", Ok("+08:00"));
        check("timezone", "+07:00", Ok("+07:00"));
        check("timezone", "utc", Ok("UTC"));
        check("timezone", "Atlantis/Capital", Err("22023"));
        check("timezone", "99", Err("22023"));
        check("statement_timeout", "2min", Ok("120000"));
        check("statement_timeout", "500", Ok("500"));
        check("statement_timeout", "-1", Err("22023"));
        check("statement_timeout", "99999999999999999999", Err("22023"));
        check("extra_float_digits", "3", Ok("3"));
        check("extra_float_digits", "4", Err("22023"));
        check("standard_conforming_strings", "off", Err("22023"));
        check("bytea_output", "escape", Err("22023"));
        check("server_version", "17", Err("55P02"));
        check("no_such_setting", "1", Err("42704"));
        check("datafusion.execution.batch_size", "1", Err("42501"));
        check("DATAFUSION.Runtime.memory_limit", "1G", Err("42501"));
        check("app.user", "ana", Ok("ana"));
        check("jit", "TRUE", Ok("on"));
        check("default_transaction_read_only", "off", Err("22023"));
    }

    #[test]
    fn reset_goes_back_to_what_login_said() {
        let mut settings = Settings::new("ana", false);
        settings.set_initial("application_name", "psql").expect("known");
        settings.set("application_name", Some("other")).expect("known");
        settings.set("application_name", None).expect("known");
        assert_eq!(settings.get("application_name"), Ok("psql"));
        settings.set("app.x", Some("1")).expect("custom");
        settings.reset_all();
        assert_eq!(settings.get("app.x").expect_err("gone").code, "42704");
    }

    #[test]
    fn i7_settings_of_the_clients_own_are_bounded() {
        let mut settings = Settings::new("ana", false);
        for n in 0..CUSTOM_MAX {
            settings.set(&format!("a.{n}"), Some("x")).expect("fits");
        }
        assert_eq!(settings.set("a.more", Some("x")).expect_err("full").code, "53400");
        assert!(settings.set("a.1", Some(&"x".repeat(VALUE_MAX + 1))).is_err());
    }

    #[test]
    fn the_first_schema_of_the_search_path_counts() {
        let mut settings = Settings::new("ana", false);
        assert_eq!(settings.schema(), "public");
        settings.set("search_path", Some("system, public")).expect("known");
        assert_eq!(settings.schema(), "system");
        settings.set("search_path", Some("")).expect("known");
        assert_eq!(settings.schema(), "public");
    }
}
