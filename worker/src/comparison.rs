//! What differs between two stored texts.

use changes::{Change, ChangeKind, Extent, Extract, fields_of};
use events::{HandlerError, run_reasons};
use tokio::task::spawn_blocking;

use crate::{
    Tools,
    tools::{catalog_failed, permanent},
};

/// The change between two extracts, by the catalog's ids; none where the document was not there.
pub(crate) async fn change(
    tools: &Tools,
    kind: ChangeKind,
    before: Option<i64>,
    after: Option<i64>,
    extent: Extent,
) -> Result<Change, HandlerError> {
    let ids: Vec<i64> = before.into_iter().chain(after).collect();
    let contents = tools.catalog.extract_contents(&ids).await.map_err(catalog_failed)?;
    // A diff of megabytes takes long enough to keep others waiting.
    let comparing = spawn_blocking(move || {
        let content = |id: Option<i64>| id.and_then(|id| contents.get(&id));
        let fields = |id| content(id).map(|content| fields_of(&content.fields)).unwrap_or_default();
        let (old_fields, new_fields) = (fields(before), fields(after));
        let lines = |id| content(id).map(|content| Extract::lines_of(&content.text));
        let (old_lines, new_lines) = (lines(before), lines(after));
        let old = old_lines.as_deref().map(|text| Extract { text, fields: &old_fields });
        let new = new_lines.as_deref().map(|text| Extract { text, fields: &new_fields });
        Change::of(kind, old, new, extent)
    });
    comparing.await.map_err(|error| permanent(run_reasons::HANDLER_FAILED, error))
}
