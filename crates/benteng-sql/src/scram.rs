//! SCRAM-SHA-256, server side (RFC 5802, RFC 7677). The server holds `SaltedPassword`; the
//! password itself never comes here. A user who is not there gets an exchange that looks
//! and costs the same, and fails in the same place.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use benteng_identity::Scram;
use bytes::Bytes;
use ring::{digest, hmac};
use subtle::ConstantTimeEq;

pub(crate) const MECHANISM: &str = "SCRAM-SHA-256";

/// A client's answer is no SCRAM message.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed SCRAM message: {0}")]
pub(crate) struct Malformed(&'static str);

/// An exchange after the server's first message.
#[derive(Debug)]
pub(crate) struct Exchange {
    verifier: Scram,
    /// `c=` must repeat this: what the client said of channel binding.
    gs2: String,
    client_first: String,
    server_first: String,
    nonce: String,
}

/// A verifier that no password fits, the same each time for the same name.
/// `secret`: random, of this process. Its iterations are those of new users.
pub(crate) fn decoy(secret: &[u8; 32], user: &str) -> Scram {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
    let tag =
        |what: &str| Bytes::copy_from_slice(hmac::sign(&key, format!("{what}\0{user}").as_bytes()).as_ref());
    Scram {
        salt: tag("salt").slice(..16),
        iterations: benteng_identity::ITERATIONS_DEFAULT,
        salted_password: tag("salted password"),
    }
}

/// Takes the initial answer (mechanism, length, client-first-message) apart.
pub(crate) fn initial(body: &[u8]) -> Result<&[u8], Malformed> {
    let end = body.iter().position(|b| *b == 0).ok_or(Malformed("no mechanism"))?;
    if &body[..end] != MECHANISM.as_bytes() {
        return Err(Malformed("another mechanism than SCRAM-SHA-256"));
    }
    let (length, rest) = body[end + 1..].split_first_chunk::<4>().ok_or(Malformed("no length"))?;
    match usize::try_from(i32::from_be_bytes(*length)) {
        Ok(n) if n == rest.len() => Ok(rest),
        _ => Err(Malformed("wrong length")),
    }
}

impl Exchange {
    /// Answers the client-first-message. Returns the exchange and the server-first-message.
    /// `server_nonce`: fresh random printable text without commas.
    pub(crate) fn begin(
        message: &[u8],
        verifier: Scram,
        server_nonce: &str,
    ) -> Result<(Exchange, String), Malformed> {
        let message = std::str::from_utf8(message).map_err(|_| Malformed("not UTF-8"))?;
        let mut parts = message.splitn(3, ',');
        let (flag, authzid, bare) = match (parts.next(), parts.next(), parts.next()) {
            (Some(flag), Some(authzid), Some(bare)) => (flag, authzid, bare),
            _ => return Err(Malformed("no GS2 header")),
        };
        // y: the client could bind to a channel but saw that we do not offer it, which is true.
        if flag != "n" && flag != "y" {
            return Err(Malformed("channel binding is not offered"));
        }
        if !authzid.is_empty() {
            return Err(Malformed("acting for another user is not supported"));
        }
        let mut fields = bare.split(',');
        if !fields.next().is_some_and(|name| name.starts_with("n=")) {
            return Err(Malformed("no user name, or a mandatory extension"));
        }
        let nonce = fields.next().and_then(|f| f.strip_prefix("r=")).filter(|n| !n.is_empty());
        let nonce = format!("{}{server_nonce}", nonce.ok_or(Malformed("no nonce"))?);
        let server_first = format!("r={nonce},s={},i={}", BASE64.encode(&verifier.salt), verifier.iterations);
        let exchange = Exchange {
            verifier,
            gs2: format!("{flag},{authzid},"),
            client_first: bare.to_owned(),
            server_first: server_first.clone(),
            nonce,
        };
        Ok((exchange, server_first))
    }

    /// Checks the client-final-message. `Ok(None)`: the password is wrong.
    /// Returns the server-final-message, which proves the server in turn.
    pub(crate) fn finish(self, message: &[u8]) -> Result<Option<String>, Malformed> {
        let message = std::str::from_utf8(message).map_err(|_| Malformed("not UTF-8"))?;
        let (without_proof, proof) = message.rsplit_once(",p=").ok_or(Malformed("no proof"))?;
        let proof = BASE64.decode(proof).map_err(|_| Malformed("the proof is not base64"))?;
        let mut fields = without_proof.split(',');
        let binding =
            fields.next().and_then(|f| f.strip_prefix("c=")).ok_or(Malformed("no channel binding"))?;
        let nonce = fields.next().and_then(|f| f.strip_prefix("r=")).ok_or(Malformed("no nonce"))?;
        if binding != BASE64.encode(&self.gs2) || nonce != self.nonce {
            return Err(Malformed("channel binding or nonce do not match"));
        }
        let sign = |key: &[u8], text: &[u8]| hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text);
        let text = format!("{},{},{without_proof}", self.client_first, self.server_first);
        let client_key = sign(&self.verifier.salted_password, b"Client Key");
        let stored_key = digest::digest(&digest::SHA256, client_key.as_ref());
        let signature = sign(stored_key.as_ref(), text.as_bytes());
        let expected: Vec<u8> =
            client_key.as_ref().iter().zip(signature.as_ref()).map(|(k, s)| k ^ s).collect();
        if !bool::from(expected.ct_eq(&proof)) {
            return Ok(None);
        }
        let server_key = sign(&self.verifier.salted_password, b"Server Key");
        Ok(Some(format!("v={}", BASE64.encode(sign(server_key.as_ref(), text.as_bytes())))))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The exchange of RFC 7677 §3: user "user", password "pencil".
    fn rfc() -> (Exchange, String) {
        let salt: [u8; 16] =
            BASE64.decode("W22ZaJ0SNY7soEsUEjb6gQ==").expect("base64").try_into().expect("16 bytes");
        let verifier = benteng_identity::make_scram("pencil", salt, 4096);
        Exchange::begin(b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO", verifier, "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0")
            .expect("begins")
    }

    const FINAL: &str = "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
                         p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";

    #[test]
    fn the_exchange_of_the_rfc_is_reproduced() {
        let (exchange, first) = rfc();
        assert_eq!(
            first,
            "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
        );
        let last = exchange.finish(FINAL.as_bytes()).expect("well formed");
        assert_eq!(last.as_deref(), Some("v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="));
    }

    #[test]
    fn a_wrong_proof_is_refused_and_a_wrong_nonce_is_malformed() {
        assert_eq!(rfc().0.finish(FINAL.replace("p=dHz", "p=eHz").as_bytes()), Ok(None));
        assert!(rfc().0.finish(FINAL.replace("k0,", "k1,").as_bytes()).is_err());
        assert!(
            rfc().0.finish(FINAL.replace("biws", "eSws").as_bytes()).is_err(),
            "the GS2 header was changed"
        );
        assert_eq!(
            rfc().0.finish(b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p="),
            Ok(None)
        );
    }

    #[test]
    fn an_unknown_user_looks_like_any_other() {
        let secret = [7; 32];
        let (a, again, b) = (decoy(&secret, "ana"), decoy(&secret, "ana"), decoy(&secret, "budi"));
        assert_eq!(a.salt, again.salt, "a second try shows the same salt");
        assert_ne!(a.salt, b.salt);
        assert_eq!((a.salt.len(), a.iterations), (16, benteng_identity::ITERATIONS_DEFAULT));
    }

    #[test]
    fn what_is_not_offered_is_refused() {
        let verifier = || decoy(&[0; 32], "x");
        for message in
            ["p=tls-server-end-point,,n=,r=a", "n,a=root,n=,r=a", "n,,m=ext,n=,r=a", "n,,n=,r=", "n", ""]
        {
            assert!(Exchange::begin(message.as_bytes(), verifier(), "s").is_err(), "{message}");
        }
        assert!(initial(b"SCRAM-SHA-256-PLUS\0\0\0\0\x01x").is_err());
        assert_eq!(initial(b"SCRAM-SHA-256\0\0\0\0\x03abc"), Ok(&b"abc"[..]));
        assert!(initial(b"SCRAM-SHA-256\0\xff\xff\xff\xff").is_err());
    }

    proptest! {
        #[test]
        fn garbage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..100), text in "[nyp=,a-z]{0,40}") {
            let _ = initial(&bytes);
            let _ = Exchange::begin(&bytes, decoy(&[0; 32], "x"), "s");
            if let Ok((exchange, _)) = Exchange::begin(text.as_bytes(), decoy(&[0; 32], "x"), "s") {
                let _ = exchange.finish(&bytes);
            }
        }
    }
}
