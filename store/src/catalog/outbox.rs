//! Events that wait to be published: the relay's queue, and every delay in the system.

use std::collections::BTreeMap;

use events::{Event, Record, Topic};
use jiff::Timestamp;
use sqlx::{PgConnection, Postgres, Row, Transaction, types::Json};
use uuid::Uuid;

use super::{Catalog, CatalogError, failed, sql_time, time};

/// Events taken from the outbox. They are gone from it only when committed; dropping the batch puts them back.
#[derive(Debug)]
pub struct OutboxBatch {
    /// As they are to be published, in the order in which they became available.
    pub records: Vec<Record>,
    /// The run of each, if it goes on with it.
    runs: Vec<Option<Uuid>>,
    transaction: Transaction<'static, Postgres>,
}

impl OutboxBatch {
    /// Removes the events for good: they were acknowledged.
    ///
    /// # Errors
    /// When the catalog fails; then they will be published again.
    pub async fn commit(self) -> Result<(), CatalogError> {
        self.transaction.commit().await.map_err(failed("remove published events"))
    }

    /// Lets those of these numbers, from 0, wait until `available_at`; as with the others, that counts when committed.
    ///
    /// # Errors
    /// When the catalog fails; then nothing can be committed.
    pub async fn put_back(
        &mut self,
        numbers: impl IntoIterator<Item = usize>,
        available_at: Timestamp,
    ) -> Result<(), CatalogError> {
        let chosen: Vec<(&Record, Option<Uuid>)> = numbers
            .into_iter()
            .filter_map(|number| Some((self.records.get(number)?, *self.runs.get(number)?)))
            .collect();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let headers = |record: &Record| -> BTreeMap<String, String> {
            record.headers.iter().map(|(name, value)| (name.clone(), text(value))).collect()
        };
        sqlx::query(
            "insert into outbox (topic, key, headers, payload, run_id, available_at)
             select topic, key, headers, payload, run_id, $6
             from unnest($1::text[], $2::text[], $3::jsonb[], $4::bytea[], $5::uuid[])
                 as again (topic, key, headers, payload, run_id)",
        )
        .bind(chosen.iter().map(|(record, _)| record.topic.as_str()).collect::<Vec<_>>())
        .bind(
            chosen
                .iter()
                .map(|(record, _)| text(record.key.as_deref().unwrap_or_default()))
                .collect::<Vec<_>>(),
        )
        .bind(chosen.iter().map(|(record, _)| Json(headers(record))).collect::<Vec<_>>())
        .bind(chosen.iter().map(|(record, _)| record.payload.as_slice()).collect::<Vec<_>>())
        .bind(chosen.iter().map(|(_, run)| *run).collect::<Vec<_>>())
        .bind(sql_time(available_at))
        .execute(&mut *self.transaction)
        .await
        .map_err(failed("put events back into the outbox"))?;
        Ok(())
    }
}

/// How much is in the outbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutboxBacklog {
    /// Events whose time has come.
    pub available: i64,
    /// Events that wait for theirs.
    pub delayed: i64,
    /// Since when the longest waiting of those available is.
    pub oldest: Option<Timestamp>,
}

impl Catalog {
    /// Takes up to `limit` events that are available at `now`, passing over those that another relay has taken.
    ///
    /// # Errors
    /// When the catalog fails.
    pub async fn take_outbox(&self, limit: i64, now: Timestamp) -> Result<OutboxBatch, CatalogError> {
        let mut transaction = self.pool.begin().await.map_err(failed("begin"))?;
        let rows = sqlx::query(
            // A subquery in the `delete` might be run more than once, and then take more than the limit.
            "with claimed as materialized (
                 select id from outbox where available_at <= $1
                 order by available_at, id limit $2 for update skip locked),
             taken as (
                 delete from outbox using claimed where outbox.id = claimed.id
                 returning outbox.id, topic, key, headers, payload, run_id, available_at)
             select topic, key, headers, payload, run_id from taken order by available_at, id",
        )
        .bind(sql_time(now))
        .bind(limit)
        .fetch_all(&mut *transaction)
        .await
        .map_err(failed("take events from the outbox"))?;
        let records = rows
            .iter()
            .map(|row| {
                let headers: Json<BTreeMap<String, String>> = row.try_get("headers")?;
                Ok(Record {
                    topic: row.try_get("topic")?,
                    key: Some(row.try_get::<String, _>("key")?.into_bytes()),
                    headers: headers.0.into_iter().map(|(name, value)| (name, value.into_bytes())).collect(),
                    payload: row.try_get("payload")?,
                })
            })
            .collect::<Result<_, _>>()
            .map_err(failed("read an event of the outbox"))?;
        let runs = rows.iter().map(|row| row.try_get("run_id")).collect::<Result<_, _>>();
        Ok(OutboxBatch { records, runs: runs.map_err(failed("read an event of the outbox"))?, transaction })
    }

    /// When the next event becomes available, in the past or ahead.
    ///
    /// # Errors
    /// When the catalog fails.
    pub async fn next_outbox(&self) -> Result<Option<Timestamp>, CatalogError> {
        let next: Option<jiff_sqlx::Timestamp> = sqlx::query_scalar("select min(available_at) from outbox")
            .fetch_one(&self.pool)
            .await
            .map_err(failed("look into the outbox"))?;
        Ok(time(next))
    }

    /// How many events are available at `now` and how many are not, each counted up to `limit`.
    ///
    /// # Errors
    /// When the catalog fails.
    pub async fn outbox_backlog(&self, limit: i64, now: Timestamp) -> Result<OutboxBacklog, CatalogError> {
        let row = sqlx::query(
            "select (select count(*) from (select from outbox where available_at <= $1 limit $2) available) as available,
                 (select count(*) from (select from outbox where available_at > $1 limit $2) later) as delayed,
                 (select min(available_at) from outbox where available_at <= $1) as oldest",
        )
        .bind(sql_time(now))
        .bind(limit)
        .fetch_one(&self.pool)
        .await
        .map_err(failed("count the outbox"))?;
        Ok(OutboxBacklog {
            available: row.get("available"),
            delayed: row.get("delayed"),
            oldest: time(row.get("oldest")),
        })
    }

    /// Keeps events that are to be published now.
    ///
    /// # Errors
    /// When the catalog fails.
    pub async fn keep(&self, events: &[&Event], now: Timestamp) -> Result<(), CatalogError> {
        let mut connection = self.pool.acquire().await.map_err(failed("connect"))?;
        insert_at(&mut connection, events.iter().map(|event| (*event, now))).await
    }

    /// Keeps an event back until `available_at`.
    ///
    /// # Errors
    /// When the catalog fails.
    pub async fn delay(&self, event: &Event, available_at: Timestamp) -> Result<(), CatalogError> {
        let mut connection = self.pool.acquire().await.map_err(failed("connect"))?;
        insert(&mut connection, std::slice::from_ref(event), available_at).await
    }
}

/// Adds events, all for the same time.
pub(super) async fn insert(
    connection: &mut PgConnection,
    events: &[Event],
    available_at: Timestamp,
) -> Result<(), CatalogError> {
    insert_at(connection, events.iter().map(|event| (event, available_at))).await
}

/// Adds events, each with the time at which it becomes available, in one statement.
pub(super) async fn insert_at<'a>(
    connection: &mut PgConnection,
    events: impl Iterator<Item = (&'a Event, Timestamp)>,
) -> Result<(), CatalogError> {
    let (events, times): (Vec<&Event>, Vec<Timestamp>) = events.unzip();
    if events.is_empty() {
        return Ok(());
    }
    let headers: Vec<Json<BTreeMap<String, String>>> =
        events.iter().map(|event| Json(event.headers().into_iter().collect())).collect();
    sqlx::query(
        "insert into outbox (topic, key, headers, payload, run_id, available_at)
         select topic, key, headers, payload, run_id, available_at
         from unnest($1::text[], $2::text[], $3::jsonb[], $4::bytea[], $5::uuid[], $6::timestamptz[])
             as new (topic, key, headers, payload, run_id, available_at)",
    )
    .bind(events.iter().map(|event| event.topic.name()).collect::<Vec<_>>())
    .bind(events.iter().map(|event| event.key.as_str()).collect::<Vec<_>>())
    .bind(headers)
    .bind(events.iter().map(|event| event.payload.as_slice()).collect::<Vec<_>>())
    .bind(events.iter().map(|event| run_of(event)).collect::<Vec<_>>())
    .bind(times.into_iter().map(sql_time).collect::<Vec<_>>())
    .execute(connection)
    .await
    .map_err(failed("add events to the outbox"))?;
    Ok(())
}

/// The run that goes on with an event. Deliveries go on after their run, and without it.
fn run_of(event: &Event) -> Option<Uuid> {
    let is_of_delivery = matches!(event.topic, Topic::VersioningResult | Topic::DeliveryRequest);
    (!is_of_delivery).then(|| event.trace_parent.trace_id.run())
}
