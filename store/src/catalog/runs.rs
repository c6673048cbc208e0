//! Runs: what is known of one, and how one ends.

use std::{fmt, str::FromStr};

use events::run_reasons;
use jiff::Timestamp;
use sqlx::{PgConnection, Row, postgres::PgRow, types::Json};
use uuid::Uuid;

use super::{Catalog, CatalogError, ObjectKey, SourceSettings, failed, sql_time, time};

mod beginning;

pub use beginning::{BegunRun, WaitingDocument};
pub(super) use beginning::{BegunRuns, waited_for};

/// What made a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Trigger {
    /// The subscription was due.
    Schedule,
    /// Somebody asked for it.
    Request,
    /// Stored artifacts are to be worked on again.
    Backfill,
}

impl fmt::Display for Trigger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Schedule => "Schedule",
            Self::Request => "Request",
            Self::Backfill => "Backfill",
        })
    }
}

/// How far a run is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RunPhase {
    /// It waits to be planned.
    Pending,
    /// Its documents are being worked on.
    Running,
    /// All of its documents are stored.
    Succeeded,
    /// A document failed, or the run was ended from outside.
    Failed,
    /// It was not to run; the reason says why.
    Skipped,
}

impl RunPhase {
    /// The phase's name in the catalog and in the status.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pending => "Pending",
            Self::Running => "Running",
            Self::Succeeded => "Succeeded",
            Self::Failed => "Failed",
            Self::Skipped => "Skipped",
        }
    }
}

impl FromStr for RunPhase {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        [Self::Pending, Self::Running, Self::Succeeded, Self::Failed, Self::Skipped]
            .into_iter()
            .find(|phase| phase.name() == name)
            .ok_or_else(|| format!("`{name}` is not a phase of a run"))
    }
}

/// What the schedule role needs to plan a run.
#[derive(Clone, Debug)]
pub struct RunPlan {
    /// How far the run is.
    pub phase: RunPhase,
    /// The catalog's id of the subscription.
    pub subscription_id: i64,
    /// The catalog's id of the source.
    pub source_id: i64,
    /// How the source is fetched.
    pub source: SourceSettings,
    /// Until when scheduled runs of the source are held back, since it fails.
    pub held_back_until: Option<Timestamp>,
    /// Of a backfill: whether it is of all that is stored, and not only of what is the latest of each document.
    pub is_of_all: bool,
}

/// A run as it is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunReport {
    /// The run's id.
    pub id: Uuid,
    /// The catalog's id of the subscription.
    pub subscription_id: i64,
    /// The subscription.
    pub subscription: ObjectKey,
    /// The due time, or when it was asked for.
    pub scheduled_for: Timestamp,
    /// How far it is.
    pub phase: RunPhase,
    /// A CamelCase word for how it ended.
    pub reason: Option<String>,
    /// A sentence for a person.
    pub message: Option<String>,
    /// Whether any document changed, where it succeeded.
    pub changed: Option<bool>,
    /// The trace of its events.
    pub trace_id: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it ended.
    pub finished_at: Option<Timestamp>,
}

pub(super) const RUN_COLUMNS: &str = "r.id, r.subscription_id, r.scheduled_for, r.phase, r.reason, r.message, r.changed, r.trace_id, \
     r.created_at, r.finished_at, s.uid, s.namespace, s.name";

/// An active run that is held up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetBackRun {
    /// The run's id.
    pub id: Uuid,
    /// The catalog's id of its subscription.
    pub subscription_id: i64,
    /// By what.
    pub message: String,
}

impl Catalog {
    /// What is needed to plan a run, if there is such a run.
    ///
    /// # Errors
    /// When the catalog fails.
    pub async fn run_plan(&self, run_id: Uuid) -> Result<Option<RunPlan>, CatalogError> {
        let row = sqlx::query(
            "select r.phase, r.is_of_all, s.id as subscription_id, o.id as source_id, o.settings, o.held_back_until
             from runs r join subscriptions s on s.id = r.subscription_id join sources o on o.id = s.source_id
             where r.id = $1",
        )
        .bind(run_id)
        .fetch_optional(&self.pool)
        .await
        .map_err(failed("look up a run"))?;
        row.map(|row| {
            Ok(RunPlan {
                phase: phase(&row)?,
                subscription_id: row.try_get("subscription_id")?,
                source_id: row.try_get("source_id")?,
                source: row.try_get::<Json<SourceSettings>, _>("settings")?.0,
                held_back_until: time(row.try_get("held_back_until")?),
                is_of_all: row.try_get("is_of_all")?,
            })
        })
        .transpose()
        .map_err(failed("read a run"))
    }

    /// Ends a run as failed as a whole, if it is still active.
    ///
    /// # Errors
    /// When the catalog fails.
    pub async fn fail_run(
        &self,
        run_id: Uuid,
        reason: &str,
        message: &str,
        now: Timestamp,
    ) -> Result<(), CatalogError> {
        sqlx::query(
            "update runs set phase = 'Failed', reason = $2, message = $3, finished_at = $4
             where id = $1 and finished_at is null",
        )
        .bind(run_id)
        .bind(reason)
        .bind(message)
        .bind(sql_time(now))
        .execute(&self.pool)
        .await
        .map_err(failed("end a run"))?;
        Ok(())
    }

    /// Ends a run as skipped before anything was fetched for it, if it is still active.
    ///
    /// # Errors
    /// When the catalog fails.
    pub async fn skip_run(
        &self,
        run_id: Uuid,
        reason: &str,
        message: &str,
        now: Timestamp,
    ) -> Result<(), CatalogError> {
        sqlx::query(
            "update runs set phase = 'Skipped', reason = $2, message = $3, finished_at = $4
             where id = $1 and finished_at is null",
        )
        .bind(run_id)
        .bind(reason)
        .bind(message)
        .bind(sql_time(now))
        .execute(&self.pool)
        .await
        .map_err(failed("skip a run"))?;
        Ok(())
    }

    /// The ids of all active runs.
    ///
    /// # Errors
    /// When the catalog fails.
    pub async fn active_runs(&self) -> Result<Vec<Uuid>, CatalogError> {
        sqlx::query_scalar("select id from runs where finished_at is null")
            .fetch_all(&self.pool)
            .await
            .map_err(failed("list active runs"))
    }

    /// Notes on an active run that something stands in its way, which is tried again.
    ///
    /// # Errors
    /// When the catalog fails.
    pub async fn note_run_setback(
        &self,
        run_id: Uuid,
        reason: &str,
        message: &str,
    ) -> Result<(), CatalogError> {
        sqlx::query("update runs set reason = $2, message = $3 where id = $1 and finished_at is null")
            .bind(run_id)
            .bind(reason)
            .bind(message)
            .execute(&self.pool)
            .await
            .map_err(failed("note a run's setback"))?;
        Ok(())
    }

    /// Those of the given runs that are active and held up.
    ///
    /// # Errors
    /// When the catalog fails.
    pub async fn set_back_runs(&self, ids: &[Uuid]) -> Result<Vec<SetBackRun>, CatalogError> {
        let rows = sqlx::query(
            "select id, subscription_id, concat_ws(': ', reason, message) as message from runs
             where id = any($1) and finished_at is null and reason is not null",
        )
        .bind(ids)
        .fetch_all(&self.pool)
        .await
        .map_err(failed("look up runs that are held up"))?;
        rows.iter()
            .map(|row| {
                Ok(SetBackRun {
                    id: row.try_get("id")?,
                    subscription_id: row.try_get("subscription_id")?,
                    message: row.try_get("message")?,
                })
            })
            .collect::<Result<_, _>>()
            .map_err(failed("read runs that are held up"))
    }

    /// Those of the given runs that have ended.
    ///
    /// # Errors
    /// When the catalog fails.
    pub async fn ended_runs(&self, ids: &[Uuid]) -> Result<Vec<RunReport>, CatalogError> {
        let sql = format!(
            "select {RUN_COLUMNS} from runs r join subscriptions s on s.id = r.subscription_id
             where r.id = any($1) and r.finished_at is not null order by r.finished_at"
        );
        let rows = sqlx::query(sqlx::AssertSqlSafe(sql))
            .bind(ids)
            .fetch_all(&self.pool)
            .await
            .map_err(failed("look up ended runs"))?;
        rows.iter().map(|row| report(row).map_err(failed("read a run"))).collect()
    }
}

/// Ends those of the runs that wait for none of their documents any more. The caller holds the runs' rows locked.
///
/// The first run that has read a list to its end is noted with its subscription: what is found later is new.
pub(super) async fn end_if_complete(
    connection: &mut PgConnection,
    runs: &[Uuid],
    now: Timestamp,
) -> Result<(), CatalogError> {
    sqlx::query(
        "with complete as materialized (
             -- Looked at first: a large run asks this after each of its documents.
             select run.id from unnest($1::uuid[]) as run (id)
             where not exists (select from documents d where d.run_id = run.id and d.finished_at is null)),
         ended as (
             update runs r set finished_at = $2,
                 phase = case when d.failed > 0 then 'Failed' else 'Succeeded' end,
                 changed = case when d.failed > 0 and not d.changed then null else d.changed end,
                 reason = case when d.failed > 0 then d.reason when r.trigger = 'Backfill' then $5
                     when d.changed then $3 else $4 end,
                 message = case when d.failed = 0 and r.trigger = 'Backfill'
                     then format('%s stored documents were extracted again%s', d.count,
                         case when r.is_of_all then ', and what was stored of them before was handed on' else '' end)
                     else d.message end
             from complete c cross join lateral (
                 select count(*), count(*) filter (where phase = 'Failed') as failed,
                     coalesce(bool_or(changed), false) as changed,
                     -- Of one and the same document; where none failed, what is to be said of a list.
                     (array_agg(reason order by url) filter (where phase = 'Failed'))[1] as reason,
                     coalesce((array_agg(message order by url) filter (where phase = 'Failed'))[1],
                              (array_agg(message order by url) filter (where message is not null))[1]) as message
                 from documents where run_id = c.id having count(*) > 0) d
             where r.id = c.id and r.finished_at is null
             returning r.id, r.subscription_id, r.created_at),
         reader as materialized (
             select s.id, e.id as run_id, e.created_at from subscriptions s join ended e on e.subscription_id = s.id
             where s.list_read_by is null and (s.list_reset_at is null or s.list_reset_at <= e.created_at)
                 and exists (select from documents d where d.run_id = e.id and d.is_whole)
                 and not exists (select from documents d where d.run_id = e.id and d.is_list
                     and (not d.is_whole or d.phase = 'Failed'))
             -- Others lock the subscription first and then its runs: then a later run notes it.
             for no key update of s skip locked)
         update subscriptions s set list_read_by = first.run_id
         from (select distinct on (id) id, run_id from reader order by id, created_at, run_id) first
         where s.id = first.id",
    )
    .bind(runs)
    .bind(sql_time(now))
    .bind(run_reasons::CHANGED)
    .bind(run_reasons::UNCHANGED)
    .bind(run_reasons::BACKFILLED)
    .execute(connection)
    .await
    .map_err(failed("end runs"))?;
    Ok(())
}

fn phase(row: &PgRow) -> Result<RunPhase, sqlx::Error> {
    row.try_get::<String, _>("phase")?.parse().map_err(|error: String| sqlx::Error::Decode(error.into()))
}

pub(super) fn report(row: &PgRow) -> Result<RunReport, sqlx::Error> {
    Ok(RunReport {
        id: row.try_get("id")?,
        subscription_id: row.try_get("subscription_id")?,
        subscription: ObjectKey {
            uid: row.try_get("uid")?,
            namespace: row.try_get("namespace")?,
            name: row.try_get("name")?,
        },
        scheduled_for: row.try_get::<jiff_sqlx::Timestamp, _>("scheduled_for")?.to_jiff(),
        phase: phase(row)?,
        reason: row.try_get("reason")?,
        message: row.try_get("message")?,
        changed: row.try_get("changed")?,
        trace_id: row.try_get("trace_id")?,
        created_at: row.try_get::<jiff_sqlx::Timestamp, _>("created_at")?.to_jiff(),
        finished_at: time(row.try_get("finished_at")?),
    })
}
