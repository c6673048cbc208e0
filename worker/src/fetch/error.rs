//! Why a fetch failed.

use events::run_reasons;
use jiff::Timestamp;
use store::blobs::BlobError;
use url::Url;

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

    /// A redirect to a URL that was asked before.
    #[error("could not fetch {url}: it redirects in a circle")]
    RedirectLoop {
        /// The URL that was come back to, shortened.
        url: String,
    },

    /// The headers of the answer are more, or longer, than are read.
    #[error("could not fetch {url}: the headers of its answer are too large")]
    HeadersTooLarge {
        /// The URL, shortened.
        url: String,
        /// The client's error.
        #[source]
        source: reqwest::Error,
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

    /// The body is compressed in a way that was not asked for. It was not read.
    #[error("could not fetch {url}: its body is encoded as {encoding}, which was not asked for")]
    UnknownEncoding {
        /// The URL, shortened.
        url: String,
        /// The value of `content-encoding`.
        encoding: String,
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

    /// The site's robots.txt asks not to fetch this.
    #[error("{url} is not fetched: the site's robots.txt disallows it")]
    RobotsDisallowed {
        /// The URL, shortened.
        url: String,
    },

    /// Whether the site allows it cannot be known yet (RFC 9309, section 2.3.1.4).
    #[error("{url} is not fetched: the site's robots.txt cannot be read: {problem}")]
    RobotsUnreachable {
        /// The URL, shortened.
        url: String,
        /// What came instead of it, fit to be shown.
        problem: String,
        /// When it is asked for again.
        retry_at: Timestamp,
    },

    /// Nothing failed: a [`Gate`](super::Gate) wants the request to be made later.
    #[error("it is to be fetched at {until} or later")]
    NotYet {
        /// When to ask the gate again.
        until: Timestamp,
    },

    /// A [`Gate`](super::Gate) could not judge, for a reason that has nothing to do with the site; it knows which.
    #[error("it could not be judged whether it may be fetched")]
    NotJudged,
}

/// When another try of a failed fetch is worth it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Retried {
    Yes,
    No,
    ByStatus(u16),
}

impl FetchError {
    /// The class of the failure, stable: for conditions, rows and metrics.
    pub fn reason(&self) -> &'static str {
        self.class().0
    }

    /// Whether the same fetch may well succeed a little later, so that it is worth another try in the same run.
    pub fn is_transient(&self) -> bool {
        match self.class().1 {
            Retried::Yes => true,
            Retried::No => false,
            Retried::ByStatus(status) => is_passing(status),
        }
    }

    /// The table of failures. docs/fetching.md has the same, which a test compares.
    fn class(&self) -> (&'static str, Retried) {
        use Retried::{ByStatus, No, Yes};
        match self {
            Self::InvalidUrl { .. } => (run_reasons::INVALID_URL, No),
            Self::SchemeNotAllowed { .. } => (run_reasons::SCHEME_NOT_ALLOWED, No),
            Self::AddressNotAllowed { .. } => (run_reasons::ADDRESS_NOT_ALLOWED, No),
            Self::RobotsDisallowed { .. } => (run_reasons::ROBOTS_DISALLOWED, No),
            Self::RobotsUnreachable { .. } => (run_reasons::ROBOTS_UNREACHABLE, Yes),
            Self::NotYet { .. } | Self::NotJudged => (run_reasons::NOT_YET, Yes),
            Self::HostNotFound { .. } => (run_reasons::HOST_NOT_FOUND, No),
            Self::DnsFailed { .. } => (run_reasons::DNS_FAILED, Yes),
            Self::ConnectFailed { .. } => (run_reasons::CONNECT_FAILED, Yes),
            Self::TlsFailed { .. } => (run_reasons::TLS_FAILED, No),
            Self::RequestFailed { .. } => (run_reasons::REQUEST_FAILED, Yes),
            Self::Timeout { .. } => (run_reasons::TIMEOUT, Yes),
            Self::TooManyRedirects { .. } => (run_reasons::TOO_MANY_REDIRECTS, No),
            Self::RedirectLoop { .. } => (run_reasons::REDIRECT_LOOP, No),
            Self::HeadersTooLarge { .. } => (run_reasons::HEADERS_TOO_LARGE, No),
            Self::Status { status, .. } => (run_reasons::HTTP_STATUS, ByStatus(*status)),
            Self::TooLarge { .. } => (run_reasons::TOO_LARGE, No),
            Self::BodyTruncated { .. } => (run_reasons::BODY_TRUNCATED, Yes),
            Self::DecompressionFailed { .. } => (run_reasons::DECOMPRESSION_FAILED, No),
            Self::UnknownEncoding { .. } => (run_reasons::UNKNOWN_ENCODING, No),
            Self::SpoolFailed { .. } => (run_reasons::SPOOL_FAILED, Yes),
        }
    }
}

/// Statuses of a site that has too much to do, or that something before it answers for.
pub(crate) fn is_passing(status: u16) -> bool {
    matches!(status, 408 | 425 | 429 | 500 | 502..=504 | 506..=599)
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
