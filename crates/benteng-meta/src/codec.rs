//! Versioned encoding: one byte of version, then postcard. A field is never added to an
//! existing version; a changed row gets a new version byte and a reader for the old one.

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::{Error, Result};

/// Something that is stored or sent: its name for errors and the version that is written.
pub trait Versioned: Serialize + DeserializeOwned {
    /// For error messages.
    const WHAT: &'static str;
    /// The version this code writes.
    const VERSION: u8 = 1;

    /// Reads the body of an earlier version, all of it ([`whole`]); `None`: it is not known (any more).
    fn older(_version: u8, _body: &[u8]) -> Option<std::result::Result<Self, String>> {
        None
    }
}

/// Encodes `value` in the current version.
pub fn encode<T: Versioned>(value: &T) -> Bytes {
    let out = vec![T::VERSION];
    // postcard fails only where a type refuses to serialize or a buffer is full: ours do neither.
    postcard::to_extend(value, out)
        .map(Bytes::from)
        .expect("rows and commands always serialize into a vector")
}

/// Decodes what [`encode`] wrote. Trailing bytes are an error: they would be lost silently.
pub fn decode<T: Versioned>(bytes: &[u8]) -> Result<T> {
    let fail = |why: String| Error::Decode { what: T::WHAT, why };
    let (version, body) = bytes.split_first().ok_or_else(|| fail("it is empty".into()))?;
    if *version != T::VERSION {
        let unknown = || format!("version {version} is unknown, this binary writes version {}", T::VERSION);
        return T::older(*version, body).ok_or_else(|| fail(unknown()))?.map_err(fail);
    }
    whole(body).map_err(fail)
}

/// Decodes `body` to its last byte.
pub fn whole<T: DeserializeOwned>(body: &[u8]) -> std::result::Result<T, String> {
    let (value, rest) = postcard::take_from_bytes(body).map_err(|e| e.to_string())?;
    if rest.is_empty() { Ok(value) } else { Err(format!("{} bytes are left over", rest.len())) }
}
