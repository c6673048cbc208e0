//! Fetching from a real server on this machine.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "fetch/documentation.rs"]
mod documentation;
#[path = "fetch/evidence.rs"]
mod evidence;
#[path = "fetch/limits.rs"]
mod limits;
#[path = "fetch/literals.rs"]
mod literals;
#[path = "fetch/names.rs"]
mod names;
#[path = "fetch/site.rs"]
mod site;
#[path = "fetch/tls.rs"]
mod tls;

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use axum::http::header;
use http::{HeaderName, HeaderValue};
use jiff::{SignedDuration, Timestamp};
use tokio::net::TcpListener;
use tokio::time::timeout;
use worker::fetch::{DEFAULT_USER_AGENT, FetchError, Redirect};

use crate::site::{
    Fetching, LONG_ENOUGH, MAX_BYTES, PAGE, PAGE_SHA256, Site, body, raw_server, request, text,
};

#[tokio::test]
async fn a_page_is_stored_and_hashed() {
    let (site, fetching) = (Site::start().await, Fetching::local().await);
    let before = Timestamp::now();
    let (exchange, body) = body(fetching.get(&site.url("/page?q=1")).await);

    assert_eq!(exchange.status, 200);
    assert_eq!(exchange.final_url.as_str(), site.url("/page?q=1"));
    assert!(exchange.redirects.is_empty());
    assert_eq!(exchange.content_type.as_deref(), Some("text/html; charset=utf-8"));
    assert!(exchange.headers.contains(&("content-type".to_owned(), "text/html; charset=utf-8".to_owned())));
    assert_eq!(exchange.remote_address, Some(site.address));
    let times =
        [before, exchange.requested_at, exchange.responded_at, exchange.finished_at, Timestamp::now()];
    assert!(times.is_sorted(), "{times:?}");
    assert_eq!(body.sha256, PAGE_SHA256);
    assert_eq!(body.byte_size, PAGE.len() as u64);
    assert_eq!(text(&body).await, PAGE);
}

#[tokio::test]
async fn a_compressed_page_is_stored_decompressed() {
    let (site, fetching) = (Site::start().await, Fetching::local().await);
    let (_, body) = body(fetching.get(&site.url("/gzip")).await);
    assert_eq!(body.sha256, PAGE_SHA256);
    assert_eq!(text(&body).await, PAGE);
}

#[tokio::test]
async fn what_is_sent_can_be_chosen() {
    let (site, fetching) = (Site::start().await, Fetching::local().await);
    let sent = text(&body(fetching.get(&site.url("/echo")).await).1).await;
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
    let sent = text(&body(fetching.send(&request).await).1).await;
    assert!(sent.contains("user-agent: Registrar/2\n") && sent.contains("x-key: abc\n"), "{sent}");
    assert!(!sent.contains("Tipstaff"), "{sent}");
}

#[tokio::test]
async fn a_body_larger_than_the_limit_is_given_up() {
    let (site, fetching) = (Site::start().await, Fetching::local().await);
    assert_eq!(body(fetching.get(&site.url("/exact")).await).1.byte_size, MAX_BYTES);
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
    let (exchange, body) = body(fetching.get(&site.url("/hops/10")).await);
    assert_eq!(exchange.final_url.as_str(), site.url("/hops/0"));
    assert_eq!(body.sha256, PAGE_SHA256);
    assert_eq!(site.requests(), 11);
    let hop = |left: usize| Redirect {
        url: site.url(&format!("/hops/{left}")).parse().unwrap(),
        status: 302,
        location: format!("/hops/{}", left - 1),
    };
    assert_eq!(exchange.redirects, (1..=10).rev().map(hop).collect::<Vec<_>>());
}

#[tokio::test]
async fn redirects_without_an_end_are_given_up() {
    let (site, fetching) = (Site::start().await, Fetching::local().await);
    let error = fetching.get(&site.url("/hops/11")).await.unwrap_err();
    assert!(matches!(error, FetchError::TooManyRedirects { limit: 10, .. }), "{error}");
    assert_eq!((error.reason(), error.is_transient()), ("TooManyRedirects", false));
    assert_eq!(site.requests(), 11);
}

#[tokio::test]
async fn a_circle_of_redirects_is_found_when_it_closes() {
    let (site, fetching) = (Site::start().await, Fetching::local().await);
    for (path, requests) in [("/loop", 1), ("/circle/0", 3), ("/to//circle/0", 4), ("/loop#part", 1)] {
        let before = site.requests();
        let error = fetching.get(&site.url(path)).await.unwrap_err();
        assert!(matches!(error, FetchError::RedirectLoop { .. }), "{path}: {error}");
        assert_eq!((error.reason(), error.is_transient()), ("RedirectLoop", false));
        assert_eq!(site.requests() - before, requests, "{path}");
    }
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
    let (_, body) = body(fetching.get(&format!("http://localhost:{}/page", site.address.port())).await);
    assert_eq!(body.sha256, PAGE_SHA256);
}

#[tokio::test]
async fn a_name_without_address_is_said() {
    // RFC 6761: no name ends in `invalid`.
    let error = Fetching::local().await.get("http://gazette.invalid/").await.unwrap_err();
    assert!(matches!(error, FetchError::HostNotFound { .. }), "{error:?}");
}

#[tokio::test]
async fn the_sources_headers_are_not_carried_to_another_origin() {
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
        text(&body(fetching.send(&request).await).1).await
    };

    let same = ask(first.url("/echo")).await;
    for sent in
        ["x-key: key\n", "authorization: Bearer token\n", "cookie: session=1\n", "accept-language: en\n"]
    {
        assert!(same.contains(sent), "{same}");
    }
    let other = ask(second.url("/echo")).await;
    assert!(other.contains("user-agent: "), "{other}");
    for kept in ["x-key", "authorization", "cookie", "accept-language", "referer"] {
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
