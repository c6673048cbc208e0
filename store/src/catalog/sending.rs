//! Deliveries on their way: what is sent, how each attempt went, and what becomes of it.
//!
//! A delivery's event comes when the delivery is due: at once, or out of the outbox. `due_at` says when; an event that
//! comes earlier is an old one.

use jiff::{SignedDuration, Timestamp};
use serde_json::value::RawValue;
use sqlx::{Row, postgres::PgRow, types::Json};
use uuid::Uuid;

use super::{
    Catalog, CatalogError, ExtractFields, SubscriptionSettings, deliveries::WaitingDelivery, failed, outbox,
    sql_time, time,
};

/// A delivery as the deliver role needs it.
#[derive(Clone, Debug)]
pub struct DeliveryWork {
    /// The same for all attempts.
    pub id: Uuid,
    /// The target's name.
    pub target: String,
    /// Whether it was delivered or given up.
    pub is_finished: bool,
    /// Whether changes are still added to it.
    pub is_collecting: bool,
    /// Of a digest of a run: whether the run may still see changes.
    pub is_run_active: bool,
    /// When it is due.
    pub due_at: Timestamp,
    /// When it was made.
    pub created_at: Timestamp,
    /// How many attempts there were.
    pub attempts: u32,
    /// The namespace of the subscription, its source and their Secrets.
    pub namespace: String,
    /// The subscription's name.
    pub subscription: String,
    /// The catalog's id of the subscription.
    pub subscription_id: i64,
    /// The subscription's settings as they are now.
    pub settings: SubscriptionSettings,
    /// The source's name.
    pub source: String,
    /// The source's base URL.
    pub source_url: String,
    /// The target's settings when it said that it is gone.
    pub gone_settings: Option<String>,
    /// When the target, which fails, is tried next.
    pub target_tried_at: Option<Timestamp>,
    /// The run that saw the first of its changes.
    pub begun_by: Uuid,
}

/// A version as a delivery carries it.
#[derive(Clone, Debug)]
pub struct DeliveredVersion {
    /// The document's URL.
    pub url: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// The run that made it.
    pub run_id: Uuid,
    /// The run's trace.
    pub trace_id: String,
    /// What differs, as JSON.
    pub change: Box<RawValue>,
    /// The values that selectors found in the version.
    pub fields: ExtractFields,
    /// The version.
    pub version: VersionEvidence,
    /// The version that it was compared with.
    pub previous: Option<VersionEvidence>,
}

/// A version with what shows it.
#[derive(Clone, Debug)]
pub struct VersionEvidence {
    /// Its number.
    pub number: i32,
    /// The SHA-256 of its text.
    pub text_hash: String,
    /// The catalog's id of the artifact that the text was taken out of.
    pub artifact_id: i64,
    /// The SHA-256 of its bytes.
    pub fetch_hash: String,
    /// Where they are.
    pub blob_uri: String,
    /// When they came.
    pub fetched_at: Timestamp,
}

/// How an attempt to deliver went.
#[derive(Clone, Debug)]
pub struct DeliveryAttempt<'a> {
    /// When it began.
    pub started_at: Timestamp,
    /// How long it took.
    pub duration: SignedDuration,
    /// The HTTP status, if there was one.
    pub status: Option<u16>,
    /// The beginning of the answer, or what went wrong.
    pub detail: &'a str,
    /// A CamelCase word for it.
    pub reason: &'a str,
}

/// What becomes of a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeliveryOutcome<'a> {
    /// The target has it.
    Delivered,
    /// It is tried again.
    Retry(Timestamp),
    /// It is not tried again.
    GivenUp,
    /// The target is gone, with these settings: nothing is sent to it until they change.
    TargetGone(&'a str),
}

impl Catalog {
    /// A delivery, if there is such.
    ///
    /// # Errors
    /// When the catalog fails.
    pub async fn delivery_work(&self, id: Uuid) -> Result<Option<DeliveryWork>, CatalogError> {
        let row = sqlx::query(
            "select d.id, d.target, d.finished_at is not null as is_finished, d.phase = 'Collecting' as is_collecting, d.due_at,
                 d.created_at, d.attempts, d.begun_by, d.subscription_id, s.namespace, s.name, s.settings, o.name as source,
                 o.settings ->> 'base_url' as source_url, t.gone_settings, t.next_attempt_at,
                 coalesce((select r.finished_at is null or exists (
                         select from versions where run_id = r.id and planned_at is null)
                     from runs r where r.id = d.run_id), false) as is_run_active
             from deliveries d join subscriptions s on s.id = d.subscription_id join sources o on o.id = s.source_id
             left join targets t on t.subscription_id = d.subscription_id and t.name = d.target
             where d.id = $1",
        )
        .bind(id)
        .fetch_optional(&self.pool)
        .await
        .map_err(failed("look up a delivery"))?;
        row.as_ref().map(delivery_work).transpose().map_err(failed("read a delivery"))
    }

    /// How many things the given runs found wait for their deliveries to be planned, or to be sent for the first time
    /// by `due_before`. None of runs that have ended wait in vain: what is not planned is asked for again.
    ///
    /// # Errors
    /// When the catalog fails.
    pub async fn untried_deliveries(
        &self,
        runs: &[Uuid],
        due_before: Timestamp,
    ) -> Result<i64, CatalogError> {
        sqlx::query_scalar(
            "select (select count(*) from versions where run_id = any($1) and planned_at is null)
                 + (select count(*) from deliveries
                    where begun_by = any($1) and finished_at is null and attempts = 0 and due_at <= $2)",
        )
        .bind(runs)
        .bind(sql_time(due_before))
        .fetch_one(&self.pool)
        .await
        .map_err(failed("look up what waits to be delivered"))
    }

    /// Looks at a digest again later: changes are still added to it.
    ///
    /// # Errors
    /// When the catalog fails.
    pub async fn put_off_delivery(
        &self,
        work: &DeliveryWork,
        until: Timestamp,
        now: Timestamp,
    ) -> Result<(), CatalogError> {
        let mut transaction = self.pool.begin().await.map_err(failed("begin"))?;
        let moved = sqlx::query(
            "update deliveries set due_at = $2 where id = $1 and due_at = $3 and finished_at is null",
        )
        .bind(work.id)
        .bind(sql_time(until))
        .bind(sql_time(work.due_at))
        .execute(&mut *transaction)
        .await
        .map_err(failed("put a delivery off"))?;
        if moved.rows_affected() > 0 {
            let event = work.waiting().event(now)?;
            outbox::insert(&mut transaction, &[event], until).await?;
        }
        transaction.commit().await.map_err(failed("commit a delivery"))
    }

    /// The versions of a delivery, in the order in which they were made. Nothing is added to it from now on.
    ///
    /// # Errors
    /// When the catalog fails.
    pub async fn close_delivery(&self, id: Uuid) -> Result<Vec<DeliveredVersion>, CatalogError> {
        let mut connection = self.pool.acquire().await.map_err(failed("connect"))?;
        sqlx::query("update deliveries set phase = 'Pending' where id = $1 and phase = 'Collecting'")
            .bind(id)
            .execute(&mut *connection)
            .await
            .map_err(failed("close a digest"))?;
        let rows = sqlx::query(
            "select v.url, v.created_at, v.run_id, r.trace_id, v.change, v.number, v.text_hash, e.fields,
                 a.id as artifact_id, a.fetch_hash, a.blob_uri, a.fetched_at,
                 p.number as p_number, p.text_hash as p_text_hash, pa.id as p_artifact_id, pa.fetch_hash as p_fetch_hash,
                 pa.blob_uri as p_blob_uri, pa.fetched_at as p_fetched_at
             from delivery_versions dv join versions v on v.id = dv.version_id join runs r on r.id = v.run_id
             join extracts e on e.id = v.extract_id join artifacts a on a.id = e.artifact_id
             left join versions p on p.id = v.previous left join extracts pe on pe.id = p.extract_id
             left join artifacts pa on pa.id = pe.artifact_id
             where dv.delivery_id = $1 order by v.id",
        )
        .bind(id)
        .fetch_all(&mut *connection)
        .await
        .map_err(failed("look up a delivery's versions"))?;
        rows.iter().map(delivered_version).collect::<Result<_, _>>().map_err(failed("read a version"))
    }

    /// Records an attempt, or why there was none, and what becomes of the delivery; a further one waits in the outbox.
    ///
    /// # Errors
    /// When the catalog fails; then nothing was recorded.
    pub async fn record_attempt(
        &self,
        work: &DeliveryWork,
        attempt: &DeliveryAttempt<'_>,
        outcome: DeliveryOutcome<'_>,
        now: Timestamp,
    ) -> Result<(), CatalogError> {
        let mut transaction = self.pool.begin().await.map_err(failed("begin"))?;
        let (phase, due_at, gone) = match outcome {
            DeliveryOutcome::Delivered => ("Delivered", None, None),
            DeliveryOutcome::Retry(at) => ("Pending", Some(at), None),
            DeliveryOutcome::GivenUp => ("GivenUp", None, None),
            DeliveryOutcome::TargetGone(settings) => ("GivenUp", None, Some(settings)),
        };
        let is_delivered = outcome == DeliveryOutcome::Delivered;
        let recorded = sqlx::query(
            "with delivery as (
                 update deliveries set attempts = attempts + 1, phase = $3, due_at = coalesce($4, due_at),
                     last_error = case when not $5 then $6 end,
                     finished_at = case when $4::timestamptz is null then $7 end
                 where id = $1 and attempts = $2 and finished_at is null
                 returning id, attempts, subscription_id, target)
             insert into delivery_attempts (delivery_id, number, started_at, duration_ms, status, detail)
             select id, attempts, $8, $9, $10, $6 from delivery",
        )
        .bind(work.id)
        .bind(i32::try_from(work.attempts).unwrap_or(i32::MAX))
        .bind(phase)
        .bind(due_at.map(sql_time))
        .bind(is_delivered)
        .bind(attempt.detail)
        .bind(sql_time(now))
        .bind(sql_time(attempt.started_at))
        .bind(i32::try_from(attempt.duration.as_millis()).unwrap_or(i32::MAX))
        .bind(attempt.status.map(i32::from))
        .execute(&mut *transaction)
        .await
        .map_err(failed("record an attempt"))?;
        if recorded.rows_affected() == 0 {
            // The same event, handled twice at the same time.
            return Ok(());
        }
        sqlx::query(
            "insert into targets as t (subscription_id, name, gone_settings, failing_since, failing_reason, failing_message,
                 next_attempt_at, last_delivered_at, written_at)
             values ($1, $2, $3, case when not $4 then $5 end, case when not $4 then $6 end, case when not $4 then $7 end,
                 $8, case when $4 then $5 end, clock_timestamp())
             on conflict (subscription_id, name) do update set
                 gone_settings = case when $4 then null else coalesce($3, t.gone_settings) end,
                 failing_since = case when not $4 then coalesce(t.failing_since, $5) end,
                 failing_reason = case when not $4 then $6 end,
                 failing_message = case when not $4 then $7 end,
                 next_attempt_at = $8,
                 last_delivered_at = case when $4 then $5 else t.last_delivered_at end,
                 written_at = clock_timestamp()",
        )
        .bind(work.subscription_id)
        .bind(&work.target)
        .bind(gone)
        .bind(is_delivered)
        .bind(sql_time(now))
        .bind(attempt.reason)
        .bind(attempt.detail)
        .bind(due_at.map(sql_time))
        .execute(&mut *transaction)
        .await
        .map_err(failed("note how a target answers"))?;
        if let Some(at) = due_at {
            let event = work.waiting().event(now)?;
            outbox::insert(&mut transaction, &[event], at).await?;
        }
        transaction.commit().await.map_err(failed("commit an attempt"))
    }

    /// Ends a delivery that is not sent, and says why.
    ///
    /// # Errors
    /// When the catalog fails.
    pub async fn give_delivery_up(&self, id: Uuid, why: &str, now: Timestamp) -> Result<(), CatalogError> {
        sqlx::query(
            "update deliveries set phase = 'GivenUp', last_error = $2, finished_at = $3 where id = $1 and finished_at is null",
        )
        .bind(id)
        .bind(why)
        .bind(sql_time(now))
        .execute(&self.pool)
        .await
        .map_err(failed("give a delivery up"))?;
        Ok(())
    }
}

impl DeliveryWork {
    fn waiting(&self) -> WaitingDelivery {
        WaitingDelivery {
            id: self.id,
            subscription_id: self.subscription_id,
            target: self.target.clone(),
            begun_by: self.begun_by,
        }
    }
}

fn delivery_work(row: &PgRow) -> Result<DeliveryWork, sqlx::Error> {
    Ok(DeliveryWork {
        id: row.try_get("id")?,
        target: row.try_get("target")?,
        is_finished: row.try_get("is_finished")?,
        is_collecting: row.try_get("is_collecting")?,
        is_run_active: row.try_get("is_run_active")?,
        due_at: row.try_get::<jiff_sqlx::Timestamp, _>("due_at")?.to_jiff(),
        created_at: row.try_get::<jiff_sqlx::Timestamp, _>("created_at")?.to_jiff(),
        attempts: row.try_get::<i32, _>("attempts")?.unsigned_abs(),
        namespace: row.try_get("namespace")?,
        subscription: row.try_get("name")?,
        subscription_id: row.try_get("subscription_id")?,
        settings: row.try_get::<Json<SubscriptionSettings>, _>("settings")?.0,
        source: row.try_get("source")?,
        source_url: row.try_get("source_url")?,
        gone_settings: row.try_get("gone_settings")?,
        target_tried_at: time(row.try_get("next_attempt_at")?),
        begun_by: row.try_get("begun_by")?,
    })
}

fn delivered_version(row: &PgRow) -> Result<DeliveredVersion, sqlx::Error> {
    let has_previous = row.try_get::<Option<i32>, _>("p_number")?.is_some();
    Ok(DeliveredVersion {
        url: row.try_get("url")?,
        created_at: row.try_get::<jiff_sqlx::Timestamp, _>("created_at")?.to_jiff(),
        run_id: row.try_get("run_id")?,
        trace_id: row.try_get("trace_id")?,
        change: row.try_get::<Json<_>, _>("change")?.0,
        fields: row.try_get::<Json<ExtractFields>, _>("fields")?.0,
        version: evidence(row, "")?,
        previous: if has_previous { Some(evidence(row, "p_")?) } else { None },
    })
}

fn evidence(row: &PgRow, prefix: &str) -> Result<VersionEvidence, sqlx::Error> {
    let column = |name: &str| format!("{prefix}{name}");
    Ok(VersionEvidence {
        number: row.try_get(column("number").as_str())?,
        text_hash: row.try_get(column("text_hash").as_str())?,
        artifact_id: row.try_get(column("artifact_id").as_str())?,
        fetch_hash: row.try_get(column("fetch_hash").as_str())?,
        blob_uri: row.try_get(column("blob_uri").as_str())?,
        fetched_at: row.try_get::<jiff_sqlx::Timestamp, _>(column("fetched_at").as_str())?.to_jiff(),
    })
}
