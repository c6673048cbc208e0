//! Versions of documents.

use jiff::Timestamp;
use serde::Serialize;
use sqlx::{Row, postgres::PgRow};
use uuid::Uuid;

use super::Page;
use crate::catalog::{Catalog, CatalogError, failed};

/// A version of a document.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct VersionRow {
    /// The catalog's id.
    pub id: i64,
    /// The subscription's namespace.
    pub namespace: String,
    /// The subscription's name.
    pub subscription: String,
    /// The document's URL.
    pub url: String,
    /// Its number, from 1, of its URL in its subscription.
    pub number: i32,
    /// What happened: `Baseline`, `New`, `Changed`, `Removed` or `Returned`.
    pub kind: String,
    /// The run that made it.
    pub run_id: Uuid,
    /// The extract that its text is.
    pub extract_id: i64,
    /// The artifact that the text was taken out of.
    pub artifact_id: i64,
    /// The SHA-256 of its text, lower-case hexadecimal.
    pub text_hash: String,
    /// Lines that only the new text has.
    pub lines_added: i64,
    /// Lines that only the old text has.
    pub lines_removed: i64,
    /// Lines in whose place the new text has others.
    pub lines_changed: i64,
    /// The share of both texts together that differs, in bytes: 0 to 1.
    pub ratio: f64,
    /// Fields that differ, by name.
    pub changed_fields: Vec<String>,
    /// When it was made.
    pub created_at: Timestamp,
}

/// Which version of a document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhichVersion {
    /// The newest.
    Last,
    /// The newest of those with a smaller number.
    Before(i32),
    /// The one of this number.
    Number(i32),
}

pub(super) const COLUMNS: &str = "v.id, s.namespace, s.name as subscription, v.url, v.number, v.kind, v.run_id, v.extract_id, \
     e.artifact_id, v.text_hash, coalesce((v.change #>> '{lines,added}')::bigint, 0) as lines_added, \
     coalesce((v.change #>> '{lines,removed}')::bigint, 0) as lines_removed, \
     coalesce((v.change #>> '{lines,changed}')::bigint, 0) as lines_changed, \
     coalesce((v.change ->> 'ratio')::float8, 0) as ratio, \
     array(select field ->> 'name' from json_array_elements(coalesce(v.change -> 'field_changes', '[]')) field) \
         as changed_fields, v.created_at";

impl Catalog {
    /// Versions, newest first.
    ///
    /// # Errors
    /// When the catalog fails.
    pub async fn list_versions(&self, page: Page<i64>) -> Result<Vec<VersionRow>, CatalogError> {
        let sql = format!(
            "select {COLUMNS} from versions v join subscriptions s on s.id = v.subscription_id
             join extracts e on e.id = v.extract_id
             where ($1::bigint is null or v.subscription_id = $1) and ($2::bigint is null or v.id < $2)
             order by v.id desc limit $3"
        );
        let rows = sqlx::query(sqlx::AssertSqlSafe(sql))
            .bind(page.subscription_id)
            .bind(page.before)
            .bind(i64::from(page.limit))
            .fetch_all(&self.pool)
            .await
            .map_err(failed("list versions"))?;
        rows.iter().map(version).collect::<Result<_, _>>().map_err(failed("read a version"))
    }

    /// The URLs of a subscription's documents that have versions, at most so many.
    ///
    /// # Errors
    /// When the catalog fails.
    pub async fn versioned_urls(&self, subscription_id: i64, most: u32) -> Result<Vec<String>, CatalogError> {
        sqlx::query_scalar("select url from document_heads where subscription_id = $1 order by url limit $2")
            .bind(subscription_id)
            .bind(i64::from(most))
            .fetch_all(&self.pool)
            .await
            .map_err(failed("list documents"))
    }

    /// A version of a document, if there is such.
    ///
    /// # Errors
    /// When the catalog fails.
    pub async fn find_version(
        &self,
        subscription_id: i64,
        url: &str,
        which: WhichVersion,
    ) -> Result<Option<VersionRow>, CatalogError> {
        let (from, to) = match which {
            WhichVersion::Last => (1, i32::MAX),
            WhichVersion::Before(number) => (1, number.saturating_sub(1)),
            WhichVersion::Number(number) => (number, number),
        };
        let sql = format!(
            "select {COLUMNS} from versions v join subscriptions s on s.id = v.subscription_id
             join extracts e on e.id = v.extract_id
             where v.subscription_id = $1 and v.url = $2 and v.number between $3 and $4
             order by v.number desc limit 1"
        );
        let row = sqlx::query(sqlx::AssertSqlSafe(sql))
            .bind(subscription_id)
            .bind(url)
            .bind(from)
            .bind(to)
            .fetch_optional(&self.pool)
            .await
            .map_err(failed("look up a version"))?;
        row.as_ref().map(version).transpose().map_err(failed("read a version"))
    }

    /// Versions by their ids.
    pub(super) async fn version_rows(&self, ids: &[i64]) -> Result<Vec<VersionRow>, CatalogError> {
        let sql = format!(
            "select {COLUMNS} from versions v join subscriptions s on s.id = v.subscription_id
             join extracts e on e.id = v.extract_id where v.id = any($1)"
        );
        let rows = sqlx::query(sqlx::AssertSqlSafe(sql))
            .bind(ids)
            .fetch_all(&self.pool)
            .await
            .map_err(failed("look up versions"))?;
        rows.iter().map(version).collect::<Result<_, _>>().map_err(failed("read a version"))
    }
}

fn version(row: &PgRow) -> Result<VersionRow, sqlx::Error> {
    Ok(VersionRow {
        id: row.try_get("id")?,
        namespace: row.try_get("namespace")?,
        subscription: row.try_get("subscription")?,
        url: row.try_get("url")?,
        number: row.try_get("number")?,
        kind: row.try_get("kind")?,
        run_id: row.try_get("run_id")?,
        extract_id: row.try_get("extract_id")?,
        artifact_id: row.try_get("artifact_id")?,
        text_hash: row.try_get("text_hash")?,
        lines_added: row.try_get("lines_added")?,
        lines_removed: row.try_get("lines_removed")?,
        lines_changed: row.try_get("lines_changed")?,
        ratio: row.try_get("ratio")?,
        changed_fields: row.try_get("changed_fields")?,
        created_at: row.try_get::<jiff_sqlx::Timestamp, _>("created_at")?.to_jiff(),
    })
}
