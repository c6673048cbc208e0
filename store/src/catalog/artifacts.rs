//! Documents of a run and the artifacts that came of them.

use jiff::Timestamp;
use sqlx::{PgConnection, Row, postgres::PgRow, types::Json};
use uuid::Uuid;

use super::{Catalog, CatalogError, SourceSettings, failed, runs::end_if_complete, sql_time};

/// What the crawl role needs to fetch a document.
#[derive(Clone, Debug)]
pub struct CrawlWork {
    /// Whether the run still waits for this document.
    pub is_pending: bool,
    /// Set when the document is stored already.
    pub artifact: Option<Artifact>,
    /// How the source is fetched.
    pub source: SourceSettings,
}

/// Evidence of one fetch, before it is stored.
#[derive(Clone, Debug)]
pub struct NewArtifact {
    /// The run that it was fetched for.
    pub run_id: Uuid,
    /// The URL that was asked for.
    pub source_url: String,
    /// The URL that answered.
    pub final_url: String,
    /// SHA-256 of the body, lower-case hexadecimal.
    pub fetch_hash: String,
    /// Where the body is.
    pub blob_uri: String,
    /// The HTTP status.
    pub status: u16,
    /// The response's headers in their order.
    pub headers: Vec<(String, String)>,
    /// The content type that the server declared.
    pub content_type: Option<String>,
    /// The length of the body in bytes.
    pub byte_size: i64,
    /// The address that answered.
    pub remote_address: Option<String>,
    /// When the response came.
    pub fetched_at: Timestamp,
}

/// A stored artifact.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Artifact {
    /// The catalog's id.
    pub id: i64,
    /// The URL that was asked for.
    pub source_url: String,
    /// SHA-256 of the body, lower-case hexadecimal.
    pub fetch_hash: String,
    /// Where the body is.
    pub blob_uri: String,
    /// The content type that the server declared.
    pub content_type: Option<String>,
    /// The length of the body in bytes.
    pub byte_size: i64,
    /// Whether the bytes differ from what the subscription last stored of this URL; true for the first.
    pub changed: bool,
    /// When the response came.
    pub fetched_at: Timestamp,
}

/// What became of an artifact that was to be stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoredArtifact {
    /// It stands in the catalog, now or from an earlier attempt.
    Stored(Artifact),
    /// The run has ended meanwhile: nothing was stored.
    RunEnded,
}

pub(super) const ARTIFACT_COLUMNS: &str =
    "id, source_url, fetch_hash, blob_uri, content_type, byte_size, changed, fetched_at";

impl Catalog {
    /// What is needed to fetch a document, if the run has it.
    ///
    /// # Errors
    /// When the catalog fails.
    pub async fn crawl_work(&self, run_id: Uuid, url: &str) -> Result<Option<CrawlWork>, CatalogError> {
        let row = sqlx::query(
            "select d.phase = 'Pending' and r.finished_at is null as is_pending, o.settings
             from documents d join runs r on r.id = d.run_id
             join subscriptions s on s.id = r.subscription_id join sources o on o.id = s.source_id
             where d.run_id = $1 and d.url = $2",
        )
        .bind(run_id)
        .bind(url)
        .fetch_optional(&self.pool)
        .await
        .map_err(failed("look up a document"))?;
        let Some(row) = row else { return Ok(None) };
        let mut connection = self.pool.acquire().await.map_err(failed("connect"))?;
        let artifact = artifact_of(&mut connection, run_id, url).await?;
        let source = row.try_get::<Json<SourceSettings>, _>("settings").map_err(failed("read a source"))?.0;
        Ok(Some(CrawlWork { is_pending: row.get("is_pending"), artifact, source }))
    }

    /// Where the source's body of this hash is stored, if it is.
    ///
    /// # Errors
    /// When the catalog fails.
    pub async fn stored_blob(
        &self,
        source_id: i64,
        fetch_hash: &str,
    ) -> Result<Option<String>, CatalogError> {
        sqlx::query_scalar("select blob_uri from artifacts where source_id = $1 and fetch_hash = $2 limit 1")
            .bind(source_id)
            .bind(fetch_hash)
            .fetch_optional(&self.pool)
            .await
            .map_err(failed("look up a stored body"))
    }

    /// Stores an artifact, which finishes its document and, with the last document, the run.
    ///
    /// # Errors
    /// When the catalog fails; then nothing was stored.
    pub async fn store_artifact(
        &self,
        new: &NewArtifact,
        now: Timestamp,
    ) -> Result<StoredArtifact, CatalogError> {
        let mut transaction = self.pool.begin().await.map_err(failed("begin"))?;
        let is_active = lock_active_run(&mut transaction, new.run_id).await?;
        if let Some(artifact) = artifact_of(&mut transaction, new.run_id, &new.source_url).await? {
            return Ok(StoredArtifact::Stored(artifact));
        }
        if !is_active {
            return Ok(StoredArtifact::RunEnded);
        }
        let sql = format!(
            "insert into artifacts (source_id, subscription_id, run_id, source_url, final_url, fetch_hash, blob_uri, status,
                 headers, content_type, byte_size, remote_address, fetched_at, changed)
             select s.source_id, s.id, r.id, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11,
                 $4 is distinct from (select a.fetch_hash from artifacts a
                     where a.subscription_id = s.id and a.source_url = $2 order by a.id desc limit 1)
             from runs r join subscriptions s on s.id = r.subscription_id where r.id = $1
             returning {ARTIFACT_COLUMNS}"
        );
        let row = sqlx::query(sqlx::AssertSqlSafe(sql))
            .bind(new.run_id)
            .bind(&new.source_url)
            .bind(&new.final_url)
            .bind(&new.fetch_hash)
            .bind(&new.blob_uri)
            .bind(i32::from(new.status))
            .bind(Json(&new.headers))
            .bind(&new.content_type)
            .bind(new.byte_size)
            .bind(&new.remote_address)
            .bind(sql_time(new.fetched_at))
            .fetch_one(&mut *transaction)
            .await
            .map_err(failed("store an artifact"))?;
        let artifact = artifact(&row).map_err(failed("read an artifact"))?;
        sqlx::query(
            "update documents set phase = 'Stored', changed = $3, finished_at = $4
             where run_id = $1 and url = $2 and phase = 'Pending'",
        )
        .bind(new.run_id)
        .bind(&new.source_url)
        .bind(artifact.changed)
        .bind(sql_time(now))
        .execute(&mut *transaction)
        .await
        .map_err(failed("finish a document"))?;
        end_if_complete(&mut transaction, new.run_id, now).await?;
        transaction.commit().await.map_err(failed("commit an artifact"))?;
        Ok(StoredArtifact::Stored(artifact))
    }

    /// Finishes a document as failed and, with the last document, the run.
    ///
    /// # Errors
    /// When the catalog fails; then nothing was recorded.
    pub async fn fail_document(
        &self,
        run_id: Uuid,
        url: &str,
        reason: &str,
        message: &str,
        now: Timestamp,
    ) -> Result<(), CatalogError> {
        let mut transaction = self.pool.begin().await.map_err(failed("begin"))?;
        if !lock_active_run(&mut transaction, run_id).await? {
            return Ok(());
        }
        sqlx::query(
            "update documents set phase = 'Failed', reason = $3, message = $4, finished_at = $5
             where run_id = $1 and url = $2 and phase = 'Pending'",
        )
        .bind(run_id)
        .bind(url)
        .bind(reason)
        .bind(message)
        .bind(sql_time(now))
        .execute(&mut *transaction)
        .await
        .map_err(failed("fail a document"))?;
        end_if_complete(&mut transaction, run_id, now).await?;
        transaction.commit().await.map_err(failed("commit a failure"))
    }

    /// The artifacts of a run, in the order in which they were stored.
    ///
    /// # Errors
    /// When the catalog fails.
    pub async fn run_artifacts(&self, run_id: Uuid) -> Result<Vec<Artifact>, CatalogError> {
        let sql = format!("select {ARTIFACT_COLUMNS} from artifacts where run_id = $1 order by id");
        let rows = sqlx::query(sqlx::AssertSqlSafe(sql))
            .bind(run_id)
            .fetch_all(&self.pool)
            .await
            .map_err(failed("list a run's artifacts"))?;
        rows.iter().map(|row| artifact(row).map_err(failed("read an artifact"))).collect()
    }

    /// What the same subscription stored of the same URL before an artifact.
    ///
    /// # Errors
    /// When the catalog fails.
    pub async fn artifact_before(&self, artifact_id: i64) -> Result<Option<Artifact>, CatalogError> {
        let sql = format!(
            "select {ARTIFACT_COLUMNS} from artifacts
             where (subscription_id, source_url) = (select subscription_id, source_url from artifacts where id = $1)
                 and id < $1
             order by id desc limit 1"
        );
        let row = sqlx::query(sqlx::AssertSqlSafe(sql))
            .bind(artifact_id)
            .fetch_optional(&self.pool)
            .await
            .map_err(failed("look up the artifact before"))?;
        row.as_ref().map(artifact).transpose().map_err(failed("read an artifact"))
    }
}

/// Locks the run, so that its documents finish one after the other and the last one sees all others.
async fn lock_active_run(connection: &mut PgConnection, run_id: Uuid) -> Result<bool, CatalogError> {
    let active: Option<bool> =
        sqlx::query_scalar("select finished_at is null from runs where id = $1 for update")
            .bind(run_id)
            .fetch_optional(connection)
            .await
            .map_err(failed("lock a run"))?;
    Ok(active.unwrap_or(false))
}

async fn artifact_of(
    connection: &mut PgConnection,
    run_id: Uuid,
    url: &str,
) -> Result<Option<Artifact>, CatalogError> {
    let sql = format!("select {ARTIFACT_COLUMNS} from artifacts where run_id = $1 and source_url = $2");
    let row = sqlx::query(sqlx::AssertSqlSafe(sql))
        .bind(run_id)
        .bind(url)
        .fetch_optional(connection)
        .await
        .map_err(failed("look up an artifact"))?;
    row.as_ref().map(artifact).transpose().map_err(failed("read an artifact"))
}

pub(super) fn artifact(row: &PgRow) -> Result<Artifact, sqlx::Error> {
    Ok(Artifact {
        id: row.try_get("id")?,
        source_url: row.try_get("source_url")?,
        fetch_hash: row.try_get("fetch_hash")?,
        blob_uri: row.try_get("blob_uri")?,
        content_type: row.try_get("content_type")?,
        byte_size: row.try_get("byte_size")?,
        changed: row.try_get("changed")?,
        fetched_at: row.try_get::<jiff_sqlx::Timestamp, _>("fetched_at")?.to_jiff(),
    })
}
