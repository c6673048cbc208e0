//! The one writer of Subscriptions' statuses: it gathers what changed, asks the catalog once for many, and writes only
//! what differs.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use crds::{Subscription, SubscriptionStatus};
use events::error_chain;
use futures::{StreamExt, stream};
use kube::{Client, runtime::reflector::Store};
use store::catalog::{CatalogError, SubscriptionSummary};
use tokio::{
    sync::{Notify, broadcast},
    time::sleep,
};
use tokio_util::sync::CancellationToken;
use tracing::warn;
use uuid::Uuid;

use super::objects::{Guarded, write_status};
use crate::{
    EngineHandle, OperatorMetrics, RunEvent, Verdict, backoff::Backoff, reconcile::object_uid,
    status::subscription_status,
};

/// How long changes are gathered before they are written: a short run is one write, not three.
const GATHER: Duration = Duration::from_millis(500);
/// How many subscriptions one statement summarises.
const SUBSCRIPTIONS_AT_ONCE: usize = 500;
/// How many statuses are on their way to the API server at a time.
const WRITES_AT_ONCE: usize = 8;

/// What the statuses are to show, from the reconcilers. Clones share it.
#[derive(Clone, Default)]
pub(super) struct StatusBoard {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Default)]
struct State {
    entries: HashMap<Uuid, Entry>,
    by_catalog_id: HashMap<i64, Uuid>,
    dirty: HashSet<Uuid>,
}

#[derive(Clone)]
struct Entry {
    generation: Option<i64>,
    verdict: Verdict,
}

impl StatusBoard {
    /// Shows a verdict from now on.
    pub(super) fn show(&self, uid: Uuid, generation: Option<i64>, verdict: Verdict) {
        let mut state = self.state();
        if let Some(id) = verdict.catalog_id {
            state.by_catalog_id.insert(id, uid);
        }
        state.entries.insert(uid, Entry { generation, verdict });
        state.dirty.insert(uid);
        self.shared.changed.notify_one();
    }

    /// The object is gone.
    pub(super) fn remove(&self, uid: Uuid) {
        let mut state = self.state();
        if let Some(id) = state.entries.remove(&uid).and_then(|entry| entry.verdict.catalog_id) {
            state.by_catalog_id.remove(&id);
        }
        state.dirty.remove(&uid);
    }

    fn runs_changed(&self, subscription_id: i64) {
        let mut state = self.state();
        if let Some(uid) = state.by_catalog_id.get(&subscription_id).copied() {
            state.dirty.insert(uid);
            self.shared.changed.notify_one();
        }
    }

    fn all_changed(&self) {
        let mut state = self.state();
        state.dirty = state.entries.keys().copied().collect();
        self.shared.changed.notify_one();
    }

    fn take_dirty(&self) -> Vec<(Uuid, Entry)> {
        let mut state = self.state();
        let dirty = std::mem::take(&mut state.dirty);
        dirty.into_iter().filter_map(|uid| Some((uid, state.entries.get(&uid)?.clone()))).collect()
    }

    fn put_back(&self, uids: impl IntoIterator<Item = Uuid>) {
        self.state().dirty.extend(uids);
        self.shared.changed.notify_one();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Maps that are out of step are mended by the next verdict.
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(super) struct StatusWriter {
    client: Client,
    engine: EngineHandle,
    metrics: OperatorMetrics,
    board: StatusBoard,
    store: Store<Guarded<Subscription>>,
    runs: broadcast::Receiver<RunEvent>,
    /// What was written and is not back from the watch yet.
    written: HashMap<Uuid, SubscriptionStatus>,
}

impl StatusWriter {
    pub(super) fn new(
        client: Client,
        engine: EngineHandle,
        metrics: OperatorMetrics,
        board: StatusBoard,
        store: Store<Guarded<Subscription>>,
        runs: broadcast::Receiver<RunEvent>,
    ) -> Self {
        Self { client, engine, metrics, board, store, runs, written: HashMap::new() }
    }

    pub(super) async fn run(mut self, stop: CancellationToken) {
        let board = self.board.clone();
        let mut runs = self.runs.resubscribe();
        let listen = async {
            loop {
                match runs.recv().await {
                    Ok(RunEvent::Fired(run)) => board.runs_changed(run.subscription_id),
                    Ok(RunEvent::Ended(run)) => board.runs_changed(run.subscription_id),
                    Err(broadcast::error::RecvError::Lagged(_)) => board.all_changed(),
                    Err(broadcast::error::RecvError::Closed) => return,
                }
            }
        };
        tokio::select! {
            () = stop.cancelled() => {}
            () = listen => {}
            () = self.write_changes() => {}
        }
    }

    async fn write_changes(&mut self) {
        let board = self.board.clone();
        let mut backoff = Backoff::new();
        loop {
            board.shared.changed.notified().await;
            sleep(GATHER).await;
            let dirty = board.take_dirty();
            for chunk in dirty.chunks(SUBSCRIPTIONS_AT_ONCE) {
                let failed = match self.write(chunk).await {
                    Ok(failed) => failed,
                    Err(error) => {
                        warn!(error = error_chain(&error), "statuses could not be summarised; trying again");
                        chunk.iter().map(|(uid, _)| *uid).collect()
                    }
                };
                if failed.is_empty() {
                    backoff.reset();
                } else {
                    board.put_back(failed);
                    sleep(backoff.after_failure()).await;
                }
            }
        }
    }

    /// Writes those statuses that differ and returns those that could not be written.
    async fn write(&mut self, entries: &[(Uuid, Entry)]) -> Result<Vec<Uuid>, CatalogError> {
        let ids: Vec<i64> = entries.iter().filter_map(|(_, entry)| entry.verdict.catalog_id).collect();
        let summaries: HashMap<i64, SubscriptionSummary> = self
            .engine
            .catalog
            .summaries(&ids)
            .await?
            .into_iter()
            .map(|summary| (summary.subscription_id, summary))
            .collect();
        let objects = self.objects(entries);
        let now = self.engine.clock.now();
        let mut writes = Vec::new();
        for (uid, entry) in entries {
            let Some(object) = objects.get(uid) else { continue };
            if object.status == self.written.get(uid).cloned() {
                self.written.remove(uid);
            }
            let before = self.written.get(uid).or(object.status.as_ref());
            let summary = entry.verdict.catalog_id.and_then(|id| summaries.get(&id));
            let next_due = self.engine.beat.next_due(*uid);
            let status =
                subscription_status(before, &entry.verdict, entry.generation, summary, next_due, now);
            if before != Some(&status) {
                writes.push((*uid, object.clone(), status));
            }
        }
        let client = &self.client;
        let results: Vec<_> = stream::iter(writes)
            .map(|(uid, object, status)| async move {
                let result = write_status::<Subscription>(client, &object, &status).await;
                (uid, status, result)
            })
            .buffer_unordered(WRITES_AT_ONCE)
            .collect()
            .await;
        let mut failed = Vec::new();
        for (uid, status, result) in results {
            match result {
                Ok(()) => {
                    self.metrics.status_written();
                    self.written.insert(uid, status);
                }
                // Deleted meanwhile, or made anew under the same name: the watch will say.
                Err(kube::Error::Api(refusal)) if refusal.code == 404 || refusal.code == 409 => {}
                Err(error) => {
                    warn!(error = error_chain(&error), "a status was not written; trying again");
                    failed.push(uid);
                }
            }
        }
        Ok(failed)
    }

    fn objects(&self, entries: &[(Uuid, Entry)]) -> HashMap<Uuid, Subscription> {
        let wanted: HashSet<Uuid> = entries.iter().map(|(uid, _)| *uid).collect();
        self.store
            .state()
            .iter()
            .filter_map(|object| object.0.as_ref().ok())
            .filter_map(|object| Some((object_uid(object).ok()?, object)))
            .filter(|(uid, _)| wanted.contains(uid))
            .map(|(uid, object)| (uid, object.clone()))
            .collect()
    }
}
