//! What the catalog says, read with queries of the checker's own.

use sqlx::{PgConnection, Row};

use crate::{Failure, ledger};

/// The rows that invariants are about. Times are microseconds since 1970.
#[derive(Clone, Debug, Default)]
pub struct Catalog {
    /// Live subscriptions.
    pub subscriptions: Vec<SubscriptionRow>,
    /// All runs and skips.
    pub runs: Vec<RunRow>,
    /// Documents that are not finished, of runs that are: `run, URL`.
    pub unfinished_documents: Vec<(String, String)>,
    /// All artifacts.
    pub artifacts: Vec<ArtifactRow>,
    /// All versions, each document's in order.
    pub versions: Vec<VersionRow>,
    /// Each version with each delivery that it is in.
    pub deliveries: Vec<DeliveryRow>,
    /// What is left in the outbox: topic and key.
    pub outbox: Vec<(String, String)>,
}

/// A subscription.
#[derive(Clone, Debug)]
pub struct SubscriptionRow {
    /// Its name.
    pub name: String,
    /// Up to when due times are accounted for.
    pub scheduled_through: i64,
}

/// A run or skip.
#[derive(Clone, Debug)]
pub struct RunRow {
    /// Its id.
    pub id: String,
    /// Whose.
    pub subscription: String,
    /// What made it.
    pub trigger: String,
    /// The due time.
    pub scheduled_for: i64,
    /// The first due time that the row stands for.
    pub first: i64,
    /// How many it stands for.
    pub due_times: i32,
    /// How it ended.
    pub phase: String,
    /// Why.
    pub reason: Option<String>,
    /// More about that.
    pub message: Option<String>,
    /// When it ended.
    pub finished_at: Option<i64>,
    /// How often its event was sent again.
    pub restarts: i32,
}

/// An artifact.
#[derive(Clone, Debug)]
pub struct ArtifactRow {
    /// Its id.
    pub id: i64,
    /// Of which run.
    pub run: String,
    /// What was asked for.
    pub url: String,
    /// The SHA-256 of what came.
    pub hash: String,
    /// Where that is.
    pub blob: String,
}

/// A version.
#[derive(Clone, Debug)]
pub struct VersionRow {
    /// Its id.
    pub id: i64,
    /// Whose.
    pub subscription: String,
    /// Of which document.
    pub url: String,
    /// Which one.
    pub number: i32,
    /// What happened.
    pub kind: String,
    /// The edition that its text tells.
    pub edition: Option<u32>,
    /// Which run made it.
    pub run: String,
    /// Whether its targets were found.
    pub is_planned: bool,
}

/// A version in a delivery.
#[derive(Clone, Debug)]
pub struct DeliveryRow {
    /// The delivery's id.
    pub id: String,
    /// The version's id.
    pub version: i64,
    /// To which target.
    pub target: String,
    /// How it ended.
    pub phase: String,
    /// What went wrong last.
    pub last_error: Option<String>,
}

impl Catalog {
    /// Reads all.
    pub async fn read(connection: &mut PgConnection) -> Result<Self, Failure> {
        Ok(Self {
            subscriptions: subscriptions(connection).await?,
            runs: runs(connection).await?,
            unfinished_documents: unfinished_documents(connection).await?,
            artifacts: artifacts(connection).await?,
            versions: versions(connection).await?,
            deliveries: deliveries(connection).await?,
            outbox: outbox(connection).await?,
        })
    }
}

async fn subscriptions(connection: &mut PgConnection) -> Result<Vec<SubscriptionRow>, Failure> {
    let rows = sqlx::query(
        "select name, (extract(epoch from scheduled_through) * 1000000)::bigint as through
         from subscriptions where deleted_at is null order by id",
    )
    .fetch_all(connection)
    .await?;
    let row = |row: &sqlx::postgres::PgRow| {
        Ok(SubscriptionRow { name: row.try_get("name")?, scheduled_through: row.try_get("through")? })
    };
    rows.iter().map(row).collect()
}

async fn runs(connection: &mut PgConnection) -> Result<Vec<RunRow>, Failure> {
    let rows = sqlx::query(
        "select r.id::text, s.name, r.trigger, r.phase, r.reason, r.message, r.due_times, r.restarts,
             (extract(epoch from r.scheduled_for) * 1000000)::bigint as scheduled_for,
             (extract(epoch from coalesce(r.skipped_from, r.scheduled_for)) * 1000000)::bigint as first,
             (extract(epoch from r.finished_at) * 1000000)::bigint as finished_at
         from runs r join subscriptions s on s.id = r.subscription_id order by r.created_at, r.id",
    )
    .fetch_all(connection)
    .await?;
    let row = |row: &sqlx::postgres::PgRow| {
        Ok(RunRow {
            id: row.try_get("id")?,
            subscription: row.try_get("name")?,
            trigger: row.try_get("trigger")?,
            scheduled_for: row.try_get("scheduled_for")?,
            first: row.try_get("first")?,
            due_times: row.try_get("due_times")?,
            phase: row.try_get("phase")?,
            reason: row.try_get("reason")?,
            message: row.try_get("message")?,
            finished_at: row.try_get("finished_at")?,
            restarts: row.try_get("restarts")?,
        })
    };
    rows.iter().map(row).collect()
}

async fn unfinished_documents(connection: &mut PgConnection) -> Result<Vec<(String, String)>, Failure> {
    Ok(sqlx::query_as(
        "select d.run_id::text, d.url from documents d join runs r on r.id = d.run_id
         where d.finished_at is null and r.phase = 'Succeeded' order by 1, 2",
    )
    .fetch_all(connection)
    .await?)
}

async fn artifacts(connection: &mut PgConnection) -> Result<Vec<ArtifactRow>, Failure> {
    let rows = sqlx::query(
        "select id, run_id::text as run, source_url, fetch_hash, blob_uri from artifacts order by id",
    )
    .fetch_all(connection)
    .await?;
    let row = |row: &sqlx::postgres::PgRow| {
        Ok(ArtifactRow {
            id: row.try_get("id")?,
            run: row.try_get("run")?,
            url: row.try_get("source_url")?,
            hash: row.try_get("fetch_hash")?,
            blob: row.try_get("blob_uri")?,
        })
    };
    rows.iter().map(row).collect()
}

async fn versions(connection: &mut PgConnection) -> Result<Vec<VersionRow>, Failure> {
    let rows = sqlx::query(
        "select v.id, s.name, v.url, v.number, v.kind, e.text, v.run_id::text as run, v.planned_at is not null as is_planned
         from versions v join subscriptions s on s.id = v.subscription_id join extracts e on e.id = v.extract_id
         order by s.id, v.url, v.number",
    )
    .fetch_all(connection)
    .await?;
    let row = |row: &sqlx::postgres::PgRow| {
        Ok(VersionRow {
            id: row.try_get("id")?,
            subscription: row.try_get("name")?,
            url: row.try_get("url")?,
            number: row.try_get("number")?,
            kind: row.try_get("kind")?,
            edition: ledger::edition(row.try_get("text")?),
            run: row.try_get("run")?,
            is_planned: row.try_get("is_planned")?,
        })
    };
    rows.iter().map(row).collect()
}

async fn deliveries(connection: &mut PgConnection) -> Result<Vec<DeliveryRow>, Failure> {
    let rows = sqlx::query(
        "select d.id::text as id, dv.version_id, dv.target, d.phase, d.last_error
         from delivery_versions dv join deliveries d on d.id = dv.delivery_id order by dv.version_id, dv.target",
    )
    .fetch_all(connection)
    .await?;
    let row = |row: &sqlx::postgres::PgRow| {
        Ok(DeliveryRow {
            id: row.try_get("id")?,
            version: row.try_get("version_id")?,
            target: row.try_get("target")?,
            phase: row.try_get("phase")?,
            last_error: row.try_get("last_error")?,
        })
    };
    rows.iter().map(row).collect()
}

async fn outbox(connection: &mut PgConnection) -> Result<Vec<(String, String)>, Failure> {
    Ok(sqlx::query_as("select topic, key from outbox order by id").fetch_all(connection).await?)
}
