//! Signatures of webhooks: Standard Webhooks 1.0.0 (<https://www.standardwebhooks.com>), symmetric (`v1`).

use std::{fmt, str::FromStr};

use base64::{Engine, engine::general_purpose::STANDARD};
use hmac::{Hmac, KeyInit, Mac};
use jiff::Timestamp;
use sha2::Sha256;

const SECRET_PREFIX: &str = "whsec_";
const SHORTEST: usize = 24;
const LONGEST: usize = 64;

/// A secret that signs: `whsec_` and 24 to 64 random bytes in base64. It is not shown in debug output.
#[derive(Clone)]
pub struct SigningSecret {
    keyed: Hmac<Sha256>,
}

/// Why a text is not a secret. The text itself is not repeated.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The prefix is missing.
    #[error("the signing secret does not begin with whsec_")]
    NoPrefix,
    /// The rest is not base64.
    #[error("what follows whsec_ in the signing secret is not base64")]
    NotBase64,
    /// Standard Webhooks does not allow so many bytes.
    #[error("the signing secret has {bytes} bytes; it must have 24 to 64")]
    Length {
        /// How many it has.
        bytes: usize,
    },
}

/// The headers of a signed webhook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignatureHeaders {
    /// `webhook-id`: the same for each attempt.
    pub id: String,
    /// `webhook-timestamp`: when this attempt is made, in seconds since 1970.
    pub timestamp: String,
    /// `webhook-signature`: one for each secret, with a space between them.
    pub signature: String,
}

impl FromStr for SigningSecret {
    type Err = SecretError;

    /// Reads a secret. White space around it is not part of it: a Secret that was made from a file ends in a line feed.
    fn from_str(text: &str) -> Result<Self, SecretError> {
        let encoded = text.trim().strip_prefix(SECRET_PREFIX).ok_or(SecretError::NoPrefix)?;
        // What base64 says of a wrong character would repeat it.
        let key = STANDARD.decode(encoded).map_err(|_| SecretError::NotBase64)?;
        let length = SecretError::Length { bytes: key.len() };
        if !(SHORTEST..=LONGEST).contains(&key.len()) {
            return Err(length);
        }
        let keyed = Hmac::new_from_slice(&key).map_err(|_| length)?;
        Ok(Self { keyed })
    }
}

impl fmt::Debug for SigningSecret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("SigningSecret(…)")
    }
}

/// Signs a body for an attempt at `now`. With two secrets, whoever knows either can check it: so a secret is replaced
/// without a request that is refused.
///
/// `id` must not have a dot, which separates what is signed; a UUID has none.
pub fn sign(secrets: &[SigningSecret], id: &str, now: Timestamp, body: &[u8]) -> SignatureHeaders {
    let timestamp = now.as_second().to_string();
    let signatures = secrets.iter().map(|secret| {
        let mut mac = secret.keyed.clone();
        for signed in [id.as_bytes(), b".", timestamp.as_bytes(), b".", body] {
            mac.update(signed);
        }
        format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
    });
    let signature = signatures.collect::<Vec<_>>().join(" ");
    SignatureHeaders { id: id.to_owned(), timestamp, signature }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use http::HeaderMap;
    use proptest::prelude::*;
    use standardwebhooks::Webhook;

    use super::*;

    const SECRET: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";
    const OTHER: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

    fn headers(signed: &SignatureHeaders) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert("webhook-id", signed.id.parse().unwrap());
        headers.insert("webhook-timestamp", signed.timestamp.parse().unwrap());
        headers.insert("webhook-signature", signed.signature.parse().unwrap());
        headers
    }

    #[test]
    fn the_signature_is_that_of_the_reference_libraries() {
        // The vector that the libraries of Standard Webhooks are tested with.
        let signed = sign(
            &[SECRET.parse().unwrap()],
            "msg_27UH4WbU6Z5A5EzD8u03UvzRbpk",
            Timestamp::from_second(1_649_367_553).unwrap(),
            br#"{"email":"test@example.com","username":"test_user"}"#,
        );
        assert_eq!(signed.id, "msg_27UH4WbU6Z5A5EzD8u03UvzRbpk");
        assert_eq!(signed.timestamp, "1649367553");
        assert_eq!(signed.signature, "v1,tZ1I4/hDygAJgO5TYxiSd6Sd0kDW6hPenDe+bTa3Kkw=");
    }

    #[test]
    fn a_secret_has_its_prefix_its_length_and_base64_and_is_not_shown() {
        for accepted in [SECRET, "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD\n"] {
            let secret: SigningSecret = accepted.parse().unwrap();
            assert_eq!(format!("{secret:?}"), "SigningSecret(…)");
        }
        let of_length = |bytes: usize| format!("whsec_{}", STANDARD.encode(vec![7; bytes]));
        for (refused, expected) in [
            (SECRET.trim_start_matches("whsec_").to_owned(), "the signing secret does not begin with whsec_"),
            (String::new(), "the signing secret does not begin with whsec_"),
            ("whsec_not base64!".to_owned(), "what follows whsec_ in the signing secret is not base64"),
            (of_length(23), "the signing secret has 23 bytes; it must have 24 to 64"),
            (of_length(65), "the signing secret has 65 bytes; it must have 24 to 64"),
        ] {
            assert_eq!(refused.parse::<SigningSecret>().unwrap_err().to_string(), expected);
        }
        for accepted in [24, 64] {
            of_length(accepted).parse::<SigningSecret>().unwrap();
        }
    }

    proptest! {
        #[test]
        fn whoever_knows_either_secret_accepts_the_body_and_no_other(body in ".*", id in "[a-z0-9-]{1,40}") {
            // The other implementation has its own clock.
            let now = Timestamp::now();
            let secrets = [SECRET.parse().unwrap(), OTHER.parse().unwrap()];
            let both = headers(&sign(&secrets, &id, now, body.as_bytes()));
            for secret in [SECRET, OTHER] {
                let receiver = Webhook::new(secret).unwrap();
                prop_assert!(receiver.verify(body.as_bytes(), &both).is_ok());
                let other = format!("{body} ");
                prop_assert!(receiver.verify(other.as_bytes(), &both).is_err());
            }
            let first = headers(&sign(&secrets[..1], &id, now, body.as_bytes()));
            prop_assert!(Webhook::new(OTHER).unwrap().verify(body.as_bytes(), &first).is_err());
        }
    }
}
