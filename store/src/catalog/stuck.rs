//! Runs without progress: their lost event is sent again, and in the end they are given up.

use events::{Event, run_reasons};
use jiff::{SignedDuration, Timestamp};
use sqlx::{Row, postgres::PgRow};
use uuid::Uuid;

use super::{CatalogError, Lead, failed, outbox, schedule::first_event, sql_time};

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
