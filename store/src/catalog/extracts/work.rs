//! What the parse role needs to take texts out of documents, asked for many at once.

use std::time::Duration;

use async_trait::async_trait;
use sqlx::{PgPool, Row, postgres::PgRow, types::Json};
use uuid::Uuid;

use super::{Extracted, ParseWork, StoredBytes};
use crate::catalog::{
    CatalogError, SubscriptionSettings,
    batches::{LOOKING_UP, Statement, question_of},
    failed,
};

/// A document of a run, and by whom it would be read.
pub(in crate::catalog) struct ParseQuestion {
    pub(super) run_id: Uuid,
    pub(super) url: String,
    pub(super) artifact_id: i64,
    pub(super) parser_version: i32,
}

/// Looks up what is needed to parse documents.
#[derive(Debug)]
pub(in crate::catalog) struct ParseWorkOf;

#[async_trait]
impl Statement for ParseWorkOf {
    type Question = ParseQuestion;
    type Answer = Option<ParseWork>;

    const PACE: Duration = LOOKING_UP;

    async fn ask(pool: &PgPool, questions: &[ParseQuestion]) -> Result<Vec<Option<ParseWork>>, CatalogError> {
        let rows = sqlx::query(
            "select q.question, d.phase = 'Fetched' and d.artifact_id = a.id and r.finished_at is null as is_waited_for,
                 s.settings, a.id, a.blob_uri, a.content_type, a.byte_size, e.id as extract_id, e.text_hash, before.matched,
                 head.id as head_id, head.blob_uri as head_blob_uri, head.content_type as head_content_type,
                 head.byte_size as head_byte_size
             from unnest($1::uuid[], $2::text[], $3::bigint[], $4::integer[]) with ordinality
                 as q (run_id, url, artifact_id, parser_version, question)
             join documents d on d.run_id = q.run_id and d.url = q.url
             join runs r on r.id = d.run_id join subscriptions s on s.id = d.subscription_id
             join artifacts a on a.id = q.artifact_id
             left join extracts e on e.artifact_id = a.id and e.subscription_id = s.id
                 and e.selection_hash = s.selection_hash and e.parser_version = q.parser_version
             left join lateral (
                 select array(select jsonb_object_keys(extract.fields)) as matched
                 from document_heads h join extracts extract on extract.id = h.extract_id
                 where h.subscription_id = s.id and h.url = d.url and h.selection_hash = s.selection_hash) before on true
             left join lateral (
                 select seen.* from document_heads h join artifacts seen on seen.id = h.artifact_id
                 where h.subscription_id = s.id and h.url = d.url and not h.is_gone and h.fetch_hash <> a.fetch_hash
                     and (seen.fetched_at, seen.id) < (a.fetched_at, a.id)
                     and (h.selection_hash, h.parser_version) <> (s.selection_hash, q.parser_version)
                     and not exists (select from extracts anew where anew.artifact_id = h.artifact_id
                         and anew.subscription_id = s.id and anew.selection_hash = s.selection_hash
                         and anew.parser_version = q.parser_version)) head on true",
        )
        .bind(questions.iter().map(|question| question.run_id).collect::<Vec<_>>())
        .bind(questions.iter().map(|question| question.url.as_str()).collect::<Vec<_>>())
        .bind(questions.iter().map(|question| question.artifact_id).collect::<Vec<_>>())
        .bind(questions.iter().map(|question| question.parser_version).collect::<Vec<_>>())
        .fetch_all(pool)
        .await
        .map_err(failed("look up documents to parse"))?;
        let mut found: Vec<Option<ParseWork>> = questions.iter().map(|_| None).collect();
        for row in &rows {
            let mut read = || -> Result<(), sqlx::Error> {
                if let Some(found) = found.get_mut(question_of(row)?) {
                    *found = Some(parse_work(row)?);
                }
                Ok(())
            };
            read().map_err(failed("read a document to parse"))?;
        }
        Ok(found)
    }
}

fn parse_work(row: &PgRow) -> Result<ParseWork, sqlx::Error> {
    let extract_id: Option<i64> = row.try_get("extract_id")?;
    let text_hash: Option<String> = row.try_get("text_hash")?;
    Ok(ParseWork {
        is_waited_for: row.try_get("is_waited_for")?,
        selection: row.try_get::<Json<SubscriptionSettings>, _>("settings")?.0.selection,
        artifact: stored_bytes(row, "")?,
        head: match row.try_get::<Option<i64>, _>("head_id")? {
            Some(_) => Some(stored_bytes(row, "head_")?),
            None => None,
        },
        matched_before: row.try_get("matched")?,
        extract: extract_id.zip(text_hash).map(|(id, text_hash)| Extracted { id, text_hash }),
    })
}

fn stored_bytes(row: &PgRow, prefix: &str) -> Result<StoredBytes, sqlx::Error> {
    let column = |name: &str| format!("{prefix}{name}");
    Ok(StoredBytes {
        artifact_id: row.try_get(column("id").as_str())?,
        blob_uri: row.try_get(column("blob_uri").as_str())?,
        content_type: row.try_get(column("content_type").as_str())?,
        byte_size: row.try_get(column("byte_size").as_str())?,
    })
}
