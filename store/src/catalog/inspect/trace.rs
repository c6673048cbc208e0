//! All that a run did.

use std::collections::HashMap;

use jiff::Timestamp;
use serde::Serialize;
use sqlx::{Row, postgres::PgRow};
use uuid::Uuid;

use super::{
    ArtifactRow, AttemptRow, DeliveryRow, RunRow, VersionRow,
    deliveries::{self, attempt, delivery},
    runs::{self, run},
};
use crate::catalog::{Catalog, CatalogError, failed, time};

/// A run with what came of it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RunTrace {
    /// The run.
    #[serde(flatten)]
    pub run: RunRow,
    /// Its documents; the base first, then by URL.
    pub documents: Vec<TracedDocument>,
}

/// A document of a run.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TracedDocument {
    /// Its URL.
    pub url: String,
    /// How far it is: `Pending`, `Fetched`, `Stored` or `Failed`.
    pub phase: String,
    /// Whether it differs from what the subscription had of it.
    pub changed: Option<bool>,
    /// Whether its list does not name it any more.
    pub is_gone: bool,
    /// A CamelCase word for why it failed.
    pub reason: Option<String>,
    /// A sentence for a person.
    pub message: Option<String>,
    /// When it was finished.
    pub finished_at: Option<Timestamp>,
    /// What the server answered; another run may have asked it.
    pub artifact: Option<ArtifactRow>,
    /// What was taken out of that by then; none where it was as before.
    pub extract: Option<ExtractRow>,
    /// The version that was made of it.
    pub version: Option<VersionRow>,
    /// The deliveries that carry the version.
    pub deliveries: Vec<TracedDelivery>,
}

/// What was taken out of an artifact. Its text is left out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ExtractRow {
    /// The catalog's id.
    pub id: i64,
    /// What took it out.
    pub parser: String,
    /// The version of that.
    pub parser_version: i32,
    /// The SHA-256 of the text, lower-case hexadecimal.
    pub text_hash: String,
    /// The length of the text in bytes.
    pub text_bytes: i64,
    /// The names of the selectors that matched.
    pub fields: Vec<String>,
    /// When it was taken out.
    pub created_at: Timestamp,
}

/// A delivery with all its attempts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TracedDelivery {
    /// The delivery.
    #[serde(flatten)]
    pub delivery: DeliveryRow,
    /// The attempts, the first one first.
    pub tries: Vec<AttemptRow>,
}

impl Catalog {
    /// Runs whose ids lie between two, both included, in the order of their ids and at most so many: those that begin
    /// alike.
    ///
    /// # Errors
    /// When the catalog fails.
    pub async fn runs_between(
        &self,
        first: Uuid,
        last: Uuid,
        most: u32,
    ) -> Result<Vec<RunRow>, CatalogError> {
        let sql = format!(
            "select {} from runs r join subscriptions s on s.id = r.subscription_id
             where r.id between $1 and $2 order by r.id limit $3",
            runs::COLUMNS
        );
        let rows = sqlx::query(sqlx::AssertSqlSafe(sql))
            .bind(first)
            .bind(last)
            .bind(i64::from(most))
            .fetch_all(&self.pool)
            .await
            .map_err(failed("look up runs"))?;
        rows.iter().map(run).collect::<Result<_, _>>().map_err(failed("read a run"))
    }

    /// What came of a run, in a handful of statements, however many documents it has.
    ///
    /// # Errors
    /// When the catalog fails.
    pub async fn trace_run(&self, run: RunRow) -> Result<RunTrace, CatalogError> {
        let rows = sqlx::query(
            "select d.url, d.phase, d.changed, d.is_gone, d.reason, d.message, d.finished_at, d.artifact_id, d.version_id,
                 e.id as extract_id, e.parser, e.parser_version, e.text_hash, octet_length(e.text)::bigint as text_bytes,
                 array(select jsonb_object_keys(e.fields)) as fields, e.created_at as extracted_at
             from documents d join runs r on r.id = d.run_id left join versions v on v.id = d.version_id
             -- That of the version; else the last one that was there when the run ended.
             left join lateral (
                 select * from extracts x
                 where x.id = v.extract_id and not d.is_gone
                     or v.id is null and x.artifact_id = d.artifact_id and x.subscription_id = d.subscription_id
                         and x.created_at <= coalesce(r.finished_at, 'infinity')
                 order by x.id desc limit 1) e on true
             where d.run_id = $1 order by d.is_base desc, d.url",
        )
        .bind(run.id)
        .fetch_all(&self.pool)
        .await
        .map_err(failed("list a run's documents"))?;
        let ids = |column: &str| -> Result<Vec<i64>, CatalogError> {
            let ids = rows.iter().map(|row| row.try_get::<Option<i64>, _>(column));
            let ids: Vec<_> = ids.collect::<Result<_, _>>().map_err(failed("read a document"))?;
            Ok(ids.into_iter().flatten().collect())
        };
        let (artifact_ids, version_ids) = (ids("artifact_id")?, ids("version_id")?);
        let artifacts = self.artifact_rows(&artifact_ids).await?;
        let artifacts: HashMap<_, _> = artifacts.into_iter().map(|row| (row.id, row)).collect();
        let versions = self.version_rows(&version_ids).await?;
        let versions: HashMap<_, _> = versions.into_iter().map(|row| (row.id, row)).collect();
        let deliveries = self.deliveries_of(&version_ids).await?;
        let read = |row: &PgRow| -> Result<TracedDocument, sqlx::Error> {
            let artifact_id: Option<i64> = row.try_get("artifact_id")?;
            let version_id: Option<i64> = row.try_get("version_id")?;
            Ok(TracedDocument {
                url: row.try_get("url")?,
                phase: row.try_get("phase")?,
                changed: row.try_get("changed")?,
                is_gone: row.try_get("is_gone")?,
                reason: row.try_get("reason")?,
                message: row.try_get("message")?,
                finished_at: time(row.try_get("finished_at")?),
                // Two documents can share one.
                artifact: artifact_id.and_then(|id| artifacts.get(&id).cloned()),
                extract: extract(row)?,
                version: version_id.and_then(|id| versions.get(&id).cloned()),
                deliveries: version_id.and_then(|id| deliveries.get(&id).cloned()).unwrap_or_default(),
            })
        };
        let documents = rows.iter().map(read).collect::<Result<_, _>>().map_err(failed("read a document"))?;
        Ok(RunTrace { run, documents })
    }

    /// The deliveries of versions, by the version's id, in the order in which they were made.
    async fn deliveries_of(
        &self,
        version_ids: &[i64],
    ) -> Result<HashMap<i64, Vec<TracedDelivery>>, CatalogError> {
        let sql = format!(
            "select c.version_id, {} from delivery_versions c join deliveries d on d.id = c.delivery_id
             join subscriptions s on s.id = d.subscription_id
             where c.version_id = any($1) order by d.created_at, d.target, d.id",
            deliveries::COLUMNS
        );
        let rows = sqlx::query(sqlx::AssertSqlSafe(sql))
            .bind(version_ids)
            .fetch_all(&self.pool)
            .await
            .map_err(failed("look up deliveries"))?;
        let carried = rows.iter().map(|row| Ok((row.try_get::<i64, _>("version_id")?, delivery(row)?)));
        let carried: Vec<_> =
            carried.collect::<Result<_, sqlx::Error>>().map_err(failed("read a delivery"))?;
        let mut delivery_ids: Vec<Uuid> = carried.iter().map(|(_, delivery)| delivery.id).collect();
        delivery_ids.sort_unstable();
        delivery_ids.dedup();
        let tries = self.tries_of(&delivery_ids).await?;
        let mut deliveries: HashMap<i64, Vec<TracedDelivery>> = HashMap::new();
        for (version_id, delivery) in carried {
            let tries = tries.get(&delivery.id).cloned().unwrap_or_default();
            deliveries.entry(version_id).or_default().push(TracedDelivery { delivery, tries });
        }
        Ok(deliveries)
    }

    async fn tries_of(&self, delivery_ids: &[Uuid]) -> Result<HashMap<Uuid, Vec<AttemptRow>>, CatalogError> {
        let rows = sqlx::query(
            "select delivery_id, number, started_at, duration_ms, status, detail from delivery_attempts
             where delivery_id = any($1) order by delivery_id, number",
        )
        .bind(delivery_ids)
        .fetch_all(&self.pool)
        .await
        .map_err(failed("look up attempts"))?;
        let mut tries: HashMap<Uuid, Vec<AttemptRow>> = HashMap::new();
        let mut read = |row: &PgRow| -> Result<(), sqlx::Error> {
            tries.entry(row.try_get("delivery_id")?).or_default().push(attempt(row)?);
            Ok(())
        };
        rows.iter().try_for_each(&mut read).map_err(failed("read an attempt"))?;
        Ok(tries)
    }
}

fn extract(row: &PgRow) -> Result<Option<ExtractRow>, sqlx::Error> {
    let Some(id) = row.try_get::<Option<i64>, _>("extract_id")? else { return Ok(None) };
    Ok(Some(ExtractRow {
        id,
        parser: row.try_get("parser")?,
        parser_version: row.try_get("parser_version")?,
        text_hash: row.try_get("text_hash")?,
        text_bytes: row.try_get("text_bytes")?,
        fields: row.try_get("fields")?,
        created_at: row.try_get::<jiff_sqlx::Timestamp, _>("extracted_at")?.to_jiff(),
    }))
}
