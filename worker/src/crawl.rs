//! `crawl.url`: fetches a document when its host may be asked, stores its bytes, then its artifact.

mod gate;
mod lists;
mod robots_cache;
mod slots;

use async_trait::async_trait;
use content::{charset, sniff};
use events::{CrawlResult, CrawlUrl, Event, Handler, HandlerError, run_reasons, spans::Span};
use http::{HeaderName, HeaderValue, header::USER_AGENT};
use jiff::Timestamp;
use opentelemetry::trace::SpanKind;
use store::{
    blobs::{BlobError, BlobKey, SpooledBody},
    catalog::{
        Artifact, CrawlWork, Evidence, FetchedDocument, Findings, LatestArtifact, NewArtifact, StoredDocument,
    },
};
use url::Url;

use crate::{
    Tools,
    fetch::{Exchange, FetchError, FetchRequest, Fetched, NOT_KEPT, Redirect, Validators},
    links::{ListKind, list_kind, sniffed_list},
    parse::parser_version,
    secrets::SecretReader,
    source_request::{SourceRequestError, source_request},
    tools::{catalog_failed, permanent},
};
use gate::CrawlGate;
use lists::{FetchedList, Lists};
use robots_cache::RobotsCache;

pub(crate) use slots::host_of;

const EVENT_SOURCE: &str = "/tipstaff/worker/crawl";

pub(crate) struct Crawl {
    tools: Tools,
    robots: RobotsCache,
    lists: Lists,
}

impl Crawl {
    pub(crate) fn new(tools: &Tools) -> Self {
        Self { tools: tools.clone(), robots: RobotsCache::default(), lists: Lists::new() }
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
            // An earlier attempt stored it and may not have come to tell, nor to end the run. Whoever is told twice, or of
            // what is finished, does nothing.
            let ended = self.tools.catalog.end_run_if_complete(crawl.run_id, self.tools.clock.now()).await;
            ended.map_err(catalog_failed)?;
            return Ok(vec![self.result(event, &crawl, &artifact)?]);
        }
        if !work.is_pending {
            return Ok(Vec::new());
        }
        if work.source.suspend {
            return Err(permanent(run_reasons::SOURCE_SUSPENDED, "spec.suspend of the source is true"));
        }
        let Some(evidence) = self.evidence(event, &crawl, &work).await? else { return Ok(Vec::new()) };
        let findings = match self.findings(event, &crawl, &work, &evidence).await {
            Err(error @ HandlerError::Permanent { .. }) => {
                // What came is kept all the same: it shows why.
                if let FoundEvidence::New(artifact) = &evidence {
                    let kept = self.tools.catalog.keep_evidence(crawl.run_id, &crawl.url, artifact).await;
                    kept.map_err(catalog_failed)?;
                }
                return Err(error);
            }
            findings => findings?,
        };
        let evidence = match &evidence {
            FoundEvidence::New(artifact) => Evidence::New(artifact),
            FoundEvidence::Known(latest) => Evidence::Known(latest.id),
        };
        let document =
            FetchedDocument { evidence, findings: findings.as_ref(), parser_version: parser_version() };
        let now = self.tools.clock.now();
        let stored = self.tools.catalog.store_document(crawl.run_id, &crawl.url, &document, now).await;
        match stored.map_err(catalog_failed)? {
            StoredDocument::Fetched(artifact) => Ok(vec![self.result(event, &crawl, &artifact)?]),
            StoredDocument::Finished(_) | StoredDocument::NotWaitedFor => Ok(Vec::new()),
        }
    }
}

/// What shows how the document was.
enum FoundEvidence<'a> {
    New(Box<NewArtifact>),
    Known(&'a LatestArtifact),
}

impl Crawl {
    /// Evidence of the document from since the run was due; none when it is too early to ask the host, and the event
    /// comes back.
    async fn evidence<'a>(
        &self,
        event: &Event,
        crawl: &CrawlUrl,
        work: &'a CrawlWork,
    ) -> Result<Option<FoundEvidence<'a>>, HandlerError> {
        if let Some(latest) = &work.latest
            && latest.requested_at.is_some_and(|requested_at| requested_at >= work.scheduled_for)
        {
            // Another run of the source, due at the same time, has asked for it since.
            return Ok(Some(FoundEvidence::Known(latest)));
        }
        let request = fetch_request(crawl, work, self.tools.secrets.as_ref()).await?;
        let gate = CrawlGate::new(
            &self.tools,
            &self.robots,
            &work.source,
            request.user_agent.as_ref(),
            crawl.slot_promised,
        );
        let fetched = self.tools.fetcher.get(&request, &self.tools.spool, &gate).await;
        let (robots, failure) = gate.into_outcome();
        if let Some(failure) = failure {
            return Err(failure);
        }
        if let Err(FetchError::NotYet { until }) = fetched {
            self.put_off(event, crawl, until).await?;
            return Ok(None);
        }
        self.tools.metrics.fetched(&fetched);
        let artifact = match fetched {
            Ok(Fetched::Body { exchange, body }) => {
                let blob_uri = self
                    .store_body(crawl.source_id, work.latest.as_ref(), exchange.responded_at, &body)
                    .await?;
                new_artifact(exchange, robots, &body, blob_uri)
            }
            Ok(Fetched::NotModified { exchange }) => {
                let latest = work.latest.as_ref().ok_or_else(|| {
                    permanent(run_reasons::HTTP_STATUS, "304 was answered to a request without conditions")
                })?;
                revisit(exchange, robots, latest)
            }
            Err(error) => return Err(self.failed(error).await?),
        };
        Ok(Some(FoundEvidence::New(Box::new(artifact))))
    }

    /// The documents that the document leads the run to; none if it is no list.
    async fn findings(
        &self,
        event: &Event,
        crawl: &CrawlUrl,
        work: &CrawlWork,
        evidence: &FoundEvidence<'_>,
    ) -> Result<Option<Findings>, HandlerError> {
        let (sniffed, blob_uri, content_type, url) = match evidence {
            FoundEvidence::New(new) => (&new.sniffed_list, &new.blob_uri, &new.content_type, &new.final_url),
            FoundEvidence::Known(known) => {
                (&known.sniffed_list, &known.blob_uri, &known.content_type, &known.final_url)
            }
        };
        let kind = match (work.is_base, work.is_list) {
            (true, _) => {
                let sniffed = sniffed.as_deref().and_then(ListKind::named);
                list_kind(&work.source.kind, sniffed, work.source.follow.is_some())
            }
            // The sitemaps of an index.
            (false, true) => Some(ListKind::Sitemap),
            (false, false) => None,
        };
        let Some(kind) = kind else { return Ok(None) };
        let list = FetchedList { kind, blob_uri, content_type: content_type.as_deref(), url };
        self.lists.findings(&self.tools, &self.robots, event, crawl, work, &list).await.map(Some)
    }

    /// Lets the event wait in the outbox for the slot that was promised to it.
    async fn put_off(&self, event: &Event, crawl: &CrawlUrl, until: Timestamp) -> Result<(), HandlerError> {
        let later = event
            .with_payload(&CrawlUrl { slot_promised: true, ..crawl.clone() })
            .map_err(|error| permanent(run_reasons::EVENT_NOT_WRITTEN, error))?;
        let available_at = until.checked_sub(slots::ON_ITS_WAY).unwrap_or(until);
        self.tools.metrics.put_off();
        self.tools.catalog.delay(&later, available_at).await.map_err(catalog_failed)
    }

    /// What a failed fetch means for the document; a host that asked for peace is left in peace.
    async fn failed(&self, error: FetchError) -> Result<HandlerError, HandlerError> {
        let reason = error.reason();
        let retry_at = match (slots::asks_for_peace(&error), &error) {
            (Some((host, until)), _) => {
                slots::leave_in_peace(&self.tools, &host, until).await?;
                Some(until)
            }
            (None, FetchError::RobotsUnreachable { retry_at, .. }) => Some(*retry_at),
            (None, _) => None,
        };
        Ok(if error.is_transient() {
            HandlerError::Transient { reason, retry_at, source: error.into() }
        } else {
            permanent(reason, error)
        })
    }

    /// Where the body is, after it was put there unless the source has it already.
    async fn store_body(
        &self,
        source_id: i64,
        latest: Option<&LatestArtifact>,
        fetched_at: Timestamp,
        body: &SpooledBody,
    ) -> Result<String, HandlerError> {
        if let Some(latest) = latest.filter(|latest| latest.fetch_hash == body.sha256) {
            return Ok(latest.blob_uri.clone());
        }
        let known = self.tools.catalog.stored_blob(source_id, &body.sha256).await.map_err(catalog_failed)?;
        if let Some(uri) = known.blob_uri {
            return Ok(uri);
        }
        let key = BlobKey::new(source_id, fetched_at, body).after_removals(known.removals);
        let span = Span::child("blob put", SpanKind::Client, Vec::new);
        let put = span.around(self.tools.blobs.put(&key, body)).await.map_err(blob_failed);
        let uri = put.inspect_err(|error| span.fail(error.reason()))?;
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

async fn fetch_request(
    crawl: &CrawlUrl,
    work: &CrawlWork,
    secrets: &dyn SecretReader,
) -> Result<FetchRequest, HandlerError> {
    let url: Url = crawl.url.parse().map_err(|error| permanent(run_reasons::INVALID_URL, error))?;
    let request = source_request(&work.source, &work.namespace, url, secrets).await.map_err(not_asked)?;
    let comparable = work
        .latest
        .as_ref()
        .filter(|latest| has_validators(latest, &request.headers, request.user_agent.as_ref()));
    Ok(FetchRequest {
        validators: comparable.map(|latest| Validators {
            etag: latest.etag.clone(),
            last_modified: latest.last_modified.clone(),
        }),
        validators_for: comparable.and_then(|latest| latest.final_url.parse().ok()),
        ..request
    })
}

fn not_asked(error: SourceRequestError) -> HandlerError {
    match error {
        SourceRequestError::BaseUrl(_) => permanent(run_reasons::INVALID_URL, error),
        SourceRequestError::Header { .. } => permanent(run_reasons::INVALID_HEADER, error),
        SourceRequestError::Secret(error) if error.is_transient() => {
            HandlerError::Transient { reason: error.reason(), retry_at: None, source: error.into() }
        }
        SourceRequestError::Secret(error) => permanent(error.reason(), error),
    }
}

/// Whether the server can be asked if the document is as it was: it named its state, and it would be asked with the same
/// headers. Of secret ones only the names are known.
fn has_validators(
    latest: &LatestArtifact,
    headers: &[(HeaderName, HeaderValue)],
    user_agent: Option<&HeaderValue>,
) -> bool {
    let was_sent = |name: &HeaderName, value: &HeaderValue| {
        let is_it = |(before, sent): &(String, String)| {
            before == name.as_str() && (sent == NOT_KEPT || sent.as_bytes() == value.as_bytes())
        };
        latest.request_headers.iter().any(is_it)
    };
    (latest.etag.is_some() || latest.last_modified.is_some())
        && headers.iter().all(|(name, value)| was_sent(name, value))
        && user_agent.is_none_or(|value| was_sent(&USER_AGENT, value))
}

fn new_artifact(
    exchange: Exchange,
    robots: &'static str,
    body: &SpooledBody,
    blob_uri: String,
) -> NewArtifact {
    NewArtifact {
        robots,
        fetch_hash: body.sha256.clone(),
        blob_uri,
        etag: header(&exchange, "etag"),
        last_modified: header(&exchange, "last-modified"),
        sniffed_type: Some(sniff::content_type(&body.head).to_owned()),
        sniffed_list: sniffed_list(&body.head, exchange.content_type.as_deref())
            .map(|kind| kind.name().to_owned()),
        charset: charset::of(&body.head, exchange.content_type.as_deref()).map(str::to_owned),
        // A body of more than 2^63 bytes was refused while it came.
        byte_size: i64::try_from(body.byte_size).unwrap_or(i64::MAX),
        content_type: exchange.content_type,
        final_url: exchange.final_url.into(),
        redirects: redirects(exchange.redirects),
        request_headers: exchange.request_headers,
        status: exchange.status,
        headers: exchange.headers,
        remote_address: exchange.remote_address.map(|address| address.to_string()),
        requested_at: exchange.requested_at,
        fetched_at: exchange.responded_at,
        finished_at: exchange.finished_at,
        revisit_of: None,
    }
}

/// Evidence that a document was as it had been: it points at the bytes that are there (as a WARC `revisit` record does).
fn revisit(exchange: Exchange, robots: &'static str, latest: &LatestArtifact) -> NewArtifact {
    NewArtifact {
        robots,
        fetch_hash: latest.fetch_hash.clone(),
        blob_uri: latest.blob_uri.clone(),
        etag: header(&exchange, "etag").or_else(|| latest.etag.clone()),
        last_modified: header(&exchange, "last-modified").or_else(|| latest.last_modified.clone()),
        sniffed_type: latest.sniffed_type.clone(),
        sniffed_list: latest.sniffed_list.clone(),
        charset: latest.charset.clone(),
        byte_size: latest.byte_size,
        content_type: latest.content_type.clone(),
        final_url: exchange.final_url.into(),
        redirects: redirects(exchange.redirects),
        request_headers: exchange.request_headers,
        status: exchange.status,
        headers: exchange.headers,
        remote_address: exchange.remote_address.map(|address| address.to_string()),
        requested_at: exchange.requested_at,
        fetched_at: exchange.responded_at,
        finished_at: exchange.finished_at,
        revisit_of: Some(latest.id),
    }
}

fn header(exchange: &Exchange, wanted: &str) -> Option<String> {
    exchange.headers.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.clone())
}

fn redirects(redirects: Vec<Redirect>) -> Vec<(String, u16, String)> {
    redirects.into_iter().map(|redirect| (redirect.url.into(), redirect.status, redirect.location)).collect()
}

fn blob_failed(error: BlobError) -> HandlerError {
    let reason = run_reasons::BLOB_NOT_STORED;
    if error.is_transient() {
        HandlerError::Transient { reason, retry_at: None, source: error.into() }
    } else {
        permanent(reason, error)
    }
}
