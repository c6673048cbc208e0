//! Removes runs with what they fetched, and notes the bodies that nothing points at any more.

use jiff::Timestamp;
use sqlx::{PgConnection, Row};
use uuid::Uuid;

use super::{
    CatalogError, KeepingTime, ROWS_AT_ONCE, Removed, failed,
    selection::{RUNS_NOT_KEPT, keeping},
    sql_time,
};

/// How many documents one transaction removes at most, but for those of one run.
const DOCUMENTS_AT_ONCE: i64 = 2_000;

/// Removes runs, with their documents and artifacts.
pub(super) async fn remove_runs(
    connection: &mut PgConnection,
    subscription_id: i64,
    at: KeepingTime,
    removed: &mut Removed,
) -> Result<(), CatalogError> {
    let candidates = runs_not_kept(connection, subscription_id, at).await?;
    if candidates.is_empty() {
        return Ok(());
    }
    // Before any row is locked: whoever adds an artifact shares this lock, and then may wait for rows.
    sqlx::query(
        "select pg_advisory_xact_lock(hashtextextended('bodies of ' || source_id, 0))
         from (select distinct source_id from artifacts where run_id = any($1) order by source_id) source",
    )
    .bind(&candidates)
    .execute(&mut *connection)
    .await
    .map_err(failed("lock the bodies of a source"))?;
    // Whoever had the lock before may have added to one of them.
    let mut runs = runs_not_kept(connection, subscription_id, at).await?;
    runs.retain(|run| candidates.contains(run));
    for (sql, action) in [
        ("delete from documents where run_id = any($1)", "remove documents"),
        (
            "delete from extracts e using artifacts a where a.run_id = any($1) and e.artifact_id = a.id",
            "remove texts",
        ),
        (
            "update artifacts set revisit_of = null
             where revisit_of in (select id from artifacts where run_id = any($1))",
            "part artifacts",
        ),
    ] {
        sqlx::query(sql).bind(&runs).execute(&mut *connection).await.map_err(failed(action))?;
    }
    removed.artifacts = remove_artifacts(connection, &runs, at.now).await?;
    let gone = sqlx::query("delete from runs where id = any($1)")
        .bind(&runs)
        .execute(connection)
        .await
        .map_err(failed("remove runs"))?;
    removed.runs = gone.rows_affected();
    Ok(())
}

/// The oldest runs of which nothing is needed, as many as one transaction removes.
async fn runs_not_kept(
    connection: &mut PgConnection,
    subscription_id: i64,
    at: KeepingTime,
) -> Result<Vec<Uuid>, CatalogError> {
    let sql = format!(
        "with keeping as ({} and id = $3),
         oldest as (select r.id, r.finished_at from keeping k {RUNS_NOT_KEPT} order by r.finished_at, r.id limit $4),
         counted as (
             select id, row_number() over (order by finished_at, id) as number, sum((
                 select count(*) from documents d where d.run_id = oldest.id)) over (order by finished_at, id) as documents
             from oldest)
         select id from counted where number = 1 or documents <= $5",
        keeping()
    );
    sqlx::query_scalar(sqlx::AssertSqlSafe(sql))
        .bind(sql_time(at.now))
        .bind(sql_time(at.settled_before))
        .bind(subscription_id)
        .bind(ROWS_AT_ONCE)
        .bind(DOCUMENTS_AT_ONCE)
        .fetch_all(connection)
        .await
        .map_err(failed("look for runs that are not kept"))
}

/// Removes the artifacts of runs, whose sources are locked. Returns how many there were.
async fn remove_artifacts(
    connection: &mut PgConnection,
    runs: &[Uuid],
    now: Timestamp,
) -> Result<u64, CatalogError> {
    let artifacts =
        sqlx::query("delete from artifacts where run_id = any($1) returning source_id, fetch_hash, blob_uri")
            .bind(runs)
            .fetch_all(&mut *connection)
            .await
            .map_err(failed("remove artifacts"))?;
    let bodies = || -> Result<_, sqlx::Error> {
        let sources: Vec<i64> = artifacts.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?;
        let hashes: Vec<String> = artifacts.iter().map(|row| row.try_get(1)).collect::<Result<_, _>>()?;
        let uris: Vec<String> = artifacts.iter().map(|row| row.try_get(2)).collect::<Result<_, _>>()?;
        Ok((sources, hashes, uris))
    };
    let (sources, hashes, uris) = bodies().map_err(failed("read removed artifacts"))?;
    // Artifacts that share a body have its source and hash, by which they are found.
    sqlx::query(
        "insert into removed_blobs (source_id, fetch_hash, blob_uri, created_at)
         select distinct on (body.blob_uri) body.source_id, body.fetch_hash, body.blob_uri, $4
         from unnest($1::bigint[], $2::text[], $3::text[]) as body (source_id, fetch_hash, blob_uri)
         where not exists (select from artifacts a where a.source_id = body.source_id
             and a.fetch_hash = body.fetch_hash and a.blob_uri = body.blob_uri)
         on conflict do nothing",
    )
    .bind(sources)
    .bind(hashes)
    .bind(uris)
    .bind(sql_time(now))
    .execute(connection)
    .await
    .map_err(failed("note bodies that nothing points at"))?;
    Ok(u64::try_from(artifacts.len()).unwrap_or(u64::MAX))
}
