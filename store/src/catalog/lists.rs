//! Lists: the documents that pages, feeds and sitemaps lead a run to, and those that they do not name any more.

use std::collections::HashMap;

use events::Event;
use jiff::Timestamp;
use sqlx::{PgConnection, Row};
use uuid::Uuid;

use super::{Catalog, CatalogError, documents::lock_run, failed, outbox};

/// A document that a list led to: a page, a feed or a sitemap.
#[derive(Clone, Debug)]
pub struct FoundDocument {
    /// Its URL.
    pub url: String,
    /// What the list says of it: the same again need not be fetched.
    pub marker: Option<String>,
    /// Whether it is a list itself.
    pub is_list: bool,
    /// Asks for it to be fetched.
    pub event: Event,
    /// When it may be.
    pub available_at: Timestamp,
}

/// What a list led to.
#[derive(Clone, Debug, Default)]
pub struct Findings {
    /// The documents that are to be fetched.
    pub documents: Vec<FoundDocument>,
    /// How many documents that are no lists a run is led to at most; what is more is left out.
    pub limit: usize,
    /// Whether there are more, which have to wait for a later run: then what is said of the list does not show that
    /// all it names was brought in.
    pub is_cut_short: bool,
    /// Whether some of these were never had: then what is found later need not be new.
    pub misses_some: bool,
    /// What whoever watches the list should know about it.
    pub note: Option<String>,
    /// Documents that the list named before and does not name any more.
    pub gone: Vec<GoneDocument>,
}

/// A document that its list does not name any more.
#[derive(Clone, Debug)]
pub struct GoneDocument {
    /// Its URL.
    pub url: String,
    /// Asks for that to be a version.
    pub event: Event,
}

impl Findings {
    /// Whether the list changes nothing but its own document.
    pub(super) fn is_empty(&self) -> bool {
        self.documents.is_empty() && self.gone.is_empty()
    }
}

/// A document that a subscription has from an earlier run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownDocument {
    /// What the list said of it. None of a list in whose run not every document was brought in: it has to be read again.
    pub marker: Option<String>,
    /// The catalog's id of its artifact. The lower, the longer ago the document was looked at.
    pub artifact_id: i64,
}

/// How many documents lists have led a run to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FoundCount {
    /// Those that are no lists.
    pub documents: usize,
    /// Those that are.
    pub lists: usize,
}

impl Catalog {
    /// How many documents of a run are not the source's own, and how many of these are lists.
    ///
    /// # Errors
    /// When the catalog fails.
    pub async fn count_found(&self, run_id: Uuid) -> Result<FoundCount, CatalogError> {
        let mut connection = self.pool.acquire().await.map_err(failed("connect"))?;
        count_found(&mut connection, run_id).await
    }

    /// The documents that the list of the run's source led to before and does not name now: it names `listed`. Before any
    /// run has read the list to its end, nothing can be said to be gone: its rules may have changed. Then what it does not
    /// name is no longer taken for found by it.
    ///
    /// # Errors
    /// When the catalog fails.
    pub async fn gone_from_list(&self, run_id: Uuid, listed: &[&str]) -> Result<Vec<String>, CatalogError> {
        let rows = sqlx::query(
            "with list as (
                 select s.id as subscription_id, s.list_read_by is not null as was_read
                 from runs r join subscriptions s on s.id = r.subscription_id where r.id = $1),
             missing as (
                 select h.subscription_id, h.url, list.was_read
                 from list join document_heads h on h.subscription_id = list.subscription_id
                 where h.is_found and not h.is_gone
                     and not exists (select from unnest($2::text[]) as listed (url) where listed.url = h.url)),
             locked as materialized (
                 -- In one order, so that no two transactions wait for each other.
                 select h.subscription_id, h.url
                 from document_heads h join missing m on m.subscription_id = h.subscription_id and m.url = h.url
                 where not m.was_read order by h.subscription_id, h.url for no key update of h),
             left_alone as (
                 update document_heads h set is_found = false from locked l
                 where h.subscription_id = l.subscription_id and h.url = l.url)
             select url from missing where was_read order by url",
        )
        .bind(run_id)
        .bind(listed)
        .fetch_all(&self.pool)
        .await
        .map_err(failed("look for documents that a list names no more"))?;
        rows.iter().map(|row| row.try_get("url")).collect::<Result<_, _>>().map_err(failed("read documents"))
    }

    /// What the run's subscription has of these URLs from earlier runs; those that it never had are not in it.
    ///
    /// # Errors
    /// When the catalog fails.
    pub async fn known_documents(
        &self,
        run_id: Uuid,
        urls: &[&str],
    ) -> Result<HashMap<String, KnownDocument>, CatalogError> {
        let rows = sqlx::query(
            "select wanted.url, known.artifact_id, known.marker
             from runs r, unnest($2::text[]) as wanted (url)
             cross join lateral (
                 -- What was not compared has to be fetched again, whatever is said of it.
                 select d.artifact_id, case when d.phase = 'Stored' and case when d.is_list
                     then not exists (
                         select from documents other where other.run_id = d.run_id and other.phase <> 'Stored')
                     else exists (select from document_heads h
                         where h.subscription_id = d.subscription_id and h.url = d.url) end
                     then d.marker end as marker
                 from documents d
                 where d.subscription_id = r.subscription_id and d.url = wanted.url and d.artifact_id is not null
                     and d.run_id <> r.id
                 order by d.artifact_id desc limit 1) known
             where r.id = $1",
        )
        .bind(run_id)
        .bind(urls)
        .fetch_all(&self.pool)
        .await
        .map_err(failed("look up known documents"))?;
        rows.iter()
            .map(|row| {
                let known = KnownDocument {
                    marker: row.try_get("marker")?,
                    artifact_id: row.try_get("artifact_id")?,
                };
                Ok((row.try_get("url")?, known))
            })
            .collect::<Result<_, _>>()
            .map_err(failed("read known documents"))
    }
}

async fn count_found(connection: &mut PgConnection, run_id: Uuid) -> Result<FoundCount, CatalogError> {
    let row = sqlx::query(
        "select count(*) filter (where not is_list) as documents, count(*) filter (where is_list) as lists
         from documents where run_id = $1 and not is_base",
    )
    .bind(run_id)
    .fetch_one(connection)
    .await
    .map_err(failed("count a run's documents"))?;
    let count =
        |column| row.try_get::<i64, _>(column).map(|count| usize::try_from(count).unwrap_or_default());
    let counts = || Ok(FoundCount { documents: count("documents")?, lists: count("lists")? });
    counts().map_err(failed("count a run's documents"))
}

/// What there is room for in the run, and whether something is left out. Lists that are read at the same time share the
/// room.
pub(super) async fn fitting<'a>(
    connection: &mut PgConnection,
    run_id: Uuid,
    findings: &'a Findings,
) -> Result<(Vec<&'a FoundDocument>, bool), CatalogError> {
    lock_run(connection, run_id).await?;
    let mut room = findings.limit.saturating_sub(count_found(connection, run_id).await?.documents);
    let mut fitting = Vec::new();
    for document in &findings.documents {
        if document.is_list {
            fitting.push(document);
        } else if room > 0 {
            room -= 1;
            fitting.push(document);
        }
    }
    let is_cut_short = findings.is_cut_short || fitting.len() < findings.documents.len();
    Ok((fitting, is_cut_short))
}

/// Adds documents that a list led to, and those that it names no more, when the run still waits for the list. Those that
/// it has already stay as they are.
pub(super) async fn add(
    connection: &mut PgConnection,
    run_id: Uuid,
    list: &str,
    found: &[&FoundDocument],
    gone: &[GoneDocument],
    now: Timestamp,
) -> Result<(), CatalogError> {
    sqlx::query(
        "insert into documents (run_id, subscription_id, url, marker, is_list, is_gone, phase, is_base)
         select l.run_id, l.subscription_id, new.url, new.marker, new.is_list, new.is_gone,
             case when new.is_gone then 'Fetched' else 'Pending' end, false
         from documents l, unnest($3::text[], $4::text[], $5::boolean[], $6::boolean[]) as new (url, marker, is_list, is_gone)
         where l.run_id = $1 and l.url = $2
         on conflict do nothing",
    )
    .bind(run_id)
    .bind(list)
    .bind(urls(found, gone).collect::<Vec<_>>())
    .bind(found.iter().map(|document| document.marker.as_deref()).chain(gone.iter().map(|_| None)).collect::<Vec<_>>())
    .bind(found.iter().map(|document| document.is_list).chain(gone.iter().map(|_| false)).collect::<Vec<_>>())
    .bind(found.iter().map(|_| false).chain(gone.iter().map(|_| true)).collect::<Vec<_>>())
    .execute(&mut *connection)
    .await
    .map_err(failed("add documents"))?;
    let found = found.iter().map(|document| (&document.event, document.available_at));
    outbox::insert_at(connection, found.chain(gone.iter().map(|document| (&document.event, now)))).await
}

fn urls<'a>(found: &'a [&FoundDocument], gone: &'a [GoneDocument]) -> impl Iterator<Item = &'a str> {
    let found = found.iter().map(|document| document.url.as_str());
    found.chain(gone.iter().map(|document| document.url.as_str()))
}
