//! Over real HTTP, with a clock that the test moves.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::sync::atomic::{AtomicI64, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::*;

const INTERVAL: Duration = Duration::from_secs(90);
/// The beginning of an edition, 320,000 intervals after the first.
const NOON: i64 = 1_767_225_600 + 90 * 320_000;

struct MovedClock(Arc<AtomicI64>);

impl MovedClock {
    fn advance(&self, seconds: i64) {
        self.0.fetch_add(seconds, Ordering::SeqCst);
    }
}

async fn site() -> (SampleSite, MovedClock) {
    let seconds = Arc::new(AtomicI64::new(NOON));
    let read = Arc::clone(&seconds);
    let clock = move || Timestamp::from_second(read.load(Ordering::SeqCst)).unwrap();
    let site = SampleSite::start_with_clock(None, INTERVAL, clock).await.unwrap();
    (site, MovedClock(seconds))
}

struct Reply {
    status: u16,
    headers: String,
    body: String,
}

impl Reply {
    fn header(&self, name: &str) -> &str {
        self.headers
            .lines()
            .filter_map(|line| line.split_once(": "))
            .find(|(found, _)| found.eq_ignore_ascii_case(name))
            .unwrap_or_else(|| panic!("no {name} in {}", self.headers))
            .1
    }
}

async fn get(site: &SampleSite, path: &str, header: &str) -> Reply {
    let mut stream = TcpStream::connect(site.address()).await.unwrap();
    let request =
        format!("GET {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n{header}\r\n", site.address());
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let (status, headers) = head.split_once("\r\n").unwrap();
    Reply {
        status: status.split(' ').nth(1).unwrap().parse().unwrap(),
        headers: headers.to_owned(),
        body: body.to_owned(),
    }
}

/// Every tag that is opened is closed, in order.
fn assert_well_formed(document: &str) {
    let mut open = Vec::new();
    for piece in document.split('<').skip(1) {
        let tag = piece.split('>').next().unwrap();
        if tag.starts_with(['!', '?']) || tag.ends_with('/') {
            continue;
        }
        match tag.strip_prefix('/') {
            Some(name) => assert_eq!(open.pop(), Some(name), "in {document}"),
            None => open.push(tag.split(' ').next().unwrap()),
        }
    }
    assert!(open.is_empty(), "{open:?} left open in {document}");
}

#[tokio::test]
async fn pages_are_well_formed_and_linked() {
    let (site, _clock) = site().await;
    let list = get(&site, "/opinions", "").await;
    assert_eq!(list.status, 200);
    assert_eq!(list.header("content-type"), "text/html; charset=utf-8");
    assert_well_formed(&list.body);
    let links: Vec<&str> =
        list.body.split("<h2><a href=\"").skip(1).map(|rest| rest.split('"').next().unwrap()).collect();
    assert_eq!(links.len(), 12);
    assert_eq!(links[0], "/opinions/320000");
    for link in links {
        let page = get(&site, link, "").await;
        assert_eq!(page.status, 200, "{link}");
        assert!(page.body.contains("class=\"docket\""), "{link}");
        assert_well_formed(&page.body);
    }
    let feed = get(&site, "/feed.xml", "").await;
    assert_eq!(feed.header("content-type"), "application/atom+xml; charset=utf-8");
    assert_well_formed(&feed.body);
    let link = format!("<link href=\"http://{}/opinions/320000\"/>", site.address());
    assert!(feed.body.contains(&link), "{}", feed.body);
    site.stop().await;
}

#[tokio::test]
async fn other_paths_are_answered() {
    let (site, _clock) = site().await;
    let robots = get(&site, "/robots.txt", "").await;
    assert_eq!((robots.status, robots.header("content-type")), (200, "text/plain; charset=utf-8"));
    assert!(robots.body.starts_with("User-agent: *\n"), "{}", robots.body);
    let root = get(&site, "/", "").await;
    assert_eq!((root.status, root.header("location")), (307, "/opinions"));
    for path in ["/opinions/320001", "/opinions/x", "/opinions/-1", "/nothing"] {
        assert_eq!(get(&site, path, "").await.status, 404, "{path}");
    }
    site.stop().await;
}

#[tokio::test]
async fn content_changes_with_the_edition_and_not_within_it() {
    let (site, clock) = site().await;
    let first = get(&site, "/opinions", "").await;
    clock.advance(89);
    assert_eq!(get(&site, "/opinions", "").await.body, first.body);
    clock.advance(1);
    let second = get(&site, "/opinions", "").await;
    assert_ne!(second.body, first.body);
    assert_ne!(second.header("etag"), first.header("etag"));
    assert!(second.body.contains("/opinions/320001"));
    // Opinion 319998 (…8 is three more than a multiple of five) was filed two editions before the first, and corrected there.
    assert!(first.body.contains("corrected"));
    site.stop().await;

    // Another site at the same time publishes the same.
    let seconds = clock.0.load(Ordering::SeqCst);
    let again =
        SampleSite::start_with_clock(None, INTERVAL, move || Timestamp::from_second(seconds).unwrap())
            .await
            .unwrap();
    assert_eq!(get(&again, "/opinions", "").await.body, second.body);
    again.stop().await;
}

#[tokio::test]
async fn conditional_requests_are_answered_with_304_until_something_changes() {
    let (site, clock) = site().await;
    for path in ["/opinions", "/feed.xml", "/opinions/319999"] {
        let reply = get(&site, path, "").await;
        let etag = reply.header("etag").to_owned();
        let modified = reply.header("last-modified").to_owned();
        assert!(modified.ends_with(" GMT"), "{modified}");
        let cases = [
            (format!("If-None-Match: {etag}\r\n"), 304),
            (format!("If-None-Match: \"other\", W/{etag}\r\n"), 304),
            ("If-None-Match: *\r\n".to_owned(), 304),
            ("If-None-Match: \"other\"\r\n".to_owned(), 200),
            (format!("If-Modified-Since: {modified}\r\n"), 304),
            ("If-Modified-Since: Thu, 01 Jan 1998 00:00:00 GMT\r\n".to_owned(), 200),
            ("If-Modified-Since: yesterday\r\n".to_owned(), 200),
            // The date alone would say 304.
            (format!("If-None-Match: \"other\"\r\nIf-Modified-Since: {modified}\r\n"), 200),
        ];
        for (header, expected) in cases {
            let reply = get(&site, path, &header).await;
            assert_eq!(reply.status, expected, "{path} {header:?}");
            assert_eq!(reply.body.is_empty(), expected == 304, "{path} {header:?}");
        }
    }
    let list = get(&site, "/opinions", "").await;
    clock.advance(90);
    let header = format!("If-None-Match: {}\r\n", list.header("etag"));
    assert_eq!(get(&site, "/opinions", &header).await.status, 200);
    let header = format!("If-Modified-Since: {}\r\n", list.header("last-modified"));
    assert_eq!(get(&site, "/opinions", &header).await.status, 200);
    site.stop().await;
}

#[tokio::test]
async fn a_taken_port_is_replaced_and_a_free_one_taken() {
    let (first, _clock) = site().await;
    let taken = first.address().port();
    let second = SampleSite::start(Some(taken), INTERVAL).await.unwrap();
    assert_ne!(second.address().port(), taken);
    assert_eq!(get(&second, "/opinions", "").await.status, 200);
    first.stop().await;
    assert!(TcpStream::connect(("127.0.0.1", taken)).await.is_err(), "a stopped site does not listen");
    second.stop().await;

    let error = SampleSite::start(None, Duration::from_millis(10)).await.unwrap_err();
    assert!(matches!(error, SampleSiteError::Interval(_)), "{error}");
}
