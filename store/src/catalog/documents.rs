//! Documents: what a run has to bring in, and what becomes of each when it was fetched.

mod storing;
mod work;

use events::run_reasons;
use jiff::Timestamp;
use sqlx::{PgConnection, Row};
use uuid::Uuid;

use super::{
    Artifact, Catalog, CatalogError, Findings, LatestArtifact, NewArtifact, SourceSettings,
    artifacts::{self, ARTIFACT_COLUMNS},
    failed, health, lists,
    runs::end_if_complete,
    sql_time,
};
use storing::{Fetched, Stored, store};

pub(super) use storing::StoredDocuments;
pub(super) use work::CrawlWorkOf;

/// What the crawl role needs to fetch a document.
#[derive(Clone, Debug)]
pub struct CrawlWork {
    /// Whether the run still waits for this document.
    pub is_pending: bool,
    /// Whether it is the document that the source names, and not one that a list led to.
    pub is_base: bool,
    /// Whether it may name further documents: the source's own, and the sitemaps of an index.
    pub is_list: bool,
    /// The due time of the run, or when it was asked for: what was asked of the server since then is good for it.
    pub scheduled_for: Timestamp,
    /// Set when the document was fetched already.
    pub artifact: Option<Artifact>,
    /// What the source last had at the URL, for any of its subscriptions.
    pub latest: Option<LatestArtifact>,
    /// The namespace of the source, and of the Secrets that it refers to.
    pub namespace: String,
    /// How the source is fetched.
    pub source: SourceSettings,
}

/// What shows how a document was.
#[derive(Clone, Copy, Debug)]
pub enum Evidence<'a> {
    /// A fetch for this run.
    New(&'a NewArtifact),
    /// The id of an artifact that the source has of the URL already.
    Known(i64),
}

/// A document that was fetched.
#[derive(Clone, Copy, Debug)]
pub struct FetchedDocument<'a> {
    /// What shows how it was.
    pub evidence: Evidence<'a>,
    /// What it led to, where it is a list. A list is read, and not compared itself.
    pub findings: Option<&'a Findings>,
    /// Which parsers would read it: what others have read is compared anew.
    pub parser_version: i32,
}

/// What became of a document that was fetched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoredDocument {
    /// It has to be parsed and compared.
    Fetched(Artifact),
    /// It is finished: it is a list, or as it was when it was last compared.
    Finished(Artifact),
    /// The run has ended, or has given the document up: nothing was stored.
    NotWaitedFor,
}

/// A run whose documents are being finished, with its row locked: they finish one after the other, and the last one
/// sees all others.
pub(super) struct LockedRun {
    pub(super) is_active: bool,
    source_id: i64,
}

impl Catalog {
    /// What is needed to fetch a document, if the run has it.
    ///
    /// # Errors
    /// When the catalog fails.
    pub async fn crawl_work(&self, run_id: Uuid, url: &str) -> Result<Option<CrawlWork>, CatalogError> {
        self.crawl_work.ask((run_id, url.to_owned())).await
    }

    /// Keeps evidence of a document. What is as it was when it was last compared is finished with that and, with the last
    /// document, the run; so is a list, whose documents are added and whose events are handed to the relay.
    ///
    /// # Errors
    /// When the catalog fails. Then nothing was stored, or the document was and its run has not ended with it: done again,
    /// this ends it.
    pub async fn store_document(
        &self,
        run_id: Uuid,
        url: &str,
        document: &FetchedDocument<'_>,
        now: Timestamp,
    ) -> Result<StoredDocument, CatalogError> {
        let mut fetched = Fetched::new(run_id, url, document, now);
        let stored = match document.findings.filter(|findings| !findings.is_empty()) {
            None => self.stored.ask(fetched).await?,
            Some(findings) => {
                let mut transaction = self.pool.begin().await.map_err(failed("begin"))?;
                let (found, is_cut_short) = lists::fitting(&mut transaction, run_id, findings).await?;
                lists::add(&mut transaction, run_id, url, &found, &findings.gone, now).await?;
                fetched.is_cut_short = is_cut_short;
                fetched.misses_some |= found.len() < findings.documents.len();
                let stored = store(&mut transaction, std::slice::from_ref(&fetched)).await?.pop().flatten();
                if stored.is_some() {
                    transaction.commit().await.map_err(failed("commit a document"))?;
                }
                stored
            }
        };
        match stored {
            Some(Stored { artifact, is_finished: false, .. }) => Ok(StoredDocument::Fetched(artifact)),
            Some(Stored { artifact, has_run_ended, .. }) => {
                if !has_run_ended {
                    self.end_run_if_complete(run_id, now).await?;
                }
                Ok(StoredDocument::Finished(artifact))
            }
            None => {
                let mut connection = self.pool.acquire().await.map_err(failed("connect"))?;
                let Some(artifact) = artifact_of(&mut connection, run_id, url).await? else {
                    return Ok(StoredDocument::NotWaitedFor);
                };
                end_if_complete(&mut connection, &[run_id], now).await?;
                Ok(StoredDocument::Fetched(artifact))
            }
        }
    }

    /// Ends a run that waits for nothing any more.
    ///
    /// # Errors
    /// When the catalog fails.
    pub async fn end_run_if_complete(&self, run_id: Uuid, now: Timestamp) -> Result<(), CatalogError> {
        let mut connection = self.pool.acquire().await.map_err(failed("connect"))?;
        end_if_complete(&mut connection, &[run_id], now).await
    }

    /// Keeps evidence of a document that was fetched and is not finished by it: what came is not what was to be watched.
    ///
    /// # Errors
    /// When the catalog fails; then nothing was stored.
    pub async fn keep_evidence(
        &self,
        run_id: Uuid,
        url: &str,
        artifact: &NewArtifact,
    ) -> Result<(), CatalogError> {
        let new = artifacts::new_artifacts(3);
        let tables = format!(
            "runs r join subscriptions s on s.id = r.subscription_id cross join {new} where r.id = $1"
        );
        let sql = artifacts::inserted("s.source_id, r.id, $2", &tables);
        artifacts::bind(sqlx::query(sqlx::AssertSqlSafe(sql)).bind(run_id).bind(url), &[(1, artifact)])
            .execute(&self.pool)
            .await
            .map_err(failed("keep evidence"))?;
        Ok(())
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
        let run = lock_run(&mut transaction, run_id).await?;
        let Some(run) = run.filter(|run| run.is_active) else { return Ok(()) };
        let is_base_unfetched: Option<bool> = sqlx::query_scalar(
            "update documents set phase = 'Failed', reason = $3, message = $4, finished_at = $5
             where run_id = $1 and url = $2 and finished_at is null returning is_base and artifact_id is null",
        )
        .bind(run_id)
        .bind(url)
        .bind(reason)
        .bind(message)
        .bind(sql_time(now))
        .fetch_optional(&mut *transaction)
        .await
        .map_err(failed("fail a document"))?;
        // What came and cannot be read is not for the site to answer.
        if is_base_unfetched == Some(true) && run_reasons::is_of_the_site(reason) {
            health::failed_for_good(&mut transaction, run.source_id, reason, message, now).await?;
        }
        end_if_complete(&mut transaction, &[run_id], now).await?;
        transaction.commit().await.map_err(failed("commit a failure"))
    }
}

pub(super) async fn lock_run(
    connection: &mut PgConnection,
    run_id: Uuid,
) -> Result<Option<LockedRun>, CatalogError> {
    let row = sqlx::query(
        "select r.finished_at is null as is_active, s.source_id
         from runs r join subscriptions s on s.id = r.subscription_id where r.id = $1 for update of r",
    )
    .bind(run_id)
    .fetch_optional(connection)
    .await
    .map_err(failed("lock a run"))?;
    row.map(|row| {
        Ok(LockedRun { is_active: row.try_get("is_active")?, source_id: row.try_get("source_id")? })
    })
    .transpose()
    .map_err(failed("read a run"))
}

async fn artifact_of(
    connection: &mut PgConnection,
    run_id: Uuid,
    url: &str,
) -> Result<Option<Artifact>, CatalogError> {
    let sql = format!(
        "select {ARTIFACT_COLUMNS} from documents d join artifacts a on a.id = d.artifact_id
         where d.run_id = $1 and d.url = $2"
    );
    let row = sqlx::query(sqlx::AssertSqlSafe(sql))
        .bind(run_id)
        .bind(url)
        .fetch_optional(connection)
        .await
        .map_err(failed("look up an artifact"))?;
    row.as_ref().map(artifacts::artifact).transpose().map_err(failed("read an artifact"))
}
