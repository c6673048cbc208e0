//! The GET.

use std::future::Future;
use std::net::SocketAddr;
use std::time::Duration;

use events::spans::Span;
use http::header::{
    ACCEPT, ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_TYPE, IF_MODIFIED_SINCE, IF_NONE_MATCH, LOCATION,
    RETRY_AFTER, USER_AGENT,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use jiff::Timestamp;
use opentelemetry::{KeyValue, trace::SpanKind};
use reqwest::Response;
use store::blobs::{Spool, SpooledBody};
use tokio::time::{Instant, timeout};
use url::Url;

use super::error::{display_url, without_userinfo};
use super::evidence::{answer_headers, request_headers, text};
use super::{
    AllowedAddresses, ClientError, DEFAULT_USER_AGENT, Excess, Exchange, FetchError, FetchRequest, Fetched,
    Gate, GuardedClient, Redirect, retry_after,
};

/// How many redirects are followed.
pub const MAX_REDIRECTS: usize = 10;

const ANY_TYPE: HeaderValue = HeaderValue::from_static("*/*");

/// What the client can decompress.
const ENCODINGS: HeaderValue = HeaderValue::from_static("gzip, br, zstd, deflate");

/// Codings that hide a body, should one of them come in a way that the client does not undo, such as twice. Other words
/// in `content-encoding` are mistakes of the site, which browsers pass over too.
const COMPRESSIONS: [&str; 7] = ["gzip", "x-gzip", "deflate", "compress", "x-compress", "br", "zstd"];

/// Fetches documents. Cloning is cheap; clones share connections.
#[derive(Debug, Clone)]
pub struct Fetcher {
    client: GuardedClient,
}

impl Fetcher {
    /// A fetcher that reaches `allowed` addresses.
    pub fn new(allowed: AllowedAddresses) -> Result<Self, ClientError> {
        Ok(Self { client: GuardedClient::new(allowed)? })
    }

    /// One that asks these name servers instead of the system's; everything else is the same.
    pub fn with_name_servers(
        allowed: AllowedAddresses,
        name_servers: &[SocketAddr],
    ) -> Result<Self, ClientError> {
        Ok(Self { client: GuardedClient::with_name_servers(allowed, name_servers)? })
    }

    /// Gets a document, following redirects, and streams its body into `spool`.
    ///
    /// Redirects are followed here and not by the client: each URL is judged first, headers are kept from other origins,
    /// and validators from other URLs.
    pub async fn get(
        &self,
        request: &FetchRequest,
        spool: &Spool,
        gate: &dyn Gate,
    ) -> Result<Fetched, FetchError> {
        let mut time = TimeLeft { url: &request.url, left: request.timeout };
        let mut url = request.url.clone();
        let mut redirects = Vec::new();
        let mut seen = vec![resource(&url)];
        loop {
            self.client.check(&url)?;
            gate.judge(&url).await?;
            let conditional = conditional_headers(request, &url);
            let may_be_unmodified = !conditional.is_empty();
            let requested_at = Timestamp::now();
            let (request_headers, response) =
                time.spend(self.send(&url, headers(request, &url, conditional))).await?;
            let Some(redirect) = Followed::of(&url, &response)? else {
                let answer =
                    Answer { url, redirects, request_headers, requested_at, may_be_unmodified, response };
                return time.spend(answer.receive(request, spool)).await;
            };
            if seen.contains(&resource(&redirect.target)) {
                return Err(FetchError::RedirectLoop { url: display_url(&redirect.target) });
            }
            if redirects.len() == MAX_REDIRECTS {
                return Err(FetchError::TooManyRedirects {
                    url: display_url(&request.url),
                    limit: MAX_REDIRECTS,
                });
            }
            seen.push(resource(&redirect.target));
            redirects.push(redirect.evidence);
            url = redirect.target;
        }
    }

    /// The evidence of what was sent is taken from the very request that is.
    async fn send(
        &self,
        url: &Url,
        headers: HeaderMap,
    ) -> Result<(Vec<(String, String)>, Response), FetchError> {
        let failed = |error| FetchError::from_request(url, error);
        let (client, request) = self.client.request(Method::GET, url)?.headers(headers).build_split();
        let request = request.map_err(failed)?;
        let sent = request_headers(request.headers());
        let span = Span::child("GET", SpanKind::Client, || {
            vec![
                KeyValue::new("http.request.method", "GET"),
                KeyValue::new("server.address", url.host_str().unwrap_or_default().to_owned()),
                KeyValue::new("server.port", i64::from(url.port_or_known_default().unwrap_or_default())),
            ]
        });
        let response = span.around(client.execute(request)).await.map_err(failed);
        match &response {
            Ok(response) => span.set("http.response.status_code", i64::from(response.status().as_u16())),
            Err(error) => span.fail(error.reason()),
        }
        Ok((sent, response?))
    }
}

/// What is left of a request's time.
struct TimeLeft<'a> {
    url: &'a Url,
    left: Duration,
}

impl TimeLeft<'_> {
    async fn spend<T>(&mut self, work: impl Future<Output = Result<T, FetchError>>) -> Result<T, FetchError> {
        let begun = Instant::now();
        let outcome = timeout(self.left, work).await;
        self.left = self.left.saturating_sub(begun.elapsed());
        outcome.unwrap_or_else(|_| Err(FetchError::Timeout { url: display_url(self.url) }))
    }
}

/// A URL as far as a server gets to see it in a request line.
fn resource(url: &Url) -> Url {
    let mut url = without_userinfo(url.clone());
    url.set_fragment(None);
    url
}

/// All headers of a request for `url`.
fn headers(request: &FetchRequest, url: &Url, conditional: HeaderMap) -> HeaderMap {
    let mut headers = HeaderMap::new();
    if url.origin() == request.url.origin() {
        for (name, value) in &request.headers {
            headers.append(name, value.clone());
        }
    }
    headers.entry(USER_AGENT).or_insert(HeaderValue::from_static(DEFAULT_USER_AGENT));
    headers.entry(ACCEPT).or_insert(ANY_TYPE);
    headers.entry(ACCEPT_ENCODING).or_insert(ENCODINGS);
    if let Some(user_agent) = &request.user_agent {
        headers.insert(USER_AGENT, user_agent.clone());
    }
    headers.extend(conditional);
    headers
}

/// The headers that make a request for `url` conditional; none unless the validators are that URL's. A stored value that
/// cannot be a header's is passed over.
fn conditional_headers(request: &FetchRequest, url: &Url) -> HeaderMap {
    let mut headers = HeaderMap::new();
    let Some(validators) = &request.validators else { return headers };
    if resource(url) != resource(request.validators_for.as_ref().unwrap_or(&request.url)) {
        return headers;
    }
    for (name, value) in [(IF_NONE_MATCH, &validators.etag), (IF_MODIFIED_SINCE, &validators.last_modified)] {
        if let Some(Ok(value)) = value.as_deref().filter(|value| !value.is_empty()).map(HeaderValue::from_str)
        {
            headers.insert(name, value);
        }
    }
    headers
}

/// A redirect that is to be followed.
struct Followed {
    target: Url,
    evidence: Redirect,
}

impl Followed {
    /// The one that `response` is, if it is one.
    fn of(url: &Url, response: &Response) -> Result<Option<Self>, FetchError> {
        let status = response.status();
        let redirects = matches!(
            status,
            StatusCode::MOVED_PERMANENTLY
                | StatusCode::FOUND
                | StatusCode::SEE_OTHER
                | StatusCode::TEMPORARY_REDIRECT
                | StatusCode::PERMANENT_REDIRECT
        );
        let Some(location) = response.headers().get(LOCATION).filter(|_| redirects) else {
            return Ok(None);
        };
        let location = std::str::from_utf8(location.as_bytes()).ok();
        let Some((location, target)) =
            location.and_then(|location| Some((location, url.join(location).ok()?)))
        else {
            return Err(FetchError::InvalidUrl {
                url: display_url(url),
                problem: "it redirects to something that is not a URL".to_owned(),
            });
        };
        let has_userinfo = !target.username().is_empty() || target.password().is_some();
        let location =
            if has_userinfo { without_userinfo(target.clone()).into() } else { location.to_owned() };
        let evidence = Redirect { url: without_userinfo(url.clone()), status: status.as_u16(), location };
        Ok(Some(Self { target, evidence }))
    }
}

/// An answer that is no redirect, before its body.
struct Answer {
    url: Url,
    redirects: Vec<Redirect>,
    request_headers: Vec<(String, String)>,
    requested_at: Timestamp,
    may_be_unmodified: bool,
    response: Response,
}

impl Answer {
    async fn receive(self, request: &FetchRequest, spool: &Spool) -> Result<Fetched, FetchError> {
        let Self { url, redirects, request_headers, requested_at, may_be_unmodified, response } = self;
        let responded_at = Timestamp::now();
        let status = response.status();
        let is_unmodified = status == StatusCode::NOT_MODIFIED && may_be_unmodified;
        if !status.is_success() && !is_unmodified {
            let retry_after =
                header(&response, &RETRY_AFTER).and_then(|value| retry_after::parse(&value, responded_at));
            return Err(FetchError::Status { url: display_url(&url), status: status.as_u16(), retry_after });
        }
        let exchange = Exchange {
            final_url: without_userinfo(url.clone()),
            redirects,
            status: status.as_u16(),
            request_headers,
            headers: answer_headers(response.headers()),
            content_type: header(&response, &CONTENT_TYPE),
            remote_address: response.remote_addr(),
            requested_at,
            responded_at,
            finished_at: responded_at,
        };
        if is_unmodified {
            return Ok(Fetched::NotModified { exchange });
        }
        if let Some(encoding) = compression_left(&response) {
            return Err(FetchError::UnknownEncoding { url: display_url(&url), encoding });
        }
        let body = receive_body(&url, response, request, spool).await?;
        Ok(Fetched::Body { exchange: Exchange { finished_at: Timestamp::now(), ..exchange }, body })
    }
}

/// The client takes `content-encoding` away when it decompresses.
fn compression_left(response: &Response) -> Option<String> {
    let encoding = header(response, &CONTENT_ENCODING)?;
    let hides =
        |coding: &str| COMPRESSIONS.iter().any(|compression| compression.eq_ignore_ascii_case(coding.trim()));
    encoding.split(',').any(hides).then_some(encoding)
}

async fn receive_body(
    url: &Url,
    mut response: Response,
    request: &FetchRequest,
    spool: &Spool,
) -> Result<SpooledBody, FetchError> {
    let FetchRequest { max_bytes, excess, .. } = *request;
    let too_large = || FetchError::TooLarge { url: display_url(url), max_bytes };
    let not_kept = |source| FetchError::SpoolFailed { url: display_url(url), source };
    // Known only of a body that is not compressed.
    if excess == Excess::Refused && response.content_length().is_some_and(|length| length > max_bytes) {
        return Err(too_large());
    }
    let mut writer = spool.writer();
    while let Some(chunk) = response.chunk().await.map_err(|error| FetchError::from_body(url, error))? {
        let room = usize::try_from(max_bytes.saturating_sub(writer.byte_size())).unwrap_or(usize::MAX);
        let (fitting, rest) = chunk.split_at(room.min(chunk.len()));
        if !rest.is_empty() && excess == Excess::Refused {
            return Err(too_large());
        }
        writer.write(fitting).await.map_err(not_kept)?;
        if !rest.is_empty() {
            break;
        }
    }
    writer.finish().await.map_err(not_kept)
}

fn header(response: &Response, name: &HeaderName) -> Option<String> {
    response.headers().get(name).map(text)
}
