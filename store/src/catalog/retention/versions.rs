//! Removes versions, and what stands for them alone.

use sqlx::{PgConnection, Row};
use uuid::Uuid;

use super::{
    CatalogError, KeepingTime, ROWS_AT_ONCE, Removed, failed,
    selection::{VERSIONS_NOT_KEPT, keeping},
    sql_time,
};

/// Removes versions, with what was sent of them alone, and their texts.
pub(super) async fn remove_versions(
    connection: &mut PgConnection,
    subscription_id: i64,
    at: KeepingTime,
    removed: &mut Removed,
) -> Result<(), CatalogError> {
    let sql = format!(
        "with keeping as ({} and id = $3) select v.id, v.extract_id from keeping k {VERSIONS_NOT_KEPT} order by v.id limit $4",
        keeping()
    );
    let rows = sqlx::query(sqlx::AssertSqlSafe(sql))
        .bind(sql_time(at.now))
        .bind(sql_time(at.settled_before))
        .bind(subscription_id)
        .bind(ROWS_AT_ONCE)
        .fetch_all(&mut *connection)
        .await
        .map_err(failed("look for versions that are not kept"))?;
    if rows.is_empty() {
        return Ok(());
    }
    let ids = |column| rows.iter().map(|row| row.try_get::<i64, _>(column)).collect::<Result<Vec<_>, _>>();
    let versions = ids("id").map_err(failed("read versions that are not kept"))?;
    let extracts = ids("extract_id").map_err(failed("read versions that are not kept"))?;
    for (sql, action) in [
        ("update versions set previous = null where previous = any($1)", "part versions"),
        ("update documents set version_id = null where version_id = any($1)", "part documents from versions"),
    ] {
        sqlx::query(sql).bind(&versions).execute(&mut *connection).await.map_err(failed(action))?;
    }
    let deliveries: Vec<Uuid> = sqlx::query_scalar(
        "with parted as (delete from delivery_versions where version_id = any($1) returning delivery_id)
         select distinct delivery_id from parted",
    )
    .bind(&versions)
    .fetch_all(&mut *connection)
    .await
    .map_err(failed("part deliveries from versions"))?;
    sqlx::query(
        "delete from delivery_attempts a where a.delivery_id = any($1)
             and not exists (select from delivery_versions dv where dv.delivery_id = a.delivery_id)",
    )
    .bind(&deliveries)
    .execute(&mut *connection)
    .await
    .map_err(failed("remove attempts"))?;
    let gone = sqlx::query(
        "delete from deliveries d where d.id = any($1)
             and not exists (select from delivery_versions dv where dv.delivery_id = d.id)",
    )
    .bind(&deliveries)
    .execute(&mut *connection)
    .await
    .map_err(failed("remove deliveries"))?;
    removed.deliveries = gone.rows_affected();
    let gone = sqlx::query("delete from versions where id = any($1)")
        .bind(&versions)
        .execute(&mut *connection)
        .await
        .map_err(failed("remove versions"))?;
    removed.versions = gone.rows_affected();
    sqlx::query(
        "delete from extracts e using artifacts a where e.id = any($1) and a.id = e.artifact_id
             and not exists (select from versions v where v.extract_id = e.id)
             and not exists (select from document_heads h where h.extract_id = e.id)
             and not exists (select from document_heads h where h.url = a.source_url and h.artifact_id = a.id)",
    )
    .bind(&extracts)
    .execute(connection)
    .await
    .map_err(failed("remove texts"))?;
    Ok(())
}
