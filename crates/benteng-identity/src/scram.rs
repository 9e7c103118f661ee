//! Password verifiers: SCRAM-SHA-256 (RFC 5802, RFC 7677).

use std::num::NonZeroU32;

use benteng_meta::Scram;
use bytes::Bytes;
use ring::pbkdf2;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

/// Fewer rounds than this RFC 7677 does not allow.
pub const ITERATIONS_MIN: u32 = 4096;
/// Rounds of new passwords: about 10 ms on a small server, four times the minimum.
pub const ITERATIONS_DEFAULT: u32 = 16_384;
/// Shorter passwords are refused.
pub(crate) const PASSWORD_MIN: usize = 8;
/// Longer passwords are refused: hashing them would cost the server, not the attacker.
pub(crate) const PASSWORD_MAX: usize = 256;
/// More rounds than this are damage, not a verifier: they would hold a thread for minutes.
const ITERATIONS_MAX: u32 = 10_000_000;

/// Makes the verifier of a password.
///
/// `iterations` below [`ITERATIONS_MIN`] are raised to it. Takes some 10 ms of CPU: call it
/// through `benteng_host::compute`. The password is taken byte for byte: printable ASCII,
/// which [`crate::Identity::create_user`] demands, is its own SASLprep form.
pub fn make_scram(password: &str, salt: [u8; 16], iterations: u32) -> Scram {
    let iterations = iterations.clamp(ITERATIONS_MIN, ITERATIONS_MAX);
    let salted = derive(password, &salt, iterations);
    Scram {
        salt: Bytes::copy_from_slice(&salt),
        iterations,
        salted_password: Bytes::copy_from_slice(salted.as_ref()),
    }
}

/// Whether the password is the verifier's, in time that does not depend on how wrong it is.
pub(crate) fn verify(password: &str, scram: &Scram) -> bool {
    if password.len() > PASSWORD_MAX {
        return false;
    }
    let salted = derive(password, &scram.salt, scram.iterations.clamp(1, ITERATIONS_MAX));
    salted.as_ref().ct_eq(&scram.salted_password).into()
}

/// Whether a password may be set: every door can carry it unchanged.
pub(crate) fn is_settable(password: &str) -> bool {
    (PASSWORD_MIN..=PASSWORD_MAX).contains(&password.len())
        && password.bytes().all(|b| matches!(b, 0x20..=0x7e))
}

fn derive(password: &str, salt: &[u8], iterations: u32) -> Zeroizing<[u8; 32]> {
    let mut out = Zeroizing::new([0; 32]);
    let rounds = NonZeroU32::new(iterations).unwrap_or(NonZeroU32::MIN);
    pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, rounds, salt, password.as_bytes(), out.as_mut());
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc7677_example_gives_its_salted_password() {
        // RFC 7677 §3: user "user", password "pencil", 4096 rounds; the salted password is what
        // the example's client proof follows from.
        let salt: [u8; 16] =
            [0x5b, 0x6d, 0x99, 0x68, 0x9d, 0x12, 0x35, 0x8e, 0xec, 0xa0, 0x4b, 0x14, 0x12, 0x36, 0xfa, 0x81];
        let scram = make_scram("pencil", salt, 4096);
        assert_eq!(
            hex::encode(&scram.salted_password),
            "c4a49510323ab4f952cac1fa99441939e78ea74d6be81ddf7096e87513dc615d"
        );
    }

    #[test]
    fn only_the_password_itself_verifies() {
        let scram = make_scram("kata sandi", [3; 16], 1);
        assert_eq!(scram.iterations, ITERATIONS_MIN);
        for (password, same) in
            [("kata sandi", true), ("kata sand", false), ("kata sandi ", false), ("", false)]
        {
            assert_eq!(verify(password, &scram), same, "{password:?}");
        }
        assert!(!verify(&"x".repeat(PASSWORD_MAX + 1), &scram));
    }

    #[test]
    fn settable_passwords_are_printable_ascii() {
        for (password, ok) in
            [("12345678", true), ("1234567", false), ("tab\tinside", false), ("sandi-ünik", false)]
        {
            assert_eq!(is_settable(password), ok, "{password:?}");
        }
    }
}
