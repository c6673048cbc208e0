//! `version.document`: compares what was taken out of a document with its last version.

use async_trait::async_trait;
use changes::{ChangeKind, Extent};
use events::{
    Event, Handler, HandlerError, ParseRequest, ParseResult, Payload, VersioningRequest, VersioningResult,
    run_reasons,
};
use store::catalog::{ComparedDocument, MadeVersion, NewVersion, VersionWork};
use uuid::Uuid;

use crate::{
    Tools,
    comparison::change,
    tools::{catalog_failed, permanent},
};

const EVENT_SOURCE: &str = "/tipstaff/worker/version";
/// How often a document is compared anew at once, when others compare it at the same time.
const COMPARISONS: usize = 5;

/// Makes versions.
pub(crate) struct Version {
    tools: Tools,
}

/// What is to be compared, whoever asks for it.
struct Request {
    run_id: Uuid,
    subscription_id: i64,
    url: String,
    /// None: the document is gone.
    extract_id: Option<i64>,
}

/// What a comparison comes to.
enum Verdict {
    /// Nothing differs.
    Same,
    /// A version of this kind, whose text is compared with that of the head or with nothing.
    Version { kind: ChangeKind, is_compared: bool },
}

impl Version {
    pub(crate) fn new(tools: &Tools) -> Self {
        Self { tools: tools.clone() }
    }
}

#[async_trait]
impl Handler for Version {
    async fn handle(&self, event: &Event) -> Result<Vec<Event>, HandlerError> {
        let request = request(event)?;
        let mut told = Vec::new();
        for _ in 0..COMPARISONS {
            let work =
                self.tools.catalog.version_work(request.run_id, &request.url, request.extract_id).await;
            let work = work
                .map_err(catalog_failed)?
                .ok_or_else(|| permanent(run_reasons::DOCUMENT_NOT_FOUND, "the run has no such document"))?;
            if let Some(made) = &work.made {
                // An earlier attempt made it and may not have come to tell.
                told.push(self.result(event, &request, made, &request.url)?);
                return Ok(told);
            }
            if !work.is_waited_for {
                return Ok(told);
            }
            if event.topic == ParseResult::TOPIC
                && let Some(extract) = work.extract.as_ref().filter(|extract| !extract.is_current)
            {
                // The selectors were changed since: what was selected under the old ones is no version any more.
                return Ok(vec![self.parse_again(event, &request, extract.artifact_id, work.source_id)?]);
            }
            if let Some(extract) = work.extract.as_ref().filter(|extract| !extract.is_earlier)
                && let Some(head_anew) = extract.head_anew
            {
                // The document changed before anybody looked at what was known of it under the selectors as they are now.
                let made = self.baseline_of_head(&request, &work, head_anew).await?;
                if let Some(made) = made {
                    self.tools.metrics.version_made(&made.kind);
                    told.push(self.result(
                        event,
                        &request,
                        &made,
                        &format!("{} {}", request.url, made.number),
                    )?);
                }
                continue;
            }
            match self.compare(&request, &work).await? {
                ComparedDocument::Finished(Some(made)) => {
                    self.tools.metrics.version_made(&made.kind);
                    told.push(self.result(event, &request, &made, &request.url)?);
                    return Ok(told);
                }
                ComparedDocument::Finished(None) | ComparedDocument::NotWaitedFor => return Ok(told),
                ComparedDocument::Outdated => {}
            }
        }
        Err(HandlerError::Transient {
            reason: run_reasons::CATALOG_UNAVAILABLE,
            retry_at: None,
            source: "others compare the document at the same time".into(),
        })
    }
}

impl Version {
    async fn compare(&self, request: &Request, work: &VersionWork) -> Result<ComparedDocument, HandlerError> {
        let version = match verdict(work, request.extract_id.is_none()) {
            Verdict::Same => None,
            Verdict::Version { kind, is_compared } => {
                let before = work.head.as_ref().filter(|_| is_compared).map(|head| head.extract_id);
                let after = work.extract.as_ref().map(|extract| extract.id);
                Some(self.version(kind, before, after, is_compared).await?)
            }
        };
        let now = self.tools.clock.now();
        let catalog = &self.tools.catalog;
        catalog
            .finish_compared(request.run_id, &request.url, work, version, now)
            .await
            .map_err(catalog_failed)
    }

    /// What a backfill that was faster than the change would have made.
    async fn baseline_of_head(
        &self,
        request: &Request,
        work: &VersionWork,
        extract_id: i64,
    ) -> Result<Option<MadeVersion>, HandlerError> {
        let version = self.version(ChangeKind::Baseline, None, Some(extract_id), false).await?;
        let now = self.tools.clock.now();
        let catalog = &self.tools.catalog;
        catalog
            .make_baseline_of_head(request.run_id, &request.url, work, extract_id, version, now)
            .await
            .map_err(catalog_failed)
    }

    async fn version(
        &self,
        kind: ChangeKind,
        before: Option<i64>,
        after: Option<i64>,
        is_compared: bool,
    ) -> Result<NewVersion, HandlerError> {
        let change = change(&self.tools, kind, before, after, Extent::Bounded).await?;
        let change = serde_json::value::to_raw_value(&change)
            .map_err(|error| permanent(run_reasons::EVENT_NOT_WRITTEN, error))?;
        Ok(NewVersion { kind: kind.name(), change, is_compared })
    }

    fn parse_again(
        &self,
        event: &Event,
        request: &Request,
        artifact_id: i64,
        source_id: i64,
    ) -> Result<Event, HandlerError> {
        let again = ParseRequest {
            run_id: request.run_id,
            subscription_id: request.subscription_id,
            source_id,
            artifact_id,
            source_url: request.url.clone(),
        };
        event
            .child(&request.url, EVENT_SOURCE, self.tools.clock.now(), &again)
            .map_err(|error| permanent(run_reasons::EVENT_NOT_WRITTEN, error))
    }

    fn result(
        &self,
        event: &Event,
        request: &Request,
        made: &MadeVersion,
        discriminator: &str,
    ) -> Result<Event, HandlerError> {
        let result = VersioningResult {
            run_id: request.run_id,
            subscription_id: request.subscription_id,
            url: request.url.clone(),
            version_id: made.id,
            number: made.number,
            kind: made.kind.clone(),
        };
        event
            .child(discriminator, EVENT_SOURCE, self.tools.clock.now(), &result)
            .map_err(|error| permanent(run_reasons::EVENT_NOT_WRITTEN, error))
    }
}

fn request(event: &Event) -> Result<Request, HandlerError> {
    if event.topic == VersioningRequest::TOPIC {
        let VersioningRequest { run_id, subscription_id, url, extract_id } = event.payload()?;
        return Ok(Request { run_id, subscription_id, url, extract_id });
    }
    let ParseResult { run_id, subscription_id, url, extract_id, .. } = event.payload()?;
    Ok(Request { run_id, subscription_id, url, extract_id: Some(extract_id) })
}

fn verdict(work: &VersionWork, is_gone: bool) -> Verdict {
    let (head, extract) = match (&work.head, &work.extract) {
        (Some(head), _) if is_gone => {
            return if head.is_gone {
                Verdict::Same
            } else {
                Verdict::Version { kind: ChangeKind::Removed, is_compared: true }
            };
        }
        (Some(head), Some(extract)) => (head, extract),
        (None, Some(_)) => {
            let kind = if work.is_new { ChangeKind::New } else { ChangeKind::Baseline };
            return Verdict::Version { kind, is_compared: false };
        }
        // What was never there is not there, or what was taken out is.
        (_, None) => return Verdict::Same,
    };
    if extract.is_earlier {
        // Another run has seen it later, and was faster.
        return Verdict::Same;
    }
    match (head.is_gone, extract.is_comparable, extract.is_same) {
        (true, is_comparable, _) => {
            Verdict::Version { kind: ChangeKind::Returned, is_compared: is_comparable }
        }
        (false, false, _) => Verdict::Version { kind: ChangeKind::Baseline, is_compared: false },
        (false, true, true) => Verdict::Same,
        (false, true, false) => Verdict::Version { kind: ChangeKind::Changed, is_compared: true },
    }
}
