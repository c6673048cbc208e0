//! The same work by bare clients, on the same parts and in the same run, with the operator gone.

use std::time::Instant;

use events::BoxError;
use futures::{StreamExt, TryStreamExt, stream};
use kube::{
    Api,
    api::{Patch, PatchParams},
};
use rdkafka::{
    Message,
    message::{Headers, OwnedMessage},
};
use serde_json::{Map, Value, json};
use sqlx::{PgPool, types::Json};
use uuid::Uuid;

use super::{Bench, firing::SameSecond};
use crate::{catalog, statistics::percentile};

/// As many requests on their way as the operator reconciles objects at a time.
const CONCURRENCY: usize = 16;
/// How many single runs are timed.
const SINGLE_RUNS: usize = 500;

/// All in seconds.
pub(super) struct Floors {
    /// One status patch for each Subscription.
    pub(super) status_patches: f64,
    /// All rows of Subscriptions in one statement.
    pub(super) catalog_rows: f64,
    /// All runs and their events, in one transaction of two statements.
    pub(super) runs_and_events: f64,
    /// All events of runs, by a bare producer.
    pub(super) produced: f64,
    /// One run and its event, in one transaction.
    pub(super) one_run_p50: f64,
    pub(super) one_run_p99: f64,
}

pub(super) async fn measure(bench: &Bench, fired: &[SameSecond]) -> Result<Floors, BoxError> {
    let last = fired.last().ok_or("nothing was fired")?;
    let pool = &bench.tipstaff.pool;
    create_tables(pool).await?;
    let catalog_rows = timed(catalog::execute(pool, SUBSCRIPTIONS)).await?;
    let ids: Vec<Uuid> = sqlx::query_scalar("select id from runs where scheduled_for = to_timestamp($1)")
        .bind(last.due.as_second() as f64)
        .fetch_all(pool)
        .await?;
    let runs_and_events = timed(insert_runs(pool, &ids, &last.messages)).await?;
    catalog::execute(pool, "truncate floor.runs, floor.outbox").await?;
    let mut singles = Vec::new();
    for (id, message) in ids.iter().zip(&last.messages).take(SINGLE_RUNS) {
        let single = insert_runs(pool, std::slice::from_ref(id), std::slice::from_ref(message));
        singles.push(timed(single).await?);
    }
    Ok(Floors {
        status_patches: timed(patch_statuses(bench)).await?,
        catalog_rows,
        runs_and_events,
        produced: bench.topics.produce(&last.messages).await?.as_secs_f64(),
        one_run_p50: percentile(&singles, 0.5),
        one_run_p99: percentile(&singles, 0.99),
    })
}

async fn timed(work: impl Future<Output = Result<(), BoxError>>) -> Result<f64, BoxError> {
    let started = Instant::now();
    work.await?;
    Ok(started.elapsed().as_secs_f64())
}

/// Tables with the same columns, checks, indexes and references.
async fn create_tables(pool: &PgPool) -> Result<(), BoxError> {
    for sql in [
        "create schema floor",
        "create table floor.subscriptions (like subscriptions including all)",
        "alter table floor.subscriptions add foreign key (source_id) references sources (id)",
        "create table floor.runs (like runs including all)",
        "alter table floor.runs add foreign key (subscription_id) references subscriptions (id)",
        "create table floor.outbox (like outbox including all)",
    ] {
        catalog::execute(pool, sql).await?;
    }
    Ok(())
}

const SUBSCRIPTIONS: &str =
    "insert into floor.subscriptions overriding system value select * from subscriptions";

/// Inserts these runs and these events.
async fn insert_runs(pool: &PgPool, ids: &[Uuid], messages: &[OwnedMessage]) -> Result<(), BoxError> {
    let mut transaction = pool.begin().await?;
    sqlx::query("insert into floor.runs select * from runs where id = any($1)")
        .bind(ids)
        .execute(&mut *transaction)
        .await?;
    let text = |bytes: Option<&[u8]>| String::from_utf8_lossy(bytes.unwrap_or_default()).into_owned();
    sqlx::query(
        "insert into floor.outbox (topic, key, headers, payload, available_at)
         select $1, key, headers, payload, now()
         from unnest($2::text[], $3::jsonb[], $4::bytea[]) as new (key, headers, payload)",
    )
    .bind(messages.first().map(Message::topic))
    .bind(messages.iter().map(|message| text(message.key())).collect::<Vec<_>>())
    .bind(messages.iter().map(|message| Json(headers(message))).collect::<Vec<_>>())
    .bind(messages.iter().map(|message| message.payload().unwrap_or_default()).collect::<Vec<_>>())
    .execute(&mut *transaction)
    .await?;
    transaction.commit().await?;
    Ok(())
}

fn headers(message: &OwnedMessage) -> Map<String, Value> {
    let headers = message.headers().into_iter().flat_map(|headers| headers.iter());
    headers
        .map(|header| {
            let value = String::from_utf8_lossy(header.value.unwrap_or_default()).into_owned();
            (header.key.to_owned(), Value::String(value))
        })
        .collect()
}

/// Writes one condition into the status of every Subscription.
async fn patch_statuses(bench: &Bench) -> Result<(), BoxError> {
    let api: Api<crds::Subscription> =
        Api::namespaced(bench.api_server.operator.clone(), &bench.tipstaff.namespace);
    let condition = json!({
        "type": "Ready", "status": "False", "reason": "Floor", "message": "written by a bare client",
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    });
    let patch = Patch::Merge(json!({ "status": { "conditions": [condition] } }));
    let parameters = PatchParams::default();
    stream::iter(&bench.fleet.names)
        .map(|name| api.patch_status(name, &parameters, &patch))
        .buffer_unordered(CONCURRENCY)
        .try_for_each(|_| async { Ok(()) })
        .await?;
    Ok(())
}
