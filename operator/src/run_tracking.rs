//! Run tracking: which runs are active, and what became of them.
//!
//! The workers end a run in the catalog, with its last document. Here that is noticed, by looking at the runs that are
//! known to be active: where none is, nothing is asked. Active runs that get no further are helped on, or ended.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use events::{Clock, error_chain};
use jiff::SignedDuration;
use service::run_span;
use store::catalog::{CatalogError, FiredRun, LateDeliveries, Lead, RunReport, StuckPolicy};
use tokio::{
    sync::{Notify, broadcast, mpsc},
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};
use uuid::Uuid;

use crate::{OperatorMetrics, backoff::Backoff};

/// How often active runs are looked at.
const LOOK_AGAIN: Duration = Duration::from_millis(200);
/// How many of them one statement looks at.
const RUNS_AT_ONCE: usize = 5_000;
/// How often it is looked what active runs are held up by.
const LOOK_FOR_SETBACKS: Duration = Duration::from_secs(5);
/// How often runs that are stuck are looked for, at most: more often where they are so sooner.
const LOOK_FOR_STUCK: Duration = Duration::from_secs(30);
/// How often late deliveries are looked for.
const LOOK_FOR_LATE: Duration = Duration::from_secs(60);
/// How long a delivery may be due, or a version be without its targets, before its event is taken for lost.
const LATE: SignedDuration = SignedDuration::from_mins(10);
/// How many events a slow listener may fall behind.
const LISTENER_BUFFER: usize = 4_096;

/// Something happened to a run.
#[derive(Clone, Debug)]
pub enum RunEvent {
    /// It was made, or its due time was skipped.
    Fired(FiredRun),
    /// Something stands in its way and is tried again, as its row says.
    SetBack {
        /// The catalog's id of its subscription.
        subscription_id: i64,
    },
    /// It ended.
    Ended(RunReport),
}

/// Tells the tracker of new runs, and listeners of all.
#[derive(Clone)]
pub(crate) struct RunTrackerHandle {
    fired: mpsc::UnboundedSender<Vec<Uuid>>,
    events: broadcast::Sender<RunEvent>,
}

impl RunTrackerHandle {
    pub(crate) fn fired(&self, runs: &[FiredRun]) {
        for run in runs {
            if run.skip.is_none() {
                run_span(run);
            }
            // Without listeners there is nobody to tell.
            let _ = self.events.send(RunEvent::Fired(run.clone()));
        }
        let active: Vec<Uuid> = runs.iter().filter(|run| run.skip.is_none()).map(|run| run.run_id).collect();
        if !active.is_empty() {
            // The tracker ends with its process only.
            let _ = self.fired.send(active);
        }
    }

    pub(crate) fn listen(&self) -> broadcast::Receiver<RunEvent> {
        self.events.subscribe()
    }
}

pub(crate) struct RunTracker {
    lead: Lead,
    stuck: StuckPolicy,
    clock: Arc<dyn Clock>,
    relay: Arc<Notify>,
    metrics: OperatorMetrics,
    fired: mpsc::UnboundedReceiver<Vec<Uuid>>,
    events: broadcast::Sender<RunEvent>,
    active: VecDeque<Uuid>,
    /// What was told of those of them that are held up.
    set_back: HashMap<Uuid, String>,
}

impl RunTracker {
    pub(crate) fn new(
        lead: Lead,
        stuck: StuckPolicy,
        clock: Arc<dyn Clock>,
        relay: Arc<Notify>,
        metrics: OperatorMetrics,
    ) -> (Self, RunTrackerHandle) {
        let (sender, fired) = mpsc::unbounded_channel();
        let (events, _) = broadcast::channel(LISTENER_BUFFER);
        let handle = RunTrackerHandle { fired: sender, events: events.clone() };
        let (active, set_back) = (VecDeque::new(), HashMap::new());
        (Self { lead, stuck, clock, relay, metrics, fired, events, active, set_back }, handle)
    }

    /// Takes over the runs that are active already.
    pub(crate) async fn load(&mut self) -> Result<(), CatalogError> {
        self.active = self.lead.catalog().active_runs().await?.into();
        Ok(())
    }

    /// Looks until `shutdown`.
    ///
    /// # Errors
    /// [`CatalogError::NoLongerLeading`]. After any other failure it tries again.
    pub(crate) async fn run(mut self, shutdown: CancellationToken) -> Result<(), CatalogError> {
        let mut backoff = Backoff::new();
        let restart_after = Duration::try_from(self.stuck.restart_after).unwrap_or_default();
        let look_for_stuck = LOOK_FOR_STUCK.min(restart_after / 4);
        // Kept over the loop's turns: new runs must not put the next look off.
        let mut next_look = Instant::now();
        let mut next_stuck_look = Instant::now() + look_for_stuck;
        let mut next_setback_look = Instant::now() + LOOK_FOR_SETBACKS;
        let mut next_late_look = Instant::now() + LOOK_FOR_LATE;
        loop {
            let result = tokio::select! {
                biased;
                () = shutdown.cancelled() => return Ok(()),
                fired = self.fired.recv() => match fired {
                    Some(runs) => {
                        if self.active.is_empty() {
                            next_look = Instant::now() + LOOK_AGAIN;
                            next_stuck_look = Instant::now() + look_for_stuck;
                        }
                        self.active.extend(runs);
                        continue;
                    }
                    None => return Ok(()),
                },
                () = sleep_until(next_look), if !self.active.is_empty() => {
                    next_look = Instant::now() + LOOK_AGAIN;
                    self.look().await
                },
                () = sleep_until(next_setback_look), if !self.active.is_empty() => {
                    next_setback_look = Instant::now() + LOOK_FOR_SETBACKS;
                    self.look_for_setbacks().await
                },
                () = sleep_until(next_stuck_look), if !self.active.is_empty() => {
                    next_stuck_look = Instant::now() + look_for_stuck;
                    self.mend_stuck().await
                },
                // Deliveries go on when all runs have ended.
                () = sleep_until(next_late_look) => {
                    next_late_look = Instant::now() + LOOK_FOR_LATE;
                    self.mend_late_deliveries().await
                },
            };
            match result {
                Ok(()) => backoff.reset(),
                Err(error @ CatalogError::NoLongerLeading { .. }) => return Err(error),
                Err(error) => {
                    warn!(error = error_chain(&error), "active runs could not be looked at; trying again");
                    next_look = Instant::now() + backoff.after_failure();
                }
            }
        }
    }

    async fn look_for_setbacks(&mut self) -> Result<(), CatalogError> {
        let told = std::mem::take(&mut self.set_back);
        let active: Vec<Uuid> = self.active.iter().copied().collect();
        for ids in active.chunks(RUNS_AT_ONCE) {
            for run in self.lead.catalog().set_back_runs(ids).await? {
                if told.get(&run.id) != Some(&run.message) {
                    let _ = self.events.send(RunEvent::SetBack { subscription_id: run.subscription_id });
                }
                self.set_back.insert(run.id, run.message);
            }
        }
        Ok(())
    }

    async fn mend_stuck(&self) -> Result<(), CatalogError> {
        let stuck = self.lead.mend_stuck_runs(&self.stuck, self.clock.now()).await?;
        for run in &stuck.restarted {
            warn!(%run, "a run made no progress: its event is sent again");
        }
        for run in &stuck.given_up {
            warn!(%run, "a run made no progress for too long: it failed");
        }
        if !stuck.restarted.is_empty() {
            self.relay.notify_one();
        }
        self.metrics.restarted(stuck.restarted.len());
        Ok(())
    }

    async fn mend_late_deliveries(&self) -> Result<(), CatalogError> {
        let late = self.lead.mend_late_deliveries(LATE, self.clock.now()).await?;
        if late.versions + late.deliveries > 0 {
            let LateDeliveries { versions, deliveries } = late;
            warn!(versions, deliveries, "deliveries are late: their events are sent again");
            self.relay.notify_one();
        }
        Ok(())
    }

    async fn look(&mut self) -> Result<(), CatalogError> {
        let count = self.active.len().min(RUNS_AT_ONCE);
        let looked_at: Vec<Uuid> = self.active.iter().take(count).copied().collect();
        let ended = self.lead.catalog().ended_runs(&looked_at).await?;
        self.active.drain(..count);
        let ended_ids: std::collections::HashSet<Uuid> = ended.iter().map(|run| run.id).collect();
        // Those still active go to the end of the queue, so that all take turns.
        self.active.extend(looked_at.into_iter().filter(|id| !ended_ids.contains(id)));
        for run in ended {
            debug!(run = %run.id, phase = run.phase.name(), reason = run.reason, "a run ended");
            self.metrics.ended(&run);
            let _ = self.events.send(RunEvent::Ended(run));
        }
        Ok(())
    }
}
