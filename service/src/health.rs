//! One port for `/livez`, `/readyz` and `/metrics`.

use std::{
    collections::BTreeMap,
    future::IntoFuture,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::{
    Router,
    extract::State,
    http::{StatusCode, header},
    response::IntoResponse,
    routing::get,
};
use prometheus_client::registry::Registry;
use store::catalog::Catalog;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tracing::{error, info};

/// How long the catalog may take to answer a readiness probe.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);

/// Something that must be so for the process to be ready. Clones share it.
#[derive(Clone, Default)]
pub struct Check {
    problem: Arc<Mutex<BTreeMap<&'static str, String>>>,
}

impl Check {
    /// Notes that `part` is as it should be.
    pub fn well(&self, part: &'static str) {
        self.problems().remove(part);
    }

    /// Notes what is wrong with `part`.
    pub fn ill(&self, part: &'static str, problem: impl Into<String>) {
        self.problems().insert(part, problem.into());
    }

    fn problems(&self) -> std::sync::MutexGuard<'_, BTreeMap<&'static str, String>> {
        // A map is whole between any two calls.
        self.problem.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The server of probes and metrics.
pub struct HealthServer {
    listener: TcpListener,
    state: Arc<ServerState>,
}

struct ServerState {
    registry: Registry,
    catalog: Catalog,
    check: Check,
}

/// The probes' port could not be opened.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address} for probes and metrics; choose another address with --listen")]
pub struct HealthServerError {
    address: SocketAddr,
    #[source]
    source: std::io::Error,
}

impl HealthServer {
    /// Opens the port.
    ///
    /// # Errors
    /// When the address is taken or not this machine's.
    pub async fn bind(
        address: SocketAddr,
        registry: Registry,
        catalog: Catalog,
        check: Check,
    ) -> Result<Self, HealthServerError> {
        let listener =
            TcpListener::bind(address).await.map_err(|source| HealthServerError { address, source })?;
        let address = listener.local_addr().map_err(|source| HealthServerError { address, source })?;
        info!(%address, "serving probes and metrics");
        Ok(Self { listener, state: Arc::new(ServerState { registry, catalog, check }) })
    }

    /// Serves until `shutdown`.
    pub async fn serve(self, shutdown: CancellationToken) {
        let router = Router::new()
            .route("/livez", get(|| async { "ok\n" }))
            .route("/readyz", get(ready))
            .route("/metrics", get(metrics))
            .with_state(self.state);
        let serving =
            axum::serve(self.listener, router).with_graceful_shutdown(shutdown.clone().cancelled_owned());
        let patience = async {
            shutdown.cancelled().await;
            tokio::time::sleep(ANSWER_WITHIN).await;
        };
        tokio::select! {
            // A client that never ends its request keeps no process.
            () = patience => {}
            served = serving.into_future() => if let Err(error) = served {
                error!(%error, "probes and metrics are no longer served");
            },
        }
    }
}

async fn ready(State(state): State<Arc<ServerState>>) -> (StatusCode, String) {
    let mut problems = state.check.problems().clone();
    match tokio::time::timeout(ANSWER_WITHIN, state.catalog.ping()).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => {
            problems.insert("catalog", events::error_chain(&error));
        }
        Err(_) => {
            problems.insert("catalog", "it does not answer".to_owned());
        }
    }
    if problems.is_empty() {
        return (StatusCode::OK, "ok\n".to_owned());
    }
    let lines = problems.iter().map(|(part, problem)| format!("{part}: {problem}\n")).collect();
    (StatusCode::SERVICE_UNAVAILABLE, lines)
}

async fn metrics(State(state): State<Arc<ServerState>>) -> impl IntoResponse {
    let mut text = String::new();
    match prometheus_client::encoding::text::encode(&mut text, &state.registry) {
        Ok(()) => {
            let content_type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
            (StatusCode::OK, [(header::CONTENT_TYPE, content_type)], text)
        }
        Err(error) => {
            (StatusCode::INTERNAL_SERVER_ERROR, [(header::CONTENT_TYPE, "text/plain")], error.to_string())
        }
    }
}
