//! A catalog in a database of its own, and the objects that tests put into it.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde_json::value::to_raw_value;
use sqlx::{
    PgPool,
    postgres::{PgConnectOptions, PgPoolOptions},
};
use stack::Stack;
use store::catalog::{
    Artifact, Catalog, CatalogError, CatchUp, ComparedDocument, Concurrency, DueRun, Evidence, ExtractFields,
    FetchedDocument, FiredRun, HeaderSetting, HeaderSource, Lead, MadeVersion, NewArtifact, NewExtract,
    NewVersion, ObjectKey, RequestedRun, RunReport, ScheduledSubscription, SelectionSettings, SourceRecord,
    SourceSettings, StoredDocument, SubscriptionRecord, SubscriptionSettings, Trigger, WhenActive,
};
use uuid::Uuid;

/// 2026-03-09, 12:00 UTC.
pub(crate) const NOON: Timestamp = Timestamp::constant(1_773_057_600, 0);
/// The longest that anything here is waited for.
pub(crate) const SOON: Duration = Duration::from_secs(20);
/// A document of every source here.
pub(crate) const URL: &str = "https://example.org/opinions";
pub(crate) const OTHER_URL: &str = "https://example.org/orders";

/// So many minutes after noon.
pub(crate) fn minute(number: i64) -> Timestamp {
    NOON + SignedDuration::from_mins(number)
}

/// The database is dropped at the end; when the test fails, it stays for whoever looks for the cause.
pub(crate) struct Place {
    stack: Stack,
    database: String,
    url: String,
    pub(crate) catalog: Catalog,
    lead: Option<Lead>,
    /// To look behind the catalog's back.
    pub(crate) sql: PgPool,
}

impl Place {
    /// With the schema in it.
    pub(crate) async fn new() -> Self {
        let mut place = Self::empty().await;
        place.catalog.migrate().await.unwrap();
        place.lead = Some(place.catalog.lead(1, "test", NOON).await.unwrap());
        place
    }

    pub(crate) async fn empty() -> Self {
        let stack = Stack::shared().await.unwrap();
        let database = format!("catalog_{}", Uuid::new_v4().simple());
        let url = stack.create_database(&database).await.unwrap();
        let catalog = connect(&url).await;
        let options: PgConnectOptions = url.parse().unwrap();
        let sql = PgPoolOptions::new().max_connections(4).connect_with(options).await.unwrap();
        Self { stack, database, url, catalog, lead: None, sql }
    }

    /// The right to make runs, under epoch 1.
    pub(crate) fn lead(&self) -> &Lead {
        self.lead.as_ref().unwrap()
    }

    /// What came of due times.
    pub(crate) async fn fire(&self, due: &[DueRun], now: Timestamp) -> Result<Vec<FiredRun>, CatalogError> {
        Ok(self.lead().fire(due, now).await?.runs)
    }

    /// The catalog as another process has it.
    pub(crate) async fn other_process(&self) -> Catalog {
        connect(&self.url).await
    }

    /// The catalog as a worker has it.
    pub(crate) async fn worker(&self) -> Catalog {
        Catalog::connect_by_keys(&self.url, 8, SOON).await.unwrap()
    }

    pub(crate) async fn drop_database(&self) {
        let sql = format!("drop database if exists \"{}\" with (force)", self.database);
        self.stack.psql("postgres", &sql).await.unwrap();
    }

    pub(crate) async fn execute(&self, sql: &'static str) {
        sqlx::raw_sql(sql).execute(&self.sql).await.unwrap();
    }

    /// The one number that a statement returns.
    pub(crate) async fn number(&self, sql: &'static str) -> i64 {
        sqlx::query_scalar(sql).fetch_one(&self.sql).await.unwrap()
    }

    /// The one number that a statement returns of what PostgreSQL counts. Sessions tell it when they end: none is left.
    pub(crate) async fn counted(&self, sql: &'static str) -> i64 {
        let others = "select count(pg_terminate_backend(pid, 20000)) from pg_stat_activity
            where datname = current_database() and pid <> pg_backend_pid()";
        self.number(others).await;
        self.number(sql).await
    }

    /// The one text that a statement about a row returns.
    pub(crate) async fn text_of(&self, sql: &'static str, id: i64) -> String {
        sqlx::query_scalar(sql).bind(id).fetch_one(&self.sql).await.unwrap()
    }

    pub(crate) async fn source(&self, name: &str) -> i64 {
        self.catalog.put_source(&source_record(name), NOON).await.unwrap().id
    }

    /// A subscription, with a source, whose due times are accounted for up to noon.
    pub(crate) async fn subscription(&self, name: &str) -> ScheduledSubscription {
        let record = subscription_record(name, self.source(name).await);
        self.catalog.put_subscription(&record, NOON).await.unwrap().scheduled
    }

    /// Makes the run of a due time that the schedule's rules do not object to.
    pub(crate) async fn run(&self, subscription: &ScheduledSubscription, at: Timestamp) -> Uuid {
        let fired = self.fire(&[due(subscription, at, WhenActive::RunBoth)], at).await.unwrap();
        assert_eq!(fired.len(), 1);
        assert_eq!(fired[0].skip, None);
        fired[0].run_id
    }

    /// A run that waits for these documents.
    pub(crate) async fn begun_run(
        &self,
        subscription: &ScheduledSubscription,
        at: Timestamp,
        urls: &[&str],
    ) -> Uuid {
        let run = self.run(subscription, at).await;
        let urls: Vec<_> = urls.iter().map(|url| (*url).to_owned()).collect();
        assert_eq!(self.catalog.begin_run(run, &urls, at).await.unwrap().pending, urls);
        run
    }

    /// Stores a fetched body as a document of a run, and sees it through.
    pub(crate) async fn store(&self, run: Uuid, url: &str, digit: char, at: Timestamp) -> StoredDocument {
        see_through(&self.catalog, run, url, &fetched(digit), at).await
    }

    /// The run, which must have ended.
    pub(crate) async fn ended(&self, run: Uuid) -> RunReport {
        let mut ended = self.catalog.ended_runs(&[run]).await.unwrap();
        assert_eq!(ended.len(), 1, "the run has not ended");
        ended.remove(0)
    }

    pub(crate) async fn is_active(&self, run: Uuid) -> bool {
        self.catalog.active_runs().await.unwrap().contains(&run)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        let this: &Self = self;
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                runtime.block_on(this.drop_database());
            });
        });
    }
}

async fn connect(url: &str) -> Catalog {
    Catalog::connect(url, 8, SOON).await.unwrap()
}

pub(crate) fn object(name: &str) -> ObjectKey {
    ObjectKey { uid: Uuid::new_v4(), namespace: "courts".to_owned(), name: name.to_owned() }
}

pub(crate) fn source_record(name: &str) -> SourceRecord {
    let settings = SourceSettings {
        base_url: URL.to_owned(),
        kind: "html".to_owned(),
        obey_robots: true,
        suspend: false,
        user_agent: Some("court-watch/1".to_owned()),
        headers: vec![HeaderSetting {
            name: "Authorization".to_owned(),
            value: HeaderSource::Secret { name: "court".to_owned(), key: "token".to_owned() },
        }],
        timeout_ms: 30_000,
        max_bytes: 1 << 20,
        min_interval_ms: 1_000,
        follow: None,
        cadence_ms: None,
    };
    SourceRecord { key: object(name), generation: 1, settings }
}

pub(crate) fn subscription_record(name: &str, source_id: i64) -> SubscriptionRecord {
    let settings = SubscriptionSettings {
        schedule: "* * * * *".to_owned(),
        time_zone: "Etc/UTC".to_owned(),
        starting_deadline_seconds: None,
        concurrency: Concurrency::Forbid,
        catch_up: CatchUp::Latest,
        jitter_seconds: 0,
        suspend: false,
        jurisdiction: Some("US".to_owned()),
        retention: None,
        selection: SelectionSettings::default(),
        targets: Vec::new(),
    };
    SubscriptionRecord { key: object(name), generation: 1, source_id, settings, created_at: NOON }
}

pub(crate) fn due(subscription: &ScheduledSubscription, at: Timestamp, when_active: WhenActive) -> DueRun {
    DueRun {
        subscription_id: subscription.id,
        subscription_uid: subscription.key.uid,
        generation: subscription.generation,
        scheduled_for: at,
        when_active,
        skip: None,
        skipped_together: None,
    }
}

pub(crate) fn request(subscription: &ScheduledSubscription, token: &str) -> RequestedRun {
    RequestedRun {
        subscription_id: subscription.id,
        subscription_uid: subscription.key.uid,
        trigger: Trigger::Request,
        token: token.to_owned(),
        is_of_all: false,
    }
}

/// Parsers of the version 1.
pub(crate) fn document(evidence: Evidence<'_>) -> FetchedDocument<'_> {
    FetchedDocument { evidence, findings: None, parser_version: 1 }
}

/// Stores a fetched body as a document of a run, whose text is its hash, and compares it as the roles do it.
pub(crate) async fn see_through(
    catalog: &Catalog,
    run: Uuid,
    url: &str,
    evidence: &NewArtifact,
    at: Timestamp,
) -> StoredDocument {
    let stored = catalog.store_document(run, url, &document(Evidence::New(evidence)), at).await.unwrap();
    if let StoredDocument::Fetched(artifact) = &stored {
        compare(catalog, run, url, artifact, &artifact.fetch_hash, at).await;
    }
    stored
}

/// Compares a document whose text is `text`. Returns the version, if it differs.
pub(crate) async fn compare(
    catalog: &Catalog,
    run: Uuid,
    url: &str,
    artifact: &Artifact,
    text: &str,
    at: Timestamp,
) -> Option<MadeVersion> {
    let work = catalog.parse_work(run, url, artifact.id, 1).await.unwrap().unwrap();
    let extract = NewExtract {
        artifact_id: artifact.id,
        subscription_id: subscription_of(catalog, run).await,
        parser: "text",
        parser_version: 1,
        selection_hash: work.selection.hash(),
        fields: ExtractFields::new(),
        text: text.to_owned(),
        // Told from others by its beginning.
        text_hash: format!(
            "{:0<64}",
            text.bytes().take(16).map(|byte| format!("{byte:02x}")).collect::<String>()
        ),
    };
    let extract = catalog.store_extract(extract, at).await.unwrap();
    loop {
        let work = catalog.version_work(run, url, Some(extract)).await.unwrap().unwrap();
        let kind = match (&work.head, &work.extract) {
            (None, _) if work.is_new => "New",
            (None, _) => "Baseline",
            (Some(_), Some(extract)) if extract.is_earlier => "",
            (Some(head), _) if head.is_gone => "Returned",
            (Some(_), Some(extract)) if !extract.is_comparable => "Baseline",
            (Some(_), Some(extract)) if extract.is_same => "",
            _ => "Changed",
        };
        let is_compared = matches!(kind, "Changed" | "Returned");
        let new = NewVersion {
            kind,
            change: to_raw_value(&serde_json::json!({ "kind": kind })).unwrap(),
            is_compared,
        };
        let new = Some(new).filter(|new| !new.kind.is_empty());
        match catalog.finish_compared(run, url, &work, new, at).await.unwrap() {
            ComparedDocument::Finished(made) => return made,
            ComparedDocument::NotWaitedFor => return None,
            ComparedDocument::Outdated => {}
        }
    }
}

async fn subscription_of(catalog: &Catalog, run: Uuid) -> i64 {
    catalog.run_plan(run).await.unwrap().unwrap().subscription_id
}

/// A fetched body, told from others by a digit of its hash.
pub(crate) fn fetched(digit: char) -> NewArtifact {
    let fetch_hash = String::from_iter([digit; 64]);
    NewArtifact {
        final_url: format!("{URL}/"),
        redirects: vec![("https://example.org/".to_owned(), 301, "/opinions/".to_owned())],
        request_headers: vec![("authorization".to_owned(), "(not kept)".to_owned())],
        robots: "Allowed",
        blob_uri: format!("s3://tipstaff/raw/{fetch_hash}.bin"),
        fetch_hash,
        status: 200,
        headers: vec![("etag".to_owned(), "\"1\"".to_owned()), ("etag".to_owned(), "\"2\"".to_owned())],
        content_type: Some("text/html".to_owned()),
        sniffed_type: Some("text/html".to_owned()),
        sniffed_list: Some("Page".to_owned()),
        charset: Some("UTF-8".to_owned()),
        etag: Some("\"1\"".to_owned()),
        last_modified: None,
        byte_size: 4_200,
        remote_address: Some("192.0.2.1:443".to_owned()),
        requested_at: minute(1),
        fetched_at: minute(1),
        finished_at: minute(1),
        revisit_of: None,
    }
}
