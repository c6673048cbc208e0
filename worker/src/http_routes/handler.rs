//! Posts events and reads what is answered: CloudEvents 1.0, JSON format, structured content mode of the HTTP binding
//! (<https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/bindings/http-protocol-binding.md>).

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use events::{Clock, Event, Handler, HandlerError, run_reasons, spans};
use http::{
    HeaderValue, StatusCode,
    header::{AUTHORIZATION, CONTENT_TYPE, RETRY_AFTER},
};
use jiff::Timestamp;
use reqwest::{Client, Response, redirect::Policy};
use serde::Serialize;
use serde_json::value::RawValue;

use super::{
    HttpRoute, HttpRouteError,
    answer::{AnswerError, emitted},
};
use crate::fetch::{DEFAULT_USER_AGENT, install_crypto_provider, is_passing, retry_after};

/// The most bytes of an answer that are read; a longer one is refused.
const LONGEST_ANSWER: usize = 4 << 20;

const ONE: HeaderValue = HeaderValue::from_static("application/cloudevents+json; charset=utf-8");

/// Handles a topic's events by posting them.
pub struct HttpHandler {
    client: Client,
    route: HttpRoute,
    authorization: Option<HeaderValue>,
    clock: Arc<dyn Clock>,
}

/// An event as it is posted.
#[derive(Serialize)]
struct Posted<'a> {
    specversion: &'static str,
    id: String,
    r#type: &'a str,
    source: &'a str,
    time: String,
    datacontenttype: &'static str,
    traceparent: String,
    partitionkey: &'a str,
    data: &'a RawValue,
}

/// A service did not do what an event asks for.
#[derive(Debug, thiserror::Error)]
#[error("the route `{route}`")]
struct RouteError {
    route: String,
    #[source]
    failure: Failure,
}

/// Why.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("no answer")]
    NoAnswer(#[source] reqwest::Error),
    #[error("HTTP status {status}{}", if status.is_redirection() { "; redirects are not followed" } else { "" })]
    Status { status: StatusCode, retry_at: Option<Timestamp> },
    #[error("its answer is longer than {LONGEST_ANSWER} bytes")]
    TooLong,
    #[error("the event's payload is no JSON")]
    Payload(#[source] serde_json::Error),
    #[error(transparent)]
    Answer(#[from] AnswerError),
}

impl HttpHandler {
    /// Makes the client, and looks up what it authorizes itself with.
    ///
    /// # Errors
    /// When there is no client to be made, or the variable is not set or no header's value.
    pub fn new(route: &HttpRoute, clock: Arc<dyn Clock>) -> Result<Self, HttpRouteError> {
        install_crypto_provider();
        let client = Client::builder()
            .no_proxy()
            .redirect(Policy::none())
            .timeout(route.timeout())
            .connect_timeout(Duration::from_secs(5).min(route.timeout()))
            .user_agent(DEFAULT_USER_AGENT)
            .build()
            .map_err(HttpRouteError::Client)?;
        let authorization =
            route.authorization_from_env.as_deref().map(|name| authorization(&route.name, name));
        Ok(Self { client, route: route.clone(), authorization: authorization.transpose()?, clock })
    }

    async fn post(&self, event: &Event) -> Result<Vec<Event>, Failure> {
        let no_answer = |error: reqwest::Error| Failure::NoAnswer(error.without_url());
        let data: &RawValue = serde_json::from_slice(&event.payload).map_err(Failure::Payload)?;
        let posted = Posted {
            specversion: "1.0",
            id: event.id.to_string(),
            r#type: &event.job_type,
            source: &event.source,
            time: event.time.to_string(),
            datacontenttype: "application/json",
            traceparent: event.trace_parent.to_string(),
            partitionkey: &event.key,
            data,
        };
        let mut request = self.client.post(self.route.url.clone()).header(CONTENT_TYPE, ONE);
        request = request.header("traceparent", spans::here(event.trace_parent).to_string());
        if let Some(value) = &self.authorization {
            request = request.header(AUTHORIZATION, value.clone());
        }
        let body = serde_json::to_vec(&posted).map_err(Failure::Payload)?;
        let mut response = request.body(body).send().await.map_err(no_answer)?;
        let status = response.status();
        if !status.is_success() {
            let retry_at = self.retry_at(&response);
            return Err(Failure::Status { status, retry_at });
        }
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(no_answer)? {
            if body.len() + chunk.len() > LONGEST_ANSWER {
                return Err(Failure::TooLong);
            }
            body.extend_from_slice(&chunk);
        }
        Ok(emitted(&self.route, event, &body, self.clock.now())?)
    }

    fn retry_at(&self, response: &Response) -> Option<Timestamp> {
        let value = response.headers().get(RETRY_AFTER)?.to_str().ok()?;
        retry_after::parse(value, self.clock.now())
    }
}

#[async_trait]
impl Handler for HttpHandler {
    async fn handle(&self, event: &Event) -> Result<Vec<Event>, HandlerError> {
        let failure = match self.post(event).await {
            Ok(emitted) => return Ok(emitted),
            Err(failure) => failure,
        };
        let (is_passing, retry_at) = match &failure {
            Failure::NoAnswer(_) => (true, None),
            Failure::Status { status, retry_at } => (is_passing(status.as_u16()), *retry_at),
            Failure::TooLong | Failure::Payload(_) | Failure::Answer(_) => (false, None),
        };
        let reason = run_reasons::HANDLER_FAILED;
        let source = RouteError { route: self.route.name.clone(), failure }.into();
        Err(if is_passing {
            HandlerError::Transient { reason, retry_at, source }
        } else {
            HandlerError::Permanent { reason, source }
        })
    }
}

fn authorization(route: &str, name: &str) -> Result<HeaderValue, HttpRouteError> {
    let invalid = |problem: String| HttpRouteError::Invalid { route: route.to_owned(), problem };
    let value = std::env::var(name).map_err(|_| invalid(format!("the variable {name} is not set")))?;
    let mut value = HeaderValue::from_str(&value)
        .map_err(|_| invalid(format!("what the variable {name} holds cannot be a header's value")))?;
    value.set_sensitive(true);
    Ok(value)
}
