//! Secrets whose values are headers' values: how they are read, and what is wrong with one that cannot be sent.
//!
//! No value is ever shown: what holds one is marked as sensitive, and errors name the Secret and the key alone.

mod cache;
mod cluster;

use std::{collections::BTreeMap, error::Error, fmt, sync::Arc};

use async_trait::async_trait;
use events::run_reasons;
use http::HeaderValue;

pub use cache::SecretCache;
pub use cluster::ClusterSecrets;

/// The longest value that is sent, in bytes: about what servers take.
pub const LONGEST_VALUE: usize = 8 * 1024;

/// Where Secrets are: a cluster, or manifest files.
#[async_trait]
pub trait SecretReader: Send + Sync {
    /// The values of a Secret as they are, or were a moment ago. They belong together.
    ///
    /// # Errors
    /// When it is not there, may not be read or cannot be read now.
    async fn read(&self, secret: &SecretName) -> Result<Arc<SecretValues>, SecretError>;
}

/// A Secret's place.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SecretName {
    /// Its namespace, which is that of the source.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl fmt::Display for SecretName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.namespace, self.name)
    }
}

/// The values of a Secret by their keys, as far as they can be headers' values. `Debug` shows none of them.
#[derive(Clone, Debug, Default)]
pub struct SecretValues {
    values: BTreeMap<String, Result<HeaderValue, Unfit>>,
}

/// Why a value cannot be a header's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// No server would take it.
    #[error("it is longer than {LONGEST_VALUE} bytes")]
    TooLong,
    /// RFC 9110, section 5.5, has no place for them.
    #[error("it has a line break or another control character in it")]
    ControlCharacter,
}

impl SecretValues {
    /// Takes the decoded `data` of a Secret. A line break at the end of a value, as files have one, is left out.
    pub fn new(data: impl IntoIterator<Item = (String, Vec<u8>)>) -> Self {
        Self { values: data.into_iter().map(|(key, value)| (key, header_value(&value))).collect() }
    }

    /// The value of a key, marked as sensitive.
    ///
    /// # Errors
    /// When there is no such key, or its value cannot be sent.
    pub fn get(&self, secret: &SecretName, key: &str) -> Result<HeaderValue, SecretError> {
        let (secret, key) = (secret.clone(), key.to_owned());
        match self.values.get(&key) {
            Some(Ok(value)) => Ok(value.clone()),
            Some(Err(problem)) => Err(SecretError::Unfit { secret, key, problem: *problem }),
            None => Err(SecretError::KeyNotFound { secret, key }),
        }
    }

    /// What it takes in memory, in bytes.
    fn byte_size(&self) -> usize {
        let size = |(key, value): (&String, &Result<HeaderValue, Unfit>)| {
            key.len() + value.as_ref().map_or(0, HeaderValue::len)
        };
        self.values.iter().map(size).sum()
    }
}

fn header_value(bytes: &[u8]) -> Result<HeaderValue, Unfit> {
    let line = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    if line.len() > LONGEST_VALUE {
        return Err(Unfit::TooLong);
    }
    let mut value = HeaderValue::from_bytes(line).map_err(|_| Unfit::ControlCharacter)?;
    value.set_sensitive(true);
    Ok(value)
}

/// A header's value could not be had from a Secret.
#[derive(Clone, Debug, thiserror::Error)]
pub enum SecretError {
    /// There is no such Secret.
    #[error("there is no Secret {secret}; create it, or correct what names it")]
    NotFound {
        /// The Secret.
        secret: SecretName,
    },
    /// It has no such key.
    #[error("the Secret {secret} has no key {key}; add it, or correct what names it")]
    KeyNotFound {
        /// The Secret.
        secret: SecretName,
        /// The key.
        key: String,
    },
    /// The API server does not let this worker read it, or this worker knows no API server.
    #[error("this worker may not read the Secret {secret}; an administrator can let its role read Secrets")]
    Forbidden {
        /// The Secret.
        secret: SecretName,
        /// What the API server or its client says.
        #[source]
        source: Arc<dyn Error + Send + Sync>,
    },
    /// The API server does not answer as it should.
    #[error("the Secret {secret} cannot be read now")]
    Unavailable {
        /// The Secret.
        secret: SecretName,
        /// What its client says.
        #[source]
        source: Arc<dyn Error + Send + Sync>,
    },
    /// The value cannot be sent.
    #[error("the key {key} of the Secret {secret} cannot be a header's value: {problem}")]
    Unfit {
        /// The Secret.
        secret: SecretName,
        /// The key.
        key: String,
        /// What is wrong with its value.
        problem: Unfit,
    },
}

/// When another try is worth it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Retried {
    Yes,
    No,
}

impl SecretError {
    /// The class of the failure, stable: for conditions and rows.
    pub fn reason(&self) -> &'static str {
        self.class().0
    }

    /// Whether it may well be had a little later, so that it is worth another try in the same run.
    pub fn is_transient(&self) -> bool {
        self.class().1 == Retried::Yes
    }

    /// The table of failures. docs/fetching.md has the same, which a test compares.
    fn class(&self) -> (&'static str, Retried) {
        use Retried::{No, Yes};
        match self {
            Self::NotFound { .. } => (run_reasons::SECRET_NOT_FOUND, No),
            Self::KeyNotFound { .. } => (run_reasons::SECRET_KEY_NOT_FOUND, No),
            Self::Forbidden { .. } => (run_reasons::SECRET_FORBIDDEN, No),
            Self::Unavailable { .. } => (run_reasons::SECRET_UNAVAILABLE, Yes),
            Self::Unfit { .. } => (run_reasons::INVALID_HEADER, No),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_value_is_sent_as_it_is_but_for_the_line_break_of_its_file() {
        type Row<'a> = (&'a [u8], Result<&'a [u8], Unfit>);
        let longest = "x".repeat(LONGEST_VALUE);
        let rows: [Row<'_>; 12] = [
            (b"Bearer abc", Ok(b"Bearer abc")),
            (b"", Ok(b"")),
            (b"tab\tand space ", Ok(b"tab\tand space ")),
            ("Gr\u{fc}n".as_bytes(), Ok("Gr\u{fc}n".as_bytes())),
            (b"line\n", Ok(b"line")),
            (b"line\r\n", Ok(b"line")),
            (b"line\n\n", Err(Unfit::ControlCharacter)),
            (b"two\r\nHost: other.example", Err(Unfit::ControlCharacter)),
            (b"nothing\0", Err(Unfit::ControlCharacter)),
            (b"delete\x7f", Err(Unfit::ControlCharacter)),
            (longest.as_bytes(), Ok(longest.as_bytes())),
            (&[b'x'; LONGEST_VALUE + 1], Err(Unfit::TooLong)),
        ];
        for (given, expected) in rows {
            let found = header_value(given);
            assert_eq!(found.as_ref().map(HeaderValue::as_bytes), expected.as_ref().copied(), "{given:?}");
        }
    }

    #[test]
    fn nothing_shows_a_value() {
        let secret = SecretName { namespace: "laws".to_owned(), name: "court".to_owned() };
        let data = [("token", "hidden-value"), ("broken", "hidden-value\nmore")];
        let values = SecretValues::new(data.map(|(key, value)| (key.to_owned(), value.as_bytes().to_vec())));
        let value = values.get(&secret, "token").unwrap();
        let errors = ["broken", "missing"].map(|key| values.get(&secret, key).unwrap_err());
        let shown = format!("{values:?} {value:?} {errors:?} {} {}", errors[0], errors[1]);
        assert!(!shown.contains("hidden") && shown.contains("laws/court"), "{shown}");
        assert!(shown.contains("broken") && shown.contains("missing"), "{shown}");
    }
}
