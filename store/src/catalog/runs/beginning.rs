//! How runs begin: for the first time many at once, and again one by one.

use std::collections::HashSet;

use async_trait::async_trait;
use jiff::Timestamp;
use sqlx::{PgConnection, PgPool, Row};
use uuid::Uuid;

use super::end_if_complete;
use crate::catalog::{Catalog, CatalogError, batches::Statement, failed, sql_time, sql_times};

/// What a run that was begun waits for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BegunRun {
    /// URLs that are to be fetched.
    pub pending: Vec<String>,
    /// Documents that were fetched by an earlier attempt, and wait to be parsed and compared.
    pub fetched: Vec<WaitingDocument>,
}

/// A document that waits to be parsed and compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WaitingDocument {
    /// Its URL.
    pub url: String,
    /// What was fetched; none of a document that its list names no more.
    pub artifact_id: Option<i64>,
}

impl BegunRun {
    /// Whether it waits for nothing.
    pub fn is_empty(&self) -> bool {
        self.pending.is_empty() && self.fetched.is_empty()
    }
}

impl Catalog {
    /// Marks a run as running, notes the documents it has to bring in, and returns those that it has to fetch, and those
    /// that it has fetched and waits for: none when it has ended.
    ///
    /// A run may be begun again, and its source may have changed since: documents that it still waited for and that
    /// are no longer asked for are forgotten, else it would wait for them for ever. Those that a page or feed led to stay.
    ///
    /// # Errors
    /// When the catalog fails.
    pub async fn begin_run(
        &self,
        run_id: Uuid,
        urls: &[String],
        now: Timestamp,
    ) -> Result<BegunRun, CatalogError> {
        let beginning = Beginning { run_id, urls: urls.to_vec(), now };
        if !urls.is_empty() && self.begun_runs.ask(beginning).await? {
            return Ok(BegunRun { pending: urls.to_vec(), fetched: Vec::new() });
        }
        self.begin_again(run_id, urls, now).await
    }

    /// Begins a run that was begun before, or that has ended.
    async fn begin_again(
        &self,
        run_id: Uuid,
        urls: &[String],
        now: Timestamp,
    ) -> Result<BegunRun, CatalogError> {
        let mut transaction = self.pool.begin().await.map_err(failed("begin"))?;
        let is_active = sqlx::query(
            "update runs set phase = 'Running', started_at = coalesce(started_at, $2)
             where id = $1 and finished_at is null",
        )
        .bind(run_id)
        .bind(sql_time(now))
        .execute(&mut *transaction)
        .await
        .map_err(failed("begin a run"))?
        .rows_affected()
            > 0;
        if is_active {
            sqlx::query("delete from documents where run_id = $1 and phase = 'Pending' and is_base and url <> all($2)")
                .bind(run_id)
                .bind(urls)
                .execute(&mut *transaction)
                .await
                .map_err(failed("forget a run's documents"))?;
            sqlx::query(
                "insert into documents (run_id, subscription_id, url, phase)
                 select r.id, r.subscription_id, url, 'Pending' from runs r, unnest($2::text[]) as url where r.id = $1
                 on conflict do nothing",
            )
            .bind(run_id)
            .bind(urls)
            .execute(&mut *transaction)
            .await
            .map_err(failed("note a run's documents"))?;
        }
        let begun = if is_active { waited_for(&mut transaction, run_id).await? } else { BegunRun::default() };
        if begun.is_empty() {
            // Planned again, after the last document was finished and whoever did it came no further.
            end_if_complete(&mut transaction, &[run_id], now).await?;
        }
        transaction.commit().await.map_err(failed("commit the beginning of a run"))?;
        Ok(begun)
    }
}

/// A run that nobody has begun, as far as is known, and what it brings in.
pub(in crate::catalog) struct Beginning {
    run_id: Uuid,
    urls: Vec<String>,
    now: Timestamp,
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

pub(in crate::catalog) async fn waited_for(
    connection: &mut PgConnection,
    run_id: Uuid,
) -> Result<BegunRun, CatalogError> {
    let rows = sqlx::query(
        "select url, phase = 'Fetched' as is_fetched, case when not is_gone then artifact_id end as artifact_id
         from documents where run_id = $1 and finished_at is null order by url",
    )
    .bind(run_id)
    .fetch_all(connection)
    .await
    .map_err(failed("list a run's documents"))?;
    let mut waited_for = BegunRun::default();
    for row in &rows {
        let mut read = || -> Result<(), sqlx::Error> {
            let url: String = row.try_get("url")?;
            if row.try_get("is_fetched")? {
                waited_for.fetched.push(WaitingDocument { url, artifact_id: row.try_get("artifact_id")? });
            } else {
                waited_for.pending.push(url);
            }
            Ok(())
        };
        read().map_err(failed("read a run's documents"))?;
    }
    Ok(waited_for)
}
