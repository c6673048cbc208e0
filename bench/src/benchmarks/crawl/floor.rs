//! The same documents by a bare program: GET, SHA-256, PUT, and one row in a table with the same indexes.

use aws_sdk_s3::{Client, primitives::ByteStream};
use events::BoxError;
use futures::{StreamExt, TryStreamExt, stream};
use http::{StatusCode, header::IF_NONE_MATCH};
use sha2::{Digest, Sha256};
use sqlx::{
    PgPool,
    postgres::{PgConnectOptions, PgPoolOptions},
};
use tests::{Installation, s3_client};
use uuid::Uuid;

use crate::catalog;

/// The SHA-256 of nothing.
const NO_BYTES: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

pub(super) struct Floor {
    http: reqwest::Client,
    s3: Client,
    bucket: String,
    pool: PgPool,
    source: i64,
}

impl Floor {
    pub(super) async fn new(tipstaff: &Installation) -> Result<Self, BoxError> {
        let pool = &tipstaff.pool;
        catalog::execute(pool, "create schema floor").await?;
        catalog::execute(pool, "create table floor.artifacts (like artifacts including all)").await?;
        let options: PgConnectOptions = (*pool.connect_options()).clone();
        let s3 = tipstaff.stack.s3()?;
        Ok(Self {
            http: reqwest::Client::builder().no_proxy().build()?,
            s3: s3_client(&s3),
            bucket: s3.bucket,
            pool: PgPoolOptions::new().max_connections(16).connect_with(options).await?,
            source: sqlx::query_scalar("select min(id) from sources").fetch_one(pool).await?,
        })
    }

    /// Fetches all, `writers` at a time.
    pub(super) async fn fetch(&self, urls: &[String], writers: usize) -> Result<(), BoxError> {
        let run = Uuid::new_v4();
        stream::iter(urls)
            .map(|url| self.one(run, url))
            .buffer_unordered(writers)
            .try_for_each(|()| async { Ok(()) })
            .await
    }

    /// Asks whether any has changed since `edition`, which none has, `writers` at a time: a request and a row each.
    pub(super) async fn check(&self, urls: &[String], edition: &str, writers: usize) -> Result<(), BoxError> {
        let run = Uuid::new_v4();
        stream::iter(urls)
            .map(|url| self.one_check(run, url, edition))
            .buffer_unordered(writers)
            .try_for_each(|()| async { Ok(()) })
            .await
    }

    async fn one_check(&self, run: Uuid, url: &str, edition: &str) -> Result<(), BoxError> {
        let response = self.http.get(url).header(IF_NONE_MATCH, edition).send().await?;
        if response.status() != StatusCode::NOT_MODIFIED {
            return Err(format!("{url} has changed").into());
        }
        self.insert(run, url, NO_BYTES, "", 304, 0).await
    }

    #[allow(clippy::disallowed_methods, reason = "the bodies are the benchmark's own")]
    async fn one(&self, run: Uuid, url: &str) -> Result<(), BoxError> {
        let response = self.http.get(url).send().await?.error_for_status()?;
        let status = i32::from(response.status().as_u16());
        let body = response.bytes().await?;
        let hash: String = Sha256::digest(&body).iter().map(|byte| format!("{byte:02x}")).collect();
        let size = i64::try_from(body.len())?;
        let key = format!("floor/{hash}.bin");
        self.s3.put_object().bucket(&self.bucket).key(&key).body(ByteStream::from(body)).send().await?;
        self.insert(run, url, &hash, &key, status, size).await
    }

    async fn insert(
        &self,
        run: Uuid,
        url: &str,
        hash: &str,
        key: &str,
        status: i32,
        size: i64,
    ) -> Result<(), BoxError> {
        sqlx::query(
            "insert into floor.artifacts (source_id, run_id, source_url, final_url, fetch_hash, blob_uri, status, headers,
                 byte_size, fetched_at)
             values ($1, $2, $3, $3, $4, $5, $6, '[]', $7, now())",
        )
        .bind(self.source)
        .bind(run)
        .bind(url)
        .bind(hash)
        .bind(format!("s3://{}/{key}", self.bucket))
        .bind(status)
        .bind(size)
        .execute(&self.pool)
        .await?;
        Ok(())
    }
}
