//! How a source is asked for one of its URLs: the one place that says which headers are sent, and where.

use std::{collections::HashMap, sync::Arc, time::Duration};

use http::{
    HeaderName, HeaderValue,
    header::{AUTHORIZATION, COOKIE, InvalidHeaderName, InvalidHeaderValue},
};
use store::catalog::{HeaderSetting, HeaderSource, SourceSettings};
use url::Url;

use crate::{
    fetch::{Excess, FetchRequest},
    secrets::{SecretError, SecretName, SecretReader, SecretValues},
};

/// Why a source cannot be asked. Messages hold no header's value.
#[derive(Debug, thiserror::Error)]
pub enum SourceRequestError {
    /// What is kept as the source's URL is none. What passed the operator does not come to this.
    #[error("the source's URL cannot be used")]
    BaseUrl(#[from] url::ParseError),
    /// A header's name or value is none that HTTP has.
    #[error("the header {name} of the source cannot be sent")]
    Header {
        /// The header's name.
        name: String,
        /// What is wrong with it.
        #[source]
        source: http::Error,
    },
    /// A Secret could not be read, or has no such value.
    #[error(transparent)]
    Secret(#[from] SecretError),
}

/// The request for `url` of a source in `namespace`, without conditions. The source's own headers go to the place that it has
/// now, and nowhere else. Values from Secrets, and those of headers that are credentials, are marked as sensitive. Secrets
/// are read here, just before the fetch: nothing else keeps them.
///
/// # Errors
/// When a header cannot be sent or a Secret cannot be read.
pub async fn source_request(
    source: &SourceSettings,
    namespace: &str,
    url: Url,
    secrets: &dyn SecretReader,
) -> Result<FetchRequest, SourceRequestError> {
    let base_url: Url = source.base_url.parse()?;
    let headers = if url.origin() == base_url.origin() {
        own_headers(&source.headers, namespace, secrets).await?
    } else {
        Vec::new()
    };
    Ok(FetchRequest {
        url,
        headers,
        user_agent: source.user_agent.as_deref().map(|text| plain("User-Agent", text)).transpose()?,
        timeout: Duration::from_millis(source.timeout_ms),
        max_bytes: source.max_bytes,
        excess: Excess::Refused,
        validators: None,
        validators_for: None,
    })
}

async fn own_headers(
    settings: &[HeaderSetting],
    namespace: &str,
    secrets: &dyn SecretReader,
) -> Result<Vec<(HeaderName, HeaderValue)>, SourceRequestError> {
    // Each is read once, so that user and password are of one edition.
    let mut read: HashMap<&str, Arc<SecretValues>> = HashMap::new();
    let mut headers = Vec::with_capacity(settings.len());
    for setting in settings {
        let name: HeaderName =
            setting.name.parse().map_err(|error: InvalidHeaderName| invalid(&setting.name, error.into()))?;
        let value = match &setting.value {
            HeaderSource::Plain(text) => {
                let mut value = plain(&setting.name, text)?;
                value.set_sensitive([AUTHORIZATION, COOKIE].contains(&name));
                value
            }
            HeaderSource::Secret { name, key } => {
                let secret = SecretName { namespace: namespace.to_owned(), name: name.clone() };
                if !read.contains_key(name.as_str()) {
                    read.insert(name, secrets.read(&secret).await?);
                }
                read[name.as_str()].get(&secret, key)?
            }
        };
        headers.push((name, value));
    }
    Ok(headers)
}

fn plain(name: &str, text: &str) -> Result<HeaderValue, SourceRequestError> {
    HeaderValue::from_str(text).map_err(|error: InvalidHeaderValue| invalid(name, error.into()))
}

fn invalid(name: &str, source: http::Error) -> SourceRequestError {
    SourceRequestError::Header { name: name.to_owned(), source }
}
