//! For which versions targets are to be found, asked for many at once, and those that no target wants.

use std::{collections::HashSet, time::Duration};

use async_trait::async_trait;
use jiff::Timestamp;
use sqlx::{PgPool, Row, postgres::PgRow, types::Json};

use super::PlanWork;
use crate::catalog::{
    CatalogError, SubscriptionSettings,
    batches::{LOOKING_UP, STORING, Statement, question_of},
    failed, sql_times,
};

/// Looks up what is needed to find the targets of versions.
#[derive(Debug)]
pub(in crate::catalog) struct PlanWorkOf;

#[async_trait]
impl Statement for PlanWorkOf {
    /// The version's id.
    type Question = i64;
    type Answer = Option<PlanWork>;

    const PACE: Duration = LOOKING_UP;

    async fn ask(pool: &PgPool, versions: &[i64]) -> Result<Vec<Option<PlanWork>>, CatalogError> {
        let rows = sqlx::query(
            "select q.question, v.planned_at is not null as is_planned, v.change, v.extract_id,
                 before.extract_id as previous_extract_id, s.settings
             from unnest($1::bigint[]) with ordinality as q (id, question) join versions v on v.id = q.id
             join subscriptions s on s.id = v.subscription_id left join versions before on before.id = v.previous",
        )
        .bind(versions)
        .fetch_all(pool)
        .await
        .map_err(failed("look up versions"))?;
        let mut found: Vec<Option<PlanWork>> = versions.iter().map(|_| None).collect();
        for row in &rows {
            let mut read = || -> Result<(), sqlx::Error> {
                if let Some(found) = found.get_mut(question_of(row)?) {
                    *found = Some(plan_work(row)?);
                }
                Ok(())
            };
            read().map_err(failed("read a version"))?;
        }
        Ok(found)
    }
}

fn plan_work(row: &PgRow) -> Result<PlanWork, sqlx::Error> {
    Ok(PlanWork {
        is_planned: row.try_get("is_planned")?,
        change: row.try_get::<Json<_>, _>("change")?.0,
        extract_id: row.try_get("extract_id")?,
        previous_extract_id: row.try_get("previous_extract_id")?,
        targets: row.try_get::<Json<SubscriptionSettings>, _>("settings")?.0.targets,
    })
}

/// Notes that versions are planned, with no deliveries.
#[derive(Debug)]
pub(in crate::catalog) struct UnwantedVersions;

#[async_trait]
impl Statement for UnwantedVersions {
    /// The version's id.
    type Question = (i64, Timestamp);
    /// Whether this has planned it; else it was planned before.
    type Answer = bool;

    const PACE: Duration = STORING;

    fn subject((version_id, _): &Self::Question) -> Option<String> {
        Some(version_id.to_string())
    }

    async fn ask(pool: &PgPool, versions: &[Self::Question]) -> Result<Vec<bool>, CatalogError> {
        let planned: Vec<i64> = sqlx::query_scalar(
            "with unwanted as materialized (
                 -- In one order, so that no two statements wait for each other.
                 select v.id, u.now from unnest($1::bigint[], $2::timestamptz[]) as u (id, now)
                 join versions v on v.id = u.id where v.planned_at is null order by v.id for no key update of v)
             update versions v set planned_at = u.now from unwanted u where v.id = u.id returning v.id",
        )
        .bind(versions.iter().map(|(version_id, _)| *version_id).collect::<Vec<_>>())
        .bind(sql_times(versions.iter().map(|(_, now)| *now)))
        .fetch_all(pool)
        .await
        .map_err(failed("plan versions that nobody wants"))?;
        let planned: HashSet<i64> = planned.into_iter().collect();
        Ok(versions.iter().map(|(version_id, _)| planned.contains(version_id)).collect())
    }
}
