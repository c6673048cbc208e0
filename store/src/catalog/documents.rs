//! Documents: what a run has to bring in, and what becomes of each when it was fetched.

use events::run_reasons;
use jiff::Timestamp;
use sqlx::{PgConnection, Row, types::Json};
use uuid::Uuid;

use super::{
    Artifact, Catalog, CatalogError, Findings, LatestArtifact, NewArtifact, SourceSettings,
    artifacts::{self, ARTIFACT_COLUMNS, INSERTED_COLUMNS, LATEST_COLUMNS},
    failed, health, lists,
    runs::end_if_complete,
    sql_time,
};

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
        let sql = format!(
            "select d.phase = 'Pending' and r.finished_at is null as is_pending, d.phase = 'Fetched' or d.phase = 'Stored' and d.artifact_id is not null as is_stored,
                 d.is_base, d.is_list, r.scheduled_for, o.namespace, o.settings, {LATEST_COLUMNS}
             from documents d join runs r on r.id = d.run_id
             join subscriptions s on s.id = r.subscription_id join sources o on o.id = s.source_id
             left join lateral (select * from artifacts where source_id = o.id and source_url = d.url
                 order by id desc limit 1) l on true
             where d.run_id = $1 and d.url = $2"
        );
        let row = sqlx::query(sqlx::AssertSqlSafe(sql))
            .bind(run_id)
            .bind(url)
            .fetch_optional(&self.pool)
            .await
            .map_err(failed("look up a document"))?;
        let Some(row) = row else { return Ok(None) };
        let artifact = if row.try_get("is_stored").map_err(failed("read a document"))? {
            let mut connection = self.pool.acquire().await.map_err(failed("connect"))?;
            artifact_of(&mut connection, run_id, url).await?
        } else {
            None
        };
        let work = || -> Result<CrawlWork, sqlx::Error> {
            Ok(CrawlWork {
                is_pending: row.try_get("is_pending")?,
                is_base: row.try_get("is_base")?,
                is_list: row.try_get("is_list")?,
                scheduled_for: row.try_get::<jiff_sqlx::Timestamp, _>("scheduled_for")?.to_jiff(),
                artifact,
                latest: artifacts::latest(&row)?,
                namespace: row.try_get("namespace")?,
                source: row.try_get::<Json<SourceSettings>, _>("settings")?.0,
            })
        };
        work().map(Some).map_err(failed("read a document"))
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
        let stored = match document.findings.filter(|findings| !findings.is_empty()) {
            None => {
                let mut connection = self.pool.acquire().await.map_err(failed("connect"))?;
                store(&mut connection, run_id, url, document, now).await?
            }
            Some(findings) => {
                let mut transaction = self.pool.begin().await.map_err(failed("begin"))?;
                let (found, is_cut_short) = lists::fitting(&mut transaction, run_id, findings).await?;
                lists::add(&mut transaction, run_id, url, &found, &findings.gone, now).await?;
                let findings = &Findings {
                    is_cut_short,
                    misses_some: findings.misses_some || found.len() < findings.documents.len(),
                    note: findings.note.clone(),
                    ..Findings::default()
                };
                let document = FetchedDocument { findings: Some(findings), ..*document };
                let stored = store(&mut transaction, run_id, url, &document, now).await?;
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
                end_if_complete(&mut connection, run_id, now).await?;
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
        end_if_complete(&mut connection, run_id, now).await
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
        let inserted = artifacts::inserted_from(3);
        let sql = format!(
            "insert into artifacts ({INSERTED_COLUMNS}) {inserted} from (
                 select s.source_id, r.id as run_id, $2 as url
                 from runs r join subscriptions s on s.id = r.subscription_id where r.id = $1) document"
        );
        artifacts::bind(sqlx::query(sqlx::AssertSqlSafe(sql)).bind(run_id).bind(url), artifact)
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
        end_if_complete(&mut transaction, run_id, now).await?;
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

/// A document whose evidence was stored just now.
struct Stored {
    artifact: Artifact,
    is_finished: bool,
    /// Whether the run has ended with it, being a run of one document.
    has_run_ended: bool,
}

/// Stores a document that its run waits for, in one statement. The run's row is locked first, so that whoever ends a run
/// and whoever finishes a document of it do so one after the other; what is read of other documents is as it was when the
/// statement began, so that the last one is only known to be the last afterwards.
async fn store(
    connection: &mut PgConnection,
    run_id: Uuid,
    url: &str,
    document: &FetchedDocument<'_>,
    now: Timestamp,
) -> Result<Option<Stored>, CatalogError> {
    let artifact = match document.evidence {
        Evidence::New(_) => {
            let inserted = artifacts::inserted_from(10);
            format!("insert into artifacts ({INSERTED_COLUMNS}) {inserted} from document returning *")
        }
        Evidence::Known(_) => "select a.* from artifacts a, document where a.id = $10".to_owned(),
    };
    let answered = health::ANSWERED;
    let sql = format!(
        "with run as materialized (
             select r.id, r.subscription_id, s.source_id, s.selection_hash
             from runs r join subscriptions s on s.id = r.subscription_id
             where r.id = $1 and r.finished_at is null for update of r),
         document as materialized (
             select d.run_id, d.url, d.is_base, run.source_id, run.subscription_id, run.selection_hash
             from run join documents d on d.run_id = run.id
             where d.url = $2 and d.phase = 'Pending' for update of d),
         artifact as ({artifact}),
         -- What is as it was is so from now on: what was fetched before and comes later is no version.
         moved as (
             update document_heads h set artifact_id =
                 case when (seen.fetched_at, seen.id) < (a.fetched_at, a.id) then a.id else seen.id end
             from artifact a, document o, artifacts seen
             where not $6 and h.subscription_id = o.subscription_id and h.url = o.url and seen.id = h.artifact_id
                 and a.fetch_hash = h.fetch_hash and not h.is_gone and h.is_found <> o.is_base
                 and h.selection_hash = o.selection_hash and h.parser_version = $7
             returning h.url),
         compared as (
             select $6 as is_list, a.fetch_hash is distinct from h.fetch_hash as is_changed,
                 $6 or exists (select from moved) as is_finished
             from artifact a cross join document o
             left join document_heads h on h.subscription_id = o.subscription_id and h.url = o.url),
         stored as (
             update documents d set artifact_id = a.id, message = $4,
                 phase = case when c.is_finished then 'Stored' else 'Fetched' end,
                 finished_at = case when c.is_finished then $3 end,
                 changed = c.is_changed and not c.is_list,
                 is_whole = case when c.is_list then not $9 end,
                 marker = case when not $5 then d.marker end
             from artifact a, document o, compared c where d.run_id = o.run_id and d.url = o.url
             returning d.changed, d.is_base, o.source_id, c.is_finished, c.is_list),
         alone as (
             select from stored t
             where t.is_finished and not t.is_list
                 and not exists (select from documents where run_id = $1 and url <> $2)),
         ended as (
             update runs r set finished_at = $3, phase = 'Succeeded', changed = false, message = $4, reason = $8
             from alone where r.id = $1 returning r.id),
         answered as ({answered})
         select a.id, a.source_url, a.fetch_hash, a.blob_uri, a.content_type, a.byte_size, a.fetched_at, t.changed,
             t.is_finished, exists (select from ended) as has_run_ended
         from artifact a, stored t"
    );
    let findings = document.findings;
    let query = sqlx::query(sqlx::AssertSqlSafe(sql))
        .bind(run_id)
        .bind(url)
        .bind(sql_time(now))
        .bind(findings.and_then(|findings| findings.note.as_deref()))
        .bind(findings.is_some_and(|findings| findings.is_cut_short))
        .bind(findings.is_some())
        .bind(document.parser_version)
        .bind(run_reasons::UNCHANGED)
        .bind(findings.is_some_and(|findings| findings.misses_some));
    let query = match document.evidence {
        Evidence::New(artifact) => artifacts::bind(query, artifact),
        Evidence::Known(id) => query.bind(id),
    };
    let row = query.fetch_optional(connection).await.map_err(failed("store a document"))?;
    row.map(|row| {
        Ok(Stored {
            artifact: artifacts::artifact(&row)?,
            is_finished: row.try_get("is_finished")?,
            has_run_ended: row.try_get("has_run_ended")?,
        })
    })
    .transpose()
    .map_err(failed("read an artifact"))
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
