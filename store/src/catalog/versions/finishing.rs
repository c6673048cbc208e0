//! How documents that were compared are finished, and the versions that they make.

use events::run_reasons;
use jiff::Timestamp;
use sqlx::{
    PgConnection, Postgres, Row,
    postgres::{PgArguments, PgRow},
    query::Query,
};
use uuid::Uuid;

use super::{ComparedDocument, Head, MadeVersion, NewVersion, VersionWork, made_version};
use crate::catalog::{Catalog, CatalogError, failed, runs::end_if_complete, sql_time};

impl Catalog {
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
