//! How sources answer: what their status shows, and how often those that fail are tried.

use std::time::Duration;

use jiff::Timestamp;
use sqlx::{PgConnection, Row, postgres::PgRow};
use uuid::Uuid;

use super::{Catalog, CatalogError, failed, sql_time, time};

/// How a source answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceHealth {
    /// Set while it does not.
    pub failing: Option<SourceFailing>,
    /// When a document of it was last fetched.
    pub last_fetch_at: Option<Timestamp>,
    /// When one was fetched that differs from what the source had at its URL before, or is new.
    pub last_change_at: Option<Timestamp>,
    /// Since when it is watched.
    pub watched_since: Timestamp,
    /// Within which time a change is expected at least once.
    pub cadence: Option<Duration>,
    /// Whether nothing is to be fetched for now.
    pub is_suspended: bool,
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

/// What there is to know of all live sources, for figures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SourceFigures {
    /// How many there are.
    pub count: i64,
    /// How many of them fail; those that are suspended are not counted.
    pub failing: i64,
    /// How many have not changed for longer than is expected of them; those that are suspended are not counted.
    pub overdue: i64,
}

/// How far back news are read again: longer than the database lets a transaction wait, so that one which wrote its news
/// before others and committed after them is not missed.
pub(super) const NEWS_OVERLAP: &str = "30 seconds";

impl Catalog {
    /// How a source answers; none of one that is not in the catalog.
    ///
    /// # Errors
    /// When the catalog fails.
    pub async fn source_health(&self, uid: Uuid) -> Result<Option<SourceHealth>, CatalogError> {
        let row = sqlx::query(
            "with source as materialized (select * from sources where uid = $1)
             select failing_since, failing_reason, failing_message, next_try_at, last_fetch_at, last_change_at, created_at,
                 (settings ->> 'cadence_ms')::bigint as cadence_ms, (settings ->> 'suspend')::boolean as is_suspended
             from source where deleted_at is null",
        )
        .bind(uid)
        .fetch_optional(&self.pool)
        .await
        .map_err(failed("look up a source's health"))?;
        row.as_ref().map(health).transpose().map_err(failed("read a source's health"))
    }

    /// The sources whose health was written since `last_read`, and when this was read, which is for the next call; both by
    /// the database's clock. Some are told again: transactions do not commit in the order in which they write. The first
    /// call, without a time, has those of the last moments only.
    ///
    /// # Errors
    /// When the catalog fails.
    pub async fn source_news(
        &self,
        last_read: Option<Timestamp>,
    ) -> Result<(Timestamp, Vec<SourceNews>), CatalogError> {
        let rows = sqlx::query(
            "select clock.read_at, o.id, o.namespace, o.name, o.health_written_at
             from (values (statement_timestamp())) as clock (read_at)
             left join sources o on o.deleted_at is null
                 and o.health_written_at > coalesce($1, statement_timestamp()) - $2::text::interval
             order by o.health_written_at",
        )
        .bind(last_read.map(sql_time))
        .bind(NEWS_OVERLAP)
        .fetch_all(&self.pool)
        .await
        .map_err(failed("look for news of sources"))?;
        let read = || -> Result<_, sqlx::Error> {
            let mut read_at = Timestamp::MIN;
            let mut news = Vec::with_capacity(rows.len());
            for row in &rows {
                read_at = row.try_get::<jiff_sqlx::Timestamp, _>("read_at")?.to_jiff();
                if let Some(id) = row.try_get("id")? {
                    news.push(SourceNews {
                        id,
                        namespace: row.try_get("namespace")?,
                        name: row.try_get("name")?,
                        written_at: row.try_get::<jiff_sqlx::Timestamp, _>("health_written_at")?.to_jiff(),
                    });
                }
            }
            Ok((read_at, news))
        };
        read().map_err(failed("read news of sources"))
    }

    /// How many sources there are, and how many of them want to be looked at.
    ///
    /// # Errors
    /// When the catalog fails.
    pub async fn source_figures(&self, now: Timestamp) -> Result<SourceFigures, CatalogError> {
        let row = sqlx::query(
            "select count(*) as count,
                 count(*) filter (where failing_since is not null and not is_suspended) as failing,
                 count(*) filter (where change_due_at <= $1 and not is_suspended) as overdue
             from (select failing_since, (settings ->> 'suspend')::boolean as is_suspended,
                     coalesce(last_change_at, created_at)
                         + (settings ->> 'cadence_ms')::bigint * interval '1 millisecond' as change_due_at
                 from sources where deleted_at is null) live",
        )
        .bind(sql_time(now))
        .fetch_one(&self.pool)
        .await
        .map_err(failed("count the sources"))?;
        let figures = || -> Result<_, sqlx::Error> {
            Ok(SourceFigures {
                count: row.try_get("count")?,
                failing: row.try_get("failing")?,
                overdue: row.try_get("overdue")?,
            })
        };
        figures().map_err(failed("read the sources' figures"))
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

/// Further tables of a statement, by which it notes that documents were brought in: `stored` has of each `is_base`, and of the
/// artifact that shows it `artifact_id`, `source_id`, `source_url`, `fetch_hash` and `fetched_at`. That of the base URL shows
/// that the source answers.
///
/// When it was fetched, and whether it is a change of the source, the artifact tells: several runs may share one, and what
/// is new to a subscription need not be.
pub(super) const ANSWERED: &str = "\
     answer as materialized ( \
         select s.source_id, bool_or(s.is_base) as is_base, max(s.fetched_at) as fetched_at, \
             max(s.fetched_at) filter (where s.fetch_hash is distinct from before.fetch_hash) as changed_at \
         from stored s left join lateral ( \
             select earlier.fetch_hash from artifacts earlier \
             where earlier.source_id = s.source_id and earlier.source_url = s.source_url and earlier.id < s.artifact_id \
             order by earlier.id desc limit 1) before on true \
         group by s.source_id), \
     locked as materialized ( \
         select a.* from answer a join sources o on o.id = a.source_id order by o.id for no key update of o), \
     answered as ( \
         update sources o set health_written_at = clock_timestamp(), \
             last_fetch_at = greatest(o.last_fetch_at, a.fetched_at), \
             last_change_at = greatest(o.last_change_at, a.changed_at), \
             failures = case when a.is_base then 0 else o.failures end, \
             failing_since = case when not a.is_base then o.failing_since end, \
             failing_reason = case when not a.is_base then o.failing_reason end, \
             failing_message = case when not a.is_base then o.failing_message end, \
             next_try_at = case when not a.is_base then o.next_try_at end, \
             held_back_until = case when not a.is_base then o.held_back_until end \
         from locked a where o.id = a.source_id)";

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
        cadence: row
            .try_get::<Option<i64>, _>("cadence_ms")?
            .map(|cadence| Duration::from_millis(cadence.unsigned_abs())),
        is_suspended: row.try_get("is_suspended")?,
    })
}
