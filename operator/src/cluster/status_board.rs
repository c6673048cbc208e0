//! What the statuses of Subscriptions are to show: the reconcilers, the runs and news of the targets put it here, the
//! writer takes it.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crds::Subscription;
use kube::runtime::reflector::ObjectRef;
use tokio::sync::Notify;
use uuid::Uuid;

use super::objects::Guarded;
use crate::Verdict;

/// Clones share it.
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
    changed: HashSet<Uuid>,
}

/// What the status of one object is to show.
#[derive(Clone)]
pub(super) struct Entry {
    /// Where the object is found.
    pub(super) object: ObjectRef<Guarded<Subscription>>,
    pub(super) generation: Option<i64>,
    pub(super) verdict: Verdict,
}

impl StatusBoard {
    /// Shows a verdict from now on.
    pub(super) fn show(&self, uid: Uuid, entry: Entry) {
        let mut state = self.state();
        if let Some(id) = entry.verdict.catalog_id {
            state.by_catalog_id.insert(id, uid);
        }
        state.entries.insert(uid, entry);
        state.changed.insert(uid);
        self.shared.changed.notify_one();
    }

    /// The object is gone.
    pub(super) fn remove(&self, uid: Uuid) {
        let mut state = self.state();
        if let Some(id) = state.entries.remove(&uid).and_then(|entry| entry.verdict.catalog_id) {
            state.by_catalog_id.remove(&id);
        }
        state.changed.remove(&uid);
    }

    /// Something happened to a run or a target of the subscription, which the catalog knows.
    pub(super) fn catalog_changed(&self, subscription_id: i64) {
        let mut state = self.state();
        if let Some(uid) = state.by_catalog_id.get(&subscription_id).copied() {
            state.changed.insert(uid);
            self.shared.changed.notify_one();
        }
    }

    /// Something happened that nobody knows of.
    pub(super) fn all_changed(&self) {
        let mut state = self.state();
        state.changed = state.entries.keys().copied().collect();
        self.shared.changed.notify_one();
    }

    /// Waits for a change since the last [`StatusBoard::take_changed`].
    pub(super) async fn changed(&self) {
        self.shared.changed.notified().await;
    }

    /// What changed; the next call returns what changes from now on.
    pub(super) fn take_changed(&self) -> HashSet<Uuid> {
        std::mem::take(&mut self.state().changed)
    }

    /// What is to be shown of these objects; nothing of those that are gone.
    pub(super) fn entries(&self, uids: &[Uuid]) -> Vec<(Uuid, Entry)> {
        let state = self.state();
        uids.iter().filter_map(|uid| Some((*uid, state.entries.get(uid)?.clone()))).collect()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Maps that are out of step are mended by the next verdict.
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
