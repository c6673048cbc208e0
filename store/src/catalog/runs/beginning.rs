//! Runs that are begun for the first time, many at once.

use std::collections::HashSet;

use async_trait::async_trait;
use jiff::Timestamp;
use sqlx::PgPool;
use uuid::Uuid;

use crate::catalog::{CatalogError, batches::Statement, failed, sql_times};

/// A run that nobody has begun, as far as is known, and what it brings in.
pub(in crate::catalog) struct Beginning {
    pub(super) run_id: Uuid,
    pub(super) urls: Vec<String>,
    pub(super) now: Timestamp,
}

/// Begins runs, and notes their documents.
#[derive(Debug)]
pub(in crate::catalog) struct BegunRuns;

#[async_trait]
impl Statement for BegunRuns {
    type Question = Beginning;
    /// Whether it was begun by this: not when it was begun before, or has ended.
    type Answer = bool;

    fn subject(beginning: &Beginning) -> Option<String> {
        Some(beginning.run_id.to_string())
    }

    async fn ask(pool: &PgPool, beginnings: &[Beginning]) -> Result<Vec<bool>, CatalogError> {
        let (documents_of, urls): (Vec<Uuid>, Vec<&str>) = beginnings
            .iter()
            .flat_map(|beginning| beginning.urls.iter().map(|url| (beginning.run_id, url.as_str())))
            .unzip();
        let begun: Vec<Uuid> = sqlx::query_scalar(
            // Locked in the order in which whoever finishes documents locks runs.
            "with run as materialized (
                 select r.id, r.subscription_id from runs r
                 where r.id = any($1::uuid[]) and r.started_at is null and r.finished_at is null
                 order by r.id for update),
             begun as (
                 update runs r set phase = 'Running', started_at = b.now
                 from run join unnest($1::uuid[], $2::timestamptz[]) as b (id, now) on b.id = run.id
                 where r.id = run.id),
             noted as (
                 insert into documents (run_id, subscription_id, url, phase)
                 select run.id, run.subscription_id, d.url, 'Pending'
                 from run join unnest($3::uuid[], $4::text[]) as d (run_id, url) on d.run_id = run.id
                 on conflict do nothing)
             select id from run",
        )
        .bind(beginnings.iter().map(|beginning| beginning.run_id).collect::<Vec<_>>())
        .bind(sql_times(beginnings.iter().map(|beginning| beginning.now)))
        .bind(documents_of)
        .bind(urls)
        .fetch_all(pool)
        .await
        .map_err(failed("begin runs"))?;
        let begun: HashSet<Uuid> = begun.into_iter().collect();
        Ok(beginnings.iter().map(|beginning| begun.contains(&beginning.run_id)).collect())
    }
}
