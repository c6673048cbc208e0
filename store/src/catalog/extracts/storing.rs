//! Extracts, stored many at once.

use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use sqlx::{PgPool, Row, types::Json};

use super::NewExtract;
use crate::catalog::{
    CatalogError,
    batches::{STORING, Statement},
    failed, sql_times,
};

/// Keeps what was taken out of artifacts, unless the same was kept before.
#[derive(Debug)]
pub(in crate::catalog) struct StoredExtracts;

#[async_trait]
impl Statement for StoredExtracts {
    type Question = (NewExtract, Timestamp);
    /// The extract's id.
    type Answer = i64;

    const PACE: Duration = STORING;

    fn size((extract, _): &Self::Question) -> usize {
        let fields = extract.fields.values().flatten().map(String::len).sum::<usize>();
        extract.text.len() + fields
    }

    fn subject((extract, _): &Self::Question) -> Option<String> {
        let NewExtract { artifact_id, subscription_id, selection_hash, parser_version, .. } = extract;
        Some(format!("{artifact_id} {subscription_id} {selection_hash} {parser_version}"))
    }

    async fn ask(pool: &PgPool, extracts: &[Self::Question]) -> Result<Vec<i64>, CatalogError> {
        fn all<'a, T>(
            extracts: &'a [(NewExtract, Timestamp)],
            column: impl Fn(&'a NewExtract) -> T,
        ) -> Vec<T> {
            extracts.iter().map(|(extract, _)| column(extract)).collect()
        }
        let rows = sqlx::query(
            "with new as materialized (
                 select * from unnest($1::bigint[], $2::bigint[], $3::text[], $4::integer[], $5::text[], $6::jsonb[],
                     $7::text[], $8::text[], $9::timestamptz[]) with ordinality
                     as new (artifact_id, subscription_id, parser, parser_version, selection_hash, fields, text, text_hash,
                         created_at, number)),
             stored as (
                 insert into extracts (artifact_id, subscription_id, parser, parser_version, selection_hash, fields, text,
                     text_hash, created_at)
                 select artifact_id, subscription_id, parser, parser_version, selection_hash, fields, text, text_hash,
                     created_at
                 -- In one order, so that no two statements wait for each other.
                 from new order by artifact_id, subscription_id, selection_hash, parser_version
                 -- Touched where it is there already, so that the id comes back whoever was first.
                 on conflict (artifact_id, subscription_id, selection_hash, parser_version)
                     do update set text_hash = extracts.text_hash
                 returning id, artifact_id, subscription_id, selection_hash, parser_version)
             select stored.id from new join stored
                 using (artifact_id, subscription_id, selection_hash, parser_version)
             order by new.number",
        )
        .bind(all(extracts, |extract| extract.artifact_id))
        .bind(all(extracts, |extract| extract.subscription_id))
        .bind(all(extracts, |extract| extract.parser))
        .bind(all(extracts, |extract| extract.parser_version))
        .bind(all(extracts, |extract| extract.selection_hash.as_str()))
        .bind(all(extracts, |extract| Json(&extract.fields)))
        .bind(all(extracts, |extract| extract.text.as_str()))
        .bind(all(extracts, |extract| extract.text_hash.as_str()))
        .bind(sql_times(extracts.iter().map(|(_, now)| *now)))
        .fetch_all(pool)
        .await
        .map_err(failed("store extracts"))?;
        rows.iter()
            .map(|row| row.try_get("id"))
            .collect::<Result<_, _>>()
            .map_err(failed("read an extract's id"))
    }
}
