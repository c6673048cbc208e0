//! Fetching: the one HTTP client, which reaches allowed addresses only, and a GET that streams a body into a spool and
//! keeps evidence of the exchange. docs/fetching.md says what holds of it.
//!
//! Every address is judged by [`AllowedAddresses`] before a connection is made: names inside the client's resolver,
//! address literals in the URL of the request and of every redirect. No proxy is used: it would resolve names itself.

mod addresses;
mod classify;
mod client;
mod error;
mod evidence;
mod fetcher;
mod resolver;
pub mod retry_after;

use std::net::SocketAddr;
use std::time::Duration;

use async_trait::async_trait;
use http::{HeaderName, HeaderValue};
use jiff::Timestamp;
use store::blobs::SpooledBody;
use url::Url;

pub use addresses::AllowedAddresses;
pub use client::{ClientError, DEFAULT_USER_AGENT, GuardedClient, install_crypto_provider};
pub(crate) use error::is_passing;
pub use error::{FetchError, display_url};
pub use evidence::NOT_KEPT;
pub use fetcher::{Fetcher, MAX_REDIRECTS};

/// What to fetch, and within which limits.
#[derive(Debug, Clone)]
pub struct FetchRequest {
    /// An `http` or `https` URL.
    pub url: Url,
    /// Headers to send besides the client's own, to the origin of `url` alone: not where a redirect leads to another one.
    /// Values that are marked as sensitive ([`HeaderValue::set_sensitive`]) are not kept as evidence.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// Replaces [`DEFAULT_USER_AGENT`].
    pub user_agent: Option<HeaderValue>,
    /// For the whole of it: every redirect and the body. The time that a [`Gate`] takes is not counted.
    pub timeout: Duration,
    /// The size of the body, in bytes after decompression, that is read at most.
    pub max_bytes: u64,
    /// What becomes of a body that is larger.
    pub excess: Excess,
    /// Of the answer that is stored already: sent as `If-None-Match` and `If-Modified-Since` (RFC 9110, section 13.1).
    pub validators: Option<Validators>,
    /// The URL whose answer had these validators: the `final_url` of then. They are sent to it alone, whether it is
    /// asked first or a redirect leads to it, for they mean nothing at another one. `None`: the request's own URL.
    pub validators_for: Option<Url>,
}

/// What becomes of a body that is larger than is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Excess {
    /// It is refused: [`FetchError::TooLarge`].
    Refused,
    /// Its beginning is all that there is of it.
    CutOff,
}

/// What an answer said of its own version.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Validators {
    /// The value of `ETag`, as it came.
    pub etag: Option<String>,
    /// The value of `Last-Modified`, as it came.
    pub last_modified: Option<String>,
}

/// What came of a request that did not fail.
#[derive(Debug)]
pub enum Fetched {
    /// An answer with a 2xx status and its whole body.
    Body {
        /// How it came.
        exchange: Exchange,
        /// The body, decompressed.
        body: SpooledBody,
    },
    /// The site answered 304 to the request's validators: what is stored is what it would send.
    NotModified {
        /// How that was said.
        exchange: Exchange,
    },
}

impl Fetched {
    /// The evidence of either.
    pub fn exchange(&self) -> &Exchange {
        match self {
            Self::Body { exchange, .. } | Self::NotModified { exchange } => exchange,
        }
    }
}

/// The evidence of a fetch: the way to the URL that answered, what it was asked and what it said. URLs are without user
/// name and password; their query is kept, and must not be logged.
#[derive(Debug, Clone)]
pub struct Exchange {
    /// Where the redirects led.
    pub final_url: Url,
    /// The redirects that were followed, in their order.
    pub redirects: Vec<Redirect>,
    /// The HTTP status: 200 to 299, or 304.
    pub status: u16,
    /// The headers that `final_url` was sent, names in lower case; `Host` and what the connection needs come on top. The
    /// values of secrets are [`NOT_KEPT`].
    pub request_headers: Vec<(String, String)>,
    /// The answer's headers in their order, names in lower case. `content-encoding` and `content-length` are absent when
    /// the body came compressed; the values of `set-cookie` and of challenges are [`NOT_KEPT`].
    pub headers: Vec<(String, String)>,
    /// The value of `content-type`.
    pub content_type: Option<String>,
    /// The address that answered.
    pub remote_address: Option<SocketAddr>,
    /// When `final_url` was asked.
    pub requested_at: Timestamp,
    /// When the answer's headers had arrived.
    pub responded_at: Timestamp,
    /// When all of the body had arrived.
    pub finished_at: Timestamp,
}

/// A redirect that was followed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Redirect {
    /// The URL that redirected.
    pub url: Url,
    /// Its HTTP status: 301, 302, 303, 307 or 308.
    pub status: u16,
    /// The value of `location`, as it came unless it held a user name or password.
    pub location: String,
}

/// Has a say before each request: robots.txt, politeness.
#[async_trait]
pub trait Gate: Send + Sync {
    /// Judges each URL before a request is made for it: the first one and each redirect's. Scheme and address literal
    /// have been found to be allowed. An error ends the fetch with it.
    async fn judge(&self, url: &Url) -> Result<(), FetchError>;
}

/// Lets every URL pass.
#[derive(Debug, Clone, Copy)]
pub struct NoGate;

#[async_trait]
impl Gate for NoGate {
    async fn judge(&self, _: &Url) -> Result<(), FetchError> {
        Ok(())
    }
}
