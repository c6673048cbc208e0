//! The one writer of Subscriptions' statuses: it gathers what changed, asks the catalog once for many, and writes only
//! what differs, as often as the [`Pacer`] allows.

use std::{
    collections::{HashMap, HashSet},
    future::pending,
    sync::Arc,
    time::Duration,
};

use crds::{Subscription, SubscriptionStatus};
use events::error_chain;
use futures::{StreamExt, stream};
use kube::{
    Api, Client, ResourceExt,
    runtime::{
        events::Recorder,
        reflector::{ObjectRef, Store},
    },
};
use store::catalog::{CatalogError, SubscriptionSummary, TargetHealth, Trigger};
use tokio::{
    sync::broadcast,
    time::{Instant, sleep, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};
use uuid::Uuid;

use super::{
    begun_runs::BegunRuns,
    objects::{Guarded, Kind, announce, write_status},
    pacer::Pacer,
    status_board::{Entry, StatusBoard},
};
use crate::{
    EngineHandle, OperatorMetrics, RunEvent,
    backoff::Backoff,
    reconcile::object_uid,
    status::{Known, subscription_status},
};

/// How long changes are gathered before they are written: a short run is one write, not three.
const GATHER: Duration = Duration::from_millis(500);
/// How many subscriptions one statement summarises.
const SUBSCRIPTIONS_AT_ONCE: usize = 500;
/// How many statuses are on their way to the API server at a time.
const WRITES_AT_ONCE: usize = 8;
/// How long the API server may take for one.
const WRITE_WITHIN: Duration = Duration::from_secs(15);

type SubscriptionRef = ObjectRef<Guarded<Subscription>>;

pub(super) struct StatusWriter {
    pub(super) client: Client,
    pub(super) engine: EngineHandle,
    pub(super) metrics: OperatorMetrics,
    pub(super) recorder: Recorder,
    pub(super) board: StatusBoard,
    pub(super) store: Store<Guarded<Subscription>>,
    pub(super) runs: broadcast::Receiver<RunEvent>,
}

/// A status on its way to the API server.
struct Write {
    uid: Uuid,
    object: Arc<Guarded<Subscription>>,
    /// The resource version that it is written over.
    over: Option<String>,
    before: Option<SubscriptionStatus>,
    status: SubscriptionStatus,
}

/// A status that was written. It holds as long as the watch shows the version before it.
struct Written {
    object: SubscriptionRef,
    /// The resource version that the watch showed then.
    shown: Option<String>,
    /// The resource version that came of it.
    version: Option<String>,
    status: SubscriptionStatus,
}

/// Nothing can be written for now.
#[derive(Debug, thiserror::Error)]
enum Outage {
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    #[error("the API server cannot be reached")]
    Unreachable(#[source] kube::Error),
    #[error("the API server did not answer within {} s", WRITE_WITHIN.as_secs())]
    Silent,
}

/// What became of a write.
enum Outcome {
    /// It has this resource version.
    Written(Option<String>),
    /// It is to be tried again: the object changed meanwhile, or the API server objects.
    Refused,
    /// The object is gone, or its name is another's by now.
    Gone,
}

impl StatusWriter {
    pub(super) async fn run(self, stop: CancellationToken) {
        let mut turns = Turns { writer: &self, pacer: Pacer::new(Instant::now()), written: HashMap::new() };
        tokio::select! {
            () = stop.cancelled() => {}
            () = note_runs(self.runs.resubscribe(), &self.board) => {}
            () = turns.run() => {}
        }
    }

    /// Writes a status, and tells of what turned with it.
    async fn write(&self, write: &Write) -> Result<Outcome, Outage> {
        // Only objects that can be read are shown.
        let Ok(object) = &write.object.0 else { return Ok(Outcome::Gone) };
        let (over, before) = (write.over.as_deref(), &write.before);
        let writing = write_status::<Subscription>(&self.client, object, over, before, &write.status);
        match timeout(WRITE_WITHIN, writing).await {
            Err(_) => Err(Outage::Silent),
            Ok(Ok(version)) => {
                self.metrics.status_written(Subscription::NAME);
                let before = write.before.as_ref().map_or(&[][..], |status| &status.conditions);
                let telling =
                    announce::<Subscription>(&self.recorder, object, before, &write.status.conditions);
                // What cannot be told in time is not: the condition says the same.
                let _ = timeout(WRITE_WITHIN, telling).await;
                Ok(Outcome::Written(version))
            }
            Ok(Err(error @ kube::Error::Api(_))) => self.refused(write.uid, object, error).await,
            Ok(Err(error)) => Err(Outage::Unreachable(error)),
        }
    }

    /// A refusal means that the object is gone, or that the write is to be tried again.
    async fn refused(
        &self,
        uid: Uuid,
        object: &Subscription,
        refusal: kube::Error,
    ) -> Result<Outcome, Outage> {
        let (namespace, name) = (object.namespace().unwrap_or_default(), object.name_any());
        if !matches!(&refusal, kube::Error::Api(status) if matches!(status.code, 404 | 409)) {
            warn!(namespace, name, error = error_chain(&refusal), "a status was refused; trying again");
            return Ok(Outcome::Refused);
        }
        let api: Api<Subscription> = Api::namespaced(self.client.clone(), &namespace);
        let found = match timeout(WRITE_WITHIN, api.get_metadata_opt(&name)).await {
            Err(_) => return Err(Outage::Silent),
            Ok(found) => found.map_err(Outage::Unreachable)?,
        };
        let is_there = found.is_some_and(|found| object_uid(&found).ok() == Some(uid));
        debug!(namespace, name, is_there, "a status was not written: the object has changed or is gone");
        Ok(if is_there { Outcome::Refused } else { Outcome::Gone })
    }
}

/// The writer at work.
struct Turns<'a> {
    writer: &'a StatusWriter,
    pacer: Pacer,
    written: HashMap<Uuid, Written>,
}

impl Turns<'_> {
    /// Writes for ever. While nothing changes and nothing waits, it sleeps.
    async fn run(&mut self) {
        let mut backoff = Backoff::new();
        loop {
            let wake = self.pacer.wake_at(Instant::now());
            tokio::select! {
                () = self.writer.board.changed() => {}
                () = sleep_until_some(wake) => {}
            }
            sleep(GATHER).await;
            for uid in self.writer.board.take_changed() {
                self.pacer.add(uid, Instant::now());
            }
            loop {
                self.writer.metrics.statuses_waiting(self.pacer.waiting());
                let batch = self.pacer.take(SUBSCRIPTIONS_AT_ONCE, Instant::now());
                if batch.is_empty() {
                    break;
                }
                match self.write(&batch).await {
                    Ok(()) => backoff.reset(),
                    Err(outage) => {
                        warn!(error = error_chain(&outage), "statuses were not written; trying again");
                        sleep(backoff.after_failure()).await;
                    }
                }
            }
            self.forget();
        }
    }

    /// Writes those statuses of the batch that differ. In an outage, the rest of the batch waits again.
    async fn write(&mut self, batch: &[Uuid]) -> Result<(), Outage> {
        let mut open: HashSet<Uuid> = batch.iter().copied().collect();
        let result = self.write_each(batch, &mut open).await;
        for uid in open {
            self.pacer.add(uid, Instant::now());
        }
        result
    }

    async fn write_each(&mut self, batch: &[Uuid], open: &mut HashSet<Uuid>) -> Result<(), Outage> {
        let writer = self.writer;
        let writes = self.differing(&writer.board.entries(batch)).await?;
        let to_write: HashSet<Uuid> = writes.iter().map(|write| write.uid).collect();
        open.retain(|uid| to_write.contains(uid));
        let mut results = stream::iter(writes)
            .map(|write| async move { (writer.write(&write).await, write) })
            .buffer_unordered(WRITES_AT_ONCE);
        while let Some((outcome, write)) = results.next().await {
            let (uid, now) = (write.uid, Instant::now());
            match outcome? {
                Outcome::Written(version) => {
                    self.pacer.written(uid, now);
                    let object = ObjectRef::from_obj(&*write.object);
                    let shown = write.object.resource_version();
                    self.written.insert(uid, Written { object, shown, version, status: write.status });
                }
                Outcome::Refused => self.pacer.refused(uid, now),
                Outcome::Gone => self.pacer.forget(uid),
            }
            open.remove(&uid);
        }
        Ok(())
    }

    /// What is to be written of these objects.
    async fn differing(&self, entries: &[(Uuid, Entry)]) -> Result<Vec<Write>, CatalogError> {
        let engine = &self.writer.engine;
        let ids: Vec<i64> = entries.iter().filter_map(|(_, entry)| entry.verdict.catalog_id).collect();
        let summaries: HashMap<i64, SubscriptionSummary> = engine
            .catalog
            .summaries(&ids)
            .await?
            .into_iter()
            .map(|summary| (summary.subscription_id, summary))
            .collect();
        let mut targets: HashMap<i64, Vec<TargetHealth>> = HashMap::new();
        for target in engine.catalog.targets_of(&ids).await? {
            targets.entry(target.subscription_id).or_default().push(target);
        }
        let now = engine.clock.now();
        let mut writes = Vec::new();
        for (uid, Entry { object, generation, verdict }) in entries {
            let found = self.writer.store.get(object).filter(|found| object_uid(&**found).ok() == Some(*uid));
            let Some(object) = found else {
                // What the store has forgotten is gone, whether or not it said farewell.
                self.writer.board.remove(*uid);
                continue;
            };
            let Ok(subscription) = &object.0 else { continue };
            let shown = object.resource_version();
            let (over, before) = match self.written.get(uid).filter(|written| written.shown == shown) {
                Some(written) => (written.version.clone(), Some(&written.status)),
                None => (shown, subscription.status.as_ref()),
            };
            let summary = verdict.catalog_id.and_then(|id| summaries.get(&id));
            let known = summary.map(|summary| Known {
                summary,
                targets: targets.get(&summary.subscription_id).map_or(&[], Vec::as_slice),
            });
            let next_due = engine.beat.next_due(*uid);
            let status = subscription_status(before, verdict, *generation, known, next_due, now);
            if before != Some(&status) {
                writes.push(Write { uid: *uid, over, before: before.cloned(), object, status });
            }
        }
        Ok(writes)
    }

    /// Forgets what needs not be known any more.
    fn forget(&mut self) {
        self.pacer.tidy(Instant::now());
        let store = &self.writer.store;
        self.written.retain(|_, written| {
            store.get(&written.object).is_some_and(|object| object.resource_version() == written.shown)
        });
    }
}

/// Notes on the board which subscriptions' runs changed, until nobody tells of any.
async fn note_runs(mut runs: broadcast::Receiver<RunEvent>, board: &StatusBoard) {
    let mut begun = BegunRuns::default();
    loop {
        let event = tokio::select! {
            event = runs.recv() => event,
            () = sleep_until_some(begun.next()) => {
                begun.take(Instant::now()).into_iter().for_each(|id| board.catalog_changed(id));
                continue;
            }
        };
        let changed = match event {
            // Who asks for a run watches it begin.
            Ok(RunEvent::Fired(run)) if run.skip.is_none() && run.trigger == Trigger::Schedule => {
                begun.begun(run.subscription_id, Instant::now());
                continue;
            }
            Ok(RunEvent::Fired(run)) => run.subscription_id,
            Ok(RunEvent::SetBack { subscription_id }) => subscription_id,
            Ok(RunEvent::Ended(run)) => run.subscription_id,
            Err(broadcast::error::RecvError::Lagged(_)) => {
                board.all_changed();
                continue;
            }
            Err(broadcast::error::RecvError::Closed) => return,
        };
        begun.shown(changed);
        board.catalog_changed(changed);
    }
}

async fn sleep_until_some(wake: Option<Instant>) {
    match wake {
        Some(wake) => sleep_until(wake).await,
        None => pending().await,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use crds::conditions::reasons;
    use jiff::Timestamp;
    use store::catalog::{FiredRun, Skip};

    use super::*;
    use crate::Verdict;

    const COURT: i64 = 7;

    /// Listens, on a board with one subscription whose verdict has been written.
    async fn listen() -> (broadcast::Sender<RunEvent>, StatusBoard) {
        let (runs, receiver) = broadcast::channel(16);
        let board = StatusBoard::default();
        let verdict = Verdict {
            ready: true,
            reason: reasons::SCHEDULED,
            message: "as asked".to_owned(),
            catalog_id: Some(COURT),
            try_again: false,
        };
        board.show(Uuid::nil(), Entry { object: ObjectRef::new("court"), generation: Some(1), verdict });
        board.changed().await;
        board.take_changed();
        let listening = board.clone();
        tokio::spawn(async move { note_runs(receiver, &listening).await });
        (runs, board)
    }

    fn fired(trigger: Trigger, skip: Option<Skip>) -> RunEvent {
        RunEvent::Fired(FiredRun {
            run_id: Uuid::new_v4(),
            subscription_id: COURT,
            scheduled_for: Timestamp::UNIX_EPOCH,
            trigger,
            skip,
            skipped_together: None,
        })
    }

    /// How long the subscription's status stays as it is, in seconds of the test's own clock.
    async fn unchanged_for(board: &StatusBoard) -> f64 {
        let since = Instant::now();
        board.changed().await;
        assert_eq!(board.take_changed().len(), 1);
        since.elapsed().as_secs_f64()
    }

    #[tokio::test(start_paused = true)]
    async fn a_scheduled_run_that_takes_long_is_shown_and_not_before() {
        let (runs, board) = listen().await;
        runs.send(fired(Trigger::Schedule, None)).unwrap();
        let waited = unchanged_for(&board).await;
        assert!((1.9..2.1).contains(&waited), "{waited} s");
        // Once.
        let again = timeout(Duration::from_secs(3600), board.changed()).await;
        assert!(again.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn a_run_that_somebody_asked_for_is_shown_at_once_and_so_is_a_skip() {
        let (runs, board) = listen().await;
        let skip = Skip { reason: reasons::SUSPENDED, message: "suspended".to_owned() };
        for event in [
            fired(Trigger::Request, None),
            fired(Trigger::Schedule, Some(skip)),
            RunEvent::SetBack { subscription_id: COURT },
        ] {
            runs.send(event).unwrap();
            assert_eq!(unchanged_for(&board).await, 0.0);
        }
    }
}
