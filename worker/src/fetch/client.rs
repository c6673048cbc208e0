//! The one HTTP client.

use std::sync::Arc;
use std::time::Duration;

use hickory_resolver::net::NetError;
use reqwest::Client;
use reqwest::redirect::Policy;

use super::AllowedAddresses;
use super::resolver::GuardedResolver;

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

/// A client that resolves names to allowed addresses only, knows no proxy and follows no redirect.
///
/// Address literals do not pass through its resolver: [`Fetcher`](super::Fetcher) judges them, and so must any other user.
pub fn guarded_client(allowed: Arc<AllowedAddresses>) -> Result<Client, ClientError> {
    client_with(GuardedResolver::new(allowed).map_err(ClientError::Resolver)?)
}

pub(super) fn client_with(resolver: GuardedResolver) -> Result<Client, ClientError> {
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
