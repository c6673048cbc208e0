//! How sources answer: what their status shows, and how often those that fail are tried.

use jiff::Timestamp;
use sqlx::{PgConnection, Row, postgres::PgRow};
use uuid::Uuid;

use super::{Catalog, CatalogError, failed, sql_time, time};

/// How a source answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceHealth {
    /// Set while it does not.
    pub failing: Option<SourceFailing>,
    /// When a document of it was last brought in.
    pub last_fetch_at: Option<Timestamp>,
    /// When one had last changed.
    pub last_change_at: Option<Timestamp>,
    /// Since when it is watched.
    pub watched_since: Timestamp,
}

/// A source that fails.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceFailing {
    /// Since when.
    pub since: Timestamp,
    /// Why it failed last: one of [`events::run_reasons`].
    pub reason: String,
    /// The same as a sentence.
    pub message: String,
    /// When it is tried again at the earliest.
    pub next_try_at: Option<Timestamp>,
}

/// A source about whose health there is news.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceNews {
    /// The catalog's id of the source.
    pub id: i64,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// When the news were written, by the database's clock.
    pub written_at: Timestamp,
}

impl Catalog {
    /// How a source answers; none of one that is not in the catalog.
    ///
    /// # Errors
    /// When the catalog fails.
    pub async fn source_health(&self, uid: Uuid) -> Result<Option<SourceHealth>, CatalogError> {
        let row = sqlx::query(
            "select failing_since, failing_reason, failing_message, next_try_at, last_fetch_at, last_change_at, created_at
             from sources where uid = $1 and deleted_at is null",
        )
        .bind(uid)
        .fetch_optional(&self.pool)
        .await
        .map_err(failed("look up a source's health"))?;
        row.as_ref().map(health).transpose().map_err(failed("read a source's health"))
    }

    /// The sources whose health was written after a time, by the database's clock; without one, all that have any.
    ///
    /// # Errors
    /// When the catalog fails.
    pub async fn source_news(&self, after: Option<Timestamp>) -> Result<Vec<SourceNews>, CatalogError> {
        let rows = sqlx::query(
            "select id, namespace, name, health_written_at from sources
             where deleted_at is null and health_written_at > coalesce($1, '-infinity') order by health_written_at",
        )
        .bind(after.map(sql_time))
        .fetch_all(&self.pool)
        .await
        .map_err(failed("look for news of sources"))?;
        rows.iter()
            .map(|row| {
                Ok(SourceNews {
                    id: row.try_get("id")?,
                    namespace: row.try_get("namespace")?,
                    name: row.try_get("name")?,
                    written_at: row.try_get::<jiff_sqlx::Timestamp, _>("health_written_at")?.to_jiff(),
                })
            })
            .collect::<Result<_, _>>()
            .map_err(failed("read news of sources"))
    }

    /// Notes that the document of a run's base URL failed in a way that may pass, and is tried again within the run.
    ///
    /// # Errors
    /// When the catalog fails.
    pub async fn note_setback(
        &self,
        run_id: Uuid,
        url: &str,
        reason: &str,
        message: &str,
        next_try_at: Timestamp,
        now: Timestamp,
    ) -> Result<(), CatalogError> {
        sqlx::query(
            "update sources o set failing_since = coalesce(failing_since, $3), failing_reason = $4, failing_message = $5,
                 next_try_at = $6, health_written_at = clock_timestamp()
             from documents d join subscriptions s on s.id = d.subscription_id
             where d.run_id = $1 and d.url = $2 and d.is_base and o.id = s.source_id",
        )
        .bind(run_id)
        .bind(url)
        .bind(sql_time(now))
        .bind(reason)
        .bind(message)
        .bind(sql_time(next_try_at))
        .execute(&self.pool)
        .await
        .map_err(failed("note a source's setback"))?;
        Ok(())
    }
}

/// Notes that a document was brought in, at `$3`, where `finished` has it; that of the base URL shows that the source
/// answers.
pub(super) const ANSWERED: &str = "update sources o set last_fetch_at = $3, health_written_at = clock_timestamp(), \
     last_change_at = case when f.changed then $3 else o.last_change_at end, \
     failures = case when f.is_base then 0 else o.failures end, \
     failing_since = case when not f.is_base then o.failing_since end, \
     failing_reason = case when not f.is_base then o.failing_reason end, \
     failing_message = case when not f.is_base then o.failing_message end, \
     next_try_at = case when not f.is_base then o.next_try_at end, \
     held_back_until = case when not f.is_base then o.held_back_until end \
     from finished f where o.id = f.source_id";

/// Notes that the document of the base URL failed for good. Scheduled runs are held back then: for a minute at first, twice
/// as long after each further failure, an hour at most.
pub(super) async fn failed_for_good(
    connection: &mut PgConnection,
    source_id: i64,
    reason: &str,
    message: &str,
    now: Timestamp,
) -> Result<(), CatalogError> {
    sqlx::query(
        "update sources set failures = failures + 1, failing_since = coalesce(failing_since, $2), failing_reason = $3,
             failing_message = $4, health_written_at = clock_timestamp(),
             held_back_until = $2 + least(interval '1 hour', interval '1 minute' * 2 ^ least(failures, 6)),
             next_try_at = $2 + least(interval '1 hour', interval '1 minute' * 2 ^ least(failures, 6))
         where id = $1",
    )
    .bind(source_id)
    .bind(sql_time(now))
    .bind(reason)
    .bind(message)
    .execute(connection)
    .await
    .map_err(failed("note that a source fails"))?;
    Ok(())
}

fn health(row: &PgRow) -> Result<SourceHealth, sqlx::Error> {
    let failing =
        match (time(row.try_get("failing_since")?), row.try_get::<Option<String>, _>("failing_reason")?) {
            (Some(since), Some(reason)) => Some(SourceFailing {
                since,
                reason,
                message: row.try_get::<Option<String>, _>("failing_message")?.unwrap_or_default(),
                next_try_at: time(row.try_get("next_try_at")?),
            }),
            _ => None,
        };
    Ok(SourceHealth {
        failing,
        last_fetch_at: time(row.try_get("last_fetch_at")?),
        last_change_at: time(row.try_get("last_change_at")?),
        watched_since: row.try_get::<jiff_sqlx::Timestamp, _>("created_at")?.to_jiff(),
    })
}
