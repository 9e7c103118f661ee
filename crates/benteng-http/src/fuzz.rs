//! What the parsers of this door must bear, for the fuzzer in `tests/fuzz`. Compiled with debug assertions
//! only: no release holds any of it. A panic is a find.

use http::{HeaderMap, HeaderValue, header};

use crate::Credential;
use crate::caller::credential;

/// The `Authorization` header, given once or, line by line, several times: one is a credential or refused,
/// several are always refused.
pub fn authorization(bytes: &[u8]) {
    let mut headers = HeaderMap::new();
    for line in bytes.split(|byte| *byte == b'\n').take(4) {
        if let Ok(value) = HeaderValue::from_bytes(line) {
            headers.append(header::AUTHORIZATION, value);
        }
    }
    let given = headers.get_all(header::AUTHORIZATION).iter().count();
    match credential(&headers) {
        Ok(None) => assert_eq!(given, 0, "a credential is overlooked"),
        Ok(Some(Credential::Bearer(token))) => assert!(given == 1 && !token.is_empty()),
        Ok(Some(Credential::Basic { user, .. })) => assert!(given == 1 && !user.contains(':')),
        Err(_) => assert!(given > 0),
    }
}
