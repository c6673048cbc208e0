//! A site on this machine, and a fetcher that may reach it.

use std::io::Write;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use futures::Stream;
use store::blobs::{Spool, SpooledBody};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::Notify;
use worker::fetch::{AllowedAddresses, Excess, Exchange, FetchError, FetchRequest, Fetched, Fetcher, NoGate};

pub(crate) const PAGE: &str = "<html><body>An opinion</body></html>";
pub(crate) const PAGE_SHA256: &str = "3d4b8d87c499625f8ecf94942d8321003dbb468ebabc41350eb907c8e57ecfa2";
pub(crate) const MAX_BYTES: u64 = 1024 * 1024;
pub(crate) const LONG_ENOUGH: Duration = Duration::from_secs(20);

/// A server on a free port of 127.0.0.1, with what it was asked.
pub(crate) struct Site {
    pub(crate) address: SocketAddr,
    pub(crate) seen: Arc<Seen>,
}

#[derive(Default)]
pub(crate) struct Seen {
    pub(crate) requests: AtomicUsize,
    pub(crate) stream_ended: Notify,
}

impl Site {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Seen::default());
        let router = Router::new()
            .route("/page", get(|| async { ([(header::CONTENT_TYPE, "text/html; charset=utf-8")], PAGE) }))
            .route("/gzip", get(|| async { compressed(PAGE.as_bytes()) }))
            .route("/bomb", get(|| async { compressed(&vec![0; 10 * MAX_BYTES as usize]) }))
            .route("/not-gzip", get(|| async { ([(header::CONTENT_ENCODING, "gzip")], PAGE) }))
            .route("/cut-gzip", get(cut_gzip))
            .route("/endless", get(endless))
            .route("/large", get(|| async { vec![0_u8; MAX_BYTES as usize + 1] }))
            .route("/exact", get(|| async { vec![0_u8; MAX_BYTES as usize] }))
            .route("/echo", get(echo))
            .route("/to/{*target}", get(redirect))
            .route("/to-user", get(to_user))
            .route("/loop", get(|| async { to("/loop") }))
            .route("/hops/{left}", get(hops))
            .route("/circle/{at}", get(circle))
            .route("/versioned", get(versioned))
            .route("/always-304", get(|| async { StatusCode::NOT_MODIFIED }))
            .route("/masked", get(secrets))
            .route(
                "/busy",
                get(|| async { (StatusCode::SERVICE_UNAVAILABLE, [(header::RETRY_AFTER, "120")], PAGE) }),
            )
            .layer(axum::middleware::from_fn_with_state(Arc::clone(&seen), count))
            .with_state(Arc::clone(&seen));
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { address, seen }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub(crate) fn requests(&self) -> usize {
        self.seen.requests.load(Ordering::SeqCst)
    }
}

async fn count(
    State(seen): State<Arc<Seen>>,
    request: axum::extract::Request,
    next: axum::middleware::Next,
) -> Response {
    seen.requests.fetch_add(1, Ordering::SeqCst);
    next.run(request).await
}

pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn compressed(bytes: &[u8]) -> Response {
    ([(header::CONTENT_ENCODING, "gzip")], gzip(bytes)).into_response()
}

async fn cut_gzip() -> Response {
    let whole = gzip(PAGE.as_bytes());
    ([(header::CONTENT_ENCODING, "gzip")], whole[..whole.len() - 12].to_vec()).into_response()
}

async fn echo(headers: HeaderMap) -> String {
    headers.iter().map(|(name, value)| format!("{name}: {}\n", value.to_str().unwrap())).collect()
}

/// Redirects to the next of three, and from the last to the first.
async fn circle(Path(at): Path<usize>) -> Response {
    to(&format!("/circle/{}", (at + 1) % 3))
}

pub(crate) const ETAG: &str = "W/\"v 1\"";
pub(crate) const LAST_MODIFIED: &str = "Wed, 21 Oct 2015 07:28:00 GMT";

/// Answers 304 to either validator.
async fn versioned(headers: HeaderMap) -> Response {
    let has = |name, value: &str| headers.get(name).is_some_and(|sent| sent == value);
    let own = [(header::ETAG, ETAG), (header::LAST_MODIFIED, LAST_MODIFIED)];
    if has(header::IF_NONE_MATCH, ETAG) || has(header::IF_MODIFIED_SINCE, LAST_MODIFIED) {
        (StatusCode::NOT_MODIFIED, own).into_response()
    } else {
        (own, PAGE).into_response()
    }
}

async fn secrets() -> Response {
    let answer = [(header::SET_COOKIE, "session=secret"), (header::WWW_AUTHENTICATE, "Basic realm=secret")];
    (answer, [("x-served-by", "cache-1")], PAGE).into_response()
}

async fn redirect(Path(target): Path<String>) -> Response {
    to(&target)
}

async fn to_user(headers: HeaderMap) -> Response {
    to(&format!("http://user:secret@{}/page?id=7", headers[header::HOST].to_str().unwrap()))
}

async fn hops(Path(left): Path<usize>) -> Response {
    if left == 0 { PAGE.into_response() } else { to(&format!("/hops/{}", left - 1)) }
}

fn to(target: &str) -> Response {
    (StatusCode::FOUND, [(header::LOCATION, target.to_owned())]).into_response()
}

/// Sends for as long as somebody reads.
struct Endless(Arc<Seen>);

impl Stream for Endless {
    type Item = Result<Bytes, std::io::Error>;

    fn poll_next(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Poll::Ready(Some(Ok(Bytes::from_static(&[b'x'; 16 * 1024]))))
    }
}

impl Drop for Endless {
    fn drop(&mut self) {
        self.0.stream_ended.notify_one();
    }
}

async fn endless(State(seen): State<Arc<Seen>>) -> Body {
    Body::from_stream(Endless(seen))
}

/// A server that sends the same bytes to whoever connects, whatever is asked, and then closes or keeps silent.
pub(crate) async fn raw_server(
    answer: impl Into<Vec<u8>>,
    then_silent: bool,
) -> (SocketAddr, Arc<AtomicUsize>) {
    let answer: Arc<[u8]> = answer.into().into();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let connections = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&connections);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            counter.fetch_add(1, Ordering::SeqCst);
            let answer = Arc::clone(&answer);
            tokio::spawn(async move {
                let mut asked = [0; 4096];
                let _ = stream.read(&mut asked).await;
                let _ = stream.write_all(&answer).await;
                while then_silent && !matches!(stream.read(&mut asked).await, Ok(0) | Err(_)) {}
            });
        }
    });
    (address, connections)
}

pub(crate) struct Fetching {
    pub(crate) fetcher: Fetcher,
    pub(crate) spool: Spool,
    _directory: TempDir,
}

impl Fetching {
    pub(crate) async fn open(networks: &[&str]) -> Self {
        let directory = TempDir::new().unwrap();
        let networks = networks.iter().map(|network| network.parse().unwrap());
        Self {
            fetcher: Fetcher::new(AllowedAddresses::with_networks(networks)).unwrap(),
            spool: Spool::open(directory.path()).await.unwrap(),
            _directory: directory,
        }
    }

    /// With this machine's own addresses allowed.
    pub(crate) async fn local() -> Self {
        Self::open(&["127.0.0.0/8", "::1/128"]).await
    }

    pub(crate) async fn get(&self, url: &str) -> Result<Fetched, FetchError> {
        self.send(&request(url)).await
    }

    pub(crate) async fn send(&self, request: &FetchRequest) -> Result<Fetched, FetchError> {
        self.fetcher.get(request, &self.spool, &NoGate).await
    }
}

pub(crate) fn request(url: &str) -> FetchRequest {
    FetchRequest {
        url: url.parse().unwrap(),
        headers: Vec::new(),
        user_agent: None,
        timeout: LONG_ENOUGH,
        max_bytes: MAX_BYTES,
        excess: Excess::Refused,
        validators: None,
        validators_for: None,
    }
}

/// The evidence and the body of a fetch that brought one.
pub(crate) fn body(fetched: Result<Fetched, FetchError>) -> (Exchange, SpooledBody) {
    match fetched {
        Ok(Fetched::Body { exchange, body }) => (exchange, body),
        other => panic!("no body: {other:?}"),
    }
}

pub(crate) async fn text(body: &SpooledBody) -> String {
    let mut text = String::new();
    body.open().await.unwrap().read_to_string(&mut text).await.unwrap();
    text
}
