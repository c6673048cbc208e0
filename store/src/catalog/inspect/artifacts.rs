//! Artifacts: what servers answered.

use jiff::Timestamp;
use serde::Serialize;
use sqlx::{Row, postgres::PgRow};
use uuid::Uuid;

use super::Page;
use crate::catalog::{Catalog, CatalogError, failed, time};

/// Evidence of a fetch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ArtifactRow {
    /// The catalog's id.
    pub id: i64,
    /// The source's namespace.
    pub namespace: String,
    /// The source's name.
    pub source: String,
    /// The run that fetched it.
    pub run_id: Uuid,
    /// The URL that was asked for.
    pub source_url: String,
    /// The URL that answered.
    pub final_url: String,
    /// The HTTP status.
    pub status: i32,
    /// The content type that the server declared.
    pub content_type: Option<String>,
    /// The length of the body in bytes.
    pub byte_size: i64,
    /// SHA-256 of the body, lower-case hexadecimal.
    pub fetch_hash: String,
    /// Where the body is.
    pub blob_uri: String,
    /// The address that answered.
    pub remote_address: Option<String>,
    /// When the request was sent.
    pub requested_at: Option<Timestamp>,
    /// When the answer came.
    pub fetched_at: Timestamp,
    /// When all of the body had come.
    pub finished_at: Option<Timestamp>,
    /// The artifact whose body the server said has not changed (304).
    pub revisit_of: Option<i64>,
}

const SELECT: &str = "select a.id, o.namespace, o.name as source, a.run_id, a.source_url, a.final_url, a.status, \
     a.content_type, a.byte_size, a.fetch_hash, a.blob_uri, a.remote_address, a.requested_at, a.fetched_at, a.finished_at, \
     a.revisit_of from artifacts a join sources o on o.id = a.source_id";

impl Catalog {
    /// Artifacts, newest first; of a subscription, those that its documents refer to.
    ///
    /// # Errors
    /// When the catalog fails.
    pub async fn list_artifacts(&self, page: Page<i64>) -> Result<Vec<ArtifactRow>, CatalogError> {
        let sql = format!(
            "{SELECT}
             where ($1::bigint is null
                     or exists (select from documents d where d.subscription_id = $1 and d.artifact_id = a.id))
                 and ($2::bigint is null or a.id < $2)
             order by a.id desc limit $3"
        );
        let rows = sqlx::query(sqlx::AssertSqlSafe(sql))
            .bind(page.subscription_id)
            .bind(page.before)
            .bind(i64::from(page.limit))
            .fetch_all(&self.pool)
            .await
            .map_err(failed("list artifacts"))?;
        rows.iter().map(artifact).collect::<Result<_, _>>().map_err(failed("read an artifact"))
    }

    /// Artifacts by their ids.
    pub(super) async fn artifact_rows(&self, ids: &[i64]) -> Result<Vec<ArtifactRow>, CatalogError> {
        let rows = sqlx::query(sqlx::AssertSqlSafe(format!("{SELECT} where a.id = any($1)")))
            .bind(ids)
            .fetch_all(&self.pool)
            .await
            .map_err(failed("look up artifacts"))?;
        rows.iter().map(artifact).collect::<Result<_, _>>().map_err(failed("read an artifact"))
    }
}

fn artifact(row: &PgRow) -> Result<ArtifactRow, sqlx::Error> {
    Ok(ArtifactRow {
        id: row.try_get("id")?,
        namespace: row.try_get("namespace")?,
        source: row.try_get("source")?,
        run_id: row.try_get("run_id")?,
        source_url: row.try_get("source_url")?,
        final_url: row.try_get("final_url")?,
        status: row.try_get("status")?,
        content_type: row.try_get("content_type")?,
        byte_size: row.try_get("byte_size")?,
        fetch_hash: row.try_get("fetch_hash")?,
        blob_uri: row.try_get("blob_uri")?,
        remote_address: row.try_get("remote_address")?,
        requested_at: time(row.try_get("requested_at")?),
        fetched_at: row.try_get::<jiff_sqlx::Timestamp, _>("fetched_at")?.to_jiff(),
        finished_at: time(row.try_get("finished_at")?),
        revisit_of: row.try_get("revisit_of")?,
    })
}
