//! Versions: how documents of subscriptions were, one after the other, and what differs.

use std::collections::HashMap;

use serde_json::value::RawValue;
use sqlx::{Row, postgres::PgRow, types::Json};
use uuid::Uuid;

use super::{Catalog, CatalogError, ExtractFields, failed};
use work::VersionQuestion;

pub(super) use contents::ExtractContents;
pub(super) use finishing::FinishedDocuments;
pub(super) use work::VersionWorkOf;

mod contents;
mod finishing;
mod work;

/// What the version role needs to compare a document.
#[derive(Clone, Debug)]
pub struct VersionWork {
    /// Whether the run still waits for the document.
    pub is_waited_for: bool,
    /// The version that an earlier attempt made of it.
    pub made: Option<MadeVersion>,
    /// How the document was when it was last compared.
    pub head: Option<Head>,
    /// What was taken out of it now; none of a document that is gone.
    pub extract: Option<ComparedExtract>,
    /// Whether a list that was read to its end before names it for the first time.
    pub is_new: bool,
    /// The catalog's id of the source.
    pub source_id: i64,
    /// The catalog's id of the subscription.
    pub subscription_id: i64,
}

/// How a document was when it was last compared.
#[derive(Clone, Debug)]
pub struct Head {
    /// The catalog's id of its newest version.
    pub version_id: i64,
    /// What its text is.
    pub extract_id: i64,
    /// The newest artifact that was compared.
    pub artifact_id: i64,
    /// The version's number.
    pub number: i32,
    /// Whether it is not there any more.
    pub is_gone: bool,
}

/// What was taken out of a document now, beside how it was.
#[derive(Clone, Debug)]
pub struct ComparedExtract {
    /// The catalog's id.
    pub id: i64,
    /// The artifact that it was taken out of.
    pub artifact_id: i64,
    /// Whether text and fields are those of the head.
    pub is_same: bool,
    /// Whether it was selected and parsed as the head was: else the two cannot be compared.
    pub is_comparable: bool,
    /// Whether it was selected as the subscription has it now.
    pub is_current: bool,
    /// Whether it was fetched before the head's artifact: the document was seen later than this.
    pub is_earlier: bool,
    /// What was taken out of the head's artifact as this was, by the catalog's id, where the head itself was taken out in
    /// another way and the document differs from it: what the two differ in is a change.
    pub head_anew: Option<i64>,
}

/// Text and fields of an extract.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExtractContent {
    /// The text.
    pub text: String,
    /// The values that selectors found.
    pub fields: ExtractFields,
}

/// A version that is to be made.
#[derive(Clone, Debug)]
pub struct NewVersion {
    /// What happened: `Baseline`, `New`, `Changed`, `Removed` or `Returned`.
    pub kind: &'static str,
    /// What differs, as JSON.
    pub change: Box<RawValue>,
    /// Whether it was compared with the version before.
    pub is_compared: bool,
}

/// A version that was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MadeVersion {
    /// The catalog's id.
    pub id: i64,
    /// Its number, from 1, of its URL in its subscription.
    pub number: i32,
    /// What happened.
    pub kind: String,
}

/// A version that a run made.
#[derive(Clone, Debug)]
pub struct RunVersion {
    /// Its number, from 1, of its URL in its subscription.
    pub number: i32,
    /// What happened.
    pub kind: String,
    /// What differs, as JSON.
    pub change: Box<RawValue>,
}

/// What became of a document that was compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ComparedDocument {
    /// It is finished; with a version, where it differed.
    Finished(Option<MadeVersion>),
    /// Another event has compared the document since: it has to be compared again.
    Outdated,
    /// The run has ended, or has given the document up: nothing was stored.
    NotWaitedFor,
}

impl Catalog {
    /// What is needed to compare a run's document with what is known of it, if there is such a document. Without
    /// `extract_id` the document is gone.
    ///
    /// # Errors
    /// When the catalog fails.
    pub async fn version_work(
        &self,
        run_id: Uuid,
        url: &str,
        extract_id: Option<i64>,
    ) -> Result<Option<VersionWork>, CatalogError> {
        self.version_work.ask(VersionQuestion { run_id, url: url.to_owned(), extract_id }).await
    }

    /// The versions that a run made, by URL: of several, the last.
    ///
    /// # Errors
    /// When the catalog fails.
    pub async fn run_versions(&self, run_id: Uuid) -> Result<HashMap<String, RunVersion>, CatalogError> {
        let rows =
            sqlx::query("select url, number, kind, change from versions where run_id = $1 order by number")
                .bind(run_id)
                .fetch_all(&self.pool)
                .await
                .map_err(failed("list a run's versions"))?;
        let version = |row: &PgRow| {
            let change = row.try_get::<Json<_>, _>("change")?.0;
            let version = RunVersion { number: row.try_get("number")?, kind: row.try_get("kind")?, change };
            Ok((row.try_get("url")?, version))
        };
        rows.iter().map(version).collect::<Result<_, _>>().map_err(failed("read a version"))
    }

    /// Text and fields of extracts, by their ids.
    ///
    /// # Errors
    /// When the catalog fails.
    pub async fn extract_contents(&self, ids: &[i64]) -> Result<HashMap<i64, ExtractContent>, CatalogError> {
        Ok(self.extract_contents.ask(ids.to_vec()).await?.into_iter().collect())
    }
}

fn made_version(row: &PgRow, prefix: &str) -> Result<MadeVersion, sqlx::Error> {
    let column = |name: &str| format!("{prefix}{name}");
    Ok(MadeVersion {
        id: row.try_get(column("id").as_str())?,
        number: row.try_get(column("number").as_str())?,
        kind: row.try_get(column("kind").as_str())?,
    })
}
