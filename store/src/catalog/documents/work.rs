//! What the crawl role needs to fetch documents, asked for many at once.

use std::time::Duration;

use async_trait::async_trait;
use sqlx::{PgPool, Row, postgres::PgRow, types::Json};
use uuid::Uuid;

use super::{CrawlWork, artifact_of};
use crate::catalog::{
    Artifact, CatalogError, SourceSettings,
    artifacts::{self, LATEST_COLUMNS},
    batches::{LOOKING_UP, Statement, question_of},
    failed,
};

/// Looks up what is needed to fetch documents.
#[derive(Debug)]
pub(in crate::catalog) struct CrawlWorkOf;

#[async_trait]
impl Statement for CrawlWorkOf {
    /// The run and the URL.
    type Question = (Uuid, String);
    type Answer = Option<CrawlWork>;

    const PACE: Duration = LOOKING_UP;

    async fn ask(
        pool: &PgPool,
        questions: &[Self::Question],
    ) -> Result<Vec<Option<CrawlWork>>, CatalogError> {
        let sql = format!(
            "select q.question, d.phase = 'Pending' and r.finished_at is null as is_pending,
                 d.phase = 'Fetched' or d.phase = 'Stored' and d.artifact_id is not null as is_stored,
                 d.is_base, d.is_list, r.scheduled_for, o.namespace, o.settings, {LATEST_COLUMNS}
             from unnest($1::uuid[], $2::text[]) with ordinality as q (run_id, url, question)
             join documents d on d.run_id = q.run_id and d.url = q.url join runs r on r.id = d.run_id
             join subscriptions s on s.id = r.subscription_id join sources o on o.id = s.source_id
             left join lateral (select * from artifacts where source_id = o.id and source_url = d.url
                 order by id desc limit 1) l on true"
        );
        let (runs, urls): (Vec<Uuid>, Vec<&str>) =
            questions.iter().map(|(run_id, url)| (*run_id, url.as_str())).unzip();
        let rows = sqlx::query(sqlx::AssertSqlSafe(sql))
            .bind(runs)
            .bind(urls)
            .fetch_all(pool)
            .await
            .map_err(failed("look up documents"))?;
        let mut found: Vec<Option<CrawlWork>> = questions.iter().map(|_| None).collect();
        for row in &rows {
            let index = question_of(row).map_err(failed("read a document"))?;
            let is_stored = row.try_get("is_stored").map_err(failed("read a document"))?;
            let artifact = match questions.get(index) {
                Some((run_id, url)) if is_stored => {
                    let mut connection = pool.acquire().await.map_err(failed("connect"))?;
                    artifact_of(&mut connection, *run_id, url).await?
                }
                _ => None,
            };
            if let Some(found) = found.get_mut(index) {
                *found = Some(crawl_work(row, artifact).map_err(failed("read a document"))?);
            }
        }
        Ok(found)
    }
}

fn crawl_work(row: &PgRow, artifact: Option<Artifact>) -> Result<CrawlWork, sqlx::Error> {
    Ok(CrawlWork {
        is_pending: row.try_get("is_pending")?,
        is_base: row.try_get("is_base")?,
        is_list: row.try_get("is_list")?,
        scheduled_for: row.try_get::<jiff_sqlx::Timestamp, _>("scheduled_for")?.to_jiff(),
        artifact,
        latest: artifacts::latest(row)?,
        namespace: row.try_get("namespace")?,
        source: row.try_get::<Json<SourceSettings>, _>("settings")?.0,
    })
}
