//! Artifacts: evidence of what a server answered, and where its bytes are.

use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use sqlx::{PgPool, Row, postgres::PgRow, types::Json};
use uuid::Uuid;

use super::{
    Catalog, CatalogError,
    batches::{LOOKING_UP, Statement},
    failed, sql_time, time,
};

/// Evidence of one fetch, before it is stored.
#[derive(Clone, Debug)]
pub struct NewArtifact {
    /// The URL that answered.
    pub final_url: String,
    /// The redirects that led there: from where, with which status, to which `Location`.
    pub redirects: Vec<(String, u16, String)>,
    /// The headers that were sent. The values of secret ones are not kept.
    pub request_headers: Vec<(String, String)>,
    /// What robots.txt said of the URL.
    pub robots: &'static str,
    /// SHA-256 of the body, lower-case hexadecimal.
    pub fetch_hash: String,
    /// Where the body is.
    pub blob_uri: String,
    /// The HTTP status.
    pub status: u16,
    /// The response's headers in their order.
    pub headers: Vec<(String, String)>,
    /// The content type that the server declared.
    pub content_type: Option<String>,
    /// The content type that the first bytes of the body speak for.
    pub sniffed_type: Option<String>,
    /// The list of documents that they speak for: Page, Feed or Sitemap.
    pub sniffed_list: Option<String>,
    /// The encoding of a text, by its name in the Encoding Standard.
    pub charset: Option<String>,
    /// The server's name for this state of the document (RFC 9110, section 8.8.3).
    pub etag: Option<String>,
    /// When the document last changed, in the server's words.
    pub last_modified: Option<String>,
    /// The length of the body in bytes.
    pub byte_size: i64,
    /// The address that answered.
    pub remote_address: Option<String>,
    /// When the request was sent.
    pub requested_at: Timestamp,
    /// When the response came.
    pub fetched_at: Timestamp,
    /// When the last of its body had come.
    pub finished_at: Timestamp,
    /// The artifact whose body the server said is unchanged (304).
    pub revisit_of: Option<i64>,
}

/// An artifact as a document of a run has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Artifact {
    /// The catalog's id.
    pub id: i64,
    /// The URL that was asked for.
    pub source_url: String,
    /// SHA-256 of the body, lower-case hexadecimal.
    pub fetch_hash: String,
    /// Where the body is.
    pub blob_uri: String,
    /// The content type that the server declared.
    pub content_type: Option<String>,
    /// The length of the body in bytes.
    pub byte_size: i64,
    /// Whether the bytes differ from what the subscription had of this URL before; true for the first.
    pub changed: bool,
    /// When the response came.
    pub fetched_at: Timestamp,
}

/// What a source last had at a URL, for whichever subscription.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LatestArtifact {
    /// The catalog's id.
    pub id: i64,
    /// The URL that answered.
    pub final_url: String,
    /// The headers that were sent.
    pub request_headers: Vec<(String, String)>,
    /// SHA-256 of the body.
    pub fetch_hash: String,
    /// Where the body is.
    pub blob_uri: String,
    /// The content type that the server declared.
    pub content_type: Option<String>,
    /// The content type that the first bytes of the body speak for.
    pub sniffed_type: Option<String>,
    /// The list of documents that they speak for.
    pub sniffed_list: Option<String>,
    /// The encoding of a text.
    pub charset: Option<String>,
    /// The length of the body in bytes.
    pub byte_size: i64,
    /// The server's name for this state of the document.
    pub etag: Option<String>,
    /// When the document last changed, in the server's words.
    pub last_modified: Option<String>,
    /// When the request was sent; unknown of artifacts of an older release.
    pub requested_at: Option<Timestamp>,
}

/// What is known of a body by its source and hash.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KnownBody {
    /// Where it is, if it is stored.
    pub blob_uri: Option<String>,
    /// How often it was stored and removed before. Each time it has another address.
    pub removals: i64,
}

/// Of `documents d` and `artifacts a`.
pub(super) const ARTIFACT_COLUMNS: &str = "a.id, a.source_url, a.fetch_hash, a.blob_uri, a.content_type, a.byte_size, \
     coalesce(d.changed, false) as changed, a.fetched_at";

/// Of `artifacts l`.
pub(super) const LATEST_COLUMNS: &str = "l.id as latest_id, l.final_url, l.request_headers, l.fetch_hash, l.blob_uri, \
     l.content_type, l.sniffed_type, l.sniffed_list, l.charset, l.byte_size, l.etag, l.last_modified, l.requested_at";

impl Catalog {
    /// Whether and where the source's body of this hash is stored.
    ///
    /// # Errors
    /// When the catalog fails.
    pub async fn stored_blob(&self, source_id: i64, fetch_hash: &str) -> Result<KnownBody, CatalogError> {
        self.stored_blobs.ask((source_id, fetch_hash.to_owned())).await
    }

    /// The artifacts of a run's documents, in the order in which they were stored.
    ///
    /// # Errors
    /// When the catalog fails.
    pub async fn run_artifacts(&self, run_id: Uuid) -> Result<Vec<Artifact>, CatalogError> {
        let sql = format!(
            "select {ARTIFACT_COLUMNS} from documents d join artifacts a on a.id = d.artifact_id
             where d.run_id = $1 order by a.id"
        );
        let rows = sqlx::query(sqlx::AssertSqlSafe(sql))
            .bind(run_id)
            .fetch_all(&self.pool)
            .await
            .map_err(failed("list a run's artifacts"))?;
        rows.iter().map(|row| artifact(row).map_err(failed("read an artifact"))).collect()
    }

    /// What the run's subscription had of the URL before the run.
    ///
    /// # Errors
    /// When the catalog fails.
    pub async fn artifact_before(&self, run_id: Uuid, url: &str) -> Result<Option<Artifact>, CatalogError> {
        let sql = format!(
            "select {ARTIFACT_COLUMNS}
             from documents own join documents d on d.subscription_id = own.subscription_id and d.url = own.url
                 and d.run_id <> own.run_id and d.artifact_id <= own.artifact_id
             join artifacts a on a.id = d.artifact_id
             where own.run_id = $1 and own.url = $2
             order by d.artifact_id desc limit 1"
        );
        let row = sqlx::query(sqlx::AssertSqlSafe(sql))
            .bind(run_id)
            .bind(url)
            .fetch_optional(&self.pool)
            .await
            .map_err(failed("look up the artifact before"))?;
        row.as_ref().map(artifact).transpose().map_err(failed("read an artifact"))
    }
}

/// Looks up where sources' bodies of some hashes are stored.
#[derive(Debug)]
pub(super) struct StoredBlobs;

#[async_trait]
impl Statement for StoredBlobs {
    /// The source and the hash.
    type Question = (i64, String);
    type Answer = KnownBody;

    const PACE: Duration = LOOKING_UP;

    async fn ask(pool: &PgPool, questions: &[Self::Question]) -> Result<Vec<KnownBody>, CatalogError> {
        let (sources, hashes): (Vec<i64>, Vec<&str>) =
            questions.iter().map(|(source_id, hash)| (*source_id, hash.as_str())).unzip();
        let rows = sqlx::query(
            "select (select blob_uri from artifacts a
                 where a.source_id = q.source_id and a.fetch_hash = q.fetch_hash limit 1) as blob_uri,
                 (select count(*) from removed_blobs b
                 where b.source_id = q.source_id and b.fetch_hash = q.fetch_hash) as removals
             from unnest($1::bigint[], $2::text[]) with ordinality as q (source_id, fetch_hash, number)
             order by q.number",
        )
        .bind(sources)
        .bind(hashes)
        .fetch_all(pool)
        .await
        .map_err(failed("look up stored bodies"))?;
        let known = rows.iter().map(|row| {
            Ok(KnownBody { blob_uri: row.try_get("blob_uri")?, removals: row.try_get("removals")? })
        });
        known.collect::<Result<_, _>>().map_err(failed("read stored bodies"))
    }
}

/// What an artifact is made of besides its document: the columns and their types, as [`bind`] binds them.
const NEW_COLUMNS: [(&str, &str); 20] = [
    ("final_url", "text"),
    ("redirects", "jsonb"),
    ("request_headers", "jsonb"),
    ("robots", "text"),
    ("fetch_hash", "text"),
    ("blob_uri", "text"),
    ("status", "integer"),
    ("headers", "jsonb"),
    ("content_type", "text"),
    ("sniffed_type", "text"),
    ("sniffed_list", "text"),
    ("charset", "text"),
    ("etag", "text"),
    ("last_modified", "text"),
    ("byte_size", "bigint"),
    ("remote_address", "text"),
    ("requested_at", "timestamptz"),
    ("fetched_at", "timestamptz"),
    ("finished_at", "timestamptz"),
    ("revisit_of", "bigint"),
];

/// A table `new` of what [`bind`] binds, of which this is the first parameter's number: each artifact with the `number` of
/// its document.
pub(super) fn new_artifacts(first: usize) -> String {
    let types = std::iter::once("bigint").chain(NEW_COLUMNS.iter().map(|(_, column_type)| *column_type));
    let parameters: Vec<String> =
        types.zip(first..).map(|(column_type, number)| format!("${number}::{column_type}[]")).collect();
    let names = NEW_COLUMNS.map(|(name, _)| name).join(", ");
    format!("unnest({}) as new (number, {names})", parameters.join(", "))
}

/// Inserts what [`new_artifacts`] has, which are among `tables`, with the source, the run and the URL that expressions of them
/// tell.
pub(super) fn inserted(document: &str, tables: &str) -> String {
    let names = NEW_COLUMNS.map(|(name, _)| name).join(", ");
    let values = NEW_COLUMNS.map(|(name, _)| format!("new.{name}")).join(", ");
    format!(
        "insert into artifacts (source_id, run_id, source_url, {names}) select {document}, {values} from {tables}"
    )
}

type Query<'q> = sqlx::query::Query<'q, sqlx::Postgres, sqlx::postgres::PgArguments>;

/// Binds what [`new_artifacts`] refers to.
pub(super) fn bind<'q>(query: Query<'q>, new: &[(i64, &'q NewArtifact)]) -> Query<'q> {
    /// One column of them.
    fn all<'q, T>(new: &[(i64, &'q NewArtifact)], column: impl Fn(&'q NewArtifact) -> T) -> Vec<T> {
        new.iter().map(|(_, new)| column(new)).collect()
    }
    query
        .bind(new.iter().map(|(number, _)| *number).collect::<Vec<_>>())
        .bind(all(new, |new| &new.final_url))
        .bind(all(new, |new| Json(&new.redirects)))
        .bind(all(new, |new| Json(&new.request_headers)))
        .bind(all(new, |new| new.robots))
        .bind(all(new, |new| &new.fetch_hash))
        .bind(all(new, |new| &new.blob_uri))
        .bind(all(new, |new| i32::from(new.status)))
        .bind(all(new, |new| Json(&new.headers)))
        .bind(all(new, |new| new.content_type.as_deref()))
        .bind(all(new, |new| new.sniffed_type.as_deref()))
        .bind(all(new, |new| new.sniffed_list.as_deref()))
        .bind(all(new, |new| new.charset.as_deref()))
        .bind(all(new, |new| new.etag.as_deref()))
        .bind(all(new, |new| new.last_modified.as_deref()))
        .bind(all(new, |new| new.byte_size))
        .bind(all(new, |new| new.remote_address.as_deref()))
        .bind(all(new, |new| sql_time(new.requested_at)))
        .bind(all(new, |new| sql_time(new.fetched_at)))
        .bind(all(new, |new| sql_time(new.finished_at)))
        .bind(all(new, |new| new.revisit_of))
}

pub(super) fn artifact(row: &PgRow) -> Result<Artifact, sqlx::Error> {
    Ok(Artifact {
        id: row.try_get("id")?,
        source_url: row.try_get("source_url")?,
        fetch_hash: row.try_get("fetch_hash")?,
        blob_uri: row.try_get("blob_uri")?,
        content_type: row.try_get("content_type")?,
        byte_size: row.try_get("byte_size")?,
        changed: row.try_get("changed")?,
        fetched_at: row.try_get::<jiff_sqlx::Timestamp, _>("fetched_at")?.to_jiff(),
    })
}

/// What is there of [`LATEST_COLUMNS`].
pub(super) fn latest(row: &PgRow) -> Result<Option<LatestArtifact>, sqlx::Error> {
    let Some(id) = row.try_get("latest_id")? else { return Ok(None) };
    Ok(Some(LatestArtifact {
        id,
        final_url: row.try_get("final_url")?,
        request_headers: row.try_get::<Json<Vec<(String, String)>>, _>("request_headers")?.0,
        fetch_hash: row.try_get("fetch_hash")?,
        blob_uri: row.try_get("blob_uri")?,
        content_type: row.try_get("content_type")?,
        sniffed_type: row.try_get("sniffed_type")?,
        sniffed_list: row.try_get("sniffed_list")?,
        charset: row.try_get("charset")?,
        byte_size: row.try_get("byte_size")?,
        etag: row.try_get("etag")?,
        last_modified: row.try_get("last_modified")?,
        requested_at: time(row.try_get("requested_at")?),
    }))
}
