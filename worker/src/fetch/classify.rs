//! Which [`FetchError`] an error of the HTTP client is.

use std::error::Error;
use std::io;

use url::Url;

use super::FetchError;
use super::error::display_url;
use super::resolver::ResolveError;

/// What the decoder of `deflate` says, and has no kind for, when its input ends too early.
const DEFLATE_CUT: &str = "unexpected BufError";

impl FetchError {
    /// Why no answer came to a request for `url`.
    pub(crate) fn from_request(url: &Url, error: reqwest::Error) -> Self {
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
        if find::<hyper::Error>(&source).is_some_and(hyper::Error::is_parse_too_large)
            || find::<h2::Error>(&source).is_some_and(is_of_headers)
        {
            return Self::HeadersTooLarge { url, source };
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
        if find::<io::Error>(&source).is_some_and(is_undecodable) {
            Self::DecompressionFailed { url, cause, source }
        } else {
            Self::BodyTruncated { url, cause, source }
        }
    }
}

/// What the library of HTTP/2 says, and has no kind for, of headers in more parts than it takes.
const HTTP_2_HEADERS_WITHOUT_END: &str = "too_many_continuations";

/// Whether an answer of HTTP/2 was refused for its headers: they are larger than the client said that it reads, or cannot be
/// such. What else breaks the protocol breaks the connection, and not one answer.
fn is_of_headers(error: &h2::Error) -> bool {
    let is_refused = error.is_reset() && error.reason() == Some(h2::Reason::PROTOCOL_ERROR);
    error.is_library() && (is_refused || error.to_string().contains(HTTP_2_HEADERS_WITHOUT_END))
}

/// Whether a decoder met bytes that it does not understand, rather than their end.
fn is_undecodable(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput | io::ErrorKind::Other)
        && error.to_string() != DEFLATE_CUT
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
