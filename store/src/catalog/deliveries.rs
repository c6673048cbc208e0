//! Plans of deliveries: which versions are sent to which target, together with which, and when.

use events::{DeliveryRequest, Event};
use jiff::{SignedDuration, Timestamp};
use serde_json::value::RawValue;
use sqlx::{PgConnection, Row, postgres::PgRow};
use uuid::Uuid;

use super::{Catalog, CatalogError, DigestSettings, TargetSettings, failed, outbox, sql_time, unreadable};

mod planning;

pub(super) use planning::{PlanWorkOf, UnwantedVersions};

/// The most changes that one delivery carries.
const MOST_CHANGES: i32 = 100;
/// The most bytes of JSON that the changes of one delivery take, unless one alone takes more.
const MOST_BYTES: i64 = 512 * 1024;
/// How soon after its first change a run's digest is looked at, to see whether the run has ended.
const RUN_LOOKED_AT_AFTER: SignedDuration = SignedDuration::from_secs(2);
const EVENT_SOURCE: &str = "/tipstaff/catalog/deliveries";

/// A version for which targets are to be found.
#[derive(Clone, Debug)]
pub struct PlanWork {
    /// Whether that was done before.
    pub is_planned: bool,
    /// What differs, as it was stored.
    pub change: Box<RawValue>,
    /// The version's text.
    pub extract_id: i64,
    /// The text of the version that it was compared with.
    pub previous_extract_id: Option<i64>,
    /// Who is told of changes.
    pub targets: Vec<TargetSettings>,
}

/// A target that wants a version.
#[derive(Clone, Copy, Debug)]
pub struct WantedBy<'a> {
    /// Its name.
    pub target: &'a str,
    /// What of its changes is sent together.
    pub digest: DigestSettings,
}

impl Catalog {
    /// What is needed to find the targets of a version.
    ///
    /// # Errors
    /// When the catalog fails.
    pub async fn plan_work(&self, version_id: i64) -> Result<Option<PlanWork>, CatalogError> {
        self.plan_work.ask(version_id).await
    }

    /// Makes the deliveries of a version, or adds it to digests, and returns the events of those that are due now; the
    /// others' wait in the outbox. Done again, it returns the events of those that are due and not finished.
    ///
    /// # Errors
    /// When the catalog fails; then nothing was made.
    pub async fn plan_deliveries(
        &self,
        version_id: i64,
        wanted: &[WantedBy<'_>],
        now: Timestamp,
    ) -> Result<Vec<Event>, CatalogError> {
        if wanted.is_empty() && self.unwanted_versions.ask((version_id, now)).await? {
            return Ok(Vec::new());
        }
        let mut transaction = self.pool.begin().await.map_err(failed("begin"))?;
        let row = sqlx::query(
            "update versions set planned_at = $2 where id = $1 and planned_at is null
             returning subscription_id, run_id, octet_length(change::text)::bigint as bytes",
        )
        .bind(version_id)
        .bind(sql_time(now))
        .fetch_optional(&mut *transaction)
        .await
        .map_err(failed("plan a version's deliveries"))?;
        let mut due = Vec::new();
        if let Some(row) = row {
            let version = || -> Result<_, sqlx::Error> {
                Ok(PlannedVersion {
                    id: version_id,
                    subscription_id: row.try_get("subscription_id")?,
                    run_id: row.try_get("run_id")?,
                    bytes: row.try_get("bytes")?,
                })
            };
            let version = version().map_err(failed("read a version"))?;
            for wanted in wanted {
                due.extend(plan(&mut transaction, &version, wanted, now).await?);
            }
        } else {
            let rows = sqlx::query(
                "select d.id, d.subscription_id, d.target, d.begun_by from deliveries d
                 where d.id in (select delivery_id from delivery_versions where version_id = $1)
                     and d.finished_at is null and d.due_at <= $2",
            )
            .bind(version_id)
            .bind(sql_time(now))
            .fetch_all(&mut *transaction)
            .await
            .map_err(failed("look up deliveries"))?;
            for row in &rows {
                due.push(waiting(row)?.event(now)?);
            }
        }
        transaction.commit().await.map_err(failed("commit deliveries"))?;
        Ok(due)
    }
}

/// A delivery that is due, now or later.
pub(super) struct WaitingDelivery {
    pub(super) id: Uuid,
    pub(super) subscription_id: i64,
    pub(super) target: String,
    pub(super) begun_by: Uuid,
}

impl WaitingDelivery {
    /// The event that brings it to its target.
    pub(super) fn event(&self, now: Timestamp) -> Result<Event, CatalogError> {
        let request = DeliveryRequest {
            delivery_id: self.id,
            subscription_id: self.subscription_id,
            target: self.target.clone(),
        };
        // Each attempt is an event of its own.
        Event::told_again(self.begun_by, &format!("{} {now}", self.id), EVENT_SOURCE, now, &request)
            .map_err(unreadable("an event"))
    }
}

struct PlannedVersion {
    id: i64,
    subscription_id: i64,
    run_id: Uuid,
    bytes: i64,
}

/// Makes a delivery, or adds the version to one, and returns the events of those that are due now.
async fn plan(
    connection: &mut PgConnection,
    version: &PlannedVersion,
    wanted: &WantedBy<'_>,
    now: Timestamp,
) -> Result<Vec<Event>, CatalogError> {
    let far = |after: SignedDuration| now.checked_add(after).unwrap_or(Timestamp::MAX);
    let (run_id, due_at) = match wanted.digest {
        DigestSettings::None => {
            let id = delivery_id(version, wanted.target);
            insert(connection, id, version, wanted.target, None, false, now, now).await?;
            return Ok(vec![version.waiting(id, wanted.target).event(now)?]);
        }
        DigestSettings::Run => (Some(version.run_id), far(RUN_LOOKED_AT_AFTER)),
        DigestSettings::WindowMs(window) => {
            (None, far(SignedDuration::from_millis(i64::try_from(window).unwrap_or(i64::MAX))))
        }
    };
    let open = sqlx::query(
        "select id, begun_by, changes, bytes from deliveries
         where subscription_id = $1 and target = $2 and phase = 'Collecting' and run_id is not distinct from $3 for update",
    )
    .bind(version.subscription_id)
    .bind(wanted.target)
    .bind(run_id)
    .fetch_optional(&mut *connection)
    .await
    .map_err(failed("look up a digest"))?;
    let mut due = Vec::new();
    if let Some(row) = open {
        let read = || Ok((row.try_get("id")?, row.try_get("changes")?, row.try_get("bytes")?));
        let (id, changes, bytes): (Uuid, i32, i64) = read().map_err(failed("read a digest"))?;
        if changes < MOST_CHANGES && bytes + version.bytes <= MOST_BYTES {
            sqlx::query("update deliveries set changes = changes + 1, bytes = bytes + $2 where id = $1")
                .bind(id)
                .bind(version.bytes)
                .execute(&mut *connection)
                .await
                .map_err(failed("add to a digest"))?;
            add_version(connection, id, version, wanted.target).await?;
            return Ok(due);
        }
        // It is full: it goes now, and another begins.
        sqlx::query("update deliveries set phase = 'Pending', due_at = $2 where id = $1")
            .bind(id)
            .bind(sql_time(now))
            .execute(&mut *connection)
            .await
            .map_err(failed("close a digest"))?;
        let begun_by = row.try_get("begun_by").map_err(failed("read a digest"))?;
        due.push(WaitingDelivery { begun_by, ..version.waiting(id, wanted.target) }.event(now)?);
    }
    let id = delivery_id(version, wanted.target);
    insert(connection, id, version, wanted.target, run_id, true, due_at, now).await?;
    outbox::insert(connection, &[version.waiting(id, wanted.target).event(now)?], due_at).await?;
    Ok(due)
}

#[allow(clippy::too_many_arguments, reason = "the columns of one row")]
async fn insert(
    connection: &mut PgConnection,
    id: Uuid,
    version: &PlannedVersion,
    target: &str,
    run_id: Option<Uuid>,
    is_collecting: bool,
    due_at: Timestamp,
    now: Timestamp,
) -> Result<(), CatalogError> {
    sqlx::query(
        "insert into deliveries (id, subscription_id, target, phase, run_id, changes, bytes, due_at, created_at, begun_by)
         values ($1, $2, $3, case when $4 then 'Collecting' else 'Pending' end, $5, 1, $6, $7, $8, $9)",
    )
    .bind(id)
    .bind(version.subscription_id)
    .bind(target)
    .bind(is_collecting)
    .bind(run_id)
    .bind(version.bytes)
    .bind(sql_time(due_at))
    .bind(sql_time(now))
    .bind(version.run_id)
    .execute(&mut *connection)
    .await
    .map_err(failed("make a delivery"))?;
    add_version(connection, id, version, target).await
}

async fn add_version(
    connection: &mut PgConnection,
    id: Uuid,
    version: &PlannedVersion,
    target: &str,
) -> Result<(), CatalogError> {
    sqlx::query("insert into delivery_versions (version_id, target, delivery_id) values ($1, $2, $3)")
        .bind(version.id)
        .bind(target)
        .bind(id)
        .execute(connection)
        .await
        .map_err(failed("add a version to a delivery"))?;
    Ok(())
}

impl PlannedVersion {
    fn waiting(&self, id: Uuid, target: &str) -> WaitingDelivery {
        WaitingDelivery {
            id,
            subscription_id: self.subscription_id,
            target: target.to_owned(),
            begun_by: self.run_id,
        }
    }
}

/// The id of the delivery that begins with a version: planned again after a crash, it is the same.
fn delivery_id(version: &PlannedVersion, target: &str) -> Uuid {
    Uuid::new_v5(&version.run_id, format!("{}\n{target}", version.id).as_bytes())
}

pub(super) fn waiting(row: &PgRow) -> Result<WaitingDelivery, CatalogError> {
    let read = || -> Result<_, sqlx::Error> {
        Ok(WaitingDelivery {
            id: row.try_get("id")?,
            subscription_id: row.try_get("subscription_id")?,
            target: row.try_get("target")?,
            begun_by: row.try_get("begun_by")?,
        })
    };
    read().map_err(failed("read a delivery"))
}
