//! Runs, and due times without one.

use jiff::Timestamp;
use serde::Serialize;
use sqlx::{Row, postgres::PgRow};
use uuid::Uuid;

use super::Page;
use crate::catalog::{Catalog, CatalogError, failed, time};

/// A run, or due times that were skipped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RunRow {
    /// Its id.
    pub id: Uuid,
    /// The subscription's namespace.
    pub namespace: String,
    /// The subscription's name.
    pub subscription: String,
    /// The due time, or when it was asked for; of several that were skipped together, the last.
    pub scheduled_for: Timestamp,
    /// What made it: `Schedule`, `Request` or `Backfill`.
    pub trigger: String,
    /// How far it is: `Pending`, `Running`, `Succeeded`, `Failed` or `Skipped`.
    pub phase: String,
    /// A CamelCase word for how it ended.
    pub reason: Option<String>,
    /// A sentence for a person.
    pub message: Option<String>,
    /// Whether any of its documents changed; none: not known.
    pub changed: Option<bool>,
    /// How many due times it stands for.
    pub due_times: i32,
    /// The trace of its events.
    pub trace_id: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// When a worker took it up.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub finished_at: Option<Timestamp>,
}

pub(super) const COLUMNS: &str = "r.id, s.namespace, s.name as subscription, r.scheduled_for, r.trigger, r.phase, r.reason, \
     r.message, r.changed, r.due_times, r.trace_id, r.created_at, r.started_at, r.finished_at";

impl Catalog {
    /// Runs, newest first; `with_skipped`, due times without one too.
    ///
    /// # Errors
    /// When the catalog fails.
    pub async fn list_runs(&self, page: Page<Uuid>, with_skipped: bool) -> Result<Vec<RunRow>, CatalogError> {
        let sql = format!(
            "select {COLUMNS} from runs r join subscriptions s on s.id = r.subscription_id
             where ($1::bigint is null or r.subscription_id = $1)
                 and ($2::uuid is null
                     or (r.created_at, r.id) < (select created_at, id from runs where id = $2))
                 and ($4 or r.phase <> 'Skipped')
             order by r.created_at desc, r.id desc limit $3"
        );
        let rows = sqlx::query(sqlx::AssertSqlSafe(sql))
            .bind(page.subscription_id)
            .bind(page.before)
            .bind(i64::from(page.limit))
            .bind(with_skipped)
            .fetch_all(&self.pool)
            .await
            .map_err(failed("list runs"))?;
        rows.iter().map(run).collect::<Result<_, _>>().map_err(failed("read a run"))
    }
}

pub(super) fn run(row: &PgRow) -> Result<RunRow, sqlx::Error> {
    Ok(RunRow {
        id: row.try_get("id")?,
        namespace: row.try_get("namespace")?,
        subscription: row.try_get("subscription")?,
        scheduled_for: row.try_get::<jiff_sqlx::Timestamp, _>("scheduled_for")?.to_jiff(),
        trigger: row.try_get("trigger")?,
        phase: row.try_get("phase")?,
        reason: row.try_get("reason")?,
        message: row.try_get("message")?,
        changed: row.try_get("changed")?,
        due_times: row.try_get("due_times")?,
        trace_id: row.try_get("trace_id")?,
        created_at: row.try_get::<jiff_sqlx::Timestamp, _>("created_at")?.to_jiff(),
        started_at: time(row.try_get("started_at")?),
        finished_at: time(row.try_get("finished_at")?),
    })
}
