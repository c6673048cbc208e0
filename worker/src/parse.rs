//! `parse.content`: takes text and fields out of a stored document.

use std::{collections::HashMap, sync::Arc};

use async_trait::async_trait;
use content::{Document, ExtractError, Extraction, Kind, Query, Selection, SelectorSpec, pdf};
use events::{
    CrawlResult, Event, Handler, HandlerError, ParseRequest, ParseResult, Payload, VersioningRequest,
    run_reasons,
};
use store::catalog::{Extracted, NewExtract, ParseWork, SelectionSettings, SelectorQuery, StoredBytes};
use tokio::{sync::Semaphore, task::spawn_blocking};
use uuid::Uuid;

use crate::{
    Tools,
    bytes::{TooLarge, read_blob},
    pdf_reader,
    tools::{catalog_failed, permanent},
};

const EVENT_SOURCE: &str = "/tipstaff/worker/parse";
/// The largest document that is parsed, in bytes.
const LARGEST: u64 = 32 * 1024 * 1024;
/// How many documents a process has in memory at a time: a tree of elements takes many times the bytes of its page.
const AT_A_TIME: usize = 4;
/// Shared by the handlers of both topics.
static PERMITS: Semaphore = Semaphore::const_new(AT_A_TIME);
/// How many compiled selections are kept.
const MOST_SELECTIONS: usize = 256;

/// Which parsers are at work here.
pub(crate) fn parser_version() -> i32 {
    i32::try_from(content::PARSER_VERSION).unwrap_or(i32::MAX)
}

/// Parses documents.
pub(crate) struct Parse {
    tools: Tools,
    /// Compiled, by their hash.
    selections: std::sync::Mutex<HashMap<String, Arc<Selection>>>,
}

/// What is to be parsed, whoever asks for it.
struct Request {
    run_id: Uuid,
    subscription_id: i64,
    url: String,
    artifact_id: i64,
}

impl Parse {
    pub(crate) fn new(tools: &Tools) -> Self {
        Self { tools: tools.clone(), selections: std::sync::Mutex::default() }
    }
}

#[async_trait]
impl Handler for Parse {
    async fn handle(&self, event: &Event) -> Result<Vec<Event>, HandlerError> {
        let request = request(event)?;
        let catalog = &self.tools.catalog;
        let work =
            catalog.parse_work(request.run_id, &request.url, request.artifact_id, parser_version()).await;
        let work = work
            .map_err(catalog_failed)?
            .ok_or_else(|| permanent(run_reasons::DOCUMENT_NOT_FOUND, "the run has no such document"))?;
        if !work.is_waited_for {
            if event.topic == ParseRequest::TOPIC && work.extract.is_none() {
                // A backfill of all goes over what runs that have ended brought in: it is no version again.
                self.extract_if_possible(&request, &work, &work.artifact).await?;
            }
            return Ok(Vec::new());
        }
        let extracted = match &work.extract {
            Some(extracted) => extracted.clone(),
            None => self.extract(&request, &work, &work.artifact).await?,
        };
        if let Some(head) = &work.head {
            // Without it, what changed since would be taken for what other selectors or parsers make of the document.
            self.extract_if_possible(&request, &work, head).await?;
        }
        Ok(vec![result(event, &request, extracted, &self.tools)?])
    }
}

impl Parse {
    /// Reads what the document was before as it is read now, where that can be: what selectors match today need not have been
    /// there then.
    async fn extract_if_possible(
        &self,
        request: &Request,
        work: &ParseWork,
        earlier: &StoredBytes,
    ) -> Result<(), HandlerError> {
        match self.extract(request, work, earlier).await {
            Ok(_) => Ok(()),
            Err(HandlerError::Permanent { reason, source }) => {
                tracing::debug!(artifact = earlier.artifact_id, reason, %source, "a document cannot be read anew");
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    async fn extract(
        &self,
        request: &Request,
        work: &ParseWork,
        artifact: &StoredBytes,
    ) -> Result<Extracted, HandlerError> {
        let hash = work.selection.hash();
        let selection = self.selection(&hash, &work.selection)?;
        let extraction = self.extraction(artifact, selection).await?;
        if let Some(sign) = extraction.looks_blocked {
            return Err(permanent(
                run_reasons::LOOKS_BLOCKED,
                format!("what came looks like {sign}, and not like the document: the last version stays"),
            ));
        }
        complain_of_selectors(work, &extraction)?;
        let text_hash: String = extraction.text_hash.iter().map(|byte| format!("{byte:02x}")).collect();
        let extract = NewExtract {
            artifact_id: artifact.artifact_id,
            subscription_id: request.subscription_id,
            parser: extraction.parser,
            parser_version: parser_version(),
            selection_hash: hash,
            fields: extraction.fields,
            text: extraction.text,
            text_hash: text_hash.clone(),
        };
        let id = self.tools.catalog.store_extract(extract, self.tools.clock.now()).await;
        Ok(Extracted { id: id.map_err(catalog_failed)?, text_hash })
    }

    async fn extraction(
        &self,
        artifact: &StoredBytes,
        selection: Arc<Selection>,
    ) -> Result<Extraction, HandlerError> {
        let too_large = || {
            let message =
                format!("the document has {} bytes; at most {LARGEST} are parsed", artifact.byte_size);
            permanent(run_reasons::TOO_LARGE, message)
        };
        if u64::try_from(artifact.byte_size).is_ok_and(|size| size > LARGEST) {
            return Err(too_large());
        }
        // The semaphore is never closed.
        let _permit = PERMITS.acquire().await;
        let bytes =
            read_blob(&self.tools, &artifact.blob_uri, LARGEST).await?.map_err(|TooLarge| too_large())?;
        let content_type = artifact.content_type.clone();
        let kind = Kind::of(&bytes, content_type.as_deref());
        let extraction = if kind == Kind::Pdf {
            let text = pdf_reader::text(&self.tools.pdf_reader, &bytes).await;
            match text {
                Err(pdf::PdfError::Process(error)) => {
                    return Err(HandlerError::Transient {
                        reason: run_reasons::PDF_NOT_RUN,
                        retry_at: None,
                        source: pdf::PdfError::Process(error).into(),
                    });
                }
                text => {
                    text.map_err(ExtractError::from).and_then(|text| content::extract_pdf(text, &selection))
                }
            }
        } else {
            // Reading megabytes of markup takes long enough to keep others waiting.
            let parsing = spawn_blocking(move || {
                let document = Document { bytes: &bytes, content_type: content_type.as_deref(), kind };
                content::extract(&document, &selection)
            });
            parsing.await.map_err(|error| permanent(run_reasons::HANDLER_FAILED, error))?
        };
        extraction.map_err(|error| permanent(error.reason(), error))
    }

    fn selection(&self, hash: &str, settings: &SelectionSettings) -> Result<Arc<Selection>, HandlerError> {
        // Whoever panicked with it left a map of whole entries.
        let mut selections = self.selections.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(selection) = selections.get(hash) {
            return Ok(selection.clone());
        }
        let selection = Arc::new(compiled(settings)?);
        if selections.len() >= MOST_SELECTIONS {
            selections.clear();
        }
        selections.insert(hash.to_owned(), selection.clone());
        Ok(selection)
    }
}

fn request(event: &Event) -> Result<Request, HandlerError> {
    if event.topic == ParseRequest::TOPIC {
        let ParseRequest { run_id, subscription_id, source_url: url, artifact_id, .. } = event.payload()?;
        return Ok(Request { run_id, subscription_id, url, artifact_id });
    }
    let CrawlResult { run_id, subscription_id, source_url: url, artifact_id, .. } = event.payload()?;
    Ok(Request { run_id, subscription_id, url, artifact_id })
}

fn compiled(settings: &SelectionSettings) -> Result<Selection, HandlerError> {
    let selectors = settings.selectors.iter().map(|(name, selector)| {
        let query = match &selector.query {
            SelectorQuery::Css(text) => Query::Css(text.clone()),
            SelectorQuery::Xpath(text) => Query::Xpath(text.clone()),
            SelectorQuery::JsonPath(text) => Query::JsonPath(text.clone()),
        };
        (name.clone(), SelectorSpec { query, attr: selector.attr.clone(), all: selector.all })
    });
    Selection::new(&selectors.collect(), &settings.remove, &settings.ignore)
        .map_err(|error| permanent(run_reasons::SELECTOR_FAILED, error))
}

/// A selector that matches nothing does not make an empty document.
fn complain_of_selectors(work: &ParseWork, extraction: &Extraction) -> Result<(), HandlerError> {
    let is_optional =
        |name: &String| work.selection.selectors.get(name).is_some_and(|selector| selector.optional);
    let missing: Vec<&str> =
        extraction.matched_nothing.iter().filter(|name| !is_optional(name)).map(String::as_str).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let matched_before = work.matched_before.as_deref().unwrap_or_default();
    let drifted: Vec<&str> =
        missing.iter().copied().filter(|name| matched_before.iter().any(|known| known == name)).collect();
    Err(if drifted.is_empty() {
        let message = format!("{} match nothing on the page: check them", names(&missing));
        permanent(run_reasons::SELECTOR_MATCHED_NOTHING, message)
    } else {
        let message = format!(
            "{} match nothing where they used to: the page has changed, the last version stays",
            names(&drifted)
        );
        permanent(run_reasons::SELECTOR_DRIFT, message)
    })
}

fn names(selectors: &[&str]) -> String {
    format!("the selectors {}", selectors.join(", "))
}

fn result(
    event: &Event,
    request: &Request,
    extracted: Extracted,
    tools: &Tools,
) -> Result<Event, HandlerError> {
    let now = tools.clock.now();
    let not_written = |error: serde_json::Error| permanent(run_reasons::EVENT_NOT_WRITTEN, error);
    if event.topic == ParseRequest::TOPIC {
        // Asked for again: so is what comes of it.
        let again = VersioningRequest {
            run_id: request.run_id,
            subscription_id: request.subscription_id,
            url: request.url.clone(),
            extract_id: Some(extracted.id),
        };
        return event.child(&request.url, EVENT_SOURCE, now, &again).map_err(not_written);
    }
    let result = ParseResult {
        run_id: request.run_id,
        subscription_id: request.subscription_id,
        url: request.url.clone(),
        artifact_id: request.artifact_id,
        extract_id: extracted.id,
        text_hash: extracted.text_hash,
    };
    event.child(&request.url, EVENT_SOURCE, now, &result).map_err(not_written)
}
