//! A small website that is built in, so that Tipstaff can be tried without the internet: the recent opinions of a
//! fictitious court, as a page, as an Atom feed, and one page an opinion; and an inbox for what is delivered.
//!
//! What it publishes depends on nothing but the number of its edition, which counts intervals of the clock. Editions
//! therefore follow each other deterministically, and go on where they were when the site is started again.

mod court;
mod pages;

use std::collections::VecDeque;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderName, StatusCode, header};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::get;
use axum::{Json, Router};
use jiff::Timestamp;
use jiff::fmt::rfc2822;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use court::{Edition, Opinion};

/// How long requests under way may take when the site is stopped.
const STOP_DEADLINE: Duration = Duration::from_secs(3);

/// How many deliveries the inbox keeps.
const MOST_DELIVERIES: usize = 50;

/// Why the sample site cannot run.
#[derive(Debug, thiserror::Error)]
pub enum SampleSiteError {
    /// An edition must last a while.
    #[error("the sample site cannot change every {0:?}; its interval must be a second or longer")]
    Interval(Duration),
    /// It cannot listen.
    #[error("the sample site cannot listen on 127.0.0.1")]
    Listen(#[source] io::Error),
}

/// The running site. It ends when it is dropped; [`SampleSite::stop`] lets requests under way finish.
#[derive(Debug)]
pub struct SampleSite {
    address: SocketAddr,
    stopping: CancellationToken,
    server: JoinHandle<()>,
}

impl SampleSite {
    /// Starts the site on 127.0.0.1, with a new edition each `interval`: on the preferred port, or on a free one if that is
    /// taken or none is preferred.
    ///
    /// # Errors
    /// When the interval is under a second, or no port can be listened on.
    pub async fn start(
        preferred_port: Option<u16>,
        interval: Duration,
    ) -> Result<SampleSite, SampleSiteError> {
        SampleSite::start_with_clock(preferred_port, interval, Timestamp::now).await
    }

    /// Like [`SampleSite::start`], reading the time from `clock`.
    ///
    /// # Errors
    /// Those of [`SampleSite::start`].
    pub async fn start_with_clock(
        preferred_port: Option<u16>,
        interval: Duration,
        clock: impl Fn() -> Timestamp + Send + Sync + 'static,
    ) -> Result<SampleSite, SampleSiteError> {
        if interval < Duration::from_secs(1) {
            return Err(SampleSiteError::Interval(interval));
        }
        let listener = listen(preferred_port).await.map_err(SampleSiteError::Listen)?;
        let address = listener.local_addr().map_err(SampleSiteError::Listen)?;
        let stopping = CancellationToken::new();
        let serving = axum::serve(listener, routes(interval, Arc::new(clock)))
            .with_graceful_shutdown(stopping.clone().cancelled_owned());
        let server = tokio::spawn(async move {
            if let Err(error) = serving.await {
                tracing::error!(%error, "the sample site ended");
            }
        });
        Ok(SampleSite { address, stopping, server })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The URL of the page with the recent opinions.
    pub fn opinions_url(&self) -> String {
        format!("http://{}/opinions", self.address)
    }

    /// Stops listening and waits, up to three seconds, for requests under way.
    pub async fn stop(mut self) {
        self.stopping.cancel();
        if tokio::time::timeout(STOP_DEADLINE, &mut self.server).await.is_err() {
            tracing::debug!("the sample site had requests under way when it was stopped");
        }
    }
}

impl Drop for SampleSite {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn listen(preferred_port: Option<u16>) -> io::Result<TcpListener> {
    match TcpListener::bind((Ipv4Addr::LOCALHOST, preferred_port.unwrap_or(0))).await {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await
        }
        outcome => outcome,
    }
}

#[derive(Clone)]
struct Site {
    interval: Duration,
    clock: Arc<dyn Fn() -> Timestamp + Send + Sync>,
    /// What was delivered here, newest last.
    inbox: Arc<Mutex<VecDeque<Value>>>,
}

impl Site {
    fn edition(&self) -> Edition {
        Edition::at((self.clock)(), self.interval)
    }
}

fn routes(interval: Duration, clock: Arc<dyn Fn() -> Timestamp + Send + Sync>) -> Router {
    Router::new()
        .route("/", get(|| async { Redirect::temporary("/opinions") }))
        .route("/opinions", get(opinions))
        .route("/opinions/{number}", get(opinion))
        .route("/feed.xml", get(feed))
        .route("/robots.txt", get(robots))
        .route("/inbox", get(inbox).post(deliver))
        .fallback(|| async { not_found() })
        .with_state(Site { interval, clock, inbox: Arc::default() })
}

async fn opinions(State(site): State<Site>, request: HeaderMap) -> Response {
    let edition = site.edition();
    Document {
        content_type: "text/html; charset=utf-8",
        version: format!("opinions-{}", edition.number()),
        modified: edition.published(),
        body: pages::opinions(&edition),
    }
    .answer(&request)
}

async fn feed(State(site): State<Site>, headers: HeaderMap) -> Response {
    let edition = site.edition();
    // Atom wants absolute links; the host is the one that was asked for, as behind any name or port.
    let host = headers
        .get(header::HOST)
        .and_then(|host| host.to_str().ok())
        .filter(|host| host.chars().all(is_host_character))
        .unwrap_or("127.0.0.1");
    Document {
        content_type: "application/atom+xml; charset=utf-8",
        version: format!("feed-{}-{host}", edition.number()),
        modified: edition.published(),
        body: pages::feed(&edition, &format!("http://{host}")),
    }
    .answer(&headers)
}

async fn opinion(State(site): State<Site>, Path(number): Path<String>, request: HeaderMap) -> Response {
    let edition = site.edition();
    let opinion: Option<Opinion> = number.parse().ok().and_then(|number| edition.opinion(number));
    let Some(opinion) = opinion else {
        return not_found();
    };
    let state = if opinion.corrected.is_some() { "corrected" } else { "filed" };
    Document {
        content_type: "text/html; charset=utf-8",
        version: format!("opinion-{}-{state}", opinion.number),
        modified: opinion.corrected.unwrap_or(opinion.filed),
        body: pages::opinion(&opinion),
    }
    .answer(&request)
}

async fn robots() -> Response {
    let rules = "User-agent: *\nDisallow: /chambers/\n";
    ([(header::CONTENT_TYPE, "text/plain; charset=utf-8")], rules).into_response()
}

/// Takes a delivery, as a receiver of yours would.
async fn deliver(State(site): State<Site>, Json(delivery): Json<Value>) -> (StatusCode, &'static str) {
    // Whoever panicked with it left whole deliveries.
    let mut inbox = site.inbox.lock().unwrap_or_else(PoisonError::into_inner);
    if inbox.len() == MOST_DELIVERIES {
        inbox.pop_front();
    }
    inbox.push_back(delivery);
    (StatusCode::OK, "thank you")
}

async fn inbox(State(site): State<Site>) -> Json<Vec<Value>> {
    let inbox = site.inbox.lock().unwrap_or_else(PoisonError::into_inner);
    Json(inbox.iter().cloned().collect())
}

fn not_found() -> Response {
    let content_type = [(header::CONTENT_TYPE, "text/html; charset=utf-8")];
    (StatusCode::NOT_FOUND, content_type, pages::not_found()).into_response()
}

fn is_host_character(character: char) -> bool {
    character.is_ascii_alphanumeric() || matches!(character, '.' | '-' | ':' | '[' | ']')
}

/// A page with what conditional requests need (RFC 9110, section 13).
struct Document {
    content_type: &'static str,
    /// Different for different bodies of one URL.
    version: String,
    modified: Timestamp,
    body: String,
}

impl Document {
    fn answer(self, request: &HeaderMap) -> Response {
        let etag = format!("\"{}\"", self.version);
        let validators = [
            (header::ETAG, etag.clone()),
            (header::LAST_MODIFIED, http_date(self.modified)),
            (header::CACHE_CONTROL, "no-cache".to_owned()),
        ];
        if is_current(request, &etag, self.modified) {
            return (StatusCode::NOT_MODIFIED, validators).into_response();
        }
        (validators, [(header::CONTENT_TYPE, self.content_type)], self.body).into_response()
    }
}

/// Whether the client holds this version; `If-None-Match`, when sent, decides alone.
fn is_current(request: &HeaderMap, etag: &str, modified: Timestamp) -> bool {
    let text = |name: HeaderName| request.get(name).and_then(|value| value.to_str().ok());
    if let Some(held) = text(header::IF_NONE_MATCH) {
        return held
            .split(',')
            .map(|held| held.trim().trim_start_matches("W/"))
            .any(|held| held == etag || held == "*");
    }
    text(header::IF_MODIFIED_SINCE)
        .and_then(|since| rfc2822::DateTimeParser::new().parse_timestamp(since).ok())
        .is_some_and(|since| modified.as_second() <= since.as_second())
}

fn http_date(time: Timestamp) -> String {
    // Only years beyond 9999 have no such form, and editions are counted from a time within them.
    rfc2822::DateTimePrinter::new().timestamp_to_rfc9110_string(&time).unwrap_or_default()
}

#[cfg(test)]
mod tests;
