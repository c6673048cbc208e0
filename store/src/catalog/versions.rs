//! Versions: how documents of subscriptions were, one after the other, and what differs.

use std::collections::HashMap;

use serde_json::value::RawValue;
use sqlx::{Row, postgres::PgRow, types::Json};
use uuid::Uuid;

use super::{Catalog, CatalogError, ExtractFields, failed};

mod finishing;

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
        let row = sqlx::query(
            "select d.phase = 'Fetched' and r.finished_at is null as is_waited_for,
                 v.id as made_id, v.number as made_number, v.kind as made_kind,
                 h.version_id, h.extract_id as head_extract_id, h.artifact_id as head_artifact_id, h.number, h.is_gone,
                 e.id as extract_id, e.artifact_id,
                 coalesce(e.text_hash = before.text_hash and e.fields = before.fields, false) as is_same,
                 coalesce(e.selection_hash = h.selection_hash and e.parser_version = h.parser_version, false)
                     as is_comparable,
                 coalesce(e.selection_hash = s.selection_hash, true) as is_current, s.source_id,
                 coalesce((a.fetched_at, a.id) < (seen.fetched_at, seen.id), false) as is_earlier, anew.id as head_anew,
                 not d.is_base and s.list_read_by <> r.id and not exists (
                     select from documents earlier where earlier.run_id = s.list_read_by and earlier.url = d.url) as is_new
             from documents d join runs r on r.id = d.run_id join subscriptions s on s.id = d.subscription_id
             left join versions v on v.id = d.version_id
             left join document_heads h on h.subscription_id = d.subscription_id and h.url = d.url
             left join extracts before on before.id = h.extract_id
             left join artifacts seen on seen.id = h.artifact_id
             left join extracts e on e.id = $3 and e.subscription_id = d.subscription_id
             left join artifacts a on a.id = e.artifact_id
             left join extracts anew on anew.artifact_id = h.artifact_id and anew.subscription_id = h.subscription_id
                 and not h.is_gone and (e.selection_hash, e.parser_version) <> (h.selection_hash, h.parser_version)
                 and anew.selection_hash = e.selection_hash and anew.parser_version = e.parser_version
                 and (anew.text_hash, anew.fields) <> (e.text_hash, e.fields)
             where d.run_id = $1 and d.url = $2",
        )
        .bind(run_id)
        .bind(url)
        .bind(extract_id)
        .fetch_optional(&self.pool)
        .await
        .map_err(failed("look up a document to compare"))?;
        row.as_ref().map(version_work).transpose().map_err(failed("read a document to compare"))
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
        let rows = sqlx::query("select id, text, fields from extracts where id = any($1)")
            .bind(ids)
            .fetch_all(&self.pool)
            .await
            .map_err(failed("look up texts"))?;
        let content = |row: &PgRow| {
            let fields = row.try_get::<Json<ExtractFields>, _>("fields")?.0;
            Ok((row.try_get("id")?, ExtractContent { text: row.try_get("text")?, fields }))
        };
        rows.iter().map(content).collect::<Result<_, _>>().map_err(failed("read texts"))
    }
}

fn version_work(row: &PgRow) -> Result<VersionWork, sqlx::Error> {
    let head = match row.try_get::<Option<i64>, _>("version_id")? {
        Some(version_id) => Some(Head {
            version_id,
            extract_id: row.try_get("head_extract_id")?,
            artifact_id: row.try_get("head_artifact_id")?,
            number: row.try_get("number")?,
            is_gone: row.try_get("is_gone")?,
        }),
        None => None,
    };
    let extract = match row.try_get::<Option<i64>, _>("extract_id")? {
        Some(id) => Some(ComparedExtract {
            id,
            artifact_id: row.try_get("artifact_id")?,
            is_same: row.try_get("is_same")?,
            is_comparable: row.try_get("is_comparable")?,
            is_current: row.try_get("is_current")?,
            is_earlier: row.try_get("is_earlier")?,
            head_anew: row.try_get("head_anew")?,
        }),
        None => None,
    };
    let is_made = row.try_get::<Option<i64>, _>("made_id")?.is_some();
    Ok(VersionWork {
        is_waited_for: row.try_get("is_waited_for")?,
        made: if is_made { Some(made_version(row, "made_")?) } else { None },
        head,
        extract,
        is_new: row.try_get::<Option<bool>, _>("is_new")?.unwrap_or_default(),
        source_id: row.try_get("source_id")?,
    })
}

fn made_version(row: &PgRow, prefix: &str) -> Result<MadeVersion, sqlx::Error> {
    let column = |name: &str| format!("{prefix}{name}");
    Ok(MadeVersion {
        id: row.try_get(column("id").as_str())?,
        number: row.try_get(column("number").as_str())?,
        kind: row.try_get(column("kind").as_str())?,
    })
}
