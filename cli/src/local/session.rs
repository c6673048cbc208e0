//! What is told while the parts work, and when it is enough.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use crds::conditions::reasons;
use events::{Clock, error_chain};
use jiff::{SignedDuration, Timestamp};
use operator::{EngineHandle, Reconciler, RunEvent};
use store::catalog::{CatalogError, RequestedRun, RunReport, Trigger};
use tokio::sync::broadcast::{
    self,
    error::{RecvError, TryRecvError},
};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, sleep_until};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;
use worker::{DeliveryTried, News, Setback};

use super::objects::{Applied, Objects};
use super::parts::{Parts, blob_dir};
use super::runs::{self, Happening};
use super::secrets::ManifestSecrets;
use super::{Goal, LocalError, LocalOptions, Outcome};
use crate::manifests::{ManifestWatcher, Manifests, ManifestsError, Problem};
use crate::output::{Delivery, Notice, Printer, RunRow, RunWait, Started, SubscriptionName, Summary};

/// How long to wait for a catalog that failed.
const TRY_AGAIN: Duration = Duration::from_secs(2);
/// How many events of runs are told together.
const EVENTS_AT_ONCE: usize = 512;
/// A run's digest waits for the run's end, and goes out this soon after it at the latest.
const DIGEST_FOLLOWS: SignedDuration = SignedDuration::from_secs(5);
/// How often it is looked whether deliveries wait.
const LOOK_EVERY: Duration = Duration::from_millis(100);

pub(super) struct Session<'a> {
    options: &'a LocalOptions,
    engine: EngineHandle,
    clock: Arc<dyn Clock>,
    printer: Printer,
    watcher: ManifestWatcher,
    objects: Objects,
    secrets: ManifestSecrets,
    runs: broadcast::Receiver<RunEvent>,
    news: broadcast::Receiver<News>,
    /// Of the last reading of the manifests.
    applied: Vec<Applied>,
    /// Runs of which it was told that they began, and not yet that they ended.
    open_runs: HashSet<Uuid>,
    /// Deliveries by open runs: what is delivered is told after what changed.
    held: Vec<DeliveryTried>,
    /// What `--once` ends with.
    summary: Option<Summary>,
}

/// The runs that `--once` waits for.
#[derive(Default)]
struct OnceRuns {
    waiting: Vec<Uuid>,
    rows: Vec<RunRow>,
}

impl<'a> Session<'a> {
    /// Tells where everything is and brings the manifests into force.
    pub(super) async fn start(
        options: &'a LocalOptions,
        psql_command: Option<String>,
        secrets: ManifestSecrets,
        parts: &Parts,
        printer: &Printer,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, LocalError> {
        let engine = parts.engine();
        let started = Started {
            goal: options.goal.name(),
            manifests: options.manifests.display().to_string(),
            data_dir: options.data_dir.display().to_string(),
            blob_dir: blob_dir(options).display().to_string(),
            psql_command,
            sample_site: options.sample_site.clone(),
            resumed_runs: parts.resumed_runs,
        };
        printer.print(&Notice::Started(started)).await?;
        let follows_schedule = options.goal != Goal::Once;
        let objects = Objects::new(Reconciler { engine: engine.clone() }, printer.clone(), follows_schedule);
        let mut session = Self {
            options,
            printer: printer.clone(),
            // Before the first reading, so that no change falls between.
            watcher: ManifestWatcher::start(&options.manifests)?,
            objects,
            secrets,
            runs: engine.listen(),
            news: parts.listen(),
            applied: Vec::new(),
            open_runs: HashSet::new(),
            held: Vec::new(),
            summary: None,
            clock,
            engine,
        };
        session.sync().await?;
        Ok(session)
    }

    /// Tells what happens until the goal is reached, or cannot be any more.
    pub(super) async fn run(&mut self) -> Result<Outcome, LocalError> {
        match self.options.goal {
            Goal::None => self.follow(None).await,
            Goal::Change(within) => self.follow(Some(Instant::now() + within)).await,
            Goal::Once => self.run_once().await,
        }
    }

    /// Tells what was still on its way when the parts had stopped, and how it all ended; until `shutdown`, which the
    /// summary does not heed: it is there already.
    pub(super) async fn finish(mut self, shutdown: &CancellationToken) -> Result<(), LocalError> {
        let summary = self.summary.take();
        let printer = self.printer.clone();
        shutdown.run_until_cancelled(self.tell_rest()).await.transpose()?;
        if let Some(summary) = summary {
            printer.print(&Notice::Summary(summary)).await?;
        }
        Ok(())
    }

    async fn tell_rest(&mut self) -> Result<(), LocalError> {
        loop {
            match self.runs.try_recv() {
                Ok(event) => drop(self.tell_runs(Ok(event)).await?),
                Err(TryRecvError::Lagged(count)) => {
                    drop(self.tell_runs(Err(RecvError::Lagged(count))).await?);
                }
                Err(TryRecvError::Empty | TryRecvError::Closed) => break,
            }
        }
        loop {
            match self.news.try_recv() {
                Ok(news) => self.tell(Ok(news)).await?,
                Err(TryRecvError::Lagged(count)) => self.tell(Err(RecvError::Lagged(count))).await?,
                Err(TryRecvError::Empty | TryRecvError::Closed) => return Ok(()),
            }
        }
    }

    /// With a deadline, until a document changed and whoever is to be told of it was.
    async fn follow(&mut self, deadline: Option<Instant>) -> Result<Outcome, LocalError> {
        loop {
            tokio::select! {
                event = self.runs.recv() => {
                    let mut ended = self.tell_runs(event).await?;
                    ended.retain(|run| run.artifacts.iter().any(|document| document.is_a_change()));
                    if deadline.is_some() && !ended.is_empty() {
                        self.follow_deliveries(&ended, deadline).await?;
                        return Ok(Outcome::Reached);
                    }
                }
                news = self.news.recv() => self.tell(news).await?,
                () = self.watcher.changed() => self.sync().await?,
                () = until(deadline) => return Ok(Outcome::Missed),
            }
        }
    }

    async fn run_once(&mut self) -> Result<Outcome, LocalError> {
        let mut once = OnceRuns::default();
        for applied in std::mem::take(&mut self.applied) {
            self.request(applied, &mut once).await?;
        }
        while !once.waiting.is_empty() {
            let ended = tokio::select! {
                event = self.runs.recv() => self.tell_runs(event).await?,
                news = self.news.recv() => {
                    self.tell(news).await?;
                    continue;
                }
                // An event may have been missed; the catalog knows.
                () = sleep(TRY_AGAIN) => self.look_up(&once.waiting).await,
            };
            for run in ended {
                if let Some(place) = once.waiting.iter().position(|id| run.run_id == Some(*id)) {
                    once.waiting.swap_remove(place);
                    once.rows.push(run);
                }
            }
        }
        self.follow_deliveries(&once.rows, None).await?;
        once.rows.sort_by_key(|run| run.subscription.to_string());
        let failed = once.rows.iter().filter(|run| run.phase == "Failed").count();
        let problems = self.objects.problem_count();
        self.summary = Some(Summary { runs: once.rows, failed, problems });
        Ok(if failed + problems == 0 { Outcome::Reached } else { Outcome::Missed })
    }

    /// Until what these runs found was sent to its targets for the first time, as far as it is due, or until the deadline.
    async fn follow_deliveries(
        &mut self,
        runs: &[RunRow],
        deadline: Option<Instant>,
    ) -> Result<(), LocalError> {
        let runs: Vec<Uuid> = runs.iter().filter_map(|run| run.run_id).collect();
        let mut looks = interval(LOOK_EVERY);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                event = self.runs.recv() => drop(self.tell_runs(event).await?),
                news = self.news.recv() => self.tell(news).await?,
                _ = looks.tick() => {
                    let untried = patiently(async || {
                        let due_before =
                            self.clock.now().checked_add(DIGEST_FOLLOWS).unwrap_or(Timestamp::MAX);
                        self.engine.catalog.untried_deliveries(&runs, due_before).await
                    });
                    if untried.await == 0 {
                        return Ok(());
                    }
                }
                () = until(deadline) => return Ok(()),
            }
        }
    }

    /// Makes the run of a subscription, or the row that says why there is none.
    async fn request(&mut self, applied: Applied, once: &mut OnceRuns) -> Result<(), LocalError> {
        let Applied { name, uid, verdict } = applied;
        let row = |phase, reason: &str, message| RunRow {
            subscription: name,
            run_id: None,
            phase,
            reason: reason.to_owned(),
            message: Some(message),
            trace_id: None,
            artifacts: Vec::new(),
        };
        match verdict.catalog_id {
            Some(_) if verdict.reason == reasons::SUSPENDED => {
                let message = "it or its source is suspended".to_owned();
                once.rows.push(row("Skipped", verdict.reason, message));
            }
            Some(subscription_id) if verdict.ready => {
                let token = format!("once-{}", Uuid::new_v4());
                let request = RequestedRun {
                    subscription_id,
                    subscription_uid: uid,
                    trigger: Trigger::Request,
                    token,
                    is_of_all: false,
                };
                match self.engine.request_run(&request).await? {
                    Some(run) => once.waiting.push(run.run_id),
                    None => {
                        let message = "it was deleted a moment ago".to_owned();
                        once.rows.push(row("Skipped", "Deleted", message));
                    }
                }
            }
            _ => once.rows.push(row("Failed", verdict.reason, verdict.message)),
        }
        Ok(())
    }

    /// Tells an event of a run, with those that came together with it; returns the runs that ended.
    async fn tell_runs(&mut self, first: Result<RunEvent, RecvError>) -> Result<Vec<RunRow>, LocalError> {
        let mut events = Vec::new();
        match first {
            Ok(event) => events.push(event),
            Err(RecvError::Lagged(count)) => {
                self.printer.print(&Notice::Missed { count }).await?;
                // Their ends may be what was missed.
                self.open_runs.clear();
                self.tell_held().await?;
            }
            // The sender lives in our handle of the engine.
            Err(RecvError::Closed) => std::future::pending().await,
        }
        while events.len() < EVENTS_AT_ONCE
            && let Ok(event) = self.runs.try_recv()
        {
            events.push(event);
        }
        let mut ended = Vec::new();
        for happening in runs::group(events) {
            let notice = match happening {
                Happening::Started(run) => {
                    self.open_runs.insert(run.run_id);
                    Notice::RunStarted(runs::start(&run, self.name_of(run.subscription_id).await))
                }
                Happening::Skipped(skipped) => {
                    let name = self.name_of(skipped.first.subscription_id).await;
                    Notice::RunSkipped(skipped.to_notice(name))
                }
                Happening::Ended(report) => {
                    self.open_runs.remove(&report.id);
                    let row = self.row(&report).await;
                    ended.push(row.clone());
                    Notice::RunEnded(row)
                }
            };
            self.printer.print(&notice).await?;
        }
        self.tell_held().await?;
        Ok(ended)
    }

    async fn look_up(&self, waiting: &[Uuid]) -> Vec<RunRow> {
        let mut rows = Vec::new();
        for report in patiently(async || self.engine.catalog.ended_runs(waiting).await).await {
            rows.push(self.row(&report).await);
        }
        rows
    }

    async fn row(&self, report: &RunReport) -> RunRow {
        patiently(async || runs::row(&self.engine.catalog, report).await).await
    }

    async fn name_of(&mut self, subscription_id: i64) -> SubscriptionName {
        patiently(async || self.objects.name_of(subscription_id).await).await
    }

    async fn tell(&mut self, news: Result<News, RecvError>) -> Result<(), LocalError> {
        let notice = match news {
            Ok(News::Setback(Setback { run_id, subscription_id, reason, message, retry_at })) => {
                let subscription = self.name_of(subscription_id).await;
                Notice::RunWaiting(RunWait { subscription, run_id, reason, message, retry_at })
            }
            Ok(News::Delivery(tried)) => {
                self.held.push(tried);
                return self.tell_held().await;
            }
            Err(RecvError::Lagged(count)) => Notice::Missed { count },
            // The pipeline has ended, which others notice.
            Err(RecvError::Closed) => std::future::pending().await,
        };
        self.printer.print(&notice).await?;
        Ok(())
    }

    /// Tells the deliveries whose runs have been told.
    async fn tell_held(&mut self) -> Result<(), LocalError> {
        let ended = |tried: &mut DeliveryTried| !self.open_runs.contains(&tried.begun_by);
        let told: Vec<DeliveryTried> = self.held.extract_if(.., ended).collect();
        for tried in told {
            let subscription = self.name_of(tried.subscription_id).await;
            let DeliveryTried {
                delivery_id, target, changes, is_delivered, reason, detail, retry_at, ..
            } = tried;
            let delivery = Delivery { subscription, delivery_id, target, changes, reason, detail, retry_at };
            let notice =
                if is_delivered { Notice::Delivered(delivery) } else { Notice::NotDelivered(delivery) };
            self.printer.print(&notice).await?;
        }
        Ok(())
    }

    /// Brings the manifests into force, however long the catalog takes to be there.
    async fn sync(&mut self) -> Result<(), LocalError> {
        loop {
            let manifests = read(&self.options.manifests).await;
            self.secrets.update(&manifests);
            match self.objects.sync(&manifests).await {
                Ok(applied) => {
                    self.applied = applied;
                    return Ok(());
                }
                Err(error @ (LocalError::Reconcile(_) | LocalError::Catalog(_))) => {
                    let error = error_chain(&error);
                    tracing::warn!(error, "the manifests could not be brought into force; trying again");
                }
                Err(error) => return Err(error),
            }
            sleep(TRY_AGAIN).await;
        }
    }
}

/// The manifests; that they cannot be read at all, where they could before, is a problem like others.
async fn read(path: &std::path::Path) -> Manifests {
    match Manifests::load(path).await {
        Ok(manifests) => manifests,
        Err(error) => {
            let message = match &error {
                ManifestsError::Read { source, .. } => format!("cannot be read: {source}"),
                ManifestsError::Watch { .. } => error.to_string(),
            };
            let problem = Problem { file: path.to_owned(), line: 1, message };
            Manifests { problems: vec![problem], ..Manifests::default() }
        }
    }
}

/// Asks the catalog until it answers: a database that is away for a while ends nothing.
async fn patiently<T>(mut ask: impl AsyncFnMut() -> Result<T, CatalogError>) -> T {
    loop {
        match ask().await {
            Ok(answer) => return answer,
            Err(error) => {
                tracing::warn!(error = error_chain(&error), "the catalog did not answer; trying again")
            }
        }
        sleep(TRY_AGAIN).await;
    }
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}
