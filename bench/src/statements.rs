//! Where PostgreSQL's time goes: the statements that took most of it in a phase. Only where asked for.

use events::BoxError;
use sqlx::{PgPool, Row};

use crate::catalog;
use crate::report::Report;

/// How many statements are shown.
const SHOWN: i64 = 12;
/// How much of each.
const CHARACTERS: i32 = 90;

pub(crate) struct Statements {
    pool: PgPool,
    is_on: bool,
}

impl Statements {
    /// The server must have been started with `pg_stat_statements`.
    pub(crate) async fn new(pool: &PgPool, is_on: bool) -> Result<Self, BoxError> {
        if is_on {
            catalog::execute(pool, "create extension pg_stat_statements").await?;
        }
        Ok(Self { pool: pool.clone(), is_on })
    }

    /// A phase begins.
    pub(crate) async fn reset(&self) -> Result<(), BoxError> {
        if self.is_on {
            catalog::execute(&self.pool, "select pg_stat_statements_reset()").await?;
        }
        Ok(())
    }

    /// A phase has ended.
    pub(crate) async fn note(&self, phase: &str, report: &mut Report) -> Result<(), BoxError> {
        if !self.is_on {
            return Ok(());
        }
        let rows = sqlx::query(
            "select calls, plans, total_exec_time / 1000 as seconds, total_plan_time / 1000 as planning,
                 wal_bytes::bigint as wal,
                 left(regexp_replace(query, '\\s+', ' ', 'g'), $2) as query
             from pg_stat_statements order by total_exec_time + total_plan_time desc limit $1",
        )
        .bind(SHOWN)
        .bind(CHARACTERS)
        .fetch_all(&self.pool)
        .await?;
        let mut list = format!("SQL of the {phase}:\n");
        for row in rows {
            let (calls, plans, wal): (i64, i64, i64) = (row.get("calls"), row.get("plans"), row.get("wal"));
            let (seconds, planning): (f64, f64) = (row.get("seconds"), row.get("planning"));
            let query: String = row.get("query");
            list.push_str(&format!(
                "\n- {seconds:.2} s, {calls} calls; {planning:.2} s for {plans} plans; {wal} bytes of log: `{query}`"
            ));
        }
        report.note(list);
        Ok(())
    }
}
