//! What is kept of a fetch, and what is asked of it: validators, secrets, the gate.

use std::sync::Mutex;

use async_trait::async_trait;
use axum::http::header;
use http::{HeaderName, HeaderValue};
use jiff::Timestamp;
use url::Url;
use worker::fetch::{FetchError, Fetched, Gate, Validators};

use crate::site::{ETAG, Fetching, LAST_MODIFIED, Site, body, request, text};

fn validators(etag: Option<&str>, last_modified: Option<&str>) -> Option<Validators> {
    Some(Validators {
        etag: etag.map(ToOwned::to_owned),
        last_modified: last_modified.map(ToOwned::to_owned),
    })
}

#[tokio::test]
async fn a_page_that_is_as_it_was_stored_is_not_sent_again() {
    let (site, fetching) = (Site::start().await, Fetching::local().await);
    for (etag, last_modified, unmodified) in [
        (Some(ETAG), None, true),
        (None, Some(LAST_MODIFIED), true),
        (Some(ETAG), Some(LAST_MODIFIED), true),
        (Some("\"other\""), None, false),
        (None, None, false),
        // Neither can be sent.
        (Some(""), Some("two\r\nlines"), false),
    ] {
        let mut request = request(&site.url("/versioned"));
        request.validators = validators(etag, last_modified);
        let fetched = fetching.send(&request).await.unwrap();
        assert_eq!(matches!(fetched, Fetched::NotModified { .. }), unmodified, "{etag:?} {last_modified:?}");
        let exchange = fetched.exchange();
        assert_eq!(exchange.status, if unmodified { 304 } else { 200 });
        assert!(exchange.headers.contains(&("etag".to_owned(), ETAG.to_owned())));
        let sent = |name: &str| {
            exchange.request_headers.iter().find(|header| header.0 == name).map(|header| header.1.as_str())
        };
        assert_eq!(sent("if-none-match"), etag.filter(|etag| !etag.is_empty()));
        assert_eq!(sent("if-modified-since"), last_modified.filter(|date| !date.contains('\n')));
    }
}

#[tokio::test]
async fn an_answer_that_says_not_modified_unasked_is_an_error() {
    let (site, fetching) = (Site::start().await, Fetching::local().await);
    let mut request = request(&site.url("/always-304"));
    for given in [None, validators(None, None)] {
        request.validators = given;
        let error = fetching.send(&request).await.unwrap_err();
        assert!(matches!(error, FetchError::Status { status: 304, .. }), "{error:?}");
    }
}

#[tokio::test]
async fn validators_are_sent_to_their_own_url_only() {
    let (site, fetching) = (Site::start().await, Fetching::local().await);
    let page: Url = site.url("/versioned").parse().unwrap();
    // The URL that is asked redirects to the page: its own validators do not go there.
    let mut redirected = request(&site.url("/to//versioned"));
    redirected.validators = validators(Some(ETAG), Some(LAST_MODIFIED));
    let (exchange, _) = body(fetching.send(&redirected).await);
    assert_eq!(exchange.final_url, page);
    assert!(!exchange.request_headers.iter().any(|(name, _)| name.starts_with("if-")));

    // Those that the page gave do, past a URL in between.
    redirected.validators_for = Some(page.clone());
    let fetched = fetching.send(&redirected).await.unwrap();
    let Fetched::NotModified { exchange } = fetched else { panic!("{fetched:?}") };
    assert_eq!((exchange.final_url, exchange.redirects.len()), (page.clone(), 1));

    // What is kept of a URL has neither user name nor fragment, and is the same page.
    let mut named = request(&site.url("/versioned#part").replace("http://", "http://user:secret@"));
    named.validators = validators(Some(ETAG), None);
    named.validators_for = Some(page);
    assert!(matches!(fetching.send(&named).await.unwrap(), Fetched::NotModified { .. }));
    named.validators_for = Some(site.url("/versioned?page=2").parse().unwrap());
    assert!(matches!(fetching.send(&named).await.unwrap(), Fetched::Body { .. }));
}

#[tokio::test]
async fn the_evidence_has_what_was_sent_and_no_secrets() {
    let (site, fetching) = (Site::start().await, Fetching::local().await);
    let mut request = request(&site.url("/echo").replace("http://", "http://user:secret@"));
    let mut key = HeaderValue::from_static("secret");
    key.set_sensitive(true);
    request.headers = vec![
        (HeaderName::from_static("x-key"), key),
        (header::COOKIE, HeaderValue::from_static("session=secret")),
        (header::ACCEPT_LANGUAGE, HeaderValue::from_static("en")),
    ];
    request.validators = validators(Some(ETAG), None);
    let (exchange, body) = body(fetching.send(&request).await);
    let seen = text(&body).await;
    let mut masked = Vec::new();
    for (name, value) in &exchange.request_headers {
        if value == "(not kept)" {
            assert!(seen.contains(&format!("{name}: ")), "{name}");
            masked.push(name.as_str());
        } else {
            assert!(seen.contains(&format!("{name}: {value}\n")), "{name}: {value} was not sent: {seen}");
        }
    }
    masked.sort_unstable();
    assert_eq!(masked, ["authorization", "cookie", "x-key"]);
    // All but the host, which the URL has.
    assert_eq!(exchange.request_headers.len() + 1, seen.lines().count(), "{seen}");
    assert!(!format!("{exchange:?}").contains("secret"), "{exchange:?}");

    let mut exchange = fetching.get(&site.url("/masked")).await.unwrap().exchange().clone();
    exchange.headers.retain(|(_, value)| value == "(not kept)" || value == "cache-1");
    let names: Vec<_> = exchange.headers.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["set-cookie", "www-authenticate", "x-served-by"]);
    assert!(!format!("{exchange:?}").contains("secret"), "{exchange:?}");

    let exchange = fetching.get(&site.url("/to-user")).await.unwrap().exchange().clone();
    assert_eq!(exchange.redirects[0].location, site.url("/page?id=7"));
    assert_eq!(exchange.final_url.as_str(), site.url("/page?id=7"));
    assert!(!format!("{exchange:?}").contains("secret"), "{exchange:?}");
}

/// Refuses one URL, and remembers which it was asked about.
struct Refusing {
    url: String,
    asked: Mutex<Vec<String>>,
}

#[async_trait]
impl Gate for Refusing {
    async fn judge(&self, url: &Url) -> Result<(), FetchError> {
        self.asked.lock().unwrap().push(url.to_string());
        if url.as_str() == self.url {
            Err(FetchError::NotYet { until: Timestamp::UNIX_EPOCH })
        } else {
            Ok(())
        }
    }
}

#[tokio::test]
async fn the_gate_is_asked_about_each_url_before_its_request() {
    let (site, fetching) = (Site::start().await, Fetching::local().await);
    let hops: Vec<String> = (0..=2).rev().map(|left| site.url(&format!("/hops/{left}"))).collect();
    for (refused, requests) in [(0, 0), (1, 1), (2, 2)] {
        let before = site.requests();
        let gate = Refusing { url: hops[refused].clone(), asked: Mutex::default() };
        let error = fetching.fetcher.get(&request(&hops[0]), &fetching.spool, &gate).await.unwrap_err();
        assert!(matches!(error, FetchError::NotYet { until } if until == Timestamp::UNIX_EPOCH), "{error:?}");
        assert_eq!(site.requests() - before, requests);
        assert_eq!(*gate.asked.lock().unwrap(), hops[..=refused]);
    }
    // An address that is closed is no question.
    let gate = Refusing { url: String::new(), asked: Mutex::default() };
    let error = fetching.fetcher.get(&request("http://10.0.0.1/"), &fetching.spool, &gate).await.unwrap_err();
    assert_eq!(error.reason(), "AddressNotAllowed");
    assert!(gate.asked.lock().unwrap().is_empty());
}
