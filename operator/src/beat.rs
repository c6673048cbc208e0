//! The beat: the clock that makes the runs of subscriptions when they are due.
//!
//! Due times are computed from memory; the catalog is asked only when something fires. What is in memory may be stale:
//! the catalog lets each due time fire once, and only for the operator that leads.

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
use store::catalog::{CatalogError, DueRun, FiredRun, Lead, ScheduledSubscription};
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};
use uuid::Uuid;

pub use decide::{Skipped, decide, when_active};
pub use plan::{Due, Plan, stable_offset};

use crate::{OperatorMetrics, backoff::Backoff, run_tracking::RunTrackerHandle};

/// How many subscriptions fire in one transaction.
const SUBSCRIPTIONS_AT_ONCE: usize = 500;
/// How many due times are looked at for one transaction.
const DUE_TIMES_AT_ONCE: usize = 10_000;
/// How soon to look again whether the run has ended that a missed due time waits for.
const LOOK_AGAIN: SignedDuration = SignedDuration::from_secs(2);
/// By how much the clock may go back before anything is looked at: less is its being disciplined.
const STEP_BACK: SignedDuration = SignedDuration::from_secs(1);

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
    lead: Lead,
    clock: Arc<dyn Clock>,
    relay: Arc<Notify>,
    runs: RunTrackerHandle,
    metrics: OperatorMetrics,
    commands: mpsc::UnboundedReceiver<Command>,
    next: Arc<RwLock<HashMap<Uuid, Timestamp>>>,
    plan: Plan,
    /// The latest time at which something may have fired.
    latest: Timestamp,
}

impl Beat {
    pub(crate) fn new(
        lead: Lead,
        clock: Arc<dyn Clock>,
        relay: Arc<Notify>,
        runs: RunTrackerHandle,
        metrics: OperatorMetrics,
    ) -> (Self, BeatHandle) {
        let (sender, commands) = mpsc::unbounded_channel();
        let next = Arc::default();
        let handle = BeatHandle { commands: sender, next: Arc::clone(&next) };
        let plan = Plan::default();
        // The process before may have seen any time: whether it left something ahead of the clock is looked at first.
        let latest = Timestamp::MAX;
        (Self { lead, clock, relay, runs, metrics, commands, next, plan, latest }, handle)
    }

    /// Takes over what the catalog knows, so that due times are met also while the API server is away.
    pub(crate) async fn load(&mut self) -> Result<(), CatalogError> {
        for subscription in self.lead.catalog().scheduled_subscriptions().await? {
            self.put(subscription);
        }
        Ok(())
    }

    /// Fires until `shutdown`.
    ///
    /// # Errors
    /// [`CatalogError::NoLongerLeading`]. After any other failure it tries again.
    pub(crate) async fn run(mut self, shutdown: CancellationToken) -> Result<(), CatalogError> {
        let mut backoff = Backoff::new();
        loop {
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return Ok(()),
                turn = self.turn() => match turn {
                    Ok(()) => backoff.reset(),
                    Err(error @ CatalogError::NoLongerLeading { .. }) => return Err(error),
                    Err(error) => {
                        warn!(error = error_chain(&error), "due runs could not be made; trying again");
                        // By another clock than the one that says what is due: it may stand anywhere.
                        tokio::time::sleep(backoff.after_failure()).await;
                    }
                },
            }
        }
    }

    /// Waits until something is to be done, and does it. What it has begun is undone when it is dropped.
    async fn turn(&mut self) -> Result<(), CatalogError> {
        let earliest = self.latest.saturating_sub(STEP_BACK).unwrap_or(Timestamp::MIN);
        if self.clock.now() < earliest {
            return self.step_back().await;
        }
        let wake = self.plan.next_fire();
        tokio::select! {
            biased;
            command = self.commands.recv() => match command {
                Some(command) => self.apply(command),
                // Nobody can tell it anything any more; what it knows, it fires.
                None => pending().await,
            },
            () = self.clock.set_back_before(earliest) => {}
            () = sleep_until(&*self.clock, wake) => self.fire().await?,
        }
        Ok(())
    }

    /// The clock was set back: what was accounted for ahead of it would not fire until it gets there again.
    async fn step_back(&mut self) -> Result<(), CatalogError> {
        let now = self.clock.now();
        let ahead = self.plan.ahead_of(now);
        if !ahead.is_empty() {
            info!(subscriptions = ahead.len(), "the clock was set back: due times count from now again");
            self.lead.rewind(&ahead, now).await?;
            self.reload(&ahead).await?;
        }
        self.latest = now;
        Ok(())
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
        self.latest = self.latest.max(now);
        let due = self.plan.due(now, SUBSCRIPTIONS_AT_ONCE, DUE_TIMES_AT_ONCE);
        let runs: Vec<DueRun> = due.iter().flat_map(|due| due.runs.iter().cloned()).collect();
        let fired = self.lead.fire(&runs, now).await?;
        let mut changed = Vec::with_capacity(due.len());
        for (id, through) in &fired.through {
            if let Some(uid) = self.plan.uid(*id) {
                self.plan.account(uid, *through);
                changed.push(uid);
            }
        }
        let look_again = now.checked_add(LOOK_AGAIN).unwrap_or(now);
        for uid in fired.waiting.iter().filter_map(|id| self.plan.uid(*id)).collect::<Vec<_>>() {
            self.plan.hold_until(uid, look_again);
        }
        self.publish_next(&changed);
        self.note(&fired.runs, &due);
        if !fired.outdated.is_empty() {
            let outdated: Vec<i64> = fired.outdated.into_iter().collect();
            self.reload(&outdated).await?;
        }
        Ok(())
    }

    /// Takes over from the catalog how subscriptions stand: those that are gone fire no more.
    async fn reload(&mut self, ids: &[i64]) -> Result<(), CatalogError> {
        debug!(subscriptions = ids.len(), "the beat's memory is brought in line with the catalog");
        let live = self.lead.catalog().scheduled_among(ids).await?;
        for uid in ids.iter().filter_map(|id| self.plan.uid(*id)).collect::<Vec<_>>() {
            self.apply(Command::Remove(uid));
        }
        for subscription in live {
            self.put(subscription);
        }
        Ok(())
    }

    fn note(&self, fired: &[FiredRun], due: &[Due]) {
        let now = self.clock.now();
        let offsets: HashMap<i64, SignedDuration> =
            due.iter().filter_map(|due| Some((due.runs.first()?.subscription_id, due.offset))).collect();
        let mut has_runs = false;
        for run in fired {
            debug!(run = %run.run_id, scheduled_for = %run.scheduled_for, skip = ?run.skip, "fired");
            let offset = offsets.get(&run.subscription_id).copied().unwrap_or_default();
            self.metrics.fired(run, now.duration_since(run.scheduled_for) - offset);
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
