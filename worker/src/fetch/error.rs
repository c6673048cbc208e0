//! Why a fetch failed.

use std::error::Error;
use std::io;

use events::run_reasons;
use jiff::Timestamp;
use store::blobs::BlobError;
use url::Url;

use super::resolver::ResolveError;

/// Why a fetch failed. Messages name the URL without user name, password, query and fragment, so that they may be shown
/// in a status.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The URL, or one that a redirect named, is not usable.
    #[error("{url} cannot be fetched: {problem}")]
    InvalidUrl {
        /// The URL, shortened.
        url: String,
        /// What is wrong with it.
        problem: String,
    },

    /// Neither `http` nor `https`.
    #[error("{url} cannot be fetched: only http and https are")]
    SchemeNotAllowed {
        /// The URL, shortened.
        url: String,
    },

    /// The host is, or leads only to, addresses that are closed to workers.
    #[error(
        "could not fetch {url}: the address of {host} is not public, and the administrator has not opened its network"
    )]
    AddressNotAllowed {
        /// The URL, shortened.
        url: String,
        /// The host in it.
        host: String,
    },

    /// There is no such name, or it has no address.
    #[error("could not fetch {url}: no address is known for its host")]
    HostNotFound {
        /// The URL, shortened.
        url: String,
        /// The client's error.
        #[source]
        source: reqwest::Error,
    },

    /// The name servers did not answer, or not properly.
    #[error("could not fetch {url}: the address of its host could not be looked up")]
    DnsFailed {
        /// The URL, shortened.
        url: String,
        /// The client's error.
        #[source]
        source: reqwest::Error,
    },

    /// No connection was made.
    #[error("could not fetch {url}: no connection to its host: {cause}")]
    ConnectFailed {
        /// The URL, shortened.
        url: String,
        /// The innermost cause.
        cause: String,
        /// The client's error.
        #[source]
        source: reqwest::Error,
    },

    /// The host's certificate is not trusted, or there is no common ground for encryption.
    #[error("could not fetch {url}: no secure connection to its host: {cause}")]
    TlsFailed {
        /// The URL, shortened.
        url: String,
        /// What TLS says.
        cause: String,
        /// The client's error.
        #[source]
        source: reqwest::Error,
    },

    /// The connection broke before an answer came, or the answer is not HTTP.
    #[error("could not fetch {url}: no usable answer: {cause}")]
    RequestFailed {
        /// The URL, shortened.
        url: String,
        /// The innermost cause.
        cause: String,
        /// The client's error.
        #[source]
        source: reqwest::Error,
    },

    /// Connecting, the next bytes or all of it took too long.
    #[error("could not fetch {url}: it took too long")]
    Timeout {
        /// The URL, shortened.
        url: String,
    },

    /// Redirects without an end in sight.
    #[error("could not fetch {url}: more than {limit} redirects")]
    TooManyRedirects {
        /// The URL of the request, shortened.
        url: String,
        /// How many are followed.
        limit: usize,
    },

    /// An answer that is no document. Its body was not read.
    #[error("could not fetch {url}: HTTP status {status}")]
    Status {
        /// The URL, shortened.
        url: String,
        /// The HTTP status: not 2xx, and not a redirect that could be followed.
        status: u16,
        /// When the site wants to be asked again, if it says so.
        retry_after: Option<Timestamp>,
    },

    /// More bytes than the request allows.
    #[error("could not fetch {url}: its body is larger than {max_bytes} bytes, the limit for this source")]
    TooLarge {
        /// The URL, shortened.
        url: String,
        /// The limit.
        max_bytes: u64,
    },

    /// The connection ended before the body did.
    #[error("could not fetch {url}: its body ended early: {cause}")]
    BodyTruncated {
        /// The URL, shortened.
        url: String,
        /// The innermost cause.
        cause: String,
        /// The client's error.
        #[source]
        source: reqwest::Error,
    },

    /// The body is not compressed the way its headers say.
    #[error("could not fetch {url}: its body cannot be decompressed: {cause}")]
    DecompressionFailed {
        /// The URL, shortened.
        url: String,
        /// The innermost cause.
        cause: String,
        /// The client's error.
        #[source]
        source: reqwest::Error,
    },

    /// The body arrived but could not be kept.
    #[error("could not fetch {url}: its body could not be kept on this machine")]
    SpoolFailed {
        /// The URL, shortened.
        url: String,
        /// Why.
        #[source]
        source: BlobError,
    },
}

impl FetchError {
    /// The class of the failure, stable: for conditions, rows and metrics.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::InvalidUrl { .. } => run_reasons::INVALID_URL,
            Self::SchemeNotAllowed { .. } => run_reasons::SCHEME_NOT_ALLOWED,
            Self::AddressNotAllowed { .. } => run_reasons::ADDRESS_NOT_ALLOWED,
            Self::HostNotFound { .. } => run_reasons::HOST_NOT_FOUND,
            Self::DnsFailed { .. } => run_reasons::DNS_FAILED,
            Self::ConnectFailed { .. } => run_reasons::CONNECT_FAILED,
            Self::TlsFailed { .. } => run_reasons::TLS_FAILED,
            Self::RequestFailed { .. } => run_reasons::REQUEST_FAILED,
            Self::Timeout { .. } => run_reasons::TIMEOUT,
            Self::TooManyRedirects { .. } => run_reasons::TOO_MANY_REDIRECTS,
            Self::Status { .. } => run_reasons::HTTP_STATUS,
            Self::TooLarge { .. } => run_reasons::TOO_LARGE,
            Self::BodyTruncated { .. } => run_reasons::BODY_TRUNCATED,
            Self::DecompressionFailed { .. } => run_reasons::DECOMPRESSION_FAILED,
            Self::SpoolFailed { .. } => run_reasons::SPOOL_FAILED,
        }
    }

    /// Whether the same fetch may well succeed a little later, so that it is worth another try in the same run.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::DnsFailed { .. }
            | Self::ConnectFailed { .. }
            | Self::RequestFailed { .. }
            | Self::Timeout { .. }
            | Self::BodyTruncated { .. }
            | Self::SpoolFailed { .. } => true,
            Self::Status { status, .. } => matches!(status, 408 | 425 | 429 | 500 | 502..=504 | 506..=599),
            Self::InvalidUrl { .. }
            | Self::SchemeNotAllowed { .. }
            | Self::AddressNotAllowed { .. }
            | Self::HostNotFound { .. }
            | Self::TlsFailed { .. }
            | Self::TooManyRedirects { .. }
            | Self::TooLarge { .. }
            | Self::DecompressionFailed { .. } => false,
        }
    }

    /// Why no answer came to a request for `url`.
    pub(super) fn from_request(url: &Url, error: reqwest::Error) -> Self {
        let (url, source) = (display_url(url), error.without_url());
        match find::<ResolveError>(&source) {
            Some(ResolveError::NotAllowed { host }) => {
                return Self::AddressNotAllowed { url, host: host.clone() };
            }
            Some(ResolveError::NotFound { .. }) => return Self::HostNotFound { url, source },
            Some(ResolveError::Failed { .. }) => return Self::DnsFailed { url, source },
            None => {}
        }
        if source.is_timeout() {
            return Self::Timeout { url };
        }
        if let Some(tls) = find::<rustls::Error>(&source) {
            return Self::TlsFailed { url, cause: tls.to_string(), source };
        }
        let cause = root_cause(&source).to_string();
        if source.is_builder() {
            Self::InvalidUrl { url, problem: cause }
        } else if source.is_connect() {
            Self::ConnectFailed { url, cause, source }
        } else {
            Self::RequestFailed { url, cause, source }
        }
    }

    /// Why a body did not come to its end.
    pub(super) fn from_body(url: &Url, error: reqwest::Error) -> Self {
        let (url, source) = (display_url(url), error.without_url());
        if source.is_timeout() {
            return Self::Timeout { url };
        }
        let cause = root_cause(&source).to_string();
        let undecodable = find::<io::Error>(&source).is_some_and(|error| {
            matches!(
                error.kind(),
                io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput | io::ErrorKind::Other
            )
        });
        if undecodable {
            Self::DecompressionFailed { url, cause, source }
        } else {
            Self::BodyTruncated { url, cause, source }
        }
    }
}

/// A URL as it may be shown: without user name, password, query and fragment, where secrets are.
pub fn display_url(url: &Url) -> String {
    let mut shown = without_userinfo(url.clone());
    shown.set_query(None);
    shown.set_fragment(None);
    shown.into()
}

/// A URL that cannot have user name and password has none, so that taking them away cannot fail.
pub(super) fn without_userinfo(mut url: Url) -> Url {
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url
}

/// The first error of a type among an error and its causes.
fn find<'a, T: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a T> {
    let mut current = Some(error);
    while let Some(error) = current {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        current = cause(error);
    }
    None
}

fn root_cause<'a>(error: &'a (dyn Error + 'static)) -> &'a (dyn Error + 'static) {
    let mut root = error;
    while let Some(deeper) = cause(root) {
        root = deeper;
    }
    root
}

/// An I/O error that wraps another error names that one's cause as its own; this does not step over it.
fn cause<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a (dyn Error + 'static)> {
    match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
        Some(wrapped) => Some(wrapped),
        None => error.source(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn what_is_shown_of_a_url_holds_no_secret() {
        for (url, shown) in [
            ("https://user:pass@example.org/a/b?token=secret#part", "https://example.org/a/b"),
            ("http://token@example.org:8080", "http://example.org:8080/"),
            ("mailto:someone@example.org?subject=secret", "mailto:someone@example.org"),
        ] {
            assert_eq!(display_url(&url.parse().unwrap()), shown);
        }
    }

    #[test]
    fn only_passing_statuses_are_transient() {
        let transient =
            |status| FetchError::Status { url: String::new(), status, retry_after: None }.is_transient();
        for status in [408, 425, 429, 500, 502, 503, 504, 522] {
            assert!(transient(status), "{status}");
        }
        for status in [300, 304, 400, 401, 403, 404, 410, 451, 501, 505] {
            assert!(!transient(status), "{status}");
        }
    }
}
