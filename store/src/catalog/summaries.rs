//! Summaries: what the status of a subscription shows of its runs.

use jiff::Timestamp;
use sqlx::{Row, postgres::PgRow};
use uuid::Uuid;

use super::{
    Catalog, CatalogError, RunReport, failed,
    runs::{RUN_COLUMNS, report},
    time,
};

/// What a subscription's status shows of its runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SubscriptionSummary {
    /// The catalog's id of the subscription.
    pub subscription_id: i64,
    /// The due time of its latest scheduled run.
    pub last_schedule_time: Option<Timestamp>,
    /// Its latest run that was not skipped.
    pub last_run: Option<RunReport>,
    /// Its latest due time without a run.
    pub last_skip: Option<SkippedDueTime>,
    /// Runs that have not ended.
    pub active_runs: i64,
    /// Versions of its documents.
    pub versions: i64,
    /// When a run last brought a change.
    pub last_change_time: Option<Timestamp>,
    /// The last request for a run that was honoured.
    pub last_request: Option<String>,
    /// The last request for a backfill that was honoured.
    pub last_backfill: Option<String>,
}

/// A due time for which no run was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SkippedDueTime {
    /// The due time.
    pub scheduled_for: Timestamp,
    /// A CamelCase word for why.
    pub reason: String,
    /// A sentence for a person.
    pub message: Option<String>,
}

impl Catalog {
    /// What the statuses of the given subscriptions show, in one statement.
    ///
    /// # Errors
    /// When the catalog fails.
    pub async fn summaries(
        &self,
        subscription_ids: &[i64],
    ) -> Result<Vec<SubscriptionSummary>, CatalogError> {
        let sql = format!(
            "select s.id as summary_of, s.last_request, s.last_backfill, scheduled.scheduled_for as last_schedule_time,
                 change.finished_at as last_change_time, active.count as active_runs, versions.count as versions,
                 skip.scheduled_for as skip_time, skip.reason as skip_reason, skip.message as skip_message, last.*
             from subscriptions s
             left join lateral (select {RUN_COLUMNS} from runs r where r.subscription_id = s.id and r.phase <> 'Skipped'
                 order by r.created_at desc, r.scheduled_for desc limit 1) last on true
             left join lateral (select scheduled_for from runs where subscription_id = s.id
                 and trigger = 'Schedule' and phase <> 'Skipped' order by scheduled_for desc limit 1) scheduled on true
             left join lateral (select scheduled_for, reason, message from runs where subscription_id = s.id
                 and phase = 'Skipped' order by scheduled_for desc limit 1) skip on true
             left join lateral (select finished_at from runs where subscription_id = s.id and changed
                 order by finished_at desc limit 1) change on true
             cross join lateral (select count(*) from runs
                 where subscription_id = s.id and finished_at is null) active
             cross join lateral (select count(*) from versions where subscription_id = s.id) versions
             where s.id = any($1)"
        );
        let rows = sqlx::query(sqlx::AssertSqlSafe(sql))
            .bind(subscription_ids)
            .fetch_all(&self.pool)
            .await
            .map_err(failed("summarise subscriptions"))?;
        rows.iter().map(|row| summary(row).map_err(failed("read a summary"))).collect()
    }
}

fn summary(row: &PgRow) -> Result<SubscriptionSummary, sqlx::Error> {
    let has_run = row.try_get::<Option<Uuid>, _>("id")?.is_some();
    Ok(SubscriptionSummary {
        subscription_id: row.try_get("summary_of")?,
        last_schedule_time: time(row.try_get("last_schedule_time")?),
        last_run: if has_run { Some(report(row)?) } else { None },
        last_skip: skipped(row)?,
        active_runs: row.try_get("active_runs")?,
        versions: row.try_get("versions")?,
        last_change_time: time(row.try_get("last_change_time")?),
        last_request: row.try_get("last_request")?,
        last_backfill: row.try_get("last_backfill")?,
    })
}

fn skipped(row: &PgRow) -> Result<Option<SkippedDueTime>, sqlx::Error> {
    let Some(scheduled_for) = time(row.try_get("skip_time")?) else { return Ok(None) };
    let (reason, message) = (row.try_get("skip_reason")?, row.try_get("skip_message")?);
    Ok(Some(SkippedDueTime { scheduled_for, reason, message }))
}
