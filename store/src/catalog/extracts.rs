//! Extracts: what was taken out of an artifact.

mod storing;
mod work;

use std::collections::BTreeMap;

use jiff::Timestamp;
use uuid::Uuid;

use super::{Catalog, CatalogError, SelectionSettings};
use work::ParseQuestion;

pub(super) use storing::StoredExtracts;
pub(super) use work::ParseWorkOf;

/// The values that selectors found, by name.
pub type ExtractFields = BTreeMap<String, Vec<String>>;

/// What the parse role needs to take text out of a document.
#[derive(Clone, Debug)]
pub struct ParseWork {
    /// Whether the run still waits for it.
    pub is_waited_for: bool,
    /// What is to be taken out.
    pub selection: SelectionSettings,
    /// Out of what.
    pub artifact: StoredBytes,
    /// The artifact of the document's head, where its bytes are others and nothing was taken out of it yet in the way in which
    /// this artifact is read: what the two differ in would not be seen.
    pub head: Option<StoredBytes>,
    /// Which selectors matched when the document was last compared, under the same selection; none: it never was.
    pub matched_before: Option<Vec<String>>,
    /// Set when the same bytes were parsed before, in the same way: there is nothing to do.
    pub extract: Option<Extracted>,
}

/// The bytes of an artifact.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredBytes {
    /// The artifact's id.
    pub artifact_id: i64,
    /// Where they are.
    pub blob_uri: String,
    /// The content type that the server declared.
    pub content_type: Option<String>,
    /// How many they are.
    pub byte_size: i64,
}

/// The identity of what was taken out of an artifact.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Extracted {
    /// The catalog's id.
    pub id: i64,
    /// The SHA-256 of the text, lower-case hexadecimal.
    pub text_hash: String,
}

/// What was taken out of an artifact, before it is stored.
#[derive(Clone, Debug)]
pub struct NewExtract {
    /// The artifact.
    pub artifact_id: i64,
    /// For whom.
    pub subscription_id: i64,
    /// Which parser took it out.
    pub parser: &'static str,
    /// Of which version.
    pub parser_version: i32,
    /// [`SelectionSettings::hash`].
    pub selection_hash: String,
    /// The values that selectors found.
    pub fields: ExtractFields,
    /// What is versioned.
    pub text: String,
    /// Its SHA-256, lower-case hexadecimal.
    pub text_hash: String,
}

impl Catalog {
    /// What is needed to parse an artifact for a run's document, if there are such. `parser_version` is of the parsers that
    /// would read it.
    ///
    /// # Errors
    /// When the catalog fails.
    pub async fn parse_work(
        &self,
        run_id: Uuid,
        url: &str,
        artifact_id: i64,
        parser_version: i32,
    ) -> Result<Option<ParseWork>, CatalogError> {
        let url = url.to_owned();
        self.parse_work.ask(ParseQuestion { run_id, url, artifact_id, parser_version }).await
    }

    /// Keeps what was taken out of an artifact, unless the same was kept before, and returns its id.
    ///
    /// # Errors
    /// When the catalog fails; then nothing was kept.
    pub async fn store_extract(&self, extract: NewExtract, now: Timestamp) -> Result<i64, CatalogError> {
        self.stored_extracts.ask((extract, now)).await
    }
}
