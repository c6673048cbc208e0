//! Pages that change as time goes by, and a receiver of deliveries, on all addresses of loopback.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, StatusCode, Uri, header},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use events::BoxError;
use tokio::{net::TcpListener, task::AbortHandle};

/// How large a page is, in bytes.
const BYTES: usize = 20_000;

pub(super) struct Site {
    port: u16,
    shared: Arc<Shared>,
    serving: AbortHandle,
}

struct Shared {
    started: Instant,
    change_every: Duration,
    posted: AtomicU64,
}

impl Site {
    /// One whose pages each change so often, one after the other.
    pub(super) async fn start(change_every: Duration) -> Result<Self, BoxError> {
        let shared = Arc::new(Shared { started: Instant::now(), change_every, posted: AtomicU64::new(0) });
        let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).await?;
        let SocketAddr::V4(address) = listener.local_addr()? else { return Err("no IPv4 address".into()) };
        let router =
            Router::new().route("/hook", post(receive)).fallback(get(serve)).with_state(shared.clone());
        let serving = tokio::spawn(async move { axum::serve(listener, router).await });
        Ok(Self { port: address.port(), shared, serving: serving.abort_handle() })
    }

    /// The URL of a page of one of so many hosts.
    pub(super) fn page(&self, number: usize, hosts: usize) -> String {
        let host = number % hosts;
        format!("http://127.1.{}.{}:{}/{number}", host / 250, host % 250 + 1, self.port)
    }

    /// Where deliveries go.
    pub(super) fn hook(&self) -> String {
        format!("http://127.0.0.1:{}/hook", self.port)
    }

    /// How many came.
    pub(super) fn posted(&self) -> u64 {
        self.shared.posted.load(Ordering::Relaxed)
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn receive(State(shared): State<Arc<Shared>>, _body: Bytes) -> StatusCode {
    shared.posted.fetch_add(1, Ordering::Relaxed);
    StatusCode::NO_CONTENT
}

async fn serve(State(shared): State<Arc<Shared>>, uri: Uri, headers: HeaderMap) -> Response {
    let number: u64 = uri.path().trim_start_matches('/').parse().unwrap_or_default();
    // Each has its own moment, so that the load is even.
    let moment = shared.started.elapsed().as_millis() + u128::from(number * 997);
    let edition = moment / shared.change_every.as_millis();
    let etag = format!("\"{number}-{edition}\"");
    if headers.get(header::IF_NONE_MATCH).is_some_and(|known| known == etag.as_str()) {
        return (StatusCode::NOT_MODIFIED, [(header::ETAG, etag)]).into_response();
    }
    let line = format!("<p>edition {edition} of {number}, a line of a text that is long enough\n");
    let text: Vec<u8> = line.bytes().cycle().take(BYTES).collect();
    let headers = [(header::ETAG, etag), (header::CONTENT_TYPE, "text/html; charset=utf-8".to_owned())];
    (headers, Bytes::from(text)).into_response()
}
