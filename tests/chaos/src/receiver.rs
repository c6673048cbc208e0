//! Who gets webhooks: it fails by script, and keeps what it took.

use std::{
    collections::HashMap,
    net::Ipv4Addr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{StatusCode, Uri},
    response::{IntoResponse, Response},
};
use jiff::Timestamp;
use serde_json::Value;
use tests::Random;
use tokio::{
    net::TcpListener,
    runtime::{Builder, Runtime},
    sync::watch,
    time::sleep,
};

/// One server for all webhooks.
pub struct Receiver {
    port: u16,
    shared: Arc<Shared>,
    /// Where it serves: what is killed there has no connections any more.
    serving: Mutex<Option<Runtime>>,
}

struct Shared {
    seed: u64,
    is_down: AtomicBool,
    is_paused: watch::Sender<bool>,
    /// How often a delivery was refused.
    refused: Mutex<HashMap<String, u32>>,
    log: Mutex<Vec<Received>>,
}

/// A delivery that came.
#[derive(Clone, Debug)]
pub struct Received {
    /// When.
    pub at: Timestamp,
    /// Whose.
    pub subscription: String,
    /// Under which name of a target.
    pub target: String,
    /// The delivery's id.
    pub id: String,
    /// Whether it was taken.
    pub is_taken: bool,
    /// What it tells.
    pub changes: Vec<ReceivedChange>,
}

/// A change as a target is told of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReceivedChange {
    /// Of which document.
    pub url: String,
    /// What happened, in lower case.
    pub kind: String,
    /// The version's number.
    pub number: i64,
}

/// A delivery is refused so often at most: the next attempt after the first is made within seconds.
const MOST_REFUSALS: u32 = 1;

impl Receiver {
    /// Listens on a free port.
    pub async fn start(seed: u64) -> Self {
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let shared = Arc::new(Shared {
            seed,
            is_down: AtomicBool::new(false),
            is_paused: watch::Sender::new(false),
            refused: Mutex::default(),
            log: Mutex::default(),
        });
        let serving = Mutex::new(Some(serve(listener, &shared)));
        Self { port, shared, serving }
    }

    /// Its port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Refuses what it has not refused before, or does no more.
    pub fn set_down(&self, is_down: bool) {
        self.shared.is_down.store(is_down, Ordering::SeqCst);
    }

    /// Answers nothing for now, or does again.
    pub fn set_paused(&self, is_paused: bool) {
        self.shared.is_paused.send_replace(is_paused);
    }

    /// Ends its connections, and makes none for a time.
    pub async fn kill(&self, time: Duration) {
        self.end();
        sleep(time).await;
        // Until whoever was given the port meanwhile has left it.
        let listener = loop {
            match std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, self.port)) {
                Ok(listener) => break listener,
                Err(_) => sleep(Duration::from_millis(100)).await,
            }
        };
        *self.serving.lock().unwrap_or_else(PoisonError::into_inner) = Some(serve(listener, &self.shared));
    }

    fn end(&self) {
        if let Some(runtime) = self.serving.lock().unwrap_or_else(PoisonError::into_inner).take() {
            runtime.shutdown_background();
        }
    }

    /// What came, in order.
    #[must_use]
    pub fn log(&self) -> Vec<Received> {
        self.shared.log.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.end();
    }
}

impl Received {
    /// Reads what a target gets; whatever it is sent through.
    #[must_use]
    pub fn read(payload: &[u8], is_taken: bool) -> Option<Self> {
        let payload: Value = serde_json::from_slice(payload).ok()?;
        let data = &payload["data"];
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let changes = data["changes"].as_array()?.iter().map(|change| {
            // One that is gone has no new text, and the number after the last one that it had.
            let number = change["new"]["number"].as_i64();
            Some(ReceivedChange {
                url: text(&change["url"])?,
                kind: text(&change["kind"])?,
                number: number.or_else(|| Some(change["old"]["number"].as_i64()? + 1))?,
            })
        });
        Some(Self {
            at: Timestamp::now(),
            subscription: text(&data["subscription"]["name"])?,
            target: text(&data["target"])?,
            id: text(&data["id"])?,
            is_taken,
            changes: changes.collect::<Option<_>>()?,
        })
    }
}

fn serve(listener: std::net::TcpListener, shared: &Arc<Shared>) -> Runtime {
    let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let router = Router::new().fallback(receive).with_state(shared.clone());
    listener.set_nonblocking(true).unwrap();
    runtime
        .spawn(async move { axum::serve(TcpListener::from_std(listener).unwrap(), router).await.unwrap() });
    runtime
}

async fn receive(State(shared): State<Arc<Shared>>, uri: Uri, body: Bytes) -> Response {
    let Some(mut received) = Received::read(&body, true) else {
        return (StatusCode::BAD_REQUEST, "this is no delivery").into_response();
    };
    if uri.path() != format!("/{}/{}", received.subscription, received.target) {
        return (StatusCode::NOT_FOUND, "this is somebody else's").into_response();
    }
    let digits: String = received.id.chars().filter(char::is_ascii_hexdigit).take(15).collect();
    let mut random = Random::new(shared.seed, u64::from_str_radix(&digits, 16).unwrap_or_default());
    let (is_refused, is_slow) = (random.percent(12), random.percent(5));
    received.is_taken = {
        let mut refused = shared.refused.lock().unwrap_or_else(PoisonError::into_inner);
        let times = refused.entry(received.id.clone()).or_default();
        let wants = is_refused || shared.is_down.load(Ordering::SeqCst);
        let refuses = wants && *times < MOST_REFUSALS;
        *times += u32::from(refuses);
        !refuses
    };
    if is_slow {
        sleep(Duration::from_secs(2)).await;
    }
    // The sender lives as long as the receiver.
    let _ = shared.is_paused.subscribe().wait_for(|is_paused| !is_paused).await;
    let status = if received.is_taken { StatusCode::NO_CONTENT } else { StatusCode::INTERNAL_SERVER_ERROR };
    shared.log.lock().unwrap_or_else(PoisonError::into_inner).push(received);
    status.into_response()
}
