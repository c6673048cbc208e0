//! What the version role needs to compare documents, asked for many at once.

use std::time::Duration;

use async_trait::async_trait;
use sqlx::{PgPool, Row, postgres::PgRow};
use uuid::Uuid;

use super::{ComparedExtract, Head, VersionWork, made_version};
use crate::catalog::{
    CatalogError,
    batches::{LOOKING_UP, Statement, question_of},
    failed,
};

/// A document of a run, and what was taken out of it; none: it is gone.
pub(in crate::catalog) struct VersionQuestion {
    pub(super) run_id: Uuid,
    pub(super) url: String,
    pub(super) extract_id: Option<i64>,
}

/// Looks up what is needed to compare documents.
#[derive(Debug)]
pub(in crate::catalog) struct VersionWorkOf;

#[async_trait]
impl Statement for VersionWorkOf {
    type Question = VersionQuestion;
    type Answer = Option<VersionWork>;

    const PACE: Duration = LOOKING_UP;

    async fn ask(
        pool: &PgPool,
        questions: &[VersionQuestion],
    ) -> Result<Vec<Option<VersionWork>>, CatalogError> {
        let rows = sqlx::query(
            "select q.question, d.phase = 'Fetched' and r.finished_at is null as is_waited_for,
                 v.id as made_id, v.number as made_number, v.kind as made_kind,
                 h.version_id, h.extract_id as head_extract_id, h.artifact_id as head_artifact_id, h.number, h.is_gone,
                 e.id as extract_id, e.artifact_id,
                 coalesce(e.text_hash = before.text_hash and e.fields = before.fields, false) as is_same,
                 coalesce(e.selection_hash = h.selection_hash and e.parser_version = h.parser_version, false)
                     as is_comparable,
                 coalesce(e.selection_hash = s.selection_hash, true) as is_current, s.source_id, d.subscription_id,
                 coalesce((a.fetched_at, a.id) < (seen.fetched_at, seen.id), false) as is_earlier, anew.id as head_anew,
                 not d.is_base and s.list_read_by <> r.id and not exists (
                     select from documents earlier where earlier.run_id = s.list_read_by and earlier.url = d.url) as is_new
             from unnest($1::uuid[], $2::text[], $3::bigint[]) with ordinality as q (run_id, url, extract_id, question)
             join documents d on d.run_id = q.run_id and d.url = q.url
             join runs r on r.id = d.run_id join subscriptions s on s.id = d.subscription_id
             left join versions v on v.id = d.version_id
             left join document_heads h on h.subscription_id = d.subscription_id and h.url = d.url
             left join extracts before on before.id = h.extract_id
             left join artifacts seen on seen.id = h.artifact_id
             left join extracts e on e.id = q.extract_id and e.subscription_id = d.subscription_id
             left join artifacts a on a.id = e.artifact_id
             left join extracts anew on anew.artifact_id = h.artifact_id and anew.subscription_id = h.subscription_id
                 and not h.is_gone and (e.selection_hash, e.parser_version) <> (h.selection_hash, h.parser_version)
                 and anew.selection_hash = e.selection_hash and anew.parser_version = e.parser_version
                 and (anew.text_hash, anew.fields) <> (e.text_hash, e.fields)",
        )
        .bind(questions.iter().map(|question| question.run_id).collect::<Vec<_>>())
        .bind(questions.iter().map(|question| question.url.as_str()).collect::<Vec<_>>())
        .bind(questions.iter().map(|question| question.extract_id).collect::<Vec<_>>())
        .fetch_all(pool)
        .await
        .map_err(failed("look up documents to compare"))?;
        let mut found: Vec<Option<VersionWork>> = questions.iter().map(|_| None).collect();
        for row in &rows {
            let mut read = || -> Result<(), sqlx::Error> {
                if let Some(found) = found.get_mut(question_of(row)?) {
                    *found = Some(version_work(row)?);
                }
                Ok(())
            };
            read().map_err(failed("read a document to compare"))?;
        }
        Ok(found)
    }
}

fn version_work(row: &PgRow) -> Result<VersionWork, sqlx::Error> {
    let head = match row.try_get::<Option<i64>, _>("version_id")? {
        Some(version_id) => Some(Head {
            version_id,
            extract_id: row.try_get("head_extract_id")?,
            artifact_id: row.try_get("head_artifact_id")?,
            number: row.try_get("number")?,
            is_gone: row.try_get("is_gone")?,
        }),
        None => None,
    };
    let extract = match row.try_get::<Option<i64>, _>("extract_id")? {
        Some(id) => Some(ComparedExtract {
            id,
            artifact_id: row.try_get("artifact_id")?,
            is_same: row.try_get("is_same")?,
            is_comparable: row.try_get("is_comparable")?,
            is_current: row.try_get("is_current")?,
            is_earlier: row.try_get("is_earlier")?,
            head_anew: row.try_get("head_anew")?,
        }),
        None => None,
    };
    let is_made = row.try_get::<Option<i64>, _>("made_id")?.is_some();
    Ok(VersionWork {
        is_waited_for: row.try_get("is_waited_for")?,
        made: if is_made { Some(made_version(row, "made_")?) } else { None },
        head,
        extract,
        is_new: row.try_get::<Option<bool>, _>("is_new")?.unwrap_or_default(),
        source_id: row.try_get("source_id")?,
        subscription_id: row.try_get("subscription_id")?,
    })
}
