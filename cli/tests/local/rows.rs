//! The rows that a process left in its private database.

use std::path::{Path, PathBuf};

use jiff::Timestamp;
use sqlx::postgres::PgPool;
use sqlx::{AssertSqlSafe, Row};
use store::private_postgres::{PrivatePostgres, PrivatePostgresOptions};

/// As `tipstaff local` names it.
const DATABASE: &str = "tipstaff";

fn options(data_dir: PathBuf) -> PrivatePostgresOptions {
    // The catalog's pool of the process under test, and this one's.
    PrivatePostgresOptions { data_dir, port: None, durable: false, max_connections: 40 }
}

/// The database of a process that has ended, started again.
pub(crate) struct Rows {
    postgres: PrivatePostgres,
    pool: PgPool,
}

pub(crate) struct ArtifactRow {
    pub(crate) source_id: i64,
    pub(crate) source_url: String,
    pub(crate) fetch_hash: String,
    pub(crate) blob_uri: String,
    pub(crate) fetched_at: Timestamp,
}

impl Rows {
    pub(crate) async fn open(data: &Path) -> Rows {
        let options = options(data.join("postgres"));
        let postgres = PrivatePostgres::start(&options).await.unwrap();
        let pool = PgPool::connect(&postgres.url(DATABASE)).await.unwrap();
        Rows { postgres, pool }
    }

    /// A new database outside of any data directory of `tipstaff`.
    pub(crate) async fn create(place: &Path) -> Rows {
        let options = options(place.join("postgres"));
        let postgres = PrivatePostgres::start(&options).await.unwrap();
        postgres.create_database_if_missing(DATABASE).await.unwrap();
        postgres.stop().await;
        Rows::open(place).await
    }

    pub(crate) fn url(&self) -> String {
        self.postgres.url(DATABASE)
    }

    pub(crate) async fn close(self) {
        self.pool.close().await;
        self.postgres.stop().await;
    }

    pub(crate) async fn count(&self, table: &'static str) -> i64 {
        let sql = AssertSqlSafe(format!("select count(*) from {table}"));
        sqlx::query_scalar(sql).fetch_one(&self.pool).await.unwrap()
    }

    /// In the order in which they were stored.
    pub(crate) async fn artifacts(&self) -> Vec<ArtifactRow> {
        let sql = "select source_id, source_url, fetch_hash, blob_uri,
                       (extract(epoch from fetched_at) * 1000000)::bigint as fetched_at
                   from artifacts order by id";
        let rows = sqlx::query(sql).fetch_all(&self.pool).await.unwrap();
        rows.iter()
            .map(|row| ArtifactRow {
                source_id: row.get("source_id"),
                source_url: row.get("source_url"),
                fetch_hash: row.get("fetch_hash"),
                blob_uri: row.get("blob_uri"),
                fetched_at: Timestamp::from_microsecond(row.get("fetched_at")).unwrap(),
            })
            .collect()
    }

    /// The generations of live sources, then of live subscriptions.
    pub(crate) async fn generations(&self) -> Vec<i64> {
        let sql = "select generation from (
                       select 1 as kind, id, generation from sources where deleted_at is null
                       union all select 2, id, generation from subscriptions where deleted_at is null) objects
                   order by kind, id";
        sqlx::query_scalar(sql).fetch_all(&self.pool).await.unwrap()
    }

    pub(crate) async fn live_sources(&self) -> Vec<String> {
        let sql = "select name from sources where deleted_at is null order by name";
        sqlx::query_scalar(sql).fetch_all(&self.pool).await.unwrap()
    }

    /// What no release has made.
    pub(crate) async fn make_other_table_of_runs(&self) {
        sqlx::raw_sql("create table runs (lap integer)").execute(&self.pool).await.unwrap();
    }

    /// A row as an operator makes it, for an object whose uid an API server chose.
    pub(crate) async fn insert_source_of_a_cluster(&self, name: &str) {
        let sql = "insert into sources (uid, namespace, name, generation, settings, created_at, updated_at)
                   values (gen_random_uuid(), 'default', $1, 1, '{}', now(), now())";
        sqlx::query(sql).bind(name).execute(&self.pool).await.unwrap();
    }

    /// Sets a subscription back by an hour, as if nothing had fired it since, and closes.
    pub(crate) async fn miss_due_times(self, name: &str) {
        let sql = "update subscriptions set scheduled_through = scheduled_through - interval '1 hour' where name = $1";
        let updated = sqlx::query(sql).bind(name).execute(&self.pool).await.unwrap();
        assert_eq!(updated.rows_affected(), 1);
        self.close().await;
    }
}
