//! Documents that are waited for: each of a subscription and a source of its own, and each time of a new run.

use std::{ops::Range, time::Instant};

use events::{
    BoxError, Bus, CrawlUrl, Event, Record,
    kafka::{KafkaBus, KafkaOptions},
};
use jiff::{SignedDuration, Timestamp};
use sqlx::PgPool;
use store::catalog::{
    Catalog, CatchUp, Concurrency, DueRun, Lead, ObjectKey, SourceRecord, SourceSettings, SubscriptionRecord,
    SubscriptionSettings, WhenActive,
};
use tests::{Installation, Process};
use tokio::time::sleep;
use uuid::Uuid;

use super::{PATIENCE, Pass, patience};
use crate::{catalog, system::cpu_seconds_of};

/// How often it is looked whether all is there: seldom, since to look costs the database time too. When it was, the rows tell.
const LOOK_EVERY: std::time::Duration = std::time::Duration::from_millis(200);

/// How soon it is noticed that something has begun, which no row tells.
const NOTICE_WITHIN: std::time::Duration = std::time::Duration::from_millis(20);

pub(super) struct Work {
    catalog: Catalog,
    lead: Lead,
    bus: KafkaBus,
    pool: PgPool,
    documents: Vec<Document>,
    urls: Vec<String>,
}

/// When a pass has ended.
#[derive(Clone, Copy)]
pub(super) enum Until {
    /// All is fetched and stored.
    Stored,
    /// All runs have ended: what was fetched is parsed and compared too.
    Ended,
}

impl Until {
    fn waiting(self) -> &'static str {
        match self {
            Self::Stored => {
                "select count(*) from (select from documents
                     where finished_at is null and phase = 'Pending' limit 1) as waiting"
            }
            Self::Ended => {
                "select count(*) from (select from runs where finished_at is null limit 1) as waiting"
            }
        }
    }

    /// When the last of what was due last was there, in seconds since 1970: when its row was committed.
    fn reached(self) -> &'static str {
        match self {
            Self::Stored => {
                "select extract(epoch from max(pg_xact_commit_timestamp(d.xmin)))::float8 from documents d
                 join runs r on r.id = d.run_id where r.scheduled_for = (select max(scheduled_for) from runs)"
            }
            Self::Ended => {
                "select extract(epoch from max(pg_xact_commit_timestamp(xmin)))::float8 from runs
                 where scheduled_for = (select max(scheduled_for) from runs)"
            }
        }
    }
}

struct Document {
    uid: Uuid,
    source_id: i64,
    subscription_id: i64,
    host: String,
}

impl Work {
    pub(super) async fn new(tipstaff: &Installation, urls: &[String]) -> Result<Self, BoxError> {
        let catalog = Catalog::connect(tipstaff.database_url(), 8, PATIENCE).await?;
        let start = Timestamp::now().checked_sub(SignedDuration::from_hours(1))?;
        let lead = catalog.lead(1, "bench", start).await?;
        let bus = KafkaBus::new(KafkaOptions {
            brokers: tipstaff.stack.kafka_brokers()?,
            prefix: tipstaff.prefix.clone(),
            properties: Default::default(),
            partitions: 6,
            replication: 1,
            revoke: std::time::Duration::from_secs(5),
        })?;
        bus.ensure_topics().await?;
        let mut documents = Vec::new();
        for (number, url) in urls.iter().enumerate() {
            let source_id = catalog.put_source(&source(number, url), start).await?.id;
            let record = subscription(number, source_id, start);
            let row = catalog.put_subscription(&record, start).await?;
            let parsed: url::Url = url.parse()?;
            let host = format!("{}:{}", parsed.host_str().unwrap_or_default(), parsed.port().unwrap_or(80));
            documents.push(Document {
                uid: record.key.uid,
                source_id,
                subscription_id: row.scheduled.id,
                host,
            });
        }
        Ok(Self { catalog, lead, bus, pool: tipstaff.pool.clone(), documents, urls: urls.to_vec() })
    }

    pub(super) fn urls(&self) -> &[String] {
        &self.urls
    }

    /// Has the worker fetch some of the documents, and says how long it took from the first event until the last was there.
    pub(super) async fn fetch(
        &self,
        worker: &Process,
        which: Range<usize>,
        until: Until,
    ) -> Result<Pass, BoxError> {
        self.fetch_due(worker, &self.due(which).await?, until).await
    }

    /// Makes a run of each of some of the documents, due now, and the events by which a worker fetches them.
    pub(super) async fn due(&self, which: Range<usize>) -> Result<Vec<Record>, BoxError> {
        // Due now, after all that was fetched before: a run takes what was fetched since it was due for its own.
        let now = Timestamp::now();
        let documents = self.documents.get(which.clone()).ok_or("no such documents")?;
        let urls = self.urls.get(which).ok_or("no such documents")?;
        let due: Vec<DueRun> = documents
            .iter()
            .map(|document| DueRun {
                subscription_id: document.subscription_id,
                subscription_uid: document.uid,
                generation: 1,
                scheduled_for: now,
                when_active: WhenActive::RunBoth,
                skip: None,
                skipped_together: None,
            })
            .collect();
        let mut records: Vec<Record> = Vec::new();
        for (due, rest) in due.chunks(500).zip(documents.iter().zip(urls).collect::<Vec<_>>().chunks(500)) {
            let runs = self.lead.fire(due, now).await?.runs;
            for run in runs {
                let (document, url) = rest
                    .iter()
                    .find(|(document, _)| document.subscription_id == run.subscription_id)
                    .ok_or("a run of no subscription")?;
                self.catalog.begin_run(run.run_id, std::slice::from_ref(*url), now).await?;
                let payload = CrawlUrl {
                    run_id: run.run_id,
                    subscription_id: document.subscription_id,
                    source_id: document.source_id,
                    url: (*url).clone(),
                    host: document.host.clone(),
                    slot_promised: false,
                };
                records.push(Event::of_run(run.run_id, "/bench", now, &payload)?.to_record());
            }
        }
        catalog::execute(&self.pool, "delete from outbox").await?;
        catalog::execute(&self.pool, "vacuum analyze").await?;
        catalog::execute(&self.pool, "checkpoint").await?;
        Ok(records)
    }

    /// Has the worker fetch what is [due](Self::due), and says how long it took from the first event until the last was there.
    pub(super) async fn fetch_due(
        &self,
        worker: &Process,
        records: &[Record],
        until: Until,
    ) -> Result<Pass, BoxError> {
        let cpu = cpu_seconds_of(worker.id());
        let (started, began) = (Timestamp::now(), Instant::now());
        self.bus.publish(records).await?;
        while catalog::count(&self.pool, until.waiting()).await? > 0 {
            patience(worker, began)?;
            sleep(LOOK_EVERY).await;
        }
        let seconds = self.seconds_since(started, until).await?;
        let failed = "select count(*) from documents where phase = 'Failed'";
        if catalog::count(&self.pool, failed).await? > 0 {
            return Err("a document failed".into());
        }
        let fetched =
            "select count(*) from artifacts where run_id in (select id from runs where scheduled_for = (
             select max(scheduled_for) from runs))";
        let fetched = catalog::count(&self.pool, fetched).await?;
        if usize::try_from(fetched)? != records.len() {
            return Err(format!("{fetched} of {} documents were fetched", records.len()).into());
        }
        let cpu_milliseconds = (cpu_seconds_of(worker.id()) - cpu) * 1000.0 / records.len() as f64;
        Ok(Pass { seconds, cpu_milliseconds })
    }

    /// Waits until what was fetched is parsed and compared by `worker`, which was started just now, and says how long that
    /// took from its first extract.
    pub(super) async fn compared(&self, worker: &Process) -> Result<Pass, BoxError> {
        let waiting = Until::Ended.waiting();
        let documents =
            catalog::count(&self.pool, "select count(*) from runs where finished_at is null").await?;
        let begun = Instant::now();
        let newest = "select coalesce(max(id), 0) from extracts";
        let before = catalog::count(&self.pool, newest).await?;
        while catalog::count(&self.pool, newest).await? == before && documents > 0 {
            patience(worker, begun)?;
            sleep(NOTICE_WITHIN).await;
        }
        let (started, cpu) = (Timestamp::now(), cpu_seconds_of(worker.id()));
        while catalog::count(&self.pool, waiting).await? > 0 {
            patience(worker, begun)?;
            sleep(LOOK_EVERY).await;
        }
        let cpu = cpu_seconds_of(worker.id()) - cpu;
        let seconds = self.seconds_since(started, Until::Ended).await?;
        Ok(Pass { seconds, cpu_milliseconds: cpu * 1000.0 / (documents.max(1) as f64) })
    }

    /// Waits until the targets of all versions have been looked for.
    pub(super) async fn planned(&self, worker: &Process) -> Result<(), BoxError> {
        let begun = Instant::now();
        let waiting =
            "select count(*) from (select from versions where planned_at is null limit 1) as waiting";
        while catalog::count(&self.pool, waiting).await? > 0 {
            patience(worker, begun)?;
            sleep(LOOK_EVERY).await;
        }
        Ok(())
    }

    /// From a time until all that was due last was there.
    async fn seconds_since(&self, started: Timestamp, until: Until) -> Result<f64, BoxError> {
        let reached: f64 = sqlx::query_scalar(until.reached()).fetch_one(&self.pool).await?;
        // All may have been there before.
        Ok((reached - started.as_microsecond() as f64 / 1e6).max(0.0))
    }

    /// Gives up what was fetched and not compared.
    pub(super) async fn give_up(&self) -> Result<(), BoxError> {
        let documents =
            "update documents set phase = 'Failed', finished_at = now() where finished_at is null";
        catalog::execute(&self.pool, documents).await?;
        let runs = "update runs set phase = 'Failed', finished_at = now() where finished_at is null";
        catalog::execute(&self.pool, runs).await?;
        Ok(())
    }
}

fn key(name: String) -> ObjectKey {
    ObjectKey { uid: Uuid::new_v4(), namespace: "bench".to_owned(), name }
}

fn source(number: usize, url: &str) -> SourceRecord {
    let settings = SourceSettings {
        base_url: url.to_owned(),
        kind: "auto".to_owned(),
        obey_robots: false,
        suspend: false,
        user_agent: None,
        headers: Vec::new(),
        timeout_ms: 60_000,
        max_bytes: 100_000_000,
        min_interval_ms: 0,
        follow: None,
        cadence_ms: None,
    };
    SourceRecord { key: key(format!("source-{number}")), generation: 1, settings }
}

fn subscription(number: usize, source_id: i64, created_at: Timestamp) -> SubscriptionRecord {
    let settings = SubscriptionSettings {
        schedule: "* * * * *".to_owned(),
        time_zone: "Etc/UTC".to_owned(),
        starting_deadline_seconds: None,
        concurrency: Concurrency::Allow,
        catch_up: CatchUp::Latest,
        jitter_seconds: 0,
        suspend: false,
        jurisdiction: None,
        retention: None,
        selection: store::catalog::SelectionSettings::default(),
        targets: Vec::new(),
    };
    SubscriptionRecord {
        key: key(format!("subscription-{number}")),
        generation: 1,
        source_id,
        settings,
        created_at,
    }
}
