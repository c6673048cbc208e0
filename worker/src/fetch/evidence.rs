//! What is kept of headers: all but the secrets of the conversation.

use http::header::{
    AUTHORIZATION, COOKIE, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, SET_COOKIE, WWW_AUTHENTICATE,
};
use http::{HeaderMap, HeaderName, HeaderValue};

/// Stands in evidence for the value of a header that is a secret.
pub const NOT_KEPT: &str = "(not kept)";

const SECRETS_SENT: [HeaderName; 3] = [AUTHORIZATION, COOKIE, PROXY_AUTHORIZATION];

const SECRETS_RECEIVED: [HeaderName; 3] = [SET_COOKIE, WWW_AUTHENTICATE, PROXY_AUTHENTICATE];

pub(super) fn request_headers(headers: &HeaderMap) -> Vec<(String, String)> {
    without_secrets(headers, &SECRETS_SENT)
}

pub(super) fn answer_headers(headers: &HeaderMap) -> Vec<(String, String)> {
    without_secrets(headers, &SECRETS_RECEIVED)
}

fn without_secrets(headers: &HeaderMap, secrets: &[HeaderName]) -> Vec<(String, String)> {
    let kept = |(name, value): (&HeaderName, &HeaderValue)| {
        let is_secret = value.is_sensitive() || secrets.contains(name);
        (name.to_string(), if is_secret { NOT_KEPT.to_owned() } else { text(value) })
    };
    headers.iter().map(kept).collect()
}

/// Header values are bytes; those that are no UTF-8 are kept as far as they can be read.
pub(super) fn text(value: &HeaderValue) -> String {
    String::from_utf8_lossy(value.as_bytes()).into_owned()
}
