//! A web server on all addresses of loopback, so that each is a host of its own.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, StatusCode, Uri, header},
    response::{IntoResponse, Response},
    routing::get,
};
use events::BoxError;
use tokio::{net::TcpListener, task::AbortHandle};

pub(crate) struct Site {
    port: u16,
    pages: Arc<Pages>,
    serving: AbortHandle,
}

/// The newest entry of the first edition.
const FIRST_EDITION: usize = 1_000_000;
/// As many fall off at the end.
const NEW_IN_AN_EDITION: usize = 25;

/// Each path has a text of its own: a list of entries, the newest first, some of them new with each edition.
struct Pages {
    edition: AtomicUsize,
    bytes: AtomicUsize,
}

impl Pages {
    fn etag(&self) -> String {
        format!("\"{}\"", self.edition.load(Ordering::SeqCst))
    }
}

impl Site {
    pub(crate) async fn start(bytes: usize) -> Result<Self, BoxError> {
        let pages = Arc::new(Pages { edition: AtomicUsize::new(0), bytes: AtomicUsize::new(bytes) });
        let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).await?;
        let SocketAddr::V4(address) = listener.local_addr()? else { return Err("no IPv4 address".into()) };
        let router = Router::new().fallback(get(serve)).with_state(pages.clone());
        let serving = tokio::spawn(async move { axum::serve(listener, router).await });
        Ok(Self { port: address.port(), pages, serving: serving.abort_handle() })
    }

    /// The URLs of `count` documents of `hosts` hosts, which take turns.
    pub(crate) fn urls(&self, hosts: usize, count: usize) -> Vec<String> {
        let host = |number: usize| format!("127.1.{}.{}", number / 250, number % 250 + 1);
        (0..count).map(|number| format!("http://{}:{}/{number}", host(number % hosts), self.port)).collect()
    }

    /// The ETag of all documents.
    pub(crate) fn etag(&self) -> String {
        self.pages.etag()
    }

    /// All documents change.
    pub(crate) fn change(&self) {
        self.pages.edition.fetch_add(1, Ordering::SeqCst);
    }

    /// How large they are from now on.
    pub(crate) fn set_bytes(&self, bytes: usize) {
        self.pages.bytes.store(bytes, Ordering::SeqCst);
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn serve(State(pages): State<Arc<Pages>>, uri: Uri, headers: HeaderMap) -> Response {
    let etag = pages.etag();
    if headers.get(header::IF_NONE_MATCH).is_some_and(|known| known == etag.as_str()) {
        return (StatusCode::NOT_MODIFIED, [(header::ETAG, etag)]).into_response();
    }
    let newest = FIRST_EDITION + pages.edition.load(Ordering::SeqCst) * NEW_IN_AN_EDITION;
    let bytes = pages.bytes.load(Ordering::SeqCst);
    let mut text = Vec::with_capacity(bytes + 100);
    for entry in 0.. {
        if text.len() >= bytes {
            break;
        }
        let number = newest.saturating_sub(entry);
        let line = format!("<p>entry {number} of {}, a line of a text that is long enough\n", uri.path());
        text.extend_from_slice(line.as_bytes());
    }
    text.truncate(bytes);
    let headers = [(header::ETAG, etag), (header::CONTENT_TYPE, "text/html; charset=utf-8".to_owned())];
    (headers, Bytes::from(text)).into_response()
}
