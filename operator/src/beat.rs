//! The beat: the clock that makes the runs of subscriptions when they are due.
//!
//! Due times are computed from memory; the catalog is asked only when something fires. What is in memory may be stale
//! or a second beat may run: the catalog lets each due time fire once, whoever comes first.

mod decide;
mod plan;

use std::{
    collections::HashMap,
    future::pending,
    sync::{Arc, RwLock},
};

use crds::Schedule;
use events::{Clock, error_chain};
use jiff::{SignedDuration, Timestamp};
use store::catalog::{Catalog, CatalogError, FiredRun, ScheduledSubscription};
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, warn};
use uuid::Uuid;

pub use decide::{Skipped, decide};
pub use plan::{Due, Plan, stable_offset};

use crate::{OperatorMetrics, backoff::Backoff, run_tracking::RunTrackerHandle};

/// How many subscriptions fire in one transaction.
const SUBSCRIPTIONS_AT_ONCE: usize = 500;

enum Command {
    Put(Box<ScheduledSubscription>),
    Remove(Uuid),
}

/// Tells the beat what to fire.
#[derive(Clone)]
pub struct BeatHandle {
    commands: mpsc::UnboundedSender<Command>,
    next: Arc<RwLock<HashMap<Uuid, Timestamp>>>,
}

impl BeatHandle {
    /// Fires the subscription from now on as given.
    pub fn put(&self, subscription: ScheduledSubscription) {
        let settings = &subscription.settings;
        if let Ok(schedule) = Schedule::parse(&settings.schedule, &settings.time_zone)
            && let Some(due) = schedule.next_after(subscription.scheduled_through)
            && let Ok(mut next) = self.next.write()
        {
            next.insert(subscription.key.uid, due);
        }
        // A beat that has ended fires nothing; its process is ending too.
        let _ = self.commands.send(Command::Put(Box::new(subscription)));
    }

    /// Fires the subscription no more.
    pub fn remove(&self, uid: Uuid) {
        let _ = self.commands.send(Command::Remove(uid));
    }

    /// When the subscription is due next, without its jitter.
    pub fn next_due(&self, uid: Uuid) -> Option<Timestamp> {
        self.next.read().ok()?.get(&uid).copied()
    }
}

/// The loop that fires.
pub(crate) struct Beat {
    catalog: Catalog,
    clock: Arc<dyn Clock>,
    relay: Arc<Notify>,
    runs: RunTrackerHandle,
    metrics: OperatorMetrics,
    commands: mpsc::UnboundedReceiver<Command>,
    next: Arc<RwLock<HashMap<Uuid, Timestamp>>>,
    plan: Plan,
}

impl Beat {
    pub(crate) fn new(
        catalog: Catalog,
        clock: Arc<dyn Clock>,
        relay: Arc<Notify>,
        runs: RunTrackerHandle,
        metrics: OperatorMetrics,
    ) -> (Self, BeatHandle) {
        let (sender, commands) = mpsc::unbounded_channel();
        let next = Arc::default();
        let handle = BeatHandle { commands: sender, next: Arc::clone(&next) };
        (Self { catalog, clock, relay, runs, metrics, commands, next, plan: Plan::default() }, handle)
    }

    /// Takes over what the catalog knows, so that due times are met also while the API server is away.
    pub(crate) async fn load(&mut self) -> Result<(), CatalogError> {
        for subscription in self.catalog.scheduled_subscriptions().await? {
            self.put(subscription);
        }
        Ok(())
    }

    /// Fires until `shutdown`.
    pub(crate) async fn run(mut self, shutdown: CancellationToken) {
        let mut backoff = Backoff::new();
        let mut not_before: Option<Timestamp> = None;
        loop {
            let wake = self.plan.next_fire().map(|fire| not_before.map_or(fire, |floor| fire.max(floor)));
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return,
                command = self.commands.recv() => match command {
                    Some(command) => self.apply(command),
                    None => return,
                },
                () = sleep_until(&*self.clock, wake) => match self.fire().await {
                    Ok(()) => {
                        backoff.reset();
                        not_before = None;
                    }
                    Err(error) => {
                        warn!(error = error_chain(&error), "due runs could not be made; trying again");
                        let wait = SignedDuration::try_from(backoff.after_failure()).unwrap_or_default();
                        not_before = self.clock.now().checked_add(wait).ok();
                    }
                },
            }
        }
    }

    fn apply(&mut self, command: Command) {
        match command {
            Command::Put(subscription) => self.put(*subscription),
            Command::Remove(uid) => {
                self.plan.remove(uid);
                self.publish_next(&[uid]);
            }
        }
    }

    fn put(&mut self, subscription: ScheduledSubscription) {
        let uid = subscription.key.uid;
        if let Err(error) = self.plan.put(subscription) {
            // The reconciler writes valid schedules only.
            error!(%uid, error = error_chain(&error), "the catalog holds a schedule that cannot be read");
        }
        self.publish_next(&[uid]);
    }

    async fn fire(&mut self) -> Result<(), CatalogError> {
        let now = self.clock.now();
        let due = self.plan.due(now, SUBSCRIPTIONS_AT_ONCE);
        let runs: Vec<_> = due.iter().flat_map(|due| due.runs.iter().cloned()).collect();
        let fired = self.catalog.fire(&runs, now).await?;
        for due in &due {
            self.plan.account(due);
        }
        let uids: Vec<Uuid> = due.iter().map(|due| due.uid).collect();
        self.publish_next(&uids);
        if fired.len() < runs.len() {
            // Some were accounted for already, or follow from a spec that is no longer in force: what is in memory is
            // not what the catalog has.
            debug!(due = runs.len(), fired = fired.len(), "the beat's memory is refreshed from the catalog");
            self.load().await?;
        }
        self.note(&fired, self.clock.now());
        Ok(())
    }

    fn note(&self, fired: &[FiredRun], now: Timestamp) {
        let mut has_runs = false;
        for run in fired {
            debug!(run = %run.run_id, scheduled_for = %run.scheduled_for, skip = ?run.skip, "fired");
            self.metrics.fired(run, now);
            has_runs |= run.skip.is_none();
        }
        if has_runs {
            self.relay.notify_one();
        }
        self.runs.fired(fired);
    }

    fn publish_next(&self, uids: &[Uuid]) {
        let Ok(mut next) = self.next.write() else { return };
        for uid in uids {
            match self.plan.next_due(*uid) {
                Some(due) => next.insert(*uid, due),
                None => next.remove(uid),
            };
        }
    }
}

async fn sleep_until(clock: &dyn Clock, wake: Option<Timestamp>) {
    match wake {
        Some(wake) => clock.sleep_until(wake).await,
        None => pending().await,
    }
}
