//! Texts and fields, asked for many at once.

use std::time::Duration;

use async_trait::async_trait;
use futures::TryStreamExt;
use sqlx::{PgPool, Row, postgres::PgRow, types::Json};

use super::ExtractContent;
use crate::catalog::{
    CatalogError, ExtractFields,
    batches::{LOOKING_UP, Statement, question_of},
    failed,
};

/// Looks up texts and fields of extracts.
#[derive(Debug)]
pub(in crate::catalog) struct ExtractContents;

#[async_trait]
impl Statement for ExtractContents {
    /// The extracts' ids.
    type Question = Vec<i64>;
    /// Those that there are, by their ids.
    type Answer = Vec<(i64, ExtractContent)>;

    const PACE: Duration = LOOKING_UP;

    async fn ask(pool: &PgPool, questions: &[Vec<i64>]) -> Result<Vec<Self::Answer>, CatalogError> {
        let (numbers, ids): (Vec<i64>, Vec<i64>) =
            (1..).zip(questions).flat_map(|(number, ids)| ids.iter().map(move |id| (number, *id))).unzip();
        let mut found: Vec<Self::Answer> = questions.iter().map(|_| Vec::new()).collect();
        // One row after the other: texts are large, and are not to be in memory twice.
        let mut rows = sqlx::query(
            "select q.question, e.id, e.text, e.fields
             from unnest($1::bigint[], $2::bigint[]) as q (question, id) join extracts e on e.id = q.id",
        )
        .bind(numbers)
        .bind(ids)
        .fetch(pool);
        while let Some(row) = rows.try_next().await.map_err(failed("look up texts"))? {
            let mut read = || -> Result<(), sqlx::Error> {
                if let Some(found) = found.get_mut(question_of(&row)?) {
                    found.push(content(&row)?);
                }
                Ok(())
            };
            read().map_err(failed("read texts"))?;
        }
        drop(rows);
        Ok(found)
    }
}

fn content(row: &PgRow) -> Result<(i64, ExtractContent), sqlx::Error> {
    let fields = row.try_get::<Json<ExtractFields>, _>("fields")?.0;
    Ok((row.try_get("id")?, ExtractContent { text: row.try_get("text")?, fields }))
}
