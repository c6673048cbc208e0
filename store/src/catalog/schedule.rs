//! Making runs: the run and the event that begins it, in one transaction.

mod settling;

use std::collections::{HashMap, HashSet};

use events::{Event, SubscriptionScheduled, TraceId, run_reasons};
use jiff::Timestamp;
use sqlx::{PgConnection, Row};
use uuid::Uuid;

use super::{
    Catalog, CatalogError, Lead, Trigger, failed, outbox, sql_time, sql_times, stuck, time, to_micros,
    unreadable,
};
use settling::{Settling, SubscriptionState};

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

/// What becomes of a due time while another run of its subscription is active. A backfill does not count as one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum WhenActive {
    /// It is recorded as skipped.
    Skip,
    /// It waits, and with it those after it, until the run has ended.
    Wait,
    /// Both run.
    RunBoth,
    /// The active run is ended.
    Replace,
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
    /// The due time; the last one of those that are skipped together.
    pub scheduled_for: Timestamp,
    /// What to do when another run is active.
    pub when_active: WhenActive,
    /// Set when the due time is to be recorded as skipped.
    pub skip: Option<Skip>,
    /// How many due times are skipped together, and the first of them; none where this is one due time.
    pub skipped_together: Option<SkippedTogether>,
}

/// Due times one after the other that get no run for the same reason, recorded in one row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SkippedTogether {
    /// The first of them.
    pub from: Timestamp,
    /// How many there are.
    pub count: u32,
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
    /// How many due times are skipped together, and the first of them; none where this is one due time.
    pub skipped_together: Option<SkippedTogether>,
}

/// What became of due times.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fired {
    /// The runs that were made and the skips that were recorded.
    pub runs: Vec<FiredRun>,
    /// Up to when due times are accounted for now, by subscription.
    pub through: HashMap<i64, Timestamp>,
    /// Subscriptions with due times that wait until their active run has ended.
    pub waiting: HashSet<i64>,
    /// Subscriptions that are not as the caller believes: changed, deleted, or accounted for further.
    pub outdated: HashSet<i64>,
}

/// A run that somebody asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestedRun {
    /// The catalog's id of the subscription.
    pub subscription_id: i64,
    /// The subscription's uid.
    pub subscription_uid: Uuid,
    /// What is asked for: [`Trigger::Request`], a run as if it were due, or [`Trigger::Backfill`].
    pub trigger: Trigger,
    /// Tells this request from the last one.
    pub token: String,
    /// Of a backfill: whether it is of all that is stored, and not only of what is the latest of each document.
    pub is_of_all: bool,
}

impl FiredRun {
    pub(super) fn new(subscription_id: i64, uid: Uuid, scheduled_for: Timestamp, trigger: Trigger) -> Self {
        let scheduled_for = to_micros(scheduled_for);
        let run_id = Uuid::new_v5(&uid, format!("{trigger}\n{scheduled_for}").as_bytes());
        Self { run_id, subscription_id, scheduled_for, trigger, skip: None, skipped_together: None }
    }

    /// How many due times it stands for.
    pub fn due_times(&self) -> u32 {
        self.skipped_together.map_or(1, |together| together.count)
    }
}

impl Lead {
    /// Makes the runs of due times, or records their skips, with the events that begin them, in one transaction.
    ///
    /// A due time that is accounted for already, or follows from a spec that is no longer the subscription's, is left
    /// out: so nothing is ever fired twice, whoever fires it. The due times of one subscription must ascend.
    ///
    /// # Errors
    /// [`CatalogError::NoLongerLeading`], or when the catalog fails; then nothing was fired.
    pub async fn fire(&self, due: &[DueRun], now: Timestamp) -> Result<Fired, CatalogError> {
        if due.is_empty() {
            return Ok(Fired::default());
        }
        let mut transaction = self.begin().await?;
        let states = lock_subscriptions(&mut transaction, due).await?;
        let mut settling = Settling::new(&states);
        for due in due {
            settling.settle(due);
        }
        let Settling { replaced, runs, through, waiting, outdated, .. } = settling;
        end_replaced(&mut transaction, &replaced, now).await?;
        let runs = insert_runs(&mut transaction, runs, now).await?;
        advance(&mut transaction, &through).await?;
        transaction.commit().await.map_err(failed("commit due runs"))?;
        Ok(Fired { runs, through, waiting, outdated })
    }

    /// Makes the run that somebody asks for, unless this request was honoured already.
    ///
    /// # Errors
    /// [`CatalogError::NoLongerLeading`], or when the catalog fails; then nothing was made.
    pub async fn request_run(
        &self,
        request: &RequestedRun,
        now: Timestamp,
    ) -> Result<Option<FiredRun>, CatalogError> {
        let mut transaction = self.begin().await?;
        // No two requests have the same time, however soon one follows the other: it tells their runs apart.
        let statement = match request.trigger {
            Trigger::Backfill => {
                "update subscriptions set last_backfill = $2,
                     last_backfill_at = greatest($3, last_backfill_at + interval '1 microsecond')
                 where id = $1 and deleted_at is null and last_backfill is distinct from $2
                 returning last_backfill_at"
            }
            Trigger::Request | Trigger::Schedule => {
                "update subscriptions set last_request = $2,
                     last_request_at = greatest($3, last_request_at + interval '1 microsecond')
                 where id = $1 and deleted_at is null and last_request is distinct from $2
                 returning last_request_at"
            }
        };
        let asked_at: Option<jiff_sqlx::Timestamp> = sqlx::query_scalar(statement)
            .bind(request.subscription_id)
            .bind(&request.token)
            .bind(sql_time(now))
            .fetch_optional(&mut *transaction)
            .await
            .map_err(failed("record a request"))?;
        let Some(asked_at) = time(asked_at) else { return Ok(None) };
        let new = FiredRun::new(request.subscription_id, request.subscription_uid, asked_at, request.trigger);
        let fired = insert_runs(&mut transaction, vec![new], now).await?;
        if request.is_of_all {
            sqlx::query("update runs set is_of_all = true where id = any($1)")
                .bind(fired.iter().map(|run| run.run_id).collect::<Vec<_>>())
                .execute(&mut *transaction)
                .await
                .map_err(failed("note what a backfill is of"))?;
        }
        transaction.commit().await.map_err(failed("commit a requested run"))?;
        Ok(fired.into_iter().next())
    }

    /// Lets the clock go on for subscriptions that are accounted for further than `now`, because the machine's clock was
    /// ahead: their due times after `now` are no longer skipped, and count from `now` on. Runs that were made stay, and
    /// are not made again. What is less than a minute ahead stays as it is.
    ///
    /// # Errors
    /// [`CatalogError::NoLongerLeading`], or when the catalog fails.
    pub async fn rewind(&self, subscription_ids: &[i64], now: Timestamp) -> Result<(), CatalogError> {
        let mut transaction = self.begin().await?;
        sqlx::query(
            "with ahead as materialized (
                 select id from subscriptions where id = any($1) and deleted_at is null
                     and scheduled_through > $2 + interval '1 minute' order by id for no key update),
             not_yet as (
                 delete from runs r using ahead where r.subscription_id = ahead.id and r.phase = 'Skipped'
                     and r.trigger = 'Schedule' and r.scheduled_for > $2
                 returning r.subscription_id, coalesce(r.skipped_from, r.scheduled_for) as skipped_from)
             -- Due times that were skipped together, some of them before now, are decided on again.
             update subscriptions s set scheduled_through =
                 least($2, (select min(skipped_from) - interval '1 microsecond' from not_yet
                     where not_yet.subscription_id = s.id))
             from ahead where s.id = ahead.id",
        )
        .bind(subscription_ids)
        .bind(sql_time(now))
        .execute(&mut *transaction)
        .await
        .map_err(failed("set subscriptions back"))?;
        transaction.commit().await.map_err(failed("commit a step back"))
    }
}

impl Catalog {
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
        let first_events = rows.iter().map(|row| stuck::begins(row, now)).collect::<Result<Vec<_>, _>>()?;
        let mut transaction = self.pool.begin().await.map_err(failed("begin"))?;
        outbox::insert(&mut transaction, &first_events, now).await?;
        transaction.commit().await.map_err(failed("commit restarted runs"))?;
        Ok(rows.len())
    }
}

/// Locks the subscriptions of due times and says how they stand.
///
/// The lock leaves their keys alone: whoever stores an artifact holds its run and refers to the subscription, and must
/// not wait for this while this waits for the run.
async fn lock_subscriptions(
    connection: &mut PgConnection,
    due: &[DueRun],
) -> Result<HashMap<i64, SubscriptionState>, CatalogError> {
    let ids: HashSet<i64> = due.iter().map(|due| due.subscription_id).collect();
    let ids: Vec<i64> = ids.into_iter().collect();
    let rows = sqlx::query(
        "select id, generation, scheduled_through from subscriptions
         where id = any($1) and deleted_at is null order by id for no key update",
    )
    .bind(&ids)
    .fetch_all(&mut *connection)
    .await
    .map_err(failed("lock due subscriptions"))?;
    // A statement of its own: it sees the runs of whoever held the locks before.
    let active: HashSet<i64> = sqlx::query_scalar(
        "select distinct subscription_id from runs
         where subscription_id = any($1) and finished_at is null and trigger <> 'Backfill'",
    )
    .bind(&ids)
    .fetch_all(connection)
    .await
    .map_err(failed("look up active runs"))?
    .into_iter()
    .collect();
    let state = |row: &sqlx::postgres::PgRow| {
        let id = row.try_get("id")?;
        let through = row.try_get::<jiff_sqlx::Timestamp, _>("scheduled_through")?.to_jiff();
        let is_active = active.contains(&id);
        Ok((id, SubscriptionState { generation: row.try_get("generation")?, through, is_active }))
    };
    rows.iter().map(state).collect::<Result<_, _>>().map_err(failed("read due subscriptions"))
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
         -- Locked in the order in which whoever begins runs and finishes documents locks them.
         where finished_at is null and id in (select id from runs
             where subscription_id = any($1) and finished_at is null and trigger <> 'Backfill' order by id for update)",
    )
    .bind(ids)
    .bind(sql_time(now))
    .bind(run_reasons::REPLACED)
    .execute(connection)
    .await
    .map_err(failed("end replaced runs"))?;
    Ok(())
}

pub(super) async fn insert_runs(
    connection: &mut PgConnection,
    new: Vec<FiredRun>,
    now: Timestamp,
) -> Result<Vec<FiredRun>, CatalogError> {
    let inserted: HashSet<Uuid> = sqlx::query_scalar(
        "insert into runs (id, subscription_id, scheduled_for, trigger, phase, reason, message, trace_id,
             skipped_from, due_times, created_at, finished_at)
         select id, subscription_id, scheduled_for, trigger,
             case when reason is null then 'Pending' else 'Skipped' end, reason, message, trace_id,
             skipped_from, due_times, $10, case when reason is null then null else $10 end
         from unnest($1::uuid[], $2::bigint[], $3::timestamptz[], $4::text[], $5::text[], $6::text[], $7::text[],
             $8::timestamptz[], $9::integer[])
             as new (id, subscription_id, scheduled_for, trigger, reason, message, trace_id, skipped_from, due_times)
         on conflict do nothing returning id",
    )
    .bind(new.iter().map(|new| new.run_id).collect::<Vec<_>>())
    .bind(new.iter().map(|new| new.subscription_id).collect::<Vec<_>>())
    .bind(sql_times(new.iter().map(|new| new.scheduled_for)))
    .bind(new.iter().map(|new| new.trigger.to_string()).collect::<Vec<_>>())
    .bind(new.iter().map(|new| new.skip.as_ref().map(|skip| skip.reason)).collect::<Vec<_>>())
    .bind(new.iter().map(|new| new.skip.as_ref().map(|skip| skip.message.as_str())).collect::<Vec<_>>())
    .bind(new.iter().map(|new| TraceId::of_run(new.run_id).to_string()).collect::<Vec<_>>())
    .bind(new.iter().map(|new| new.skipped_together.map(|together| sql_time(together.from))).collect::<Vec<_>>())
    .bind(new.iter().map(|new| i32::try_from(new.due_times()).unwrap_or(i32::MAX)).collect::<Vec<_>>())
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

pub(super) fn first_event(
    run_id: Uuid,
    subscription_id: i64,
    scheduled_for: Timestamp,
    trigger: String,
    now: Timestamp,
) -> Result<Event, CatalogError> {
    let payload = SubscriptionScheduled { run_id, subscription_id, scheduled_for, trigger };
    Event::of_run(run_id, EVENT_SOURCE, now, &payload).map_err(unreadable("a run"))
}

/// Notes up to when due times are accounted for. The subscriptions are locked.
async fn advance(
    connection: &mut PgConnection,
    through: &HashMap<i64, Timestamp>,
) -> Result<(), CatalogError> {
    sqlx::query(
        "update subscriptions s set scheduled_through = due.through
         from unnest($1::bigint[], $2::timestamptz[]) as due (id, through) where s.id = due.id",
    )
    .bind(through.keys().copied().collect::<Vec<_>>())
    .bind(sql_times(through.values().copied()))
    .execute(connection)
    .await
    .map_err(failed("account for due times"))?;
    Ok(())
}
