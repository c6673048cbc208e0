//! Retention: removes versions that a subscription does not keep, and what was fetched for them.
//!
//! Each batch is a transaction of its own. The references between tables are the net below: a row that something still points
//! at cannot be removed, and then nothing of the batch is.

mod evidence;
mod selection;
mod versions;

use std::ops::AddAssign;

use jiff::{SignedDuration, Timestamp};
use sqlx::{PgConnection, Row};

use super::{Catalog, CatalogError, failed, sql_time};
use evidence::remove_runs;
use selection::{has_not_kept, keeping};
use versions::remove_versions;

/// How many versions, and how many runs, one transaction removes at most.
const ROWS_AT_ONCE: i64 = 200;

/// When it is asked what is not kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeepingTime {
    /// What an age is counted back from.
    pub now: Timestamp,
    /// What is not older than this is kept whatever a subscription says: events under way may still ask for it.
    pub settled_before: Timestamp,
}

/// A subscription that does not keep all versions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeepingSubscription {
    /// The catalog's id.
    pub id: i64,
    /// Whether it has something that it does not keep.
    pub has_not_kept: bool,
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

impl KeepingTime {
    /// A time at which what happened within `grace` is kept.
    pub fn new(now: Timestamp, grace: SignedDuration) -> Self {
        Self { now, settled_before: now.checked_sub(grace).unwrap_or(Timestamp::MIN) }
    }
}

impl Removed {
    /// Whether there may be more.
    pub fn is_any(&self) -> bool {
        self.versions + self.runs > 0
    }
}

impl AddAssign for Removed {
    fn add_assign(&mut self, other: Self) {
        self.versions += other.versions;
        self.deliveries += other.deliveries;
        self.runs += other.runs;
        self.artifacts += other.artifacts;
    }
}

impl Catalog {
    /// The live subscriptions with an id above `after` that do not keep all versions, `limit` of them at most. One whose stored
    /// documents are being worked on again has to wait.
    ///
    /// # Errors
    /// When the catalog fails.
    pub async fn keeping_subscriptions(
        &self,
        after: i64,
        limit: i64,
        at: KeepingTime,
    ) -> Result<Vec<KeepingSubscription>, CatalogError> {
        let sql = format!(
            "with keeping as ({} and id > $3 order by id limit $4)
             select k.id, {} as has_not_kept from keeping k order by k.id",
            keeping(),
            has_not_kept()
        );
        let rows = sqlx::query(sqlx::AssertSqlSafe(sql))
            .bind(sql_time(at.now))
            .bind(sql_time(at.settled_before))
            .bind(after)
            .bind(limit)
            .fetch_all(&self.pool)
            .await
            .map_err(failed("look for what is not kept"))?;
        let keeping = rows.iter().map(|row| {
            Ok(KeepingSubscription { id: row.try_get("id")?, has_not_kept: row.try_get("has_not_kept")? })
        });
        keeping.collect::<Result<_, _>>().map_err(failed("read what is not kept"))
    }

    /// Removes some of what a subscription does not keep by now. Nothing is done while another process does the same.
    ///
    /// # Errors
    /// When the catalog fails; then a batch that was begun was not removed.
    pub async fn remove_not_kept(
        &self,
        subscription_id: i64,
        at: KeepingTime,
    ) -> Result<Removed, CatalogError> {
        let mut removed = Removed::default();
        // One after the other: versions hold locks that whoever adds an artifact may wait for, and runs wait for whoever adds one.
        let mut transaction = self.pool.begin().await.map_err(failed("begin"))?;
        if !take(&mut transaction, subscription_id).await? {
            return Ok(removed);
        }
        remove_versions(&mut transaction, subscription_id, at, &mut removed).await?;
        if removed.versions > 0 {
            transaction.commit().await.map_err(failed("commit removed versions"))?;
        } else {
            transaction.rollback().await.map_err(failed("end a look for versions"))?;
        }
        let mut transaction = self.pool.begin().await.map_err(failed("begin"))?;
        if !take(&mut transaction, subscription_id).await? {
            return Ok(removed);
        }
        remove_runs(&mut transaction, subscription_id, at, &mut removed).await?;
        if removed.runs > 0 {
            transaction.commit().await.map_err(failed("commit removed runs"))?;
        } else {
            transaction.rollback().await.map_err(failed("end a look for runs"))?;
        }
        Ok(removed)
    }

    /// Addresses of bodies that are to be deleted, in the order of their addresses, beginning after one.
    ///
    /// # Errors
    /// When the catalog fails.
    pub async fn blobs_to_delete(&self, after: &str, limit: i64) -> Result<Vec<String>, CatalogError> {
        sqlx::query_scalar(
            "select blob_uri from removed_blobs where deleted_at is null and blob_uri > $1 order by blob_uri limit $2",
        )
        .bind(after)
        .bind(limit)
        .fetch_all(&self.pool)
        .await
        .map_err(failed("list bodies to delete"))
    }

    /// Notes that bodies are gone. Returns of how many that was not known.
    ///
    /// # Errors
    /// When the catalog fails.
    pub async fn blobs_deleted(&self, uris: &[String], now: Timestamp) -> Result<u64, CatalogError> {
        if uris.is_empty() {
            return Ok(0);
        }
        let noted = sqlx::query(
            "update removed_blobs set deleted_at = $2 where blob_uri = any($1) and deleted_at is null",
        )
        .bind(uris)
        .bind(sql_time(now))
        .execute(&self.pool)
        .await
        .map_err(failed("note deleted bodies"))?;
        Ok(noted.rows_affected())
    }
}

/// Takes a subscription for a transaction, unless another has it.
async fn take(connection: &mut PgConnection, subscription_id: i64) -> Result<bool, CatalogError> {
    sqlx::query_scalar("select pg_try_advisory_xact_lock(hashtextextended('retention of ' || $1, 0))")
        .bind(subscription_id)
        .fetch_one(connection)
        .await
        .map_err(failed("begin to remove what is not kept"))
}
