//! The page to try on: fetched as a worker fetches it, or read from a file.

use std::env;
use std::io;
use std::path::PathBuf;

use crds::{HeaderValue, ValidatedSource};
use http::HeaderName;
use http::header::{AUTHORIZATION, COOKIE};
use ipnet::IpNet;
use store::blobs::{BlobError, Spool};
use tokio::fs::File;
use tokio::io::AsyncReadExt;
use url::Url;
use worker::fetch::{AllowedAddresses, ClientError, FetchError, FetchRequest, Fetched, Fetcher, NoGate};
use worker::secrets::{SecretError, SecretName};

use super::Tried;
use crate::manifests::Manifests;

/// The largest file that is read, in bytes: workers parse no larger documents.
const LARGEST_FILE: u64 = 32 << 20;

/// A page.
pub(super) struct Page {
    /// Its URL, as it was asked for, or its path.
    pub(super) place: String,
    /// Of a page that was fetched.
    pub(super) answer: Option<Answer>,
    /// The content type that the server declared.
    pub(super) content_type: Option<String>,
    pub(super) bytes: Vec<u8>,
}

/// What a server answered.
pub(super) struct Answer {
    pub(super) status: u16,
    /// Where redirects led.
    pub(super) final_url: String,
}

/// The page cannot be had.
#[derive(Debug, thiserror::Error)]
pub(super) enum PageError {
    #[error("cannot read the page from {}", path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{} is larger than {} MiB", path.display(), LARGEST_FILE >> 20)]
    TooLarge { path: PathBuf },
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error(transparent)]
    Fetch(FetchError),
    // On a terminal, the administrator is who reads this.
    #[error("{0}; --allow-cidr opens it")]
    Closed(FetchError),
    #[error("the site answered 304 to a request without conditions")]
    NotModified,
    #[error("the page cannot be kept while it arrives")]
    Spool(#[from] BlobError),
    #[error(transparent)]
    Secret(#[from] SecretError),
    #[error("the header {name} of the source cannot be sent")]
    Header {
        name: String,
        #[source]
        source: http::Error,
    },
}

/// The page at a URL or in a file; of the source, where none is named.
pub(super) async fn get(
    place: Option<&str>,
    tried: &Tried,
    manifests: &Manifests,
    allowed: &[IpNet],
) -> Result<Page, PageError> {
    let source = &tried.source;
    match place {
        None => fetch(source.base_url.clone(), tried, manifests, allowed).await,
        Some(place) => match web_url(place) {
            Some(url) => fetch(url, tried, manifests, allowed).await,
            None => read(place.into()).await,
        },
    }
}

fn web_url(place: &str) -> Option<Url> {
    place.parse().ok().filter(|url: &Url| matches!(url.scheme(), "http" | "https"))
}

async fn read(path: PathBuf) -> Result<Page, PageError> {
    let failed = |source| PageError::Read { path: path.clone(), source };
    let file = File::open(&path).await.map_err(failed)?;
    let mut bytes = Vec::new();
    file.take(LARGEST_FILE + 1).read_to_end(&mut bytes).await.map_err(failed)?;
    if bytes.len() as u64 > LARGEST_FILE {
        return Err(PageError::TooLarge { path });
    }
    Ok(Page { place: path.display().to_string(), answer: None, content_type: None, bytes })
}

async fn fetch(url: Url, tried: &Tried, manifests: &Manifests, allowed: &[IpNet]) -> Result<Page, PageError> {
    let request = request(&url, tried, manifests)?;
    let fetcher = Fetcher::new(AllowedAddresses::with_networks(allowed.iter().copied()))?;
    let spool = Spool::open(env::temp_dir()).await?;
    let fetched = fetcher.get(&request, &spool, &NoGate).await.map_err(not_fetched)?;
    let Fetched::Body { exchange, body } = fetched else { return Err(PageError::NotModified) };
    let mut bytes = Vec::new();
    let reading = body.open().await?.read_to_end(&mut bytes).await;
    reading.map_err(|source| PageError::Read { path: env::temp_dir(), source })?;
    Ok(Page {
        place: url.into(),
        answer: Some(Answer { status: exchange.status, final_url: exchange.final_url.into() }),
        content_type: exchange.content_type,
        bytes,
    })
}

fn not_fetched(error: FetchError) -> PageError {
    if matches!(error, FetchError::AddressNotAllowed { .. }) {
        PageError::Closed(error)
    } else {
        PageError::Fetch(error)
    }
}

/// The source's headers go to the place of the source alone.
fn request(url: &Url, tried: &Tried, manifests: &Manifests) -> Result<FetchRequest, PageError> {
    let ValidatedSource { base_url, fetch, .. } = &tried.source;
    let invalid = |name: &str, error: http::Error| PageError::Header { name: name.to_owned(), source: error };
    let mut headers = Vec::new();
    if url.origin() == base_url.origin() {
        for header in &fetch.headers {
            let name: HeaderName = header
                .name
                .parse()
                .map_err(|error: http::header::InvalidHeaderName| invalid(&header.name, error.into()))?;
            let value = match &header.value {
                HeaderValue::Plain(text) => {
                    let value = http::HeaderValue::from_str(text);
                    let mut value = value.map_err(|error| invalid(&header.name, error.into()))?;
                    value.set_sensitive([AUTHORIZATION, COOKIE].contains(&name));
                    value
                }
                HeaderValue::Secret(reference) => {
                    let namespace = tried.name.namespace.clone();
                    let secret = SecretName { namespace, name: reference.name.clone() };
                    let values = manifests.secrets.get(&secret);
                    let values = values.ok_or_else(|| SecretError::NotFound { secret: secret.clone() })?;
                    values.get(&secret, &reference.key)?
                }
            };
            headers.push((name, value));
        }
    }
    let user_agent = fetch.user_agent.as_deref().map(http::HeaderValue::from_str).transpose();
    Ok(FetchRequest {
        url: url.clone(),
        headers,
        user_agent: user_agent.map_err(|error| invalid("User-Agent", error.into()))?,
        timeout: fetch.timeout,
        max_bytes: fetch.max_bytes,
        validators: None,
        validators_for: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_web_address_is_a_file() {
        for (place, is_url) in [
            ("https://court.example/opinions", true),
            ("HTTP://court.example", true),
            ("page.html", false),
            ("./http/page.html", false),
            ("file:///page.html", false),
            ("c:page.html", false),
        ] {
            assert_eq!(web_url(place).is_some(), is_url, "{place}");
        }
    }
}
