//! Retention: removes versions that a subscription does not keep, and what was fetched for them.
//!
//! Each batch is a transaction of its own. The references between tables are the net below: a row that something still points
//! at cannot be removed, and then nothing of the batch is.

use jiff::{SignedDuration, Timestamp};
use sqlx::{PgConnection, Row, types::Json};
use uuid::Uuid;

use super::{Catalog, CatalogError, RetentionSettings, failed, sql_time};

/// How many versions, and how many runs, one transaction removes at most.
const ROWS_AT_ONCE: i64 = 200;
/// How long everything is kept whatever a subscription says: events under way may still ask for it.
const KEPT_FOR_EVENTS: SignedDuration = SignedDuration::from_hours(1);

/// A subscription that does not keep all versions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeepingSubscription {
    /// The catalog's id.
    pub id: i64,
    /// What it keeps.
    pub retention: RetentionSettings,
}

/// How many rows were removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Removed {
    /// Versions.
    pub versions: u64,
    /// Deliveries of versions that are all removed.
    pub deliveries: u64,
    /// Runs, with their documents.
    pub runs: u64,
    /// Artifacts.
    pub artifacts: u64,
}

impl Removed {
    /// Whether there may be more.
    pub fn is_any(&self) -> bool {
        self.versions + self.runs > 0
    }
}

impl Catalog {
    /// The live subscriptions with an id above `after` that do not keep all versions, `limit` of them at most.
    ///
    /// # Errors
    /// When the catalog fails.
    pub async fn keeping_subscriptions(
        &self,
        after: i64,
        limit: i64,
    ) -> Result<Vec<KeepingSubscription>, CatalogError> {
        let rows = sqlx::query(
            "select id, settings -> 'retention' as retention from subscriptions
             where deleted_at is null and settings ? 'retention' and id > $1 order by id limit $2",
        )
        .bind(after)
        .bind(limit)
        .fetch_all(&self.pool)
        .await
        .map_err(failed("list subscriptions with a retention"))?;
        let keeping = rows.iter().map(|row| {
            let retention = row.try_get::<Json<RetentionSettings>, _>("retention")?.0;
            Ok(KeepingSubscription { id: row.try_get("id")?, retention })
        });
        keeping.collect::<Result<_, _>>().map_err(failed("read a retention"))
    }

    /// Removes some of what a subscription does not keep. Nothing is done while another process does the same, or while
    /// stored documents are worked on again.
    ///
    /// # Errors
    /// When the catalog fails; then nothing was removed.
    pub async fn remove_not_kept(
        &self,
        subscription: &KeepingSubscription,
        now: Timestamp,
    ) -> Result<Removed, CatalogError> {
        let mut transaction = self.pool.begin().await.map_err(failed("begin"))?;
        let is_free: bool = sqlx::query_scalar(
            "select pg_try_advisory_xact_lock(hashtextextended('retention ' || $1, 0)) and not exists (
                 select from runs where subscription_id = $1 and finished_at is null and trigger = 'Backfill')",
        )
        .bind(subscription.id)
        .fetch_one(&mut *transaction)
        .await
        .map_err(failed("begin to remove what is not kept"))?;
        if !is_free {
            return Ok(Removed::default());
        }
        let limits = Limits::new(subscription, now);
        let mut removed = Removed::default();
        remove_versions(&mut transaction, &limits, &mut removed).await?;
        if !remove_runs(&mut transaction, &limits, now, &mut removed).await? {
            // A worker is about to point at one of the bodies: the next look finds it as it is then.
            return Ok(Removed::default());
        }
        if removed.is_any() {
            transaction.commit().await.map_err(failed("commit what was removed"))?;
        }
        Ok(removed)
    }

    /// Addresses of bodies that are to be deleted, the oldest first.
    ///
    /// # Errors
    /// When the catalog fails.
    pub async fn blobs_to_delete(&self, limit: i64) -> Result<Vec<String>, CatalogError> {
        sqlx::query_scalar(
            "select blob_uri from removed_blobs where deleted_at is null order by created_at limit $1",
        )
        .bind(limit)
        .fetch_all(&self.pool)
        .await
        .map_err(failed("list bodies to delete"))
    }

    /// Notes that bodies are gone.
    ///
    /// # Errors
    /// When the catalog fails.
    pub async fn blobs_deleted(&self, uris: &[String], now: Timestamp) -> Result<(), CatalogError> {
        sqlx::query(
            "update removed_blobs set deleted_at = $2 where blob_uri = any($1) and deleted_at is null",
        )
        .bind(uris)
        .bind(sql_time(now))
        .execute(&self.pool)
        .await
        .map_err(failed("note deleted bodies"))?;
        Ok(())
    }
}

/// What a subscription keeps, at a time.
struct Limits {
    subscription_id: i64,
    versions: Option<i32>,
    /// What is not younger than this is not kept.
    kept_after: Option<Timestamp>,
    /// What is not older than this is kept for events.
    settled_before: Timestamp,
}

impl Limits {
    fn new(subscription: &KeepingSubscription, now: Timestamp) -> Self {
        let RetentionSettings { versions, age_ms } = subscription.retention;
        let before = |age| now.checked_sub(age).unwrap_or(Timestamp::MIN);
        let age = |millis| SignedDuration::from_millis(i64::try_from(millis).unwrap_or(i64::MAX));
        Self {
            subscription_id: subscription.id,
            versions: versions.map(|versions| i32::try_from(versions).unwrap_or(i32::MAX)),
            kept_after: age_ms.map(|millis| before(age(millis))),
            settled_before: before(KEPT_FOR_EVENTS),
        }
    }
}

/// Removes versions, with what was sent of them alone, and their texts. Not the newest of a document, and none that a delivery
/// that is not finished, or not even planned, carries or is compared with.
async fn remove_versions(
    connection: &mut PgConnection,
    limits: &Limits,
    removed: &mut Removed,
) -> Result<(), CatalogError> {
    let rows = sqlx::query(
        "select v.id, v.extract_id
         from document_heads h join versions v on v.subscription_id = h.subscription_id and v.url = h.url
         where h.subscription_id = $1 and v.number < h.number and v.created_at < $4
             and (v.number <= h.number - $2 or v.created_at <= $3)
             and not exists (
                 select from versions carried
                 where (carried.id = v.id or carried.previous = v.id)
                     and (carried.planned_at is null or exists (
                         select from delivery_versions dv join deliveries d on d.id = dv.delivery_id
                         where dv.version_id = carried.id and d.finished_at is null)))
         order by v.id limit $5",
    )
    .bind(limits.subscription_id)
    .bind(limits.versions)
    .bind(limits.kept_after.map(sql_time))
    .bind(sql_time(limits.settled_before))
    .bind(ROWS_AT_ONCE)
    .fetch_all(&mut *connection)
    .await
    .map_err(failed("look for versions that are not kept"))?;
    if rows.is_empty() {
        return Ok(());
    }
    let ids = |column| rows.iter().map(|row| row.try_get::<i64, _>(column)).collect::<Result<Vec<_>, _>>();
    let versions = ids("id").map_err(failed("read versions that are not kept"))?;
    let extracts = ids("extract_id").map_err(failed("read versions that are not kept"))?;
    for (sql, action) in [
        ("update versions set previous = null where previous = any($1)", "part versions"),
        ("update documents set version_id = null where version_id = any($1)", "part documents from versions"),
    ] {
        sqlx::query(sql).bind(&versions).execute(&mut *connection).await.map_err(failed(action))?;
    }
    let deliveries: Vec<Uuid> = sqlx::query_scalar(
        "with parted as (delete from delivery_versions where version_id = any($1) returning delivery_id)
         select distinct delivery_id from parted",
    )
    .bind(&versions)
    .fetch_all(&mut *connection)
    .await
    .map_err(failed("part deliveries from versions"))?;
    sqlx::query(
        "delete from delivery_attempts a where a.delivery_id = any($1)
             and not exists (select from delivery_versions dv where dv.delivery_id = a.delivery_id)",
    )
    .bind(&deliveries)
    .execute(&mut *connection)
    .await
    .map_err(failed("remove attempts"))?;
    let gone = sqlx::query(
        "delete from deliveries d where d.id = any($1)
             and not exists (select from delivery_versions dv where dv.delivery_id = d.id)",
    )
    .bind(&deliveries)
    .execute(&mut *connection)
    .await
    .map_err(failed("remove deliveries"))?;
    removed.deliveries = gone.rows_affected();
    let gone = sqlx::query("delete from versions where id = any($1)")
        .bind(&versions)
        .execute(&mut *connection)
        .await
        .map_err(failed("remove versions"))?;
    removed.versions = gone.rows_affected();
    sqlx::query(
        "delete from extracts e where e.id = any($1)
             and not exists (select from versions v where v.extract_id = e.id)
             and not exists (select from document_heads h where h.extract_id = e.id)
             and not exists (select from document_heads h where h.artifact_id = e.artifact_id)",
    )
    .bind(&extracts)
    .execute(connection)
    .await
    .map_err(failed("remove texts"))?;
    Ok(())
}

/// Finds runs of which nothing is needed: by age, or because all their documents are from before the oldest version that is
/// kept of them. What a status shows of runs stays, and so does the latest fetch of each URL, the run that read the source's
/// list first, and whatever a version, a delivery, a document of another run or an event that waits points at.
const RUNS_NOT_KEPT: &str = "
    select r.id from runs r join subscriptions s on s.id = r.subscription_id
    where r.subscription_id = $1 and r.finished_at < $4
        and (r.trigger <> 'Schedule' or r.scheduled_for <= s.scheduled_through)
        and (r.finished_at <= $3 or $2::integer is not null
            and exists (select from documents d where d.run_id = r.id)
            and not exists (select from documents d where d.run_id = r.id and (d.finished_at < (
                select v.created_at from versions v where v.subscription_id = d.subscription_id and v.url = d.url
                order by v.number limit 1)) is not true))
        and s.list_read_by is distinct from r.id
        and r.id not in (
            (select id from runs where subscription_id = $1 and phase <> 'Skipped'
             order by created_at desc, scheduled_for desc limit 1)
            union all (select id from runs where subscription_id = $1 and phase <> 'Skipped' and trigger = 'Schedule'
             order by scheduled_for desc limit 1)
            union all (select id from runs where subscription_id = $1 and phase = 'Skipped'
             order by scheduled_for desc limit 1)
            union all (select id from runs where subscription_id = $1 and changed order by finished_at desc limit 1))
        and not exists (select from versions v where v.run_id = r.id)
        and not exists (select from deliveries d where d.begun_by = r.id)
        and not exists (select from deliveries d where d.run_id = r.id)
        and not exists (select from outbox o where o.run_id = r.id)
        and not exists (select from documents d where d.run_id = r.id and d.artifact_id is not null and not exists (
            select from documents later where later.subscription_id = d.subscription_id and later.url = d.url
                and later.artifact_id > d.artifact_id))
        and not exists (select from artifacts a where a.run_id = r.id and (
            a.fetched_at >= $4
            or not exists (select from artifacts later where later.source_id = a.source_id
                and later.source_url = a.source_url and later.id > a.id)
            or exists (select from documents d where d.artifact_id = a.id and d.run_id <> r.id)
            or exists (select from document_heads h where h.artifact_id = a.id)
            or exists (select from extracts e where e.artifact_id = a.id and (
                exists (select from versions v where v.extract_id = e.id)
                or exists (select from document_heads h where h.extract_id = e.id)))))
    order by r.created_at limit $5 for update of r skip locked";

/// Removes runs, with their documents and artifacts, and notes the bodies that nothing points at any more. Returns whether it
/// could: not while somebody else is about to point at one of them.
async fn remove_runs(
    connection: &mut PgConnection,
    limits: &Limits,
    now: Timestamp,
    removed: &mut Removed,
) -> Result<bool, CatalogError> {
    let runs: Vec<Uuid> = sqlx::query_scalar(RUNS_NOT_KEPT)
        .bind(limits.subscription_id)
        .bind(limits.versions)
        .bind(limits.kept_after.map(sql_time))
        .bind(sql_time(limits.settled_before))
        .bind(ROWS_AT_ONCE)
        .fetch_all(&mut *connection)
        .await
        .map_err(failed("look for runs that are not kept"))?;
    if runs.is_empty() {
        return Ok(true);
    }
    // Not waited for: those who share the locks may wait for one another's.
    let is_locked: Option<bool> = sqlx::query_scalar(
        "select bool_and(pg_try_advisory_xact_lock(hashtextextended(blob_uri, 0)))
         from (select distinct blob_uri from artifacts where run_id = any($1)) body",
    )
    .bind(&runs)
    .fetch_one(&mut *connection)
    .await
    .map_err(failed("lock bodies"))?;
    if is_locked == Some(false) {
        return Ok(false);
    }
    for (sql, action) in [
        ("delete from documents where run_id = any($1)", "remove documents"),
        (
            "delete from extracts e using artifacts a where a.run_id = any($1) and e.artifact_id = a.id",
            "remove texts",
        ),
        (
            "update artifacts set revisit_of = null
             where revisit_of in (select id from artifacts where run_id = any($1))",
            "part artifacts",
        ),
    ] {
        sqlx::query(sql).bind(&runs).execute(&mut *connection).await.map_err(failed(action))?;
    }
    let artifacts =
        sqlx::query("delete from artifacts where run_id = any($1) returning source_id, fetch_hash, blob_uri")
            .bind(&runs)
            .fetch_all(&mut *connection)
            .await
            .map_err(failed("remove artifacts"))?;
    removed.artifacts = u64::try_from(artifacts.len()).unwrap_or(u64::MAX);
    let read = failed("read removed artifacts");
    let bodies = || -> Result<_, sqlx::Error> {
        let sources: Vec<i64> = artifacts.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?;
        let hashes: Vec<String> = artifacts.iter().map(|row| row.try_get(1)).collect::<Result<_, _>>()?;
        let uris: Vec<String> = artifacts.iter().map(|row| row.try_get(2)).collect::<Result<_, _>>()?;
        Ok((sources, hashes, uris))
    };
    let (sources, hashes, uris) = bodies().map_err(read)?;
    sqlx::query(
        "insert into removed_blobs (source_id, fetch_hash, blob_uri, created_at)
         select distinct on (body.blob_uri) body.source_id, body.fetch_hash, body.blob_uri, $4
         from unnest($1::bigint[], $2::text[], $3::text[]) as body (source_id, fetch_hash, blob_uri)
         where not exists (select from artifacts a where a.blob_uri = body.blob_uri)
         on conflict do nothing",
    )
    .bind(sources)
    .bind(hashes)
    .bind(uris)
    .bind(sql_time(now))
    .execute(&mut *connection)
    .await
    .map_err(failed("note bodies that nothing points at"))?;
    let gone = sqlx::query("delete from runs where id = any($1)")
        .bind(&runs)
        .execute(connection)
        .await
        .map_err(failed("remove runs"))?;
    removed.runs = gone.rows_affected();
    Ok(true)
}
