//! SigV4 by header, from the client's side; `benteng-s3` has the other one.
//! Source: AWS, "Signature Version 4 signing process".

use std::fmt::Write;
use std::sync::Mutex;
use std::time::{SystemTime, UNIX_EPOCH};

use ring::{digest, hmac};
use zeroize::Zeroizing;

/// What a request says of a body that is not hashed.
pub(crate) const UNSIGNED: &str = "UNSIGNED-PAYLOAD";

/// Signs requests as one access key. The derived key of a day is made once.
pub(crate) struct Signer {
    id: String,
    secret: Zeroizing<String>,
    region: String,
    of_day: Mutex<Option<(String, hmac::Key)>>,
}

/// Headers that make a request a signed one.
pub(crate) struct Signed {
    pub(crate) date: String,
    pub(crate) authorization: String,
}

/// SHA-256 in hex.
pub(crate) fn sha256(bytes: &[u8]) -> String {
    hex::encode(digest::digest(&digest::SHA256, bytes))
}

/// Everything but letters, digits and `-._~` as %XX; `keep` stays as it is.
pub(crate) fn encode(text: &str, keep: &[u8]) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) || keep.contains(&byte) {
            out.push(char::from(byte));
        } else {
            // Writing into a String cannot fail.
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

impl Signer {
    /// For an access key.
    pub(crate) fn new(id: String, secret: Zeroizing<String>, region: String) -> Signer {
        Signer { id, secret, region, of_day: Mutex::default() }
    }

    fn key(&self, day: &str) -> hmac::Key {
        let mut kept = self.of_day.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some((of, key)) = &*kept
            && of == day
        {
            return key.clone();
        }
        let first = Zeroizing::new(format!("AWS4{}", *self.secret));
        let mut key = hmac::Key::new(hmac::HMAC_SHA256, first.as_bytes());
        for part in [day, &self.region, "s3", "aws4_request"] {
            key = hmac::Key::new(hmac::HMAC_SHA256, hmac::sign(&key, part.as_bytes()).as_ref());
        }
        *kept = Some((day.to_owned(), key.clone()));
        key
    }

    /// Signs a request. `path` and `query` are encoded already, the query in canonical order;
    /// `payload` is the hash of the body, or [`UNSIGNED`].
    pub(crate) fn sign(
        &self,
        method: &str,
        host: &str,
        path: &str,
        query: &str,
        payload: &str,
        at: SystemTime,
    ) -> Signed {
        let date = compact(at);
        let day = &date[..8];
        let names = "host;x-amz-content-sha256;x-amz-date";
        let request = format!(
            "{method}\n{path}\n{query}\nhost:{host}\nx-amz-content-sha256:{payload}\nx-amz-date:{date}\n\n{names}\n{payload}"
        );
        let scope = format!("{day}/{}/s3/aws4_request", self.region);
        let text = format!("AWS4-HMAC-SHA256\n{date}\n{scope}\n{}", sha256(request.as_bytes()));
        let signature = hex::encode(hmac::sign(&self.key(day), text.as_bytes()));
        let id = &self.id;
        let authorization =
            format!("AWS4-HMAC-SHA256 Credential={id}/{scope}, SignedHeaders={names}, Signature={signature}");
        Signed { date, authorization }
    }
}

/// `20130524T000000Z`. Days to a date after Howard Hinnant, "chrono-compatible low-level date algorithms".
fn compact(at: SystemTime) -> String {
    let seconds = at.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    let z = days + 719_468;
    let (era, of_era) = (z / 146_097, z % 146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    format!("{year:04}{month:02}{day:02}T{:02}{:02}{:02}Z", rest / 3600, rest / 60 % 60, rest % 60)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds)
    }

    #[test]
    fn dates_are_those_of_the_calendar() {
        for (seconds, text) in [
            (0, "19700101T000000Z"),
            (951_782_399, "20000228T235959Z"),
            (951_782_400, "20000229T000000Z"),
            (1_369_353_600, "20130524T000000Z"),
            (2_147_483_648, "20380119T031408Z"),
        ] {
            assert_eq!(compact(at(seconds)), text);
        }
    }

    /// The key of AWS's own documentation; the list of buckets, whose headers are exactly ours.
    #[test]
    fn a_signature_is_what_the_standard_makes_of_it() {
        let secret = Zeroizing::new("wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY".to_owned());
        let signer = Signer::new("AKIAIOSFODNN7EXAMPLE".into(), secret, "us-east-1".into());
        let signed = signer.sign(
            "GET",
            "examplebucket.s3.amazonaws.com",
            "/",
            "lifecycle=",
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
            at(1_369_353_600),
        );
        assert_eq!(signed.date, "20130524T000000Z");
        let expected = "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543";
        assert!(signed.authorization.ends_with(expected), "{}", signed.authorization);
    }

    #[test]
    fn keys_are_encoded_as_s3_wants_them() {
        assert_eq!(encode("a b/ü~", b"/"), "a%20b/%C3%BC~");
        assert_eq!(encode("a/b", b""), "a%2Fb");
    }
}
