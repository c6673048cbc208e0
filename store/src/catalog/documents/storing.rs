//! Documents that were fetched, stored many at once.

use std::time::Duration;

use async_trait::async_trait;
use events::run_reasons;
use jiff::Timestamp;
use sqlx::{PgConnection, PgPool, Row, postgres::PgRow};
use uuid::Uuid;

use super::{Evidence, FetchedDocument};
use crate::catalog::{
    Artifact, CatalogError, NewArtifact, artifacts,
    batches::{STORING, Statement, question_of},
    failed, health, sql_times,
};

/// A document that was fetched, as a statement stores it together with others.
pub(in crate::catalog) struct Fetched {
    run_id: Uuid,
    url: String,
    /// Of the fetch for this run.
    new: Option<NewArtifact>,
    /// An artifact that the source has of the URL already.
    known: Option<i64>,
    is_list: bool,
    note: Option<String>,
    pub(super) is_cut_short: bool,
    pub(super) misses_some: bool,
    parser_version: i32,
    now: Timestamp,
}

impl Fetched {
    pub(super) fn new(run_id: Uuid, url: &str, document: &FetchedDocument<'_>, now: Timestamp) -> Self {
        let (new, known) = match document.evidence {
            Evidence::New(artifact) => (Some(artifact.clone()), None),
            Evidence::Known(id) => (None, Some(id)),
        };
        let findings = document.findings;
        Self {
            run_id,
            url: url.to_owned(),
            new,
            known,
            is_list: findings.is_some(),
            note: findings.and_then(|findings| findings.note.clone()),
            is_cut_short: findings.is_some_and(|findings| findings.is_cut_short),
            misses_some: findings.is_some_and(|findings| findings.misses_some),
            parser_version: document.parser_version,
            now,
        }
    }
}

/// A document whose evidence was stored just now.
pub(in crate::catalog) struct Stored {
    pub(super) artifact: Artifact,
    pub(super) is_finished: bool,
    /// Whether the run has ended with it, being a run of one document.
    pub(super) has_run_ended: bool,
}

/// Stores documents that were fetched.
#[derive(Debug)]
pub(in crate::catalog) struct StoredDocuments;

#[async_trait]
impl Statement for StoredDocuments {
    type Question = Fetched;
    /// None of a document that is not waited for.
    type Answer = Option<Stored>;

    const PACE: Duration = STORING;

    fn subject(fetched: &Fetched) -> Option<String> {
        Some(format!("{} {}", fetched.run_id, fetched.url))
    }

    async fn ask(pool: &PgPool, documents: &[Fetched]) -> Result<Vec<Option<Stored>>, CatalogError> {
        let mut connection = pool.acquire().await.map_err(failed("connect"))?;
        store(&mut connection, documents).await
    }
}

/// Stores documents that their runs wait for, in one statement. The runs' rows are locked first, so that whoever ends a run
/// and whoever finishes a document of it do so one after the other; what is read of other documents is as it was when the
/// statement began, so that the last one is only known to be the last afterwards. All that is locked is locked in one order,
/// so that no two wait for each other.
pub(super) async fn store(
    connection: &mut PgConnection,
    documents: &[Fetched],
) -> Result<Vec<Option<Stored>>, CatalogError> {
    let answered = health::ANSWERED;
    let tables = format!("document d join {} on new.number = d.number", artifacts::new_artifacts(11));
    let inserted = artifacts::inserted("d.subscribed_source, d.run_id, d.url", &tables);
    let sql = format!(
        "with fetched as materialized (
             select * from unnest($1::uuid[], $2::text[], $3::bigint[], $4::boolean[], $5::text[], $6::boolean[],
                 $7::boolean[], $8::integer[], $9::timestamptz[]) with ordinality
                 as fetched (run_id, url, known, is_list, note, is_cut_short, misses_some, parser_version, now, number)),
         run as materialized (
             select r.id, r.subscription_id, s.source_id as subscribed_source, s.selection_hash
             from runs r join subscriptions s on s.id = r.subscription_id
             where r.id = any($1::uuid[]) and r.finished_at is null order by r.id for update of r),
         document as materialized (
             select f.*, d.is_base, run.subscribed_source, run.subscription_id, run.selection_hash
             from fetched f join run on run.id = f.run_id join documents d on d.run_id = f.run_id and d.url = f.url
             where d.phase = 'Pending' order by d.run_id, d.url for update of d),
         inserted as ({inserted} returning id, run_id, source_id, source_url, fetch_hash, blob_uri, content_type, byte_size,
             fetched_at),
         -- Each with the artifact that shows it.
         shown as materialized (
             select d.*, a.id as artifact_id, a.source_id, a.source_url, a.fetch_hash, a.blob_uri, a.content_type, a.byte_size,
                 a.fetched_at
             from document d join inserted a on a.run_id = d.run_id and a.source_url = d.url
             union all
             select d.*, a.id, a.source_id, a.source_url, a.fetch_hash, a.blob_uri, a.content_type, a.byte_size, a.fetched_at
             from document d join artifacts a on a.id = d.known),
         -- As it was when it was last compared, and so from now on: what was fetched before and comes later is no version.
         same as materialized (
             select s.number, h.subscription_id, h.url, h.artifact_id as seen_id, s.artifact_id, s.fetched_at
             from shown s join document_heads h on h.subscription_id = s.subscription_id and h.url = s.url
             where not s.is_list and s.fetch_hash = h.fetch_hash and not h.is_gone and h.is_found <> s.is_base
                 and h.selection_hash = s.selection_hash and h.parser_version = s.parser_version
             order by h.subscription_id, h.url for no key update of h),
         moved as (
             update document_heads h set artifact_id = newest.artifact_id
             from (select distinct on (subscription_id, url) * from same
                   order by subscription_id, url, fetched_at desc, artifact_id desc) newest
             join artifacts seen on seen.id = newest.seen_id
             where h.subscription_id = newest.subscription_id and h.url = newest.url
                 and (seen.fetched_at, seen.id) < (newest.fetched_at, newest.artifact_id)),
         compared as materialized (
             select s.*, s.fetch_hash is distinct from h.fetch_hash and not s.is_list as is_changed,
                 s.is_list or s.number in (select number from same) as is_finished
             from shown s left join document_heads h on h.subscription_id = s.subscription_id and h.url = s.url),
         stored as (
             update documents d set artifact_id = c.artifact_id, message = c.note,
                 phase = case when c.is_finished then 'Stored' else 'Fetched' end,
                 finished_at = case when c.is_finished then c.now end,
                 changed = c.is_changed,
                 is_whole = case when c.is_list then not c.misses_some end,
                 marker = case when not c.is_cut_short then d.marker end
             from compared c where d.run_id = c.run_id and d.url = c.url
             returning c.*),
         ended as (
             update runs r set finished_at = s.now, phase = 'Succeeded', changed = false, message = s.note, reason = $10
             from stored s
             where r.id = s.run_id and s.is_finished and not s.is_list
                 and not exists (select from documents other where other.run_id = s.run_id and other.url <> s.url)
             returning r.id),
         {answered}
         select number as question, artifact_id as id, source_url, fetch_hash, blob_uri, content_type, byte_size, fetched_at,
             is_changed as changed, is_finished, run_id in (select id from ended) as has_run_ended
         from stored"
    );
    let query = sqlx::query(sqlx::AssertSqlSafe(sql))
        .bind(documents.iter().map(|document| document.run_id).collect::<Vec<_>>())
        .bind(documents.iter().map(|document| document.url.as_str()).collect::<Vec<_>>())
        .bind(documents.iter().map(|document| document.known).collect::<Vec<_>>())
        .bind(documents.iter().map(|document| document.is_list).collect::<Vec<_>>())
        .bind(documents.iter().map(|document| document.note.as_deref()).collect::<Vec<_>>())
        .bind(documents.iter().map(|document| document.is_cut_short).collect::<Vec<_>>())
        .bind(documents.iter().map(|document| document.misses_some).collect::<Vec<_>>())
        .bind(documents.iter().map(|document| document.parser_version).collect::<Vec<_>>())
        .bind(sql_times(documents.iter().map(|document| document.now)))
        .bind(run_reasons::UNCHANGED);
    let numbered_artifacts: Vec<(i64, &NewArtifact)> = (1..)
        .zip(documents)
        .filter_map(|(number, document)| Some((number, document.new.as_ref()?)))
        .collect();
    let rows = artifacts::bind(query, &numbered_artifacts).fetch_all(connection).await;
    let rows = rows.map_err(failed("store documents"))?;
    let mut all: Vec<Option<Stored>> = documents.iter().map(|_| None).collect();
    for row in &rows {
        let (index, stored) = stored(row).map_err(failed("read an artifact"))?;
        if let Some(place) = all.get_mut(index) {
            *place = Some(stored);
        }
    }
    Ok(all)
}

fn stored(row: &PgRow) -> Result<(usize, Stored), sqlx::Error> {
    let stored = Stored {
        artifact: artifacts::artifact(row)?,
        is_finished: row.try_get("is_finished")?,
        has_run_ended: row.try_get("has_run_ended")?,
    };
    Ok((question_of(row)?, stored))
}
