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

pub(super) struct Site {
    port: u16,
    pages: Arc<Pages>,
    serving: AbortHandle,
}

/// Each path has a text of its own, which changes with the edition.
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
    pub(super) async fn start(bytes: usize) -> Result<Self, BoxError> {
        let pages = Arc::new(Pages { edition: AtomicUsize::new(0), bytes: AtomicUsize::new(bytes) });
        let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).await?;
        let SocketAddr::V4(address) = listener.local_addr()? else { return Err("no IPv4 address".into()) };
        let router = Router::new().fallback(get(serve)).with_state(pages.clone());
        let serving = tokio::spawn(async move { axum::serve(listener, router).await });
        Ok(Self { port: address.port(), pages, serving: serving.abort_handle() })
    }

    /// The URLs of `count` documents of `hosts` hosts, which take turns.
    pub(super) fn urls(&self, hosts: usize, count: usize) -> Vec<String> {
        let host = |number: usize| format!("127.1.{}.{}", number / 250, number % 250 + 1);
        (0..count).map(|number| format!("http://{}:{}/{number}", host(number % hosts), self.port)).collect()
    }

    /// The ETag of all documents.
    pub(super) fn etag(&self) -> String {
        self.pages.etag()
    }

    /// All documents change.
    pub(super) fn change(&self) {
        self.pages.edition.fetch_add(1, Ordering::SeqCst);
    }

    /// How large they are from now on.
    pub(super) fn set_bytes(&self, bytes: usize) {
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
    let line = format!("<p>edition {etag} of {}, a line of a text that is long enough\n", uri.path());
    let bytes = pages.bytes.load(Ordering::SeqCst);
    let text: Vec<u8> = line.bytes().cycle().take(bytes).collect();
    let headers = [(header::ETAG, etag), (header::CONTENT_TYPE, "text/html; charset=utf-8".to_owned())];
    (headers, Bytes::from(text)).into_response()
}
