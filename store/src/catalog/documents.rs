//! Documents: what a run has to bring in, and how each is finished.

use std::collections::HashMap;

use events::{Event, run_reasons};
use jiff::Timestamp;
use sqlx::{PgConnection, Row, types::Json};
use uuid::Uuid;

use super::{
    Artifact, Catalog, CatalogError, LatestArtifact, NewArtifact, SourceSettings,
    artifacts::{self, ARTIFACT_COLUMNS, INSERTED_COLUMNS, LATEST_COLUMNS},
    failed, health, outbox,
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
    /// Set when the document is stored already.
    pub artifact: Option<Artifact>,
    /// What the source last had at the URL, for any of its subscriptions.
    pub latest: Option<LatestArtifact>,
    /// The namespace of the source, and of the Secrets that it refers to.
    pub namespace: String,
    /// How the source is fetched.
    pub source: SourceSettings,
}

/// A document that a list led to: a page, a feed or a sitemap.
#[derive(Clone, Debug)]
pub struct FoundDocument {
    /// Its URL.
    pub url: String,
    /// What the list says of it: the same again need not be fetched.
    pub marker: Option<String>,
    /// Whether it is a list itself.
    pub is_list: bool,
    /// Asks for it to be fetched.
    pub event: Event,
    /// When it may be.
    pub available_at: Timestamp,
}

/// What a list led to.
#[derive(Clone, Debug, Default)]
pub struct Findings {
    /// The documents that are to be fetched.
    pub documents: Vec<FoundDocument>,
    /// How many documents that are no lists a run is led to at most; what is more is left out.
    pub limit: usize,
    /// Whether there are more, which have to wait for a later run: then what is said of the list does not show that
    /// all it names was brought in.
    pub is_cut_short: bool,
    /// What whoever watches the list should know about it.
    pub note: Option<String>,
}

/// A document that a subscription has from an earlier run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownDocument {
    /// What the list said of it. None of a list in whose run not every document was brought in: it has to be read again.
    pub marker: Option<String>,
    /// The catalog's id of its artifact. The lower, the longer ago the document was looked at.
    pub artifact_id: i64,
}

/// How many documents lists have led a run to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FoundCount {
    /// Those that are no lists.
    pub documents: usize,
    /// Those that are.
    pub lists: usize,
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
    source_id: i64,
}

impl Catalog {
    /// What is needed to fetch a document, if the run has it.
    ///
    /// # Errors
    /// When the catalog fails.
    pub async fn crawl_work(&self, run_id: Uuid, url: &str) -> Result<Option<CrawlWork>, CatalogError> {
        let sql = format!(
            "select d.phase = 'Pending' and r.finished_at is null as is_pending, d.phase = 'Stored' as is_stored,
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

    /// Finishes a document with evidence of it and, with the last document, the run; adds the documents that it led to
    /// and hands their events to the relay.
    ///
    /// # Errors
    /// When the catalog fails. Then nothing was stored, or the document was and its run has not ended with it: done again,
    /// this ends it.
    pub async fn store_document(
        &self,
        run_id: Uuid,
        url: &str,
        evidence: Evidence<'_>,
        findings: &Findings,
        now: Timestamp,
    ) -> Result<StoredDocument, CatalogError> {
        let stored = if findings.documents.is_empty() {
            let mut connection = self.pool.acquire().await.map_err(failed("connect"))?;
            finish(&mut connection, run_id, url, evidence, findings, now).await?
        } else {
            let mut transaction = self.pool.begin().await.map_err(failed("begin"))?;
            let (found, is_cut_short) = fitting(&mut transaction, run_id, findings).await?;
            add(&mut transaction, run_id, url, &found).await?;
            let findings =
                &Findings { is_cut_short, documents: Vec::new(), note: findings.note.clone(), ..*findings };
            let stored = finish(&mut transaction, run_id, url, evidence, findings, now).await?;
            if stored.is_some() {
                transaction.commit().await.map_err(failed("commit a document"))?;
            }
            stored
        };
        match stored {
            Some(Finished { artifact, has_run_ended: true }) => Ok(StoredDocument::Stored(artifact)),
            Some(Finished { artifact, has_run_ended: false }) => {
                self.end_run_if_complete(run_id, now).await?;
                Ok(StoredDocument::Stored(artifact))
            }
            None => {
                let mut connection = self.pool.acquire().await.map_err(failed("connect"))?;
                let Some(artifact) = artifact_of(&mut connection, run_id, url).await? else {
                    return Ok(StoredDocument::NotWaitedFor);
                };
                end_if_complete(&mut connection, run_id, now).await?;
                Ok(StoredDocument::Stored(artifact))
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

    /// How many documents of a run are not the source's own, and how many of these are lists.
    ///
    /// # Errors
    /// When the catalog fails.
    pub async fn count_found(&self, run_id: Uuid) -> Result<FoundCount, CatalogError> {
        let mut connection = self.pool.acquire().await.map_err(failed("connect"))?;
        count_found(&mut connection, run_id).await
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

    /// What the run's subscription has of these URLs from earlier runs; those that it never had are not in it.
    ///
    /// # Errors
    /// When the catalog fails.
    pub async fn known_documents(
        &self,
        run_id: Uuid,
        urls: &[&str],
    ) -> Result<HashMap<String, KnownDocument>, CatalogError> {
        let rows = sqlx::query(
            "select wanted.url, known.artifact_id, known.marker
             from runs r, unnest($2::text[]) as wanted (url)
             cross join lateral (
                 select d.artifact_id, case when not d.is_list or not exists (
                         select from documents other where other.run_id = d.run_id and other.phase <> 'Stored')
                     then d.marker end as marker
                 from documents d
                 where d.subscription_id = r.subscription_id and d.url = wanted.url and d.artifact_id is not null
                     and d.run_id <> r.id
                 order by d.artifact_id desc limit 1) known
             where r.id = $1",
        )
        .bind(run_id)
        .bind(urls)
        .fetch_all(&self.pool)
        .await
        .map_err(failed("look up known documents"))?;
        rows.iter()
            .map(|row| {
                let known = KnownDocument {
                    marker: row.try_get("marker")?,
                    artifact_id: row.try_get("artifact_id")?,
                };
                Ok((row.try_get("url")?, known))
            })
            .collect::<Result<_, _>>()
            .map_err(failed("read known documents"))
    }
}

async fn lock_run(connection: &mut PgConnection, run_id: Uuid) -> Result<Option<LockedRun>, CatalogError> {
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

/// A document that was finished just now.
struct Finished {
    artifact: Artifact,
    /// Whether the run has ended with it, being a run of one document.
    has_run_ended: bool,
}

/// Finishes a document that its run waits for, in one statement. The run's row is locked first, so that whoever ends a run
/// and whoever finishes a document of it do so one after the other; what is read of other documents is as it was when the
/// statement began, so that the last one is only known to be the last afterwards.
async fn finish(
    connection: &mut PgConnection,
    run_id: Uuid,
    url: &str,
    evidence: Evidence<'_>,
    findings: &Findings,
    now: Timestamp,
) -> Result<Option<Finished>, CatalogError> {
    let artifact = match evidence {
        Evidence::New(_) => {
            let inserted = artifacts::inserted_from(8);
            format!("insert into artifacts ({INSERTED_COLUMNS}) {inserted} from document returning *")
        }
        Evidence::Known(_) => "select a.* from artifacts a, document where a.id = $8".to_owned(),
    };
    let answered = health::ANSWERED;
    let sql = format!(
        "with run as materialized (
             select r.id, r.subscription_id, s.source_id from runs r join subscriptions s on s.id = r.subscription_id
             where r.id = $1 and r.finished_at is null for update of r),
         document as materialized (
             select d.run_id, d.url, run.source_id, run.subscription_id from run join documents d on d.run_id = run.id
             where d.url = $2 and d.phase = 'Pending' for update of d),
         artifact as ({artifact}),
         finished as (
             update documents d set phase = 'Stored', artifact_id = a.id, finished_at = $3, message = $4,
                 marker = case when not $5 then d.marker end,
                 changed = a.fetch_hash is distinct from (
                     select before.fetch_hash from documents known join artifacts before on before.id = known.artifact_id
                     where known.subscription_id = o.subscription_id and known.url = $2 and known.artifact_id is not null
                     order by known.artifact_id desc limit 1)
             from artifact a, document o where d.run_id = o.run_id and d.url = o.url
             returning d.changed, d.is_base, o.source_id),
         alone as (
             select f.changed from finished f
             where not exists (select from documents where run_id = $1 and url <> $2)),
         ended as (
             update runs r set finished_at = $3, phase = 'Succeeded', changed = o.changed, message = $4,
                 reason = case when o.changed then $6 else $7 end
             from alone o where r.id = $1 returning r.id),
         answered as ({answered})
         select a.id, a.source_url, a.fetch_hash, a.blob_uri, a.content_type, a.byte_size, a.fetched_at, f.changed,
             exists (select from ended) as has_run_ended
         from artifact a, finished f"
    );
    let query = sqlx::query(sqlx::AssertSqlSafe(sql))
        .bind(run_id)
        .bind(url)
        .bind(sql_time(now))
        .bind(findings.note.as_deref())
        .bind(findings.is_cut_short)
        .bind(run_reasons::CHANGED)
        .bind(run_reasons::UNCHANGED);
    let query = match evidence {
        Evidence::New(artifact) => artifacts::bind(query, artifact),
        Evidence::Known(id) => query.bind(id),
    };
    let row = query.fetch_optional(connection).await.map_err(failed("finish a document"))?;
    row.map(|row| {
        Ok(Finished { artifact: artifacts::artifact(&row)?, has_run_ended: row.try_get("has_run_ended")? })
    })
    .transpose()
    .map_err(failed("read an artifact"))
}

async fn count_found(connection: &mut PgConnection, run_id: Uuid) -> Result<FoundCount, CatalogError> {
    let row = sqlx::query(
        "select count(*) filter (where not is_list) as documents, count(*) filter (where is_list) as lists
         from documents where run_id = $1 and not is_base",
    )
    .bind(run_id)
    .fetch_one(connection)
    .await
    .map_err(failed("count a run's documents"))?;
    let count =
        |column| row.try_get::<i64, _>(column).map(|count| usize::try_from(count).unwrap_or_default());
    let counts = || Ok(FoundCount { documents: count("documents")?, lists: count("lists")? });
    counts().map_err(failed("count a run's documents"))
}

/// What there is room for in the run, and whether something is left out. Lists that are read at the same time share the
/// room.
async fn fitting<'a>(
    connection: &mut PgConnection,
    run_id: Uuid,
    findings: &'a Findings,
) -> Result<(Vec<&'a FoundDocument>, bool), CatalogError> {
    lock_run(connection, run_id).await?;
    let mut room = findings.limit.saturating_sub(count_found(connection, run_id).await?.documents);
    let mut fitting = Vec::new();
    for document in &findings.documents {
        if document.is_list {
            fitting.push(document);
        } else if room > 0 {
            room -= 1;
            fitting.push(document);
        }
    }
    let is_cut_short = findings.is_cut_short || fitting.len() < findings.documents.len();
    Ok((fitting, is_cut_short))
}

/// Adds documents that a list led to, when the run still waits for the list. Those that it has already stay as they are.
async fn add(
    connection: &mut PgConnection,
    run_id: Uuid,
    list: &str,
    found: &[&FoundDocument],
) -> Result<(), CatalogError> {
    sqlx::query(
        "insert into documents (run_id, subscription_id, url, marker, is_list, phase, is_base)
         select l.run_id, l.subscription_id, new.url, new.marker, new.is_list, 'Pending', false
         from documents l, unnest($3::text[], $4::text[], $5::boolean[]) as new (url, marker, is_list)
         where l.run_id = $1 and l.url = $2
         on conflict do nothing",
    )
    .bind(run_id)
    .bind(list)
    .bind(found.iter().map(|document| document.url.as_str()).collect::<Vec<_>>())
    .bind(found.iter().map(|document| document.marker.as_deref()).collect::<Vec<_>>())
    .bind(found.iter().map(|document| document.is_list).collect::<Vec<_>>())
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
