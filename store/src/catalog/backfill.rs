//! Stored documents that are to be worked on again: nothing is fetched.

use events::{Event, run_reasons};
use jiff::Timestamp;
use sqlx::Row;
use uuid::Uuid;

use super::{
    Catalog, CatalogError, WaitingDocument, failed, outbox,
    runs::{end_if_complete, waited_for},
    sql_time,
};

/// A document as a run brought it in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredOfRun {
    /// What was stored.
    pub artifact_id: i64,
    /// The run that brought it in.
    pub run_id: Uuid,
    /// The document's URL.
    pub url: String,
}

impl Catalog {
    /// Marks a run as running that works on stored documents again: on what its subscription last had of each URL that
    /// is still there. Returns those that the run waits for; none when it has ended, now or before.
    ///
    /// # Errors
    /// When the catalog fails.
    pub async fn begin_backfill(
        &self,
        run_id: Uuid,
        now: Timestamp,
    ) -> Result<Vec<WaitingDocument>, CatalogError> {
        let mut transaction = self.pool.begin().await.map_err(failed("begin"))?;
        let was_begun: Option<bool> = sqlx::query_scalar(
            "update runs r set phase = 'Running', started_at = coalesce(r.started_at, $2)
             from runs before where r.id = $1 and before.id = r.id and r.finished_at is null
             returning before.started_at is not null",
        )
        .bind(run_id)
        .bind(sql_time(now))
        .fetch_optional(&mut *transaction)
        .await
        .map_err(failed("begin a run"))?;
        let Some(was_begun) = was_begun else { return Ok(Vec::new()) };
        if !was_begun {
            let is_parsed = is_parsed("latest");
            let sql = format!(
                "insert into documents (run_id, subscription_id, url, phase, artifact_id, is_base, is_list)
                 select r.id, r.subscription_id, latest.url, 'Fetched', latest.artifact_id, latest.is_base, false
                 from runs r cross join lateral (
                     select distinct on (d.url) d.url, d.artifact_id, d.is_base, d.run_id, d.is_list, d.is_whole
                     from documents d where d.subscription_id = r.subscription_id and d.artifact_id is not null
                     order by d.url, d.artifact_id desc) latest
                 where r.id = $1
                     and {is_parsed}
                     and not exists (select from document_heads h
                         where h.subscription_id = r.subscription_id and h.url = latest.url and h.is_gone)
                 on conflict do nothing"
            );
            sqlx::query(sqlx::AssertSqlSafe(sql))
                .bind(run_id)
                .execute(&mut *transaction)
                .await
                .map_err(failed("note a run's documents"))?;
        }
        let waiting = waited_for(&mut transaction, run_id).await?.fetched;
        if waiting.is_empty() {
            end_if_complete(&mut transaction, &[run_id], now).await?;
            sqlx::query(
                "update runs set phase = 'Succeeded', reason = $3, finished_at = $2, changed = false,
                     message = case when is_of_all then 'what was stored of documents that are gone was handed on'
                         else 'nothing is stored that could be extracted again' end
                 where id = $1 and finished_at is null",
            )
            .bind(run_id)
            .bind(sql_time(now))
            .bind(run_reasons::BACKFILLED)
            .execute(&mut *transaction)
            .await
            .map_err(failed("end a backfill"))?;
        }
        transaction.commit().await.map_err(failed("commit the beginning of a run"))?;
        Ok(waiting)
    }

    /// What is stored of the documents of a backfill's subscription and was not read yet as it would be now, whether they are
    /// still there or not: the first `limit` after an artifact, in the order in which they were stored. Bytes that are as
    /// they were before count once.
    ///
    /// # Errors
    /// When the catalog fails.
    pub async fn stored_documents(
        &self,
        run_id: Uuid,
        after: i64,
        limit: i64,
        parser_version: i32,
    ) -> Result<Vec<StoredOfRun>, CatalogError> {
        let sql = format!(
            "select distinct on (d.artifact_id) d.artifact_id, d.run_id, d.url
             from runs r join subscriptions s on s.id = r.subscription_id
             join documents d on d.subscription_id = s.id and d.artifact_id > $2
             join artifacts a on a.id = d.artifact_id
             where r.id = $1 and d.finished_at is not null and not d.is_gone and {}
                 and a.fetch_hash is distinct from (
                     select before.fetch_hash from documents earlier join artifacts before on before.id = earlier.artifact_id
                     where earlier.subscription_id = s.id and earlier.url = d.url and earlier.artifact_id < a.id
                     order by earlier.artifact_id desc limit 1)
                 and not exists (select from extracts e where e.artifact_id = a.id and e.subscription_id = s.id
                     and e.selection_hash = s.selection_hash and e.parser_version = $4)
             order by d.artifact_id, d.run_id limit $3",
            is_parsed("d")
        );
        let rows = sqlx::query(sqlx::AssertSqlSafe(sql))
            .bind(run_id)
            .bind(after)
            .bind(limit)
            .bind(parser_version)
            .fetch_all(&self.pool)
            .await
            .map_err(failed("list stored documents"))?;
        let stored = rows.iter().map(|row| {
            Ok(StoredOfRun {
                artifact_id: row.try_get("artifact_id")?,
                run_id: row.try_get("run_id")?,
                url: row.try_get("url")?,
            })
        });
        stored.collect::<Result<_, _>>().map_err(failed("read stored documents"))
    }

    /// Hands events of a run to the relay, to be published at once.
    ///
    /// # Errors
    /// When the catalog fails; then none is.
    pub async fn hand_over(&self, events: &[Event], now: Timestamp) -> Result<(), CatalogError> {
        let mut connection = self.pool.acquire().await.map_err(failed("connect"))?;
        outbox::insert(&mut connection, events, now).await
    }
}

/// Whether a row of `documents` is one that is parsed. Lists are not. Rows of an older release do not say which were lists;
/// those that led to documents were.
fn is_parsed(row: &str) -> String {
    format!(
        "(not {row}.is_list or {row}.is_base and {row}.is_whole is null and not exists (
             select from documents found where found.run_id = {row}.run_id and not found.is_base))"
    )
}
