//! Fetching: the one HTTP client, which reaches allowed addresses only, and a GET that streams a body into a spool.
//!
//! Every address is judged by [`AllowedAddresses`] before a connection is made: names inside the client's resolver,
//! address literals in the URL of the request and of every redirect. No proxy is used: it would resolve names itself.

mod addresses;
mod client;
mod error;
mod resolver;
mod retry_after;

use std::net::SocketAddr;
use std::time::Duration;

use http::{HeaderName, HeaderValue};
use jiff::Timestamp;
use store::blobs::SpooledBody;
use url::Url;

pub use addresses::AllowedAddresses;
pub use client::{ClientError, DEFAULT_USER_AGENT, Fetcher, guarded_client, install_crypto_provider};
pub use error::{FetchError, display_url};

/// What to fetch, and within which limits.
#[derive(Debug, Clone)]
pub struct FetchRequest {
    /// An `http` or `https` URL.
    pub url: Url,
    /// Headers to send besides the client's own. Those whose value is marked as sensitive ([`HeaderValue::set_sensitive`]),
    /// `Authorization`, `Cookie`, `Proxy-Authorization` and `Host` are not sent to another origin that a redirect leads to.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// Replaces [`DEFAULT_USER_AGENT`].
    pub user_agent: Option<HeaderValue>,
    /// For the whole of it: every redirect and the body.
    pub timeout: Duration,
    /// The size of the body, in bytes after decompression, above which it is given up.
    pub max_bytes: u64,
}

/// An answer with a 2xx status and its whole body.
#[derive(Debug)]
pub struct Fetched {
    /// Where the redirects led, without user name and password.
    pub final_url: Url,
    /// The HTTP status, 200 to 299.
    pub status: u16,
    /// The answer's headers in their order, names in lower case. `content-encoding` and `content-length` are absent when the
    /// body came compressed.
    pub headers: Vec<(String, String)>,
    /// The value of `content-type`.
    pub content_type: Option<String>,
    /// The body, decompressed.
    pub body: SpooledBody,
    /// The address that answered.
    pub remote_address: Option<SocketAddr>,
    /// When the answer's headers had arrived.
    pub fetched_at: Timestamp,
}
