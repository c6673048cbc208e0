//! The one HTTP client, and the GET.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use hickory_resolver::net::NetError;
use http::header::{
    AUTHORIZATION, CONTENT_TYPE, COOKIE, HOST, LOCATION, PROXY_AUTHORIZATION, RETRY_AFTER, USER_AGENT,
};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use jiff::Timestamp;
use reqwest::redirect::Policy;
use reqwest::{Client, Response};
use store::blobs::{Spool, SpooledBody};
use tokio::time::timeout;
use url::{Host, Url};

use super::error::{display_url, without_userinfo};
use super::resolver::GuardedResolver;
use super::{AllowedAddresses, FetchError, FetchRequest, Fetched, retry_after};

/// What a site's log shows of Tipstaff; `Tipstaff` is the product token that robots.txt names.
pub const DEFAULT_USER_AGENT: &str =
    concat!("Tipstaff/", env!("CARGO_PKG_VERSION"), " (+https://tipstaff.dev/bot)");

/// The look-up of the name, the connection and TLS.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Between two reads.
const READ_TIMEOUT: Duration = Duration::from_secs(30);

/// A host is asked politely, one request after the other: more idle connections to it would not be used.
const IDLE_CONNECTIONS_PER_HOST: usize = 2;

const IDLE_CONNECTION_TIMEOUT: Duration = Duration::from_secs(30);

const MAX_REDIRECTS: usize = 10;

/// Why there is no HTTP client.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The system's resolver configuration cannot be used.
    #[error("cannot resolve host names: /etc/resolv.conf is missing or cannot be understood")]
    Resolver(#[source] NetError),
    /// The client cannot be built; the usual cause is that no root certificates are installed.
    #[error(
        "cannot build the HTTP client; are root certificates installed (package ca-certificates, or SSL_CERT_FILE)?"
    )]
    Client(#[source] reqwest::Error),
}

/// Makes ring the process's TLS provider, unless one has been chosen. To be called at the start of every binary.
pub fn install_crypto_provider() {
    // The error says only that there is one already.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// A client that resolves names to allowed addresses only, knows no proxy and follows no redirect.
///
/// Address literals do not pass through its resolver: [`Fetcher`] judges them, and so must any other user.
pub fn guarded_client(allowed: Arc<AllowedAddresses>) -> Result<Client, ClientError> {
    install_crypto_provider();
    Client::builder()
        .dns_resolver(GuardedResolver::new(allowed).map_err(ClientError::Resolver)?)
        // A proxy named in the environment would look up names itself, and reach what we must not.
        .no_proxy()
        .redirect(Policy::none())
        .connect_timeout(CONNECT_TIMEOUT)
        .read_timeout(READ_TIMEOUT)
        .pool_max_idle_per_host(IDLE_CONNECTIONS_PER_HOST)
        .pool_idle_timeout(IDLE_CONNECTION_TIMEOUT)
        .gzip(true)
        .brotli(true)
        .deflate(true)
        .zstd(true)
        .user_agent(DEFAULT_USER_AGENT)
        .build()
        .map_err(ClientError::Client)
}

/// Fetches documents. Cloning is cheap; clones share connections.
#[derive(Debug, Clone)]
pub struct Fetcher {
    client: Client,
    allowed: Arc<AllowedAddresses>,
}

impl Fetcher {
    /// A fetcher that reaches `allowed` addresses.
    pub fn new(allowed: AllowedAddresses) -> Result<Self, ClientError> {
        let allowed = Arc::new(allowed);
        Ok(Self { client: guarded_client(Arc::clone(&allowed))?, allowed })
    }

    /// Gets a document, following redirects, and streams its body into `spool`.
    pub async fn get(&self, request: &FetchRequest, spool: &Spool) -> Result<Fetched, FetchError> {
        match timeout(request.timeout, self.follow(request, spool)).await {
            Ok(outcome) => outcome,
            Err(_) => Err(FetchError::Timeout { url: display_url(&request.url) }),
        }
    }

    /// Redirects are followed here and not by the client: each hop is judged first, and secrets are kept from other origins.
    async fn follow(&self, request: &FetchRequest, spool: &Spool) -> Result<Fetched, FetchError> {
        let mut url = request.url.clone();
        for _ in 0..=MAX_REDIRECTS {
            self.check(&url)?;
            let response = self.send(request, &url).await?;
            match redirect_target(&url, &response)? {
                Some(target) => url = target,
                None => return receive(request, url, response, spool).await,
            }
        }
        Err(FetchError::TooManyRedirects { url: display_url(&request.url), limit: MAX_REDIRECTS })
    }

    /// Judges what the client would not: the scheme and an address literal. (`Url` has turned all spellings of one,
    /// such as `0x7f.1`, into an address.)
    fn check(&self, url: &Url) -> Result<(), FetchError> {
        if !matches!(url.scheme(), "http" | "https") {
            return Err(FetchError::SchemeNotAllowed { url: display_url(url) });
        }
        let address = match url.host() {
            Some(Host::Ipv4(address)) => IpAddr::V4(address),
            Some(Host::Ipv6(address)) => IpAddr::V6(address),
            Some(Host::Domain(_)) => return Ok(()),
            None => {
                return Err(FetchError::InvalidUrl {
                    url: display_url(url),
                    problem: "it has no host".to_owned(),
                });
            }
        };
        if self.allowed.permits(address) {
            Ok(())
        } else {
            Err(FetchError::AddressNotAllowed { url: display_url(url), host: address.to_string() })
        }
    }

    async fn send(&self, request: &FetchRequest, url: &Url) -> Result<Response, FetchError> {
        let same_origin = url.origin() == request.url.origin();
        let mut headers = HeaderMap::new();
        for (name, value) in &request.headers {
            if same_origin || !is_for_origin_only(name, value) {
                headers.append(name, value.clone());
            }
        }
        if let Some(user_agent) = &request.user_agent {
            headers.insert(USER_AGENT, user_agent.clone());
        }
        self.client
            .get(url.clone())
            .headers(headers)
            .send()
            .await
            .map_err(|error| FetchError::from_request(url, error))
    }
}

fn is_for_origin_only(name: &HeaderName, value: &HeaderValue) -> bool {
    value.is_sensitive() || [AUTHORIZATION, COOKIE, PROXY_AUTHORIZATION, HOST].contains(name)
}

fn redirect_target(url: &Url, response: &Response) -> Result<Option<Url>, FetchError> {
    let redirects = matches!(
        response.status(),
        StatusCode::MOVED_PERMANENTLY
            | StatusCode::FOUND
            | StatusCode::SEE_OTHER
            | StatusCode::TEMPORARY_REDIRECT
            | StatusCode::PERMANENT_REDIRECT
    );
    let Some(location) = response.headers().get(LOCATION).filter(|_| redirects) else {
        return Ok(None);
    };
    let target = std::str::from_utf8(location.as_bytes()).ok().and_then(|location| url.join(location).ok());
    match target {
        Some(target) => Ok(Some(target)),
        None => Err(FetchError::InvalidUrl {
            url: display_url(url),
            problem: "it redirects to something that is not a URL".to_owned(),
        }),
    }
}

async fn receive(
    request: &FetchRequest,
    url: Url,
    response: Response,
    spool: &Spool,
) -> Result<Fetched, FetchError> {
    let fetched_at = Timestamp::now();
    let status = response.status();
    if !status.is_success() {
        let retry_after =
            header(&response, &RETRY_AFTER).and_then(|value| retry_after::parse(&value, fetched_at));
        return Err(FetchError::Status { url: display_url(&url), status: status.as_u16(), retry_after });
    }
    let headers = response.headers().iter().map(|(name, value)| (name.to_string(), text(value))).collect();
    let content_type = header(&response, &CONTENT_TYPE);
    let remote_address = response.remote_addr();
    let body = receive_body(&url, response, request.max_bytes, spool).await?;
    Ok(Fetched {
        final_url: without_userinfo(url),
        status: status.as_u16(),
        headers,
        content_type,
        body,
        remote_address,
        fetched_at,
    })
}

async fn receive_body(
    url: &Url,
    mut response: Response,
    max_bytes: u64,
    spool: &Spool,
) -> Result<SpooledBody, FetchError> {
    let too_large = || FetchError::TooLarge { url: display_url(url), max_bytes };
    let not_kept = |source| FetchError::SpoolFailed { url: display_url(url), source };
    // Known only of a body that is not compressed.
    if response.content_length().is_some_and(|length| length > max_bytes) {
        return Err(too_large());
    }
    let mut writer = spool.writer();
    while let Some(chunk) = response.chunk().await.map_err(|error| FetchError::from_body(url, error))? {
        if writer.byte_size() + chunk.len() as u64 > max_bytes {
            return Err(too_large());
        }
        writer.write(&chunk).await.map_err(not_kept)?;
    }
    writer.finish().await.map_err(not_kept)
}

fn header(response: &Response, name: &HeaderName) -> Option<String> {
    response.headers().get(name).map(text)
}

/// Header values are bytes; those that are no UTF-8 are kept as far as they can be read.
fn text(value: &HeaderValue) -> String {
    String::from_utf8_lossy(value.as_bytes()).into_owned()
}
