//! The one HTTP client.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use hickory_resolver::net::NetError;
use http::Method;
use reqwest::redirect::Policy;
use reqwest::{Client, RequestBuilder};
use url::{Host, Url};

use super::error::display_url;
use super::resolver::GuardedResolver;
use super::{AllowedAddresses, FetchError};

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

/// A client that reaches allowed addresses only, knows no proxy and follows no redirect. Cloning is cheap; clones share
/// connections.
///
/// Names are judged by its resolver, which address literals do not pass through: these are judged before a request
/// begins, so that there is none that nobody judged.
#[derive(Debug, Clone)]
pub struct GuardedClient {
    client: Client,
    allowed: Arc<AllowedAddresses>,
}

impl GuardedClient {
    /// A client that reaches `allowed` addresses.
    pub fn new(allowed: AllowedAddresses) -> Result<Self, ClientError> {
        let allowed = Arc::new(allowed);
        let resolver = GuardedResolver::new(Arc::clone(&allowed)).map_err(ClientError::Resolver)?;
        Ok(Self { client: client_with(resolver)?, allowed })
    }

    /// One that asks these name servers instead of the system's; everything else is the same.
    pub fn with_name_servers(
        allowed: AllowedAddresses,
        name_servers: &[SocketAddr],
    ) -> Result<Self, ClientError> {
        let allowed = Arc::new(allowed);
        let resolver = GuardedResolver::with_name_servers(Arc::clone(&allowed), name_servers)
            .map_err(ClientError::Resolver)?;
        Ok(Self { client: client_with(resolver)?, allowed })
    }

    /// Begins a request, if the URL may be asked.
    pub(crate) fn request(&self, method: Method, url: &Url) -> Result<RequestBuilder, FetchError> {
        self.check(url)?;
        Ok(self.client.request(method, url.clone()))
    }

    /// Judges what the resolver does not see: the scheme and an address literal. (`Url` has turned all spellings of one,
    /// such as `0x7f.1`, into an address.)
    pub(super) fn check(&self, url: &Url) -> Result<(), FetchError> {
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
}

fn client_with(resolver: GuardedResolver) -> Result<Client, ClientError> {
    install_crypto_provider();
    Client::builder()
        .dns_resolver(resolver)
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
