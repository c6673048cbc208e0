//! The export of spans by OTLP over HTTP.

use std::{env, time::Duration};

use async_trait::async_trait;
use events::{error_chain, spans};
use opentelemetry::{global::BoxedTracer, trace::TracerProvider};
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::{SpanExporter, WithHttpConfig};
use opentelemetry_sdk::{
    Resource,
    trace::{Sampler, SdkTracerProvider},
};
use tokio::runtime::Handle;
use tracing::{info, warn};

use crate::run_span::Ids;

/// Either of them asks for an export.
const ENDPOINTS: [&str; 2] = ["OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"];
/// How long the last spans may take to leave the process.
const FLUSH_WITHIN: Duration = Duration::from_secs(3);
/// How long one export may take.
const EXPORT_WITHIN: Duration = Duration::from_secs(10);
/// Who made the spans.
const SCOPE: &str = "tipstaff";

/// The export of this process's spans, if it has one.
pub struct SpanExport(Option<SdkTracerProvider>);

/// The export cannot be as it is configured.
#[derive(Debug, thiserror::Error)]
pub enum SpanExportError {
    /// The client could not be made.
    #[error("no client can be made for the export of spans")]
    Client(#[source] reqwest::Error),
    /// A variable is not valid. What it holds is not told: it may be secret.
    #[error(
        "spans cannot be exported as the variables OTEL_EXPORTER_OTLP_… say; the endpoint is a URL, http://collector:4318"
    )]
    Configuration,
}

impl SpanExport {
    /// Exports spans from now on if the environment names an endpoint: `OTEL_EXPORTER_OTLP_ENDPOINT` and the others of
    /// OpenTelemetry. `program` is the service's name unless `OTEL_SERVICE_NAME` is set. Needs a crypto provider.
    ///
    /// # Errors
    /// When the environment names something that cannot be.
    pub fn start(program: &'static str) -> Result<Self, SpanExportError> {
        if !ENDPOINTS.iter().any(|name| is_set(name))
            || env::var("OTEL_SDK_DISABLED").is_ok_and(|text| text == "true")
        {
            return Ok(Self(None));
        }
        let client = reqwest::Client::builder()
            .timeout(EXPORT_WITHIN)
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .map_err(SpanExportError::Client)?;
        let exporter = SpanExporter::builder()
            .with_http()
            .with_http_client(Client { client, runtime: Handle::current() })
            .build()
            .map_err(|_| SpanExportError::Configuration)?;
        let is_named = is_set("OTEL_SERVICE_NAME")
            || env::var("OTEL_RESOURCE_ATTRIBUTES").is_ok_and(|text| text.contains("service.name="));
        let resource = Resource::builder();
        let resource = if is_named { resource } else { resource.with_service_name(program) };
        let provider = SdkTracerProvider::builder()
            .with_batch_exporter(exporter)
            .with_sampler(Sampler::ParentBased(Box::new(Sampler::AlwaysOn)))
            .with_id_generator(Ids::default())
            .with_resource(resource.build())
            .build();
        spans::make_spans_by(BoxedTracer::new(Box::new(provider.tracer(SCOPE))));
        info!("exporting spans");
        Ok(Self(Some(provider)))
    }

    /// Sends what is left, for a few seconds at most.
    pub async fn stop(self) {
        let Some(provider) = self.0 else { return };
        // It blocks its thread.
        let stopped = tokio::task::spawn_blocking(move || provider.shutdown_with_timeout(FLUSH_WITHIN)).await;
        if !matches!(stopped, Ok(Ok(()))) {
            warn!("the last spans were not exported");
        }
    }
}

fn is_set(name: &str) -> bool {
    env::var(name).is_ok_and(|text| !text.trim().is_empty())
}

/// Sends on the process's runtime: the exporter's own thread has none.
#[derive(Debug)]
struct Client {
    client: reqwest::Client,
    runtime: Handle,
}

#[async_trait]
impl HttpClient for Client {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let client = self.client.clone();
        let sent = self.runtime.spawn(async move { client.send_bytes(request).await }).await;
        let sent = sent.map_err(HttpError::from).and_then(|sent| sent);
        if let Err(error) = &sent {
            tracing::debug!(error = error_chain(error.as_ref()), "spans were not exported");
        }
        sent
    }
}
