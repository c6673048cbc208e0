//! Versions: how documents of subscriptions were, one after the other, and what differs.

use std::collections::HashMap;

use events::run_reasons;
use jiff::Timestamp;
use serde_json::value::RawValue;
use sqlx::{
    PgConnection, Postgres, Row,
    postgres::{PgArguments, PgRow},
    query::Query,
    types::Json,
};
use uuid::Uuid;

use super::{Catalog, CatalogError, ExtractFields, failed, runs::end_if_complete, sql_time};

/// What the version role needs to compare a document.
#[derive(Clone, Debug)]
pub struct VersionWork {
    /// Whether the run still waits for the document.
    pub is_waited_for: bool,
    /// The version that an earlier attempt made of it.
    pub made: Option<MadeVersion>,
    /// How the document was when it was last compared.
    pub head: Option<Head>,
    /// What was taken out of it now; none of a document that is gone.
    pub extract: Option<ComparedExtract>,
    /// Whether a list that was read to its end before names it for the first time.
    pub is_new: bool,
    /// The catalog's id of the source.
    pub source_id: i64,
}

/// How a document was when it was last compared.
#[derive(Clone, Debug)]
pub struct Head {
    /// The catalog's id of its newest version.
    pub version_id: i64,
    /// What its text is.
    pub extract_id: i64,
    /// The newest artifact that was compared.
    pub artifact_id: i64,
    /// The version's number.
    pub number: i32,
    /// Whether it is not there any more.
    pub is_gone: bool,
}

/// What was taken out of a document now, beside how it was.
#[derive(Clone, Debug)]
pub struct ComparedExtract {
    /// The catalog's id.
    pub id: i64,
    /// The artifact that it was taken out of.
    pub artifact_id: i64,
    /// Whether text and fields are those of the head.
    pub is_same: bool,
    /// Whether it was selected and parsed as the head was: else the two cannot be compared.
    pub is_comparable: bool,
    /// Whether it was selected as the subscription has it now.
    pub is_current: bool,
    /// Whether it was fetched before the head's artifact: the document was seen later than this.
    pub is_earlier: bool,
    /// What was taken out of the head's artifact as this was, by the catalog's id, where the head itself was taken out in
    /// another way and the document differs from it: what the two differ in is a change.
    pub head_anew: Option<i64>,
}

/// Text and fields of an extract.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExtractContent {
    /// The text.
    pub text: String,
    /// The values that selectors found.
    pub fields: ExtractFields,
}

/// A version that is to be made.
#[derive(Clone, Debug)]
pub struct NewVersion {
    /// What happened: `Baseline`, `New`, `Changed`, `Removed` or `Returned`.
    pub kind: &'static str,
    /// What differs, as JSON.
    pub change: Box<RawValue>,
    /// Whether it was compared with the version before.
    pub is_compared: bool,
}

/// A version that was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MadeVersion {
    /// The catalog's id.
    pub id: i64,
    /// Its number, from 1, of its URL in its subscription.
    pub number: i32,
    /// What happened.
    pub kind: String,
}

/// A version that a run made.
#[derive(Clone, Debug)]
pub struct RunVersion {
    /// Its number, from 1, of its URL in its subscription.
    pub number: i32,
    /// What happened.
    pub kind: String,
    /// What differs, as JSON.
    pub change: Box<RawValue>,
}

/// What became of a document that was compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ComparedDocument {
    /// It is finished; with a version, where it differed.
    Finished(Option<MadeVersion>),
    /// Another event has compared the document since: it has to be compared again.
    Outdated,
    /// The run has ended, or has given the document up: nothing was stored.
    NotWaitedFor,
}

impl Catalog {
    /// What is needed to compare a run's document with what is known of it, if there is such a document. Without
    /// `extract_id` the document is gone.
    ///
    /// # Errors
    /// When the catalog fails.
    pub async fn version_work(
        &self,
        run_id: Uuid,
        url: &str,
        extract_id: Option<i64>,
    ) -> Result<Option<VersionWork>, CatalogError> {
        let row = sqlx::query(
            "select d.phase = 'Fetched' and r.finished_at is null as is_waited_for,
                 v.id as made_id, v.number as made_number, v.kind as made_kind,
                 h.version_id, h.extract_id as head_extract_id, h.artifact_id as head_artifact_id, h.number, h.is_gone,
                 e.id as extract_id, e.artifact_id,
                 coalesce(e.text_hash = before.text_hash and e.fields = before.fields, false) as is_same,
                 coalesce(e.selection_hash = h.selection_hash and e.parser_version = h.parser_version, false)
                     as is_comparable,
                 coalesce(e.selection_hash = s.selection_hash, true) as is_current, s.source_id,
                 coalesce((a.fetched_at, a.id) < (seen.fetched_at, seen.id), false) as is_earlier, anew.id as head_anew,
                 not d.is_base and s.list_read_by <> r.id and not exists (
                     select from documents earlier where earlier.run_id = s.list_read_by and earlier.url = d.url) as is_new
             from documents d join runs r on r.id = d.run_id join subscriptions s on s.id = d.subscription_id
             left join versions v on v.id = d.version_id
             left join document_heads h on h.subscription_id = d.subscription_id and h.url = d.url
             left join extracts before on before.id = h.extract_id
             left join artifacts seen on seen.id = h.artifact_id
             left join extracts e on e.id = $3 and e.subscription_id = d.subscription_id
             left join artifacts a on a.id = e.artifact_id
             left join extracts anew on anew.artifact_id = h.artifact_id and anew.subscription_id = h.subscription_id
                 and not h.is_gone and (e.selection_hash, e.parser_version) <> (h.selection_hash, h.parser_version)
                 and anew.selection_hash = e.selection_hash and anew.parser_version = e.parser_version
                 and (anew.text_hash, anew.fields) <> (e.text_hash, e.fields)
             where d.run_id = $1 and d.url = $2",
        )
        .bind(run_id)
        .bind(url)
        .bind(extract_id)
        .fetch_optional(&self.pool)
        .await
        .map_err(failed("look up a document to compare"))?;
        row.as_ref().map(version_work).transpose().map_err(failed("read a document to compare"))
    }

    /// The versions that a run made, by URL: of several, the last.
    ///
    /// # Errors
    /// When the catalog fails.
    pub async fn run_versions(&self, run_id: Uuid) -> Result<HashMap<String, RunVersion>, CatalogError> {
        let rows =
            sqlx::query("select url, number, kind, change from versions where run_id = $1 order by number")
                .bind(run_id)
                .fetch_all(&self.pool)
                .await
                .map_err(failed("list a run's versions"))?;
        let version = |row: &PgRow| {
            let change = row.try_get::<Json<_>, _>("change")?.0;
            let version = RunVersion { number: row.try_get("number")?, kind: row.try_get("kind")?, change };
            Ok((row.try_get("url")?, version))
        };
        rows.iter().map(version).collect::<Result<_, _>>().map_err(failed("read a version"))
    }

    /// Text and fields of extracts, by their ids.
    ///
    /// # Errors
    /// When the catalog fails.
    pub async fn extract_contents(&self, ids: &[i64]) -> Result<HashMap<i64, ExtractContent>, CatalogError> {
        let rows = sqlx::query("select id, text, fields from extracts where id = any($1)")
            .bind(ids)
            .fetch_all(&self.pool)
            .await
            .map_err(failed("look up texts"))?;
        let content = |row: &PgRow| {
            let fields = row.try_get::<Json<ExtractFields>, _>("fields")?.0;
            Ok((row.try_get("id")?, ExtractContent { text: row.try_get("text")?, fields }))
        };
        rows.iter().map(content).collect::<Result<_, _>>().map_err(failed("read texts"))
    }

    /// Makes the baseline that the document's head is in another selection or by another parser: `extract_id` is what was
    /// taken out of its artifact. The document is then compared with that. None: the run waits for the document no more, or
    /// the head is another than that of `work`.
    ///
    /// # Errors
    /// When the catalog fails; then nothing was stored.
    pub async fn make_baseline_of_head(
        &self,
        run_id: Uuid,
        url: &str,
        work: &VersionWork,
        extract_id: i64,
        new: &NewVersion,
        now: Timestamp,
    ) -> Result<Option<MadeVersion>, CatalogError> {
        let mut transaction = self.pool.begin().await.map_err(failed("begin"))?;
        let Some(subscription_id) = lock_fetched(&mut transaction, run_id, url).await? else {
            return Ok(None);
        };
        let finishing = Finishing { run_id, subscription_id, url, now };
        let head = work.head.as_ref();
        let finished = make(&mut transaction, &finishing, head, Some(extract_id), new, false).await?;
        if finished.is_some() {
            transaction.commit().await.map_err(failed("commit a baseline"))?;
        }
        Ok(finished.and_then(|finished| finished.made))
    }

    /// Finishes a document that was compared and, with the last document, its run; `new` is the version that it makes, if
    /// it differs. `work` is what it was compared with: when that is out of date, nothing happens.
    ///
    /// # Errors
    /// When the catalog fails; then nothing was stored.
    pub async fn finish_compared(
        &self,
        run_id: Uuid,
        url: &str,
        work: &VersionWork,
        new: Option<&NewVersion>,
        now: Timestamp,
    ) -> Result<ComparedDocument, CatalogError> {
        let mut transaction = self.pool.begin().await.map_err(failed("begin"))?;
        let Some(subscription_id) = lock_fetched(&mut transaction, run_id, url).await? else {
            return Ok(ComparedDocument::NotWaitedFor);
        };
        let finishing = Finishing { run_id, subscription_id, url, now };
        let finished = match new {
            Some(new) => {
                // Of a document that is gone, the text is what it last was.
                let head = work.head.as_ref();
                let extract_id =
                    work.extract.as_ref().map(|extract| extract.id).or(head.map(|head| head.extract_id));
                make(&mut transaction, &finishing, head, extract_id, new, true).await?
            }
            None => finish_unchanged(&mut transaction, &finishing, work).await?,
        };
        let Some(Finished { made, has_run_ended }) = finished else { return Ok(ComparedDocument::Outdated) };
        if !has_run_ended {
            end_if_complete(&mut transaction, run_id, now).await?;
        }
        transaction.commit().await.map_err(failed("commit a version"))?;
        Ok(ComparedDocument::Finished(made))
    }
}

/// A document that is being finished; its run and its row are locked.
struct Finishing<'a> {
    run_id: Uuid,
    subscription_id: i64,
    url: &'a str,
    now: Timestamp,
}

/// What became of it.
struct Finished {
    made: Option<MadeVersion>,
    /// Whether the run has ended with it, being a run of one document.
    has_run_ended: bool,
}

/// Ends the run of the document in `stored`, where it has no other.
const ENDED: &str = "ended as (
     update runs r set finished_at = $4, phase = 'Succeeded', changed = s.changed, message = s.message,
         reason = case when s.changed then $5 else $6 end
     from stored s
     where r.id = $1 and r.trigger <> 'Backfill'
         and not exists (select from documents other where other.run_id = $1 and other.url <> $3)
     returning r.id)";

/// Locks a run and then its document, when the run waits for it to be compared. Returns the id of their subscription.
async fn lock_fetched(
    connection: &mut PgConnection,
    run_id: Uuid,
    url: &str,
) -> Result<Option<i64>, CatalogError> {
    sqlx::query_scalar(
        "select d.subscription_id from runs r join documents d on d.run_id = r.id
         where r.id = $1 and r.finished_at is null and d.url = $2 and d.phase = 'Fetched' for update of r, d",
    )
    .bind(run_id)
    .bind(url)
    .fetch_optional(connection)
    .await
    .map_err(failed("lock a run and its document"))
}

/// Makes a version and the head that goes with it, unless the head is another than it was compared with. The document is
/// finished with it, or `is_finished` is false.
async fn make(
    connection: &mut PgConnection,
    finishing: &Finishing<'_>,
    head: Option<&Head>,
    extract_id: Option<i64>,
    new: &NewVersion,
    is_finished: bool,
) -> Result<Option<Finished>, CatalogError> {
    let sql = format!(
        "with head as materialized (
             select version_id, number, artifact_id from document_heads
             where subscription_id = $2 and url = $3 for update),
         expected as (
             select coalesce(h.number, 0) + 1 as number
             from (values (1)) as one left join head h on true where h.version_id is not distinct from $7
                 and h.artifact_id is not distinct from $8),
         made as (
             insert into versions (subscription_id, url, number, extract_id, text_hash, change, kind, run_id, previous,
                 created_at)
             select $2, $3, x.number, e.id, e.text_hash, $10::json, $11, $1, case when $12 then $7 end, $4
             from expected x join extracts e on e.id = $9 and e.subscription_id = $2
             returning id, number, kind),
         moved as (
             insert into document_heads (subscription_id, url, artifact_id, fetch_hash, extract_id, version_id, number,
                 selection_hash, parser_version, is_gone, is_found)
             select $2, $3, e.artifact_id, a.fetch_hash, e.id, m.id, m.number, e.selection_hash, e.parser_version,
                 m.kind = 'Removed', not d.is_base
             from made m join extracts e on e.id = $9 join artifacts a on a.id = e.artifact_id
             join documents d on d.run_id = $1 and d.url = $3
             on conflict (subscription_id, url) do update set artifact_id = excluded.artifact_id,
                 fetch_hash = excluded.fetch_hash, extract_id = excluded.extract_id, version_id = excluded.version_id,
                 number = excluded.number, selection_hash = excluded.selection_hash,
                 parser_version = excluded.parser_version, is_gone = excluded.is_gone, is_found = excluded.is_found
             -- A head that was made meanwhile is not to be written over.
             where document_heads.version_id = $7
             returning version_id),
         stored as (
             -- A first version is what there is to know from now on; one under other selectors is no news.
             update documents d set phase = 'Stored', changed = m.kind <> 'Baseline' or m.number = 1, version_id = m.id,
                 finished_at = $4
             from made m join moved on moved.version_id = m.id
             where $13 and d.run_id = $1 and d.url = $3
             returning d.changed, d.message),
         {ENDED}
         select m.id, m.number, m.kind, exists (select from ended) as has_run_ended
         from made m join moved on moved.version_id = m.id"
    );
    let row = finishing
        .bind(&sql)
        .bind(head.map(|head| head.version_id))
        .bind(head.map(|head| head.artifact_id))
        .bind(extract_id)
        .bind(new.change.get())
        .bind(new.kind)
        .bind(new.is_compared)
        .bind(is_finished)
        .fetch_optional(connection)
        .await;
    let finished = |row: &PgRow| {
        Ok(Finished { made: Some(made_version(row, "")?), has_run_ended: row.try_get("has_run_ended")? })
    };
    match row {
        Ok(Some(row)) => finished(&row).map(Some).map_err(failed("read a version")),
        Ok(None) => Ok(None),
        // Two first versions at the same moment: the number is taken.
        Err(sqlx::Error::Database(error)) if error.is_unique_violation() => Ok(None),
        Err(error) => Err(failed("make a version")(error)),
    }
}

/// Finishes a document that is as the head says, and notes that it is, when the head is still the one that it was compared
/// with.
async fn finish_unchanged(
    connection: &mut PgConnection,
    finishing: &Finishing<'_>,
    work: &VersionWork,
) -> Result<Option<Finished>, CatalogError> {
    // What was never there is not there, and what was fetched before the head's artifact says nothing new: nothing to note.
    let seen = work.head.as_ref().zip(work.extract.as_ref().filter(|extract| !extract.is_earlier));
    let sql = format!(
        "with moved as (
             update document_heads h set artifact_id = e.artifact_id, fetch_hash = a.fetch_hash, extract_id = e.id,
                 is_found = is_found or exists (select from documents d
                     where d.subscription_id = $2 and d.url = $3 and d.artifact_id = e.artifact_id and not d.is_base)
             from extracts e join artifacts a on a.id = e.artifact_id
             where h.subscription_id = $2 and h.url = $3 and h.version_id = $7 and h.artifact_id = $8 and e.id = $9
             returning h.url),
         stored as (
             update documents d set phase = 'Stored', changed = false, version_id = null, finished_at = $4
             where d.run_id = $1 and d.url = $3 and ($9::bigint is null or exists (select from moved))
             returning d.changed, d.message),
         {ENDED}
         select exists (select from ended) as has_run_ended from stored"
    );
    let row = finishing
        .bind(&sql)
        .bind(seen.map(|(head, _)| head.version_id))
        .bind(seen.map(|(head, _)| head.artifact_id))
        .bind(seen.map(|(_, extract)| extract.id))
        .fetch_optional(connection)
        .await
        .map_err(failed("finish a document that is as it was"))?;
    let finished = |row: PgRow| Ok(Finished { made: None, has_run_ended: row.try_get("has_run_ended")? });
    row.map(finished).transpose().map_err(failed("read whether a run has ended"))
}

impl<'a> Finishing<'a> {
    /// A statement with what it is about as `$1` to `$4`, and the two reasons of [`ENDED`].
    fn bind(&'a self, sql: &'a str) -> Query<'a, Postgres, PgArguments> {
        sqlx::query(sqlx::AssertSqlSafe(sql))
            .bind(self.run_id)
            .bind(self.subscription_id)
            .bind(self.url)
            .bind(sql_time(self.now))
            .bind(run_reasons::CHANGED)
            .bind(run_reasons::UNCHANGED)
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
    })
}

fn made_version(row: &PgRow, prefix: &str) -> Result<MadeVersion, sqlx::Error> {
    let column = |name: &str| format!("{prefix}{name}");
    Ok(MadeVersion {
        id: row.try_get(column("id").as_str())?,
        number: row.try_get(column("number").as_str())?,
        kind: row.try_get(column("kind").as_str())?,
    })
}
