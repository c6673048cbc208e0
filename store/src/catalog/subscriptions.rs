//! The rows of Subscriptions.

use events::run_reasons;
use jiff::Timestamp;
use sqlx::{PgConnection, Row, postgres::PgRow, types::Json};
use uuid::Uuid;

use super::{
    Catalog, CatalogError, FiredRun, ObjectKey, ScheduledSubscription, SubscriptionSettings, Trigger, failed,
    object_key::key, schedule::insert_runs, sql_time, time,
};

/// A valid Subscription as it is to stand in the catalog.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubscriptionRecord {
    /// The object.
    pub key: ObjectKey,
    /// `metadata.generation`.
    pub generation: i64,
    /// The catalog's id of its source.
    pub source_id: i64,
    /// From the spec.
    pub settings: SubscriptionSettings,
    /// When the object was made: due times before it are not the subscription's.
    pub created_at: Timestamp,
}

/// A Subscription's row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubscriptionRow {
    /// As the beat needs it.
    pub scheduled: ScheduledSubscription,
    /// The catalog's id of its source.
    pub source_id: i64,
    /// Whether its object is gone.
    pub is_deleted: bool,
    /// The last token of the annotation that asks for a run, if it was honoured.
    pub last_request: Option<String>,
    /// The last token of the annotation that asks for a backfill, if it was honoured.
    pub last_backfill: Option<String>,
    /// [`SelectionSettings::hash`](super::SelectionSettings::hash) of the settings; none where an older release wrote them.
    pub selection_hash: Option<String>,
    /// The run that works on stored documents again, where one was made just now because the selection changed.
    pub backfill: Option<FiredRun>,
}

impl SubscriptionRow {
    /// Whether the row is in line with its object.
    pub fn is_in_line_with(&self, record: &SubscriptionRecord) -> bool {
        let scheduled = &self.scheduled;
        !self.is_deleted
            && self.source_id == record.source_id
            && scheduled.generation == record.generation
            && scheduled.settings == record.settings
            && self.selection_hash.as_ref() == Some(&record.settings.selection.hash())
    }
}

const SUBSCRIPTION_COLUMNS: &str = "select s.id, s.uid, s.namespace, s.name, s.generation, s.settings, \
     s.scheduled_through, s.last_request, s.last_backfill, s.selection_hash, s.source_id, s.deleted_at is not null as is_deleted, (o.settings ->> 'suspend')::boolean as source_suspended \
     from subscriptions s join sources o on o.id = s.source_id where ";

impl Catalog {
    /// Brings a subscription's row in line with its object. Nothing is written when it already is.
    ///
    /// A schedule that changed counts from now: it never fires for the past. A new subscription counts from when its
    /// object was made, if that was within ten minutes, else from now: it may have been invalid all the time.
    ///
    /// When the selection changes and documents were compared under the one before, a backfill is made: what is stored is
    /// extracted again under the new one. It is made in the transaction that writes the new selection, so that each change
    /// has exactly one: whoever comes later, be it another operator or this one after it died, finds both or none.
    ///
    /// # Errors
    /// When the catalog fails.
    pub async fn put_subscription(
        &self,
        record: &SubscriptionRecord,
        now: Timestamp,
    ) -> Result<SubscriptionRow, CatalogError> {
        if let Some(row) = self.subscription(record.key.uid).await?
            && row.is_in_line_with(record)
        {
            return Ok(row);
        }
        let mut transaction = self.pool.begin().await.map_err(failed("begin"))?;
        let retired: Vec<i64> = sqlx::query_scalar(
            "update subscriptions set deleted_at = $4
             where namespace = $1 and name = $2 and uid <> $3 and deleted_at is null returning id",
        )
        .bind(&record.key.namespace)
        .bind(&record.key.name)
        .bind(record.key.uid)
        .bind(sql_time(now))
        .fetch_all(&mut *transaction)
        .await
        .map_err(failed("retire a subscription"))?;
        end_runs_of_deleted(&mut transaction, &retired, now).await?;
        let selection_hash = record.settings.selection.hash();
        let is_selected_anew = is_selected_anew(&mut transaction, record.key.uid, &selection_hash).await?;
        // No two backfills have the same time, however soon one follows the other: it tells their runs apart.
        let written = sqlx::query(
            "insert into subscriptions as s (uid, namespace, name, source_id, generation, settings,
                 scheduled_through, created_at, updated_at, selection_hash)
             values ($1, $2, $3, $4, $5, $6,
                 case when $7 > $8 - interval '10 minutes' then least($7, $8) else $8 end, $7, $8, $9)
             on conflict (uid) do update set source_id = excluded.source_id, generation = excluded.generation,
                 settings = excluded.settings, updated_at = excluded.updated_at, deleted_at = null,
                 selection_hash = excluded.selection_hash,
                 last_backfill_at = case when $10
                     then greatest(excluded.updated_at, s.last_backfill_at + interval '1 microsecond')
                     else s.last_backfill_at end,
                 scheduled_through = case
                     when s.deleted_at is null
                         and s.settings ->> 'schedule' = excluded.settings ->> 'schedule'
                         and s.settings ->> 'time_zone' = excluded.settings ->> 'time_zone'
                     then s.scheduled_through
                     else greatest(s.scheduled_through, excluded.updated_at) end
             where excluded.generation >= s.generation
             returning id, last_backfill_at",
        )
        .bind(record.key.uid)
        .bind(&record.key.namespace)
        .bind(&record.key.name)
        .bind(record.source_id)
        .bind(record.generation)
        .bind(Json(&record.settings))
        .bind(sql_time(record.created_at))
        .bind(sql_time(now))
        .bind(&selection_hash)
        .bind(is_selected_anew)
        .fetch_optional(&mut *transaction)
        .await
        .map_err(failed("write a subscription"))?;
        let mut backfills = Vec::new();
        if is_selected_anew && let Some(row) = written {
            let read = failed("read the subscription just written");
            let parts = || Ok((row.try_get("id")?, time(row.try_get("last_backfill_at")?)));
            let (id, asked_at): (i64, Option<Timestamp>) = parts().map_err(read)?;
            let run = FiredRun::new(id, record.key.uid, asked_at.unwrap_or(now), Trigger::Backfill);
            backfills = insert_runs(&mut transaction, vec![run], now).await?;
        }
        transaction.commit().await.map_err(failed("commit a subscription"))?;
        let row = self.subscription(record.key.uid).await?;
        let row =
            row.ok_or_else(|| failed("find the subscription just written")(sqlx::Error::RowNotFound))?;
        Ok(SubscriptionRow { backfill: backfills.pop(), ..row })
    }

    /// The generation of a subscription whose object does not count its own: its row's while source and settings are
    /// these, the next one when they are others.
    ///
    /// # Errors
    /// When the catalog fails.
    pub async fn subscription_generation(
        &self,
        uid: Uuid,
        source_id: i64,
        settings: &SubscriptionSettings,
    ) -> Result<i64, CatalogError> {
        let generation: Option<i64> = sqlx::query_scalar(
            "select case when settings = $2 and source_id = $3 then generation else generation + 1 end
             from subscriptions where uid = $1",
        )
        .bind(uid)
        .bind(Json(settings))
        .bind(source_id)
        .fetch_optional(&self.pool)
        .await
        .map_err(failed("look up a subscription's generation"))?;
        Ok(generation.unwrap_or(1))
    }

    /// The uids of all subscriptions that are live, in one namespace or in all.
    ///
    /// # Errors
    /// When the catalog fails.
    pub async fn live_subscriptions(&self, namespace: Option<&str>) -> Result<Vec<Uuid>, CatalogError> {
        sqlx::query_scalar(
            "select uid from subscriptions where deleted_at is null and ($1::text is null or namespace = $1)",
        )
        .bind(namespace)
        .fetch_all(&self.pool)
        .await
        .map_err(failed("list live subscriptions"))
    }

    /// Marks subscriptions as deleted and ends their active runs. Their history stays.
    ///
    /// # Errors
    /// When the catalog fails.
    pub async fn delete_subscriptions(&self, uids: &[Uuid], now: Timestamp) -> Result<(), CatalogError> {
        let mut transaction = self.pool.begin().await.map_err(failed("begin"))?;
        let deleted: Vec<i64> = sqlx::query_scalar(
            "update subscriptions set deleted_at = $2 where uid = any($1) and deleted_at is null returning id",
        )
        .bind(uids)
        .bind(sql_time(now))
        .fetch_all(&mut *transaction)
        .await
        .map_err(failed("delete subscriptions"))?;
        end_runs_of_deleted(&mut transaction, &deleted, now).await?;
        transaction.commit().await.map_err(failed("commit a deletion"))
    }

    /// All live subscriptions, as the beat needs them when it starts.
    ///
    /// # Errors
    /// When the catalog fails.
    pub async fn scheduled_subscriptions(&self) -> Result<Vec<ScheduledSubscription>, CatalogError> {
        let sql = format!("{SUBSCRIPTION_COLUMNS} s.deleted_at is null");
        let rows = sqlx::query(sqlx::AssertSqlSafe(sql))
            .fetch_all(&self.pool)
            .await
            .map_err(failed("list subscriptions"))?;
        Ok(readable(&rows))
    }

    /// Those of the given subscriptions that are live, as the beat needs them.
    ///
    /// # Errors
    /// When the catalog fails.
    pub async fn scheduled_among(&self, ids: &[i64]) -> Result<Vec<ScheduledSubscription>, CatalogError> {
        let sql = format!("{SUBSCRIPTION_COLUMNS} s.deleted_at is null and s.id = any($1)");
        let rows = sqlx::query(sqlx::AssertSqlSafe(sql))
            .bind(ids)
            .fetch_all(&self.pool)
            .await
            .map_err(failed("look up subscriptions"))?;
        Ok(readable(&rows))
    }

    /// The catalog's id of a live subscription.
    ///
    /// # Errors
    /// When the catalog fails.
    pub async fn subscription_id(&self, uid: Uuid) -> Result<Option<i64>, CatalogError> {
        let id: Option<Option<i64>> = sqlx::query_scalar(
            "select case when deleted_at is null then id end from subscriptions where uid = $1",
        )
        .bind(uid)
        .fetch_optional(&self.pool)
        .await
        .map_err(failed("look up a subscription"))?;
        Ok(id.flatten())
    }

    /// A subscription's row, whether its object is gone or not.
    ///
    /// # Errors
    /// When the catalog fails, or the row cannot be read.
    pub async fn subscription(&self, uid: Uuid) -> Result<Option<SubscriptionRow>, CatalogError> {
        let sql = format!("{SUBSCRIPTION_COLUMNS} s.uid = $1");
        let row = sqlx::query(sqlx::AssertSqlSafe(sql))
            .bind(uid)
            .fetch_optional(&self.pool)
            .await
            .map_err(failed("look up a subscription"))?;
        row.map(|row| {
            let scheduled = scheduled(&row).map_err(failed("read a subscription"))?;
            Ok(SubscriptionRow {
                scheduled,
                source_id: row.get("source_id"),
                is_deleted: row.get("is_deleted"),
                last_request: row.get("last_request"),
                last_backfill: row.get("last_backfill"),
                selection_hash: row.get("selection_hash"),
                backfill: None,
            })
        })
        .transpose()
    }
}

/// Whether a live subscription has documents that were compared under another selection than its next one. Its row is
/// locked: nobody else finds the same until this is written.
async fn is_selected_anew(
    connection: &mut PgConnection,
    uid: Uuid,
    selection_hash: &str,
) -> Result<bool, CatalogError> {
    let is_selected_anew: Option<bool> = sqlx::query_scalar(
        "select s.deleted_at is null and s.selection_hash is distinct from $2
             and exists (select from document_heads h where h.subscription_id = s.id)
         from subscriptions s where s.uid = $1 for no key update of s",
    )
    .bind(uid)
    .bind(selection_hash)
    .fetch_optional(connection)
    .await
    .map_err(failed("look for documents of another selection"))?;
    Ok(is_selected_anew.unwrap_or(false))
}

async fn end_runs_of_deleted(
    connection: &mut PgConnection,
    subscription_ids: &[i64],
    now: Timestamp,
) -> Result<(), CatalogError> {
    if subscription_ids.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "update runs set phase = 'Failed', reason = $3,
             message = 'the subscription was deleted while the run was active', finished_at = $2
         -- Locked in the order in which whoever begins runs and finishes documents locks them.
         where finished_at is null and id in (
             select id from runs where subscription_id = any($1) and finished_at is null order by id for update)",
    )
    .bind(subscription_ids)
    .bind(sql_time(now))
    .bind(run_reasons::SUBSCRIPTION_DELETED)
    .execute(connection)
    .await
    .map_err(failed("end a deleted subscription's runs"))?;
    Ok(())
}

/// One row of another release disturbs no other; reconciling its object mends it.
fn readable(rows: &[PgRow]) -> Vec<ScheduledSubscription> {
    let mut subscriptions = Vec::with_capacity(rows.len());
    for row in rows {
        match scheduled(row) {
            Ok(subscription) => subscriptions.push(subscription),
            Err(error) => {
                tracing::warn!(id = row.get::<i64, _>("id"), %error, "a subscription cannot be read");
            }
        }
    }
    subscriptions
}

fn scheduled(row: &PgRow) -> Result<ScheduledSubscription, sqlx::Error> {
    Ok(ScheduledSubscription {
        id: row.try_get("id")?,
        key: key(row)?,
        generation: row.try_get("generation")?,
        settings: row.try_get::<Json<SubscriptionSettings>, _>("settings")?.0,
        source_suspended: row.try_get("source_suspended")?,
        scheduled_through: row.try_get::<jiff_sqlx::Timestamp, _>("scheduled_through")?.to_jiff(),
    })
}
