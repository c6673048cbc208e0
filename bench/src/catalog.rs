//! What the database says of the catalog.

use events::BoxError;
use sqlx::PgPool;

/// Row versions that were written since the statistics began.
pub(crate) const ROWS_WRITTEN: &str =
    "select coalesce(sum(n_tup_ins + n_tup_upd + n_tup_del), 0)::bigint from pg_stat_user_tables";

/// Transactions that wrote anything or locked a row, of the whole server, its own housekeeping included.
pub(crate) const TRANSACTIONS: &str = "select pg_snapshot_xmax(pg_current_snapshot())::text::bigint";

/// One number.
pub(crate) async fn count(pool: &PgPool, sql: &'static str) -> Result<i64, BoxError> {
    Ok(sqlx::query_scalar(sql).fetch_one(pool).await?)
}

/// Runs a statement.
pub(crate) async fn execute(pool: &PgPool, sql: &'static str) -> Result<(), BoxError> {
    sqlx::query(sql).execute(pool).await?;
    Ok(())
}
