//! Extracts: what was taken out of an artifact.

use std::collections::BTreeMap;

use jiff::Timestamp;
use sqlx::{Row, postgres::PgRow, types::Json};
use uuid::Uuid;

use super::{Catalog, CatalogError, SelectionSettings, SubscriptionSettings, failed, sql_time};

/// The values that selectors found, by name.
pub type ExtractFields = BTreeMap<String, Vec<String>>;

/// What the parse role needs to take text out of a document.
#[derive(Clone, Debug)]
pub struct ParseWork {
    /// Whether the run still waits for it.
    pub is_waited_for: bool,
    /// What is to be taken out.
    pub selection: SelectionSettings,
    /// Out of what.
    pub artifact: StoredBytes,
    /// The artifact of the document's head, where its bytes are others and nothing was taken out of it yet in the way in which
    /// this artifact is read: what the two differ in would not be seen.
    pub head: Option<StoredBytes>,
    /// Which selectors matched when the document was last compared, under the same selection; none: it never was.
    pub matched_before: Option<Vec<String>>,
    /// Set when the same bytes were parsed before, in the same way: there is nothing to do.
    pub extract: Option<Extracted>,
}

/// The bytes of an artifact.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredBytes {
    /// The artifact's id.
    pub artifact_id: i64,
    /// Where they are.
    pub blob_uri: String,
    /// The content type that the server declared.
    pub content_type: Option<String>,
    /// How many they are.
    pub byte_size: i64,
}

/// The identity of what was taken out of an artifact.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Extracted {
    /// The catalog's id.
    pub id: i64,
    /// The SHA-256 of the text, lower-case hexadecimal.
    pub text_hash: String,
}

/// What was taken out of an artifact, before it is stored.
#[derive(Clone, Debug)]
pub struct NewExtract<'a> {
    /// The artifact.
    pub artifact_id: i64,
    /// For whom.
    pub subscription_id: i64,
    /// Which parser took it out.
    pub parser: &'a str,
    /// Of which version.
    pub parser_version: i32,
    /// [`SelectionSettings::hash`].
    pub selection_hash: &'a str,
    /// The values that selectors found.
    pub fields: &'a ExtractFields,
    /// What is versioned.
    pub text: &'a str,
    /// Its SHA-256, lower-case hexadecimal.
    pub text_hash: &'a str,
}

impl Catalog {
    /// What is needed to parse an artifact for a run's document, if there are such. `parser_version` is of the parsers that
    /// would read it.
    ///
    /// # Errors
    /// When the catalog fails.
    pub async fn parse_work(
        &self,
        run_id: Uuid,
        url: &str,
        artifact_id: i64,
        parser_version: i32,
    ) -> Result<Option<ParseWork>, CatalogError> {
        let row = sqlx::query(
            "select d.phase = 'Fetched' and d.artifact_id = a.id and r.finished_at is null as is_waited_for,
                 s.settings, a.id, a.blob_uri, a.content_type, a.byte_size, e.id as extract_id, e.text_hash, before.matched,
                 head.id as head_id, head.blob_uri as head_blob_uri, head.content_type as head_content_type,
                 head.byte_size as head_byte_size
             from documents d join runs r on r.id = d.run_id join subscriptions s on s.id = d.subscription_id
             join artifacts a on a.id = $3
             left join extracts e on e.artifact_id = a.id and e.subscription_id = s.id
                 and e.selection_hash = s.selection_hash and e.parser_version = $4
             left join lateral (
                 select array(select jsonb_object_keys(extract.fields)) as matched
                 from document_heads h join extracts extract on extract.id = h.extract_id
                 where h.subscription_id = s.id and h.url = d.url and h.selection_hash = s.selection_hash) before on true
             left join lateral (
                 select seen.* from document_heads h join artifacts seen on seen.id = h.artifact_id
                 where h.subscription_id = s.id and h.url = d.url and not h.is_gone and h.fetch_hash <> a.fetch_hash
                     and (seen.fetched_at, seen.id) < (a.fetched_at, a.id)
                     and (h.selection_hash, h.parser_version) <> (s.selection_hash, $4)
                     and not exists (select from extracts anew where anew.artifact_id = h.artifact_id
                         and anew.subscription_id = s.id and anew.selection_hash = s.selection_hash
                         and anew.parser_version = $4)) head on true
             where d.run_id = $1 and d.url = $2",
        )
        .bind(run_id)
        .bind(url)
        .bind(artifact_id)
        .bind(parser_version)
        .fetch_optional(&self.pool)
        .await
        .map_err(failed("look up a document to parse"))?;
        row.map(|row| {
            let extract_id: Option<i64> = row.try_get("extract_id")?;
            let text_hash: Option<String> = row.try_get("text_hash")?;
            Ok(ParseWork {
                is_waited_for: row.try_get("is_waited_for")?,
                selection: row.try_get::<Json<SubscriptionSettings>, _>("settings")?.0.selection,
                artifact: stored_bytes(&row, "")?,
                head: match row.try_get::<Option<i64>, _>("head_id")? {
                    Some(_) => Some(stored_bytes(&row, "head_")?),
                    None => None,
                },
                matched_before: row.try_get("matched")?,
                extract: extract_id.zip(text_hash).map(|(id, text_hash)| Extracted { id, text_hash }),
            })
        })
        .transpose()
        .map_err(failed("read a document to parse"))
    }

    /// Keeps what was taken out of an artifact, unless the same was kept before, and returns its id.
    ///
    /// # Errors
    /// When the catalog fails; then nothing was kept.
    pub async fn store_extract(&self, extract: &NewExtract<'_>, now: Timestamp) -> Result<i64, CatalogError> {
        sqlx::query_scalar(
            // Touched where it is there already, so that the id comes back whoever was first.
            "insert into extracts (artifact_id, subscription_id, parser, parser_version, selection_hash, fields, text,
                 text_hash, created_at)
             values ($1, $2, $3, $4, $5, $6, $7, $8, $9)
             on conflict (artifact_id, subscription_id, selection_hash, parser_version)
                 do update set text_hash = extracts.text_hash
             returning id",
        )
        .bind(extract.artifact_id)
        .bind(extract.subscription_id)
        .bind(extract.parser)
        .bind(extract.parser_version)
        .bind(extract.selection_hash)
        .bind(Json(extract.fields))
        .bind(extract.text)
        .bind(extract.text_hash)
        .bind(sql_time(now))
        .fetch_one(&self.pool)
        .await
        .map_err(failed("store an extract"))
    }
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
