//! The handlers of all roles on a catalog of their own, a directory of blobs and a site on loopback, at a time that tests set.

use std::{collections::VecDeque, sync::Arc};

use events::{
    Bus, Clock as _, CrawlUrl, Event, HandlerError, ManualClock, Role, VersioningResult, memory::MemoryBus,
};
use jiff::Timestamp;
use prometheus_client::registry::Registry;
use store::{
    blobs::{self, BlobLocation, Spool},
    catalog::{
        DigestSettings, FollowSettings, RunReport, ScheduledSubscription, SourceRecord, SubscriptionRecord,
        TargetPlace, TargetSettings,
    },
};
use tempfile::TempDir;
use tests::{Origin, program};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;
use worker::{
    Newsroom, Pipeline, PipelineError, PipelineOptions, ROUTES, Tools, WorkerMetrics,
    fetch::{AllowedAddresses, Fetcher, GuardedClient, install_crypto_provider},
    pdf_reader,
    secrets::{ClusterSecrets, SecretCache, SecretReader},
    send::Sender,
};

use crate::catalog_place::{Place, SOON, source_record, subscription_record};

pub(crate) const HTML: &str = "text/html; charset=utf-8";

/// A source at `/page` of a site, and a subscription of it.
pub(crate) struct Roles {
    pub(crate) place: Place,
    pub(crate) site: Origin,
    pub(crate) clock: ManualClock,
    pub(crate) record: SubscriptionRecord,
    pub(crate) bus: MemoryBus,
    source_id: i64,
    subscription: ScheduledSubscription,
    tools: Tools,
    folder: TempDir,
}

impl Roles {
    pub(crate) async fn new(follow: Option<&str>) -> Self {
        let (place, site, folder) =
            (Place::new().await, Origin::start("<p>a document").await, tempfile::tempdir().unwrap());
        let clock = ManualClock::new(Timestamp::now());
        let mut source: SourceRecord = source_record("court");
        source.settings.base_url = site.at("/page");
        source.settings.obey_robots = false;
        source.settings.headers = Vec::new();
        source.settings.min_interval_ms = 0;
        source.settings.follow = follow.map(|links| FollowSettings {
            links: links.to_owned(),
            include: Vec::new(),
            exclude: Vec::new(),
            same_host: true,
            limit: 100,
        });
        let now = Timestamp::now();
        let source_id = place.catalog.put_source(&source, now).await.unwrap().id;
        let mut record = subscription_record("court", source_id);
        record.created_at = now;
        let subscription = place.catalog.put_subscription(&record, now).await.unwrap().scheduled;
        let bus = MemoryBus::default();
        let tools = tools(&place, &clock, &bus, &folder).await;
        Self { place, site, clock, record, bus, source_id, subscription, tools, folder }
    }

    /// Changes the subscription's settings, as its object's next generation.
    pub(crate) async fn change(&mut self, change: impl FnOnce(&mut SubscriptionRecord)) {
        change(&mut self.record);
        self.record.generation += 1;
        let row = self.place.catalog.put_subscription(&self.record, Timestamp::now()).await.unwrap();
        self.subscription = row.scheduled;
    }

    /// A run that is due now, and the event that asks for its page.
    pub(crate) async fn due(&self) -> (Uuid, Event) {
        let now = Timestamp::now();
        self.clock.set(now);
        let url = self.site.at("/page");
        let run = self.place.begun_run(&self.subscription, now, &[&url]).await;
        let crawl = CrawlUrl {
            run_id: run,
            subscription_id: self.subscription.id,
            source_id: self.source_id,
            url,
            host: self.site.host(),
            slot_promised: false,
        };
        (run, Event::of_run(run, "/test", now, &crawl).unwrap())
    }

    /// Handles an event as the role does whose it is.
    pub(crate) async fn handle(&self, event: &Event) -> Result<Vec<Event>, HandlerError> {
        let route = ROUTES.iter().find(|route| route.topic == event.topic).unwrap();
        assert_eq!(route.topic.job_type(), event.job_type);
        (route.handler)(&self.tools).handle(event).await
    }

    /// Handles an event and what follows from it, up to versions. Returns those that are told.
    pub(crate) async fn see_through(&self, event: Event) -> Vec<VersioningResult> {
        let (mut waiting, mut told) = (VecDeque::from([event]), Vec::new());
        loop {
            waiting.extend(self.outbox().await);
            let Some(event) = waiting.pop_front() else { return told };
            match event.payload::<VersioningResult>() {
                Ok(made) => told.push(made),
                Err(_) => waiting.extend(self.handle(&event).await.unwrap()),
            }
        }
    }

    /// Runs the page through all roles. Returns the kinds of the versions that are told, and how the run ended.
    pub(crate) async fn run(&self) -> (Vec<String>, RunReport) {
        let (run, event) = self.due().await;
        let told = self.see_through(event).await;
        let kinds = told.into_iter().map(|made| made.kind).collect();
        (kinds, self.place.ended(run).await)
    }

    /// What of crawling and versioning waits in the outbox and may come now.
    pub(crate) async fn outbox(&self) -> Vec<Event> {
        let batch = self.place.catalog.take_outbox(100, self.clock.now()).await.unwrap();
        let events: Vec<Event> =
            batch.records.iter().map(|record| Event::from_record(record).unwrap()).collect();
        batch.commit().await.unwrap();
        // The first event of a run and of a backfill are the schedule role's, which these tests stand in for.
        events.into_iter().filter(|event| event.job_type != "subscription.scheduled").collect()
    }

    /// All versions, as `number kind`.
    pub(crate) async fn versions(&self) -> Vec<String> {
        sqlx::query_scalar("select number || ' ' || kind from versions order by url, number")
            .fetch_all(&self.place.sql)
            .await
            .unwrap()
    }

    /// The objects of a bucket of a user's, in the order of their keys: those of one subscription.
    pub(crate) fn objects(&self, bucket: &str) -> Vec<String> {
        let folder =
            self.folder.path().join("blobs/buckets").join(bucket).join(self.subscription.id.to_string());
        let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
        let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
        paths.sort();
        paths.iter().map(|path| std::fs::read_to_string(path).unwrap()).collect()
    }

    /// Puts an event on the bus.
    pub(crate) async fn publish(&self, event: &Event) {
        self.bus.publish(&[event.to_record()]).await.unwrap();
    }

    /// Consumer loops of all roles, on the bus.
    pub(crate) fn work(&self) -> Working {
        self.work_by(ROUTES)
    }

    /// The same with a table of one's own.
    pub(crate) fn work_by(&self, routes: &[worker::Route]) -> Working {
        let pipeline = self.pipeline(routes).unwrap();
        let stop = CancellationToken::new();
        let mut tasks = JoinSet::new();
        tasks.spawn(pipeline.run(stop));
        Working { _tasks: tasks }
    }

    /// The consumer loops of all roles by a table of one's own.
    pub(crate) fn pipeline(&self, routes: &[worker::Route]) -> Result<Pipeline, PipelineError> {
        let options = PipelineOptions { roles: Role::ALL.to_vec(), concurrency: 4, drain: SOON };
        let bus: Arc<dyn Bus> = Arc::new(self.bus.clone());
        Pipeline::of(routes, &options, &self.tools, &bus)
    }
}

/// Dropped, it ends.
pub(crate) struct Working {
    _tasks: JoinSet<Result<(), PipelineError>>,
}

/// Why an event is given up at once: the reason and the sentence.
pub(crate) fn refused(error: HandlerError) -> (&'static str, String) {
    match error {
        HandlerError::Permanent { reason, source } => (reason, source.to_string()),
        other => panic!("{other:?}"),
    }
}

pub(crate) fn webhook(name: &str, url: &str) -> TargetSettings {
    TargetSettings {
        name: name.to_owned(),
        place: TargetPlace::Webhook { url: url.to_owned(), secret: None, previous_secret: None },
        kinds: vec!["Baseline".to_owned(), "Changed".to_owned()],
        matches: None,
        digest: DigestSettings::None,
    }
}

async fn tools(place: &Place, clock: &ManualClock, bus: &MemoryBus, folder: &TempDir) -> Tools {
    install_crypto_provider();
    let allowed = AllowedAddresses::with_networks(["127.0.0.1/32".parse().unwrap()]);
    let clock = Arc::new(clock.clone());
    let secrets: Arc<dyn SecretReader> = Arc::new(SecretCache::new(ClusterSecrets::default(), clock.clone()));
    let identity = place.catalog.identity().await.unwrap();
    let blobs =
        blobs::connect(&BlobLocation::Directory(folder.path().join("blobs")), identity).await.unwrap();
    let client = GuardedClient::new(allowed.clone()).unwrap();
    // The program that is started again for a PDF is the worker, and not this test.
    let mut pdf_reader = pdf_reader::program().unwrap();
    pdf_reader.path = program("tipstaff-worker");
    Tools {
        catalog: place.catalog.clone(),
        blobs: blobs.clone(),
        fetcher: Fetcher::new(allowed).unwrap(),
        spool: Spool::open(folder.path().join("spool")).await.unwrap(),
        pdf_reader,
        sender: Sender::new(client, secrets.clone(), None, Arc::new(bus.clone()), blobs),
        secrets,
        clock,
        news: Newsroom::default(),
        metrics: WorkerMetrics::register(&mut Registry::default()),
    }
}
