//! What was lost: runs without progress, versions for which nobody found targets, and deliveries that were not tried when
//! they were due. Their event is sent again; runs are given up in the end.

use events::{Event, VersioningResult, run_reasons};
use jiff::{SignedDuration, Timestamp};
use sqlx::{Row, postgres::PgRow};
use uuid::Uuid;

use super::{CatalogError, Lead, deliveries, failed, outbox, schedule::first_event, sql_time, unreadable};

/// When a run is stuck.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StuckPolicy {
    /// After so long without progress its event is sent again; after each time it may take twice as long.
    pub restart_after: SignedDuration,
    /// After so long without progress it fails.
    pub give_up_after: SignedDuration,
}

/// What was done about runs that are stuck.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StuckRuns {
    /// Their event was sent again.
    pub restarted: Vec<Uuid>,
    /// They failed.
    pub given_up: Vec<Uuid>,
}

/// What was done about deliveries that were late.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LateDeliveries {
    /// How many versions' targets are looked for again.
    pub versions: usize,
    /// How many deliveries are tried again.
    pub deliveries: usize,
}

const EVENT_SOURCE: &str = "/tipstaff/catalog/stuck";
/// How many stuck runs one transaction takes.
const RUNS_AT_ONCE: i64 = 1_000;
/// Doubling goes no further: 2^10 times is longer than any run is given.
const LONGEST_DOUBLING: i32 = 10;

impl Lead {
    /// Sends the first event of runs again that made no progress for long, and ends those that made none for longer.
    ///
    /// Progress is: the run was made, it was planned, one of its documents was stored or failed. A run with an event in
    /// the outbox is not stuck: the event waits for its time. Handlers take an event that was not lost after all as
    /// one more delivery.
    ///
    /// # Errors
    /// [`CatalogError::NoLongerLeading`], or when the catalog fails; then nothing was done.
    pub async fn mend_stuck_runs(
        &self,
        policy: &StuckPolicy,
        now: Timestamp,
    ) -> Result<StuckRuns, CatalogError> {
        let mut transaction = self.begin().await?;
        let seconds = |duration: SignedDuration| duration.as_secs_f64();
        let rows = sqlx::query(
            "select r.id, r.subscription_id, r.scheduled_for, r.trigger,
                 p.progressed_at + make_interval(secs => $3) <= $1 as is_given_up
             from runs r
             cross join lateral (select greatest(r.created_at, r.started_at,
                 (select max(finished_at) from documents where run_id = r.id)) as progressed_at) p
             where r.finished_at is null
                 and r.created_at + make_interval(secs => $2) <= $1
                 and (p.progressed_at + make_interval(secs => $3) <= $1
                     or greatest(p.progressed_at, r.restarted_at)
                         + make_interval(secs => $2 * 2 ^ least(r.restarts, $4)) <= $1)
                 and not exists (select from outbox where run_id = r.id)
             order by r.created_at limit $5 for no key update of r skip locked",
        )
        .bind(sql_time(now))
        .bind(seconds(policy.restart_after))
        .bind(seconds(policy.give_up_after))
        .bind(LONGEST_DOUBLING)
        .bind(RUNS_AT_ONCE)
        .fetch_all(&mut *transaction)
        .await
        .map_err(failed("look for stuck runs"))?;
        let mut stuck = StuckRuns::default();
        let mut events = Vec::new();
        for row in &rows {
            let id: Uuid = row.try_get("id").map_err(failed("read a stuck run"))?;
            if row.try_get("is_given_up").map_err(failed("read a stuck run"))? {
                stuck.given_up.push(id);
            } else {
                events.push(begins(row, now)?);
                stuck.restarted.push(id);
            }
        }
        sqlx::query(
            "update runs set phase = 'Failed', reason = $3, finished_at = $2,
                 message = format('no progress for too long while it was %s, though its event was sent again %s times',
                     lower(phase), restarts)
             where id = any($1)",
        )
        .bind(&stuck.given_up)
        .bind(sql_time(now))
        .bind(run_reasons::STUCK)
        .execute(&mut *transaction)
        .await
        .map_err(failed("end stuck runs"))?;
        sqlx::query(
            "update runs set restarts = restarts + 1, restarted_at = $2, reason = $3,
                 message = format('no progress while it was %s: its event was sent again, %s times so far',
                     lower(phase), restarts + 1)
             where id = any($1)",
        )
        .bind(&stuck.restarted)
        .bind(sql_time(now))
        .bind(run_reasons::RESTARTED)
        .execute(&mut *transaction)
        .await
        .map_err(failed("note restarted runs"))?;
        outbox::insert(&mut transaction, &events, now).await?;
        transaction.commit().await.map_err(failed("commit restarted runs"))?;
        Ok(stuck)
    }
}

impl Lead {
    /// Sends the events again of versions whose targets were not found, and of deliveries that were not tried, though that
    /// was due for longer than `late`.
    ///
    /// # Errors
    /// [`CatalogError::NoLongerLeading`], or when the catalog fails; then nothing was done.
    pub async fn mend_late_deliveries(
        &self,
        late: SignedDuration,
        now: Timestamp,
    ) -> Result<LateDeliveries, CatalogError> {
        let mut transaction = self.begin().await?;
        let rows = sqlx::query(
            "update versions v set asked_at = $1 where id in (
                 select id from versions
                 where planned_at is null and created_at + make_interval(secs => $2) <= $1
                     -- While nobody does it, it is not asked for all the time.
                     and (asked_at is null or asked_at + interval '1 hour' <= $1)
                 order by created_at limit $3 for update skip locked)
             returning v.id, v.run_id, v.subscription_id, v.url, v.number, v.kind",
        )
        .bind(sql_time(now))
        .bind(late.as_secs_f64())
        .bind(RUNS_AT_ONCE)
        .fetch_all(&mut *transaction)
        .await
        .map_err(failed("look for versions without targets"))?;
        let mut events = rows.iter().map(|row| version_event(row, now)).collect::<Result<Vec<_>, _>>()?;
        let versions = events.len();
        let rows = sqlx::query(
            "update deliveries set due_at = $1 where id in (
                 select id from deliveries
                 where finished_at is null and due_at + make_interval(secs => $2) <= $1
                 order by due_at limit $3 for update skip locked)
             returning id, subscription_id, target, begun_by",
        )
        .bind(sql_time(now))
        .bind(late.as_secs_f64())
        .bind(RUNS_AT_ONCE)
        .fetch_all(&mut *transaction)
        .await
        .map_err(failed("look for late deliveries"))?;
        for row in &rows {
            events.push(deliveries::waiting(row)?.event(now)?);
        }
        if !events.is_empty() {
            outbox::insert(&mut transaction, &events, now).await?;
            transaction.commit().await.map_err(failed("commit late deliveries"))?;
        }
        Ok(LateDeliveries { versions, deliveries: rows.len() })
    }
}

/// The event that tells of a version.
fn version_event(row: &PgRow, now: Timestamp) -> Result<Event, CatalogError> {
    let read = || -> Result<_, sqlx::Error> {
        Ok(VersioningResult {
            run_id: row.try_get("run_id")?,
            subscription_id: row.try_get("subscription_id")?,
            url: row.try_get("url")?,
            version_id: row.try_get("id")?,
            number: row.try_get("number")?,
            kind: row.try_get("kind")?,
        })
    };
    let result = read().map_err(failed("read a version"))?;
    Event::told_again(result.run_id, &result.version_id.to_string(), EVENT_SOURCE, now, &result)
        .map_err(unreadable("an event"))
}

/// The event that begins a run.
pub(super) fn begins(row: &PgRow, now: Timestamp) -> Result<Event, CatalogError> {
    let read = failed("read a run");
    let parts = || {
        Ok((
            row.try_get("id")?,
            row.try_get("subscription_id")?,
            row.try_get::<jiff_sqlx::Timestamp, _>("scheduled_for")?.to_jiff(),
            row.try_get("trigger")?,
        ))
    };
    let (id, subscription_id, scheduled_for, trigger) = parts().map_err(read)?;
    first_event(id, subscription_id, scheduled_for, trigger, now)
}
