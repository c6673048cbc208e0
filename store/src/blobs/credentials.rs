//! Credentials for the object store, from the environment or from a file.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};

use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::future;
use aws_sdk_s3::config::{Credentials, ProvideCredentials, SharedCredentialsProvider};

use super::BlobError;

const ACCESS_KEY: &str = "AWS_ACCESS_KEY_ID";
const SECRET_KEY: &str = "AWS_SECRET_ACCESS_KEY";
const SESSION_TOKEN: &str = "AWS_SESSION_TOKEN";

/// Where the access key and the secret key come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum S3Credentials {
    /// `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY` and, if set, `AWS_SESSION_TOKEN`, as the process was started with.
    Environment,
    /// An AWS shared credentials file: section `[default]` with `aws_access_key_id`, `aws_secret_access_key` and, if
    /// needed, `aws_session_token`. It is read for every request, so that keys can be rotated in a mounted Secret.
    File(PathBuf),
}

impl S3Credentials {
    pub(super) fn provider(&self) -> Result<SharedCredentialsProvider, BlobError> {
        match self {
            Self::Environment => {
                let keys = from_variables(|name| std::env::var(name).ok())?;
                Ok(SharedCredentialsProvider::new(keys))
            }
            Self::File(path) => Ok(SharedCredentialsProvider::new(CredentialsFile(path.clone()))),
        }
    }
}

fn from_variables(variable: impl Fn(&str) -> Option<String>) -> Result<Credentials, BlobError> {
    let required = |name: &str| {
        variable(name).filter(|value| !value.is_empty()).ok_or_else(|| {
            BlobError::Configuration(format!(
                "the environment variable {name} is not set; set it, or name a credentials file"
            ))
        })
    };
    let token = variable(SESSION_TOKEN).filter(|value| !value.is_empty());
    Ok(Credentials::new(required(ACCESS_KEY)?, required(SECRET_KEY)?, token, None, "environment"))
}

#[derive(Debug)]
struct CredentialsFile(PathBuf);

impl CredentialsFile {
    async fn read(&self) -> Result<Credentials, CredentialsError> {
        read_file(&self.0).await.map_err(CredentialsError::provider_error)
    }
}

impl ProvideCredentials for CredentialsFile {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::new(self.read())
    }
}

async fn read_file(path: &Path) -> Result<Credentials, BlobError> {
    let failed = |source| BlobError::CredentialsFile { path: path.to_owned(), source };
    let text = tokio::fs::read_to_string(path).await.map_err(failed)?;
    parse_file(&text).map_err(|reason| failed(io::Error::new(io::ErrorKind::InvalidData, reason)))
}

fn parse_file(text: &str) -> Result<Credentials, String> {
    let mut in_default = false;
    let mut keys = HashMap::new();
    for line in text.lines().map(str::trim) {
        if line.starts_with('[') {
            in_default = line == "[default]";
        } else if in_default
            && !line.starts_with(['#', ';'])
            && let Some((name, value)) = line.split_once('=')
        {
            keys.insert(name.trim(), value.trim());
        }
    }
    let key = |name: &str| keys.get(name).filter(|value| !value.is_empty()).map(|value| (*value).to_owned());
    let required = |name: &str| key(name).ok_or_else(|| format!("section [default] has no {name}"));
    Ok(Credentials::new(
        required("aws_access_key_id")?,
        required("aws_secret_access_key")?,
        key("aws_session_token"),
        None,
        "file",
    ))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn the_default_section_is_read() {
        let text = "# rotated weekly\n[other]\naws_access_key_id = no\n\n[default]\naws_access_key_id = AKIA\n; note\naws_secret_access_key=a=b/c+\n[last]\naws_session_token = no\n";
        let keys = parse_file(text).unwrap();
        assert_eq!(
            (keys.access_key_id(), keys.secret_access_key(), keys.session_token()),
            ("AKIA", "a=b/c+", None)
        );
        let keys = parse_file(
            "[default]\r\naws_access_key_id=a\r\naws_secret_access_key=b\r\naws_session_token=c\r\n",
        )
        .unwrap();
        assert_eq!((keys.secret_access_key(), keys.session_token()), ("b", Some("c")));
    }

    #[test]
    fn what_is_missing_is_named() {
        assert_eq!(parse_file("").unwrap_err(), "section [default] has no aws_access_key_id");
        assert_eq!(
            parse_file("aws_access_key_id=a\naws_secret_access_key=b").unwrap_err(),
            "section [default] has no aws_access_key_id"
        );
        assert_eq!(
            parse_file("[default]\naws_access_key_id=a\naws_secret_access_key=").unwrap_err(),
            "section [default] has no aws_secret_access_key"
        );
    }

    #[test]
    fn variables_are_read_and_what_is_missing_is_named() {
        let keys = from_variables(|name| Some(format!("value of {name}"))).unwrap();
        assert_eq!(keys.access_key_id(), "value of AWS_ACCESS_KEY_ID");
        assert_eq!(keys.session_token(), Some("value of AWS_SESSION_TOKEN"));

        let error = from_variables(|name| (name != SECRET_KEY).then(|| "x".to_owned())).unwrap_err();
        assert!(error.to_string().contains(SECRET_KEY), "{error}");
    }

    #[tokio::test]
    async fn an_unreadable_file_is_named() {
        let error = read_file(Path::new("/nonexistent/credentials")).await.unwrap_err();
        assert!(error.to_string().contains("/nonexistent/credentials"), "{error}");
    }
}
