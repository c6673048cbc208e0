//! Stored documents that are to be worked on again: nothing is fetched.

use events::{Event, run_reasons};
use jiff::Timestamp;
use uuid::Uuid;

use super::{
    Catalog, CatalogError, WaitingDocument, failed, outbox,
    runs::{end_if_complete, waited_for},
    sql_time,
};

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
            sqlx::query(
                "insert into documents (run_id, subscription_id, url, phase, artifact_id, is_base, is_list)
                 select r.id, r.subscription_id, latest.url, 'Fetched', latest.artifact_id, latest.is_base, false
                 from runs r cross join lateral (
                     select distinct on (d.url) d.url, d.artifact_id, d.is_base, d.run_id, d.is_list, d.is_whole
                     from documents d where d.subscription_id = r.subscription_id and d.artifact_id is not null
                     order by d.url, d.artifact_id desc) latest
                 where r.id = $1
                     -- Lists are not parsed. Rows of an older release do not say which were lists; those that led to
                     -- documents were.
                     and (not latest.is_list or latest.is_base and latest.is_whole is null and not exists (
                         select from documents found where found.run_id = latest.run_id and not found.is_base))
                     and not exists (select from document_heads h
                         where h.subscription_id = r.subscription_id and h.url = latest.url and h.is_gone)
                 on conflict do nothing",
            )
            .bind(run_id)
            .execute(&mut *transaction)
            .await
            .map_err(failed("note a run's documents"))?;
        }
        let waiting = waited_for(&mut transaction, run_id).await?.fetched;
        if waiting.is_empty() {
            end_if_complete(&mut transaction, run_id, now).await?;
            sqlx::query(
                "update runs set phase = 'Succeeded', reason = $3, finished_at = $2, changed = false,
                     message = 'nothing is stored that could be extracted again'
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

    /// Hands events of a run to the relay, to be published at once.
    ///
    /// # Errors
    /// When the catalog fails; then none is.
    pub async fn hand_over(&self, events: &[Event], now: Timestamp) -> Result<(), CatalogError> {
        let mut connection = self.pool.acquire().await.map_err(failed("connect"))?;
        outbox::insert(&mut connection, events, now).await
    }
}
