//! Documents: what a run has to bring in, and how each is finished.

use std::collections::HashMap;

use events::{Event, run_reasons};
use jiff::Timestamp;
use sqlx::{PgConnection, Row, types::Json};
use uuid::Uuid;

use super::{
    Artifact, Catalog, CatalogError, LatestArtifact, NewArtifact, SourceSettings,
    artifacts::{self, ARTIFACT_COLUMNS, LATEST_COLUMNS},
    failed, health, outbox,
    runs::end_if_complete,
    sql_time,
};

/// What the crawl role needs to fetch a document.
#[derive(Clone, Debug)]
pub struct CrawlWork {
    /// Whether the run still waits for this document.
    pub is_pending: bool,
    /// Whether it is the document that the source names, and not one that a page or feed led to.
    pub is_base: bool,
    /// The due time of the run, or when it was asked for: what was asked of the server since then is good for it.
    pub scheduled_for: Timestamp,
    /// Set when the document is stored already.
    pub artifact: Option<Artifact>,
    /// What the source last had at the URL, for any of its subscriptions.
    pub latest: Option<LatestArtifact>,
    /// The namespace of the source, and of the Secrets that it refers to.
    pub namespace: String,
    /// How the source is fetched.
    pub source: SourceSettings,
}

/// A document that a page, feed or sitemap led to.
#[derive(Clone, Debug)]
pub struct FoundDocument {
    /// Its URL.
    pub url: String,
    /// What the list says of it: the same again need not be fetched.
    pub marker: Option<String>,
    /// Asks for it to be fetched.
    pub event: Event,
    /// When it may be.
    pub available_at: Timestamp,
}

/// What a subscription knows of a document from before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownDocument {
    /// What the list said of it.
    pub marker: Option<String>,
    /// Whether it was brought in.
    pub is_stored: bool,
}

/// What shows how a document was.
#[derive(Clone, Copy, Debug)]
pub enum Evidence<'a> {
    /// A fetch for this run.
    New(&'a NewArtifact),
    /// The id of an artifact that the source has of the URL already.
    Known(i64),
}

/// What became of a document that was to be stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoredDocument {
    /// It stands in the catalog, now or from an earlier attempt.
    Stored(Artifact),
    /// The run has ended, or has given the document up: nothing was stored.
    NotWaitedFor,
}

/// A run whose documents are being finished, with its row locked: they finish one after the other, and the last one
/// sees all others.
struct LockedRun {
    is_active: bool,
    subscription_id: i64,
    source_id: i64,
}

impl Catalog {
    /// What is needed to fetch a document, if the run has it.
    ///
    /// # Errors
    /// When the catalog fails.
    pub async fn crawl_work(&self, run_id: Uuid, url: &str) -> Result<Option<CrawlWork>, CatalogError> {
        let sql = format!(
            "select d.phase = 'Pending' and r.finished_at is null as is_pending, d.is_base, d.artifact_id, r.scheduled_for,
                 o.namespace, o.settings, {LATEST_COLUMNS}
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
        let is_stored = row.get::<Option<i64>, _>("artifact_id").is_some();
        let artifact = if is_stored {
            let mut connection = self.pool.acquire().await.map_err(failed("connect"))?;
            artifact_of(&mut connection, run_id, url).await?
        } else {
            None
        };
        let work = || -> Result<CrawlWork, sqlx::Error> {
            Ok(CrawlWork {
                is_pending: row.try_get("is_pending")?,
                is_base: row.try_get("is_base")?,
                scheduled_for: row.try_get::<jiff_sqlx::Timestamp, _>("scheduled_for")?.to_jiff(),
                artifact,
                latest: artifacts::latest(&row)?,
                namespace: row.try_get("namespace")?,
                source: row.try_get::<Json<SourceSettings>, _>("settings")?.0,
            })
        };
        work().map(Some).map_err(failed("read a document"))
    }

    /// Finishes a document with evidence of it and, with the last document, the run; adds the documents that it led to
    /// and hands their events to the relay.
    ///
    /// # Errors
    /// When the catalog fails; then nothing was stored.
    pub async fn store_document(
        &self,
        run_id: Uuid,
        url: &str,
        evidence: Evidence<'_>,
        found: &[FoundDocument],
        now: Timestamp,
    ) -> Result<StoredDocument, CatalogError> {
        let mut transaction = self.pool.begin().await.map_err(failed("begin"))?;
        let run = lock_run(&mut transaction, run_id).await?;
        if let Some(artifact) = artifact_of(&mut transaction, run_id, url).await? {
            return Ok(StoredDocument::Stored(artifact));
        }
        let Some(run) = run.filter(|run| run.is_active) else { return Ok(StoredDocument::NotWaitedFor) };
        let artifact_id = match evidence {
            Evidence::New(artifact) => {
                artifacts::insert(&mut transaction, run.source_id, run_id, url, artifact).await?
            }
            Evidence::Known(id) => id,
        };
        let finished = finish(&mut transaction, &run, run_id, url, artifact_id, now).await?;
        let Some((artifact, is_base)) = finished else { return Ok(StoredDocument::NotWaitedFor) };
        health::answered(&mut transaction, run.source_id, is_base, artifact.id).await?;
        add(&mut transaction, &run, run_id, found).await?;
        end_if_complete(&mut transaction, run_id, now).await?;
        transaction.commit().await.map_err(failed("commit a document"))?;
        Ok(StoredDocument::Stored(artifact))
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
        let is_base: Option<bool> = sqlx::query_scalar(
            "update documents set phase = 'Failed', reason = $3, message = $4, finished_at = $5
             where run_id = $1 and url = $2 and phase = 'Pending' returning is_base",
        )
        .bind(run_id)
        .bind(url)
        .bind(reason)
        .bind(message)
        .bind(sql_time(now))
        .fetch_optional(&mut *transaction)
        .await
        .map_err(failed("fail a document"))?;
        if is_base == Some(true) && run_reasons::is_of_the_site(reason) {
            health::failed_for_good(&mut transaction, run.source_id, reason, message, now).await?;
        }
        end_if_complete(&mut transaction, run_id, now).await?;
        transaction.commit().await.map_err(failed("commit a failure"))
    }

    /// What the run's subscription knows of these URLs from earlier runs; those it never had are not in it.
    ///
    /// # Errors
    /// When the catalog fails.
    pub async fn known_documents(
        &self,
        run_id: Uuid,
        urls: &[String],
    ) -> Result<HashMap<String, KnownDocument>, CatalogError> {
        let rows = sqlx::query(
            "select wanted.url, known.marker, known.phase = 'Stored' as is_stored
             from runs r, unnest($2::text[]) as wanted (url)
             cross join lateral (select d.marker, d.phase from documents d join runs before on before.id = d.run_id
                 where d.subscription_id = r.subscription_id and d.url = wanted.url and d.run_id <> r.id
                     and d.phase <> 'Pending'
                 order by d.finished_at desc limit 1) known
             where r.id = $1",
        )
        .bind(run_id)
        .bind(urls)
        .fetch_all(&self.pool)
        .await
        .map_err(failed("look up known documents"))?;
        rows.iter()
            .map(|row| {
                let known =
                    KnownDocument { marker: row.try_get("marker")?, is_stored: row.try_get("is_stored")? };
                Ok((row.try_get("url")?, known))
            })
            .collect::<Result<_, _>>()
            .map_err(failed("read known documents"))
    }
}

async fn lock_run(connection: &mut PgConnection, run_id: Uuid) -> Result<Option<LockedRun>, CatalogError> {
    let row = sqlx::query(
        "select r.finished_at is null as is_active, r.subscription_id, s.source_id
         from runs r join subscriptions s on s.id = r.subscription_id where r.id = $1 for update of r",
    )
    .bind(run_id)
    .fetch_optional(connection)
    .await
    .map_err(failed("lock a run"))?;
    row.map(|row| {
        Ok(LockedRun {
            is_active: row.try_get("is_active")?,
            subscription_id: row.try_get("subscription_id")?,
            source_id: row.try_get("source_id")?,
        })
    })
    .transpose()
    .map_err(failed("read a run"))
}

/// Finishes a document with an artifact, which then says whether it is a change for the subscription; also whether it
/// is that of the base URL. None when the run does not wait for it.
async fn finish(
    connection: &mut PgConnection,
    run: &LockedRun,
    run_id: Uuid,
    url: &str,
    artifact_id: i64,
    now: Timestamp,
) -> Result<Option<(Artifact, bool)>, CatalogError> {
    let sql = format!(
        "update documents d set phase = 'Stored', artifact_id = a.id, finished_at = $5,
             changed = a.fetch_hash is distinct from (
                 select before.fetch_hash from documents known join artifacts before on before.id = known.artifact_id
                 where known.subscription_id = $4 and known.url = $2 and known.artifact_id is not null
                 order by known.artifact_id desc limit 1)
         from artifacts a where a.id = $3 and d.run_id = $1 and d.url = $2 and d.phase = 'Pending'
         returning {ARTIFACT_COLUMNS}, d.is_base"
    );
    let row = sqlx::query(sqlx::AssertSqlSafe(sql))
        .bind(run_id)
        .bind(url)
        .bind(artifact_id)
        .bind(run.subscription_id)
        .bind(sql_time(now))
        .fetch_optional(connection)
        .await
        .map_err(failed("finish a document"))?;
    row.map(|row| Ok((artifacts::artifact(&row)?, row.try_get("is_base")?)))
        .transpose()
        .map_err(failed("read an artifact"))
}

/// Adds documents that a list led to; the run waits for them. Those that it has already stay as they are.
async fn add(
    connection: &mut PgConnection,
    run: &LockedRun,
    run_id: Uuid,
    found: &[FoundDocument],
) -> Result<(), CatalogError> {
    if found.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "insert into documents (run_id, subscription_id, url, marker, phase, is_base)
         select $1, $2, url, marker, 'Pending', false from unnest($3::text[], $4::text[]) as new (url, marker)
         on conflict do nothing",
    )
    .bind(run_id)
    .bind(run.subscription_id)
    .bind(found.iter().map(|document| document.url.as_str()).collect::<Vec<_>>())
    .bind(found.iter().map(|document| document.marker.as_deref()).collect::<Vec<_>>())
    .execute(&mut *connection)
    .await
    .map_err(failed("add documents"))?;
    outbox::insert_at(connection, found.iter().map(|document| (&document.event, document.available_at))).await
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
