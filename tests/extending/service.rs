//! A service that takes CloudEvents.

use std::{
    net::Ipv4Addr,
    sync::{Arc, Mutex},
};

use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, StatusCode},
    routing::post,
};
use serde_json::Value;
use tokio::{net::TcpListener, task::AbortHandle};

/// What it answers to the event that is the n-th to come, counted from 0.
type Answer = dyn Fn(usize, &Value) -> (StatusCode, String) + Send + Sync;

pub(crate) struct Service {
    url: String,
    shared: Arc<Shared>,
    serving: AbortHandle,
}

struct Shared {
    answer: Box<Answer>,
    posted: Mutex<Vec<Posted>>,
}

#[derive(Clone, Debug)]
pub(crate) struct Posted {
    pub(crate) headers: HeaderMap,
    pub(crate) event: Value,
}

impl Service {
    pub(crate) async fn start(
        answer: impl Fn(usize, &Value) -> (StatusCode, String) + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let url = format!("http://{}/events", listener.local_addr().unwrap());
        let shared = Arc::new(Shared { answer: Box::new(answer), posted: Mutex::default() });
        let router = Router::new().route("/events", post(take)).with_state(shared.clone());
        let serving = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { url, shared, serving: serving.abort_handle() }
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    pub(crate) fn posted(&self) -> Vec<Posted> {
        self.shared.posted.lock().unwrap().clone()
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn take(State(shared): State<Arc<Shared>>, headers: HeaderMap, body: Bytes) -> (StatusCode, String) {
    let event: Value = serde_json::from_slice(&body).unwrap();
    let mut posted = shared.posted.lock().unwrap();
    let answer = (shared.answer)(posted.len(), &event);
    posted.push(Posted { headers, event });
    answer
}
