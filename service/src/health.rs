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
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{family::Family, gauge::Gauge},
    registry::Registry,
};
use store::catalog::Catalog;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tracing::{error, info};

/// How long the catalog may take to answer a readiness probe.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);

const CATALOG: &str = "catalog";

/// What must be so for the process to be ready. Clones share it.
#[derive(Clone, Default)]
pub struct Check {
    /// Of each part, what is wrong with it.
    parts: Arc<Mutex<BTreeMap<&'static str, Option<String>>>>,
}

impl Check {
    /// Notes that `part` is as it should be.
    pub fn well(&self, part: &'static str) {
        self.parts().insert(part, None);
    }

    /// Notes what is wrong with `part`.
    pub fn ill(&self, part: &'static str, problem: impl Into<String>) {
        self.parts().insert(part, Some(problem.into()));
    }

    fn parts(&self) -> std::sync::MutexGuard<'_, BTreeMap<&'static str, Option<String>>> {
        // A map is whole between any two calls.
        self.parts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PartLabels {
    part: &'static str,
}

/// The readiness as figures. docs/metrics.md lists them.
pub struct ReadinessMetrics {
    parts: Family<PartLabels, Gauge>,
}

impl ReadinessMetrics {
    /// Makes the figures and registers them.
    pub fn register(registry: &mut Registry) -> Self {
        let parts = Family::<PartLabels, Gauge>::default();
        drop(parts.get_or_create(&PartLabels { part: CATALOG }));
        registry.register(
            "tipstaff_part_ready",
            "Whether a part that the process needs is as it should be",
            parts.clone(),
        );
        Self { parts }
    }

    fn show(&self, parts: &BTreeMap<&'static str, Option<String>>) {
        for (&part, problem) in parts {
            self.parts.get_or_create(&PartLabels { part }).set(problem.is_none().into());
        }
    }
}

/// The server of probes and metrics.
pub struct HealthServer {
    listener: TcpListener,
    state: Arc<ServerState>,
}

struct ServerState {
    registry: Registry,
    readiness: ReadinessMetrics,
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
        mut registry: Registry,
        catalog: Catalog,
        check: Check,
    ) -> Result<Self, HealthServerError> {
        let listener =
            TcpListener::bind(address).await.map_err(|source| HealthServerError { address, source })?;
        let address = listener.local_addr().map_err(|source| HealthServerError { address, source })?;
        info!(%address, "serving probes and metrics");
        let readiness = ReadinessMetrics::register(&mut registry);
        Ok(Self { listener, state: Arc::new(ServerState { registry, readiness, catalog, check }) })
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

impl ServerState {
    /// What is wrong with each part, now.
    async fn parts(&self) -> BTreeMap<&'static str, Option<String>> {
        let problem = match tokio::time::timeout(ANSWER_WITHIN, self.catalog.ping()).await {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(events::error_chain(&error)),
            Err(_) => Some("it does not answer".to_owned()),
        };
        let mut parts = self.check.parts().clone();
        parts.insert(CATALOG, problem);
        parts
    }
}

async fn ready(State(state): State<Arc<ServerState>>) -> (StatusCode, String) {
    let parts = state.parts().await;
    let problems: String =
        parts.iter().filter_map(|(part, problem)| Some(format!("{part}: {}\n", problem.as_ref()?))).collect();
    if problems.is_empty() {
        (StatusCode::OK, "ok\n".to_owned())
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, problems)
    }
}

async fn metrics(State(state): State<Arc<ServerState>>) -> impl IntoResponse {
    state.readiness.show(&state.parts().await);
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
