use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex},
};

use axum::{Router, body::Bytes, extract::State, http::HeaderMap, routing::post};
use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    common::v1::{KeyValue, any_value},
    trace::v1::Span,
};
use prost::Message;
use tokio::{net::TcpListener, task::AbortHandle};

/// A span as it came, with the service that made it.
#[derive(Clone, Debug)]
pub(crate) struct Received {
    pub(crate) service: String,
    pub(crate) span: Span,
}

impl Received {
    /// An attribute's value as text; empty where it has none.
    pub(crate) fn attribute(&self, name: &str) -> String {
        text(&self.span.attributes, name)
    }
}

#[derive(Default)]
struct Seen {
    requests: Vec<(HeaderMap, Bytes)>,
    spans: Vec<Received>,
}

/// A receiver of OTLP over HTTP with protobuf, on loopback.
pub(crate) struct Collector {
    address: SocketAddr,
    seen: Arc<Mutex<Seen>>,
    serving: AbortHandle,
}

impl Collector {
    pub(crate) async fn start() -> Self {
        let seen = Arc::<Mutex<Seen>>::default();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = Router::new().route("/v1/traces", post(receive)).with_state(seen.clone());
        let serving = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { address, seen, serving: serving.abort_handle() }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// All spans of a trace, in the order in which they came.
    pub(crate) fn trace(&self, id: &[u8; 16]) -> Vec<Received> {
        let seen = self.seen.lock().unwrap();
        seen.spans.iter().filter(|received| received.span.trace_id == id).cloned().collect()
    }

    /// What came, byte for byte.
    pub(crate) fn requests(&self) -> Vec<(HeaderMap, Bytes)> {
        self.seen.lock().unwrap().requests.clone()
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn receive(State(seen): State<Arc<Mutex<Seen>>>, headers: HeaderMap, body: Bytes) {
    let request = ExportTraceServiceRequest::decode(body.clone()).unwrap();
    let mut seen = seen.lock().unwrap();
    seen.requests.push((headers, body));
    for resource in request.resource_spans {
        let service = resource.resource.map(|it| text(&it.attributes, "service.name")).unwrap_or_default();
        let spans = resource.scope_spans.into_iter().flat_map(|scope| scope.spans);
        seen.spans.extend(spans.map(|span| Received { service: service.clone(), span }));
    }
}

fn text(attributes: &[KeyValue], name: &str) -> String {
    let value = attributes.iter().find(|attribute| attribute.key == name);
    match value.and_then(|attribute| attribute.value.as_ref()?.value.as_ref()) {
        Some(any_value::Value::StringValue(text)) => text.clone(),
        Some(any_value::Value::IntValue(number)) => number.to_string(),
        _ => String::new(),
    }
}
