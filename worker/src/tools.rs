use std::sync::Arc;

use content::pdf::Program;
use events::{BoxError, Clock, HandlerError, run_reasons};
use store::{
    blobs::{Blobs, Spool},
    catalog::{Catalog, CatalogError},
};

use crate::{Newsroom, WorkerMetrics, fetch::Fetcher, secrets::SecretReader, send::Sender};

/// What handlers work with. Clones share it.
#[derive(Clone)]
pub struct Tools {
    /// Runs, documents and artifacts.
    pub catalog: Catalog,
    /// Raw bytes.
    pub blobs: Arc<dyn Blobs>,
    /// The HTTP client.
    pub fetcher: Fetcher,
    /// Where bodies go while they arrive.
    pub spool: Spool,
    /// The process that reads PDFs.
    pub pdf_reader: Program,
    /// Sends deliveries.
    pub sender: Sender,
    /// Where headers' values are that nobody else may know.
    pub secrets: Arc<dyn SecretReader>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Whoever wants to be told at once.
    pub news: Newsroom,
    /// Figures.
    pub metrics: WorkerMetrics,
}

/// A catalog that fails is waited for.
pub(crate) fn catalog_failed(error: CatalogError) -> HandlerError {
    HandlerError::Transient { reason: run_reasons::CATALOG_UNAVAILABLE, retry_at: None, source: error.into() }
}

/// Something that no repetition mends.
pub(crate) fn permanent(reason: &'static str, source: impl Into<BoxError>) -> HandlerError {
    HandlerError::Permanent { reason, source: source.into() }
}
