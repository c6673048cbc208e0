//! Making runs: the run and the event that begins it, in one transaction.

use std::collections::{HashMap, HashSet};

use events::{Event, SubscriptionScheduled, TraceId, run_reasons};
use jiff::Timestamp;
use sqlx::{PgConnection, Row};
use uuid::Uuid;

use super::{
    Catalog, CatalogError, Concurrency, Trigger, failed, outbox, sql_time, sql_times, to_micros, unreadable,
};

/// The `ce_source` of the events that begin runs.
const EVENT_SOURCE: &str = "/tipstaff/operator/beat";

/// Why a due time gets no run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skip {
    /// A CamelCase word for it.
    pub reason: &'static str,
    /// A sentence for a person.
    pub message: String,
}

/// A due time of a subscription, and what the schedule's rules say of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DueRun {
    /// The catalog's id of the subscription.
    pub subscription_id: i64,
    /// The subscription's uid.
    pub subscription_uid: Uuid,
    /// The generation of the spec that the due time follows from.
    pub generation: i64,
    /// The due time.
    pub scheduled_for: Timestamp,
    /// What to do when another run is active.
    pub concurrency: Concurrency,
    /// Set when the due time is to be recorded as skipped.
    pub skip: Option<Skip>,
}

/// A run that was made, or a skip that was recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FiredRun {
    /// The run's id.
    pub run_id: Uuid,
    /// The catalog's id of the subscription.
    pub subscription_id: i64,
    /// The due time, or when it was asked for.
    pub scheduled_for: Timestamp,
    /// What made it.
    pub trigger: Trigger,
    /// Set when it was skipped.
    pub skip: Option<Skip>,
}

/// A run that somebody asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestedRun {
    /// The catalog's id of the subscription.
    pub subscription_id: i64,
    /// The subscription's uid.
    pub subscription_uid: Uuid,
    /// Tells this request from the last one.
    pub token: String,
}

impl FiredRun {
    fn new(
        subscription_id: i64,
        uid: Uuid,
        scheduled_for: Timestamp,
        trigger: Trigger,
        skip: Option<Skip>,
    ) -> Self {
        let scheduled_for = to_micros(scheduled_for);
        let run_id = Uuid::new_v5(&uid, format!("{trigger}\n{scheduled_for}").as_bytes());
        Self { run_id, subscription_id, scheduled_for, trigger, skip }
    }
}

impl Catalog {
    /// Makes the runs of due times, or records their skips, with the events that begin them, in one transaction.
    ///
    /// A due time that is accounted for already, or follows from a spec that is no longer the subscription's, is left
    /// out: so nothing is ever fired twice, whoever fires it. The due times of one subscription must ascend.
    ///
    /// # Errors
    /// When the catalog fails; then nothing was fired.
    pub async fn fire(&self, due: &[DueRun], now: Timestamp) -> Result<Vec<FiredRun>, CatalogError> {
        if due.is_empty() {
            return Ok(Vec::new());
        }
        let mut transaction = self.pool.begin().await.map_err(failed("begin"))?;
        let open = open_due_times(&mut transaction, due).await?;
        let ids: Vec<i64> = open.iter().map(|due| due.subscription_id).collect();
        let mut active: HashSet<i64> = sqlx::query_scalar(
            "select distinct subscription_id from runs where subscription_id = any($1) and finished_at is null",
        )
        .bind(&ids)
        .fetch_all(&mut *transaction)
        .await
        .map_err(failed("look up active runs"))?
        .into_iter()
        .collect();
        let mut replaced = Vec::new();
        let mut new: Vec<FiredRun> = Vec::with_capacity(open.len());
        // Where in `new` the run stands that a later due time of the same subscription replaces.
        let mut latest: HashMap<i64, usize> = HashMap::new();
        for due in open {
            let skip = due.skip.clone().or_else(|| {
                let is_active = !active.insert(due.subscription_id);
                match due.concurrency {
                    Concurrency::Forbid if is_active => Some(overlap()),
                    Concurrency::Replace if is_active => {
                        match latest.get(&due.subscription_id) {
                            Some(&earlier) => new[earlier].skip = Some(replaced_before_it_began()),
                            None => replaced.push(due.subscription_id),
                        }
                        None
                    }
                    _ => None,
                }
            });
            if skip.is_none() {
                latest.insert(due.subscription_id, new.len());
            }
            new.push(FiredRun::new(
                due.subscription_id,
                due.subscription_uid,
                due.scheduled_for,
                Trigger::Schedule,
                skip,
            ));
        }
        end_replaced(&mut transaction, &replaced, now).await?;
        let fired = insert_runs(&mut transaction, new, now).await?;
        advance(&mut transaction, due).await?;
        transaction.commit().await.map_err(failed("commit due runs"))?;
        Ok(fired)
    }

    /// Makes the run that somebody asks for, unless this request was honoured already.
    ///
    /// # Errors
    /// When the catalog fails; then nothing was made.
    pub async fn request_run(
        &self,
        request: &RequestedRun,
        now: Timestamp,
    ) -> Result<Option<FiredRun>, CatalogError> {
        let mut transaction = self.pool.begin().await.map_err(failed("begin"))?;
        let is_new: Option<i64> = sqlx::query_scalar(
            "update subscriptions set last_request = $2, last_request_at = $3
             where id = $1 and deleted_at is null and last_request is distinct from $2 returning id",
        )
        .bind(request.subscription_id)
        .bind(&request.token)
        .bind(sql_time(now))
        .fetch_optional(&mut *transaction)
        .await
        .map_err(failed("record a request"))?;
        if is_new.is_none() {
            return Ok(None);
        }
        let new =
            FiredRun::new(request.subscription_id, request.subscription_uid, now, Trigger::Request, None);
        let fired = insert_runs(&mut transaction, vec![new], now).await?;
        transaction.commit().await.map_err(failed("commit a requested run"))?;
        Ok(fired.into_iter().next())
    }

    /// Writes the first event of each active run to the outbox again, for a bus that forgot what it carried.
    ///
    /// Handlers take it as one more delivery of the same event. Returns how many there are.
    ///
    /// # Errors
    /// When the catalog fails.
    pub async fn restart_active_runs(&self, now: Timestamp) -> Result<usize, CatalogError> {
        let rows = sqlx::query(
            "select id, subscription_id, scheduled_for, trigger from runs
             where finished_at is null order by created_at",
        )
        .fetch_all(&self.pool)
        .await
        .map_err(failed("list active runs"))?;
        let mut first_events = Vec::with_capacity(rows.len());
        for row in &rows {
            let scheduled_for = row.get::<jiff_sqlx::Timestamp, _>("scheduled_for").to_jiff();
            let trigger: String = row.get("trigger");
            first_events.push(first_event(
                row.get("id"),
                row.get("subscription_id"),
                scheduled_for,
                trigger,
                now,
            )?);
        }
        let mut transaction = self.pool.begin().await.map_err(failed("begin"))?;
        outbox::insert(&mut transaction, &first_events, now).await?;
        transaction.commit().await.map_err(failed("commit restarted runs"))?;
        Ok(rows.len())
    }
}

fn overlap() -> Skip {
    Skip {
        reason: run_reasons::OVERLAP,
        message: "the run before it was still active, and concurrencyPolicy is Forbid".to_owned(),
    }
}

fn replaced_before_it_began() -> Skip {
    Skip {
        reason: run_reasons::REPLACED,
        message: "the next run was due at once, and concurrencyPolicy is Replace".to_owned(),
    }
}

/// Locks the subscriptions and keeps the due times that are still to be accounted for.
///
/// The lock leaves their keys alone: whoever stores an artifact holds its run and refers to the subscription, and must
/// not wait for this while this waits for the run.
async fn open_due_times<'a>(
    connection: &mut PgConnection,
    due: &'a [DueRun],
) -> Result<Vec<&'a DueRun>, CatalogError> {
    let mut ids: Vec<i64> = due.iter().map(|due| due.subscription_id).collect();
    ids.sort_unstable();
    ids.dedup();
    let rows = sqlx::query(
        "select id, generation, scheduled_through from subscriptions
         where id = any($1) and deleted_at is null order by id for no key update",
    )
    .bind(&ids)
    .fetch_all(connection)
    .await
    .map_err(failed("lock due subscriptions"))?;
    let state: HashMap<i64, (i64, Timestamp)> = rows
        .iter()
        .map(|row| {
            let through = row.get::<jiff_sqlx::Timestamp, _>("scheduled_through").to_jiff();
            (row.get("id"), (row.get("generation"), through))
        })
        .collect();
    Ok(due
        .iter()
        .filter(|due| {
            state.get(&due.subscription_id).is_some_and(|(generation, through)| {
                *generation == due.generation && to_micros(due.scheduled_for) > *through
            })
        })
        .collect())
}

async fn end_replaced(
    connection: &mut PgConnection,
    ids: &[i64],
    now: Timestamp,
) -> Result<(), CatalogError> {
    if ids.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "update runs set phase = 'Failed', reason = $3,
             message = 'the next run was due, and concurrencyPolicy is Replace', finished_at = $2
         where subscription_id = any($1) and finished_at is null",
    )
    .bind(ids)
    .bind(sql_time(now))
    .bind(run_reasons::REPLACED)
    .execute(connection)
    .await
    .map_err(failed("end replaced runs"))?;
    Ok(())
}

async fn insert_runs(
    connection: &mut PgConnection,
    new: Vec<FiredRun>,
    now: Timestamp,
) -> Result<Vec<FiredRun>, CatalogError> {
    let inserted: HashSet<Uuid> = sqlx::query_scalar(
        "insert into runs (id, subscription_id, scheduled_for, trigger, phase, reason, message, trace_id,
             created_at, finished_at)
         select id, subscription_id, scheduled_for, trigger,
             case when reason is null then 'Pending' else 'Skipped' end, reason, message, trace_id,
             $8, case when reason is null then null else $8 end
         from unnest($1::uuid[], $2::bigint[], $3::timestamptz[], $4::text[], $5::text[], $6::text[], $7::text[])
             as new (id, subscription_id, scheduled_for, trigger, reason, message, trace_id)
         on conflict do nothing returning id",
    )
    .bind(new.iter().map(|new| new.run_id).collect::<Vec<_>>())
    .bind(new.iter().map(|new| new.subscription_id).collect::<Vec<_>>())
    .bind(sql_times(new.iter().map(|new| new.scheduled_for)))
    .bind(new.iter().map(|new| new.trigger.to_string()).collect::<Vec<_>>())
    .bind(new.iter().map(|new| new.skip.as_ref().map(|skip| skip.reason)).collect::<Vec<_>>())
    .bind(new.iter().map(|new| new.skip.as_ref().map(|skip| skip.message.as_str())).collect::<Vec<_>>())
    .bind(new.iter().map(|new| TraceId::of_run(new.run_id).to_string()).collect::<Vec<_>>())
    .bind(sql_time(now))
    .fetch_all(&mut *connection)
    .await
    .map_err(failed("insert runs"))?
    .into_iter()
    .collect();
    let mut first_events = Vec::with_capacity(new.len());
    let mut fired = Vec::with_capacity(new.len());
    for run in new {
        if !inserted.contains(&run.run_id) {
            continue;
        }
        if run.skip.is_none() {
            let trigger = run.trigger.to_string();
            first_events.push(first_event(run.run_id, run.subscription_id, run.scheduled_for, trigger, now)?);
        }
        fired.push(run);
    }
    outbox::insert(connection, &first_events, now).await?;
    Ok(fired)
}

fn first_event(
    run_id: Uuid,
    subscription_id: i64,
    scheduled_for: Timestamp,
    trigger: String,
    now: Timestamp,
) -> Result<Event, CatalogError> {
    let payload = SubscriptionScheduled { run_id, subscription_id, scheduled_for, trigger };
    Event::of_run(run_id, EVENT_SOURCE, now, &payload).map_err(unreadable("a run"))
}

/// Accounts for the due times. Those of another generation are the business of who knows that one.
async fn advance(connection: &mut PgConnection, due: &[DueRun]) -> Result<(), CatalogError> {
    sqlx::query(
        "update subscriptions s set scheduled_through = d.through
         from (select id, generation, max(scheduled_for) as through
               from unnest($1::bigint[], $2::bigint[], $3::timestamptz[]) as due (id, generation, scheduled_for)
               group by id, generation) d
         where s.id = d.id and s.generation = d.generation and s.deleted_at is null and s.scheduled_through < d.through",
    )
    .bind(due.iter().map(|due| due.subscription_id).collect::<Vec<_>>())
    .bind(due.iter().map(|due| due.generation).collect::<Vec<_>>())
    .bind(sql_times(due.iter().map(|due| due.scheduled_for)))
    .execute(connection)
    .await
    .map_err(failed("account for due times"))?;
    Ok(())
}
