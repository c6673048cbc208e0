//! An HTTP endpoint on this machine.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{Request, State};
use axum::http::request::Parts;
use axum::response::Response;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio::time::sleep;

/// A server on a free port of 127.0.0.1, with what it was sent.
pub(crate) struct Receiver {
    pub(crate) address: SocketAddr,
    received: Arc<Mutex<Vec<(Parts, Bytes)>>>,
}

#[derive(Clone)]
struct Receiving {
    received: Arc<Mutex<Vec<(Parts, Bytes)>>>,
    answer: Arc<dyn Fn(&Parts) -> Response + Send + Sync>,
}

impl Receiver {
    /// Answers each request with `answer`.
    pub(crate) async fn start(answer: impl Fn(&Parts) -> Response + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let received = Arc::default();
        let receiving = Receiving { received: Arc::clone(&received), answer: Arc::new(answer) };
        let router = Router::new().fallback(receive).with_state(receiving);
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { address, received }
    }

    /// One that says 200 and `ok`.
    pub(crate) async fn willing() -> Self {
        Self::start(|_| answer(200, &[], "ok")).await
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// What has been received since this was last asked.
    pub(crate) fn take(&self) -> Vec<(Parts, Bytes)> {
        std::mem::take(&mut *self.received.lock().unwrap())
    }
}

async fn receive(State(receiving): State<Receiving>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let body = to_bytes(body, usize::MAX).await.unwrap();
    let answer = (receiving.answer)(&parts);
    receiving.received.lock().unwrap().push((parts, body));
    answer
}

pub(crate) fn answer(status: u16, headers: &[(&str, &str)], body: &str) -> Response {
    let mut answer = Response::builder().status(status);
    for (name, value) in headers {
        answer = answer.header(*name, *value);
    }
    answer.body(Body::from(body.to_owned())).unwrap()
}

/// A server that says `begin` to whoever asks, then `more` again and again after a pause each, for as long as it is listened
/// to. The notification tells that this has ended.
pub(crate) async fn dripping(
    begin: &'static str,
    more: &'static str,
    pause: Duration,
) -> (SocketAddr, Arc<Notify>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let ended = Arc::new(Notify::new());
    let notified = Arc::clone(&ended);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let ended = Arc::clone(&ended);
            tokio::spawn(async move {
                let _ = stream.read(&mut [0; 64 * 1024]).await;
                let mut said = stream.write_all(begin.as_bytes()).await;
                while said.is_ok() {
                    sleep(pause).await;
                    said = stream.write_all(more.as_bytes()).await;
                }
                ended.notify_one();
            });
        }
    });
    (address, notified)
}
