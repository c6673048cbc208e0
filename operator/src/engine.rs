//! The parts of the operator that need no cluster.

use std::{sync::Arc, time::Duration};

use events::{Bus, Clock};
use service::Check;
use store::catalog::{Catalog, CatalogError, DueRun, FiredRun, Lead, RequestedRun, StuckPolicy};
use tokio::{
    sync::{Notify, broadcast},
    task::JoinSet,
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use crate::{
    OperatorMetrics, RunEvent,
    beat::{Beat, BeatHandle},
    relay::Relay,
    run_tracking::{RunTracker, RunTrackerHandle},
};

/// How long the parts may take to end.
const DRAIN: Duration = Duration::from_secs(10);

/// What the engine works with.
pub struct EngineOptions {
    /// The right to make runs, in the catalog where they stand.
    pub lead: Lead,
    /// When a run is stuck.
    pub stuck: StuckPolicy,
    /// Where events go.
    pub bus: Arc<dyn Bus>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Figures.
    pub metrics: OperatorMetrics,
    /// Where problems are shown.
    pub check: Check,
}

/// Beat, relay and run tracking, running.
pub struct Engine {
    handle: EngineHandle,
    /// Until it is started.
    beat: Option<Beat>,
    shutdown: CancellationToken,
    tasks: JoinSet<Result<(), CatalogError>>,
}

/// How others reach a running [`Engine`].
#[derive(Clone)]
pub struct EngineHandle {
    /// The catalog.
    pub catalog: Catalog,
    lead: Lead,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// What fires.
    pub beat: BeatHandle,
    runs: RunTrackerHandle,
    relay: Arc<Notify>,
}

impl Engine {
    /// Takes over what the catalog knows and starts.
    ///
    /// # Errors
    /// When the catalog fails.
    pub async fn start(options: EngineOptions, shutdown: &CancellationToken) -> Result<Self, CatalogError> {
        let mut engine = Self::start_without_beat(options, shutdown).await?;
        engine.start_beat();
        Ok(engine)
    }

    /// Takes over what the catalog knows and starts all but the beat: runs are made on request only, and what is
    /// reconciled now is in force before the first due time fires.
    ///
    /// # Errors
    /// When the catalog fails.
    pub async fn start_without_beat(
        options: EngineOptions,
        shutdown: &CancellationToken,
    ) -> Result<Self, CatalogError> {
        let EngineOptions { lead, stuck, bus, clock, metrics, check } = options;
        let catalog = lead.catalog().clone();
        let wake = Arc::new(Notify::new());
        let (mut tracker, runs) =
            RunTracker::new(lead.clone(), stuck, clock.clone(), wake.clone(), metrics.clone());
        let (mut beat, beat_handle) =
            Beat::new(lead.clone(), clock.clone(), wake.clone(), runs.clone(), metrics.clone());
        tracker.load().await?;
        beat.load().await?;
        let relay =
            Relay { catalog: catalog.clone(), bus, clock: clock.clone(), wake: wake.clone(), metrics, check };
        let mut tasks = JoinSet::new();
        tasks.spawn(tracker.run(shutdown.clone()));
        let relaying = relay.run(shutdown.clone());
        tasks.spawn(async {
            relaying.await;
            Ok(())
        });
        Ok(Self {
            handle: EngineHandle { catalog, lead, clock, beat: beat_handle, runs, relay: wake },
            beat: Some(beat),
            shutdown: shutdown.clone(),
            tasks,
        })
    }

    /// Lets due times fire from now on, those that were missed included.
    pub fn start_beat(&mut self) {
        if let Some(beat) = self.beat.take() {
            self.tasks.spawn(beat.run(self.shutdown.clone()));
        }
    }

    /// How others reach it.
    pub fn handle(&self) -> EngineHandle {
        self.handle.clone()
    }

    /// Waits until a part ends that should not have, and says why: the lead is another's, or `None` where it panicked.
    pub async fn ended(&mut self) -> Option<CatalogError> {
        match self.tasks.join_next().await {
            Some(Ok(Err(error))) => Some(error),
            Some(Ok(Ok(())) | Err(_)) | None => None,
        }
    }

    /// Waits until all parts have ended after the shutdown.
    pub async fn stopped(mut self) {
        let all = async { while self.tasks.join_next().await.is_some() {} };
        if timeout(DRAIN, all).await.is_err() {
            tracing::warn!("the engine did not end in time");
        }
    }
}

impl EngineHandle {
    /// What happens to runs from now on.
    pub fn listen(&self) -> broadcast::Receiver<RunEvent> {
        self.runs.listen()
    }

    /// Makes a run that somebody asks for, once per token.
    ///
    /// # Errors
    /// When the catalog fails.
    pub async fn request_run(&self, request: &RequestedRun) -> Result<Option<FiredRun>, CatalogError> {
        let fired = self.lead.request_run(request, self.clock.now()).await?;
        if let Some(run) = &fired {
            self.announce(run);
        }
        Ok(fired)
    }

    /// Lets a run begin at once that was just made, and its end be noticed.
    pub(crate) fn announce(&self, run: &FiredRun) {
        self.relay.notify_one();
        self.runs.fired(std::slice::from_ref(run));
    }

    /// Records due times as skipped, before what they follow from is no longer in force.
    pub(crate) async fn record_skips(&self, skips: &[DueRun]) -> Result<(), CatalogError> {
        let fired = self.lead.fire(skips, self.clock.now()).await?;
        self.runs.fired(&fired.runs);
        Ok(())
    }
}
