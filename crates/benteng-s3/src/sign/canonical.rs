//! What is signed, byte for byte (SigV4): the canonical request.

use http::request::Parts;

use crate::names;

/// Which of the readings of the standard the client follows. They differ only for paths and
/// header values that are unusual; all of them sign the same request.
#[derive(Clone, Copy)]
pub(super) struct Reading {
    /// The path as it was sent, rather than decoded and encoded again.
    pub(super) raw_path: bool,
    /// Runs of spaces in header values as they are, rather than folded to one.
    pub(super) raw_spaces: bool,
}

impl Reading {
    /// All readings, the standard's own first.
    pub(super) const ALL: [Reading; 4] = [
        Reading { raw_path: false, raw_spaces: false },
        Reading { raw_path: true, raw_spaces: false },
        Reading { raw_path: false, raw_spaces: true },
        Reading { raw_path: true, raw_spaces: true },
    ];
}

/// The canonical request. `signed`: names of signed headers in lower case; `pairs`: the decoded
/// query without the signature itself. `None`: the path is not UTF-8.
pub(super) fn request(
    parts: &Parts,
    pairs: &[(&str, &str)],
    signed: &[String],
    payload: &str,
    reading: Reading,
) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(512);
    out.extend_from_slice(parts.method.as_str().as_bytes());
    out.push(b'\n');
    let path = parts.uri.path();
    if reading.raw_path {
        out.extend_from_slice(path.as_bytes());
    } else {
        out.extend_from_slice(names::encode_path(&names::decode(path).ok()?).as_bytes());
    }
    out.push(b'\n');
    let mut query: Vec<(String, String)> =
        pairs.iter().map(|(name, value)| (names::encode(name), names::encode(value))).collect();
    query.sort_unstable();
    let query: Vec<String> = query.into_iter().map(|(name, value)| format!("{name}={value}")).collect();
    out.extend_from_slice(query.join("&").as_bytes());
    out.push(b'\n');
    for name in signed {
        out.extend_from_slice(name.as_bytes());
        out.push(b':');
        for (i, value) in parts.headers.get_all(name.as_str()).iter().enumerate() {
            if i > 0 {
                out.push(b',');
            }
            push_value(&mut out, value.as_bytes(), reading.raw_spaces);
        }
        out.push(b'\n');
    }
    out.push(b'\n');
    out.extend_from_slice(signed.join(";").as_bytes());
    out.push(b'\n');
    out.extend_from_slice(payload.as_bytes());
    Some(out)
}

fn push_value(out: &mut Vec<u8>, value: &[u8], raw_spaces: bool) {
    let value = value.trim_ascii();
    if raw_spaces {
        out.extend_from_slice(value);
        return;
    }
    let mut space = false;
    for &byte in value {
        if byte == b' ' && space {
            continue;
        }
        space = byte == b' ';
        out.push(byte);
    }
}
