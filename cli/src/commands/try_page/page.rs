//! The page to try on: fetched as a worker fetches it, or read from a file.

use std::env;
use std::io;
use std::path::PathBuf;

use ipnet::IpNet;
use operator::source_settings;
use store::blobs::{BlobError, Spool};
use tokio::fs::File;
use tokio::io::AsyncReadExt;
use url::Url;
use worker::fetch::{AllowedAddresses, ClientError, FetchError, Fetched, Fetcher, NoGate};
use worker::{SourceRequestError, source_request};

use super::Tried;
use crate::local::secrets::ManifestSecrets;
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
    Request(#[from] SourceRequestError),
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
    let secrets = ManifestSecrets::default();
    secrets.update(manifests);
    let settings = source_settings(tried.source.clone());
    let request = source_request(&settings, &tried.name.namespace, url.clone(), &secrets).await?;
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
