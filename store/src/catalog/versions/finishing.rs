//! How documents that were compared are finished, many at once, and the versions that they make.

use std::time::Duration;

use async_trait::async_trait;
use events::run_reasons;
use jiff::Timestamp;
use sqlx::{PgConnection, PgPool, Row, postgres::PgRow};
use uuid::Uuid;

use super::{ComparedDocument, Head, MadeVersion, NewVersion, VersionWork, made_version};
use crate::catalog::{
    Catalog, CatalogError,
    batches::{STORING, Statement},
    failed,
    runs::end_if_complete,
    sql_times,
};

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
        new: NewVersion,
        now: Timestamp,
    ) -> Result<Option<MadeVersion>, CatalogError> {
        let mut compared = Compared::new(run_id, url, work, Some(new), now);
        compared.extract_id = Some(extract_id);
        compared.is_finished = false;
        match self.finished_documents.ask(compared).await? {
            ComparedDocument::Finished(made) => Ok(made),
            ComparedDocument::Outdated | ComparedDocument::NotWaitedFor => Ok(None),
        }
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
        new: Option<NewVersion>,
        now: Timestamp,
    ) -> Result<ComparedDocument, CatalogError> {
        self.finished_documents.ask(Compared::new(run_id, url, work, new, now)).await
    }
}

/// A document that was compared, and with what.
pub(in crate::catalog) struct Compared {
    run_id: Uuid,
    url: String,
    subscription_id: i64,
    head: Option<Head>,
    /// The text that is now known of it; of a document that is gone, what it last was. None: there is nothing to note.
    extract_id: Option<i64>,
    new: Option<NewVersion>,
    /// Whether the document is finished with it.
    is_finished: bool,
    now: Timestamp,
}

impl Compared {
    fn new(run_id: Uuid, url: &str, work: &VersionWork, new: Option<NewVersion>, now: Timestamp) -> Self {
        let extract_id = match (&work.extract, &work.head) {
            (extract, head) if new.is_some() => {
                extract.as_ref().map(|extract| extract.id).or(head.as_ref().map(|head| head.extract_id))
            }
            // What was fetched before the head's artifact says nothing new, and neither does what was never there.
            (Some(extract), Some(_)) if !extract.is_earlier => Some(extract.id),
            _ => None,
        };
        Self {
            run_id,
            url: url.to_owned(),
            subscription_id: work.subscription_id,
            head: work.head.clone(),
            extract_id,
            new,
            is_finished: true,
            now,
        }
    }

    /// Whether what is known of the document is still what it was compared with. Where nothing is noted, it need not be.
    fn is_up_to_date(&self, locked: &LockedHead) -> bool {
        let compared = self.head.as_ref().map(|head| (head.version_id, head.artifact_id));
        compared == locked.0 || self.extract_id.is_none()
    }
}

/// The version and the artifact of a head, if there is one; its row is locked.
struct LockedHead(Option<(i64, i64)>);

/// Finishes documents that were compared.
#[derive(Debug)]
pub(in crate::catalog) struct FinishedDocuments;

#[async_trait]
impl Statement for FinishedDocuments {
    type Question = Compared;
    type Answer = ComparedDocument;

    const PACE: Duration = STORING;

    fn size(compared: &Compared) -> usize {
        compared.new.as_ref().map_or(0, |new| new.change.get().len())
    }

    fn subject(compared: &Compared) -> Option<String> {
        Some(format!("{} {}", compared.subscription_id, compared.url))
    }

    async fn ask(pool: &PgPool, documents: &[Compared]) -> Result<Vec<ComparedDocument>, CatalogError> {
        let mut transaction = pool.begin().await.map_err(failed("begin"))?;
        let locked = lock(&mut transaction, documents).await?;
        let up_to_date = |(number, compared): &(i64, &Compared)| {
            locked.iter().any(|(locked, head)| locked == number && compared.is_up_to_date(head))
        };
        let (new, same): (Vec<_>, Vec<_>) =
            (1..).zip(documents).filter(up_to_date).partition(|(_, compared)| compared.new.is_some());
        let mut finished = Vec::new();
        if !new.is_empty() {
            match make(&mut transaction, &new).await {
                Ok(Some(made)) => finished.extend(made),
                Ok(None) => return Ok(documents.iter().map(|_| ComparedDocument::Outdated).collect()),
                // Two first versions at the same moment: the number is taken. Of several, it is asked for each alone.
                Err(CatalogError::Statement { source: sqlx::Error::Database(error), .. })
                    if documents.len() == 1 && error.is_unique_violation() =>
                {
                    return Ok(vec![ComparedDocument::Outdated]);
                }
                Err(error) => return Err(error),
            }
        }
        if !same.is_empty() {
            finished.extend(finish_unchanged(&mut transaction, &same).await?);
        }
        // A run of several documents ends with the last of them: they are all seen now that its row is locked.
        let waiting = (1..).zip(documents).filter(|(number, compared)| {
            compared.is_finished
                && finished.iter().any(|finished| finished.question == *number && !finished.has_run_ended)
        });
        let mut runs: Vec<(Uuid, Timestamp)> =
            waiting.map(|(_, compared)| (compared.run_id, compared.now)).collect();
        runs.sort_unstable();
        runs.dedup_by_key(|(run_id, _)| *run_id);
        if let Some(now) = runs.iter().map(|(_, now)| *now).max() {
            let runs: Vec<Uuid> = runs.into_iter().map(|(run_id, _)| run_id).collect();
            end_if_complete(&mut transaction, &runs, now).await?;
        }
        transaction.commit().await.map_err(failed("commit versions"))?;
        let outcome = |number| match finished.iter_mut().find(|finished| finished.question == number) {
            Some(finished) => ComparedDocument::Finished(finished.made.take()),
            None if locked.iter().any(|(locked, _)| *locked == number) => ComparedDocument::Outdated,
            None => ComparedDocument::NotWaitedFor,
        };
        let count = i64::try_from(documents.len()).unwrap_or(i64::MAX);
        Ok((1..=count).map(outcome).collect())
    }
}

/// What became of a document.
struct Finished {
    /// Its number among the documents, from 1.
    question: i64,
    made: Option<MadeVersion>,
    /// Whether the run has ended with it, being a run of one document.
    has_run_ended: bool,
}

/// Locks runs, then those of their documents that they wait for to be compared, then the heads of these, each in one order: so
/// that no two transactions wait for each other, and the last document of a run sees all others. Returns which documents of
/// `documents` these are, counted from 1.
async fn lock(
    connection: &mut PgConnection,
    documents: &[Compared],
) -> Result<Vec<(i64, LockedHead)>, CatalogError> {
    let rows = sqlx::query(
        "with compared as materialized (
             select * from unnest($1::uuid[], $2::text[]) with ordinality as compared (run_id, url, question)),
         run as materialized (
             select id from runs where id = any($1::uuid[]) and finished_at is null order by id for update),
         document as materialized (
             select c.question, d.subscription_id, d.url
             from compared c join run on run.id = c.run_id join documents d on d.run_id = c.run_id and d.url = c.url
             where d.phase = 'Fetched' order by d.run_id, d.url for update of d),
         head as materialized (
             select d.question, h.version_id, h.artifact_id
             from document d join document_heads h on h.subscription_id = d.subscription_id and h.url = d.url
             order by h.subscription_id, h.url for no key update of h)
         select question, version_id, artifact_id from document left join head using (question)",
    )
    .bind(documents.iter().map(|compared| compared.run_id).collect::<Vec<_>>())
    .bind(documents.iter().map(|compared| compared.url.as_str()).collect::<Vec<_>>())
    .fetch_all(connection)
    .await
    .map_err(failed("lock documents and their runs"))?;
    let locked = |row: &PgRow| {
        let (version_id, artifact_id): (Option<i64>, Option<i64>) =
            (row.try_get("version_id")?, row.try_get("artifact_id")?);
        Ok((row.try_get("question")?, LockedHead(version_id.zip(artifact_id))))
    };
    rows.iter().map(locked).collect::<Result<_, _>>().map_err(failed("read what is locked"))
}

/// Ends the runs of the documents in `stored` that have no others.
const ENDED: &str = "ended as (
     update runs r set finished_at = s.now, phase = 'Succeeded', changed = s.changed, message = s.message,
         reason = case when s.changed then $1 else $2 end
     from stored s
     where r.id = s.run_id and r.trigger <> 'Backfill'
         and not exists (select from documents other where other.run_id = s.run_id and other.url <> s.url)
     returning r.id)";

/// Makes versions and the heads that go with them, and finishes the documents. All is locked, and as it was when they were
/// compared. None: others have made the first version of one of them meanwhile, and the transaction is not to be committed.
async fn make(
    connection: &mut PgConnection,
    documents: &[(i64, &Compared)],
) -> Result<Option<Vec<Finished>>, CatalogError> {
    let sql = format!(
        "with compared as materialized (
             select * from unnest($3::bigint[], $4::uuid[], $5::text[], $6::bigint[], $7::bigint[], $8::integer[],
                 $9::bigint[], $10::text[], $11::text[], $12::boolean[], $13::boolean[], $14::timestamptz[])
                 as compared (question, run_id, url, subscription_id, head_version, version_number, extract_id, change,
                     kind, is_compared, is_finished, now)),
         made as (
             insert into versions (subscription_id, url, number, extract_id, text_hash, change, kind, run_id, previous,
                 created_at)
             select c.subscription_id, c.url, c.version_number, e.id, e.text_hash, c.change::json, c.kind, c.run_id,
                 case when c.is_compared then c.head_version end, c.now
             from compared c join extracts e on e.id = c.extract_id and e.subscription_id = c.subscription_id
             -- In one order, where there is no head yet that could be locked.
             order by c.subscription_id, c.url
             returning id, subscription_id, url, number, kind),
         new as materialized (
             select c.*, m.id, m.number from compared c join made m using (subscription_id, url)),
         moved as (
             insert into document_heads (subscription_id, url, artifact_id, fetch_hash, extract_id, version_id, number,
                 selection_hash, parser_version, is_gone, is_found)
             select n.subscription_id, n.url, e.artifact_id, a.fetch_hash, e.id, n.id, n.number, e.selection_hash,
                 e.parser_version, n.kind = 'Removed', not d.is_base
             from new n join extracts e on e.id = n.extract_id join artifacts a on a.id = e.artifact_id
             join documents d on d.run_id = n.run_id and d.url = n.url
             on conflict (subscription_id, url) do update set artifact_id = excluded.artifact_id,
                 fetch_hash = excluded.fetch_hash, extract_id = excluded.extract_id, version_id = excluded.version_id,
                 number = excluded.number, selection_hash = excluded.selection_hash,
                 parser_version = excluded.parser_version, is_gone = excluded.is_gone, is_found = excluded.is_found
             -- A head that was made meanwhile is not to be written over.
             where document_heads.number = excluded.number - 1
             returning version_id),
         stored as (
             -- A first version is what there is to know from now on; one under other selectors is no news.
             update documents d set phase = 'Stored', changed = n.kind <> 'Baseline' or n.number = 1, version_id = n.id,
                 finished_at = n.now
             from new n where n.is_finished and d.run_id = n.run_id and d.url = n.url
             returning d.run_id, d.url, d.changed, d.message, n.now),
         {ENDED}
         select n.question, n.id, n.number, n.kind, moved.version_id is not null as is_moved,
             exists (select from ended where ended.id = n.run_id) as has_run_ended
         from new n left join moved on moved.version_id = n.id"
    );
    let rows = sqlx::query(sqlx::AssertSqlSafe(sql))
        .bind(run_reasons::CHANGED)
        .bind(run_reasons::UNCHANGED)
        .bind(documents.iter().map(|(number, _)| *number).collect::<Vec<_>>())
        .bind(all(documents, |compared| compared.run_id))
        .bind(all(documents, |compared| compared.url.as_str()))
        .bind(all(documents, |compared| compared.subscription_id))
        .bind(all(documents, |compared| compared.head.as_ref().map(|head| head.version_id)))
        .bind(all(documents, |compared| compared.head.as_ref().map_or(0, |head| head.number) + 1))
        .bind(all(documents, |compared| compared.extract_id))
        .bind(all(documents, |compared| compared.new.as_ref().map(|new| new.change.get())))
        .bind(all(documents, |compared| compared.new.as_ref().map(|new| new.kind)))
        .bind(all(documents, |compared| compared.new.as_ref().is_some_and(|new| new.is_compared)))
        .bind(all(documents, |compared| compared.is_finished))
        .bind(sql_times(documents.iter().map(|(_, compared)| compared.now)))
        .fetch_all(connection)
        .await
        .map_err(failed("make versions"))?;
    let finished = |row: &PgRow| {
        let is_moved: bool = row.try_get("is_moved")?;
        let made = || -> Result<_, sqlx::Error> {
            Ok(Finished {
                question: row.try_get("question")?,
                made: Some(made_version(row, "")?),
                has_run_ended: row.try_get("has_run_ended")?,
            })
        };
        is_moved.then(made).transpose()
    };
    rows.iter().map(finished).collect::<Result<_, _>>().map_err(failed("read versions"))
}

/// Finishes documents that are as their heads say, and notes that they are. All is locked, and as it was when they were
/// compared.
async fn finish_unchanged(
    connection: &mut PgConnection,
    documents: &[(i64, &Compared)],
) -> Result<Vec<Finished>, CatalogError> {
    let sql = format!(
        "with compared as materialized (
             select * from unnest($3::bigint[], $4::uuid[], $5::text[], $6::bigint[], $7::bigint[], $8::timestamptz[])
                 as compared (question, run_id, url, subscription_id, extract_id, now)),
         moved as (
             update document_heads h set artifact_id = e.artifact_id, fetch_hash = a.fetch_hash, extract_id = e.id,
                 is_found = is_found or exists (select from documents d
                     where d.subscription_id = c.subscription_id and d.url = c.url and d.artifact_id = e.artifact_id
                         and not d.is_base)
             from compared c join extracts e on e.id = c.extract_id join artifacts a on a.id = e.artifact_id
             where h.subscription_id = c.subscription_id and h.url = c.url),
         stored as (
             update documents d set phase = 'Stored', changed = false, version_id = null, finished_at = c.now
             from compared c where d.run_id = c.run_id and d.url = c.url
             returning c.question, d.run_id, d.url, d.changed, d.message, c.now),
         {ENDED}
         select s.question, exists (select from ended where ended.id = s.run_id) as has_run_ended from stored s"
    );
    let rows = sqlx::query(sqlx::AssertSqlSafe(sql))
        .bind(run_reasons::CHANGED)
        .bind(run_reasons::UNCHANGED)
        .bind(documents.iter().map(|(number, _)| *number).collect::<Vec<_>>())
        .bind(all(documents, |compared| compared.run_id))
        .bind(all(documents, |compared| compared.url.as_str()))
        .bind(all(documents, |compared| compared.subscription_id))
        .bind(all(documents, |compared| compared.extract_id))
        .bind(sql_times(documents.iter().map(|(_, compared)| compared.now)))
        .fetch_all(connection)
        .await
        .map_err(failed("finish documents that are as they were"))?;
    let finished = |row: &PgRow| {
        Ok(Finished {
            question: row.try_get("question")?,
            made: None,
            has_run_ended: row.try_get("has_run_ended")?,
        })
    };
    rows.iter().map(finished).collect::<Result<_, _>>().map_err(failed("read whether runs have ended"))
}

/// One column of documents.
fn all<'a, T>(documents: &[(i64, &'a Compared)], column: impl Fn(&'a Compared) -> T) -> Vec<T> {
    documents.iter().map(|(_, compared)| column(compared)).collect()
}
