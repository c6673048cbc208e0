//! The site that is watched: pages and lists on many hosts, which change and fail as the script says.

use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use axum::{
    Router,
    extract::State,
    http::{HeaderMap, StatusCode, Uri, header},
    response::{IntoResponse, Response},
};
use jiff::Timestamp;
use tests::sha256;
use tokio::{net::TcpListener, task::AbortHandle, time::sleep};

/// A web server on all addresses of loopback.
pub struct Site {
    port: u16,
    pages: Arc<Mutex<Pages>>,
    serving: AbortHandle,
}

#[derive(Default)]
struct Pages {
    pages: HashMap<String, Page>,
    /// The hashes of all bodies that a path ever had.
    bodies: HashMap<String, BTreeSet<String>>,
    log: Vec<Served>,
}

struct Page {
    body: String,
    /// One for each of the next requests.
    moods: VecDeque<Mood>,
    /// Which host its redirect leads to.
    moved_to: Option<String>,
}

/// How a request is answered otherwise than with the page at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mood {
    /// With a status that is no success.
    Status(u16),
    /// Late.
    Slow(Duration),
}

/// A request that was answered.
#[derive(Clone, Debug)]
pub struct Served {
    /// When it came.
    pub at: Timestamp,
    /// For which path.
    pub path: String,
    /// How it was answered.
    pub status: u16,
    /// What it began with.
    pub body: String,
}

/// What a path is asked under to which a redirect leads.
const MOVED: &str = "/moved";

impl Site {
    /// Listens on a free port.
    pub async fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).await.unwrap();
        let address: SocketAddr = listener.local_addr().unwrap();
        let pages = Arc::new(Mutex::new(Pages::default()));
        let router = Router::new().fallback(serve).with_state(pages.clone());
        let serving = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { port: address.port(), pages, serving: serving.abort_handle() }
    }

    /// Its port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// A page has this body from now on.
    pub fn set(&self, path: &str, body: String) {
        let mut pages = self.pages();
        pages.bodies.entry(path.to_owned()).or_default().insert(sha256(body.as_bytes()));
        let new = || Page { body: String::new(), moods: VecDeque::new(), moved_to: None };
        pages.pages.entry(path.to_owned()).or_insert_with(new).body = body;
    }

    /// The next request for a page is answered so.
    pub fn add_mood(&self, path: &str, mood: Mood) {
        if let Some(page) = self.pages().pages.get_mut(path) {
            page.moods.push_back(mood);
        }
    }

    /// A page answers with a redirect to another host, or does no more.
    pub fn move_to(&self, path: &str, host: Option<String>) {
        if let Some(page) = self.pages().pages.get_mut(path) {
            page.moved_to = host;
        }
    }

    /// Whether it answers with a redirect.
    #[must_use]
    pub fn is_moved(&self, path: &str) -> bool {
        self.pages().pages.get(path).is_some_and(|page| page.moved_to.is_some())
    }

    /// Whether a path ever had a body with this SHA-256.
    #[must_use]
    pub fn ever_had(&self, path: &str, hash: &str) -> bool {
        self.pages().bodies.get(path).is_some_and(|hashes| hashes.contains(hash))
    }

    /// What was asked for at a path, and what was answered.
    #[must_use]
    pub fn log_of(&self, path: &str) -> Vec<Served> {
        self.pages().log.iter().filter(|served| served.path == path).cloned().collect()
    }

    fn pages(&self) -> MutexGuard<'_, Pages> {
        self.pages.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn serve(State(pages): State<Arc<Mutex<Pages>>>, uri: Uri, headers: HeaderMap) -> Response {
    let at = Timestamp::now();
    let asked = uri.path();
    let path = asked.strip_prefix(MOVED).unwrap_or(asked).to_owned();
    let lock = || pages.lock().unwrap_or_else(PoisonError::into_inner);
    let mood = lock().pages.get_mut(&path).and_then(|page| page.moods.pop_front());
    if let Some(Mood::Slow(time)) = mood {
        sleep(time).await;
    }
    let mut pages = lock();
    let Some(page) = pages.pages.get(&path) else {
        return (StatusCode::NOT_FOUND, "there is no such page").into_response();
    };
    let (mut body, etag) = (page.body.clone(), format!("\"{}\"", &sha256(page.body.as_bytes())[..16]));
    // Half of the pages name their state.
    let has_etag = path.len().is_multiple_of(2);
    let is_known = headers.get(header::IF_NONE_MATCH).is_some_and(|known| known == etag.as_str());
    let mut location = None;
    let status = match mood {
        Some(Mood::Status(status)) => {
            body = "not now".to_owned();
            StatusCode::from_u16(status).unwrap()
        }
        _ if page.moved_to.is_some() && asked == path => {
            let port = uri_port(&headers);
            location = page.moved_to.as_ref().map(|host| format!("http://{host}:{port}{MOVED}{path}"));
            body = String::new();
            StatusCode::FOUND
        }
        _ if has_etag && is_known => {
            body = String::new();
            StatusCode::NOT_MODIFIED
        }
        _ => StatusCode::OK,
    };
    let beginning = body.chars().take(80).collect();
    pages.log.push(Served { at, path, status: status.as_u16(), body: beginning });
    drop(pages);
    let mut response = (status, body).into_response();
    let answers = response.headers_mut();
    answers.insert(header::CONTENT_TYPE, "text/html; charset=utf-8".parse().unwrap());
    if has_etag && status.as_u16() < 400 && location.is_none() {
        answers.insert(header::ETAG, etag.parse().unwrap());
    }
    if let Some(location) = location {
        answers.insert(header::LOCATION, location.parse().unwrap());
    }
    response
}

/// All hosts have the port that was asked.
fn uri_port(headers: &HeaderMap) -> String {
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    host.rsplit(':').next().unwrap_or_default().to_owned()
}
