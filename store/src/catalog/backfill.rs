//! Stored artifacts that are to be worked on again: nothing is fetched.

use events::{Event, run_reasons};
use jiff::Timestamp;
use uuid::Uuid;

use super::{
    Catalog, CatalogError,
    artifacts::{ARTIFACT_COLUMNS, Artifact, artifact},
    failed, outbox, sql_time,
};

impl Catalog {
    /// The artifacts that a run's subscription had stored when the run was made, oldest first: up to `limit` of those
    /// after `after`, an artifact's id. None when the run has ended.
    ///
    /// # Errors
    /// When the catalog fails.
    pub async fn artifacts_to_backfill(
        &self,
        run_id: Uuid,
        after: i64,
        limit: i64,
    ) -> Result<Vec<Artifact>, CatalogError> {
        let sql = format!(
            "select distinct on (d.artifact_id) {ARTIFACT_COLUMNS}
             from documents d join artifacts a on a.id = d.artifact_id
             where d.subscription_id = (select subscription_id from runs where id = $1 and finished_at is null)
                 and d.artifact_id > $2 and a.fetched_at <= (select created_at from runs where id = $1)
             order by d.artifact_id, d.finished_at limit $3"
        );
        let rows = sqlx::query(sqlx::AssertSqlSafe(sql))
            .bind(run_id)
            .bind(after)
            .bind(limit)
            .fetch_all(&self.pool)
            .await
            .map_err(failed("list artifacts to work on again"))?;
        rows.iter().map(|row| artifact(row).map_err(failed("read an artifact"))).collect()
    }

    /// Hands events of a run to the relay, to be published at once.
    ///
    /// # Errors
    /// When the catalog fails; then none is.
    pub async fn hand_over(&self, events: &[Event], now: Timestamp) -> Result<(), CatalogError> {
        let mut connection = self.pool.acquire().await.map_err(failed("connect"))?;
        outbox::insert(&mut connection, events, now).await
    }

    /// Ends a run whose `count` artifacts were all handed on, if it is still active.
    ///
    /// # Errors
    /// When the catalog fails.
    pub async fn end_backfill(&self, run_id: Uuid, count: u64, now: Timestamp) -> Result<(), CatalogError> {
        sqlx::query(
            "update runs set phase = 'Succeeded', reason = $4, message = $2,
                 started_at = coalesce(started_at, $3), finished_at = $3
             where id = $1 and finished_at is null",
        )
        .bind(run_id)
        .bind(format!("{count} stored artifacts are extracted again"))
        .bind(sql_time(now))
        .bind(run_reasons::BACKFILLED)
        .execute(&self.pool)
        .await
        .map_err(failed("end a backfill"))?;
        Ok(())
    }
}
