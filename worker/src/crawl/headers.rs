//! The headers that a source names.

use std::{collections::HashMap, sync::Arc};

use events::{HandlerError, run_reasons};
use http::{
    HeaderName, HeaderValue,
    header::{AUTHORIZATION, COOKIE},
};
use store::catalog::{HeaderSource, SourceSettings};

use crate::{
    secrets::{SecretError, SecretName, SecretReader, SecretValues},
    tools::permanent,
};

/// Values from Secrets, and those of headers that are credentials, are marked as sensitive. Secrets are read here, just
/// before the fetch: nothing else keeps them.
pub(super) async fn own_headers(
    source: &SourceSettings,
    namespace: &str,
    secrets: &dyn SecretReader,
) -> Result<Vec<(HeaderName, HeaderValue)>, HandlerError> {
    let invalid = |error: &dyn std::fmt::Display| permanent(run_reasons::INVALID_HEADER, error.to_string());
    // Each is read once, so that user and password are of one edition.
    let mut read: HashMap<&str, Arc<SecretValues>> = HashMap::new();
    let mut headers = Vec::with_capacity(source.headers.len());
    for setting in &source.headers {
        let name: HeaderName =
            setting.name.parse().map_err(|error: http::header::InvalidHeaderName| invalid(&error))?;
        let value = match &setting.value {
            HeaderSource::Plain(value) => {
                let mut value = HeaderValue::from_str(value).map_err(|error| invalid(&error))?;
                value.set_sensitive([AUTHORIZATION, COOKIE].contains(&name));
                value
            }
            HeaderSource::Secret { name, key } => {
                let secret = SecretName { namespace: namespace.to_owned(), name: name.clone() };
                if !read.contains_key(name.as_str()) {
                    read.insert(name, secrets.read(&secret).await.map_err(not_read)?);
                }
                read[name.as_str()].get(&secret, key).map_err(not_read)?
            }
        };
        headers.push((name, value));
    }
    Ok(headers)
}

fn not_read(error: SecretError) -> HandlerError {
    let reason = error.reason();
    if error.is_transient() {
        HandlerError::Transient { reason, retry_at: None, source: error.into() }
    } else {
        permanent(reason, error)
    }
}
