use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use axum::{Router, extract::State, http::StatusCode, response::IntoResponse, routing::get};
use tokio::{net::TcpListener, sync::watch, task::AbortHandle};

/// A web server with one page, which the test sets.
pub struct Origin {
    address: SocketAddr,
    shared: Arc<Shared>,
    serving: AbortHandle,
}

struct Shared {
    page: Mutex<(u16, String)>,
    requests: AtomicUsize,
    held: watch::Sender<bool>,
}

impl Origin {
    /// Serves `page` at any path, on loopback.
    pub async fn start(page: &str) -> Self {
        Self::start_on(Ipv4Addr::LOCALHOST, page).await
    }

    /// The same on another address of this machine.
    pub async fn start_on(address: Ipv4Addr, page: &str) -> Self {
        let shared = Arc::new(Shared {
            page: Mutex::new((200, page.to_owned())),
            requests: AtomicUsize::new(0),
            held: watch::Sender::new(false),
        });
        let listener = TcpListener::bind((address, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = Router::new().fallback(get(serve)).with_state(shared.clone());
        let serving = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { address, shared, serving: serving.abort_handle() }
    }

    /// The page's address.
    pub fn url(&self) -> String {
        format!("http://{}/opinions", self.address)
    }

    /// Serves something else from now on.
    pub fn set(&self, status: u16, page: &str) {
        *self.shared.page.lock().unwrap() = (status, page.to_owned());
    }

    /// Lets requests wait until [`Origin::release`].
    pub fn hold(&self) {
        self.shared.held.send_replace(true);
    }

    /// Answers those that wait.
    pub fn release(&self) {
        self.shared.held.send_replace(false);
    }

    /// How many requests came, answered or not.
    pub fn requests(&self) -> usize {
        self.shared.requests.load(Ordering::SeqCst)
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn serve(State(shared): State<Arc<Shared>>) -> impl IntoResponse {
    shared.requests.fetch_add(1, Ordering::SeqCst);
    // The sender lives as long as the origin.
    let _ = shared.held.subscribe().wait_for(|held| !held).await;
    let (status, page) = shared.page.lock().unwrap().clone();
    (StatusCode::from_u16(status).unwrap(), [("content-type", "text/html; charset=utf-8")], page)
}
