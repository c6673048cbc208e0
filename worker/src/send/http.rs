//! A POST of JSON and as much of its answer as is kept.

use changes::{Outcome, outcome_of};
use events::run_reasons;
use http::{
    HeaderMap, HeaderValue, Method,
    header::{CONTENT_TYPE, RETRY_AFTER},
};
use jiff::Timestamp;
use reqwest::Response;
use tokio::time::{Instant, timeout_at};
use url::Url;

use super::{
    Answer, SendError, Sender,
    excerpt::{Hidden, READ},
};
use crate::fetch::{FetchError, retry_after};

/// As much of a body (bytes) as is read: by the last one it is seen that there is more than is looked at.
const MOST: usize = READ + 1;

const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// What is posted where.
pub(super) struct Post<'a> {
    pub(super) url: &'a Url,
    /// Besides the content type and the client's own.
    pub(super) headers: HeaderMap,
    pub(super) json: Vec<u8>,
    /// What of the answer is not kept.
    pub(super) hidden: Hidden,
}

/// An answer of any status.
pub(super) struct HttpAnswer {
    pub(super) status: u16,
    /// From its `Retry-After`.
    pub(super) retry_after: Option<Timestamp>,
    /// The beginning of its body, fit to be kept.
    pub(super) body: String,
}

impl Sender {
    /// Posts, and waits for the answer no longer than it may take.
    pub(super) async fn post(&self, post: Post<'_>, now: Timestamp) -> Result<HttpAnswer, SendError> {
        let deadline = Instant::now() + self.answer_within;
        let no_answer = |error: &FetchError| SendError::NoAnswer {
            why: why(error, post.url.host_str().unwrap_or_default()),
            reason: error.reason(),
        };
        let request = self.client.request(Method::POST, post.url).map_err(|error| no_answer(&error))?;
        let request = request.headers(post.headers).header(CONTENT_TYPE, JSON).body(post.json);
        let mut response = match timeout_at(deadline, request.send()).await {
            Ok(Ok(response)) => response,
            Ok(Err(error)) => return Err(no_answer(&FetchError::from_request(post.url, error))),
            Err(_) => return Err(no_answer(&FetchError::Timeout { url: String::new() })),
        };
        let status = response.status().as_u16();
        let retry_after = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok());
        let retry_after = retry_after.and_then(|value| retry_after::parse(value, now));
        let mut body = Vec::new();
        // The status has been said. A body that breaks off or drips changes nothing about it.
        let _ = timeout_at(deadline, read_beginning(&mut response, &mut body)).await;
        let body = post.hidden.excerpt(&String::from_utf8_lossy(&body));
        Ok(HttpAnswer { status, retry_after, body })
    }
}

async fn read_beginning(response: &mut Response, body: &mut Vec<u8>) -> Result<(), reqwest::Error> {
    while body.len() < MOST
        && let Some(chunk) = response.chunk().await?
    {
        body.extend_from_slice(&chunk[..chunk.len().min(MOST - body.len())]);
    }
    Ok(())
}

impl From<HttpAnswer> for Answer {
    fn from(answer: HttpAnswer) -> Self {
        let HttpAnswer { status, retry_after, body } = answer;
        let outcome = outcome_of(status, retry_after);
        let reason = match outcome {
            Outcome::Delivered => run_reasons::DELIVERED,
            Outcome::TargetGone => run_reasons::TARGET_GONE,
            Outcome::Retry { .. } => run_reasons::HTTP_STATUS,
        };
        let detail = match outcome {
            Outcome::Delivered => body,
            _ if (300..400).contains(&status) => {
                format!("HTTP status {status}: redirects are not followed")
            }
            _ if body.is_empty() => format!("HTTP status {status}"),
            _ => Hidden::default().excerpt(&format!("HTTP status {status}: {body}")),
        };
        Self { outcome, status: Some(status), detail, reason }
    }
}

/// Why there is no answer, of which no more than the host is named: a URL may be a credential.
fn why(error: &FetchError, host: &str) -> String {
    match error {
        FetchError::InvalidUrl { problem, .. } => format!("the target's URL cannot be used: {problem}"),
        FetchError::SchemeNotAllowed { .. } => "the target's URL is neither http nor https".to_owned(),
        FetchError::AddressNotAllowed { .. } => format!(
            "nothing was sent to {host}: its address is not public, and the administrator has not opened its network"
        ),
        FetchError::HostNotFound { .. } => format!("no address is known for {host}"),
        FetchError::DnsFailed { .. } => format!("the address of {host} could not be looked up"),
        FetchError::ConnectFailed { cause, .. } => format!("no connection to {host}: {cause}"),
        FetchError::TlsFailed { cause, .. } => format!("no secure connection to {host}: {cause}"),
        FetchError::HeadersTooLarge { .. } => format!("the headers of the answer of {host} are too large"),
        FetchError::Timeout { .. } => format!("{host} did not answer in time"),
        FetchError::RequestFailed { cause, .. } => format!("no usable answer from {host}: {cause}"),
        // What else may go wrong with a fetch does so behind its request.
        _ => format!("no usable answer from {host}"),
    }
}
