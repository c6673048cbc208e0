//! `version.document`: compares what was taken out of a document with its last version.

use std::collections::BTreeMap;

use async_trait::async_trait;
use changes::{Change, Extent, Extract, Fields};
use events::{
    Event, Handler, HandlerError, ParseRequest, ParseResult, Payload, VersioningRequest, VersioningResult,
    run_reasons,
};
use serde_json::Value;
use store::catalog::{ComparedDocument, ExtractContent, ExtractFields, MadeVersion, NewVersion, VersionWork};
use tokio::task::spawn_blocking;
use uuid::Uuid;

use crate::{
    Tools,
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
    Version { kind: Kind, is_compared: bool },
}

#[derive(Clone, Copy)]
enum Kind {
    Baseline,
    New,
    Changed,
    Removed,
    Returned,
}

impl Kind {
    const fn name(self) -> &'static str {
        match self {
            Self::Baseline => "Baseline",
            Self::New => "New",
            Self::Changed => "Changed",
            Self::Removed => "Removed",
            Self::Returned => "Returned",
        }
    }
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
        for _ in 0..COMPARISONS {
            let work =
                self.tools.catalog.version_work(request.run_id, &request.url, request.extract_id).await;
            let work = work
                .map_err(catalog_failed)?
                .ok_or_else(|| permanent(run_reasons::DOCUMENT_NOT_FOUND, "the run has no such document"))?;
            if let Some(made) = &work.made {
                // An earlier attempt made it and may not have come to tell.
                return Ok(vec![self.result(event, &request, made)?]);
            }
            if !work.is_waited_for {
                return Ok(Vec::new());
            }
            if event.topic == ParseResult::TOPIC
                && let Some(extract) = work.extract.as_ref().filter(|extract| !extract.is_current)
            {
                // The selectors were changed since: what was selected under the old ones is no version any more.
                return Ok(vec![self.parse_again(event, &request, extract.artifact_id, work.source_id)?]);
            }
            match self.compare(&request, &work).await? {
                ComparedDocument::Finished(Some(made)) => {
                    return Ok(vec![self.result(event, &request, &made)?]);
                }
                ComparedDocument::Finished(None) | ComparedDocument::NotWaitedFor => return Ok(Vec::new()),
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
            Verdict::Version { kind, is_compared } => Some(self.version(work, kind, is_compared).await?),
        };
        let now = self.tools.clock.now();
        let catalog = &self.tools.catalog;
        catalog
            .finish_compared(request.run_id, &request.url, work, version.as_ref(), now)
            .await
            .map_err(catalog_failed)
    }

    async fn version(
        &self,
        work: &VersionWork,
        kind: Kind,
        is_compared: bool,
    ) -> Result<NewVersion, HandlerError> {
        let before = work.head.as_ref().filter(|_| is_compared).map(|head| head.extract_id);
        let after = work.extract.as_ref().map(|extract| extract.id);
        let catalog = &self.tools.catalog;
        let (before, after) = match (before, after) {
            (Some(before), Some(after)) => {
                let [before, after] =
                    catalog.extract_contents([before, after]).await.map_err(catalog_failed)?;
                (before, after)
            }
            (before, after) => {
                let only = before.or(after).ok_or_else(|| {
                    permanent(run_reasons::DOCUMENT_NOT_FOUND, "the document was never parsed")
                })?;
                let [only] = catalog.extract_contents([only]).await.map_err(catalog_failed)?;
                if before.is_some() {
                    (only, ExtractContent::default())
                } else {
                    (ExtractContent::default(), only)
                }
            }
        };
        // A diff of megabytes takes long enough to keep others waiting.
        let change = spawn_blocking(move || change(kind, &before, &after))
            .await
            .map_err(|error| permanent(run_reasons::HANDLER_FAILED, error))?;
        let change =
            serde_json::to_value(change).map_err(|error| permanent(run_reasons::EVENT_NOT_WRITTEN, error))?;
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

    fn result(&self, event: &Event, request: &Request, made: &MadeVersion) -> Result<Event, HandlerError> {
        let result = VersioningResult {
            run_id: request.run_id,
            subscription_id: request.subscription_id,
            url: request.url.clone(),
            version_id: made.id,
            number: made.number,
            kind: made.kind.clone(),
        };
        event
            .child(&request.url, EVENT_SOURCE, self.tools.clock.now(), &result)
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
                Verdict::Version { kind: Kind::Removed, is_compared: true }
            };
        }
        (Some(head), Some(extract)) => (head, extract),
        (None, Some(_)) => {
            let kind = if work.is_new { Kind::New } else { Kind::Baseline };
            return Verdict::Version { kind, is_compared: false };
        }
        // What was never there is not there, or what was taken out is.
        (_, None) => return Verdict::Same,
    };
    if extract.artifact_id < head.artifact_id {
        // Another run has seen it later, and was faster.
        return Verdict::Same;
    }
    match (head.is_gone, extract.is_comparable, extract.is_same) {
        (true, is_comparable, _) => Verdict::Version { kind: Kind::Returned, is_compared: is_comparable },
        (false, false, _) => Verdict::Version { kind: Kind::Baseline, is_compared: false },
        (false, true, true) => Verdict::Same,
        (false, true, false) => Verdict::Version { kind: Kind::Changed, is_compared: true },
    }
}

fn change(kind: Kind, before: &ExtractContent, after: &ExtractContent) -> Option<Change> {
    let (before_fields, after_fields) = (values(&before.fields), values(&after.fields));
    let old = Extract { text: &before.text, fields: &before_fields };
    let new = Extract { text: &after.text, fields: &after_fields };
    Some(match kind {
        Kind::Baseline => Change::baseline(new, Extent::Bounded),
        Kind::New => Change::new_document(new, Extent::Bounded),
        Kind::Changed => return Change::changed(old, new, Extent::Bounded),
        Kind::Removed => Change::removed(old, Extent::Bounded),
        Kind::Returned => Change::returned(old, new, Extent::Bounded),
    })
}

/// Fields as deliveries have them: a value, or a list of several.
pub(crate) fn values(fields: &ExtractFields) -> Fields {
    let value = |values: &Vec<String>| match values.as_slice() {
        [value] => Value::from(value.as_str()),
        values => Value::from(values.to_vec()),
    };
    fields.iter().map(|(name, found)| (name.clone(), value(found))).collect::<BTreeMap<_, _>>()
}
