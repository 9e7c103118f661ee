//! Credentials of `benteng dev`, derived from the root key so that `endpoints.env` can
//! always be written again.

use zeroize::Zeroizing;

use crate::unseal::RootKey;

const UPPER: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
/// 64 characters without any that a shell, a URL or an env file would need quoted.
const MIXED: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.";

/// The credentials of one development principal. Wiped on drop; no `Debug`.
pub struct DevCredential {
    /// 20 upper-case alphanumerics, beginning with `BT`.
    pub access_key_id: String,
    /// 40 characters.
    pub secret_access_key: Zeroizing<String>,
    /// SQL password, 24 characters.
    pub password: Zeroizing<String>,
    /// Bearer token of the admin API, 43 characters.
    pub admin_token: Zeroizing<String>,
}

impl RootKey {
    /// The credentials of the development principal `name`, the same for ever.
    pub fn dev_credential(&self, name: &str) -> DevCredential {
        let text = |field: &str, alphabet: &[u8], len: usize| {
            let mut bytes = Zeroizing::new(vec![0; len]);
            // The field is of our own naming and holds no NUL, so the pair is unambiguous.
            self.expand("dev credential", format!("{field}\0{name}").as_bytes(), &mut bytes);
            // The alphabets have 32 and 64 letters, so the remainder is even.
            Zeroizing::new(
                bytes.iter().map(|b| char::from(alphabet[usize::from(*b) % alphabet.len()])).collect(),
            )
        };
        let id: Zeroizing<String> = text("access key id", UPPER, 18);
        DevCredential {
            access_key_id: format!("BT{}", *id),
            secret_access_key: text("secret access key", MIXED, 40),
            password: text("password", MIXED, 24),
            admin_token: text("admin token", MIXED, 43),
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::{RootKey, SecretBytes32};

    #[test]
    fn dev_credentials_are_golden() {
        let root = RootKey::from_secret(SecretBytes32::new([7; 32]));
        let got = root.dev_credential("admin");
        let all = [
            got.access_key_id.as_str(),
            got.secret_access_key.as_str(),
            got.password.as_str(),
            got.admin_token.as_str(),
        ];
        assert_eq!(all.map(str::len), [20, 40, 24, 43]);
        assert!(
            all[0].starts_with("BT") && all[0].bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit())
        );
        assert_eq!(
            all.join(" "),
            "BTI54PMMTXVOUUSOWIYI fm5aYCqZsQ6.GQRY.O6jBVtZmryKseP8UV4duls3 wB49TEhL8HVq3C78ZxIQpZr2 eBpzA0PzkemjufFlFEfEcma4ES4ScdV44zh_O0B9agq"
        );
    }

    #[test]
    fn names_and_roots_give_different_credentials() {
        let root = RootKey::from_secret(SecretBytes32::new([7; 32]));
        let other = RootKey::from_secret(SecretBytes32::new([8; 32]));
        let secret = |root: &RootKey, name| root.dev_credential(name).secret_access_key.to_string();
        assert_ne!(secret(&root, "a"), secret(&root, "b"));
        assert_ne!(secret(&root, "a"), secret(&other, "a"));
    }
}
