use std::{
    collections::HashMap,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard},
};

use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, StatusCode, Uri, header},
    response::{IntoResponse, Response},
};
use jiff::Timestamp;
use sha2::{Digest, Sha256};
use tokio::{net::TcpListener, sync::watch, task::AbortHandle};

/// A web server with one page, which the test sets, and a robots.txt.
pub struct Origin {
    address: SocketAddr,
    shared: Arc<Shared>,
    serving: AbortHandle,
}

struct Shared {
    site: Mutex<Site>,
    held: watch::Sender<bool>,
}

struct Site {
    page: (u16, String),
    files: HashMap<String, File>,
    robots: (u16, String),
    robots_headers: Vec<(&'static str, String)>,
    headers: Vec<(&'static str, String)>,
    etag: Option<String>,
    requests: Vec<Request>,
}

/// What stands at one path.
struct File {
    content_type: &'static str,
    bytes: Vec<u8>,
    /// Changes with the bytes.
    etag: String,
}

/// A request that came.
#[derive(Clone, Debug)]
pub struct Request {
    /// When.
    pub at: Timestamp,
    /// For what.
    pub path: String,
    /// With what.
    pub headers: HeaderMap,
    /// What it carried.
    pub body: Bytes,
}

impl Origin {
    /// Serves `page`, to whatever request, at any path but `/robots.txt`, which is not there, on loopback.
    pub async fn start(page: &str) -> Self {
        Self::start_on(Ipv4Addr::LOCALHOST, page).await
    }

    /// The same on another address of this machine.
    pub async fn start_on(address: Ipv4Addr, page: &str) -> Self {
        let site = Site {
            page: (200, page.to_owned()),
            files: HashMap::new(),
            robots: (404, String::new()),
            robots_headers: Vec::new(),
            headers: Vec::new(),
            etag: None,
            requests: Vec::new(),
        };
        let shared = Arc::new(Shared { site: Mutex::new(site), held: watch::Sender::new(false) });
        let listener = TcpListener::bind((address, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = Router::new().fallback(serve).with_state(shared.clone());
        let serving = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { address, shared, serving: serving.abort_handle() }
    }

    /// The page's address.
    pub fn url(&self) -> String {
        format!("http://{}/opinions", self.address)
    }

    /// Its name for politeness.
    pub fn host(&self) -> String {
        self.address.to_string()
    }

    /// Serves something else from now on.
    pub fn set(&self, status: u16, page: &str) {
        self.site().page = (status, page.to_owned());
    }

    /// Serves a file at a path from now on, as file servers do: under an entity tag, to who does not have it.
    pub fn put(&self, path: &str, content_type: &'static str, bytes: impl Into<Vec<u8>>) {
        let bytes = bytes.into();
        let etag = format!(
            "\"{:x}\"",
            Sha256::digest(&bytes)[..8].iter().fold(0_u64, |all, byte| all << 8 | u64::from(*byte))
        );
        self.site().files.insert(path.to_owned(), File { content_type, bytes, etag });
    }

    /// The paths of the requests since `count` of them had come, in their order, each with whether it was conditional.
    pub fn paths_after(&self, count: usize) -> Vec<(String, bool)> {
        let asked =
            |request: &Request| (request.path.clone(), request.headers.contains_key(header::IF_NONE_MATCH));
        self.site().requests.iter().filter(|request| request.path != ROBOTS).skip(count).map(asked).collect()
    }

    /// The URL of a path.
    pub fn at(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Serves another robots.txt from now on.
    pub fn set_robots(&self, status: u16, text: &str) {
        self.site().robots = (status, text.to_owned());
    }

    /// Sends these headers too from now on, but not with robots.txt.
    pub fn set_headers(&self, headers: &[(&'static str, &str)]) {
        self.site().headers = owned(headers);
    }

    /// Sends these headers with robots.txt from now on.
    pub fn set_robots_headers(&self, headers: &[(&'static str, &str)]) {
        self.site().robots_headers = owned(headers);
    }

    /// Names the state of the page, and answers 304 to who knows it.
    pub fn set_etag(&self, etag: &str) {
        self.site().etag = Some(etag.to_owned());
    }

    /// Lets requests, but those for robots.txt, wait until [`Origin::release`].
    pub fn hold(&self) {
        self.shared.held.send_replace(true);
    }

    /// Answers those that wait.
    pub fn release(&self) {
        self.shared.held.send_replace(false);
    }

    /// How many requests for the page came, answered or not.
    pub fn requests(&self) -> usize {
        self.site().requests.iter().filter(|request| request.path != ROBOTS).count()
    }

    /// All requests, in the order in which they came.
    pub fn all_requests(&self) -> Vec<Request> {
        self.site().requests.clone()
    }

    fn site(&self) -> MutexGuard<'_, Site> {
        self.shared.site.lock().unwrap()
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

const ROBOTS: &str = "/robots.txt";

fn owned(headers: &[(&'static str, &str)]) -> Vec<(&'static str, String)> {
    headers.iter().map(|(name, value)| (*name, (*value).to_owned())).collect()
}

async fn serve(State(shared): State<Arc<Shared>>, uri: Uri, headers: HeaderMap, body: Bytes) -> Response {
    let known = headers.get(header::IF_NONE_MATCH).cloned();
    shared.site.lock().unwrap().requests.push(Request {
        at: Timestamp::now(),
        path: uri.path().to_owned(),
        headers,
        body,
    });
    if uri.path() == ROBOTS {
        let site = shared.site.lock().unwrap();
        let (status, text) = site.robots.clone();
        let mut response = (StatusCode::from_u16(status).unwrap(), text).into_response();
        for (name, value) in &site.robots_headers {
            response.headers_mut().insert(*name, value.parse().unwrap());
        }
        return response;
    }
    // The sender lives as long as the origin.
    let _ = shared.held.subscribe().wait_for(|held| !held).await;
    let site = shared.site.lock().unwrap();
    if let Some(file) = site.files.get(uri.path()) {
        let status = if known.is_some_and(|known| known == file.etag) { 304 } else { 200 };
        let body = if status == 304 { Vec::new() } else { file.bytes.clone() };
        let headers = [("content-type", file.content_type.to_owned()), ("etag", file.etag.clone())];
        return (StatusCode::from_u16(status).unwrap(), headers, body).into_response();
    }
    let (status, page) = site.page.clone();
    let is_known = site.etag.as_deref().is_some_and(|etag| known.is_some_and(|known| known == etag));
    let (status, page) = if is_known { (304, String::new()) } else { (status, page) };
    let mut response = (StatusCode::from_u16(status).unwrap(), page).into_response();
    let etag = site.etag.iter().map(|etag| ("etag", etag.clone()));
    let content_type = [("content-type", "text/html; charset=utf-8".to_owned())];
    for (name, value) in content_type.into_iter().chain(etag).chain(site.headers.iter().cloned()) {
        response.headers_mut().insert(name, value.parse().unwrap());
    }
    response
}
