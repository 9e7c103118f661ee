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

    /// Reads the body of an older version; `None`: there is none that this code knows.
    fn older(version: u8, body: &[u8]) -> Option<postcard::Result<(Self, &[u8])>> {
        let _ = (version, body);
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
    let taken = if *version == T::VERSION {
        postcard::take_from_bytes(body)
    } else {
        let unknown = || format!("version {version} is unknown, this binary reads version {}", T::VERSION);
        T::older(*version, body).ok_or_else(|| fail(unknown()))?
    };
    let (value, rest) = taken.map_err(|e| fail(e.to_string()))?;
    if !rest.is_empty() {
        return Err(fail(format!("{} bytes are left over", rest.len())));
    }
    Ok(value)
}
