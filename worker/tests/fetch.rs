//! Fetching from a real server on this machine.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::io::Write;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use futures::Stream;
use http::{HeaderName, HeaderValue};
use jiff::{SignedDuration, Timestamp};
use store::blobs::{Spool, SpooledBody};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio::time::timeout;
use worker::fetch::{AllowedAddresses, DEFAULT_USER_AGENT, FetchError, FetchRequest, Fetched, Fetcher};

const PAGE: &str = "<html><body>An opinion</body></html>";
const PAGE_SHA256: &str = "3d4b8d87c499625f8ecf94942d8321003dbb468ebabc41350eb907c8e57ecfa2";
const MAX_BYTES: u64 = 1024 * 1024;
const LONG_ENOUGH: Duration = Duration::from_secs(20);

/// A server on a free port of 127.0.0.1, with what it was asked.
struct Site {
    address: SocketAddr,
    seen: Arc<Seen>,
}

#[derive(Default)]
struct Seen {
    requests: AtomicUsize,
    stream_ended: Notify,
}

impl Site {
    async fn start() -> Self {
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
            .route("/loop", get(|| async { to("/loop") }))
            .route("/hops/{left}", get(hops))
            .route(
                "/busy",
                get(|| async { (StatusCode::SERVICE_UNAVAILABLE, [(header::RETRY_AFTER, "120")], PAGE) }),
            )
            .layer(axum::middleware::from_fn_with_state(Arc::clone(&seen), count))
            .with_state(Arc::clone(&seen));
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { address, seen }
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    fn requests(&self) -> usize {
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

fn gzip(bytes: &[u8]) -> Vec<u8> {
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

async fn redirect(axum::extract::Path(target): axum::extract::Path<String>) -> Response {
    to(&target)
}

async fn hops(axum::extract::Path(left): axum::extract::Path<usize>) -> Response {
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
async fn raw_server(answer: &'static [u8], then_silent: bool) -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let connections = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&connections);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            counter.fetch_add(1, Ordering::SeqCst);
            tokio::spawn(async move {
                let mut asked = [0; 4096];
                let _ = stream.read(&mut asked).await;
                let _ = stream.write_all(answer).await;
                while then_silent && !matches!(stream.read(&mut asked).await, Ok(0) | Err(_)) {}
            });
        }
    });
    (address, connections)
}

struct Fetching {
    fetcher: Fetcher,
    spool: Spool,
    _directory: TempDir,
}

impl Fetching {
    async fn open(networks: &[&str]) -> Self {
        let directory = TempDir::new().unwrap();
        let networks = networks.iter().map(|network| network.parse().unwrap());
        Self {
            fetcher: Fetcher::new(AllowedAddresses::with_networks(networks)).unwrap(),
            spool: Spool::open(directory.path()).await.unwrap(),
            _directory: directory,
        }
    }

    /// With this machine's own addresses allowed.
    async fn local() -> Self {
        Self::open(&["127.0.0.0/8", "::1/128"]).await
    }

    async fn get(&self, url: &str) -> Result<Fetched, FetchError> {
        self.send(&request(url)).await
    }

    async fn send(&self, request: &FetchRequest) -> Result<Fetched, FetchError> {
        self.fetcher.get(request, &self.spool).await
    }
}

fn request(url: &str) -> FetchRequest {
    FetchRequest {
        url: url.parse().unwrap(),
        headers: Vec::new(),
        user_agent: None,
        timeout: LONG_ENOUGH,
        max_bytes: MAX_BYTES,
    }
}

async fn text(body: &SpooledBody) -> String {
    let mut text = String::new();
    body.open().await.unwrap().read_to_string(&mut text).await.unwrap();
    text
}

#[tokio::test]
async fn a_page_is_stored_and_hashed() {
    let (site, fetching) = (Site::start().await, Fetching::local().await);
    let before = Timestamp::now();
    let fetched = fetching.get(&site.url("/page?q=1")).await.unwrap();

    assert_eq!(fetched.status, 200);
    assert_eq!(fetched.final_url.as_str(), site.url("/page?q=1"));
    assert_eq!(fetched.content_type.as_deref(), Some("text/html; charset=utf-8"));
    assert!(fetched.headers.contains(&("content-type".to_owned(), "text/html; charset=utf-8".to_owned())));
    assert_eq!(fetched.remote_address, Some(site.address));
    assert!(before <= fetched.fetched_at && fetched.fetched_at <= Timestamp::now());
    assert_eq!(fetched.body.sha256, PAGE_SHA256);
    assert_eq!(fetched.body.byte_size, PAGE.len() as u64);
    assert_eq!(text(&fetched.body).await, PAGE);
}

#[tokio::test]
async fn a_compressed_page_is_stored_decompressed() {
    let (site, fetching) = (Site::start().await, Fetching::local().await);
    let fetched = fetching.get(&site.url("/gzip")).await.unwrap();
    assert_eq!(fetched.body.sha256, PAGE_SHA256);
    assert_eq!(text(&fetched.body).await, PAGE);
}

#[tokio::test]
async fn what_is_sent_can_be_chosen() {
    let (site, fetching) = (Site::start().await, Fetching::local().await);
    let sent = text(&fetching.get(&site.url("/echo")).await.unwrap().body).await;
    assert!(sent.contains(&format!("user-agent: {DEFAULT_USER_AGENT}\n")), "{sent}");
    assert!(DEFAULT_USER_AGENT.starts_with("Tipstaff/"));
    for encoding in ["gzip", "br", "zstd", "deflate"] {
        assert!(
            sent.lines().any(|line| line.starts_with("accept-encoding: ") && line.contains(encoding)),
            "{sent}"
        );
    }

    let mut request = request(&site.url("/echo"));
    request.user_agent = Some(HeaderValue::from_static("Registrar/2"));
    request.headers.push((HeaderName::from_static("x-key"), HeaderValue::from_static("abc")));
    let sent = text(&fetching.send(&request).await.unwrap().body).await;
    assert!(sent.contains("user-agent: Registrar/2\n") && sent.contains("x-key: abc\n"), "{sent}");
    assert!(!sent.contains("Tipstaff"), "{sent}");
}

#[tokio::test]
async fn a_body_larger_than_the_limit_is_given_up() {
    let (site, fetching) = (Site::start().await, Fetching::local().await);
    assert_eq!(fetching.get(&site.url("/exact")).await.unwrap().body.byte_size, MAX_BYTES);
    for path in ["/large", "/bomb", "/endless"] {
        let error = fetching.get(&site.url(path)).await.unwrap_err();
        assert!(matches!(error, FetchError::TooLarge { max_bytes: MAX_BYTES, .. }), "{path}: {error}");
        assert_eq!((error.reason(), error.is_transient()), ("TooLarge", false));
    }
    // The server notices that nobody reads any more.
    timeout(LONG_ENOUGH, site.seen.stream_ended.notified()).await.expect("the connection is closed");
}

#[tokio::test]
async fn redirects_are_followed() {
    let (site, fetching) = (Site::start().await, Fetching::local().await);
    let fetched = fetching.get(&site.url("/hops/10")).await.unwrap();
    assert_eq!(fetched.final_url.as_str(), site.url("/hops/0"));
    assert_eq!(fetched.body.sha256, PAGE_SHA256);
    assert_eq!(site.requests(), 11);
}

#[tokio::test]
async fn redirects_without_an_end_are_given_up() {
    let (site, fetching) = (Site::start().await, Fetching::local().await);
    let error = fetching.get(&site.url("/loop")).await.unwrap_err();
    assert!(matches!(error, FetchError::TooManyRedirects { limit: 10, .. }), "{error}");
    assert_eq!(site.requests(), 11);
}

#[tokio::test]
async fn redirects_to_closed_addresses_and_other_schemes_are_refused() {
    let (site, fetching) = (Site::start().await, Fetching::open(&["127.0.0.1/32"]).await);
    // A server listens here, so that a connection would be seen.
    let listener = std::net::TcpListener::bind("127.0.0.2:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let closed = listener.local_addr().unwrap();
    for (target, reason) in [
        (format!("http://{closed}/"), "AddressNotAllowed"),
        (format!("http://0x7f.2:{}/", closed.port()), "AddressNotAllowed"),
        (format!("http://[::ffff:127.0.0.2]:{}/", closed.port()), "AddressNotAllowed"),
        ("http://169.254.169.254/latest/meta-data".to_owned(), "AddressNotAllowed"),
        ("http://10.0.0.1/".to_owned(), "AddressNotAllowed"),
        ("//10.0.0.1/".to_owned(), "AddressNotAllowed"),
        ("file:///etc/passwd".to_owned(), "SchemeNotAllowed"),
        ("ftp://example.org/".to_owned(), "SchemeNotAllowed"),
        ("http://[".to_owned(), "InvalidUrl"),
    ] {
        let error = fetching.get(&site.url(&format!("/to/{target}"))).await.unwrap_err();
        assert_eq!(error.reason(), reason, "{target}: {error}");
        assert!(!error.is_transient());
    }
    assert_eq!(site.requests(), 9);
    let nobody = listener.accept().unwrap_err();
    assert_eq!(nobody.kind(), std::io::ErrorKind::WouldBlock, "a connection was made to {closed}");
}

#[tokio::test]
async fn closed_addresses_are_refused_by_literal_and_by_name_without_connecting() {
    let (site, fetching) = (Site::start().await, Fetching::open(&[]).await);
    let port = site.address.port();
    for host in [
        "127.0.0.1",
        "2130706433",
        "0177.0.0.1",
        "[::ffff:127.0.0.1]",
        "[::1]",
        "0.0.0.0",
        "localhost",
        "LOCALHOST.",
    ] {
        let error = fetching.get(&format!("http://{host}:{port}/page")).await.unwrap_err();
        assert!(matches!(error, FetchError::AddressNotAllowed { .. }), "{host}: {error:?}");
        assert_eq!((error.reason(), error.is_transient()), ("AddressNotAllowed", false));
    }
    assert_eq!(site.requests(), 0);
}

#[tokio::test]
async fn a_name_is_resolved_by_the_hosts_file() {
    let (site, fetching) = (Site::start().await, Fetching::local().await);
    let fetched = fetching.get(&format!("http://localhost:{}/page", site.address.port())).await.unwrap();
    assert_eq!(fetched.body.sha256, PAGE_SHA256);
}

#[tokio::test]
async fn a_name_without_address_is_said() {
    // RFC 6761: no name ends in `invalid`.
    let error = Fetching::local().await.get("http://gazette.invalid/").await.unwrap_err();
    assert!(matches!(error, FetchError::HostNotFound { .. }), "{error:?}");
}

#[tokio::test]
async fn secrets_are_not_carried_to_another_origin() {
    let (first, second, fetching) = (Site::start().await, Site::start().await, Fetching::local().await);
    let mut secret = HeaderValue::from_static("key");
    secret.set_sensitive(true);
    let headers = vec![
        (HeaderName::from_static("x-key"), secret),
        (header::AUTHORIZATION, HeaderValue::from_static("Bearer token")),
        (header::COOKIE, HeaderValue::from_static("session=1")),
        (header::ACCEPT_LANGUAGE, HeaderValue::from_static("en")),
    ];
    let ask = async |target: String| {
        let mut request = request(&first.url(&format!("/to/{target}")));
        request.headers.clone_from(&headers);
        text(&fetching.send(&request).await.unwrap().body).await
    };

    let same = ask(first.url("/echo")).await;
    for sent in
        ["x-key: key\n", "authorization: Bearer token\n", "cookie: session=1\n", "accept-language: en\n"]
    {
        assert!(same.contains(sent), "{same}");
    }
    let other = ask(second.url("/echo")).await;
    assert!(other.contains("accept-language: en\n"), "{other}");
    for kept in ["x-key", "authorization", "cookie", "referer"] {
        assert!(!other.contains(kept), "{other}");
    }
}

#[tokio::test]
async fn other_statuses_are_errors() {
    let (site, fetching) = (Site::start().await, Fetching::local().await);
    let error = fetching.get(&site.url("/nowhere")).await.unwrap_err();
    assert!(matches!(error, FetchError::Status { status: 404, retry_after: None, .. }), "{error:?}");
    assert_eq!((error.reason(), error.is_transient()), ("HttpStatus", false));

    let before = Timestamp::now();
    let error = fetching.get(&site.url("/busy")).await.unwrap_err();
    assert!(error.is_transient());
    let FetchError::Status { status: 503, retry_after: Some(retry_after), .. } = error else {
        panic!("{error:?}");
    };
    let wait = SignedDuration::from_secs(120);
    assert!(before + wait <= retry_after && retry_after <= Timestamp::now() + wait, "{retry_after}");
}

#[tokio::test]
async fn a_body_that_ends_early_is_not_taken_for_whole() {
    let fetching = Fetching::local().await;
    for answer in [
        b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nonly this".as_slice(),
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nabcde\r\n".as_slice(),
    ] {
        let (address, _) = raw_server(answer, false).await;
        let error = fetching.get(&format!("http://{address}/")).await.unwrap_err();
        assert!(matches!(error, FetchError::BodyTruncated { .. }), "{error:?}");
        assert!(error.is_transient());
    }
    let site = Site::start().await;
    let error = fetching.get(&site.url("/cut-gzip")).await.unwrap_err();
    assert!(matches!(error, FetchError::BodyTruncated { .. }), "{error:?}");
    let error = fetching.get(&site.url("/not-gzip")).await.unwrap_err();
    assert!(matches!(error, FetchError::DecompressionFailed { .. }), "{error:?}");
}

#[tokio::test]
async fn a_server_that_does_not_answer_in_time_is_given_up() {
    let fetching = Fetching::local().await;
    for answer in [b"".as_slice(), b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nonly this".as_slice()] {
        let (address, connections) = raw_server(answer, true).await;
        let mut request = request(&format!("http://{address}/"));
        request.timeout = Duration::from_millis(300);
        let begun = Instant::now();
        let error = fetching.send(&request).await.unwrap_err();
        assert!(matches!(error, FetchError::Timeout { .. }), "{error:?}");
        assert!(error.is_transient());
        assert!((Duration::from_millis(300)..LONG_ENOUGH).contains(&begun.elapsed()));
        assert_eq!(connections.load(Ordering::SeqCst), 1);
    }
}

#[tokio::test]
async fn broken_connections_are_told_apart() {
    let fetching = Fetching::local().await;

    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let error = fetching.get(&format!("http://{nobody}/")).await.unwrap_err();
    assert!(matches!(error, FetchError::ConnectFailed { .. }), "{error:?}");
    assert!(error.is_transient());

    let (plain, _) = raw_server(b"HTTP/1.1 200 OK\r\n\r\n", false).await;
    let error = fetching.get(&format!("https://{plain}/")).await.unwrap_err();
    assert!(matches!(error, FetchError::TlsFailed { .. }), "{error:?}");

    let (silent, _) = raw_server(b"", false).await;
    let error = fetching.get(&format!("http://{silent}/")).await.unwrap_err();
    assert!(matches!(error, FetchError::RequestFailed { .. }), "{error:?}");
}

#[tokio::test]
async fn no_error_shows_the_secrets_of_a_url() {
    let fetching = Fetching::local().await;
    let site = Site::start().await;
    let (truncated, _) = raw_server(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nonly this", false).await;
    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let urls = [
        site.url("/nowhere"),
        site.url("/loop"),
        site.url("/large"),
        site.url("/to/http://10.0.0.1/?token=secret"),
        format!("http://{truncated}/"),
        format!("http://{nobody}/"),
        "http://gazette.invalid/".to_owned(),
        "http://10.0.0.1/".to_owned(),
        "ftp://example.org/".to_owned(),
    ];
    for url in urls {
        let mut url: url::Url = url.parse().unwrap();
        url.set_query(Some("token=secret"));
        url.set_username("user").unwrap();
        url.set_password(Some("secret")).unwrap();
        let error = fetching.get(url.as_str()).await.unwrap_err();
        // With all its causes, as it would be logged.
        let shown = format!("{error} {error:?}");
        assert!(!shown.contains("secret") && !shown.contains("user"), "{shown}");
    }
}
