//! Stored bytes, read back.

use events::{HandlerError, run_reasons};
use store::blobs::{BlobError, BlobUri};
use tokio::io::AsyncReadExt;

use crate::{Tools, tools::permanent};

/// A body is larger than is read.
pub(crate) struct TooLarge;

/// Reads a body of at most `most` bytes.
pub(crate) async fn read_blob(
    tools: &Tools,
    uri: &str,
    most: u64,
) -> Result<Result<Vec<u8>, TooLarge>, HandlerError> {
    let uri: BlobUri = uri.parse().map_err(unreadable)?;
    let mut bytes = Vec::new();
    let reader = tools.blobs.open(&uri).await.map_err(unreadable)?;
    let read = reader.take(most.saturating_add(1)).read_to_end(&mut bytes).await;
    read.map_err(|error| HandlerError::Transient {
        reason: run_reasons::BLOB_UNREADABLE,
        retry_at: None,
        source: error.into(),
    })?;
    Ok(if bytes.len() as u64 > most { Err(TooLarge) } else { Ok(bytes) })
}

fn unreadable(error: BlobError) -> HandlerError {
    let reason = run_reasons::BLOB_UNREADABLE;
    if error.is_transient() {
        HandlerError::Transient { reason, retry_at: None, source: error.into() }
    } else {
        permanent(reason, error)
    }
}
