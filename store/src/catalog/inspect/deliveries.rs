//! Deliveries and their attempts.

use jiff::Timestamp;
use serde::Serialize;
use sqlx::{Row, postgres::PgRow};
use uuid::Uuid;

use super::Page;
use crate::catalog::{Catalog, CatalogError, failed, time};

/// What is sent to a target at once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DeliveryRow {
    /// The same for all attempts.
    pub id: Uuid,
    /// The subscription's namespace.
    pub namespace: String,
    /// The subscription's name.
    pub subscription: String,
    /// The target's name.
    pub target: String,
    /// How far it is: `Collecting`, `Pending`, `Delivered` or `GivenUp`.
    pub phase: String,
    /// How many changes it carries.
    pub changes: i32,
    /// How many bytes of JSON they take.
    pub bytes: i64,
    /// How often it was tried.
    pub attempts: i32,
    /// Why the last attempt failed.
    pub last_error: Option<String>,
    /// When it is tried next; none when it is finished.
    pub next_attempt_at: Option<Timestamp>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was delivered or given up.
    pub finished_at: Option<Timestamp>,
}

/// An attempt to deliver.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AttemptRow {
    /// Its number, from 1.
    pub number: i32,
    /// When it began.
    pub started_at: Timestamp,
    /// How long it took, in milliseconds.
    pub duration_ms: i32,
    /// The HTTP status, if there was one.
    pub status: Option<i32>,
    /// The beginning of the answer, or what went wrong.
    pub detail: String,
}

pub(super) const COLUMNS: &str = "d.id, s.namespace, s.name as subscription, d.target, d.phase, d.changes, d.bytes, d.attempts, \
     d.last_error, case when d.finished_at is null then d.due_at end as next_attempt_at, d.created_at, d.finished_at";

impl Catalog {
    /// Deliveries, newest first.
    ///
    /// # Errors
    /// When the catalog fails.
    pub async fn list_deliveries(&self, page: Page<Uuid>) -> Result<Vec<DeliveryRow>, CatalogError> {
        let sql = format!(
            "select {COLUMNS} from deliveries d join subscriptions s on s.id = d.subscription_id
             where ($1::bigint is null or d.subscription_id = $1)
                 and ($2::uuid is null
                     or (d.created_at, d.id) < (select created_at, id from deliveries where id = $2))
             order by d.created_at desc, d.id desc limit $3"
        );
        let rows = sqlx::query(sqlx::AssertSqlSafe(sql))
            .bind(page.subscription_id)
            .bind(page.before)
            .bind(i64::from(page.limit))
            .fetch_all(&self.pool)
            .await
            .map_err(failed("list deliveries"))?;
        rows.iter().map(delivery).collect::<Result<_, _>>().map_err(failed("read a delivery"))
    }
}

pub(super) fn delivery(row: &PgRow) -> Result<DeliveryRow, sqlx::Error> {
    Ok(DeliveryRow {
        id: row.try_get("id")?,
        namespace: row.try_get("namespace")?,
        subscription: row.try_get("subscription")?,
        target: row.try_get("target")?,
        phase: row.try_get("phase")?,
        changes: row.try_get("changes")?,
        bytes: row.try_get("bytes")?,
        attempts: row.try_get("attempts")?,
        last_error: row.try_get("last_error")?,
        next_attempt_at: time(row.try_get("next_attempt_at")?),
        created_at: row.try_get::<jiff_sqlx::Timestamp, _>("created_at")?.to_jiff(),
        finished_at: time(row.try_get("finished_at")?),
    })
}

pub(super) fn attempt(row: &PgRow) -> Result<AttemptRow, sqlx::Error> {
    Ok(AttemptRow {
        number: row.try_get("number")?,
        started_at: row.try_get::<jiff_sqlx::Timestamp, _>("started_at")?.to_jiff(),
        duration_ms: row.try_get("duration_ms")?,
        status: row.try_get("status")?,
        detail: row.try_get("detail")?,
    })
}
