//! `crawl.url`: fetches a document, stores its bytes, then its artifact.

use std::time::Duration;

use async_trait::async_trait;
use events::{CrawlResult, CrawlUrl, Event, Handler, HandlerError, run_reasons};
use http::{HeaderName, HeaderValue};
use store::{
    blobs::{BlobError, BlobKey, SpooledBody},
    catalog::{Artifact, HeaderSource, NewArtifact, SourceSettings, StoredArtifact},
};
use url::Url;

use crate::{
    Tools,
    fetch::{Exchange, FetchError, FetchRequest, Fetched, NoGate},
    tools::{catalog_failed, permanent},
};

const EVENT_SOURCE: &str = "/tipstaff/worker/crawl";

pub(crate) struct Crawl {
    tools: Tools,
}

impl Crawl {
    pub(crate) fn new(tools: &Tools) -> Self {
        Self { tools: tools.clone() }
    }
}

#[async_trait]
impl Handler for Crawl {
    async fn handle(&self, event: &Event) -> Result<Vec<Event>, HandlerError> {
        let crawl: CrawlUrl = event.payload()?;
        let work = self.tools.catalog.crawl_work(crawl.run_id, &crawl.url).await.map_err(catalog_failed)?;
        let work =
            work.ok_or_else(|| permanent(run_reasons::DOCUMENT_NOT_FOUND, "the run has no such document"))?;
        if let Some(artifact) = work.artifact {
            // An earlier attempt stored it and may not have come to tell.
            return Ok(vec![self.result(event, &crawl, &artifact)?]);
        }
        if !work.is_pending {
            return Ok(Vec::new());
        }
        if work.source.suspend {
            return Err(permanent(run_reasons::SOURCE_SUSPENDED, "spec.suspend of the source is true"));
        }
        let request = fetch_request(&crawl, &work.source)?;
        let fetched = self.tools.fetcher.get(&request, &self.tools.spool, &NoGate).await;
        self.tools.metrics.fetched(&fetched);
        let (exchange, body) = match fetched.map_err(fetch_failed)? {
            Fetched::Body { exchange, body } => (exchange, body),
            // No validators are sent.
            Fetched::NotModified { .. } => return Ok(Vec::new()),
        };
        let blob_uri = self.store_body(crawl.source_id, &exchange, &body).await?;
        let artifact = new_artifact(&crawl, exchange, &body, blob_uri);
        let now = self.tools.clock.now();
        match self.tools.catalog.store_artifact(&artifact, now).await.map_err(catalog_failed)? {
            StoredArtifact::Stored(artifact) => Ok(vec![self.result(event, &crawl, &artifact)?]),
            StoredArtifact::RunEnded => Ok(Vec::new()),
        }
    }
}

impl Crawl {
    /// Where the body is, after it was put there unless the source has it already.
    async fn store_body(
        &self,
        source_id: i64,
        exchange: &Exchange,
        body: &SpooledBody,
    ) -> Result<String, HandlerError> {
        let known = self.tools.catalog.stored_blob(source_id, &body.sha256).await.map_err(catalog_failed)?;
        if let Some(uri) = known {
            return Ok(uri);
        }
        let key = BlobKey::new(source_id, exchange.responded_at, body);
        let uri = self.tools.blobs.put(&key, body).await.map_err(blob_failed)?;
        Ok(uri.to_string())
    }

    fn result(&self, event: &Event, crawl: &CrawlUrl, artifact: &Artifact) -> Result<Event, HandlerError> {
        let result = CrawlResult {
            run_id: crawl.run_id,
            subscription_id: crawl.subscription_id,
            source_id: crawl.source_id,
            artifact_id: artifact.id,
            source_url: artifact.source_url.clone(),
            fetch_hash: artifact.fetch_hash.clone(),
            blob_uri: artifact.blob_uri.clone(),
            content_type: artifact.content_type.clone(),
            byte_size: artifact.byte_size,
            changed: artifact.changed,
        };
        event
            .child(&crawl.url, EVENT_SOURCE, self.tools.clock.now(), &result)
            .map_err(|error| permanent(run_reasons::EVENT_NOT_WRITTEN, error))
    }
}

fn fetch_request(crawl: &CrawlUrl, source: &SourceSettings) -> Result<FetchRequest, HandlerError> {
    let url: Url = crawl.url.parse().map_err(|error| permanent(run_reasons::INVALID_URL, error))?;
    let invalid = |error: &dyn std::fmt::Display| permanent(run_reasons::INVALID_HEADER, error.to_string());
    // The source may have moved since this was asked for: its headers are for the place it has now.
    let base_url: Url =
        source.base_url.parse().map_err(|error| permanent(run_reasons::INVALID_URL, error))?;
    let own_headers = if url.origin() == base_url.origin() { source.headers.as_slice() } else { &[] };
    let mut headers = Vec::with_capacity(own_headers.len());
    for header in own_headers {
        let name: HeaderName =
            header.name.parse().map_err(|error: http::header::InvalidHeaderName| invalid(&error))?;
        let value = match &header.value {
            HeaderSource::Plain(value) => value,
            HeaderSource::Secret { name, key } => {
                let message = format!("this worker cannot read the key {key} of the Secret {name}");
                return Err(permanent(run_reasons::SECRET_UNAVAILABLE, message));
            }
        };
        let value: HeaderValue =
            value.parse().map_err(|error: http::header::InvalidHeaderValue| invalid(&error))?;
        headers.push((name, value));
    }
    let user_agent = source.user_agent.as_deref().map(HeaderValue::from_str).transpose();
    Ok(FetchRequest {
        url,
        headers,
        user_agent: user_agent.map_err(|error| invalid(&error))?,
        timeout: Duration::from_millis(source.timeout_ms),
        max_bytes: source.max_bytes,
        validators: None,
        validators_for: None,
    })
}

fn new_artifact(crawl: &CrawlUrl, exchange: Exchange, body: &SpooledBody, blob_uri: String) -> NewArtifact {
    NewArtifact {
        run_id: crawl.run_id,
        source_url: crawl.url.clone(),
        final_url: exchange.final_url.into(),
        fetch_hash: body.sha256.clone(),
        blob_uri,
        status: exchange.status,
        headers: exchange.headers,
        content_type: exchange.content_type,
        // A body of more than 2^63 bytes was refused while it came.
        byte_size: i64::try_from(body.byte_size).unwrap_or(i64::MAX),
        remote_address: exchange.remote_address.map(|address| address.to_string()),
        fetched_at: exchange.responded_at,
    }
}

fn fetch_failed(error: FetchError) -> HandlerError {
    let reason = error.reason();
    if !error.is_transient() {
        return permanent(reason, error);
    }
    let retry_at = match &error {
        FetchError::Status { retry_after, .. } => *retry_after,
        FetchError::NotYet { until } => Some(*until),
        _ => None,
    };
    HandlerError::Transient { reason, retry_at, source: error.into() }
}

fn blob_failed(error: BlobError) -> HandlerError {
    let reason = run_reasons::BLOB_NOT_STORED;
    if error.is_transient() {
        HandlerError::Transient { reason, retry_at: None, source: error.into() }
    } else {
        permanent(reason, error)
    }
}
